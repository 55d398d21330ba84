//! The token by which a plain OS thread waits in bine's blocking operations: a flag behind a lock.

use std::time::Instant;

use crate::primitive::{Condvar, CondvarMutex};

/// Whether the token is available, and the one thread that may wait for it.
#[derive(Debug)]
pub struct OsToken {
    available: CondvarMutex<bool>,
    changed: Condvar,
}

impl Default for OsToken {
    fn default() -> Self {
        Self::new()
    }
}

impl OsToken {
    /// Not available.
    pub fn new() -> Self {
        Self { available: CondvarMutex::new(false), changed: Condvar::new() }
    }

    /// Waits for the token and takes it.
    pub fn wait(&self) {
        let mut available = self.available.lock();
        while !*available {
            available = self.changed.wait(available);
        }
        *available = false;
    }

    /// As [`wait`](Self::wait), until `deadline` at most. Whether there was a token.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut available = self.available.lock();
        let mut timed_out = false;
        while !*available && !timed_out {
            (available, timed_out) = self.changed.wait_until(&self.available, available, deadline);
        }
        std::mem::take(&mut *available)
    }

    /// Whether there was a token, which is taken.
    pub fn take(&self) -> bool {
        std::mem::take(&mut *self.available.lock())
    }

    /// Makes it available, and wakes the thread if it waits.
    pub fn make_available(&self) {
        // Under the lock, so the thread either sees it or waits by now.
        *self.available.lock() = true;
        self.changed.notify_one();
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_one_wait() {
        let token = OsToken::new();
        token.make_available();
        token.make_available();
        token.wait();
        assert!(!token.wait_until(Instant::now()));
        token.make_available();
        assert!(token.wait_until(Instant::now()), "a token counts although the time is up");
        assert!(!token.take());
    }
}
