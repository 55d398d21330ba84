//! The token of `thread::park`, which no other operation consumes.
//!
//! It lies on top of the token by which operations wait (`token`): an unpark makes this one available
//! and then unparks the thread, and a park waits, as every operation does, until it finds this one. So
//! a wake-up that was meant for an operation ends no park, and an unpark that comes while the thread
//! waits for something else is not lost.

use crate::primitive::atomic::{AtomicBool, Ordering};

/// Whether the token is available.
#[derive(Debug)]
pub struct UserToken(AtomicBool);

impl Default for UserToken {
    fn default() -> Self {
        Self::new()
    }
}

impl UserToken {
    /// Not available.
    #[inline]
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Makes it available. The caller then unparks the thread.
    pub fn make_available(&self) {
        // Release pairs with the Acquire in `take`. A swap and no store: it continues the release
        // sequence of those who unparked before, so the one park that takes the token for all of
        // them sees what each of them wrote.
        self.0.swap(true, Ordering::Release);
    }

    /// Whether it was available; it is not any more. For the thread itself.
    #[inline]
    pub fn take(&self) -> bool {
        // Acquire pairs with the Release in `make_available`.
        self.0.swap(false, Ordering::Acquire)
    }

    /// Waits with `park` until it has taken the token, or the time is up. Whether it has waited.
    #[inline]
    pub fn wait(&self, in_time: impl Fn() -> bool, park: impl Fn()) -> bool {
        let mut waited = false;
        while !self.take() && in_time() {
            park();
            waited = true;
        }
        waited
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_unparks_are_one_token() {
        let token = UserToken::new();
        token.make_available();
        token.make_available();
        assert!(!token.wait(|| true, || unreachable!("the token is there")));
        assert!(!token.take());
    }

    #[test]
    fn a_token_counts_although_the_time_is_up() {
        let token = UserToken::new();
        token.make_available();
        assert!(!token.wait(|| unreachable!("the token is there"), || {}));
        assert!(!token.wait(|| false, || unreachable!("the time is up")));
        assert!(token.wait(|| true, || token.make_available()));
    }
}
