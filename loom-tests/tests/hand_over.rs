//! Messages that are handed over: each arrives once, whatever else ends the wait of its receiver, and
//! nobody who waits relies on a receiver that has got another.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_sync::channel::{Receiver, RecvError, Sender, TryRecvError, bounded, unbounded};
use bine_sync::{Unparker, cancel};
use loom::sync::mpsc;
use loom::thread::{self, JoinHandle};

type Channel = fn() -> (Sender<u32>, Receiver<u32>);

/// Channels with a list of waiters.
const CHANNELS: [(&str, Channel); 2] = [("ring", || bounded(1)), ("list", unbounded)];

fn receiving(receiver: &Receiver<u32>) -> JoinHandle<Result<u32, RecvError>> {
    let receiver = receiver.clone();
    thread::spawn(move || receiver.recv())
}

/// The channel stays connected.
fn sending(sender: &Sender<u32>, messages: &'static [u32]) -> JoinHandle<()> {
    let sender = sender.clone();
    thread::spawn(move || messages.iter().for_each(|n| sender.send(*n).unwrap()))
}

/// The message is the thread's, or still there.
fn arrived_once(got: bool, receiver: &Receiver<u32>) {
    let left = if got { Err(TryRecvError::Empty) } else { Ok(1) };
    assert_eq!(receiver.try_recv(), left);
}

#[test]
fn a_timeout_against_a_hand_over() {
    for (name, channel) in CHANNELS {
        model(&format!("hand_over::a_timeout_against_a_hand_over ({name})"), move || {
            let (sender, receiver) = channel();
            let hasty = {
                let receiver = receiver.clone();
                thread::spawn(move || receiver.recv_timeout(Duration::ZERO) == Ok(1))
            };
            sender.send(1).unwrap();
            arrived_once(hasty.join().unwrap(), &receiver);
        });
    }
}

#[test]
fn a_cancellation_against_a_hand_over() {
    for (name, channel) in CHANNELS {
        let name = format!("hand_over::a_cancellation_against_a_hand_over ({name})");
        bounded_model(&name, 2, move || {
            let (sender, receiver) = channel();
            let (tell, told) = mpsc::channel();
            let victim = {
                let receiver = receiver.clone();
                thread::spawn(move || {
                    tell.send(Unparker::current()).unwrap();
                    // An error stands for the unwinding, which a model does not do.
                    receiver.recv() == Ok(1)
                })
            };
            let victims = told.recv().unwrap();
            let canceller = thread::spawn(move || cancel(victims));
            sender.send(1).unwrap();
            canceller.join().unwrap();
            arrived_once(victim.join().unwrap(), &receiver);
        });
    }
}

/// The second sender finds the receiver gone that the first has handed its message to.
#[test]
fn a_hand_over_against_a_second_sender() {
    for (name, channel) in CHANNELS {
        let name = format!("hand_over::a_hand_over_against_a_second_sender ({name})");
        bounded_model(&name, 1, move || {
            let (sender, receiver) = channel();
            let receives = receiving(&receiver);
            let sends = sending(&sender, &[1]);
            sender.send(2).unwrap();
            let first = receives.join().unwrap().unwrap();
            assert_eq!(receiver.recv(), Ok(3 - first));
            sends.join().unwrap();
        });
    }
}

/// One of two gets a message in its frame; the next message stays in the channel, for that one is on its
/// way, and has to look after it.
#[test]
fn a_hand_over_while_another_waits() {
    bounded_model("hand_over::a_hand_over_while_another_waits", 0, || {
        let (sender, receiver) = unbounded();
        // In this order: both wait before anything is sent then, if nothing is preempted.
        let others = [receiving(&receiver), receiving(&receiver)];
        let sends = sending(&sender, &[1, 2]);
        let received = others.map(|other| other.join().unwrap().unwrap());
        assert_eq!(received.iter().sum::<u32>(), 3);
        sends.join().unwrap();
    });
}
