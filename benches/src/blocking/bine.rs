//! Bine, in both modes: its threads, channels, mutex and sockets, all with default settings.
//!
//! The migrating runtime is sound here because no task of these workloads holds a thread-local
//! borrow across a blocking call.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bine::channel::{self, Receiver, Sender};
use bine::net::{TcpListener, TcpStream};
use bine::runtime::Builder;
use bine::sync::Mutex;
use bine::thread::{self, JoinHandle};

use super::Blocking;

/// Bine with green threads that stay on the worker that first ran them, or that migrate.
#[derive(Debug)]
pub(crate) struct Bine<const MIGRATE: bool>;

impl<const MIGRATE: bool> Blocking for Bine<MIGRATE> {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    type ManySender = Sender<u64>;
    type ManyReceiver = Receiver<u64>;
    type Lock = Mutex<u64>;
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn run<T: Send + 'static>(workers: usize, main: impl FnOnce() -> T + Send + 'static) -> T {
        let builder = if MIGRATE {
            // SAFETY: no task of these workloads holds a thread-local borrow across a blocking
            // call.
            unsafe { Builder::new().migrate() }
        } else {
            Builder::new()
        };
        let runtime = builder.workers(workers).build().expect("the runtime starts");
        runtime.run(main)
    }

    fn spawn<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T> {
        bine::spawn(task)
    }

    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T {
        handle.join().expect("a green thread panicked")
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
        channel::unbounded()
    }

    fn send(sender: &Self::Sender, message: u64) {
        sender.send(message).expect("the receiver is gone");
    }

    fn receive(receiver: &Self::Receiver) -> u64 {
        receiver.recv().expect("the sender is gone")
    }

    fn bounded(places: usize) -> (Self::ManySender, Self::ManyReceiver) {
        channel::bounded(places)
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
            let received = channel::select! {
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
