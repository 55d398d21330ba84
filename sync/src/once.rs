//! Doing something once, for green threads and OS threads.
//!
//! # The word
//!
//! One of four states, and a bit beside it that says that threads may wait:
//!
//! | from | to | who |
//! |---|---|---|
//! | `INCOMPLETE`, `POISONED` | `RUNNING` | the one that runs its closure; keeps `QUEUED` |
//! | not `COMPLETE` | + `QUEUED` | one that is about to wait |
//! | `RUNNING`, with or without `QUEUED` | what came of it | the one that ran; wakes all if `QUEUED` was set |
//!
//! What comes of it is `COMPLETE` if the closure returns, `POISONED` if it panics, and what was
//! there before if it unwinds because its thread is cancelled.
//!
//! Waiters compare the word under the lock of the wait queue, which makes the change of the word and
//! the look at the queue one after the other: see `wait_queue`. The states, and a waiter's bit, are
//! those of the futex version in std.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};

use bine_runtime::primitive::const_atomic::{AtomicU32, Ordering};

use crate::{poison, wait_queue};

const INCOMPLETE: u32 = 0;
const POISONED: u32 = 1;
const RUNNING: u32 = 2;
const COMPLETE: u32 = 3;
const STATE: u32 = 0b011;
const QUEUED: u32 = 0b100;

