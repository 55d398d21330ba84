//! Tests that must hold on runtimes of all kinds.
#![allow(dead_code, reason = "each test binary uses some of this")]

#[path = "../../../harness/mod.rs"]
pub(crate) mod harness;

use std::io;

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::process::{Command, Output, Stdio};
use bine::thread;
use harness::{Mode, bound};

/// Runs `test` in both modes with one, two and eight workers, and on an OS thread, whose green threads
/// are those of the default runtime.
pub(crate) fn everywhere(what: &str, test: impl Fn() + Clone + Send + 'static) {
    on_green_threads(what, test.clone());
    let _bound = bound(format!("{what}, on an OS thread,"));
    test();
}

/// The same without the OS thread.
pub(crate) fn on_green_threads(what: &str, test: impl Fn() + Clone + Send + 'static) {
    for mode in Mode::BOTH {
        for workers in [1, 2, 8] {
            println!("-- {what}: {mode}, {workers} workers");
            let _bound = bound(format!("{what}, {mode} with {workers} workers,"));
            let runtime = mode.runtime(workers);
            runtime.run(test.clone());
            // A scope may return a moment before the last of its threads is counted out.
            while runtime.metrics().alive > 0 {
                std::thread::yield_now();
            }
        }
    }
}

/// A listener on a port of the kernel's choice, and where it listens.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Accepts so many connections, and handles each on a green thread of its own. Returns when all are
/// done.
pub(crate) fn serve(
    listener: &TcpListener,
    connections: usize,
    handle: impl Fn(TcpStream) -> io::Result<()> + Sync,
) {
    let handle = &handle;
    thread::scope(|scope| {
        for _ in 0..connections {
            let (stream, _) = listener.accept().expect("accept");
            scope.spawn(move || handle(stream).expect("the connection ends as it should"));
        }
    });
}

/// Runs a program to its end, which must be a success; what it has written.
pub(crate) fn output_of(command: &mut Command) -> Vec<u8> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{:?}: {status}\n{stderr}", command.get_program());
    stdout
}

/// So many bytes, whose order a seed gives.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
