//! May: stackful coroutines with its default stacks of 32 KiB and a pool of 10,000 of them, so that
//! spawning reuses stacks; its own mutex and sockets; its `mpsc` where there is one receiver.
//!
//! Its only channel from many to many is unbounded: `bounded` has no bound here, so that producers
//! never wait, which is less work than the other runtimes do.
//!
//! Its `select!` spawns a coroutine for each arm and cancels those that did not win, together with what they
//! have received by then: messages would be lost. So `select` is what May has for loops: the same
//! coroutines, spawned once, each of which hands what it received to the one that selects.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use may::coroutine::{self, JoinHandle};
use may::net::{TcpListener, TcpStream};
use may::sync::{Mutex, mpmc, mpsc};

use super::Blocking;

/// May's scheduler.
#[derive(Debug)]
pub(crate) struct May;

impl Blocking for May {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender = mpsc::Sender<u64>;
    type Receiver = mpsc::Receiver<u64>;
    type ManySender = mpmc::Sender<u64>;
    type ManyReceiver = mpmc::Receiver<u64>;
    type Lock = Mutex<u64>;
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn run<T: Send + 'static>(workers: usize, main: impl FnOnce() -> T + Send + 'static) -> T {
        may::config().set_workers(workers).set_pool_capacity(10_000);
        Self::join(Self::spawn(main))
    }

    fn spawn<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T> {
        // SAFETY: no task of these workloads holds a thread-local borrow across a blocking call, and
        // none comes near the end of its stack.
        unsafe { coroutine::spawn(task) }
    }

    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T {
        handle.join().expect("a coroutine panicked")
    }

    fn yield_now() {
        coroutine::yield_now();
    }

    fn park() {
        coroutine::park();
    }

    fn unpark<T: Send + 'static>(handle: &Self::Handle<T>) {
        handle.coroutine().unpark();
    }

    fn sleep(length: Duration) {
        coroutine::sleep(length);
    }

    fn unbounded() -> (Self::Sender, Self::Receiver) {
        mpsc::channel()
    }

    fn send(sender: &Self::Sender, message: u64) {
        sender.send(message).expect("the receiver is gone");
    }

    fn receive(receiver: &Self::Receiver) -> u64 {
        receiver.recv().expect("the sender is gone")
    }

    fn bounded(_: usize) -> (Self::ManySender, Self::ManyReceiver) {
        mpmc::channel()
    }

    fn send_any(sender: &Self::ManySender, message: u64) {
        sender.send(message).expect("the receivers are gone");
    }

    fn receive_any(receiver: &Self::ManyReceiver) -> Option<u64> {
        receiver.recv().ok()
    }

    fn select_sum(receivers: [Self::ManyReceiver; 8], messages: usize) -> u64 {
        let sum = AtomicU64::new(0);
        may::cqueue::scope(|queue| {
            for (token, receiver) in receivers.iter().enumerate() {
                let sum = &sum;
                may::cqueue_add!(queue, token, number = receiver.recv() => {
                    sum.fetch_add(number.expect("the sender is gone"), Ordering::Relaxed);
                });
            }
            for _ in 0..messages {
                queue.poll(None).expect("an arm has ended");
            }
        });
        sum.into_inner()
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
