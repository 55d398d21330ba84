//! The word in which others ask a green thread to attend to something.
//!
//! ```text
//! who asks                         the thread
//! set a bit                        look: is a bit set? attend to it
//! unpark                           is there a token? consume it, and look again; else park
//! ```
//!
//! The look is Relaxed: a thread that misses the bit finds the token of the unpark that follows,
//! then or when it parks, and the token brings the bit along. What others ask for is never cleared.

use crate::primitive::atomic::{AtomicU8, Ordering};

/// The word.
#[derive(Debug)]
pub struct Requests(AtomicU8);

impl Default for Requests {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Requests {
    /// What is asked from the beginning.
    #[inline]
    pub fn new(bits: u8) -> Self {
        Self(AtomicU8::new(bits))
    }

    /// Clears a bit of the thread's own, for which nobody else asks.
    pub fn clear(&self, bit: u8) {
        // Relaxed: the thread alone reads it.
        self.0.fetch_and(!bit, Ordering::Relaxed);
    }

    /// Asks for `bit`. The caller unparks the thread afterwards.
    pub fn ask(&self, bit: u8) {
        // Release pairs with the Acquire in `asks`.
        self.0.fetch_or(bit, Ordering::Release);
    }

    /// For the thread itself, before it waits: whether there is anything to attend to.
    #[inline]
    pub fn any(&self) -> bool {
        // Relaxed: see the module's documentation.
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether `bit` is asked for.
    pub fn asks(&self, bit: u8) -> bool {
        // Acquire pairs with the Release in `ask`: what came before it is visible.
        self.0.load(Ordering::Acquire) & bit != 0
    }
}
