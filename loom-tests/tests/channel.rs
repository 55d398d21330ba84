//! Channels: every message arrives once, and nobody waits beside one.
#![cfg(bine_loom)]

use std::sync::Arc as Unseen;
use std::time::Duration;

use bine_loom_tests::channels::{does, ends};
use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::channel::{
    Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, after, bounded, unbounded,
};
use bine_sync::mpsc;
use loom::thread::{self, JoinHandle};

fn sending(sender: Sender<u32>, messages: &'static [u32]) -> JoinHandle<()> {
    thread::spawn(move || messages.iter().for_each(|n| sender.send(*n).unwrap()))
}

fn receiving(receiver: &Receiver<u32>) -> JoinHandle<Result<u32, RecvError>> {
    let receiver = receiver.clone();
    thread::spawn(move || receiver.recv())
}

#[test]
fn unbounded_send_against_recv() {
    model("channel::unbounded_send_against_recv", || {
        let (sender, receiver) = unbounded();
        let other = sending(sender, &[1]);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError));
        other.join().unwrap();
    });
}

/// Blocks have two slots in a model.
#[test]
fn unbounded_over_two_blocks() {
    model("channel::unbounded_over_two_blocks", || {
        let (sender, receiver) = unbounded();
        let other = sending(sender, &[1, 2, 3]);
        for n in 1..=3 {
            assert_eq!(receiver.recv(), Ok(n));
        }
        other.join().unwrap();
    });
}

#[test]
fn unbounded_two_senders_race_for_the_first_block() {
    model("channel::unbounded_two_senders_race_for_the_first_block", || {
        let ends = ends(unbounded());
        let other = does(&ends, |sender, _| sender.send(1).unwrap());
        ends.0.send(2).unwrap();
        assert_eq!(ends.1.try_recv().unwrap() + ends.1.recv().unwrap(), 3);
        other.join().unwrap();
    });
}

#[test]
fn unbounded_two_senders_at_the_end_of_a_block() {
    model("channel::unbounded_two_senders_at_the_end_of_a_block", || {
        let ends = ends(unbounded());
        ends.0.send(1).unwrap();
        let other = does(&ends, |sender, _| sender.send(2).unwrap());
        ends.0.send(4).unwrap();
        let (first, second) = (ends.1.try_recv().unwrap(), ends.1.try_recv().unwrap());
        assert_eq!(first + second + ends.1.recv().unwrap(), 7);
        other.join().unwrap();
    });
}

#[test]
fn unbounded_two_receivers_at_the_end_of_a_block() {
    bounded_model("channel::unbounded_two_receivers_at_the_end_of_a_block", 2, || {
        let ends = ends(unbounded());
        for n in [1, 2, 4, 8] {
            ends.0.send(n).unwrap();
        }
        let take_two = |_: &Sender<u32>, receiver: &Receiver<u32>| {
            receiver.try_recv().unwrap() + receiver.try_recv().unwrap()
        };
        let other = does(&ends, take_two);
        let sum = take_two(&ends.0, &ends.1);
        assert_eq!(sum + other.join().unwrap(), 15);
        assert_eq!(ends.1.try_recv(), Err(TryRecvError::Empty));
    });
}

/// Two have read a block, and a sender writes to it again.
#[test]
fn unbounded_a_block_is_used_again() {
    bounded_model("channel::unbounded_a_block_is_used_again", 2, || {
        let ends = ends(unbounded());
        for n in [1, 2, 4] {
            ends.0.send(n).unwrap();
        }
        let others = [0, 1].map(|_| does(&ends, |_, receiver| receiver.try_recv().unwrap()));
        ends.0.send(8).unwrap();
        ends.0.send(16).unwrap();
        let received: u32 = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(received + ends.1.try_iter().sum::<u32>(), 31);
    });
}

/// `wait_list` has this with more preemptions.
#[test]
fn unbounded_two_receivers_two_messages() {
    bounded_model("channel::unbounded_two_receivers_two_messages", 1, || {
        let ends = ends(unbounded());
        let others = [0, 1].map(|_| does(&ends, |_, receiver| receiver.recv().unwrap()));
        ends.0.send(1).unwrap();
        ends.0.send(2).unwrap();
        assert_eq!(others.map(|other| other.join().unwrap()).iter().sum::<u32>(), 3);
    });
}

