//! Where a worker sleeps: on its OS thread's own futex, or in the driver or its lane, where events wake it too.
//!
//! ```text
//!   worker                                 waker
//!   ------                                 -----
//!   it has become ASLEEP                   take it out of ASLEEP
//!   IN_DRIVER = true                       fence(SeqCst)
//!   fence(SeqCst)                          IN_DRIVER ? end its wait in the driver
//!   still ASLEEP ? wait in the driver      else unpark its OS thread
//!   IN_DRIVER = false
//!   fence(SeqCst)
//!   still ASLEEP ? again, or its futex
//! ```
//!
//! The fences are totally ordered: either the worker sees that it is not asleep any more, and does not
//! wait, or the waker sees where it waits. A waker that comes late ends a wait that is over, or another
//! one: whoever waits looks again why. An unpark that comes first makes the park return at once, and
//! likewise the driver's next wait.

use crate::primitive::atomic::{AtomicBool, Ordering, fence};

/// Whether one worker waits in the driver; see the module's documentation.
#[derive(Debug)]
pub struct Berth(AtomicBool);

impl Default for Berth {
    fn default() -> Self {
        Self::new()
    }
}

impl Berth {
    /// Of a worker that is awake.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// By the worker, which nobody else keeps from waiting in the driver: calls `wait`, unless it is not
    /// asleep any more. Whether it has.
    pub fn wait(&self, is_asleep: impl FnOnce() -> bool, wait: impl FnOnce()) -> bool {
        // Relaxed, here and below: ordered by the fences.
        self.0.store(true, Ordering::Relaxed);
        // Pairs with the one in `wake`.
        fence(Ordering::SeqCst);
        let waits = is_asleep();
        if waits {
            wait();
        }
        self.0.store(false, Ordering::Relaxed);
        // Pairs with the one in `wake`, before the worker looks again whether it is asleep.
        fence(Ordering::SeqCst);
        waits
    }

    /// By whoever has taken the worker out of ASLEEP: ends its sleep.
    pub fn wake(&self, end_wait: impl FnOnce(), unpark: impl FnOnce()) {
        // Pairs with the one in `wait`.
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::Relaxed) {
            end_wait();
        } else {
            unpark();
        }
    }
}
