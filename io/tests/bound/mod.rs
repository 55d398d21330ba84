//! A bound on a test's time, which only failures reach.
#![allow(dead_code, reason = "each test binary uses some of this")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use bine_io::net::{TcpListener, TcpStream};
use bine_runtime::{Builder, Runtime, wait};

/// Runs `test` on a thread of its own; fails when it has not ended after a minute.
pub(crate) fn bounded(test: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _ended = ended;
        test();
    });
    match end.recv_timeout(Duration::from_secs(60)) {
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        _ => thread.join().expect("the test fails"),
    }
}

/// A connection: the end that connected, and the end that accepted.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (server, peer) = listener.accept().expect("accept");
    assert_eq!(peer, client.local_addr().expect("an address"));
    (client, server)
}

/// A thread of the caller's kind.
pub(crate) enum Task<T> {
    Green(bine_runtime::thread::JoinHandle<T>),
    Os(thread::JoinHandle<T>),
}

impl<T> Task<T> {
    pub(crate) fn join(self) -> T {
        match self {
            Self::Green(thread) => thread.join(),
            Self::Os(thread) => thread.join(),
        }
        .unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }
}

/// Starts a thread of the caller's kind, green or OS.
pub(crate) fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    if wait::is_green() { Task::Green(bine_runtime::spawn(f)) } else { Task::Os(thread::spawn(f)) }
}

/// Runtimes in both modes, with few and with many workers.
pub(crate) fn runtimes() -> impl Iterator<Item = (Runtime, String)> {
    [1, 2, 8].into_iter().flat_map(|workers| {
        // SAFETY: the tests keep no thread-local borrow across a blocking call.
        let migrating = unsafe { Builder::new().workers(workers).migrate() };
        let both = [(Builder::new().workers(workers), "pinned"), (migrating, "migrating")];
        both.map(|(builder, mode)| {
            (builder.build().expect("the runtime starts"), format!("{workers} {mode} workers"))
        })
    })
}

/// Runs `test` on an OS thread, and on a green thread of each of [`runtimes`].
pub(crate) fn everywhere(test: fn()) {
    bounded(test);
    for (runtime, kind) in runtimes() {
        println!("on {kind}");
        bounded(move || {
            runtime.run(test);
            assert_eq!(runtime.metrics().alive, 0, "{kind}");
        });
    }
}
