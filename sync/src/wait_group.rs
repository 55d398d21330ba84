//! Waiting for a group of threads. The shape is that of crossbeam's.

use std::fmt;
use std::sync::Arc;

use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};

use crate::wait_queue::{self, Entrance};

/// A group of threads, each of which has a clone, and one or several that wait until the others have
/// dropped theirs.
///
/// # Fairness
/// All that wait go on at once.
///
/// # Poisoning
/// There is none. A thread that panics drops its clone as it unwinds.
///
/// # Cancellation
/// A green thread that is cancelled leaves: it drops its clone as it unwinds, and one that waits has
/// done so already.
///
/// # Cost
/// An allocation for each group; two additions for each clone and each drop, of which one counts who
/// has the allocation. Waiting allocates nothing. Whoever leaves last wakes those that wait one after the
/// other. See [what things cost](crate#what-things-cost).
///
/// # Where it comes from
/// The interface is crossbeam's. The count is a word to wait at, in the manner of a futex, in place of
/// a lock and a condition variable.
///
/// # Examples
/// ```
/// use bine_sync::WaitGroup;
///
/// let group = WaitGroup::new();
/// for _ in 0..4 {
///     let group = group.clone();
///     std::thread::spawn(move || drop(group));
/// }
/// group.wait();
/// ```
pub struct WaitGroup {
    members: Arc<Members>,
}

/// How many clones there are. The word that threads wait at.
struct Members(AtomicUsize);

impl WaitGroup {
    /// A group of one.
    ///
    /// # Examples
    /// As of [`WaitGroup`].
    #[must_use]
    pub fn new() -> Self {
        Self { members: Arc::new(Members(AtomicUsize::new(1))) }
    }

    /// Drops this one, and waits until all others are dropped.
    ///
    /// What their threads did before happens before the return.
    ///
    /// # Examples
    /// As of [`WaitGroup`].
    pub fn wait(self) {
        let members = Arc::clone(&self.members);
        drop(self);
        members.wait();
    }
}

impl Members {
    fn wait(&self) {
        // Acquire: pairs with the Release of those who left.
        let stay = || self.0.load(Ordering::Acquire) != 0;
        // Once nobody is left, nobody can be added, so one that was woken need not look again. It
        // does, in case that the queue wakes it for another reason.
        while stay() {
            let _ = wait_queue::park(self.key(), Entrance::default(), None, stay, || (), |_| ());
        }
    }

    fn key(&self) -> usize {
        wait_queue::address(&raw const self.0)
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        // Relaxed: `self` keeps the count from reaching 0 meanwhile.
        self.members.0.fetch_add(1, Ordering::Relaxed);
        Self { members: Arc::clone(&self.members) }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of those who wait. It is part of the release sequence of
        // those who left before.
        if self.members.0.fetch_sub(1, Ordering::Release) == 1 {
            wait_queue::unpark(self.members.key(), usize::MAX, || ());
        }
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: others may change it at any time.
        let count = self.members.0.load(Ordering::Relaxed);
        f.debug_struct("WaitGroup").field("count", &count).finish()
    }
}
