//! What keeps a runtime's shared state: the runtime itself, handles to it, and the cells of its green
//! threads. The last of them frees it.
//!
//! Workers count the cells that they make and free without read-modify-writes, each for itself, so
//! those counts can be summed up only when the workers have left. Until then one large weight stands
//! for the runtime and for all that workers count:
//!
//! ```text
//!   word = RUNNING + handles - cells freed from outside                       (modulo 2^64)
//!   settle(cells made - cells freed by workers):   + cells - RUNNING
//!   word = handles + cells that are left
//! ```
//!
//! Before the settling the word is far from zero, whatever is freed from outside, and after it there
//! are no others to come: whoever brings it to zero is the last.

use crate::primitive::atomic::{AtomicU64, Ordering};

const RUNNING: u64 = 1 << 63;

/// The word; see the module's documentation.
#[derive(Debug)]
pub struct Keeping(AtomicU64);

impl Default for Keeping {
    fn default() -> Self {
        Self::new()
    }
}

impl Keeping {
    /// Of a runtime that runs.
    pub fn new() -> Self {
        Self(AtomicU64::new(RUNNING))
    }

    /// One more handle, made by somebody who holds one, or the runtime.
    pub fn keep(&self) {
        // Relaxed: made from something that keeps it meanwhile, as in Arc.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A handle is dropped, or a cell is freed by somebody who is no worker of the runtime. If true
    /// the caller frees; otherwise this was its last access.
    #[must_use = "says who frees"]
    pub fn let_go(&self) -> bool {
        // Release: the caller's accesses come before the freeing. Acquire: for the one who frees.
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The runtime is gone and its workers have left. `cells` were made, by anybody, and not freed
    /// by workers. If true the caller frees; otherwise this was its last access.
    ///
    /// Once.
    #[must_use = "says who frees"]
    pub fn settle(&self, cells: u64) -> bool {
        let change = cells.wrapping_sub(RUNNING);
        // As in `let_go`.
        self.0.fetch_add(change, Ordering::AcqRel).wrapping_add(change) == 0
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_frees_in_whatever_order() {
        assert!(Keeping::new().settle(0));

        let handle_last = Keeping::new();
        handle_last.keep();
        assert!(!handle_last.let_go());
        handle_last.keep();
        assert!(!handle_last.settle(0));
        assert!(handle_last.let_go());

        // Three cells were made; one was freed from outside before, one after.
        let cell_last = Keeping::new();
        assert!(!cell_last.let_go());
        assert!(!cell_last.settle(3));
        assert!(!cell_last.let_go());
        assert!(cell_last.let_go());

        let runtime_last = Keeping::new();
        assert!(!runtime_last.let_go());
        assert!(runtime_last.settle(1));
    }
}
