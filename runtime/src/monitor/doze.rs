//! How the monitor stops looking while all workers sleep, and no hold goes unseen.
//!
//! ```text
//!   monitor                                a worker that wakes up
//!   -------                                ----------------------
//!   DOZING = true                          becomes AWAKE
//!   fence(SeqCst)              (A)         fence(SeqCst)              (B)
//!   some worker is not asleep ?            DOZING ? take it back,
//!     take it back, go on                    and unpark the monitor
//!   sleep while DOZING
//! ```
//!
//! The fences are totally ordered: if (A) comes first, the worker sees DOZING; if (B) does, the
//! monitor sees the worker awake. A worker whose last look finds work was asleep for a moment, too, and
//! does as one that wakes up.

use crate::primitive::atomic::{AtomicBool, Ordering, fence};

/// Whether the monitor dozes; see the module's documentation.
#[derive(Debug)]
pub struct Doze(AtomicBool);

impl Default for Doze {
    fn default() -> Self {
        Self::new()
    }
}

impl Doze {
    /// The monitor is awake.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The monitor is about to sleep. It then looks whether all workers are asleep, and calls
    /// [`disturb`](Self::disturb) itself if they are not.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        // (A), pairs with (B) in `disturb_if_dozing`.
        fence(Ordering::SeqCst);
    }

    /// Whether the monitor may go on sleeping.
    pub fn lasts(&self) -> bool {
        // Relaxed: nothing is handed over. The looks that follow take samples.
        self.0.load(Ordering::Relaxed)
    }

    /// A worker has become awake. True if the caller must unpark the monitor.
    #[must_use = "the monitor sleeps until it is unparked"]
    #[inline]
    pub fn disturb_if_dozing(&self) -> bool {
        // (B), pairs with (A) in `begin`.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.disturb()
    }

    /// Ends the doze. True if there was one, and the caller must unpark the monitor, or is it.
    pub fn disturb(&self) -> bool {
        // Relaxed: as in `lasts`; of several one is told.
        self.0.swap(false, Ordering::Relaxed)
    }
}