/// One leaves the list, notified or not, while the other relies on being notified. `wait_list` has this
/// with more preemptions.
#[test]
fn unbounded_timeout_beside_a_receiver() {
    bounded_model("channel::unbounded_timeout_beside_a_receiver", 1, || {
        let ends = ends(unbounded());
        let patient = does(&ends, |_, receiver| receiver.recv());
        let hasty = does(&ends, |_, receiver| receiver.recv_timeout(Duration::ZERO));
        ends.0.send(1).unwrap();
        match hasty.join().unwrap() {
            Ok(n) => {
                assert_eq!(n, 1);
                ends.0.send(2).unwrap();
                assert_eq!(patient.join().unwrap(), Ok(2));
            }
            Err(error) => {
                assert_eq!(error, RecvTimeoutError::Timeout);
                assert_eq!(patient.join().unwrap(), Ok(1));
            }
        }
    });
}

#[test]
fn unbounded_last_sender_goes() {
    model("channel::unbounded_last_sender_goes", || {
        let (sender, receiver) = unbounded();
        let others = [receiving(&receiver), receiving(&receiver)];
        drop(sender);
        for other in others {
            assert_eq!(other.join().unwrap(), Err(RecvError));
        }
    });
}

#[test]
fn unbounded_last_receiver_goes() {
    model("channel::unbounded_last_receiver_goes", || {
        let (sender, receiver) = unbounded();
        let message = Arc::new(());
        let sent = message.clone();
        let other = thread::spawn(move || sender.send(sent).is_ok());
        drop(receiver);
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&message), 1, "sent or not, the message is gone");
    });
}

#[test]
fn bounded_send_against_recv() {
    model("channel::bounded_send_against_recv", || {
        let (sender, receiver) = bounded(1);
        let other = sending(sender, &[1]);
        assert_eq!(receiver.recv(), Ok(1));
        other.join().unwrap();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    });
}

#[test]
fn bounded_full_against_recv() {
    model("channel::bounded_full_against_recv", || {
        let (sender, receiver) = bounded(1);
        let other = sending(sender, &[1, 2]);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Ok(2));
        other.join().unwrap();
    });
}

#[test]
fn bounded_two_senders_one_place() {
    bounded_model("channel::bounded_two_senders_one_place", 1, || {
        let ends = ends(bounded(1));
        let others = [1, 2].map(|n| does(&ends, move |sender, _| sender.send(n).unwrap()));
        assert_eq!(ends.1.recv().unwrap() + ends.1.recv().unwrap(), 3);
        for other in others {
            other.join().unwrap();
        }
    });
}

/// Nobody waits: all that is there is the ring.
#[test]
fn bounded_two_senders_and_two_receivers_that_only_try() {
    bounded_model("channel::bounded_two_senders_and_two_receivers_that_only_try", 2, || {
        let ends = ends(bounded(2));
        ends.0.send(1).unwrap();
        let sends = does(&ends, |sender, _| sender.try_send(2).map_or(0, |()| 2));
        let receives = does(&ends, |_, receiver| receiver.try_recv().unwrap());
        let mut sent = ends.0.try_send(4).map_or(0, |()| 4);
        let mut received = ends.1.try_recv().unwrap_or(0);
        sent += sends.join().unwrap();
        assert!(sent > 0, "there was room for one at least");
        received += receives.join().unwrap();
        assert_eq!(received + ends.1.try_iter().sum::<u32>(), 1 + sent);
    });
}

/// The other never has more than one of the two places, so that a sender must not be told of a full
/// channel, however old what it knows of the other's going round.
#[test]
fn bounded_a_place_that_is_there_all_the_time() {
    model("channel::bounded_a_place_that_is_there_all_the_time", || {
        let ends = ends(bounded(2));
        let other = does(&ends, |sender, receiver| {
            for n in [1, 2] {
                sender.try_send(n).unwrap();
                receiver.try_recv().unwrap();
            }
        });
        assert_eq!(ends.0.try_send(4), Ok(()));
        other.join().unwrap();
        assert_eq!(ends.1.try_iter().count(), 1);
    });
}

/// The ring goes round, with room for one and for more.
#[test]
fn bounded_three_messages_one_after_the_other() {
    for capacity in [1, 2] {
        let name = format!("channel::bounded_three_messages_one_after_the_other ({capacity})");
        bounded_model(&name, 2, move || {
            let (sender, receiver) = bounded(capacity);
            let other = sending(sender, &[1, 2, 3]);
            for n in 1..=3 {
                assert_eq!(receiver.recv(), Ok(n));
            }
            other.join().unwrap();
        });
    }
}

/// A sender gives up while another relies on being woken for the place.
#[test]
fn bounded_timeout_beside_a_sender() {
    bounded_model("channel::bounded_timeout_beside_a_sender", 1, || {
        let ends = ends(bounded(1));
        ends.0.send(1).unwrap();
        let patient = does(&ends, |sender, _| sender.send(2).unwrap());
        let hasty = does(&ends, |sender, _| sender.send_timeout(4, Duration::ZERO).is_ok());
        let mut sum = ends.1.recv().unwrap();
        let sent = hasty.join().unwrap();
        if sent {
            sum += ends.1.recv().unwrap();
        }
        patient.join().unwrap();
        sum += ends.1.try_iter().sum::<u32>();
        assert_eq!(sum, if sent { 7 } else { 3 });
    });
}

