//! Timers: each worker has a wheel behind a lock of its own.
//!
//! A thread that waits with a deadline puts a [`Timer`] on its own stack into the wheel of the
//! worker it runs on, and takes it out when it runs again. Both take that one lock, which nobody
//! contends for unless the thread has moved to another worker meanwhile, or a peer with nothing to
//! do fires the timers of a worker that is late.
//!
//! # Protocol
//!
//! - Setting and cancelling happen under the wheel's lock.
//! - Firing takes the due timers out under the lock, clones what they wake, and *then* says so in
//!   `fired`. After that it touches the timer no more: the waiter may be gone.
//! - A canceller that sees `fired` needs no lock; one that does not takes it, and then either
//!   removes the timer or finds that it has just fired.
//! - What is woken is woken outside the lock.

mod wheel;

use std::cell::UnsafeCell;
use std::marker::PhantomPinned;

use self::wheel::{Entry, Links, Wheel};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering};

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// How many timers fire under one holding of the lock.
const BATCH: usize = 64;

/// One worker's timers, which wake things of type `W`.
#[derive(Debug)]
pub struct Timers<W> {
    wheel: Mutex<Wheel<Timer<W>>>,
    /// When the wheel must be looked at next, or [`NEVER`]. Written under the lock. May be too
    /// early after a cancellation, never too late for the worker that sets timers here.
    next: AtomicU64,
}

/// A deadline of one waiter, on its stack.
#[derive(Debug)]
struct Timer<W> {
    links: UnsafeCell<Links<Timer<W>>>,
    /// Invariant: valid while the timer is linked.
    target: *const W,
    fired: AtomicBool,
    _pinned: PhantomPinned,
}

// SAFETY: `links` is a field of the entry and is reached through the wheel alone.
unsafe impl<W> Entry for Timer<W> {
    fn links(entry: *mut Self) -> *mut Links<Self> {
        // SAFETY: the wheel passes valid entries; no reference to the links is made.
        unsafe { UnsafeCell::raw_get(&raw const (*entry).links) }
    }
}

// SAFETY: a timer is reached from other threads under the wheel's lock, where they read `target`
// and clone the `W` behind it, hence `W: Sync` to share it and `W: Send` to take the clone away.
unsafe impl<W: Send + Sync> Send for Timer<W> {}

/// Takes the timer out of the wheel when the wait ends, by return or by unwinding.
struct Cancel<'a, W: Clone>(&'a Timers<W>, *mut Timer<W>);

impl<W: Clone> Drop for Cancel<'_, W> {
    fn drop(&mut self) {
        // SAFETY: the timer outlives this guard. Acquire pairs with the Release in `fire`: all
        // that the firer did to the timer has happened.
        if unsafe { &(*self.1).fired }.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the timer is valid and was inserted in this wheel only.
        unsafe { self.0.wheel.lock().remove(self.1) };
    }
}

impl<W: Clone> Timers<W> {
    /// No timers, from `now` on.
    pub fn new(now: u64) -> Self {
        Self { wheel: Mutex::new(Wheel::new(now)), next: AtomicU64::new(NEVER) }
    }

    /// Runs `wait` with a timer set that wakes `target` at `deadline` (nanoseconds of the runtime's
    /// clock). Does not call it if the deadline has passed already.
    pub fn with_deadline(&self, target: &W, deadline: u64, wait: impl FnOnce()) {
        let mut timer = Timer {
            links: UnsafeCell::new(Links::default()),
            target,
            fired: AtomicBool::new(false),
            _pinned: PhantomPinned,
        };
        let timer = &raw mut timer;
        // SAFETY: the timer stays where it is until the guard below has taken it out; unwinding
        // drops the guard too, and a stack that is abandoned is never freed.
        if !unsafe { self.set(timer, deadline) } {
            return;
        }
        let _cancel = Cancel(self, timer);
        wait();
    }

    /// # Safety
    ///
    /// As [`Wheel::insert`].
    unsafe fn set(&self, timer: *mut Timer<W>, deadline: u64) -> bool {
        let mut wheel = self.wheel.lock();
        // SAFETY: the caller's promise.
        if !unsafe { wheel.insert(timer, deadline) } {
            return false;
        }
        // When the wheel will let it go: a worker that wakes before would find nothing.
        let deadline = wheel::round_up(deadline);
        // Relaxed: written under the lock; readers without it take a hint.
        if deadline < self.next.load(Ordering::Relaxed) {
            self.next.store(deadline, Ordering::Relaxed);
        }
        true
    }

    /// When [`fire`](Self::fire) should be called next, or [`NEVER`].
    #[inline]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes out timers that are due at `now` and adds what they wake to `due`. True if there may
    /// be more of them: the caller wakes those it has, and calls again.
    pub fn fire(&self, now: u64, due: &mut Vec<W>) -> bool {
        let mut wheel = self.wheel.lock();
        for _ in 0..BATCH {
            let Some(timer) = wheel.pop_due(now) else {
                let next = wheel.next_deadline().unwrap_or(NEVER);
                self.next.store(next, Ordering::Relaxed);
                return false;
            };
            // SAFETY: the timer was linked until now, and its owner cannot have left
            // `with_deadline`: for that it needs the lock, or to see `fired`.
            unsafe {
                due.push((*(*timer).target).clone());
                // Release pairs with the Acquire in `Cancel`.
                (*timer).fired.store(true, Ordering::Release);
            }
        }
        true
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.wheel.lock().len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_fires_wakes_its_target_once() {
        let timers = Timers::new(0);
        let mut due = Vec::new();
        timers.with_deadline(&"target", 1_000_000, || {
            assert!((1_000_000..1_100_000).contains(&timers.next()));
            assert!(!timers.fire(900_000, &mut due));
            assert!(due.is_empty());
            assert!(!timers.fire(2_000_000, &mut due));
        });
        assert_eq!(due, ["target"]);
        assert_eq!(timers.next(), NEVER);
    }

    #[test]
    fn a_wait_that_ends_early_takes_its_timer_out_even_by_unwinding() {
        let timers = Timers::new(0);
        timers.with_deadline(&(), 1 << 30, || assert_eq!(timers.len(), 1));
        assert!(timers.is_empty());
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            timers.with_deadline(&(), 1 << 30, || std::panic::resume_unwind(Box::new(())));
        }));
        assert!(unwound.is_err());
        assert!(timers.is_empty());
    }

    #[test]
    fn many_timers_fire_in_batches() {
        fn nest(timers: &Timers<u32>, n: u32, then: &mut dyn FnMut()) {
            match n {
                0 => then(),
                _ => timers.with_deadline(&n, u64::from(n) << 16, || nest(timers, n - 1, then)),
            }
        }
        let timers = Timers::new(0);
        let mut due = Vec::new();
        nest(&timers, 200, &mut || {
            assert!(timers.fire(u64::MAX, &mut due));
            assert_eq!(due.len(), BATCH);
            while timers.fire(u64::MAX, &mut due) {}
        });
        assert_eq!(due, (1..=200).collect::<Vec<_>>());
    }
}
