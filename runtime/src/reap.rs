//! What a sleeping worker does about stacks: after a peak their memory goes back to the system.
//!
//! Two things are due at some time while a worker sleeps deeply:
//!
//! - Its own supply of stacks and permits goes to the process once it has slept for [`PERIOD`]: who
//!   sleeps so long needs none at hand. (While stacks are scarce it goes there before the worker
//!   sleeps.)
//! - The depots are reaped, one [`PERIOD`] after the last time: `stack::trim_cold` has the rule of
//!   what is cold.
//!
//! One worker of the process reaps: it has the *watch*, and sleeps no longer than until the next
//! reap. A worker that falls asleep takes the watch if there is something to reap and nobody has
//! it, and leaves it when it wakes up, to whoever falls asleep next. So nobody watches only while
//! some workers never sleep and the others never wake up.
//!
//! An idle process stays idle. After a peak each worker wakes up once for its own supply, and the
//! one with the watch three times or so (to learn what is cold, to trim it, and to trim what the
//! workers have given back), until `stack::may_be_cold` says that all free stacks were trimmed.
//! Then all of them sleep without an end. Seen with two workers after a peak of 20,000 threads: 4
//! and 1 wake-ups in 50 s, the last at 30 s.
//!
//! What comes into a depot while all workers sleep without an end, from workers that end with their
//! runtime or from coroutines of OS threads, stays until one of them next falls asleep.
//!
//! A reap goes on only while its worker is asleep for the others and none of its timers is due:
//! whoever wakes it waits for one batch at most. What is left over is done when a worker next
//! sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use bine_arch::stack::{self, StackCache};

use crate::clock;
use crate::timer::NEVER;
use crate::worker::Core;

/// The time between two reaps, and the sleep after which a worker needs nothing at hand, in
/// nanoseconds.
#[cfg(not(test))]
const PERIOD: u64 = 10_000_000_000;
#[cfg(test)]
const PERIOD: u64 = 20_000_000;

/// Whether a worker has the watch.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// When the next reap is due. Belongs to the worker that has the watch.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What is due for a worker while it sleeps.
pub(crate) struct Reaper<'a> {
    core: &'a Core,
    /// When its own supply goes to the process.
    clear_at: u64,
    watches: bool,
}

impl<'a> Reaper<'a> {
    /// The worker falls asleep.
    pub(crate) fn new(core: &'a Core) -> Self {
        let mut this = Self { core, clear_at: NEVER, watches: false };
        let stacks = this.stacks();
        stacks.clear_if_scarce();
        if !stacks.is_empty() {
            this.clear_at = clock::now() + PERIOD;
        }
        this
    }

    /// When something is due next, or [`NEVER`].
    pub(crate) fn next(&mut self) -> u64 {
        if self.watch() {
            // Relaxed: it belongs to us.
            return self.clear_at.min(NEXT.load(Ordering::Relaxed));
        }
        self.clear_at
    }

    /// Does what is due.
    pub(crate) fn reap(&mut self) {
        if self.clear_at <= clock::now() {
            self.clear_at = NEVER;
            self.stacks().clear();
        }
        if self.watch() && NEXT.load(Ordering::Relaxed) <= clock::now() {
            self.reap_depots();
        }
    }

    fn reap_depots(&mut self) {
        self.stacks().shed_colder_half();
        let core = self.core;
        let mut undisturbed = true;
        let _ = stack::trim_cold(|| {
            undisturbed =
                core.shared().idle.is_asleep(core.index) && core.next_timer() > clock::now();
            undisturbed
        });
        if undisturbed {
            // Relaxed: handed on with the watch.
            NEXT.store(clock::now() + PERIOD, Ordering::Relaxed);
        }
    }

    /// Whether this worker has the watch, now: it is taken and left as there is something to reap.
    ///
    /// One worker sees that nothing is left, and leaves the watch; another one has put something
    /// into a depot, and looks whether anybody watches. Each stores first, then has a fence, then
    /// looks: one of them sees the other.
    fn watch(&mut self) -> bool {
        if self.watches && !stack::may_be_cold() {
            self.leave_watch();
        }
        // Pairs with itself in the other worker.
        fence(Ordering::SeqCst);
        if !self.watches && stack::may_be_cold() {
            // Acquire: pairs with the Release in `leave_watch`, for `NEXT`.
            self.watches =
                !WATCHED.load(Ordering::Relaxed) && !WATCHED.swap(true, Ordering::Acquire);
        }
        self.watches
    }

    fn leave_watch(&mut self) {
        self.watches = false;
        // Release: pairs with the Acquire in `watch`.
        WATCHED.store(false, Ordering::Release);
    }

    fn stacks(&mut self) -> &mut StackCache {
        // SAFETY: this OS thread alone touches its worker's cache, and while it sleeps nothing else
        // runs there; the reference ends with the call that it is for, as `self` is borrowed.
        unsafe { &mut *self.core.stacks.get() }
    }
}

impl Drop for Reaper<'_> {
    fn drop(&mut self) {
        if self.watches {
            self.leave_watch();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Builder;

    const PEAK: usize = 2_000;

    /// Waits for something that comes by itself. The bound is there for a bug.
    fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..6_000 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited for 60 s in vain until {what}");
    }

    fn resident(stack_size: usize) -> usize {
        let usage = stack::usage().unwrap();
        usage.iter().find(|usage| usage.stack_size == stack_size).map_or(0, |usage| usage.resident)
    }

    #[test]
    fn idle_workers_reap_what_a_peak_left_and_then_sleep_on() {
        // No other test has stacks of this size.
        let size = 64 * 1024;
        let runtime = Builder::new().workers(2).stack_size(size).build().unwrap();
        let threads: Vec<_> = (0..PEAK).map(|_| runtime.spawn(crate::thread::park)).collect();
        await_that("all have their stacks", || resident(size) >= PEAK * 4096);
        for thread in threads {
            thread.thread().unpark();
            thread.join().unwrap();
        }
        await_that("no stack has memory", || resident(size) == 0);
        // Another test's workers may end just now, and what they have at hand goes to the depots while
        // both of ours sleep without an end: the next who falls asleep is to see it.
        let mut looks = 0;
        await_that("nothing is left to reap", || {
            looks += 1;
            if looks % 100 == 0 {
                runtime.spawn(|| ()).join().unwrap();
            }
            !stack::may_be_cold()
        });
        await_that("nobody watches", || !WATCHED.load(Ordering::Relaxed));
        // All of them can be lent again.
        let again: Vec<_> = (0..PEAK).map(|_| runtime.spawn(|| 1)).collect();
        assert_eq!(
            again.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>(),
            PEAK as i32
        );
    }
}
