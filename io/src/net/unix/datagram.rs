//! Datagrams.
#![allow(unsafe_code)]

use std::io;
use std::net::Shutdown;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use bine_runtime::{thread, wait};
use socket2::{Domain, Socket, Type};

use super::{Pauses, address};
use crate::net::socket::{descriptor, settings};
use crate::readiness::{Attempt, Direction};
use crate::source::{Source, whole, would_block};
use crate::sys;

/// A Unix socket for datagrams: the mirror of [`std::os::unix::net::UnixDatagram`].
///
/// Sending and receiving suspend the calling thread, green or OS, until they can go on. Several
/// threads may use one socket at once, in either direction.
///
/// # Examples
///
/// ```
/// use bine_io::os::unix::net::UnixDatagram;
///
/// let (one, two) = UnixDatagram::pair()?;
/// one.send(b"hello")?;
/// let mut buf = [0; 16];
/// assert_eq!(two.recv(&mut buf)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixDatagram {
    source: Source<net::UnixDatagram>,
}

impl UnixDatagram {
    fn new(inner: net::UnixDatagram) -> Self {
        Self { source: Source::new(inner) }
    }

    /// A socket at `path`, where it makes a file that stays.
    ///
    /// # Errors
    ///
    /// Those of bind(2): `AddrInUse` if the file is there already, for one; `InvalidInput` if the
    /// path is longer than 107 bytes.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// A socket at `socket_addr`, which may be abstract
    /// ([`SocketAddrExt`](crate::os::linux::net::SocketAddrExt)).
    ///
    /// # Errors
    ///
    /// Those of bind(2): `AddrInUse` if it is taken, for one.
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<Self> {
        let inner = sys::out_of_line(|| {
            let inner = net::UnixDatagram::bind_addr(socket_addr)?;
            inner.set_nonblocking(true)?;
            io::Result::Ok(inner)
        })?;
        Ok(Self::new(inner))
    }

    /// A socket without a name: it sends, and is not sent to.
    ///
    /// # Errors
    ///
    /// Those of socket(2): too many open descriptors, for one.
    pub fn unbound() -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = sys::out_of_line(|| Socket::new_raw(Domain::UNIX, kind, None))?;
        Ok(Self::new(OwnedFd::from(socket).into()))
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2): too many open descriptors, for one.
    pub fn pair() -> io::Result<(Self, Self)> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let (one, two) = sys::out_of_line(|| Socket::pair_raw(Domain::UNIX, kind, None))?;
        Ok((Self::new(OwnedFd::from(one).into()), Self::new(OwnedFd::from(two).into())))
    }

    /// Has [`send`](Self::send) send to `path`, and the socket receive from there only. Does not
    /// wait.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.source.with(|inner| inner.connect(path))
    }

    /// Has [`send`](Self::send) send to `socket_addr`, and the socket receive from there only. Does
    /// not wait.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    pub fn connect_addr(&self, socket_addr: &SocketAddr) -> io::Result<()> {
        self.source.with(|inner| inner.connect_addr(socket_addr))
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UnixDatagram::local_addr)
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2): `NotConnected`, for one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UnixDatagram::peer_addr)
    }

    /// Waits for a datagram, and returns its length and where it comes from. What does not fit into
    /// `buf` is lost.
    ///
    /// # Errors
    ///
    /// Those of recvfrom(2); `WouldBlock` after the [timeout](Self::set_read_timeout).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, 0)
    }

    /// As [`recv_from`](Self::recv_from), but the datagram stays and is received again. (std's is
    /// not stable yet.)
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, libc::MSG_PEEK)
    }

    fn recv_from_with(&self, buf: &mut [u8], flags: i32) -> io::Result<(usize, SocketAddr)> {
        let mut from = None;
        let len = self.receive(|fd| sys::recv_from(fd, buf, flags, &mut from))?;
        let from = match from {
            Some(from) => address::from_kernel(&from)?,
            None => SocketAddr::from_pathname("")?,
        };
        Ok((len, from))
    }

    /// Where receiving is shut down, a call that waits returns 0; but one that must not wait says
    /// EAGAIN, as if there might be more to come. So this asks.
    fn receive(&self, mut receive: impl FnMut(RawFd) -> isize) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        let waits = !self.source.is_nonblocking();
        self.source.operate(Direction::Read, || match whole(receive(fd)) {
            Attempt::WouldBlock if waits && is_shut_down(fd) => Attempt::Done(0),
            attempt => attempt,
        })
    }

    /// Waits for a datagram, and returns its length. What does not fit into `buf` is lost.
    ///
    /// # Errors
    ///
    /// Those of recv(2); `WouldBlock` after the [timeout](Self::set_read_timeout).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(|fd| sys::recv(fd, buf, 0))
    }

    /// As [`recv`](Self::recv), but the datagram stays and is received again. (std's is not stable
    /// yet.)
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(|fd| sys::recv(fd, buf, libc::MSG_PEEK))
    }

    /// Sends a datagram to the socket at `path`; waits for room in its queue. Returns the
    /// datagram's length.
    ///
    /// # Errors
    ///
    /// Those of sendto(2): `NotFound`, `ConnectionRefused` if nobody receives there.
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(buf, &SocketAddr::from_pathname(path)?)
    }

    /// Sends a datagram to the socket at `socket_addr`; waits for room in its queue. Returns the
    /// datagram's length.
    ///
    /// # Errors
    ///
    /// Those of sendto(2): `ConnectionRefused` if nobody receives there, for one.
    pub fn send_to_addr(&self, buf: &[u8], socket_addr: &SocketAddr) -> io::Result<usize> {
        let address = address::to_kernel(socket_addr)?;
        let fd = self.source.raw_fd();
        // Room in the receiver's queue is no event of this socket's. But an attempt that finds none
        // is one, since the kernel frees the copy that it had made: whoever waited for events here
        // would try again and again, without a pause.
        let mut pauses = Pauses::new();
        let mut deadline = None;
        loop {
            wait::checkpoint();
            let result = sys::send_to(fd, buf, &address);
            if result != -(libc::EAGAIN as isize) {
                return sys::to_result(result);
            }
            if self.source.is_nonblocking() {
                return Err(would_block());
            }
            let now = Instant::now();
            let end = *deadline.get_or_insert_with(|| {
                let timeout = self.source.timeout(Direction::Write)?;
                // A deadline beyond the clock's range is none.
                now.checked_add(timeout)
            });
            if end.is_some_and(|end| now >= end) {
                return Err(would_block());
            }
            let pause = now + pauses.next();
            thread::sleep_until(end.map_or(pause, |end| end.min(pause)));
        }
    }

    /// Sends a datagram to the address that the socket is connected to; waits for room in its
    /// queue. Returns the datagram's length.
    ///
    /// # Errors
    ///
    /// Those of send(2): `NotConnected`, for one.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || whole(sys::send(fd, buf)))
    }

    /// Shuts down one direction or both. Threads that wait in it return: receives with 0, sends
    /// with `BrokenPipe`.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.source.with(|inner| inner.shutdown(how))
    }
}

fn is_shut_down(fd: RawFd) -> bool {
    sys::poll_now(fd, libc::POLLRDHUP) & libc::POLLRDHUP as isize != 0
}

settings!(timeouts of UnixDatagram, net::UnixDatagram);
settings!(mode of UnixDatagram, net::UnixDatagram);
descriptor!(UnixDatagram, net::UnixDatagram);
