//! Waiting for a descriptor that stays as blocking as it is.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, RawFd};

use crate::readiness::{Attempt, Direction};
use crate::source::Source;

/// The descriptor of a standard stream.
struct Standard(RawFd);

impl AsFd for Standard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptors 0 to 2 are open as long as the process lives, or whoever closes
        // them takes it upon himself, as with std's.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Waits until a call in `direction` on the standard stream `fd` would probably not block. Returns
/// at once where that cannot be told.
///
/// # Panics
///
/// Unwinds if the calling thread is interrupted.
pub(super) fn await_ready(fd: RawFd, direction: Direction) {
    // Fails in a forked child, where there is no poller: the call then blocks if it must.
    let _ = Source::new(Standard(fd)).operate(direction, || {
        if is_ready(fd, direction) { Attempt::Done(0) } else { Attempt::WouldBlock }
    });
}

/// Whether poll(2) has anything to say of it; what cannot be polled counts as ready.
#[inline(never)]
fn is_ready(fd: RawFd, direction: Direction) -> bool {
    let events = match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    };
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: `poll` is valid for the call, and is one.
    unsafe { libc::poll(&raw mut poll, 1, 0) != 0 }
}
