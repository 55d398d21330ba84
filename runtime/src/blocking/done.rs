//! How the end of a job meets the one who waits for it.

use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::primitive::cell::UnsafeCell;
use crate::wait::{self, Unparker};

/// On the stack of the one who waits, so it is gone as soon as `done` is seen.
#[derive(Debug)]
pub struct Done {
    done: AtomicBool,
    /// Invariant: belongs to the one who finishes, until it says so.
    waiter: UnsafeCell<Option<Unparker>>,
}

// SAFETY: by the invariant on `waiter`, at most one thread has access to it at a time.
unsafe impl Sync for Done {}

impl Done {
    /// Of a job that the calling thread will wait for.
    pub fn for_current() -> Self {
        let waiter = UnsafeCell::new(Some(Unparker::current()));
        Self { done: AtomicBool::new(false), waiter }
    }

    /// All is done, and what the caller did before is visible to the one who waits. Returns whom to
    /// wake.
    ///
    /// # Safety
    ///
    /// Once. The pointer is valid until this has said that all is done, and not used afterwards.
    #[must_use = "the one who waits must be woken"]
    pub unsafe fn finish(this: *const Self) -> Option<Unparker> {
        // SAFETY: the waiter keeps this until `done`; the unparker is ours until then.
        let waiter = unsafe { (*this).waiter.with_mut(|waiter| (*waiter).take()) };
        // SAFETY: as above; this is the last access. Release pairs with the Acquire in `wait`.
        unsafe { (*this).done.store(true, Ordering::Release) };
        waiter
    }

    /// Waits for `finish`. Does not unwind if the caller is shielded.
    pub fn wait(&self) {
        // Acquire pairs with the Release in `finish`.
        while !self.done.load(Ordering::Acquire) {
            wait::park();
        }
    }
}
