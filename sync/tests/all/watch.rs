//! Values that are watched.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crowd::with_runtimes;
use crate::random::Random;
use bine_runtime::thread::{self, Cancelled};
use bine_sync::watch::{Receiver, RecvError, RecvTimeoutError, SendError, Sender, channel};

#[test]
fn a_change_is_seen_once() {
    let (sender, mut receiver) = channel(0);
    let mut other = receiver.clone();
    assert_eq!(receiver.has_changed(), Ok(false));
    assert_eq!(receiver.changed_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    sender.send(1).unwrap();
    assert!(receiver.borrow().has_changed());
    assert_eq!(receiver.has_changed(), Ok(true));
    assert_eq!(*receiver.borrow_and_update(), 1);
    assert_eq!(receiver.has_changed(), Ok(false));
    assert!(!receiver.borrow().has_changed());
    other.changed().unwrap();
    assert_eq!(*other.borrow(), 1);
    sender.send_modify(|value| *value += 1);
    assert!(!sender.send_if_modified(|_| false));
    other.mark_unchanged();
    assert_eq!(other.has_changed(), Ok(false));
    other.mark_changed();
    assert!(other.borrow_and_update().has_changed());
    assert_eq!(sender.send_replace(5), 2);
    assert_eq!(*receiver.wait_for(|value| *value == 5).unwrap(), 5);
    let third = sender.subscribe();
    assert!(third.same_channel(&other));
    assert_eq!(third.has_changed(), Ok(false));
    assert_eq!(sender.receiver_count(), 3);
}

#[test]
fn one_side_learns_that_the_other_is_gone() {
    let (sender, mut receiver) = channel(0);
    let other = sender.clone();
    drop(sender);
    other.send(1).unwrap();
    drop(other);
    // The last change first.
    assert_eq!(receiver.has_changed(), Ok(true));
    assert_eq!(receiver.changed(), Ok(()));
    assert_eq!(receiver.has_changed(), Err(RecvError));
    assert_eq!(receiver.changed(), Err(RecvError));
    assert_eq!(receiver.changed_timeout(Duration::MAX), Err(RecvTimeoutError::Closed));
    assert_eq!(*receiver.wait_for(|value| *value == 1).unwrap(), 1);
    assert!(receiver.wait_for(|value| *value == 2).is_err());

    let sender = Sender::new(0);
    assert!(sender.is_closed());
    sender.closed();
    assert_eq!(sender.send(1), Err(SendError(1)));
    assert_eq!(sender.send_replace(2), 0);
    assert_eq!(*sender.borrow(), 2);
    let receiver = sender.subscribe();
    assert!(!sender.is_closed());
    drop(receiver);
    assert!(!Sender::<u32>::default().same_channel(&Sender::default()));
}

#[test]
fn a_closure_that_panics_leaves_the_channel_usable() {
    let (sender, mut receiver) = channel(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        sender.send_modify(|value| {
            *value = 7;
            resume_unwind(Box::new(()));
        });
    }));
    assert!(outcome.is_err());
    assert_eq!(receiver.has_changed(), Ok(false));
    assert_eq!(*receiver.borrow(), 7);
    sender.send(8).unwrap();
    receiver.changed().unwrap();
    assert_eq!(*receiver.borrow(), 8);
}

#[test]
fn bounds_and_formats() {
    fn shared<T: Send + Sync>() {}
    fn error<T: std::error::Error>() {}
    shared::<Sender<u32>>();
    shared::<Receiver<u32>>();
    error::<SendError<u32>>();
    error::<RecvError>();
    error::<RecvTimeoutError>();
    let (sender, receiver) = channel(1);
    assert_eq!(format!("{sender:?} {receiver:?}"), "Sender { .. } Receiver { .. }");
    assert_eq!(format!("{:?}", receiver.borrow()), "1");
}

/// Each receiver sees values that only grow, and the last one; whoever is cancelled is missed by
/// nobody.
#[test]
fn a_crowd_watches() {
    const SEED: u64 = 0x3a7c;
    const CHANGES: u64 = 500;
    const GREEN: u64 = 32;
    with_runtimes(|runtime| {
        let (sender, receiver) = channel(0u64);
        let finished = Arc::new(AtomicU64::new(0));
        let body = |stream| {
            let (mut receiver, finished) = (receiver.clone(), Arc::clone(&finished));
            move || {
                let mut random = Random::new(SEED, stream);
                let mut last = 0;
                loop {
                    let closed = match random.below(4) {
                        0 => {
                            let patience = Duration::from_micros(random.below(100));
                            receiver.changed_timeout(patience) == Err(RecvTimeoutError::Closed)
                        }
                        1 => receiver.wait_for(|value| *value > last).is_err(),
                        _ => receiver.changed().is_err(),
                    };
                    let value = *receiver.borrow_and_update();
                    assert!(value >= last, "seed {SEED:#x}");
                    last = value;
                    if closed {
                        break;
                    }
                }
                assert_eq!(last, CHANGES, "seed {SEED:#x}");
                finished.fetch_add(1, Ordering::Relaxed);
            }
        };
        let green: Vec<_> = (0..GREEN).map(|n| runtime.spawn(body(n))).collect();
        let os: Vec<_> = (0..4).map(|n| std::thread::spawn(body(GREEN + n))).collect();
        let victims: Vec<_> = (0..GREEN).map(|n| runtime.spawn(body(1000 + n))).collect();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let sender = sender.clone();
                runtime.spawn(move || {
                    for n in 0..CHANGES / 2 {
                        sender.send_modify(|value| *value += 1);
                        if n % 16 == 0 {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for victim in victims {
            victim.cancel().unwrap();
            if let Err(error) = victim.join() {
                assert!(error.is::<Cancelled>(), "seed {SEED:#x}");
                finished.fetch_add(1, Ordering::Relaxed);
            }
        }
        senders.into_iter().for_each(|thread| thread.join().unwrap());
        let watches = sender.clone();
        let closed = runtime.spawn(move || watches.closed());
        // It is one of the senders, so the receivers learn of the last change and not of the end.
        drop((sender, receiver));
        closed.cancel().unwrap();
        let _ = closed.join();
        green.into_iter().for_each(|thread| thread.join().unwrap());
        os.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(finished.load(Ordering::Relaxed), 2 * GREEN + 4, "seed {SEED:#x}");
    });
}

/// The sender's wait for its receivers to go ends with the last of them, cancelled or not.
#[test]
fn a_sender_waits_for_its_receivers_to_go() {
    with_runtimes(|runtime| {
        let (sender, receiver) = channel(());
        let mut clones = [receiver.clone(), receiver];
        let waits = runtime.spawn(move || sender.closed());
        let receivers = clones.each_mut().map(|receiver| receiver.clone());
        drop(clones);
        let threads = receivers.map(|mut receiver| runtime.spawn(move || receiver.changed()));
        for thread in threads {
            thread.cancel().unwrap();
            assert!(thread.join().is_err());
        }
        waits.join().unwrap();
    });
}
