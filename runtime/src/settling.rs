//! Who frees what the workers of a runtime share, once all have left: the owner, if it still waits
//! for them, else the last one out.
//!
//! ```text
//!   NOBODY --await--> AWAITED --settle---> SETTLED   (the owner is woken, and frees)
//!                     AWAITED --give_up--> NOBODY    (the owner is gone)
//!                      NOBODY --settle---> SETTLED   (the one who settles frees)
//! ```

use crate::primitive::atomic::{AtomicU32, Ordering};
use crate::primitive::cell::UnsafeCell;

const NOBODY: u32 = 0;
const AWAITED: u32 = 1;
const SETTLED: u32 = 2;

/// The word, and the owner that waits.
#[derive(Debug)]
pub struct Settling<W> {
    state: AtomicU32,
    /// Invariant: written by the owner before it leaves, read by the one who settles.
    owner: UnsafeCell<Option<W>>,
}

// SAFETY: by the invariant on `owner`, one thread at a time has access to it.
unsafe impl<W: Send> Sync for Settling<W> {}

impl<W> Default for Settling<W> {
    fn default() -> Self {
        Self { state: AtomicU32::new(NOBODY), owner: UnsafeCell::new(None) }
    }
}

impl<W> Settling<W> {
    /// The owner is going to wait.
    ///
    /// # Safety
    ///
    /// Once, before the owner has left: what it does until then happens before `settle`.
    pub unsafe fn await_it(&self, owner: W) {
        // SAFETY: nobody settles before the owner has left.
        self.owner.with_mut(|cell| unsafe { *cell = Some(owner) });
        // Relaxed: ordered by the leaving.
        self.state.store(AWAITED, Ordering::Relaxed);
    }

    /// For the owner that waits. If true, all others have made their last access.
    pub fn is_settled(&self) -> bool {
        // Acquire pairs with the Release in `settle`.
        self.state.load(Ordering::Acquire) == SETTLED
    }

    /// The owner waits no longer. If true, this was its last access, and the one who settles frees;
    /// otherwise all is settled.
    #[must_use = "says who frees"]
    pub fn give_up(&self) -> bool {
        // Release pairs with the Acquire in `settle`, Acquire with its Release.
        self.state.compare_exchange(AWAITED, NOBODY, Ordering::Release, Ordering::Acquire).is_ok()
    }

    /// All have left. The owner to wake, which frees: this was then the caller's last access. If
    /// there is none, the caller frees.
    ///
    /// # Safety
    ///
    /// Once, after all have left.
    pub unsafe fn settle(&self) -> Option<W> {
        // Before the swap, after which it may be freed.
        // SAFETY: the owner has left, and writes it no more.
        let owner = self.owner.with_mut(|cell| unsafe { (*cell).take() });
        // Release and Acquire: as said above.
        match self.state.swap(SETTLED, Ordering::AcqRel) {
            AWAITED => owner,
            _ => None,
        }
    }
}
