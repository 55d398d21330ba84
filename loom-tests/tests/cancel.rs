//! Cancellation: a thread that is cancelled leaves its wait, and nothing that was meant for it is
//! lost with it.
#![cfg(bine_loom)]

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Commit, Requests, Token, Unpark};
use bine_sync::wait_queue::{Outcome, wait, wake_one};
use bine_sync::{Unparker, cancel};
use loom::sync::mpsc;
use loom::thread;

/// A green thread's word and token. It runs on whichever OS thread has the right to run it.
struct Green {
    requests: Requests,
    token: Token,
    /// What it waits for.
    sent: AtomicU32,
    /// Written by who cancels, before that.
    reason: UnsafeCell<u32>,
    /// How it ended: 1 cancelled, 2 with what it waited for.
    ended: AtomicU32,
}

// SAFETY: the cell is the model's claim: the word hands it over. loom checks it.
unsafe impl Sync for Green {}
// SAFETY: as above.
unsafe impl Send for Green {}

const CANCELLED: u8 = 1;

impl Green {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: Requests::new(0),
            token: Token::new(),
            sent: AtomicU32::new(0),
            reason: UnsafeCell::new(0),
            ended: AtomicU32::new(0),
        })
    }

    /// The loop of an operation around `wait::park`.
    fn run(&self) {
        loop {
            if self.sent.load(Ordering::Relaxed) == 1 {
                return self.ended.store(2, Ordering::Relaxed);
            }
            if self.requests.any() {
                assert!(self.requests.asks(CANCELLED));
                // SAFETY: written before the thread was cancelled.
                self.reason.with(|reason| assert_eq!(unsafe { *reason }, 7));
                return self.ended.store(1, Ordering::Relaxed);
            }
            if !self.token.try_consume() && self.token.commit_park() == Commit::Parked {
                return;
            }
        }
    }

    fn unpark(&self) {
        if self.token.unpark() == Unpark::Schedule {
            self.run();
        }
    }

    fn cancel(&self) {
        // SAFETY: one cancels.
        self.reason.with_mut(|reason| unsafe { *reason = 7 });
        self.requests.ask(CANCELLED);
        self.unpark();
    }
}

fn runs(green: &Arc<Green>) -> thread::JoinHandle<()> {
    let green = green.clone();
    thread::spawn(move || green.run())
}

#[test]
fn cancel_against_park() {
    model("cancel::cancel_against_park", || {
        let green = Green::new();
        let worker = runs(&green);
        green.cancel();
        worker.join().unwrap();
        assert_eq!(green.ended.load(Ordering::Relaxed), 1, "the thread does not sleep on");
    });
}

#[test]
fn cancel_against_unpark() {
    model("cancel::cancel_against_unpark", || {
        let green = Green::new();
        let worker = runs(&green);
        let canceller = {
            let green = green.clone();
            thread::spawn(move || green.cancel())
        };
        green.sent.store(1, Ordering::Relaxed);
        green.unpark();
        worker.join().unwrap();
        canceller.join().unwrap();
        assert_ne!(green.ended.load(Ordering::Relaxed), 0, "the thread does not sleep on");
    });
}

/// Two wait for a word, the first of which may be cancelled, and one wake-up comes. One who is woken
/// wakes the next; one who unwinds instead must have done so as well.
#[test]
fn cancel_against_a_wake_that_is_passed_on() {
    model("cancel::cancel_against_a_wake_that_is_passed_on", || {
        let word = Arc::new(AtomicU32::new(0));
        let (tell, told) = mpsc::channel();
        let victim = {
            let word = word.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                if wait_for_1(&word) {
                    wake_one(&*word);
                }
            })
        };
        let survivor = {
            let word = word.clone();
            thread::spawn(move || assert!(wait_for_1(&word)))
        };
        cancel(told.recv().unwrap());
        word.store(1, Ordering::Release);
        wake_one(&*word);
        victim.join().unwrap();
        survivor.join().unwrap();
        assert!(!wake_one(&*word), "nobody is left in the queue");
    });
}

/// False if the thread was cancelled, which ends its wait without a wake-up.
fn wait_for_1(word: &AtomicU32) -> bool {
    while word.load(Ordering::Acquire) == 0 {
        if wait(word, 0, None) == Outcome::TimedOut {
            return false;
        }
    }
    true
}
