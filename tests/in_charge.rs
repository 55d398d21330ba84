//! Somebody always looks after sockets: while all workers are held, and after the workers that did are
//! gone. An exchange of a byte between OS threads says so; it would wait for ever.

mod harness;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bine::os::unix::net::UnixStream;
use bine::runtime::Runtime;
use harness::{Mode, bound};

const WORKERS: [usize; 3] = [1, 2, 8];
const BYTES: u8 = 20;

fn echo_bytes(mut stream: UnixStream) {
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        stream.write_all(&byte).expect("sent");
    }
}

fn send_bytes(mut stream: UnixStream) {
    for number in 0..BYTES {
        stream.write_all(&[number]).expect("sent");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("echoed");
        assert_eq!(byte, [number]);
    }
}

/// Between two OS threads.
fn exchange_outside() {
    let (here, there) = UnixStream::pair().expect("a pair");
    let other = std::thread::spawn(move || echo_bytes(there));
    std::thread::spawn(move || send_bytes(here)).join().expect("no panic");
    other.join().expect("no panic");
}

/// Between two green threads. Afterwards a worker looks after sockets.
fn exchange_on(runtime: &Runtime) {
    runtime.run(|| {
        let (here, there) = UnixStream::pair().expect("a pair");
        let other = bine::spawn(move || echo_bytes(there));
        send_bytes(here);
        other.join().expect("no panic");
    });
}

/// Has a green thread compute on every worker, until `done`.
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

/// One test at a time, so that no worker of another one looks after sockets.
fn in_each_mode(what: &str, test: impl Fn(Mode, usize)) {
    let _alone = harness::alone();
    for mode in Mode::BOTH {
        for workers in WORKERS {
            let _bound = bound(format_args!("{what}, {workers} workers in {mode} mode"));
            test(mode, workers);
        }
    }
}

#[test]
fn while_every_worker_is_held() {
    in_each_mode("while every worker is held", |mode, workers| {
        let runtime = mode.runtime(workers);
        exchange_on(&runtime);
        let done = Arc::new(AtomicBool::new(false));
        hold(&runtime, workers, &done);
        exchange_outside();
        done.store(true, Ordering::Relaxed);
        exchange_on(&runtime);
    });
}

#[test]
fn after_the_workers_have_ended() {
    in_each_mode("after the workers have ended", |mode, workers| {
        let runtime = mode.runtime(workers);
        exchange_on(&runtime);
        drop(runtime);
        exchange_outside();
    });
}

#[test]
fn after_the_runtime_has_given_up_workers_that_are_held() {
    in_each_mode("after the runtime has given up its workers", |mode, workers| {
        let runtime = mode.runtime(workers);
        exchange_on(&runtime);
        let done = Arc::new(AtomicBool::new(false));
        hold(&runtime, workers, &done);
        let shutdown = runtime.shutdown_timeout(Duration::ZERO);
        assert!(!shutdown.settled, "{shutdown:?}");
        exchange_outside();
        let runtime = mode.runtime(2);
        exchange_on(&runtime);
        drop(runtime);
        done.store(true, Ordering::Relaxed);
    });
}
