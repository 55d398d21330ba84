//! Channels with one receiver do what std's do.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crowd::with_runtimes;
use crate::random::Random;
use bine_runtime::thread;
use bine_sync::mpsc::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, Sender, SyncSender, TryIter,
    TryRecvError, TrySendError, channel, sync_channel,
};

#[test]
fn messages_come_in_order_and_then_an_error() {
    let (sender, receiver) = channel();
    let other = sender.clone();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    for n in 0..5 {
        sender.send(n).unwrap();
    }
    drop(sender);
    assert_eq!(receiver.recv(), Ok(0));
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(2));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [3, 4]);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(other);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(receiver.recv(), Err(RecvError));
    assert_eq!(receiver.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
    assert_eq!((&receiver).into_iter().count() + receiver.into_iter().count(), 0);
}

#[test]
fn a_send_without_receiver_returns_the_message() {
    let (sender, receiver) = channel();
    let (bounded, other) = sync_channel(1);
    drop((receiver, other));
    assert_eq!(sender.send(1), Err(SendError(1)));
    assert_eq!(bounded.send(1), Err(SendError(1)));
    assert_eq!(bounded.try_send(1), Err(TrySendError::Disconnected(1)));
}

#[test]
fn a_bounded_channel_is_full_and_a_rendezvous_always() {
    let (sender, receiver) = sync_channel(2);
    sender.send(1).unwrap();
    sender.try_send(2).unwrap();
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(sender.try_send(3), Ok(()));
    let (sender, receiver) = sync_channel(0);
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    let sends = std::thread::spawn(move || sender.send(2));
    assert_eq!(receiver.recv(), Ok(2));
    assert_eq!(sends.join().unwrap(), Ok(()));
}

#[test]
fn messages_that_nobody_receives_are_dropped_with_the_receiver() {
    let message = Arc::new(());
    let (sender, receiver) = channel();
    let (bounded, other) = sync_channel(1);
    sender.send(Arc::clone(&message)).unwrap();
    bounded.send(Arc::clone(&message)).unwrap();
    drop((receiver, other));
    assert_eq!(Arc::strong_count(&message), 1);
}

fn prints<T: Debug>(value: &T) -> String {
    format!("{value:?} {value:#?}")
}

#[test]
fn formats_as_std_does() {
    let (sender, receiver) = channel::<u32>();
    let (other_sender, other) = std::sync::mpsc::channel::<u32>();
    assert_eq!(prints(&sender), prints(&other_sender));
    assert_eq!(prints(&receiver), prints(&other));
    assert_eq!(prints(&receiver.iter()), prints(&other.iter()));
    assert_eq!(prints(&receiver.try_iter()), prints(&other.try_iter()));
    assert_eq!(prints(&receiver.into_iter()), prints(&other.into_iter()));
    let (sender, _receiver) = sync_channel::<u32>(1);
    let (other_sender, _other) = std::sync::mpsc::sync_channel::<u32>(1);
    assert_eq!(prints(&sender), prints(&other_sender));
}

#[test]
fn bounds_are_those_of_std() {
    fn shared<T: Send + Sync + Clone + UnwindSafe + RefUnwindSafe>() {}
    fn sent<T: Send + UnwindSafe + RefUnwindSafe>() {}
    fn safe<T: UnwindSafe>() {}
    type Message = std::cell::Cell<u32>;
    shared::<Sender<Message>>();
    shared::<SyncSender<Message>>();
    sent::<Receiver<Message>>();
    sent::<IntoIter<Message>>();
    safe::<(Iter<'static, Message>, TryIter<'static, Message>)>();
}

/// A message that counts its drops.
struct Message(u64, Arc<AtomicU64>);

impl Drop for Message {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

enum AnySender {
    Unbounded(Sender<Message>),
    Bounded(SyncSender<Message>),
}

impl Clone for AnySender {
    fn clone(&self) -> Self {
        match self {
            Self::Unbounded(sender) => Self::Unbounded(sender.clone()),
            Self::Bounded(sender) => Self::Bounded(sender.clone()),
        }
    }
}

/// What the senders have done; their messages and what became of them.
#[derive(Default)]
struct Counts {
    made: AtomicU64,
    sent: AtomicU64,
    dropped: Arc<AtomicU64>,
}

/// Sends until it is cancelled or has done it `rounds` times.
fn send_somehow(sender: &AnySender, counts: &Counts, random: &mut Random, rounds: u64) {
    for n in 0..rounds {
        counts.made.fetch_add(1, Ordering::Relaxed);
        let message = Message(n, Arc::clone(&counts.dropped));
        let sent = match (sender, random.below(8)) {
            (AnySender::Bounded(sender), 0..2) => sender.try_send(message).is_ok(),
            (AnySender::Bounded(sender), _) => sender.send(message).is_ok(),
            (AnySender::Unbounded(sender), _) => sender.send(message).is_ok(),
        };
        counts.sent.fetch_add(u64::from(sent), Ordering::Relaxed);
        match random.below(64) {
            0..8 => thread::yield_now(),
            8 => {
                let cloned = sender.clone();
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let _cloned = cloned;
                    resume_unwind(Box::new(()));
                }));
                assert!(outcome.is_err());
            }
            _ => {}
        }
    }
}

/// Green threads, half of which are cancelled, and OS threads send; the receiver moves from an OS
/// thread to a green one in the middle.
#[test]
fn a_crowd_sends() {
    const SEED: u64 = 0x3b5c;
    const GREEN: u64 = 64;
    const OS: u64 = 8;
    with_runtimes(|runtime| {
        for bound in [None, Some(0), Some(1), Some(7)] {
            let (sender, receiver) = match bound {
                None => {
                    let (sender, receiver) = channel();
                    (AnySender::Unbounded(sender), receiver)
                }
                Some(bound) => {
                    let (sender, receiver) = sync_channel(bound);
                    (AnySender::Bounded(sender), receiver)
                }
            };
            let counts = Arc::new(Counts::default());
            let body = |stream| {
                let (sender, counts) = (sender.clone(), Arc::clone(&counts));
                move || send_somehow(&sender, &counts, &mut Random::new(SEED, stream), 100)
            };
            let green: Vec<_> = (0..GREEN).map(|n| runtime.spawn(body(n))).collect();
            let os: Vec<_> = (0..OS).map(|n| std::thread::spawn(body(GREEN + n))).collect();
            drop(sender);
            let mut random = Random::new(SEED, 1000);
            let mut received = 0;
            let first: Vec<_> = receiver.iter().take(random.below(300) as usize).collect();
            received += first.len() as u64;
            drop(first);
            let rest = runtime.spawn(move || {
                let mut received = 0;
                loop {
                    let patience = Duration::from_micros(random.below(100));
                    match receiver.recv_timeout(patience) {
                        Ok(message) => received += u64::from(message.0 < 100),
                        Err(RecvTimeoutError::Timeout) => thread::yield_now(),
                        Err(RecvTimeoutError::Disconnected) => return received,
                    }
                }
            });
            green.iter().step_by(2).for_each(|victim| victim.cancel().unwrap());
            for thread in green {
                let _ = thread.join();
            }
            os.into_iter().for_each(|thread| thread.join().unwrap());
            received += rest.join().unwrap();
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!(received, count(&counts.sent), "{bound:?}, seed {SEED:#x}");
            assert_eq!(count(&counts.made), count(&counts.dropped), "{bound:?}, seed {SEED:#x}");
        }
    });
}
