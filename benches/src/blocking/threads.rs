//! OS threads: `std::thread`, `std::sync::Mutex`, `std::net`, and crossbeam's channels, which are
//! the fastest that threads have from many to many.
//!
//! The number of workers means nothing here: the kernel uses the CPUs that it has.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::Blocking;

/// OS threads as a runtime.
#[derive(Debug)]
pub(crate) struct Threads;

impl Blocking for Threads {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    type ManySender = Sender<u64>;
    type ManyReceiver = Receiver<u64>;
    type Lock = Mutex<u64>;
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn run<T: Send + 'static>(_: usize, main: impl FnOnce() -> T + Send + 'static) -> T {
        main()
    }

    fn spawn<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T> {
        thread::spawn(task)
    }

    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T {
        handle.join().expect("a thread panicked")
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn park() {
        thread::park();
    }

    fn unpark<T: Send + 'static>(handle: &Self::Handle<T>) {
        handle.thread().unpark();
    }

    fn sleep(length: Duration) {
        thread::sleep(length);
    }

    fn unbounded() -> (Self::Sender, Self::Receiver) {
        crossbeam_channel::unbounded()
    }

    fn send(sender: &Self::Sender, message: u64) {
        sender.send(message).expect("the receiver is gone");
    }

    fn receive(receiver: &Self::Receiver) -> u64 {
        receiver.recv().expect("the sender is gone")
    }

    fn bounded(places: usize) -> (Self::ManySender, Self::ManyReceiver) {
        crossbeam_channel::bounded(places)
    }

    fn send_any(sender: &Self::ManySender, message: u64) {
        sender.send(message).expect("the receivers are gone");
    }

    fn receive_any(receiver: &Self::ManyReceiver) -> Option<u64> {
        receiver.recv().ok()
    }

    fn select_sum(receivers: [Self::ManyReceiver; 8], messages: usize) -> u64 {
        let [a, b, c, d, e, f, g, h] = receivers;
        (0..messages).fold(0, |sum, _| {
            let received = crossbeam_channel::select! {
                recv(a) -> number => number,
                recv(b) -> number => number,
                recv(c) -> number => number,
                recv(d) -> number => number,
                recv(e) -> number => number,
                recv(f) -> number => number,
                recv(g) -> number => number,
                recv(h) -> number => number,
            };
            sum + received.expect("the senders are gone")
        })
    }

    fn lock() -> Self::Lock {
        Mutex::new(0)
    }

    fn add_one(lock: &Self::Lock) -> u64 {
        let mut number = lock.lock().expect("a holder panicked");
        *number += 1;
        *number
    }

    fn listen() -> io::Result<(Self::Listener, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }

    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