/// Has something done once, whoever comes first, with the interface of [`std::sync::Once`].
///
/// Others that come while it is being done wait until it is. So a closure that calls `call_once` of
/// the same `Once` waits for ever.
///
/// # Poisoning
/// As in std: if the closure panics, later calls of [`call_once`](Self::call_once) panic too, while
/// [`call_once_force`](Self::call_once_force) tries again.
///
/// # Cancellation
/// A green thread that is cancelled while it waits leaves. If it is cancelled while it runs the
/// closure, and that unwinds, nothing is poisoned: the next one that comes, or waits, runs its own.
///
/// # Fairness
/// All that wait are woken at once.
///
/// # Cost
/// A word of 4 bytes. Once it is done, a call costs one load. Waiting allocates nothing. Whoever did it
/// wakes those that wait one after the other. See [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// The states are those of std's for futexes, the queue is this crate's.
///
/// # Examples
/// ```
/// static START: bine_sync::Once = bine_sync::Once::new();
/// let mut calls = 0;
/// for _ in 0..3 {
///     START.call_once(|| calls += 1);
/// }
/// assert_eq!(calls, 1);
/// ```
pub struct Once {
    word: AtomicU32,
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// What the closure of [`Once::call_once_force`] is told.
///
/// # Examples
/// ```
/// bine_sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
/// ```
///
/// As std's it stays with its thread:
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<bine_sync::OnceState>();
/// ```
pub struct OnceState {
    poisoned: bool,
    not_sync: PhantomData<Cell<()>>,
}

impl Once {
    /// For something that has not been done.
    ///
    /// # Examples
    /// As of [`Once`].
    #[allow(clippy::new_without_default, reason = "std's has no default either")]
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(INCOMPLETE) }
    }

    /// Calls `f`, unless that or another closure was called already; waits while one runs.
    ///
    /// What the closure did happens before this returns.
    ///
    /// # Panics
    /// If an earlier closure has panicked.
    ///
    /// # Examples
    /// As of [`Once`].
    #[inline]
    #[track_caller]
    pub fn call_once<F>(&self, f: F)
    where
        F: FnOnce(),
    {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(false, &mut |_| run(&mut f)());
        }
    }

    /// As [`call_once`](Self::call_once), but also calls `f` if earlier closures have panicked.
    ///
    /// # Examples
    /// ```
    /// use std::panic::catch_unwind;
    ///
    /// static START: bine_sync::Once = bine_sync::Once::new();
    /// assert!(catch_unwind(|| START.call_once(|| panic!("at first"))).is_err());
    /// START.call_once_force(|state| assert!(state.is_poisoned()));
    /// assert!(START.is_completed());
    /// ```
    #[inline]
    pub fn call_once_force<F>(&self, f: F)
    where
        F: FnOnce(&OnceState),
    {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(true, &mut |state| run(&mut f)(state));
        }
    }

    /// Whether a closure has been called and has returned.
    ///
    /// # Examples
    /// As of [`call_once_force`](Self::call_once_force).
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Acquire: pairs with the Release of the completion, for what the closure did.
        self.word.load(Ordering::Acquire) == COMPLETE
    }

    /// Waits until a closure has been called and has returned.
    ///
    /// # Panics
    /// If a closure has panicked.
    ///
    /// # Examples
    /// ```
    /// let once = bine_sync::Once::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| once.call_once(|| ()));
    ///     once.wait();
    /// });
    /// assert!(once.is_completed());
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        self.wait_for_completion(false);
    }

    /// As [`wait`](Self::wait), but goes on waiting if a closure has panicked.
    ///
    /// # Examples
    /// As of [`wait`](Self::wait).
    pub fn wait_force(&self) {
        self.wait_for_completion(true);
    }

    #[track_caller]
    fn wait_for_completion(&self, despite_poison: bool) {
        loop {
            // Acquire: as in `is_completed`.
            let word = self.word.load(Ordering::Acquire);
            match word & STATE {
                COMPLETE => return,
                POISONED if !despite_poison => panic_poisoned(),
                _ => self.wait_for_change(word),
            }
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, despite_poison: bool, f: &mut dyn FnMut(&OnceState)) {
        loop {
            // Acquire: as in `is_completed`.
            let word = self.word.load(Ordering::Acquire);
            match word & STATE {
                COMPLETE => return,
                POISONED if !despite_poison => panic_poisoned(),
                RUNNING => self.wait_for_change(word),
                state => {
                    let running = RUNNING | (word & QUEUED);
                    // Acquire: pairs with the Release of a closure that panicked before.
                    let claimed = self.word.compare_exchange_weak(
                        word,
                        running,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    );
                    if claimed.is_ok() {
                        return self.run(state, f);
                    }
                }
            }
        }
    }

    /// Runs `f`. The calling thread has made the word `RUNNING`, which was `before`.
    fn run(&self, before: u32, f: &mut dyn FnMut(&OnceState)) {
        let mut ends = Ends { once: self, before, returned: false };
        f(&OnceState { poisoned: before == POISONED, not_sync: PhantomData });
        ends.returned = true;
    }

    /// Waits while the word is as `word`, which is not `COMPLETE`.
    fn wait_for_change(&self, word: u32) {
        let announced = word | QUEUED;
        // Relaxed: the lock of the wait queue orders it.
        if word != announced
            && self
                .word
                .compare_exchange_weak(word, announced, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        // Relaxed: as above.
        let waits = || self.word.load(Ordering::Relaxed) == announced;
        let _ = wait_queue::wait_at(self.key(), waits, None);
    }

    fn key(&self) -> usize {
        wait_queue::address(&raw const self.word)
    }
}

/// A [`Once`] for something that has not been done, as std still has it.
///
/// # Examples
/// ```
/// # #![allow(deprecated)]
/// static START: bine_sync::Once = bine_sync::ONCE_INIT;
/// START.call_once(|| ());
/// ```
#[allow(clippy::declare_interior_mutable_const, reason = "for constants and statics, as std's")]
#[deprecated(note = "replaced by `Once::new`, as in std")]
pub const ONCE_INIT: Once = Once::new();

fn run<F>(f: &mut Option<F>) -> F {
    f.take().expect("a closure is called once")
}

#[cold]
#[track_caller]
fn panic_poisoned() -> ! {
    panic!("Once instance has previously been poisoned");
}

/// Says what came of it, however the closure ends.
struct Ends<'a> {
    once: &'a Once,
    before: u32,
    returned: bool,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let outcome = if self.returned {
            COMPLETE
        } else if poison::panicking() {
            POISONED
        } else {
            // Cancelled: as if the thread had not come.
            self.before
        };
        // Release: pairs with the Acquire loads of all that look at the word.
        let word = self.once.word.swap(outcome, Ordering::Release);
        if word & QUEUED != 0 {
            wait_queue::unpark(self.once.key(), usize::MAX, || ());
        }
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl OnceState {
    /// Whether an earlier closure has panicked.
    ///
    /// # Examples
    /// As of [`Once::call_once_force`].
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.is_poisoned()).finish()
    }
}

#[cfg(not(bine_loom))]
const _: () = assert!(std::mem::size_of::<Once>() == 4);
