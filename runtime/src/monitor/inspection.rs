//! The word that keeps a thread's cell while the monitor looks at it; see `inspect`.

use std::ptr::{self, NonNull};

use crate::primitive::atomic::{AtomicPtr, Ordering};

/// The worker's half of the barrier. loom knows no compiler fence, and no `membarrier`: there both
/// halves are fences.
#[cfg(bine_loom)]
use crate::primitive::atomic::fence as light_fence;
#[cfg(not(bine_loom))]
use std::sync::atomic::compiler_fence as light_fence;

/// How often a worker may change its thread under the monitor's eyes.
const TRIES: usize = 3;

/// What the monitor looks at, or null.
#[derive(Debug)]
pub struct Inspection<T>(AtomicPtr<T>);

impl<T> Default for Inspection<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Inspection<T> {
    /// Of nothing.
    pub fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Gives `read` what `current` points to, if that stays so for long enough. `barrier` is the
    /// costly half of the barrier, and says whether there was one. For one thread at a time.
    pub fn inspect<R>(
        &self,
        current: impl Fn() -> *mut T,
        barrier: impl Fn() -> bool,
        read: impl FnOnce(NonNull<T>) -> R,
    ) -> Option<R> {
        let mut found = None;
        for _ in 0..TRIES {
            let Some(target) = NonNull::new(current()) else { break };
            // Ordered by the barrier. Release as in `end`: an earlier look's reads are over.
            self.0.store(target.as_ptr(), Ordering::Release);
            if !barrier() {
                break;
            }
            if current() == target.as_ptr() {
                found = Some(read(target));
                break;
            }
        }
        self.end();
        found
    }

    /// Nothing is looked at any more.
    pub fn end(&self) {
        // Release pairs with the Acquire in `await_end`: the reads are over.
        self.0.store(ptr::null_mut(), Ordering::Release);
    }

    /// Calls `wait` until `target` is not looked at, which is nobody's current thread any more and is
    /// about to be freed. Most often it never was.
    #[inline]
    pub fn await_end(&self, target: NonNull<T>, wait: impl Fn()) {
        // The other half of this fence is the monitor's barrier; see `inspect`.
        light_fence(Ordering::SeqCst);
        // Acquire pairs with the Releases above: a look that was before is over before the thread is
        // freed.
        if self.0.load(Ordering::Acquire) == target.as_ptr() {
            self.lasts(target, wait);
        }
    }

    #[cold]
    fn lasts(&self, target: NonNull<T>, wait: impl Fn()) {
        // Acquire pairs with the Release that ends the look.
        while self.0.load(Ordering::Acquire) == target.as_ptr() {
            wait();
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_changes_under_the_barrier_is_not_read() {
        let (mut first, mut second) = (1, 2);
        let [first, second] = [&raw mut first, &raw mut second];
        let inspection = Inspection::new();
        let current = Cell::new(first);
        let changes = || {
            current.set(second);
            true
        };
        let read = |target: NonNull<i32>| target.as_ptr();
        assert_eq!(inspection.inspect(|| current.get(), changes, read), Some(second));
        assert_eq!(inspection.inspect(|| first, || false, read), None, "without a barrier");
        assert_eq!(inspection.inspect(ptr::null_mut, || true, read), None, "nothing runs");
        let looked_at = |_| unreachable!("nothing is looked at any more");
        inspection.await_end(NonNull::new(first).unwrap(), || looked_at(()));
    }
}
