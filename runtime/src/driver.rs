//! What `runtime` asks of whoever brings events from outside: the trait that bine-io's poller
//! implements.
//!
//! The arrow between the crates points from `io` to `runtime`, so the runtime cannot call the
//! poller by name. Instead the poller [`install`]s itself once for the process, and every worker
//! that is about to sleep asks the installed driver for events that are ready already.

use std::sync::OnceLock;

use crate::wait::WakeBatch;

/// A source of wake-ups that a worker may look at without blocking.
pub trait Driver: Sync {
    /// Takes the events that are ready now, adds every waiter they wake to `wake`, and returns how
    /// many events it took. Must not block and must not park: it runs on a worker's own stack.
    fn poll(&self, wake: &mut WakeBatch) -> usize;
}

static DRIVER: OnceLock<&'static dyn Driver> = OnceLock::new();

/// Makes `driver` the one that workers ask before they sleep. The first call of the process wins;
/// later ones are ignored and return false.
pub fn install(driver: &'static dyn Driver) -> bool {
    DRIVER.set(driver).is_ok()
}

/// Asks the installed driver, if there is one.
#[inline]
pub(crate) fn poll(wake: &mut WakeBatch) -> usize {
    match DRIVER.get() {
        Some(driver) => driver.poll(wake),
        None => 0,
    }
}
