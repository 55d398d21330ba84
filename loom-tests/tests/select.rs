//! Selects: each meets one peer at most, and nobody waits beside what is ready.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_sync::channel::{
    Receiver, RecvError, Select, Sender, TryRecvError, bounded, select_biased, unbounded,
};
use bine_sync::{Unparker, cancel};
use loom::sync::mpsc;
use loom::thread::{self, JoinHandle};

/// Takes the first message of either.
fn either(a: &Receiver<u32>, b: &Receiver<u32>) -> Result<u32, RecvError> {
    select_biased! {
        recv(a) -> message => message,
        recv(b) -> message => message,
    }
}

fn sends(sender: &Sender<u32>, message: u32) -> JoinHandle<()> {
    let sender = sender.clone();
    thread::spawn(move || sender.send(message).unwrap())
}

fn selects(a: &Receiver<u32>, b: &Receiver<u32>) -> JoinHandle<Result<u32, RecvError>> {
    let (a, b) = (a.clone(), b.clone());
    thread::spawn(move || either(&a, &b))
}

#[test]
fn select_against_senders_with_room() {
    bounded_model("select::select_against_senders_with_room", 2, || {
        let ((s1, r1), (s2, r2)) = (unbounded(), bounded(1));
        let others = [sends(&s1, 1), sends(&s2, 2)];
        let sum = either(&r1, &r2).unwrap() + either(&r1, &r2).unwrap();
        assert_eq!(sum, 3);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn select_against_two_senders_that_meet_it() {
    bounded_model("select::select_against_two_senders_that_meet_it", 2, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let others = [sends(&s1, 1), sends(&s2, 2)];
        let sum = either(&r1, &r2).unwrap() + either(&r1, &r2).unwrap();
        assert_eq!(sum, 3);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// Two selects are both sides of two channels: they meet in one of them.
#[test]
fn two_selects_meet_each_other() {
    bounded_model("select::two_selects_meet_each_other", 2, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let other = {
            let (s1, r2) = (s1.clone(), r2.clone());
            thread::spawn(move || {
                select_biased! {
                    send(s1, 1) -> sent => { sent.unwrap(); 0 }
                    recv(r2) -> message => message.unwrap(),
                }
            })
        };
        let received = select_biased! {
            send(s2, 2) -> sent => { sent.unwrap(); 0 }
            recv(r1) -> message => message.unwrap(),
        };
        let sum = other.join().unwrap() + received;
        assert!(sum == 1 || sum == 2, "one message was sent and received");
    });
}

#[test]
fn two_selects_and_themselves() {
    bounded_model("select::two_selects_and_themselves", 2, || {
        let (s, r) = bounded(0);
        let both = |s: &Sender<u32>, r: &Receiver<u32>, n| {
            select_biased! {
                send(s, n) -> sent => { sent.unwrap(); 0 }
                recv(r) -> message => message.unwrap(),
            }
        };
        let other = {
            let (s, r) = (s.clone(), r.clone());
            thread::spawn(move || both(&s, &r, 1))
        };
        let sum = both(&s, &r, 2) + other.join().unwrap();
        assert!(sum == 1 || sum == 2, "one message was sent and received");
    });
}

/// The message is there if and only if the send says so.
#[test]
fn a_timeout_against_try_send() {
    model("select::a_timeout_against_try_send", || {
        let (s, r) = bounded(0);
        let other = thread::spawn(move || s.try_send(1).is_ok());
        let mut select = Select::new_biased();
        select.recv(&r);
        let received = match select.select_timeout(Duration::ZERO) {
            Ok(operation) => operation.recv(&r) == Ok(1),
            Err(_) => false,
        };
        assert_eq!(other.join().unwrap(), received);
    });
}

/// A receiver that has been claimed gives up; the sender that claimed it does not send.
#[test]
fn a_claim_that_is_given_back_against_a_timeout() {
    model("select::a_claim_that_is_given_back_against_a_timeout", || {
        let (s, r) = bounded::<u32>(0);
        let other = thread::spawn(move || r.recv_timeout(Duration::ZERO).is_ok());
        let never_sends = || -> Option<()> {
            select_biased! {
                send(s, None?) -> sent => sent.ok(),
                default => None,
            }
        };
        assert_eq!(never_sends(), None);
        assert!(!other.join().unwrap());
    });
}

#[test]
fn a_claim_that_is_sent_against_a_timeout() {
    model("select::a_claim_that_is_sent_against_a_timeout", || {
        let (s, r) = bounded::<u32>(0);
        let other = thread::spawn(move || r.recv_timeout(Duration::ZERO).is_ok());
        let sent = select_biased! {
            send(s, 1) -> sent => sent.is_ok(),
            default => false,
        };
        assert_eq!(other.join().unwrap(), sent);
    });
}

/// Notified by both channels, it takes from one: the other's notification is passed on.
#[test]
fn a_notification_that_a_select_does_not_use() {
    bounded_model("select::a_notification_that_a_select_does_not_use", 1, || {
        let ((s1, r1), (s2, r2)) = (unbounded(), unbounded());
        let selects = selects(&r1, &r2);
        let waits = {
            let r2 = r2.clone();
            thread::spawn(move || r2.recv())
        };
        s2.send(2).unwrap();
        s1.send(1).unwrap();
        match selects.join().unwrap() {
            Ok(1) => assert_eq!(waits.join().unwrap(), Ok(2)),
            other => {
                assert_eq!(other, Ok(2));
                s2.send(3).unwrap();
                assert_eq!(waits.join().unwrap(), Ok(3));
            }
        }
    });
}

/// A message that is reserved, and given back, while another waits for it.
#[test]
fn a_reservation_against_a_receiver() {
    for (name, unlimited) in [("ring", false), ("list", true)] {
        let name = format!("select::a_reservation_against_a_receiver ({name})");
        bounded_model(&name, 2, move || {
            let (s, r) = if unlimited { unbounded() } else { bounded(1) };
            s.send(1).unwrap();
            let waits = {
                let r = r.clone();
                thread::spawn(move || r.recv())
            };
            let mut select = Select::new_biased();
            select.recv(&r);
            let received = match select.try_select() {
                // Completed, it was this thread's; then there is another.
                Ok(operation) => {
                    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
                    assert_eq!(operation.recv(&r), Ok(1));
                    s.send(2).unwrap();
                    2
                }
                Err(_) => 1,
            };
            assert_eq!(waits.join().unwrap(), Ok(received));
        });
    }
}

#[test]
fn a_place_that_is_given_back_against_a_sender() {
    bounded_model("select::a_place_that_is_given_back_against_a_sender", 2, || {
        let (s, r) = bounded::<u32>(1);
        let waits = sends(&s, 1);
        let never_sends = || -> Option<()> {
            select_biased! {
                send(s, None?) -> sent => sent.ok(),
                default => None,
            }
        };
        assert_eq!(never_sends(), None);
        waits.join().unwrap();
        assert_eq!(r.try_recv(), Ok(1));
    });
}

/// One that only watches wakes up when a partner comes, and keeps nobody waiting.
#[test]
fn a_watcher_beside_a_receiver() {
    bounded_model("select::a_watcher_beside_a_receiver", 2, || {
        let (s, r) = unbounded();
        let watches = {
            let r = r.clone();
            thread::spawn(move || {
                let mut select = Select::new_biased();
                select.recv(&r);
                assert_eq!(select.ready(), 0);
            })
        };
        let waits = {
            let r = r.clone();
            thread::spawn(move || r.recv())
        };
        s.send(1).unwrap();
        s.send(2).unwrap();
        assert!(waits.join().unwrap().is_ok());
        watches.join().unwrap();
    });
}

#[test]
fn a_watcher_of_a_meeting() {
    model("select::a_watcher_of_a_meeting", || {
        let (s, r) = bounded(0);
        let sends = sends(&s, 1);
        let mut select = Select::new_biased();
        select.recv(&r);
        assert_eq!(select.ready(), 0);
        assert_eq!(r.recv(), Ok(1));
        sends.join().unwrap();
    });
}

#[test]
fn the_last_sender_goes() {
    model("select::the_last_sender_goes", || {
        let ((s1, r1), (_s2, r2)) = (bounded(0), unbounded());
        let other = thread::spawn(move || drop(s1));
        assert_eq!(either(&r1, &r2), Err(RecvError));
        other.join().unwrap();
    });
}

/// A select that is cancelled leaves its notification to the next, or succeeds.
#[test]
fn a_cancellation_beside_a_receiver() {
    bounded_model("select::a_cancellation_beside_a_receiver", 1, || {
        let (s, r) = unbounded();
        let (tell, told) = mpsc::channel();
        let victim = {
            let r = r.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                let mut select = Select::new_biased();
                select.recv(&r);
                // A deadline stands for the unwinding, which a model does not do.
                select.select_timeout(Duration::ZERO).is_ok_and(|it| it.recv(&r) == Ok(1))
            })
        };
        let survivor = {
            let r = r.clone();
            thread::spawn(move || r.recv())
        };
        cancel(told.recv().unwrap());
        s.send(1).unwrap();
        if victim.join().unwrap() {
            s.send(1).unwrap();
        }
        assert_eq!(survivor.join().unwrap(), Ok(1));
    });
}
