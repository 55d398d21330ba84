//! Waiting: what every blocking operation of bine is made of.
//!
//! A blocking operation publishes an [`Unparker`] of the calling thread where its waker will find
//! it, checks its condition once more, and calls [`park`]. The waker takes the unparker out and
//! calls [`Unparker::unpark`]. An `unpark` that comes before the `park` makes the `park` return at
//! once (a token, as in `std::thread::park`), and a `park` may return for no reason, so the waiter
//! always checks its condition in a loop.
//!
//! The same calls serve green threads and plain OS threads. The token here is *not* the one of
//! `bine::thread::park`: an operation that waits never eats a user's `unpark`.

use std::sync::Arc;
use std::time::Instant;

use crate::os_parker::OsParker;

/// Wakes one thread, green or OS, from [`park`].
///
/// Everything before `unpark` happens before the return of the `park` that it ends.
#[derive(Clone, Debug)]
pub struct Unparker(Target);

#[derive(Clone, Debug)]
enum Target {
    Os(Arc<OsParker>),
}

impl Unparker {
    /// The calling thread's.
    pub fn current() -> Self {
        Self(Target::Os(OsParker::current()))
    }

    /// Makes the thread's current or next [`park`] return.
    pub fn unpark(self) {
        match self.0 {
            Target::Os(parker) => parker.unpark(),
        }
    }
}

/// Waits until the calling thread is unparked. May return for no reason.
pub fn park() {
    OsParker::current().park();
}

/// Waits until the calling thread is unparked or `deadline` has passed. May return for no reason.
pub fn park_until(deadline: Instant) {
    OsParker::current().park_until(deadline);
}

/// Whether the caller runs on a green thread (of any runtime).
pub fn is_green() -> bool {
    false
}

/// Charges one unit of the calling green thread's operation budget and yields when it is spent, so
/// that a thread whose operations never have to wait does not keep its worker for itself. To be
/// called once by each operation that may succeed without waiting. Nothing on an OS thread.
#[inline]
pub fn checkpoint() {}

/// Gathers wake-ups, so that many threads can be moved to their queues before any worker is woken,
/// and each worker is then woken once. Flushes when dropped.
#[derive(Debug, Default)]
pub struct WakeBatch {
    os: Vec<Unparker>,
}

impl WakeBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a thread to wake.
    pub fn push(&mut self, unparker: Unparker) {
        self.os.push(unparker);
    }

    /// Wakes all that were added.
    pub fn flush(&mut self) {
        for unparker in self.os.drain(..) {
            unparker.unpark();
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        self.flush();
    }
}
