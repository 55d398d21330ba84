//! Waiting for any descriptor.
//!
//! [`Async`] is a [`Source`](crate::source) of what somebody else has made. Two things differ from
//! the sockets'. It is registered at once, so that a descriptor that cannot be waited for is
//! refused when it is wrapped. And its users make system calls that we do not see, so what the
//! slot's word says of a direction may be out of date: to wait for a direction therefore is to ask
//! the kernel (poll(2), without waiting) until it says yes, and edges only tell when to ask again.
//! An operation that is given as a closure needs no such question, since its own `WouldBlock` is
//! the answer.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use bine_runtime::wait;
use socket2::SockRef;

use crate::readiness::{Attempt, Direction};
use crate::source::{Limit, Source, whole};
use crate::sys;

/// Any descriptor that epoll takes: pipes, terminals, eventfds, timerfds, inotify, sockets of other
/// libraries. A thread, green or OS, that waits for it suspends only itself.
///
/// Wrapping a descriptor makes it non-blocking, and it stays so: the mode belongs to what is open,
/// and other processes and duplicates may share that. An operation that
/// [`read_with`](Self::read_with) and the like repeat must fail with
/// [`WouldBlock`](io::ErrorKind::WouldBlock) where it would wait. It runs on the thread that waits,
/// which may be a worker's, and must not block.
///
/// Several threads may wait for one `Async`, in either direction.
///
/// # What the descriptor must not do
///
/// The poller knows a descriptor by its number. As long as it is wrapped, `T` must keep it open and
/// must go on having [`as_fd`](AsFd::as_fd) return it. All of std's types do. Nothing here is
/// undefined where a `T` does not: but those who wait may then wait for ever, and so may those who
/// wait for what gets the number next, once the `Async` is dropped. That is why
/// [`get_mut`](Self::get_mut) is unsafe, with which any `T` could be replaced.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write, pipe};
/// use bine_io::Async;
///
/// let (reader, mut writer) = pipe()?;
/// let reader = Async::new(reader)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| writer.write_all(b"hello"));
///     let mut word = [0; 5];
///     let len = reader.read_with(|mut pipe| pipe.read(&mut word))?;
///     assert_eq!(&word[..len], b"hello");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Async<T> {
    source: Source<T>,
}

/// What a wait ends with that has lasted too long.
fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the descriptor did not become ready in time")
}

