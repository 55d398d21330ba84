//! Messages for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crowd::with_runtimes;
use crate::random::Random;
use bine_runtime::thread::{self, Cancelled};
use bine_sync::broadcast::{
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, channel,
};

#[test]
fn each_receiver_gets_each_message() {
    let (sender, mut receiver) = channel(4);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    assert_eq!(sender.send(1), Ok(1));
    let mut other = receiver.resubscribe();
    assert_eq!(sender.send(2), Ok(2));
    assert_eq!((receiver.len(), other.len(), sender.len()), (2, 1, 2));
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(sender.len(), 1);
    assert_eq!(receiver.try_recv(), Ok(2));
    assert_eq!(other.recv_timeout(Duration::MAX), Ok(2));
    assert!(sender.is_empty() && receiver.is_empty());
    drop(sender);
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
    assert_eq!(other.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(other.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Closed));
}

#[test]
fn one_that_lags_learns_what_it_missed() {
    let (sender, mut receiver) = channel(3);
    for n in 0..10 {
        sender.send(n).unwrap();
    }
    assert_eq!(receiver.len(), 10);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Lagged(7)));
    assert_eq!(receiver.recv(), Ok(7));
    for n in 10..13 {
        sender.send(n).unwrap();
    }
    assert_eq!(receiver.recv(), Err(RecvError::Lagged(2)));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(10));
    sender.send(13).unwrap();
    sender.send(14).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Lagged(1)));
    drop(sender);
    assert_eq!([(); 3].map(|()| receiver.recv().unwrap()), [12, 13, 14]);
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
}

#[test]
#[should_panic(expected = "at least one message")]
fn a_capacity_of_zero_is_refused() {
    drop(channel::<()>(0));
}

/// The last receiver gets the message itself; nothing is kept for one that is gone.
#[test]
fn messages_are_dropped_with_the_last_who_wants_them() {
    let message = Arc::new(());
    let (sender, mut receiver) = channel(4);
    let other = sender.subscribe();
    sender.send(Arc::clone(&message)).unwrap();
    sender.send(Arc::clone(&message)).unwrap();
    assert_eq!(Arc::strong_count(&message), 3);
    let first = receiver.recv().unwrap();
    assert_eq!(Arc::strong_count(&message), 4, "a clone");
    drop(other);
    assert_eq!(Arc::strong_count(&message), 3, "kept for nobody");
    drop(first);
    drop(receiver.recv().unwrap());
    assert_eq!(Arc::strong_count(&message), 1, "no clone was made");
    drop(receiver);
    assert!(sender.send(message).is_err_and(|SendError(message)| Arc::strong_count(&message) == 1));
    assert_eq!(sender.receiver_count(), 0);
}

#[test]
fn bounds_and_formats() {
    fn shared<T: Send + Sync>() {}
    fn error<T: std::error::Error>() {}
    shared::<Sender<u32>>();
    shared::<Receiver<u32>>();
    error::<SendError<u32>>();
    error::<RecvError>();
    error::<TryRecvError>();
    error::<RecvTimeoutError>();
    let (sender, receiver) = channel::<u32>(1);
    assert_eq!(format!("{sender:?} {receiver:?}"), "Sender { .. } Receiver { .. }");
    assert!(sender.same_channel(&sender.clone()));
    assert!(receiver.same_channel(&receiver.resubscribe()));
}

/// A message that counts how many there are of it.
struct Message {
    number: u64,
    alive: Arc<AtomicU64>,
}

impl Message {
    fn new(number: u64, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { number, alive: Arc::clone(alive) }
    }
}

impl Clone for Message {
    fn clone(&self) -> Self {
        // A clone may do anything, also wait.
        thread::yield_now();
        Self::new(self.number, &self.alive)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Receives to the end, and checks that messages came in order and that those that it got and those that
/// it missed are all.
fn receive_all(receiver: &mut Receiver<Message>, random: &mut Random, messages: u64) {
    let mut counted = 0;
    loop {
        let patience = Duration::from_micros(random.below(100));
        let received = match random.below(4) {
            0 => receiver.recv_timeout(patience),
            _ => receiver.recv().map_err(|error| match error {
                RecvError::Closed => RecvTimeoutError::Closed,
                RecvError::Lagged(missed) => RecvTimeoutError::Lagged(missed),
            }),
        };
        match received {
            Ok(message) => {
                assert_eq!(message.number, counted);
                counted += 1;
            }
            Err(RecvTimeoutError::Lagged(missed)) => counted += missed,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Closed) => break,
        }
        if random.below(8) == 0 {
            thread::yield_now();
        }
    }
    assert_eq!(counted, messages);
}

#[test]
fn a_crowd_receives() {
    const SEED: u64 = 0xb40a;
    const MESSAGES: u64 = 300;
    const GREEN: u64 = 16;
    with_runtimes(|runtime| {
        for capacity in [1, 7, 1000] {
            let (sender, receiver) = channel(capacity);
            let alive = Arc::new(AtomicU64::new(0));
            let body = |stream| {
                let mut receiver = receiver.resubscribe();
                move || {
                    receive_all(&mut receiver, &mut Random::new(SEED, stream), MESSAGES);
                }
            };
            let green: Vec<_> = (0..GREEN).map(|n| runtime.spawn(body(n))).collect();
            let victims: Vec<_> = (0..GREEN).map(|n| runtime.spawn(body(100 + n))).collect();
            let os: Vec<_> = (0..4).map(|n| std::thread::spawn(body(200 + n))).collect();
            drop(receiver);
            let counted = Arc::clone(&alive);
            let sends = runtime.spawn(move || {
                for number in 0..MESSAGES {
                    drop(sender.send(Message::new(number, &counted)));
                    if number % 8 == 0 {
                        thread::yield_now();
                    }
                }
            });
            for victim in victims {
                victim.cancel().unwrap();
                if let Err(error) = victim.join() {
                    assert!(error.is::<Cancelled>(), "capacity {capacity}, seed {SEED:#x}");
                }
            }
            sends.join().unwrap();
            green.into_iter().for_each(|thread| thread.join().unwrap());
            os.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(alive.load(Ordering::Relaxed), 0, "capacity {capacity}, seed {SEED:#x}");
        }
    });
}
