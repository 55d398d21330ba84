//! One direction of a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bine::net::{Shutdown, TcpStream};

use crate::Failure;

/// When something has last moved on a connection, in either direction.
pub(crate) struct Activity {
    start: Instant,
    /// Nanoseconds since the start. Relaxed: that one direction takes what the other did for a moment
    /// longer is of no account.
    last: AtomicU64,
    limit: Option<Duration>,
}

impl Activity {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), limit }
    }

    fn note(&self) {
        if self.limit.is_some() {
            self.last.store(self.start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// How long the connection may still be idle. None if that time is over.
    fn left(&self) -> Option<Duration> {
        let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
        let idle = self.start.elapsed().saturating_sub(last);
        self.limit?.checked_sub(idle).filter(|left| !left.is_zero())
    }

    /// Repeats an operation, with a timeout that was set to the limit, until it succeeds or fails, or
    /// nothing has moved in the other direction either.
    fn attempt(
        &self,
        set_timeout: impl Fn(Option<Duration>) -> io::Result<()>,
        mut operation: impl FnMut() -> io::Result<usize>,
    ) -> Result<usize, Failure> {
        let mut is_shortened = false;
        let done = loop {
            match operation() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    set_timeout(Some(self.left().ok_or(Failure::Idle)?))?;
                    is_shortened = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.note();
        if is_shortened {
            set_timeout(self.limit)?;
        }
        Ok(done)
    }
}

/// One direction of a connection.
pub(crate) struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// Set before `to` is told of the end.
    has_ended: AtomicBool,
}

impl<'a> Direction<'a> {
    pub(crate) fn new(from: &'a TcpStream, to: &'a TcpStream) -> Self {
        Self { from, to, has_ended: AtomicBool::new(false) }
    }

    /// Passes on all that comes, and then its end. Counts what was taken.
    pub(crate) fn pump(
        &self,
        opposite: &Self,
        buffer: usize,
        activity: &Activity,
        count: &AtomicU64,
    ) -> Result<(), Failure> {
        let (mut from, mut to, mut buffer) = (self.from, self.to, vec![0; buffer]);
        loop {
            let received =
                activity.attempt(|t| from.set_read_timeout(t), || from.read(&mut buffer))?;
            if received == 0 {
                self.check_end(opposite)?;
                return self.pass_on_end();
            }
            let mut rest = &buffer[..received];
            while !rest.is_empty() {
                let sent = activity.attempt(|t| to.set_write_timeout(t), || to.write(rest))?;
                if sent == 0 {
                    return Err(io::Error::from(ErrorKind::WriteZero).into());
                }
                count.fetch_add(sent as u64, Ordering::Relaxed);
                rest = &rest[sent..];
            }
        }
    }

    /// Finds out whether an end of file is one. The kernel tells of a reset once: if the opposite
    /// direction was told, when it wrote, then this one reads what looks like an end. But after a reset
    /// nothing can be written either, not even nothing.
    fn check_end(&self, opposite: &Self) -> io::Result<()> {
        let mut from = self.from;
        match from.write(&[]) {
            // Acquire pairs with the release in `pass_on_end`: if it was that which has ended the
            // writing, then this is seen.
            Err(error) if !opposite.has_ended.load(Ordering::Acquire) => Err(error),
            _ => Ok(()),
        }
    }

    fn pass_on_end(&self) -> Result<(), Failure> {
        self.has_ended.store(true, Ordering::Release);
        match self.to.shutdown(Shutdown::Write) {
            // It has gone, after it had ended its own direction: it has read all that it wanted.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => Ok(ended?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A connection on which nothing has moved for two hours, and may not for more than one.
    fn idle() -> Activity {
        let start = Instant::now().checked_sub(2 * HOUR).expect("the clock goes back so far");
        Activity { start, last: AtomicU64::new(0), limit: Some(HOUR) }
    }

    fn times_out() -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    #[test]
    fn a_direction_fails_if_nothing_has_moved_the_other_way_either() {
        let attempt = idle().attempt(|_| panic!("there is no time left"), times_out);
        assert!(matches!(attempt, Err(Failure::Idle)));
    }

    #[test]
    fn a_direction_goes_on_waiting_while_the_other_one_moves() {
        let (activity, attempts, timeout) = (idle(), Cell::new(0), Cell::new(Some(HOUR)));
        let set_timeout = |shorter| {
            timeout.set(shorter);
            Ok(())
        };
        let moved = activity.attempt(set_timeout, || {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                1 => activity.note(),
                2 => assert!(timeout.get() < Some(HOUR), "it would wait for longer than allowed"),
                _ => return Ok(7),
            }
            times_out()
        });
        assert_eq!(moved.unwrap(), 7);
        assert_eq!(timeout.get(), Some(HOUR), "the next operation has a whole timeout again");
    }
}
