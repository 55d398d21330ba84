//! Cancelled threads leave sockets as they should be: no descriptor, no byte and no waiter is lost.

mod bound;
mod descriptor_table;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bine_io::net::{TcpListener, TcpStream};
use bine_runtime::thread::{self, Cancelled, JoinHandle};
use bine_runtime::{Builder, Runtime};
use bound::{bounded, pair};
use descriptor_table::open_descriptors;

const SEED: u64 = 0xca9ce1;
const EACH: usize = 16;

/// Cancels all, in an order that the seed gives.
fn cancel_all(runtime: &Runtime, mut threads: Vec<JoinHandle<()>>) {
    runtime.run(move || {
        let mut random = SEED;
        let mut cancelled = Vec::new();
        while !threads.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let thread = threads.swap_remove((random >> 33) as usize % threads.len());
            thread.cancel().unwrap();
            cancelled.push(thread);
            (0..random >> 62).for_each(|_| thread::yield_now());
        }
        for thread in cancelled {
            let error = thread.join().expect_err("the thread does not end by itself");
            assert!(error.is::<Cancelled>(), "seed {SEED:#x}");
        }
    });
}

/// Threads that accept, connect, read and write, all on the same two sockets.
fn sockets_survive(runtime: &Runtime) {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = listener.local_addr().unwrap();
    let (reader, writer) = pair();
    let (reader, writer) = (Arc::new(reader), Arc::new(writer));
    let [read, written] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let mut threads = Vec::new();
    for _ in 0..EACH {
        let accepts = Arc::clone(&listener);
        threads.push(runtime.spawn(move || {
            loop {
                drop(accepts.accept().unwrap());
            }
        }));
        threads.push(runtime.spawn(move || {
            loop {
                // Few, so that the ports last.
                drop(TcpStream::connect(addr));
                (0..200).for_each(|_| thread::yield_now());
            }
        }));
        let (reads, count) = (Arc::clone(&reader), Arc::clone(&read));
        threads.push(runtime.spawn(move || {
            loop {
                let len = (&*reads).read(&mut [0; 7]).unwrap();
                count.fetch_add(len as u64, Ordering::Relaxed);
            }
        }));
        let (writes, count) = (Arc::clone(&writer), Arc::clone(&written));
        threads.push(runtime.spawn(move || {
            loop {
                let len = (&*writes).write(&[1; 5]).unwrap();
                count.fetch_add(len as u64, Ordering::Relaxed);
            }
        }));
    }
    cancel_all(runtime, threads);
    // The sockets work still, and what was written and not read is there.
    let client = TcpStream::connect(addr).unwrap();
    while listener.accept().unwrap().1 != client.local_addr().unwrap() {}
    writer.shutdown(std::net::Shutdown::Write).unwrap();
    let left = (&*reader).read_to_end(&mut Vec::new()).unwrap() as u64;
    let (read, written) = (read.load(Ordering::Relaxed), written.load(Ordering::Relaxed));
    assert_eq!(written, read + left, "seed {SEED:#x}");
    assert_eq!(runtime.metrics().alive, 0, "seed {SEED:#x}");
}

#[test]
fn sockets_survive_the_cancellation_of_those_who_use_them() {
    bounded(|| {
        drop(pair()); // starts the poller, which has descriptors of its own
        for workers in [1, 2, 3, 8] {
            // SAFETY: the threads keep no thread-local borrow across a blocking call.
            let migrating = unsafe { Builder::new().workers(workers).migrate() };
            for builder in [Builder::new().workers(workers), migrating] {
                let runtime = builder.build().unwrap();
                let before = open_descriptors();
                sockets_survive(&runtime);
                assert_eq!(open_descriptors(), before, "seed {SEED:#x}");
            }
        }
    });
}
