//! Channels: every message arrives once, and nobody waits beside one.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::channel::{
    Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded,
};
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
    bounded_model("channel::unbounded_two_senders_race_for_the_first_block", 2, || {
        let (sender, receiver) = unbounded();
        let others = [sending(sender.clone(), &[1]), sending(sender, &[2])];
        assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn unbounded_two_receivers_two_messages() {
    bounded_model("channel::unbounded_two_receivers_two_messages", 2, || {
        let (sender, receiver) = unbounded();
        let others = [receiving(&receiver), receiving(&receiver)];
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let received = others.map(|other| other.join().unwrap().unwrap());
        assert_eq!(received.iter().sum::<u32>(), 3);
    });
}

/// One leaves the list, notified or not, while the other relies on being notified.
#[test]
fn unbounded_timeout_beside_a_receiver() {
    bounded_model("channel::unbounded_timeout_beside_a_receiver", 2, || {
        let (sender, receiver) = unbounded();
        let patient = receiving(&receiver);
        let hasty = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv_timeout(Duration::ZERO))
        };
        sender.send(1).unwrap();
        match hasty.join().unwrap() {
            Ok(n) => {
                assert_eq!(n, 1);
                sender.send(2).unwrap();
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
    bounded_model("channel::bounded_two_senders_one_place", 2, || {
        let (sender, receiver) = bounded(1);
        let others = [sending(sender.clone(), &[1]), sending(sender, &[2])];
        assert_eq!(receiver.recv().unwrap() + receiver.recv().unwrap(), 3);
        for other in others {
            other.join().unwrap();
        }
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
