//! How the end of many meets the one who waits for all of them: a scope and its children.
//!
//! The count is that of the children which have not ended, and one for the owner until it waits.
//! Whoever takes it to zero ends the wait: the owner itself, which then has nobody to wait for, or
//! the last child, which then finds the owner's waker in place and wakes it.
//!
//! The owner may go on, and free what the children borrow, as soon as the count is zero, and that is
//! before the last child has taken the waker out. So what holds a `Countdown` must be kept by each
//! child until its `end` has returned (by a counted reference).

use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::cell::UnsafeCell;

/// The count and the waker; see the module's documentation.
#[derive(Debug)]
pub struct Countdown<W> {
    count: AtomicUsize,
    /// Invariant: written by the owner before it gives up its count, read by whoever takes the count
    /// to zero, unless that is the owner.
    waker: UnsafeCell<Option<W>>,
}

// SAFETY: by the invariant on `waker`, at most one thread has access to it at a time, and the count
// hands it over.
unsafe impl<W: Send> Sync for Countdown<W> {}

impl<W> Default for Countdown<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Countdown<W> {
    /// No child, and an owner that does not wait.
    pub fn new() -> Self {
        Self { count: AtomicUsize::new(1), waker: UnsafeCell::new(None) }
    }

    /// One more child. Called by the owner before it waits, or by a child before its end. False, and
    /// nothing is counted, if there are too many.
    #[must_use]
    pub fn add(&self) -> bool {
        // Relaxed: the child comes to be after this. With half of the numbers as the bound, no
        // number of threads that are here at once can take the count past the end.
        if self.count.fetch_add(1, Ordering::Relaxed) <= usize::MAX / 2 {
            return true;
        }
        // Relaxed: never the last one.
        self.count.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// A child has ended. The owner's waker, if the owner waits for this one alone.
    ///
    /// # Safety
    ///
    /// Once for each `add` that was true.
    #[must_use = "the owner must be woken"]
    pub unsafe fn end(&self) -> Option<W> {
        // Release: what the child did comes before the return of the owner, which has the Acquire in
        // `wait` or `is_over` (and between two children the chain of read-modify-writes goes on).
        // Acquire pairs with the Release in `wait`, for the waker.
        if self.count.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        // SAFETY: the owner wrote it before its own count went, and does not touch it any more.
        self.waker.with_mut(|waker| unsafe { (*waker).take() })
    }

    /// The owner begins to wait. True if no child is left; otherwise the owner waits until
    /// [`is_over`](Self::is_over), and is woken.
    ///
    /// # Safety
    ///
    /// Once.
    #[must_use = "the children may not have ended"]
    pub unsafe fn wait(&self, waker: W) -> bool {
        // SAFETY: nobody reads it before our count goes.
        self.waker.with_mut(|cell| unsafe { *cell = Some(waker) });
        // Release pairs with the Acquire in `end`, for the waker; Acquire with the Release there.
        self.count.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether all have ended, to the owner that waits; what they did is then visible.
    pub fn is_over(&self) -> bool {
        // Acquire pairs with the Release in `end`.
        self.count.load(Ordering::Acquire) == 0
    }

    /// How many children have not ended, as the owner sees it before it waits. For debug output.
    pub fn children(&self) -> usize {
        // Relaxed: no more than a number.
        self.count.load(Ordering::Relaxed).saturating_sub(1)
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_owner_without_children_does_not_wait() {
        let countdown = Countdown::new();
        // SAFETY: once.
        assert!(unsafe { countdown.wait(7) });
        assert!(countdown.is_over());
    }

    #[test]
    fn the_last_child_finds_the_owner() {
        let countdown = Countdown::new();
        assert!(countdown.add() && countdown.add());
        assert_eq!(countdown.children(), 2);
        // SAFETY: as often as counted.
        unsafe {
            assert_eq!(countdown.end(), None);
            assert!(!countdown.wait(7));
            assert!(!countdown.is_over());
            assert_eq!(countdown.end(), Some(7));
        }
        assert!(countdown.is_over());
    }
}
