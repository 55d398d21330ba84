//! Selects: each meets one peer at most, and nobody waits beside what is ready.
#![cfg(bine_loom)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc as Unseen;
use std::time::Duration;

use bine_loom_tests::channels::{does, ends};
use bine_loom_tests::{bounded_model, model};
use bine_sync::channel::{
    Receiver, RecvError, Select, Sender, TryRecvError, after, bounded, select_biased, unbounded,
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

/// Chooses what is there to receive, if anything is, and unwinds, which gives it back.
fn chooses_and_unwinds<T>(receiver: &Receiver<T>) {
    // `resume_unwind` is a panic without a message for each execution.
    let panic = AssertUnwindSafe(|| {
        let mut select = Select::new_biased();
        select.recv(receiver);
        let _operation = select.try_select();
        resume_unwind(Box::new("the select"));
    });
    assert!(catch_unwind(panic).is_err());
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
        let (one, two) = (ends(unbounded()), ends(unbounded()));
        let selects = {
            let two = two.clone();
            does(&one, move |_, r1| either(r1, &two.1))
        };
        let waits = does(&two, |_, r2| r2.recv());
        two.0.send(2).unwrap();
        one.0.send(1).unwrap();
        match selects.join().unwrap() {
            Ok(1) => assert_eq!(waits.join().unwrap(), Ok(2)),
            other => {
                assert_eq!(other, Ok(2));
                two.0.send(3).unwrap();
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

#[test]
fn a_place_that_is_reserved_against_a_sender() {
    model("select::a_place_that_is_reserved_against_a_sender", || {
        let ends = ends(bounded(1));
        let other = does(&ends, |s, _| u32::from(s.try_send(2).is_ok()));
        let mine = select_biased! {
            send(ends.0, 1) -> sent => u32::from(sent.is_ok()),
            default => 0,
        };
        assert_eq!(mine + other.join().unwrap(), 1, "there was room for one");
        assert_eq!(ends.1.try_iter().count(), 1);
    });
}

/// There is no message whose end would tell the sender that waits beside the place.
#[test]
fn the_receiver_goes_while_a_place_is_reserved() {
    model("select::the_receiver_goes_while_a_place_is_reserved", || {
        let (s, r) = bounded::<u32>(1);
        let waits = {
            let s = s.clone();
            thread::spawn(move || s.send(2).is_ok())
        };
        let mut select = Select::new_biased();
        select.send(&s);
        let chosen = select.try_select();
        drop(r);
        assert_ne!(waits.join().unwrap(), chosen.is_ok(), "one of the two has the place");
        assert!(chosen.is_err() || chosen.is_ok_and(|it| it.send(&s, 1).is_err()));
    });
}

/// One that only watches wakes up when a partner comes, and keeps nobody waiting.
#[test]
fn a_watcher_beside_a_receiver() {
    bounded_model("select::a_watcher_beside_a_receiver", 2, || {
        let ends = ends(unbounded());
        let watches = does(&ends, |_, r| {
            let mut select = Select::new_biased();
            select.recv(r);
            assert_eq!(select.ready(), 0);
        });
        let waits = does(&ends, |_, r| r.recv());
        ends.0.send(1).unwrap();
        ends.0.send(2).unwrap();
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

/// One that gives up looks once more, and passes on what it was notified of.
#[test]
fn a_timeout_beside_a_receiver() {
    bounded_model("select::a_timeout_beside_a_receiver", 1, || {
        let ends = ends(unbounded());
        let hasty = does(&ends, |_, r| {
            let mut select = Select::new_biased();
            select.recv(r);
            select.select_timeout(Duration::ZERO).is_ok_and(|it| it.recv(r) == Ok(1))
        });
        // So that it takes no preemption for both to wait before there is a message.
        let (tell, told) = mpsc::channel();
        let patient = does(&ends, move |_, r| {
            tell.send(()).unwrap();
            r.recv()
        });
        told.recv().unwrap();
        ends.0.send(1).unwrap();
        if hasty.join().unwrap() {
            ends.0.send(1).unwrap();
        }
        assert_eq!(patient.join().unwrap(), Ok(1));
    });
}

/// A select that is cancelled leaves its notification to the next, or succeeds.
#[test]
fn a_cancellation_beside_a_receiver() {
    bounded_model("select::a_cancellation_beside_a_receiver", 1, || {
        let ends = ends(unbounded());
        let (tell, told) = mpsc::channel();
        let victim = does(&ends, move |_, r| {
            tell.send(Unparker::current()).unwrap();
            let mut select = Select::new_biased();
            select.recv(r);
            // Not `select`, which has nothing to return where it unwinds, and a model returns there.
            select.select_timeout(Duration::ZERO).is_ok_and(|it| it.recv(r) == Ok(1))
        });
        let survivor = does(&ends, |_, r| r.recv());
        cancel(told.recv().unwrap());
        ends.0.send(1).unwrap();
        if victim.join().unwrap() {
            ends.0.send(1).unwrap();
        }
        assert_eq!(survivor.join().unwrap(), Ok(1));
    });
}

/// A message that is reserved, and given back, while another waits for it.
#[test]
fn a_message_that_is_given_back_against_a_receiver() {
    for (name, unlimited) in [("ring", false), ("list", true)] {
        let name = format!("select::a_message_that_is_given_back_against_a_receiver ({name})");
        bounded_model(&name, 2, move || {
            let ends = ends(if unlimited { unbounded() } else { bounded(1) });
            ends.0.send(1).unwrap();
            let waits = does(&ends, |_, r| r.recv());
            chooses_and_unwinds(&ends.1);
            assert_eq!(waits.join().unwrap(), Ok(1));
        });
    }
}

/// The message is in nobody's hands for a while: its sender has gone.
#[test]
fn a_message_that_was_brought_and_is_given_back() {
    bounded_model("select::a_message_that_was_brought_and_is_given_back", 2, || {
        let ends = ends(bounded(0));
        let waits = does(&ends, |_, r| r.recv());
        let sends = does(&ends, |s, _| s.send(1));
        chooses_and_unwinds(&ends.1);
        assert_eq!(waits.join().unwrap(), Ok(1));
        sends.join().unwrap().unwrap();
    });
}

#[test]
fn a_timer_s_message_that_is_given_back() {
    bounded_model("select::a_timer_s_message_that_is_given_back", 2, || {
        let timer = Unseen::new(after(Duration::ZERO));
        let waits = {
            let timer = timer.clone();
            thread::spawn(move || timer.recv())
        };
        chooses_and_unwinds(&timer);
        assert!(waits.join().unwrap().is_ok());
    });
}

/// One who finds as much reserved as can be waits for the other, although there is enough for both.
#[test]
fn two_receive_where_one_can_reserve() {
    for (name, unlimited) in [("ring", false), ("list", true)] {
        let name = format!("select::two_receive_where_one_can_reserve ({name})");
        bounded_model(&name, 2, move || {
            let ends = ends(if unlimited { unbounded() } else { bounded(2) });
            ends.0.send(1).unwrap();
            ends.0.send(2).unwrap();
            let receive = |_: &Sender<u32>, r: &Receiver<u32>| {
                select_biased! { recv(r) -> message => message.unwrap() }
            };
            let other = does(&ends, receive);
            assert_eq!(receive(&ends.0, &ends.1) + other.join().unwrap(), 3);
        });
    }
}

#[test]
fn two_send_where_one_can_reserve() {
    bounded_model("select::two_send_where_one_can_reserve", 2, || {
        let ends = ends(bounded(2));
        let send = |s: &Sender<u32>, _: &Receiver<u32>| {
            select_biased! { send(s, 1) -> sent => sent.unwrap() }
        };
        let other = does(&ends, send);
        send(&ends.0, &ends.1);
        other.join().unwrap();
        assert_eq!(ends.1.try_iter().count(), 2);
    });
}

/// There is a message in one of the two all the time.
#[test]
fn a_message_that_moves_against_a_look() {
    model("select::a_message_that_moves_against_a_look", || {
        let (one, two) = (ends(unbounded()), ends(unbounded()));
        two.0.send(2).unwrap();
        let moves = {
            let one = one.clone();
            does(&two, move |_, r2| {
                one.0.send(1).unwrap();
                r2.try_recv().is_ok()
            })
        };
        let seen = select_biased! {
            recv(one.1) -> message => message.unwrap(),
            recv(two.1) -> message => message.unwrap(),
            default => 0,
        };
        assert_ne!(seen, 0, "there was a message");
        assert_eq!(moves.join().unwrap(), seen == 1);
    });
}

/// A select is claimed by one who brings its message only when another has got what the select was
/// notified of.
#[test]
fn a_peer_that_takes_its_time() {
    bounded_model("select::a_peer_that_takes_its_time", 1, || {
        let (slow, fast) = (ends(bounded(0)), ends(unbounded()));
        let selects = {
            let fast = fast.clone();
            does(&slow, move |_, r| either(r, &fast.1).unwrap())
        };
        // So that it takes no preemption for both to wait before there is a message.
        let (tell, told) = mpsc::channel();
        let waits = does(&fast, move |_, r| {
            tell.send(()).unwrap();
            r.recv().unwrap()
        });
        told.recv().unwrap();
        fast.0.send(1).unwrap();
        let mut waits = Some(waits);
        let mut received = 0;
        select_biased! {
            send(slow.0, {
                received = waits.take().unwrap().join().unwrap();
                4
            }) -> sent => sent.unwrap(),
            default => fast.0.send(2).unwrap(),
        }
        received += waits.map_or(0, |waits| waits.join().unwrap());
        let sum = received + selects.join().unwrap();
        assert!(sum == 3 || sum == 5, "each has got one of those that were sent");
    });
}
