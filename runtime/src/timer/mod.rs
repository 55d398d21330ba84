//! Timers: each worker has a wheel behind a lock of its own.
//!
//! A thread that waits with a deadline puts a timer into the wheel of the worker it runs on, and takes
//! it out when it runs again. Both take that one lock, which nobody contends for unless the thread
//! has moved to another worker meanwhile, or a peer with nothing to do fires the timers of a worker
//! that is late.
//!
//! # Protocol
//!
//! - Setting and cancelling happen under the wheel's lock.
//! - Firing takes the due timers out, wakes what they name, and *then* says so in a flag on the
//!   waiter's stack, all under the lock. After that it touches neither the flag nor what it has woken,
//!   unless `wake` has given it the right to: the waiter may be gone.
//! - A canceller that sees the flag needs no lock; one that does not takes it, and then either
//!   finds that the timer has just fired, or removes it.
//! - What was woken is queued outside the lock, where that may take other locks.
//!
//! No reference is counted for a timer: the waiter cannot leave before its timer has fired or was
//! taken out.
//!
//! # Crowds
//!
//! With a million sleepers some timer is due in every tick, and a worker with nothing else to do
//! would wake up 15,000 times in a second, for a few of them each time. Where many fire at once
//! ([`CROWD`]) the next look is [`PAUSE`] later, unless somebody sets an earlier timer meanwhile.

mod wheel;

use bine_arch::context::prefetch;

use self::wheel::{Key, Wheel};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering};

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// How many timers fire under one holding of the lock.
const BATCH: usize = 64;

/// If so many timers fire at once, there will be more in the next tick.
const CROWD: usize = 16;

/// How long the next ones wait then, in nanoseconds: four ticks.
const PAUSE: u64 = 4 << 16;

/// Names a thread that waits.
pub trait Wake: Copy {
    /// The right to queue it.
    type Woken;

    /// Wakes it. `None` if it will run anyhow.
    ///
    /// # Safety
    ///
    /// The thread has not left [`Timers::with_deadline`].
    unsafe fn wake(self) -> Option<Self::Woken>;

    /// Has the processor fetch what [`wake`](Self::wake) is going to need.
    fn prefetch(self) {}
}

/// One worker's timers, which wake threads named by a `W`.
#[derive(Debug)]
pub struct Timers<W> {
    set: Mutex<Set<W>>,
    /// When the wheel must be looked at next, or [`NEVER`]. Written under the lock. May be too
    /// early after a cancellation, never too late for the worker that sets timers here, but for the
    /// pause in a crowd.
    next: AtomicU64,
}

#[derive(Debug)]
struct Set<W> {
    wheel: Wheel<Timer<W>>,
    /// Those that just fire. Empty while the lock is free.
    firing: Vec<Timer<W>>,
    /// Many have fired since `next` was written last.
    crowded: bool,
}

/// A deadline of one waiter.
#[derive(Clone, Copy, Debug)]
struct Timer<W> {
    target: W,
    /// On the waiter's stack. Invariant: valid while the timer is in the wheel, or is firing.
    fired: *const AtomicBool,
}

// SAFETY: a timer is reached from other threads under the lock, where they store to the flag, which is
// made for that, and wake the target, hence `W: Send`.
unsafe impl<W: Send> Send for Timer<W> {}

/// Takes the timer out of the wheel when the wait ends, by return or by unwinding.
struct Cancel<'a, W: Wake> {
    timers: &'a Timers<W>,
    key: Key,
    fired: &'a AtomicBool,
}

impl<W: Wake> Drop for Cancel<'_, W> {
    #[inline]
    fn drop(&mut self) {
        // Acquire pairs with the Release in `fire`: all that the firer did for the timer has
        // happened.
        if self.fired.load(Ordering::Acquire) {
            return;
        }
        let mut set = self.timers.set.lock();
        // Relaxed: written under the lock. If it has not fired by now, the wheel has it.
        if !self.fired.load(Ordering::Relaxed) {
            set.wheel.remove(self.key);
        }
    }
}

impl<W: Wake> Timers<W> {
    /// No timers, from `now` on.
    pub fn new(now: u64) -> Self {
        let firing = Vec::with_capacity(BATCH);
        let set = Set { wheel: Wheel::new(now), firing, crowded: false };
        Self { set: Mutex::new(set), next: AtomicU64::new(NEVER) }
    }

    /// Runs `wait` with a timer set that wakes `target`, which names the calling thread, at `deadline`
    /// (nanoseconds of the runtime's clock). Does not call it if the deadline has passed already.
    pub fn with_deadline(&self, target: W, deadline: u64, wait: impl FnOnce()) {
        // It stays where it is until the guard below has taken the timer out: unwinding drops that
        // too, and a stack that is abandoned is never freed.
        let fired = AtomicBool::new(false);
        let Some(key) = self.set(Timer { target, fired: &raw const fired }, deadline) else {
            return;
        };
        let _cancel = Cancel { timers: self, key, fired: &fired };
        wait();
    }

