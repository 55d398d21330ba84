//! Poisoning: the mark that a panic leaves on what it may have left half done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

/// Whether the calling thread unwinds from a panic; a cancellation is none. The one place that asks.
pub(crate) use bine_runtime::wait::panicking;

/// Set once somebody has panicked while they held the lock that it belongs to.
///
/// Not one of `primitive`'s atomics: it is only a mark, read and written inside the critical
/// section or without any claim about order, so a model has nothing to explore in it.
#[derive(Debug)]
pub(crate) struct Flag(Mark);

/// In a model that of a static is cleared for each execution.
#[cfg(bine_loom)]
type Mark = bine_runtime::primitive::data::UnsafeCell<AtomicBool>;
#[cfg(not(bine_loom))]
type Mark = AtomicBool;

// SAFETY: an atomic, whatever keeps it.
#[cfg(bine_loom)]
#[allow(unsafe_code)]
unsafe impl Sync for Flag {}

/// Whether the thread was panicking already when it took the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before(bool);

impl Flag {
    pub(crate) const fn new() -> Self {
        #[cfg(bine_loom)]
        return Self(Mark::new(AtomicBool::new(false)));
        #[cfg(not(bine_loom))]
        Self(AtomicBool::new(false))
    }

    #[inline]
    fn mark(&self) -> &AtomicBool {
        #[cfg(bine_loom)]
        #[allow(unsafe_code)]
        // SAFETY: nobody has more than a shared reference.
        return unsafe { &*self.0.get() };
        #[cfg(not(bine_loom))]
        &self.0
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
            self.mark().store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> bool {
        // Relaxed: as in `leave`.
        self.mark().load(Ordering::Relaxed)
    }

    pub(crate) fn clear(&self) {
        // Relaxed: as in `leave`.
        self.mark().store(false, Ordering::Relaxed);
    }
}

/// `value` as std wraps what a lock gives.
#[inline]
pub(crate) fn result<T>(poisoned: bool, value: T) -> LockResult<T> {
    if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
}
