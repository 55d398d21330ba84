//! Workers' own epoll instances: what is registered in one is served whoever waits for it, and whatever
//! becomes of the worker. A byte that does not come would be waited for for ever.

mod bound;
mod descriptor_table;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bine_io::os::unix::net::UnixStream;
use bine_runtime::{Builder, Runtime};
use bound::{bounded, runtimes};
use descriptor_table::open_descriptors;

/// One at a time: they count lanes, and hold processors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that somebody waits for, and the other end, which never waits.
struct Wire {
    near: UnixStream,
    far: StdStream,
}

impl Wire {
    fn new() -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        Self { near, far: StdStream::from(std::os::fd::OwnedFd::from(far)) }
    }

    /// By whoever calls; the byte comes once `near` was found without one, most often.
    fn receive(&mut self, byte: u8) {
        let mut far = self.far.try_clone().unwrap();
        let sender = std::thread::spawn(move || far.write_all(&[byte]).unwrap());
        let mut received = [0];
        self.near.read_exact(&mut received).unwrap();
        assert_eq!(received, [byte]);
        sender.join().unwrap();
    }
}

/// Wires that were first waited for by threads of `runtime`, `count` of them: by each of its workers, most
/// often.
fn wires(runtime: &Runtime, count: usize) -> Vec<Wire> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let waiting = Arc::clone(&waiting);
            let Wire { mut near, far } = Wire::new();
            let thread = runtime.spawn(move || {
                // Relaxed: nothing but the number.
                waiting.fetch_add(1, Ordering::Relaxed);
                near.read_exact(&mut [0]).unwrap();
                near
            });
            (thread, far)
        })
        .collect();
    while waiting.load(Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
    let wire = |(thread, mut far): (bine_runtime::thread::JoinHandle<_>, StdStream)| {
        far.write_all(&[0]).unwrap();
        Wire { near: thread.join().unwrap(), far }
    };
    threads.into_iter().map(wire).collect()
}

/// Each wire by a thread of its own, all at once.
fn receive_on(runtime: &Runtime, wires: Vec<Wire>) -> Vec<Wire> {
    let receive = |mut wire: Wire| {
        runtime.spawn(move || {
            wire.receive(1);
            wire
        })
    };
    let threads: Vec<_> = wires.into_iter().map(receive).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// The same by OS threads.
fn receive_outside(wires: Vec<Wire>) -> Vec<Wire> {
    let receive = |mut wire: Wire| {
        std::thread::spawn(move || {
            wire.receive(2);
            wire
        })
    };
    let threads: Vec<_> = wires.into_iter().map(receive).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Has a green thread compute on as many workers, until `done`.
fn hold(runtime: &Runtime, workers: usize, done: &Arc<AtomicBool>) {
    let held = Arc::new(AtomicUsize::new(0));
    for _ in 0..workers {
        let (held, done) = (Arc::clone(&held), Arc::clone(done));
        runtime.spawn(move || {
            held.fetch_add(1, Ordering::Relaxed);
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    while held.load(Ordering::Relaxed) < workers {
        std::thread::yield_now();
    }
}

#[test]
fn a_descriptor_serves_threads_elsewhere_and_outlives_its_runtime() {
    let _alone = alone();
    for ((runtime, kind), (other, _)) in runtimes().zip(runtimes()) {
        println!("on {kind}");
        bounded(move || {
            let mut wires = wires(&runtime, 20);
            for _ in 0..5 {
                wires = receive_on(&runtime, wires);
                wires = receive_on(&other, wires);
                wires = receive_outside(wires);
            }
            drop(runtime);
            wires = receive_outside(wires);
            wires = receive_on(&other, wires);
            drop(other);
            drop(receive_outside(wires));
        });
    }
}

/// Until somebody else has served what was registered there.
#[test]
fn a_worker_that_is_held() {
    let _alone = alone();
    for (runtime, kind) in runtimes() {
        println!("on {kind}");
        bounded(move || {
            let workers = runtime.metrics().workers;
            let mut wires = wires(&runtime, 20);
            for _ in 0..3 {
                let done = Arc::new(AtomicBool::new(false));
                hold(&runtime, workers, &done);
                wires = receive_outside(wires);
                wires = receive_outside(wires);
                done.store(true, Ordering::Relaxed);
                // Its workers look after them again.
                wires = receive_on(&runtime, wires);
            }
        });
    }
}

#[test]
fn workers_that_are_held_and_whose_runtime_has_given_them_up() {
    let _alone = alone();
    for (runtime, kind) in runtimes() {
        println!("on {kind}");
        bounded(move || {
            let workers = runtime.metrics().workers;
            let wires = wires(&runtime, 20);
            let done = Arc::new(AtomicBool::new(false));
            hold(&runtime, workers, &done);
            let shutdown = runtime.shutdown_timeout(Duration::ZERO);
            assert!(!shutdown.settled, "{shutdown:?}");
            drop(receive_outside(receive_outside(wires)));
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn runtimes_come_and_go_and_their_lanes_are_used_again() {
    const WORKERS: usize = 4;
    let _alone = alone();
    bounded(|| {
        drop(bound::pair()); // starts the poller, which has descriptors of its own
        let (before, lanes) = (open_descriptors(), bine_io::lanes());
        let mut left = Vec::new();
        for _ in 0..20 {
            let runtime = Builder::new().workers(WORKERS).spare_workers(0).build().unwrap();
            left.append(&mut wires(&runtime, 8));
            // Of those before there are some in lanes that are these workers' now.
            left = receive_on(&runtime, left);
            drop(runtime);
            left = receive_outside(left);
        }
        assert!(bine_io::lanes() <= lanes.max(WORKERS), "{} lanes", bine_io::lanes());
        drop(left);
        assert_eq!(open_descriptors(), before);
    });
}

/// So many duplicates are more than Linux lets an epoll instance have that is in another one (500). Somebody
/// must look after the lane all the same.
#[test]
fn a_lane_that_cannot_be_watched() {
    const DUPLICATES: usize = 600;
    let _alone = alone();
    bounded(|| {
        let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
        let Wire { near, mut far } = Wire::new();
        let started = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..DUPLICATES)
            .map(|_| {
                let (mut near, started) = (near.try_clone().unwrap(), Arc::clone(&started));
                runtime.spawn(move || {
                    started.fetch_add(1, Ordering::Relaxed);
                    near.read_exact(&mut [0]).unwrap();
                    near
                })
            })
            .collect();
        while started.load(Ordering::Relaxed) < DUPLICATES {
            std::thread::yield_now();
        }
        let mut wires = wires(&runtime, 3);
        far.write_all(&[0; DUPLICATES]).unwrap();
        let duplicates: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let done = Arc::new(AtomicBool::new(false));
        hold(&runtime, 1, &done);
        wires = receive_outside(wires);
        done.store(true, Ordering::Relaxed);
        wires = receive_on(&runtime, wires);
        drop(runtime);
        wires = receive_outside(wires);
        // It can be by now.
        drop(duplicates);
        drop(receive_outside(wires));
    });
}
