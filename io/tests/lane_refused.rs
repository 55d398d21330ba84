//! No descriptors are left for a worker's own epoll instance. In a process of its own: the limit is the
//! process's.

mod bound;
mod descriptor_table;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bine_io::os::unix::net::UnixStream;
use bine_runtime::{Builder, Runtime};
use bound::bounded;
use descriptor_table::open_descriptors;

/// One more than the highest that is open is refused.
fn set_limit(limit: u64) -> u64 {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` is valid for reads and writes.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits), 0);
        let before = std::mem::replace(&mut limits.rlim_cur, limit);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits), 0);
        before
    }
}

/// Between two green threads, each of which waits.
fn exchange_on(runtime: &Runtime, (mut here, mut there): (UnixStream, UnixStream)) {
    runtime.run(move || {
        let other = bine_runtime::spawn(move || {
            let mut byte = [0];
            while let Ok(1) = there.read(&mut byte) {
                there.write_all(&byte).unwrap();
            }
        });
        for number in 0..20 {
            here.write_all(&[number]).unwrap();
            let mut byte = [0];
            here.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
        drop(here);
        other.join().unwrap();
    });
}

#[test]
fn a_lane_that_cannot_be_opened() {
    bounded(|| {
        drop(bound::pair()); // starts the poller
        for workers in [1, 2, 8] {
            let runtime = Builder::new().workers(workers).build().unwrap();
            let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
            let held = bound::pair();
            let lanes = bine_io::lanes();
            let limit = set_limit(0);
            let refused = std::fs::File::open("/proc/self/exe").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
            let mut pairs = pairs.into_iter();
            if lanes == 0 {
                exchange_on(&runtime, pairs.next().unwrap());
                assert_eq!(bine_io::lanes(), 0);
            }
            set_limit(limit);
            // What was refused is tried again, by the next that waits.
            exchange_on(&runtime, pairs.next().unwrap());
            assert!(bine_io::lanes() > 0);
            // And both kinds go on beside each other, also while the workers are held.
            let done = Arc::new(AtomicBool::new(false));
            let holds = (0..workers).map(|_| {
                let done = Arc::clone(&done);
                runtime.spawn(move || while !done.load(Ordering::Relaxed) {})
            });
            let holds: Vec<_> = holds.collect();
            let (mut here, mut there) = held;
            let other = std::thread::spawn(move || there.read(&mut [0]).unwrap());
            here.write_all(&[0]).unwrap();
            assert_eq!(other.join().unwrap(), 1);
            done.store(true, Ordering::Relaxed);
            holds.into_iter().for_each(|hold| hold.join().unwrap());
            exchange_on(&runtime, pairs.next().unwrap());
        }
        assert!(open_descriptors() > 0);
    });
}
