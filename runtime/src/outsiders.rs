//! Joiners that are no threads of the runtime whose thread they join: that may stop before the thread
//! has ended, and then they must be told.
//!
//! ```text
//!   joiner                                 the last one out
//!   ------                                 ----------------
//!   register with the thread
//!   add itself, under the lock             STOPPED = true
//!   the thread has ended ? done            take all out, under the lock
//!   STOPPED ? never will                   unpark them
//!   park, and look again
//! ```
//!
//! If the joiner's critical section comes first it is taken out and woken; if it comes second, it sees
//! STOPPED. A thread that has ended did so before the last one left, so who sees STOPPED sees that too.

use std::collections::HashMap;

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, Ordering};

/// The joiners, by the id of the thread that they join.
#[derive(Debug)]
pub struct Outsiders<W> {
    /// All workers have left: what has not ended by now never will.
    stopped: AtomicBool,
    joiners: Mutex<HashMap<u64, W>>,
}

impl<W> Default for Outsiders<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Outsiders<W> {
    /// Nobody, of a runtime that runs.
    pub fn new() -> Self {
        Self { stopped: AtomicBool::new(false), joiners: Mutex::new(HashMap::new()) }
    }

    /// Whether the runtime has stopped; which threads have ended is then visible.
    pub fn has_stopped(&self) -> bool {
        // Acquire pairs with the Release in `stop`.
        self.stopped.load(Ordering::Acquire)
    }

    /// Has the joiner of thread `id` woken if the runtime stops first. It then looks at
    /// [`has_stopped`](Self::has_stopped).
    pub fn add(&self, id: u64, joiner: W) {
        // What was there is dropped after the lock: a waker is somebody's code.
        let _before = self.joiners.lock().insert(id, joiner);
    }

    /// Takes the joiner of thread `id` out, if it is there.
    pub fn remove(&self, id: u64) {
        // As above.
        let _before = self.joiners.lock().remove(&id);
    }

    /// For a joiner that was added: waits for the thread's end. False if it will never come.
    pub fn wait(&self, has_ended: impl Fn() -> bool, park: impl Fn()) -> bool {
        loop {
            if has_ended() {
                return true;
            }
            if self.has_stopped() {
                return has_ended();
            }
            park();
        }
    }

    /// The runtime has stopped. Whom to wake.
    pub fn stop(&self) -> HashMap<u64, W> {
        // Release pairs with the Acquire in `has_stopped`.
        self.stopped.store(true, Ordering::Release);
        std::mem::take(&mut *self.joiners.lock())
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_gone_is_woken_when_the_runtime_has_stopped() {
        let outsiders = Outsiders::new();
        outsiders.add(1, "stays");
        outsiders.add(2, "goes");
        outsiders.remove(2);
        assert!(!outsiders.has_stopped());
        assert_eq!(outsiders.stop().into_values().collect::<Vec<_>>(), ["stays"]);
        assert!(!outsiders.wait(|| false, || unreachable!("nobody would wake it")));
        assert!(outsiders.wait(|| true, || unreachable!("the thread has ended")));
    }
}
