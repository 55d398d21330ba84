//! What `runtime` asks of whoever brings events from outside: the trait that bine-io's poller
//! implements.
//!
//! The arrow between the crates points from `io` to `runtime`, so the runtime cannot call the
//! poller by name. Instead the poller [`install`]s itself once for the process, and every worker
//! that is about to sleep asks the installed driver for events that are ready already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::{io, thread};

use bine_arch::overflow;

use crate::runtime::release_thread;
use crate::wait::WakeBatch;

/// A source of wake-ups that a worker may look at without blocking.
pub trait Driver: Sync {
    /// Takes the events that are ready now, adds every waiter they wake to `wake`, and returns how
    /// many events it took. Must not block and must not park: it runs on a worker's own stack.
    fn poll(&self, wake: &mut WakeBatch) -> usize;

    /// A worker has found nothing to do and is about to sleep; [`any_worker_awake`] does not
    /// count it any more. From now on somebody else must wait for events.
    fn worker_sleeps(&self);
}

/// How many workers there are, in all runtimes of the process.
static WORKERS: AtomicUsize = AtomicUsize::new(0);
/// How many of them sleep or are about to.
static SLEEPERS: AtomicUsize = AtomicUsize::new(0);

/// Whether there are workers in the process that neither sleep nor are about to. For a driver that
/// stores something first, and has a SeqCst fence in between, which pairs with one that it puts at
/// the start of [`Driver::worker_sleeps`]: the last worker to fall asleep sees what was stored, or
/// is seen here.
pub fn any_worker_awake() -> bool {
    SLEEPERS.load(Ordering::Relaxed) < WORKERS.load(Ordering::Relaxed)
}

/// A worker starts.
pub(crate) fn worker_starts() {
    WORKERS.fetch_add(1, Ordering::Relaxed);
}

/// It ends.
pub(crate) fn worker_ends() {
    WORKERS.fetch_sub(1, Ordering::Relaxed);
}

/// A worker is about to sleep.
pub(crate) fn worker_sleeps() {
    // Relaxed: ordered by the driver's fence.
    SLEEPERS.fetch_add(1, Ordering::Relaxed);
    if let Some(driver) = DRIVER.get() {
        driver.worker_sleeps();
    }
}

/// It has woken up.
pub(crate) fn worker_wakes() {
    SLEEPERS.fetch_sub(1, Ordering::Relaxed);
}

/// Starts an OS thread of the driver's own, with a stack of `stack_size` bytes. There is room for its
/// start, or else an error, unless other threads take that room meanwhile. It does not stay on the
/// core of the worker that starts it.
///
/// # Errors
///
/// If the system refuses the thread, or memory for its start.
pub fn start_thread(
    name: String,
    stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let begun = Arc::new(OnceLock::new());
    let tell = Arc::clone(&begun);
    drop(overflow::Headroom::hold_with(stack_size)?);
    thread::Builder::new().name(name).stack_size(stack_size).spawn(move || {
        release_thread();
        let told = tell.set(());
        debug_assert!(told.is_ok(), "a thread starts once");
        drop(tell);
        body();
    })?;
    begun.wait();
    Ok(())
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
