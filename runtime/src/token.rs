//! The park token: who may make a green thread runnable, and when.
//!
//! ```text
//!             unpark                      park (fast path)
//!   RUNNING ----------> NOTIFIED ------------------------------> RUNNING
//!      |                    ^ |
//!      | commit_park        | | commit_park (fails: the thread is queued again)
//!      v                    | v
//!    PARKED                 RUNNING
//!      |
//!      | unpark: the one who makes this step, and nobody else, queues the thread
//!      v
//!   RUNNING (in a run queue)
//! ```
//!
//! A thread that parks switches away in state RUNNING, and *after* the switch whoever runs next on
//! that OS thread commits: RUNNING becomes PARKED. Only PARKED can be made runnable, so nobody can
//! resume a stack whose registers are not saved yet. An `unpark` that comes between the park and
//! its commit leaves NOTIFIED, the commit fails, and the committer queues the thread again.
//!
//! Invariant: a thread is in at most one run queue, and in none while it is PARKED. It enters one
//! by the single successful step PARKED -> RUNNING, or by its own worker after a failed commit or
//! a yield.

use crate::primitive::atomic::{AtomicU32, Ordering};

const RUNNING: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = 2;

/// What became of a park that was to be committed.
#[must_use]
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Commit {
    /// The thread is parked. It may be running elsewhere already: touch it no more.
    Parked,
    /// It was unparked meanwhile; the token is consumed and the caller must queue it.
    Notified,
}

/// What an unpark must do next.
#[must_use]
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Unpark {
    /// The thread runs or is queued, and will find the token.
    Nothing,
    /// The thread was parked; the caller owns its resumption and must queue it.
    Schedule,
}

/// The word; see the module's documentation.
#[derive(Debug)]
pub struct Token(AtomicU32);

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

impl Token {
    /// The token of a thread that runs, or will be queued.
    pub fn new() -> Self {
        Self(AtomicU32::new(RUNNING))
    }

    /// Takes a token that is there already. For the thread itself, before it parks.
    #[inline]
    pub fn try_consume(&self) -> bool {
        // Relaxed: a hint; the swap decides.
        if self.0.load(Ordering::Relaxed) != NOTIFIED {
            return false;
        }
        // Acquire pairs with the Release of every `unpark` that this token stands for. Nobody but
        // the thread itself leaves NOTIFIED, so the swap finds it.
        self.0.swap(RUNNING, Ordering::Acquire) == NOTIFIED
    }

    /// Makes a thread resumable whose registers are saved. For whoever runs next on its OS thread.
    #[inline]
    pub fn commit_park(&self) -> Commit {
        // Release pairs with the Acquire of the `unpark` that takes the thread out of PARKED: it
        // publishes the saved registers and the thread's home.
        if self.0.compare_exchange(RUNNING, PARKED, Ordering::Release, Ordering::Relaxed).is_ok() {
            return Commit::Parked;
        }
        // Acquire: as in `try_consume`.
        let found = self.0.swap(RUNNING, Ordering::Acquire);
        debug_assert_eq!(found, NOTIFIED, "only an unpark changes the token of a running thread");
        Commit::Notified
    }

    /// Leaves a token, or takes the thread out of PARKED.
    #[inline]
    pub fn unpark(&self) -> Unpark {
        // Relaxed: the exchange decides.
        let mut found = self.0.load(Ordering::Relaxed);
        loop {
            let next = if found == PARKED { RUNNING } else { NOTIFIED };
            // Release pairs with the Acquire of `try_consume` and `commit_park`, also where the
            // token is there already and the exchange changes nothing: what this caller wrote must
            // be seen by whoever consumes the token. Acquire pairs with the Release of
            // `commit_park`: the caller is about to hand the saved registers on.
            match self.0.compare_exchange_weak(found, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(PARKED) => return Unpark::Schedule,
                Ok(_) => return Unpark::Nothing,
                Err(now) => found = now,
            }
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn unpark_before_park_is_consumed_once() {
        let token = Token::new();
        assert_eq!(token.unpark(), Unpark::Nothing);
        assert_eq!(token.unpark(), Unpark::Nothing);
        assert!(token.try_consume());
        assert!(!token.try_consume());
    }

    #[test]
    fn unpark_between_park_and_commit_fails_the_commit() {
        let token = Token::new();
        assert!(!token.try_consume());
        assert_eq!(token.unpark(), Unpark::Nothing);
        assert_eq!(token.commit_park(), Commit::Notified);
        assert!(!token.try_consume());
    }

    #[test]
    fn only_one_unpark_schedules() {
        let token = Token::new();
        assert_eq!(token.commit_park(), Commit::Parked);
        assert_eq!(token.unpark(), Unpark::Schedule);
        assert_eq!(token.unpark(), Unpark::Nothing);
        assert!(token.try_consume());
    }
}
