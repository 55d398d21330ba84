//! Poisoning: the mark that a panic leaves on what it may have left half done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

/// Whether the calling thread unwinds from a panic; a cancellation is none. The one place that asks.
#[cfg(not(bine_loom))]
pub(crate) use bine_runtime::wait::panicking;
#[cfg(bine_loom)]
pub(crate) use std::thread::panicking;

/// Set once somebody has panicked while they held the lock that it belongs to.
///
/// Not one of `primitive`'s atomics: it is only a mark, read and written inside the critical
/// section or without any claim about order, so a model has nothing to explore in it.
#[derive(Debug)]
pub(crate) struct Flag(AtomicBool);

/// Whether the thread was panicking already when it took the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before(bool);

impl Flag {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// To be called with the lock just taken.
    #[inline]
    pub(crate) fn enter(&self) -> Before {
        Before(panicking())
    }

    /// To be called before the lock is given up: poisons it if a panic began since `enter`.
    #[inline]
    pub(crate) fn leave(&self, before: Before) {
        if !before.0 && panicking() {
            // Relaxed: the lock orders it for the next holder; others only peek.
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> bool {
        // Relaxed: as in `leave`.
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn clear(&self) {
        // Relaxed: as in `leave`.
        self.0.store(false, Ordering::Relaxed);
    }
}

/// `value` as std wraps what a lock gives.
#[inline]
pub(crate) fn result<T>(poisoned: bool, value: T) -> LockResult<T> {
    if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
}
