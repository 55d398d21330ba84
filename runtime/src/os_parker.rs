//! How a plain OS thread waits in bine's blocking operations: a token behind a lock.
//!
//! Not `std::thread::park`: that token belongs to the user, who may be in the middle of a protocol
//! of their own with it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::os_token::OsToken;
use crate::{deadlines, fork};

/// In a forked child, how often a thread that waits looks whether it is alone.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// The token of one OS thread.
#[derive(Debug)]
pub(crate) struct OsParker {
    token: OsToken,
}

thread_local! {
    /// The calling thread's parker, or null. Has no destructor, so it can be read at any time.
    static CURRENT: Cell<*const OsParker> = const { Cell::new(std::ptr::null()) };
    /// Frees the parker when the thread ends.
    static REAPER: Reaper = const { Reaper };
}

/// Drops the thread's own reference to its parker. A thread-local destructor that waits after
/// this one has run gets a new parker, which is leaked.
struct Reaper;

impl Drop for Reaper {
    fn drop(&mut self) {
        let parker = CURRENT.replace(std::ptr::null());
        if !parker.is_null() {
            // SAFETY: `CURRENT` holds a pointer from `Arc::into_raw` or null, and it no longer
            // holds this one.
            drop(unsafe { Arc::from_raw(parker) });
        }
    }
}

impl OsParker {
    fn new() -> Self {
        Self { token: OsToken::new() }
    }

    /// The calling OS thread's, the same one at each call.
    pub(crate) fn current() -> Arc<Self> {
        let mut parker = CURRENT.get();
        if parker.is_null() {
            parker = Arc::into_raw(Arc::new(Self::new()));
            CURRENT.set(parker);
            // Registers the reaper; where thread-locals are being destroyed, there is none.
            let _ = REAPER.try_with(|_| ());
        }
        // SAFETY: `CURRENT` holds a pointer from `Arc::into_raw` whose reference it owns; this
        // makes a second one.
        unsafe {
            Arc::increment_strong_count(parker);
            Arc::from_raw(parker)
        }
    }

    /// As [`rest`](Self::rest), for a wait that may be unwound.
    ///
    /// # Panics
    ///
    /// In a forked child in which there is nobody else. Unwinds if a deadline of the thread's has passed.
    pub(crate) fn park(&self) {
        deadlines::look_on_os_thread();
        if fork::in_child() {
            return self.park_in_child();
        }
        self.rest();
    }

    #[cold]
    fn park_in_child(&self) {
        let woken = self.park_until(Instant::now() + LOOK_AROUND);
        // The token last: whoever has made it available and ended is not counted any more.
        if !woken && fork::is_alone() && !self.token.take() {
            fork::panic_alone();
        }
    }

    /// Waits for the token, and until the thread's next deadline at most.
    pub(crate) fn rest(&self) {
        match deadlines::next_of_os_thread() {
            None => self.token.wait(),
            Some(next) => {
                self.token.wait_until(next);
            }
        }
    }

    /// Waits for the token, and until `deadline` or the thread's next one at most. Whether there was a
    /// token.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        let next = deadlines::next_of_os_thread();
        self.token.wait_until(next.map_or(deadline, |next| next.min(deadline)))
    }

    pub(crate) fn unpark(&self) {
        self.token.make_available();
    }
}