#[test]
fn bounded_last_sender_goes() {
    model("channel::bounded_last_sender_goes", || {
        let (sender, receiver) = bounded(1);
        let other = receiving(&receiver);
        drop(sender);
        assert_eq!(other.join().unwrap(), Err(RecvError));
    });
}

#[test]
fn bounded_full_and_the_receiver_goes() {
    model("channel::bounded_full_and_the_receiver_goes", || {
        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        let other = thread::spawn(move || sender.send(2).unwrap_err().into_inner());
        drop(receiver);
        assert_eq!(other.join().unwrap(), 2);
    });
}

#[test]
fn rendezvous_meets() {
    model("channel::rendezvous_meets", || {
        let (sender, receiver) = bounded(0);
        let other = sending(sender, &[1, 2]);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Ok(2));
        other.join().unwrap();
        assert_eq!(receiver.recv(), Err(RecvError));
    });
}

#[test]
fn rendezvous_two_senders() {
    model("channel::rendezvous_two_senders", || {
        let (sender, receiver) = bounded(0);
        let others = [sending(sender.clone(), &[1]), sending(sender, &[2])];
        assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn rendezvous_timeout_against_send() {
    model("channel::rendezvous_timeout_against_send", || {
        let (sender, receiver) = bounded(0);
        let other = thread::spawn(move || sender.send_timeout(1, Duration::ZERO).is_ok());
        let received = receiver.recv_timeout(Duration::ZERO).is_ok();
        assert_eq!(other.join().unwrap(), received);
    });
}

#[test]
fn rendezvous_receiver_goes() {
    model("channel::rendezvous_receiver_goes", || {
        let (sender, receiver) = bounded(0);
        let other = thread::spawn(move || sender.send(1).unwrap_err().into_inner());
        drop(receiver);
        assert_eq!(other.join().unwrap(), 1);
    });
}

#[test]
fn rendezvous_sender_goes() {
    model("channel::rendezvous_sender_goes", || {
        let (sender, receiver) = bounded(0);
        let other = receiving(&receiver);
        drop(sender);
        assert_eq!(other.join().unwrap(), Err(RecvError));
    });
}

#[test]
fn rendezvous_timeout_beside_a_receiver() {
    bounded_model("channel::rendezvous_timeout_beside_a_receiver", 2, || {
        let ends = ends(bounded(0));
        let patient = does(&ends, |_, receiver| receiver.recv().unwrap());
        let hasty = does(&ends, |_, receiver| receiver.recv_timeout(Duration::ZERO).unwrap_or(0));
        ends.0.send(1).unwrap();
        let received = hasty.join().unwrap();
        if received == 1 {
            ends.0.send(2).unwrap();
        }
        assert_eq!(patient.join().unwrap() + received, if received == 1 { 3 } else { 1 });
    });
}

/// Its one message is for one of them.
#[test]
fn a_timer_and_two_receivers() {
    bounded_model("channel::a_timer_and_two_receivers", 2, || {
        let timer = Unseen::new(after(Duration::ZERO));
        let other = {
            let timer = timer.clone();
            thread::spawn(move || timer.try_recv().is_ok())
        };
        let mine = timer.recv_timeout(Duration::ZERO).is_ok();
        assert!(mine != other.join().unwrap(), "one of the two has it");
    });
}

#[test]
fn mpsc_rendezvous() {
    model("channel::mpsc_rendezvous", || {
        let (sender, receiver) = mpsc::sync_channel(0);
        let other = thread::spawn(move || sender.send(1).unwrap());
        assert_eq!(receiver.recv(), Ok(1));
        assert!(receiver.recv().is_err());
        other.join().unwrap();
    });
}

#[test]
fn mpsc_timeout_against_a_sender_that_goes() {
    model("channel::mpsc_timeout_against_a_sender_that_goes", || {
        let (sender, receiver) = mpsc::channel();
        let other = thread::spawn(move || sender.send(1).unwrap());
        match receiver.recv_timeout(Duration::ZERO) {
            Ok(message) => assert_eq!(message, 1),
            Err(error) => {
                assert_eq!(error, mpsc::RecvTimeoutError::Timeout);
                assert_eq!(receiver.recv(), Ok(1));
            }
        }
        assert!(receiver.recv().is_err());
        other.join().unwrap();
    });
}
