//! Channels for one message, for a value, and for all: what is told reaches those who wait.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::oneshot::{self, RecvTimeoutError};
use bine_sync::{broadcast, watch};
use loom::cell::UnsafeCell;
use loom::thread;

/// A message whose accesses loom watches.
#[derive(Debug)]
struct Message(Arc<UnsafeCell<u32>>);

// SAFETY: loom checks that those who read come after the one who wrote.
unsafe impl Send for Message {}
// SAFETY: as above.
unsafe impl Sync for Message {}

impl Message {
    fn new(number: u32) -> Self {
        Self(Arc::new(UnsafeCell::new(number)))
    }

    fn number(&self) -> u32 {
        // SAFETY: loom checks it.
        self.0.with(|number| unsafe { *number })
    }
}

impl Clone for Message {
    fn clone(&self) -> Self {
        Self::new(self.number())
    }
}

#[test]
fn a_message_against_its_receiver() {
    model("oneshot::a_message_against_its_receiver", || {
        let (sender, receiver) = oneshot::channel();
        let sends = thread::spawn(move || sender.send(Message::new(7)).unwrap());
        assert_eq!(receiver.recv().unwrap().number(), 7);
        sends.join().unwrap();
    });
}

#[test]
fn a_sender_that_goes() {
    model("oneshot::a_sender_that_goes", || {
        let (sender, receiver) = oneshot::channel::<Message>();
        let goes = thread::spawn(move || drop(sender));
        assert!(receiver.recv().is_err());
        goes.join().unwrap();
    });
}

#[test]
fn a_message_against_a_receiver_that_gives_up() {
    model("oneshot::a_message_against_a_receiver_that_gives_up", || {
        let (sender, mut receiver) = oneshot::channel();
        let sends =
            thread::spawn(move || sender.send(Message::new(7)).map_err(|message| message.number()));
        let received = receiver.recv_timeout(Duration::ZERO).map(|message| message.number());
        assert!(matches!(received, Ok(7) | Err(RecvTimeoutError::Timeout)));
        drop(receiver);
        let sent = sends.join().unwrap();
        assert!(matches!(sent, Ok(()) | Err(7)));
        assert!(received.is_err() || sent.is_ok());
    });
}

#[test]
fn a_sender_waits_for_its_receiver_to_go() {
    model("oneshot::a_sender_waits_for_its_receiver_to_go", || {
        let (mut sender, receiver) = oneshot::channel::<Message>();
        let goes = thread::spawn(move || drop(receiver));
        sender.closed();
        assert!(sender.send(Message::new(7)).is_err());
        goes.join().unwrap();
    });
}

#[test]
fn a_change_against_one_who_waits() {
    bounded_model("watch::a_change_against_one_who_waits", 2, || {
        let (sender, mut receiver) = watch::channel(Message::new(0));
        let waits = thread::spawn(move || {
            let mut last = 0;
            while receiver.changed().is_ok() {
                let number = receiver.borrow_and_update().number();
                assert!(number > last);
                last = number;
            }
            last
        });
        sender.send(Message::new(1)).unwrap();
        sender.send(Message::new(2)).unwrap();
        drop(sender);
        assert_eq!(waits.join().unwrap(), 2);
    });
}

#[test]
fn receivers_that_go() {
    model("watch::receivers_that_go", || {
        let (sender, receiver) = watch::channel(());
        let other = receiver.clone();
        let goes = [receiver, other].map(|receiver| thread::spawn(move || drop(receiver)));
        sender.closed();
        assert_eq!(sender.receiver_count(), 0);
        for thread in goes {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_message_against_two_receivers() {
    bounded_model("broadcast::a_message_against_two_receivers", 2, || {
        let (sender, receiver) = broadcast::channel::<Message>(2);
        let other = receiver.resubscribe();
        let receives = [receiver, other].map(|mut receiver| {
            thread::spawn(move || {
                assert_eq!(receiver.recv().unwrap().number(), 7);
                assert!(receiver.recv().is_err());
            })
        });
        assert_eq!(sender.send(Message::new(7)).unwrap(), 2);
        drop(sender);
        for thread in receives {
            thread.join().unwrap();
        }
    });
}

/// A receiver goes while messages come that are for it too: none stays for nobody.
#[test]
fn a_receiver_that_goes() {
    bounded_model("broadcast::a_receiver_that_goes", 2, || {
        let (sender, receiver) = broadcast::channel::<Message>(2);
        let mut stays = receiver.resubscribe();
        let goes = thread::spawn(move || drop(receiver));
        sender.send(Message::new(1)).unwrap();
        assert_eq!(stays.recv().unwrap().number(), 1);
        goes.join().unwrap();
        assert!(sender.is_empty());
    });
}
