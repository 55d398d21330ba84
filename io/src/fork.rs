//! Forked children.
//!
//! A child has none of its parent's other threads, so no poller, but it shares the parent's epoll
//! instance: a child that took events would steal them, and one that removed a descriptor of the
//! same number would remove the parent's. Locks, too, may be held for ever there. So a process
//! that was forked after the poller was started is marked, and touches neither poller nor slots:
//! operations that need not wait work, others fail with a clear error. What `exec` follows is not
//! concerned, nor a child forked before the poller was started: that one starts its own.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set in a child by the fork itself.
static IN_CHILD: AtomicBool = AtomicBool::new(false);
static WATCHING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> libc::c_int;
}

/// Runs in the child, before `fork` returns there; async-signal-safe.
extern "C" fn mark_child() {
    // Relaxed, here and below: the child has one thread, and whatever threads it starts later
    // have this before them.
    IN_CHILD.store(true, Ordering::Relaxed);
}

/// Whether this process was forked after [`watch`].
#[inline]
pub(crate) fn in_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// Fails in a process that was forked after [`watch`].
pub(crate) fn check() -> io::Result<()> {
    if in_child() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "bine's poller does not run in a child forked after it was started: \
             call exec, or fork before the first operation that waits",
        ));
    }
    Ok(())
}

/// Has children that are forked from now on marked.
pub(crate) fn watch() -> io::Result<()> {
    // Relaxed: a racing second handler does no harm, and a caller that skips the call comes to a
    // lock next (`poller::start`) or has its own thread's order.
    if WATCHING.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: `mark_child` is a function of this program and does nothing that is not allowed
    // between a fork and an exec.
    let error = unsafe { pthread_atfork(None, None, Some(mark_child)) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    WATCHING.store(true, Ordering::Relaxed);
    Ok(())
}
