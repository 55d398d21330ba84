//! Models of `thread::park` and `park_timeout`: a user's token ends one park of the user's, and a time
//! that is up, or a wake-up that was meant for an operation, takes no token away.
//!
//! The green thread is a loom thread here. Its switch is the commit, and then a wait for whoever has the
//! right to queue it.
#![cfg(bine_loom)]

use std::cell::Cell;

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Commit, Timers, Token, Unpark, UserToken, Wake};
use loom::sync::Notify;
use loom::thread;

/// Some ticks of the wheel.
const DEADLINE: u64 = 5 << 16;
const LATE: u64 = 9 << 16;

struct Green {
    token: Token,
    user_token: UserToken,
    /// The right to run it, from whoever has queued it.
    queued: Notify,
    /// The time. Relaxed: no waker relies on it.
    clock: AtomicU64,
    timers: Timers<Waiting>,
    /// Of each unparker, written before its unpark.
    messages: [UnsafeCell<u32>; 2],
    /// What the thread waits for, of each unparker. Relaxed: the token alone makes it visible.
    sent: [AtomicBool; 2],
}

// SAFETY: the cells are the model's claim: the user's token hands them over. loom checks it.
unsafe impl Sync for Green {}
// SAFETY: as above.
unsafe impl Send for Green {}

/// Names one that waits.
#[derive(Clone, Copy)]
struct Waiting(*const Green);

// SAFETY: as above.
unsafe impl Send for Waiting {}

impl Wake for Waiting {
    type Woken = Self;

    unsafe fn wake(self) -> Option<Self> {
        // SAFETY: it waits, and has not ended.
        (unsafe { &*self.0 }.token.unpark() == Unpark::Schedule).then_some(self)
    }
}

impl Green {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            token: Token::new(),
            user_token: UserToken::new(),
            queued: Notify::new(),
            clock: AtomicU64::new(0),
            timers: Timers::new(0),
            messages: [0; 2].map(UnsafeCell::new),
            sent: [false; 2].map(AtomicBool::new),
        })
    }

    /// `wait::park`.
    fn wait(&self) {
        if !self.token.try_consume() {
            self.switch();
        }
    }

    /// `wait::park_until`.
    fn wait_until(this: &Arc<Self>, deadline: u64) {
        if !this.token.try_consume() {
            this.timers.with_deadline(Waiting(Arc::as_ptr(this)), deadline, || this.switch());
        }
    }

    /// `Core::park`.
    fn switch(&self) {
        if self.token.commit_park() == Commit::Parked {
            self.queued.wait();
        }
    }

    /// `wait::unpark_green`.
    fn wake(&self) {
        if self.token.unpark() == Unpark::Schedule {
            self.queued.notify();
        }
    }

    /// `thread::park`.
    fn park(&self) {
        self.user_token.wait(|| true, || self.wait());
    }

    /// `thread::park_timeout`. False if the time is up.
    fn park_timeout(this: &Arc<Self>) -> bool {
        let in_time = Cell::new(true);
        let look = || {
            in_time.set(this.clock.load(Ordering::Relaxed) < DEADLINE);
            in_time.get()
        };
        this.user_token.wait(look, || Self::wait_until(this, DEADLINE));
        in_time.get()
    }

    /// `Thread::unpark`, with a message.
    fn unpark(&self, unparker: usize) {
        // SAFETY: written by this unparker, before its unpark.
        self.messages[unparker].with_mut(|message| unsafe { *message = 7 });
        self.sent[unparker].store(true, Ordering::Relaxed);
        self.user_token.make_available();
        self.wake();
    }

    fn has_sent(&self, unparker: usize) -> bool {
        self.sent[unparker].load(Ordering::Relaxed)
    }

    fn read_message(&self, unparker: usize) {
        // SAFETY: a park has taken this unparker's token.
        self.messages[unparker].with(|message| assert_eq!(unsafe { *message }, 7));
    }

    /// `Core::fire_timers`, when the time is up.
    fn fire(&self) {
        self.clock.store(LATE, Ordering::Relaxed);
        let mut due = Vec::new();
        assert!(!self.timers.fire(LATE, &mut due));
        for Waiting(green) in due {
            // SAFETY: taken out of PARKED, it does not end before it is queued.
            unsafe { &*green }.queued.notify();
        }
    }
}

fn start<T: 'static>(
    green: &Arc<Green>,
    body: impl FnOnce(&Arc<Green>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let green = green.clone();
    thread::spawn(move || body(&green))
}

/// The time runs out: the park ends, although nobody unparks it.
#[test]
fn a_timeout_against_a_park() {
    model("user_token::a_timeout_against_a_park", || {
        let green = Green::new();
        let parked = start(&green, Green::park_timeout);
        green.fire();
        assert!(!parked.join().unwrap());
        assert!(green.timers.is_empty());
    });
}

/// The time runs out while somebody unparks the thread: the token ends this park, with what the unparker
/// wrote, or it is there for the next one.
#[test]
fn a_timeout_against_an_unpark() {
    model("user_token::a_timeout_against_an_unpark", || {
        let green = Green::new();
        let parked = start(&green, |green| {
            let unparked = Green::park_timeout(green);
            if unparked {
                green.read_message(0);
            }
            unparked
        });
        let timer = start(&green, |green| green.fire());
        green.unpark(0);
        let unparked = parked.join().unwrap();
        timer.join().unwrap();
        assert_ne!(unparked, green.user_token.take(), "one park for one unpark");
        assert!(green.timers.is_empty());
    });
}

/// A wake-up that was meant for an operation comes late, while the thread parks: the park lasts until
/// its own token is there.
#[test]
fn a_late_wake_up_of_an_operation_ends_no_park() {
    model("user_token::a_late_wake_up_of_an_operation_ends_no_park", || {
        let green = Green::new();
        let parked = start(&green, |green| {
            green.park();
            green.read_message(0);
        });
        let waker = start(&green, |green| green.wake());
        green.unpark(0);
        parked.join().unwrap();
        waker.join().unwrap();
        assert!(!green.user_token.take(), "used up");
    });
}

/// The thread waits in an operation when it is unparked: the operation waits on, and the park after it
/// returns.
#[test]
fn an_unpark_during_an_operation_is_kept_for_the_park() {
    model("user_token::an_unpark_during_an_operation_is_kept_for_the_park", || {
        let green = Green::new();
        let waits = start(&green, |green| {
            while !green.has_sent(1) {
                green.wait();
            }
            green.park();
            green.read_message(0);
        });
        let waker = start(&green, |green| {
            // Relaxed: the operation's token makes it visible.
            green.sent[1].store(true, Ordering::Relaxed);
            green.wake();
        });
        green.unpark(0);
        waits.join().unwrap();
        waker.join().unwrap();
    });
}

/// One park may take the token of both unparkers: it sees what both have written.
#[test]
fn two_unparkers_of_a_thread_that_waits_for_both() {
    model("user_token::two_unparkers_of_a_thread_that_waits_for_both", || {
        let green = Green::new();
        let waits = start(&green, |green| {
            while !(green.has_sent(0) && green.has_sent(1)) {
                green.park();
            }
        });
        let other = start(&green, |green| green.unpark(1));
        green.unpark(0);
        waits.join().unwrap();
        other.join().unwrap();
    });
}