impl<T: AsFd> Async<T> {
    /// Wraps `inner`, whose descriptor it makes non-blocking.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the descriptor cannot be waited for: regular files and directories are
    /// always ready, and epoll does not take them. (What reads them is for
    /// [`blocking`](bine_runtime::blocking).) `AlreadyExists` if the same descriptor is wrapped
    /// already: share the `Async`, or duplicate the descriptor. Also if the poller cannot be
    /// started, if there are more descriptors than `fs.epoll.max_user_watches`, and in a child
    /// forked after the poller was started. `inner` is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// let file = std::fs::File::open("/proc/self/exe")?;
    /// let error = bine_io::Async::new(file).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(inner: T) -> io::Result<Self> {
        let source = Source::new(inner);
        source.register()?;
        // The mode of any descriptor, socket or not.
        source.with(|inner| SockRef::from(&inner.as_fd()).set_nonblocking(true))?;
        Ok(Self { source })
    }

    /// Waits until there is something to read, or an end or an error to find.
    ///
    /// # Errors
    ///
    /// If the descriptor is no longer registered, which takes unsafe code.
    pub fn readable(&self) -> io::Result<()> {
        self.ready(Direction::Read, None)
    }

    /// As [`readable`](Self::readable), for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut` if the timeout passes first.
    pub fn readable_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.ready(Direction::Read, Some(timeout))
    }

    /// Waits until there is room to write, or an end or an error to find.
    ///
    /// # Errors
    ///
    /// If the descriptor is no longer registered, which takes unsafe code.
    pub fn writable(&self) -> io::Result<()> {
        self.ready(Direction::Write, None)
    }

    /// As [`writable`](Self::writable), for as long as `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut` if the timeout passes first.
    pub fn writable_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.ready(Direction::Write, Some(timeout))
    }

    fn ready(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        let fd = self.source.raw_fd();
        let events = match direction {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        };
        let limit = Limit { timeout, error: timed_out };
        self.source.operate_within(direction, limit, || match sys::poll_now(fd, events) {
            0 => Attempt::WouldBlock,
            result => whole(result),
        })?;
        Ok(())
    }

    /// Calls `operation`, which reads, until it does not fail with `WouldBlock`; waits before each
    /// further call until there is something to read.
    ///
    /// # Errors
    ///
    /// Those of `operation`, but for `WouldBlock` and `Interrupted`, after both of which it is
    /// called again.
    pub fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.operate(Direction::Read, None, operation)
    }

    /// As [`read_with`](Self::read_with), for as long as `timeout` in all.
    ///
    /// # Errors
    ///
    /// Also `TimedOut` if the timeout passes first.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{ErrorKind, Read, pipe};
    /// use std::time::Duration;
    ///
    /// let (reader, _writer) = pipe()?;
    /// let reader = bine_io::Async::new(reader)?;
    /// let soon = Duration::from_millis(1);
    /// let read = reader.read_with_timeout(soon, |mut pipe| pipe.read(&mut [0]));
    /// assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_with_timeout<R>(
        &self,
        timeout: Duration,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Read, Some(timeout), operation)
    }

    /// Calls `operation`, which writes, until it does not fail with `WouldBlock`; waits before each
    /// further call until there is room to write.
    ///
    /// # Errors
    ///
    /// Those of `operation`, but for `WouldBlock` and `Interrupted`, after both of which it is
    /// called again.
    pub fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.operate(Direction::Write, None, operation)
    }

    /// As [`write_with`](Self::write_with), for as long as `timeout` in all.
    ///
    /// # Errors
    ///
    /// Also `TimedOut` if the timeout passes first.
    pub fn write_with_timeout<R>(
        &self,
        timeout: Duration,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(Direction::Write, Some(timeout), operation)
    }

    fn operate<R>(
        &self,
        direction: Direction,
        timeout: Option<Duration>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        wait::checkpoint();
        // Even where nothing can have arrived: it may have something left from an earlier call.
        let mut last = attempt(|| operation(self.get_ref()));
        if last.is_none() {
            let limit = Limit { timeout, error: timed_out };
            self.source.operate_within(direction, limit, || {
                last = attempt(|| operation(self.get_ref()));
                if last.is_some() { Attempt::Done(0) } else { Attempt::WouldBlock }
            })?;
        }
        last.expect("an operation that has ended has a result")
    }

    /// What was wrapped.
    pub fn get_ref(&self) -> &T {
        self.source.get_ref()
    }

    /// What was wrapped.
    ///
    /// # Safety
    ///
    /// It must not be replaced, nor must its descriptor be closed or replaced; see [above](Self).
    #[allow(unsafe_code)]
    pub unsafe fn get_mut(&mut self) -> &mut T {
        self.source.get_mut()
    }

    /// Gives back what was wrapped. Its descriptor stays non-blocking.
    pub fn into_inner(self) -> T {
        self.source.into_nonblocking()
    }
}

/// One attempt at an operation of somebody else's: `None` if it would block. Out of line because of
/// what it may do with errno.
fn attempt<R>(mut operation: impl FnMut() -> io::Result<R>) -> Option<io::Result<R>> {
    loop {
        match sys::out_of_line(&mut operation) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Some(result),
        }
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd> AsRawFd for Async<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.source.raw_fd()
    }
}

impl<T: AsFd> Read for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_with(|mut inner| inner.read(buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_with(|mut inner| inner.read_vectored(bufs))
    }
}

impl<T: AsFd> Write for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(|mut inner| inner.write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut inner| inner.write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_with(|mut inner| inner.flush())
    }
}

impl<T: AsFd> Read for Async<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl<T: AsFd> Write for Async<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}
