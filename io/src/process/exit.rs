//! Waiting for the end of a child.
//!
//! A pidfd gets readable when its process ends. It is opened by the child's id, at the first wait
//! that does not find the child ended: the id is the child's own as long as nobody has reaped it,
//! and that is for this side to do.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use bine_runtime::thread;

use crate::offload::offload;
use crate::readiness::{Attempt, Direction};
use crate::source::{Limit, Source};
use crate::sys;

const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The child's status, if it has ended; then it is reaped.
pub(super) fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    sys::out_of_line(|| child.try_wait())
}

/// A descriptor that gets readable when the process `id`, a child that is not reaped, ends. None
/// where the system has none.
pub(super) fn watch(id: u32) -> Option<Source<OwnedFd>> {
    pidfd_open(id).ok().map(Source::new)
}

#[inline(never)]
fn pidfd_open(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Waits for the end of the child by its pidfd, for `timeout` at most. The outer error is that of
/// a wait that could not be.
pub(super) fn wait_watched(
    child: &mut Child,
    pidfd: &Source<OwnedFd>,
    timeout: Option<Duration>,
) -> io::Result<io::Result<Option<ExitStatus>>> {
    let mut ended = Ok(None);
    let limit = Limit { timeout, error: || io::ErrorKind::TimedOut.into() };
    let waited = pidfd.operate_within(Direction::Read, limit, || {
        ended = try_wait(child);
        if let Ok(None) = ended { Attempt::WouldBlock } else { Attempt::Done(0) }
    });
    match waited {
        Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(error),
        _ => Ok(ended),
    }
}

/// The same without a pidfd.
pub(super) fn wait_unwatched(
    child: &mut Child,
    timeout: Option<Duration>,
) -> io::Result<Option<ExitStatus>> {
    // A deadline beyond the clock's range is none.
    let Some(deadline) = timeout.and_then(|timeout| Instant::now().checked_add(timeout)) else {
        return offload(|| child.wait()).map(Some);
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = try_wait(child)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if ended.is_some() || left.is_zero() {
            return Ok(ended);
        }
        thread::sleep(left.min(pause));
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_waited_for_without_a_pidfd() {
        bine_runtime::run(|| {
            let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
            let status = wait_unwatched(&mut child, None).unwrap().unwrap();
            assert_eq!(status.code(), Some(3));
            let mut child =
                Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
            assert_eq!(wait_unwatched(&mut child, Some(Duration::from_millis(1))).unwrap(), None);
            drop(child.stdin.take());
            let status = wait_unwatched(&mut child, Some(Duration::from_secs(3600))).unwrap();
            assert_eq!(status.unwrap().code(), Some(0));
        });
    }

    #[test]
    fn nobody_can_be_watched_who_is_not_there() {
        assert!(watch(i32::MAX as u32).is_none());
    }
}
