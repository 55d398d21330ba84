//! What crossbeam-channel promises, of every flavor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::random::Random;
use bine_sync::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError,
    TrySendError, bounded, unbounded,
};

const MS: Duration = Duration::from_millis(1);

/// Channels of each flavor, and of sizes around the edges.
fn flavors<T>() -> Vec<(Sender<T>, Receiver<T>)> {
    vec![unbounded(), bounded(0), bounded(1), bounded(2), bounded(3), bounded(100)]
}

#[test]
fn capacity_length_and_limits() {
    let (sender, receiver) = unbounded();
    assert_eq!((sender.capacity(), receiver.capacity()), (None, None));
    for n in 0..1000 {
        assert_eq!((sender.len(), receiver.len()), (n, n));
        sender.send(n).unwrap();
        assert!(!sender.is_empty() && !receiver.is_full());
    }
    for n in 0..1000 {
        assert_eq!(receiver.len(), 1000 - n);
        assert_eq!(receiver.try_recv(), Ok(n));
    }
    assert!(receiver.is_empty());

    for cap in [1, 2, 3, 64] {
        let (sender, receiver) = bounded(cap);
        assert_eq!((sender.capacity(), receiver.capacity()), (Some(cap), Some(cap)));
        for lap in 0..5 {
            for n in 0..cap {
                assert_eq!(sender.len(), n);
                sender.try_send(lap).unwrap();
            }
            assert!(sender.is_full() && receiver.is_full());
            assert_eq!(sender.try_send(lap), Err(TrySendError::Full(lap)));
            assert_eq!(sender.send_timeout(lap, MS), Err(SendTimeoutError::Timeout(lap)));
            assert_eq!(receiver.try_iter().count(), cap);
            assert_eq!(receiver.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
        }
    }

    let (sender, receiver) = bounded(0);
    assert_eq!((sender.capacity(), sender.len()), (Some(0), 0));
    assert!(sender.is_empty() && sender.is_full());
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn receivers_empty_the_channel_before_they_see_the_end() {
    for (sender, receiver) in flavors() {
        let filled = (0..3).take_while(|n| sender.try_send(*n).is_ok()).count();
        drop(sender);
        for n in 0..filled {
            assert_eq!(receiver.recv(), Ok(n));
        }
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(receiver.recv_timeout(MS), Err(RecvTimeoutError::Disconnected));
    }
}

#[test]
fn senders_get_their_message_back() {
    for (sender, receiver) in flavors() {
        drop(receiver);
        assert_eq!(sender.send(1), Err(SendError(1)));
        assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
        assert_eq!(sender.send_timeout(3, MS), Err(SendTimeoutError::Disconnected(3)));
    }
}

#[test]
fn the_last_handle_wakes_the_other_side() {
    for (sender, receiver) in flavors::<u32>() {
        let (sender, receiver) = (Arc::new(sender), receiver);
        thread::scope(|s| {
            for _ in 0..3 {
                let receiver = receiver.clone();
                s.spawn(move || assert_eq!(receiver.recv(), Err(RecvError)));
            }
            drop(sender);
        });
    }
    for (sender, receiver) in
        flavors().into_iter().filter(|(sender, _)| sender.capacity().is_some())
    {
        while sender.try_send(0).is_ok() {}
        thread::scope(|s| {
            for _ in 0..3 {
                let sender = sender.clone();
                s.spawn(move || assert_eq!(sender.send(7), Err(SendError(7))));
            }
            drop(receiver);
        });
    }
}

#[test]
fn messages_of_one_sender_stay_in_order() {
    const COUNT: usize = 10_000;
    for (sender, receiver) in flavors() {
        thread::scope(|s| {
            s.spawn(move || (0..COUNT).for_each(|n| sender.send(n).unwrap()));
            assert!(receiver.iter().eq(0..COUNT));
        });
    }
}

/// Many of both sides, who give up at random and try again.
#[test]
fn every_message_arrives_once() {
    const SEED: u64 = 0xc4a7;
    const THREADS: u64 = 4;
    const EACH: u64 = 3_000;
    for (sender, receiver) in flavors() {
        let received = thread::scope(|s| {
            for stream in 0..THREADS {
                let sender = sender.clone();
                s.spawn(move || send_all(&sender, stream * EACH..(stream + 1) * EACH, SEED));
            }
            drop(sender);
            let receivers: Vec<_> = (0..THREADS)
                .map(|stream| {
                    let receiver = receiver.clone();
                    s.spawn(move || receive_all(&receiver, Random::new(SEED, 50 + stream)))
                })
                .collect();
            let mut all: Vec<u64> =
                receivers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            all.sort_unstable();
            all
        });
        assert!(received.into_iter().eq(0..THREADS * EACH), "seed {SEED:#x}");
    }
}

fn send_all(sender: &Sender<u64>, messages: std::ops::Range<u64>, seed: u64) {
    let mut random = Random::new(seed, messages.start);
    for mut message in messages {
        loop {
            let sent = match random.below(3) {
                0 => sender.try_send(message).map_err(TrySendError::into_inner),
                1 => {
                    let patience = Duration::from_micros(random.below(100));
                    sender.send_timeout(message, patience).map_err(SendTimeoutError::into_inner)
                }
                _ => sender.send(message).map_err(SendError::into_inner),
            };
            match sent {
                Ok(()) => break,
                Err(back) => message = back,
            }
        }
    }
}

fn receive_all(receiver: &Receiver<u64>, mut random: Random) -> Vec<u64> {
    let mut received = Vec::new();
    loop {
        let message = match random.below(3) {
            0 => receiver.try_recv().map_err(|error| error.is_disconnected()),
            1 => {
                let patience = Duration::from_micros(random.below(100));
                receiver.recv_timeout(patience).map_err(|error| error.is_disconnected())
            }
            _ => receiver.recv().map_err(|_| true),
        };
        match message {
            Ok(message) => received.push(message),
            Err(true) => return received,
            Err(false) => {}
        }
    }
}

/// Counts how many of its kind are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn messages_left_are_dropped_with_the_last_receiver() {
    for sent in [0, 1, 30, 31, 32, 100] {
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = unbounded();
        (0..sent).for_each(|_| assert!(sender.send(Counted::new(&alive)).is_ok()));
        assert_eq!(alive.load(Ordering::Relaxed), sent);
        drop(receiver);
        assert_eq!(alive.load(Ordering::Relaxed), 0, "although a sender is left");
        assert!(sender.send(Counted::new(&alive)).is_err());
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

/// Senders and receivers of which some go away early: whatever happens to a message, it is dropped
/// once.
#[test]
fn messages_are_dropped_once() {
    const SEED: u64 = 0xd409;
    const ROUNDS: u64 = 60;
    let alive = Arc::new(AtomicUsize::new(0));
    for round in 0..ROUNDS {
        for (sender, receiver) in flavors() {
            thread::scope(|s| {
                for stream in 0..3 {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    let alive = &alive;
                    let mut random = Random::new(SEED + round, stream);
                    let (sends, receives) = (random.below(80), random.below(80));
                    s.spawn(move || {
                        for _ in 0..sends {
                            if sender.send(Counted::new(alive)).is_err() {
                                break;
                            }
                        }
                    });
                    s.spawn(move || receiver.iter().take(receives as usize).for_each(drop));
                }
                drop((sender, receiver));
            });
            assert_eq!(alive.load(Ordering::Relaxed), 0, "seed {SEED:#x} round {round}");
        }
    }
}

#[test]
fn a_message_may_hold_its_own_channel() {
    struct Knot(#[expect(dead_code, reason = "held for its drop")] Sender<Knot>);
    let (sender, receiver) = unbounded();
    for _ in 0..3 {
        assert!(sender.send(Knot(sender.clone())).is_ok());
    }
    drop(sender);
    drop(receiver);
}

#[test]
fn handles_know_their_channel() {
    let channels: Vec<_> = flavors::<u32>();
    for (i, (sender, receiver)) in channels.iter().enumerate() {
        for (j, (other_sender, other_receiver)) in channels.iter().enumerate() {
            assert_eq!(sender.same_channel(&other_sender.clone()), i == j);
            assert_eq!(receiver.same_channel(&other_receiver.clone()), i == j);
        }
    }
}

#[test]
fn iterators_end_with_the_channel() {
    let (sender, receiver) = unbounded();
    (0..5).for_each(|n| sender.send(n).unwrap());
    assert!(receiver.try_iter().take(2).eq(0..2));
    drop(sender);
    assert!((&receiver).into_iter().take(2).eq(2..4));
    assert!(receiver.into_iter().eq(4..5));
}

#[test]
fn zero_sized_and_large_messages() {
    let (sender, receiver) = unbounded();
    (0..100).for_each(|_| sender.send(()).unwrap());
    assert_eq!(receiver.try_iter().count(), 100);

    let (sender, receiver) = unbounded();
    (0..40u8).for_each(|n| sender.send([n; 70_000]).unwrap());
    assert!(receiver.try_iter().map(|message| message[69_999]).eq(0..40));
}

#[test]
fn errors_read_as_crossbeams_do() {
    assert_eq!(
        format!("{} {:?}", SendError(1), SendError(1)),
        "sending on a disconnected channel SendError(..)"
    );
    assert_eq!(
        format!("{} {:?}", TrySendError::Full(1), TrySendError::Full(1)),
        "sending on a full channel Full(..)"
    );
    assert_eq!(SendTimeoutError::Timeout(1).to_string(), "timed out waiting on send operation");
    assert_eq!(RecvError.to_string(), "receiving on an empty and disconnected channel");
    assert_eq!(TryRecvError::Empty.to_string(), "receiving on an empty channel");
    assert_eq!(RecvTimeoutError::Timeout.to_string(), "timed out waiting on receive operation");
    assert_eq!(RecvTimeoutError::Disconnected.to_string(), "channel is empty and disconnected");
    assert_eq!(TryRecvError::from(RecvError), TryRecvError::Disconnected);
    assert!(TrySendError::from(SendError(1)).is_disconnected());
}
