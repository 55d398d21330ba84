//! A bound on a test's time, which only failures reach.
#![allow(dead_code, reason = "each test binary uses some of this")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use bine_io::net::{TcpListener, TcpStream};

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
