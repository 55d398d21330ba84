//! When the poller thread leaves events to the workers.
//!
//! While a worker has something to run, waking the poller thread for each event is a waste: when
//! the worker runs out of work, it takes the events that are ready by itself before it sleeps. So
//! after a batch for which no worker had to be woken, the poller closes its gate and naps instead
//! of waiting for the next event. A worker that falls asleep while the gate is closed opens it and
//! wakes the poller, since it may have been the last. The nap is bounded, so that events are also
//! taken when no worker runs out of work; the bound is also how late a worker that sleeps beside a
//! busy one may be woken.
//!
//! # Why no event waits while all workers sleep
//!
//! ```text
//!   poller                              worker
//!   ------                              ------
//!   close the gate                      be counted as a sleeper
//!   fence(SeqCst)                       fence(SeqCst)
//!   nobody awake ? open it, no nap      gate closed ? open it, unpark the poller
//! ```
//!
//! Whichever fence comes first, the other side sees what was written before it. An unpark that
//! comes before the nap ends the nap at once.
#![cfg_attr(
    not(bine_loom),
    allow(unreachable_pub, reason = "public for the models in loom-tests only")
)]

use bine_runtime::primitive::atomic::{AtomicBool, Ordering, fence};

/// The gate; see the module's documentation.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicBool,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self { closed: AtomicBool::new(false) }
    }

    /// The poller closes the gate, unless it `must_poll` since no worker is awake. True if it may
    /// nap.
    #[must_use = "whether the poller may nap"]
    pub fn close(&self, must_poll: impl FnOnce() -> bool) -> bool {
        // Relaxed, here and below: ordered by the fences.
        self.closed.store(true, Ordering::Relaxed);
        // Pairs with the one in `worker_sleeps`.
        fence(Ordering::SeqCst);
        if must_poll() {
            self.open();
            return false;
        }
        true
    }

    /// The poller's nap is over.
    pub fn open(&self) {
        self.closed.store(false, Ordering::Relaxed);
    }

    /// To be called by a worker that has been counted as a sleeper. True if it must unpark the
    /// poller.
    #[must_use = "the poller naps and must be unparked"]
    pub fn worker_sleeps(&self) -> bool {
        // Pairs with the one in `close`.
        fence(Ordering::SeqCst);
        // An exchange that writes only where it finds the gate closed: of several workers one
        // unparks the poller, and one that comes late leaves what the poller has done since.
        self.closed.load(Ordering::Relaxed)
            && self
                .closed
                .compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
