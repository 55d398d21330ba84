//! The slot of the thread that runs next on a worker: the one that the running thread woke last.
//!
//! The worker's OS thread puts threads there and takes them. In a migrating runtime the monitor may
//! take one as well, when the running thread holds the worker. Whoever swaps a thread out has its run
//! reference.

use std::ptr::{self, NonNull};

use crate::primitive::atomic::{AtomicPtr, Ordering};

/// The thread, or null.
#[derive(Debug)]
pub struct RunNext<T>(AtomicPtr<T>);

impl<T> Default for RunNext<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> RunNext<T> {
    /// An empty slot.
    pub fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Whether nothing is there, as things look now.
    pub fn is_empty(&self) -> bool {
        // Relaxed: a sample.
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Takes the thread. By the worker; `shared` says whether others may take it as well, and is asked
    /// only if there is one.
    #[inline]
    pub fn take(&self, shared: impl FnOnce() -> bool) -> Option<NonNull<T>> {
        // Relaxed: a hint, but for what this OS thread itself has put there.
        let next = NonNull::new(self.0.load(Ordering::Relaxed))?;
        if shared() {
            return self.replace(ptr::null_mut(), true);
        }
        // Nobody else takes threads from here.
        self.0.store(ptr::null_mut(), Ordering::Relaxed);
        Some(next)
    }

    /// Takes the thread that was to run next and puts another, or none, in its place. By the worker.
    #[inline]
    pub fn replace(&self, next: *mut T, shared: bool) -> Option<NonNull<T>> {
        // Relaxed: what is there was put there by this OS thread.
        let mut before = self.0.load(Ordering::Relaxed);
        // Release, both: pairs with the Acquire in `steal`. A store where nobody else changes the slot
        // meanwhile: others only take, and put null where null is if it is empty. An exchange writes
        // right behind what it reads, so that such a null is not behind this store. (loom does not
        // know that, and lets the two cross.)
        if shared && (cfg!(bine_loom) || !before.is_null()) {
            before = self.0.swap(next, Ordering::Release);
        } else {
            self.0.store(next, Ordering::Release);
        }
        NonNull::new(before)
    }

    /// Takes the thread, for somebody else: in migrating runtimes alone.
    pub fn steal(&self) -> Option<NonNull<T>> {
        // Acquire pairs with the Release in `replace`: the run reference comes along.
        NonNull::new(self.0.swap(ptr::null_mut(), Ordering::Acquire))
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_was_put_there_is_taken_once() {
        for shared in [false, true] {
            let (mut first, mut second) = (1, 2);
            let [first, second] = [&raw mut first, &raw mut second];
            let slot = RunNext::new();
            assert_eq!(slot.take(|| unreachable!("nothing is there")), None);
            assert_eq!(slot.replace(first, shared), None);
            assert_eq!(slot.replace(second, shared), NonNull::new(first));
            assert!(!slot.is_empty());
            assert_eq!(slot.take(|| shared), NonNull::new(second));
            assert!(slot.is_empty());
            assert_eq!(slot.steal(), None);
        }
    }
}
