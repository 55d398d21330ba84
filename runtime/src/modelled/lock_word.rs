//! The word of a lock.
//!
//! A lock reads its word with Relaxed for a guess only, which an exchange confirms. The models of
//! the locks explore what a guess can be that is out of date. In the model of a user's program that is
//! the same program again, many times over: there such a read sees the last value.

use std::fmt;

pub use std::sync::atomic::Ordering;

use super::{atomic, explorer};

/// As [`atomic::AtomicU32`], but for what it reads with Relaxed.
pub struct AtomicU32(atomic::AtomicU32);

/// No word has this value.
const NEVER: u32 = u32::MAX;

impl AtomicU32 {
    /// A word that holds `value`.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(atomic::AtomicU32::new(value))
    }

    /// The end of the word: a model of bine's own protocols fails if somebody touches it later, or is not
    /// known to have done so before. (In a user's, std's `Arc` may be what says so, of which loom knows
    /// nothing.)
    pub fn end(&mut self) {
        if !explorer::is_users() {
            self.0.end();
        }
    }

    /// The value now.
    pub fn load(&self, order: Ordering) -> u32 {
        match order {
            // An exchange that fails reads the last value and writes nothing.
            Ordering::Relaxed if explorer::is_users() => {
                match self.0.compare_exchange(NEVER, NEVER, order, order) {
                    Ok(value) | Err(value) => value,
                }
            }
            _ => self.0.load(order),
        }
    }
}

impl std::ops::Deref for AtomicU32 {
    type Target = atomic::AtomicU32;

    fn deref(&self) -> &atomic::AtomicU32 {
        &self.0
    }
}

impl fmt::Debug for AtomicU32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
