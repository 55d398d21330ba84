//! Connections.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bine_runtime::{thread, wait};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Pauses, UCred, address, credentials};
use crate::net::socket::{by_reference, descriptor, settings};
use crate::readiness::Direction;
use crate::source::{Source, whole};
use crate::sys;

/// A connection between processes of one system: the mirror of [`std::os::unix::net::UnixStream`].
///
/// Reading and writing suspend the calling thread, green or OS, until they can go on. Several
/// threads may use one stream at once, in either direction, through [`&UnixStream`](Read) or a
/// [clone](Self::try_clone).
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use bine_io::os::unix::net::UnixStream;
///
/// let (mut one, mut two) = UnixStream::pair()?;
/// one.write_all(b"hello")?;
/// let mut word = [0; 5];
/// two.read_exact(&mut word)?;
/// assert_eq!(&word, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixStream {
    source: Source<net::UnixStream>,
}

impl UnixStream {
    /// Of a connection that is non-blocking and has no timeouts.
    pub(super) fn new(inner: net::UnixStream) -> Self {
        Self { source: Source::new(inner) }
    }

    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// Those of connect(2): `NotFound`, `ConnectionRefused` if nobody listens there;
    /// `InvalidInput` if the path is longer than 107 bytes.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        Self::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to the listener at `socket_addr`. Where its queue is full, waits for room.
    ///
    /// # Errors
    ///
    /// Those of connect(2): `ConnectionRefused` if nobody listens there, for one.
    pub fn connect_addr(socket_addr: &SocketAddr) -> io::Result<Self> {
        wait::checkpoint();
        let address = address::to_kernel(socket_addr)?;
        let stream = sys::out_of_line(|| {
            Socket::new_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
        })?;
        let stream = Self::new(OwnedFd::from(stream).into());
        let mut pauses = Pauses::new();
        // Such a connection is made at once or not at all, and no event tells of room in a queue.
        while !stream.try_connect(&address)? {
            thread::sleep(pauses.next());
        }
        Ok(stream)
    }

    /// False if the listener's queue is full.
    fn try_connect(&self, address: &SockAddr) -> io::Result<bool> {
        let result = sys::connect(self.source.raw_fd(), address);
        if result == -(libc::EAGAIN as isize) {
            return Ok(false);
        }
        sys::to_result(result).map(|_| true)
    }

    /// Two ends of a connection.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2): too many open descriptors, for one.
    pub fn pair() -> io::Result<(Self, Self)> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let (one, two) = sys::out_of_line(|| Socket::pair_raw(Domain::UNIX, kind, None))?;
        Ok((Self::new(OwnedFd::from(one).into()), Self::new(OwnedFd::from(two).into())))
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UnixStream::local_addr)
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2): `NotConnected`, for one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UnixStream::peer_addr)
    }

    /// Who is at the other end: the process that connected, listened or made the pair, as it was
    /// then. (std's is not stable yet.)
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// let (one, _two) = bine_io::os::unix::net::UnixStream::pair()?;
    /// assert_eq!(one.peer_cred()?.pid, Some(std::process::id() as i32));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<UCred> {
        credentials::of_peer(self)
    }

    /// Shuts down one direction or both. Threads that wait in it return: reads with 0, writes with
    /// `BrokenPipe`.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.source.with(|inner| inner.shutdown(how))
    }

    /// Reads without taking what is read out of the connection: the next read gets it again.
    /// Returns how many bytes it has read. (std's is not stable yet.)
    ///
    /// # Errors
    ///
    /// As [`read`](Read::read).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || whole(sys::recv(fd, buf, libc::MSG_PEEK)))
    }
}

/// A short read or write does not tell that a Unix socket is exhausted: reads also stop where
/// ancillary data begins.
impl Read for &UnixStream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || whole(sys::recv(fd, buf, 0)))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // As readv(2), which std uses; recvmsg(2) would wait for input.
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || whole(sys::recv_vectored(fd, bufs)))
    }
}

impl Write for &UnixStream {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || whole(sys::send(fd, buf)))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // As writev(2), which std uses; sendmsg(2) would look at the connection's state.
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || whole(sys::send_vectored(fd, bufs)))
    }

    /// Does nothing: streams have no buffer of their own.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

by_reference!(UnixStream);
settings!(timeouts of UnixStream, net::UnixStream);
settings!(mode of UnixStream, net::UnixStream);
descriptor!(UnixStream, net::UnixStream);
