//! Who is busy with a runtime: its owner, its workers, and whoever spawns on it from outside through a
//! handle. The last one to leave settles what is left.
//!
//! ```text
//!   owner          close ----> leave
//!   worker         enter ... leave
//!   from outside   try_enter: queue the thread; leave        (or refused, once it is closed)
//! ```
//!
//! A thread that is spawned from outside is queued between `try_enter` and `leave`, and the queues
//! are settled after the last `leave`: so a worker takes it, or the settling finds it, or the spawn
//! is refused. The owner closes before it leaves, so nobody enters after the last one has left.

use crate::primitive::atomic::{AtomicUsize, Ordering};

/// Nobody comes in from outside any more.
const CLOSED: usize = 1;
/// One who is present.
const ONE: usize = 2;

/// The count, in steps of `ONE`, and the bit `CLOSED`.
#[derive(Debug)]
pub struct Presence(AtomicUsize);

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

impl Presence {
    /// With the owner present.
    pub fn new() -> Self {
        Self(AtomicUsize::new(ONE))
    }

    /// One more, made by somebody who is present.
    pub fn enter(&self) {
        // Relaxed: the maker tells the new one in its own way, and leaves after that.
        self.0.fetch_add(ONE, Ordering::Relaxed);
    }

    /// Comes in from outside. False if it is closed.
    #[must_use = "who has not entered must not leave"]
    pub fn try_enter(&self) -> bool {
        let mut now = self.0.load(Ordering::Relaxed);
        while now & CLOSED == 0 {
            // Relaxed: what the caller does is released when it leaves.
            let (next, relaxed) = (now + ONE, Ordering::Relaxed);
            match self.0.compare_exchange_weak(now, next, relaxed, relaxed) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }

    /// Nobody comes in from outside from now on. By the owner, which is present.
    pub fn close(&self) {
        // Relaxed: one word, so whoever entered has done so before.
        self.0.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Leaves. True for the last one, which sees all that the others did.
    #[must_use = "the last one settles"]
    pub fn leave(&self) -> bool {
        // Release: what this one did comes before the settling. Acquire: for the one who settles.
        self.0.fetch_sub(ONE, Ordering::AcqRel) / ONE == 1
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_in_after_the_close_and_one_is_the_last() {
        let presence = Presence::new();
        presence.enter();
        assert!(presence.try_enter());
        presence.close();
        assert!(!presence.try_enter());
        assert!(!presence.leave());
        assert!(!presence.leave());
        assert!(presence.leave());
        assert!(!presence.try_enter());
    }
}
