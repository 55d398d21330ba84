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

/// What receivers did before they went is there for one who has waited for that.
#[test]
fn receivers_that_go() {
    model("watch::receivers_that_go", || {
        let (sender, receiver) = watch::channel(());
        let news = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
        let other = receiver.clone();
        let goes = [(0, receiver), (1, other)].map(|(n, receiver)| {
            let news = news.clone();
            thread::spawn(move || {
                // SAFETY: loom checks it.
                news[n].with_mut(|news| unsafe { *news = 7 });
                drop(receiver);
            })
        });
        sender.closed();
        assert_eq!(sender.receiver_count(), 0);
        for news in &*news {
            // SAFETY: as above.
            assert_eq!(news.with(|news| unsafe { *news }), 7);
        }
        for thread in goes {
            thread.join().unwrap();
        }
    });
}

/// The sender stays, so that it is the change that wakes the receiver.
#[test]
fn a_change_of_a_sender_that_stays() {
    model("watch::a_change_of_a_sender_that_stays", || {
        let (sender, mut receiver) = watch::channel(Message::new(0));
        let waits = thread::spawn(move || {
            receiver.changed().unwrap();
            receiver.borrow_and_update().number()
        });
        sender.send(Message::new(1)).unwrap();
        assert_eq!(waits.join().unwrap(), 1);
    });
}

/// One sees that it has failed, and what the other did before it went.
#[test]
fn a_sender_that_comes_too_late() {
    model("oneshot::a_sender_that_comes_too_late", || {
        let (sender, receiver) = oneshot::channel();
        let news = Arc::new(UnsafeCell::new(0));
        let goes = {
            let news = news.clone();
            thread::spawn(move || {
                // SAFETY: loom checks it.
                news.with_mut(|news| unsafe { *news = 7 });
                drop(receiver);
            })
        };
        if sender.send(Message::new(1)).is_err() {
            // SAFETY: as above.
            assert_eq!(news.with(|news| unsafe { *news }), 7);
        }
        goes.join().unwrap();
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

/// The sender stays, so that it is the message that wakes both.
#[test]
fn a_message_of_a_sender_that_stays() {
    bounded_model("broadcast::a_message_of_a_sender_that_stays", 2, || {
        let (sender, receiver) = broadcast::channel::<Message>(1);
        let other = receiver.resubscribe();
        let receives = [receiver, other]
            .map(|mut receiver| thread::spawn(move || receiver.recv().unwrap().number()));
        assert_eq!(sender.send(Message::new(7)).unwrap(), 2);
        for thread in receives {
            assert_eq!(thread.join().unwrap(), 7);
        }
        assert!(sender.is_empty());
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
