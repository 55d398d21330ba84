//! Waiting for signals.
#![allow(unsafe_code)]

mod signals;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bine_runtime::primitive::Mutex;
pub use libc::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

pub use self::signals::{Iter, Signals};

use crate::poller::tried;
use crate::readiness::{Attempt, Direction};
use crate::source::Source;
use crate::{fork, sys};

/// An eventfd that the handler writes to. It is never read: each write is an edge of its own.
static INTERRUPTS: OnceLock<Source<OwnedFd>> = OnceLock::new();
/// Held while the handler is installed, so that it is installed once.
static INSTALLING: Mutex<()> = Mutex::new(());
/// How many SIGINTs have arrived since the handler was installed.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// How many of them some call has returned for.
static REPORTED: AtomicU64 = AtomicU64::new(0);

/// Waits until the process receives SIGINT, which Ctrl-C on the terminal sends.
///
/// The first call installs a handler, which stays: from then on SIGINT does not end the process.
/// (Handlers installed before are still called.) A SIGINT that arrives while nobody waits is
/// remembered and ends the next call at once; several such count as one, as is the way of signals.
/// All calls that wait when a SIGINT arrives return.
///
/// A program that wants a second Ctrl-C to end it even while it shuts down has a green thread call
/// this again and then [`std::process::exit`].
///
/// # Errors
///
/// If the handler or the eventfd behind it cannot be had, and in a child forked after the first
/// call.
///
/// # Examples
///
/// ```no_run
/// println!("serving, end with Ctrl-C");
/// bine_io::signal::ctrl_c()?;
/// println!("shutting down");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn ctrl_c() -> io::Result<()> {
    // Acquire pairs with the release below: what a call reported is not reported again by one
    // that comes after it.
    let reported = REPORTED.load(Ordering::Acquire);
    let interrupts = installed()?;
    let mut arrived = reported;
    interrupts.operate(Direction::Read, || {
        // Acquire pairs with the release in `on_sigint`: what the sender of the signal saw done
        // before it, the caller sees too.
        arrived = ARRIVED.load(Ordering::Acquire);
        if arrived > reported { Attempt::Done(0) } else { Attempt::WouldBlock }
    })?;
    REPORTED.fetch_max(arrived, Ordering::Release);
    Ok(())
}

/// The eventfd, with its handler installed.
fn installed() -> io::Result<&'static Source<OwnedFd>> {
    if let Some(interrupts) = INTERRUPTS.get() {
        return Ok(interrupts);
    }
    // The lock might be held for ever in a forked child.
    fork::check()?;
    let _installing = INSTALLING.lock();
    if let Some(interrupts) = INTERRUPTS.get() {
        return Ok(interrupts);
    }
    let eventfd = sys::eventfd().map_err(tried("creating an eventfd for SIGINT"))?;
    let fd = eventfd.as_raw_fd();
    let handler = move || on_sigint(fd);
    // SAFETY: the handler only touches atomics and calls write(2), both async-signal-safe; errno
    // is saved by the registry. The eventfd stays open as long as the handler is installed, which
    // is for ever once it is in `INTERRUPTS`, where it goes if this succeeds.
    let registered =
        sys::out_of_line(|| unsafe { signal_hook_registry::register(libc::SIGINT, handler) });
    registered.map_err(tried("installing a handler for SIGINT"))?;
    Ok(INTERRUPTS.get_or_init(|| Source::new(eventfd)))
}

/// Runs in the signal handler.
fn on_sigint(eventfd: i32) {
    // Before the write: whoever is woken by the event finds the count. The kernel's lock of the
    // eventfd orders the two for the poller, and the readiness word for the waiter.
    ARRIVED.fetch_add(1, Ordering::Release);
    if !fork::in_child() {
        sys::eventfd_add(eventfd);
    }
}
