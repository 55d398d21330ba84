//! Models of the park token: whoever makes a green thread runnable, it happens once for each park,
//! and never before its registers are saved.
//!
//! A green thread is a function here that every OS thread runs which has the right to: the first
//! one, after a failed commit, or after an unpark that says `Schedule`. A worker's run queue would
//! only put more synchronisation between the unpark and the resumption.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Commit, Token, Unpark};
use loom::thread;

struct Green {
    token: Token,
    /// What the switch saves, and the stack. loom reports it if two threads run this one, and if
    /// one resumes it without having seen the switch.
    registers: UnsafeCell<u32>,
    /// Of each unparker, written before its unpark.
    messages: [UnsafeCell<u32>; 2],
    /// The condition that the thread waits for, of each unparker. Relaxed: the token alone makes it
    /// visible.
    sent: [AtomicBool; 2],
    parks: Count,
    resumptions: Count,
    finished: Count,
}

// SAFETY: the cells are the model's claim: the token hands them over. loom checks it.
unsafe impl Sync for Green {}

impl Green {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            token: Token::new(),
            registers: UnsafeCell::new(0),
            messages: [UnsafeCell::new(0), UnsafeCell::new(0)],
            sent: [AtomicBool::new(false), AtomicBool::new(false)],
            parks: Count::new(0),
            resumptions: Count::new(0),
            finished: Count::new(0),
        })
    }

    /// A step of the green thread on whichever OS thread has the right to run it.
    fn touch_registers(&self) {
        // SAFETY: the caller runs the thread.
        self.registers.with_mut(|registers| unsafe { *registers += 1 });
    }

    /// Runs the green thread until it has parked or has seen what `unparkers` sent.
    fn run(&self, unparkers: usize) {
        loop {
            self.touch_registers();
            if self.sent[..unparkers].iter().all(|sent| sent.load(Ordering::Relaxed)) {
                self.finished.fetch_add(1, Counting);
                return;
            }
            if self.park_here() {
                return;
            }
        }
    }

    /// `wait::park`, and the commit by whoever runs next on this OS thread. False if the thread may
    /// run on, here.
    fn park_here(&self) -> bool {
        if self.token.try_consume() {
            return false;
        }
        self.touch_registers();
        self.parks.fetch_add(1, Counting);
        match self.token.commit_park() {
            Commit::Parked => true,
            Commit::Notified => {
                self.resumptions.fetch_add(1, Counting);
                self.touch_registers();
                false
            }
        }
    }

    /// Unparks, and runs the thread if it is the caller's to queue.
    fn unpark(&self, then: impl FnOnce()) {
        if self.token.unpark() == Unpark::Schedule {
            self.resumptions.fetch_add(1, Counting);
            then();
        }
    }

    /// An unparker with its message and its flag.
    fn send(&self, unparker: usize, then: impl FnOnce()) {
        // SAFETY: written by this unparker, before its unpark.
        self.messages[unparker].with_mut(|message| unsafe { *message = 7 });
        self.sent[unparker].store(true, Ordering::Relaxed);
        self.unpark(then);
    }

    fn read_message(&self, unparker: usize) {
        // SAFETY: a park has returned for this unparker's unpark.
        self.messages[unparker].with(|message| assert_eq!(unsafe { *message }, 7));
    }
}

/// The unpark comes before, during and after the park: the park returns once, with what was written
/// before the unpark, and the registers are those that the switch saved.
#[test]
fn one_park_and_one_unpark() {
    model("park_token::one_park_and_one_unpark", || {
        let green = Green::new();
        let resumed = |green: &Green| {
            green.touch_registers();
            green.read_message(0);
            green.finished.fetch_add(1, Counting);
        };
        let worker = {
            let green = green.clone();
            thread::spawn(move || {
                green.touch_registers();
                if !green.park_here() {
                    resumed(&green);
                }
            })
        };
        green.send(0, || resumed(&green));
        worker.join().unwrap();
        assert_eq!(green.finished.load(Counting), 1, "the park returned once");
        assert_eq!(green.parks.load(Counting), green.resumptions.load(Counting));
        assert!(!green.token.try_consume(), "the token is used up");
    });
}

/// Two unparkers whose tokens may become one: the thread sees both of their flags, which nothing but
/// the token makes visible, and never sleeps on.
#[test]
fn two_unparkers_of_a_thread_that_waits_for_both() {
    model("park_token::two_unparkers_of_a_thread_that_waits_for_both", || {
        let green = Green::new();
        let spawn = |body: fn(&Green)| {
            let green = green.clone();
            thread::spawn(move || body(&green))
        };
        let threads = [spawn(|green| green.run(2)), spawn(|green| green.send(0, || green.run(2)))];
        green.send(1, || green.run(2));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(green.finished.load(Counting), 1, "the thread neither sleeps on nor runs twice");
        assert_eq!(green.parks.load(Counting), green.resumptions.load(Counting));
    });
}

/// Both unparks belong to one park: one of the unparkers queues the thread, or its own worker does,
/// and the other leaves a token.
#[test]
fn two_unparkers_of_one_park_queue_the_thread_once() {
    model("park_token::two_unparkers_of_one_park_queue_the_thread_once", || {
        let green = Green::new();
        let unparker = {
            let green = green.clone();
            thread::spawn(move || green.unpark(|| green.touch_registers()))
        };
        let worker = {
            let green = green.clone();
            thread::spawn(move || {
                green.touch_registers();
                if !green.park_here() {
                    green.touch_registers();
                }
            })
        };
        green.unpark(|| green.touch_registers());
        unparker.join().unwrap();
        worker.join().unwrap();
        assert_eq!(green.parks.load(Counting), green.resumptions.load(Counting));
    });
}

/// The thread parks again and again while the same peer unparks it twice, so that an unpark may meet
/// a thread that the unpark before has put into a queue.
#[test]
fn an_unparker_overtakes_the_thread_that_it_woke() {
    model("park_token::an_unparker_overtakes_the_thread_that_it_woke", || {
        let green = Green::new();
        let [worker, thief] = [0, 1].map(|role| {
            let green = green.clone();
            thread::spawn(move || match role {
                0 => green.run(2),
                // The peer hands the thread to another OS thread, and goes on to unpark it.
                _ => green.send(0, || {
                    let next = green.clone();
                    thread::spawn(move || next.run(2)).join().unwrap();
                }),
            })
        });
        thief.join().unwrap();
        green.send(1, || green.run(2));
        worker.join().unwrap();
        assert_eq!(green.finished.load(Counting), 1);
        assert_eq!(green.parks.load(Counting), green.resumptions.load(Counting));
    });
}
