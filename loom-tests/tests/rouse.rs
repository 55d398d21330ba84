//! A waker that takes a thread out of its park *before* it tells it what it waits for, and so needs no
//! reference to it: `wait::Sleeper`, and `Waiter::complete` in `bine-sync`.
//!
//! The token is the shipped one. What `Sleeper::rouse`, `Roused::go` and the loop of a waiter make of
//! it is repeated here in a few lines, since the originals need stacks.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Commit, Token, Unpark};
use loom::thread;

struct Green {
    token: Token,
    /// As in `park_token`.
    registers: UnsafeCell<u32>,
    /// What the thread waits for: the token of its waiter.
    told: AtomicBool,
    /// The run reference, and those of unparkers.
    refs: AtomicUsize,
    /// Written when the cell is freed, read by whoever uses it: loom reports a use that is not before.
    memory: UnsafeCell<()>,
    finished: Count,
    freed: Count,
}

// SAFETY: the cells are the model's claim. loom checks it.
unsafe impl Sync for Green {}

impl Green {
    fn new(refs: usize) -> Arc<Self> {
        Arc::new(Self {
            token: Token::new(),
            registers: UnsafeCell::new(0),
            told: AtomicBool::new(false),
            refs: AtomicUsize::new(refs),
            memory: UnsafeCell::new(()),
            finished: Count::new(0),
            freed: Count::new(0),
        })
    }

    fn use_memory(&self) {
        self.memory.with(|_| ());
    }

    fn release(&self) {
        if self.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.memory.with_mut(|_| ());
            self.freed.fetch_add(1, Counting);
        }
    }

    /// The thread, on whichever OS thread has the right to run it: waits until it is told, and ends.
    fn run(&self) {
        loop {
            // SAFETY: the caller runs the thread.
            self.registers.with_mut(|registers| unsafe { *registers += 1 });
            if self.told.load(Ordering::Acquire) {
                self.finished.fetch_add(1, Counting);
                return self.release();
            }
            if !self.token.try_consume() && self.token.commit_park() == Commit::Parked {
                return;
            }
        }
    }

    /// `Waiter::complete` and then `Roused::go`.
    fn complete(&self) {
        self.use_memory();
        let parked = self.token.unpark() == Unpark::Schedule;
        if !parked {
            self.refs.fetch_add(1, Ordering::Relaxed);
        }
        self.told.store(true, Ordering::Release);
        match parked {
            true => self.run(),
            false => self.unpark(),
        }
    }

    /// By an unparker with a reference of its own.
    fn unpark(&self) {
        self.use_memory();
        if self.token.unpark() == Unpark::Schedule {
            self.run();
        }
        self.release();
    }

    fn has_ended(&self) {
        assert_eq!(self.finished.load(Counting), 1, "the thread has ended");
        assert_eq!(self.freed.load(Counting), 1, "its cell is freed");
    }
}

#[test]
fn a_waker_that_rouses_first() {
    model("rouse::a_waker_that_rouses_first", || {
        let green = Green::new(1);
        let waker = {
            let green = green.clone();
            thread::spawn(move || green.complete())
        };
        green.run();
        waker.join().unwrap();
        green.has_ended();
    });
}

/// Somebody else, a timer or a cancellation, wakes the thread for no reason: before, between and after
/// the two steps of the waker.
#[test]
fn a_waker_that_rouses_first_beside_another_unparker() {
    model("rouse::a_waker_that_rouses_first_beside_another_unparker", || {
        let green = Green::new(2);
        let others: [fn(&Green); 2] = [Green::complete, Green::unpark];
        let others = others.map(|wake| {
            let green = green.clone();
            thread::spawn(move || wake(&green))
        });
        green.run();
        others.into_iter().for_each(|other| other.join().unwrap());
        green.has_ended();
    });
}
