//! What is private to this crate and has models of its own all the same, under loom only.

use std::fmt;
use std::time::{Duration, Instant};

use crate::wait_list;

/// The list of waiters that channels have, for models in which it stands beside something smaller
/// than a channel. As it ships: each method calls the one of its name.
pub struct WaitList(wait_list::WaitList);

impl WaitList {
    /// A list in which nobody waits.
    #[expect(clippy::new_without_default, reason = "as the one that it wraps")]
    pub fn new() -> Self {
        Self(wait_list::WaitList::new())
    }

    /// Calls `attempt` until it gives a value, and waits between; none if that ends early, at
    /// `timeout` or by a cancellation.
    pub fn wait_for<R>(
        &self,
        timeout: Option<Duration>,
        attempt: impl FnMut() -> Option<R>,
        backlog: impl Fn() -> usize,
    ) -> Option<R> {
        self.0.wait_for(timeout.map(|timeout| Instant::now() + timeout), attempt, backlog)
    }

    /// Wakes one if one is needed.
    pub fn notify_one(&self, backlog: impl FnOnce() -> usize) {
        self.0.notify_one(backlog);
    }

    /// Wakes all.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl fmt::Debug for WaitList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitList").finish_non_exhaustive()
    }
}
