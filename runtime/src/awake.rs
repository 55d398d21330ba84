//! How many workers of the process are awake: one of them looks after events, if nobody waits for them. Those
//! that have a lane are not counted.

use crate::primitive::atomic::{AtomicUsize, Ordering, fence};

/// The count; who relies on it is told in bine-io's `seat.rs`.
#[derive(Debug)]
pub struct Awake {
    workers: AtomicUsize,
    /// How many of them sleep or are about to.
    sleepers: AtomicUsize,
}

impl Default for Awake {
    fn default() -> Self {
        Self::new()
    }
}

impl Awake {
    /// Of no workers.
    #[cfg(not(bine_loom))]
    pub const fn new() -> Self {
        Self { workers: AtomicUsize::new(0), sleepers: AtomicUsize::new(0) }
    }

    /// Of no workers.
    #[cfg(bine_loom)]
    pub fn new() -> Self {
        Self { workers: AtomicUsize::new(0), sleepers: AtomicUsize::new(0) }
    }

    /// A worker starts.
    pub fn start(&self) {
        // Relaxed, here and below: ordered by the fences.
        self.workers.fetch_add(1, Ordering::Relaxed);
    }

    /// It ends, or has a lane from now on.
    pub fn end(&self) {
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    /// It is about to sleep. Then it takes the driver's seat if that is free, unless it sees that
    /// somebody else is awake.
    pub fn fall_asleep(&self) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Pairs with another one's, and with the one in `Seat::is_handed_back`.
        fence(Ordering::SeqCst);
    }

    /// It has woken up.
    pub fn wake_up(&self) {
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody neither sleeps nor is about to. For those who have a fence before this.
    pub fn is_anybody(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) < self.workers.load(Ordering::Relaxed)
    }

    /// Whether somebody beside the worker that asks, which is awake, is awake too, as things look.
    pub fn is_another(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) + 1 < self.workers.load(Ordering::Relaxed)
    }
}