    fn set(&self, timer: Timer<W>, deadline: u64) -> Option<Key> {
        let mut set = self.set.lock();
        let key = set.wheel.insert(timer, deadline)?;
        // When the wheel will let it go: a worker that wakes before would find nothing.
        let deadline = wheel::round_up(deadline);
        // Relaxed: written under the lock; readers without it take a hint.
        if deadline < self.next.load(Ordering::Relaxed) {
            self.next.store(deadline, Ordering::Relaxed);
        }
        Some(key)
    }

    /// When [`fire`](Self::fire) should be called next, or [`NEVER`].
    #[inline]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes out timers that are due at `now`, wakes what they name, and adds what is to be queued to
    /// `due`. True if there may be more of them: the caller queues those it has, and calls again.
    pub fn fire(&self, now: u64, due: &mut Vec<W::Woken>) -> bool {
        // Not under the lock: an allocator that waits for a fork would keep it from the child.
        due.reserve(BATCH);
        let mut set = self.set.lock();
        let Set { wheel, firing, crowded } = &mut *set;
        // What is woken lies where its waiter has left it, far from the caches: all of it is fetched
        // before the first one is looked at.
        let more = wheel.take_due(now, BATCH, |timer| {
            timer.target.prefetch();
            prefetch(timer.fired);
            firing.push(timer);
        });
        *crowded |= firing.len() >= CROWD;
        for timer in firing.drain(..) {
            // SAFETY: the timer was in the wheel until now, and its owner cannot have left
            // `with_deadline`: for that it needs the lock, or to see the flag.
            unsafe {
                due.extend(timer.target.wake());
                // Release pairs with the Acquire in `Cancel`.
                (*timer.fired).store(true, Ordering::Release);
            }
        }
        if !more {
            let pause = if std::mem::take(crowded) { now.saturating_add(PAUSE) } else { 0 };
            let next = wheel.next_deadline().map_or(NEVER, |next| next.max(pause));
            self.next.store(next, Ordering::Relaxed);
        }
        more
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.set.lock().wheel.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    /// A thread that waits, by a number.
    #[derive(Clone, Copy, Debug)]
    struct Waiter(u32);

    impl Wake for Waiter {
        type Woken = u32;

        unsafe fn wake(self) -> Option<u32> {
            Some(self.0)
        }
    }

    #[test]
    fn a_timer_that_fires_wakes_its_target_once() {
        let timers = Timers::new(0);
        let mut due = Vec::new();
        timers.with_deadline(Waiter(7), 1_000_000, || {
            assert!((1_000_000..1_100_000).contains(&timers.next()));
            assert!(!timers.fire(900_000, &mut due));
            assert!(due.is_empty());
            assert!(!timers.fire(2_000_000, &mut due));
        });
        assert_eq!(due, [7]);
        assert_eq!(timers.next(), NEVER);
    }

    #[test]
    fn a_wait_that_ends_early_takes_its_timer_out_even_by_unwinding() {
        let timers = Timers::new(0);
        timers.with_deadline(Waiter(0), 1 << 30, || assert_eq!(timers.len(), 1));
        assert!(timers.is_empty());
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            timers.with_deadline(Waiter(0), 1 << 30, || std::panic::resume_unwind(Box::new(())));
        }));
        assert!(unwound.is_err());
        assert!(timers.is_empty());
    }

    /// Sets `n` timers, `distance` nanoseconds apart, and then calls `then`.
    fn nest(timers: &Timers<Waiter>, n: u32, distance: u64, then: &mut dyn FnMut()) {
        if n == 0 {
            return then();
        }
        timers.with_deadline(Waiter(n), u64::from(n) * distance, || {
            nest(timers, n - 1, distance, then);
        });
    }

    #[test]
    fn many_timers_fire_in_batches() {
        let timers = Timers::new(0);
        let mut due = Vec::new();
        nest(&timers, 200, 1 << 16, &mut || {
            assert!(timers.fire(u64::MAX, &mut due));
            assert_eq!(due.len(), BATCH);
            while timers.fire(u64::MAX, &mut due) {}
        });
        assert_eq!(due, (1..=200).collect::<Vec<_>>());
    }

    #[test]
    fn in_a_crowd_the_next_look_comes_later() {
        let timers = Timers::new(0);
        let (tick, mut due) = (1 << 16, Vec::new());
        nest(&timers, 100, tick, &mut || {
            // Few of them: the next tick is looked at.
            assert!(!timers.fire(3 * tick, &mut due));
            assert_eq!(timers.next(), 4 * tick);
            assert!(!timers.fire(30 * tick, &mut due));
            assert_eq!(timers.next(), 30 * tick + PAUSE);
            // Who comes with an earlier deadline does not wait for the others.
            timers.with_deadline(Waiter(0), 31 * tick, || {
                assert_eq!(timers.next(), 31 * tick);
                assert!(!timers.fire(31 * tick, &mut due));
            });
            assert_eq!(timers.next(), 32 * tick);
        });
        assert_eq!(due.len(), 32);
    }
}
