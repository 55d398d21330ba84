//! TCP.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::iter::FusedIterator;
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::os::linux::net::TcpStreamExt as _;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::resolve;
use super::socket::{by_reference, descriptor};
use crate::readiness::{Attempt, Direction};
use crate::source::{Limit, Source, stream, whole};
use crate::sys;

/// How many connections may wait to be accepted; the system lowers it to `net.core.somaxconn`. std
/// asks for 128. Beyond the limit Linux drops the last packet of the handshake, after which the
/// client takes itself for connected and may never be answered: seen with 10,000 clients that
/// connected at once.
const BACKLOG: libc::c_int = libc::SOMAXCONN;

/// A TCP connection: the mirror of [`std::net::TcpStream`].
///
/// Reading and writing suspend the calling thread, green or OS, until they can go on. Several
/// threads may use one stream at once, in either direction, through [`&TcpStream`](Read) or a
/// [clone](Self::try_clone).
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use bine_io::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, peer) = listener.accept()?;
/// assert_eq!(peer, client.local_addr()?);
///
/// client.write_all(b"hello")?;
/// let mut word = [0; 5];
/// server.read_exact(&mut word)?;
/// assert_eq!(&word, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpStream {
    source: Source<net::TcpStream>,
}

impl TcpStream {
    /// Connects to `addr`. If it stands for several addresses, each is tried in turn until one
    /// accepts.
    ///
    /// # Errors
    ///
    /// That of the last address tried; `InvalidInput` if `addr` stands for no address.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let stream = bine_io::net::TcpStream::connect(("127.0.0.1", 8080))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        resolve::each(&addr, |addr| Self::connect_within(addr, None))
    }

    /// Connects to `addr` within `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut` if the timeout passes first; `InvalidInput` if it is zero.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// let addr = "127.0.0.1:8080".parse().unwrap();
    /// let stream = bine_io::net::TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        if timeout.is_zero() {
            let message = "cannot set a 0 duration timeout";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Self::connect_within(addr, Some(timeout))
    }

    fn connect_within(addr: &SocketAddr, timeout: Option<Duration>) -> io::Result<Self> {
        let socket = sys::out_of_line(|| {
            Socket::new_raw(Domain::for_address(*addr), Type::STREAM.nonblocking().cloexec(), None)
        })?;
        let source = Source::new(net::TcpStream::from(socket));
        let addr = SockAddr::from(*addr);
        let fd = source.raw_fd();
        let error = || io::Error::new(io::ErrorKind::TimedOut, "connection timed out");
        source.operate_within(Direction::Write, Limit { timeout, error }, || {
            // A further connect(2) tells how the first one went.
            match -sys::connect(fd, &addr) as i32 {
                libc::EINPROGRESS | libc::EALREADY => Attempt::WouldBlock,
                libc::EISCONN => Attempt::Done(0),
                error => Attempt::Done(-error as isize),
            }
        })?;
        Ok(Self { source })
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2): `NotConnected`, for one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::TcpStream::peer_addr)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::TcpStream::local_addr)
    }

    /// Shuts down one direction or both. Threads that wait in it return: reads with 0, writes with
    /// `BrokenPipe`.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2): `NotConnected` if the peer is gone already, for one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::net::Shutdown;
    /// let stream = bine_io::net::TcpStream::connect("127.0.0.1:8080")?;
    /// stream.shutdown(Shutdown::Write)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.source.with(|inner| inner.shutdown(how))
    }

    /// A second handle to the same connection, with a descriptor of its own. The two share
    /// timeouts and the non-blocking mode.
    ///
    /// # Errors
    ///
    /// Those of dup(2): too many open descriptors, for one.
    pub fn try_clone(&self) -> io::Result<Self> {
        let inner = self.source.with(net::TcpStream::try_clone)?;
        Ok(Self { source: self.source.clone_with(inner) })
    }

    /// Sets for how long a read may wait; `None` is for ever. A read that has waited that long
    /// fails with `WouldBlock`, as std's does on Linux.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the timeout is zero.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// let stream = bine_io::net::TcpStream::connect("127.0.0.1:8080")?;
    /// stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.source.with(|inner| inner.set_read_timeout(timeout))?;
        self.source.note_timeout(Direction::Read, timeout);
        Ok(())
    }

    /// Sets for how long a write may wait; `None` is for ever. A write that has waited that long
    /// fails with `WouldBlock`, as std's does on Linux.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the timeout is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.source.with(|inner| inner.set_write_timeout(timeout))?;
        self.source.note_timeout(Direction::Write, timeout);
        Ok(())
    }

    /// For how long a read may wait, as the kernel has rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        self.source.with(net::TcpStream::read_timeout)
    }

    /// For how long a write may wait, as the kernel has rounded it.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.source.with(net::TcpStream::write_timeout)
    }

    /// Reads without taking what is read out of the connection: the next read gets it again.
    /// Returns how many bytes it has read.
    ///
    /// # Errors
    ///
    /// As [`read`](Read::read).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        // Takes nothing, so it exhausts nothing: never a short read.
        self.source.operate(Direction::Read, || whole(sys::recv(fd, buf, libc::MSG_PEEK)))
    }

    /// Sets SO_LINGER: whether closing resets a connection whose last bytes the peer has not taken
    /// yet, after this time. (std's is not stable yet.)
    ///
    /// Closing waits for that long, and blocks the OS thread: in effect only zero, which resets at
    /// once, is of use here.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.source.with(|inner| SockRef::from(inner).set_linger(linger))
    }

    /// The value of SO_LINGER, in whole seconds. (std's is not stable yet.)
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.source.with(|inner| SockRef::from(inner).linger())
    }

    /// Sets TCP_NODELAY: small writes are sent at once and not gathered.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.source.with(|inner| inner.set_nodelay(nodelay))
    }

    /// Whether TCP_NODELAY is set.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.source.with(net::TcpStream::nodelay)
    }

    /// Sets IP_TTL: how many hops the packets sent may take.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2): `InvalidInput` unless it is from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.source.with(|inner| inner.set_ttl(ttl))
    }

    /// The value of IP_TTL.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        self.source.with(net::TcpStream::ttl)
    }

    /// Takes the error that is pending on the socket (SO_ERROR), if there is one.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.source.with(net::TcpStream::take_error)
    }

    /// Sets whether operations fail with `WouldBlock` where they would wait. Clones share the
    /// mode.
    ///
    /// # Errors
    ///
    /// None at present.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{ErrorKind, Read};
    /// use bine_io::net::{TcpListener, TcpStream};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// client.set_nonblocking(true)?;
    /// let error = client.read(&mut [0; 8]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.source.set_nonblocking(nonblocking);
        Ok(())
    }
}

impl Read for &TcpStream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || stream(sys::recv(fd, buf, 0), buf.len()))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        // As readv(2), which std uses; recvmsg(2) would wait for input.
        if room == 0 {
            return Ok(0);
        }
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || stream(sys::recv_vectored(fd, bufs), room))
    }
}

impl Write for &TcpStream {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || stream(sys::send(fd, buf), buf.len()))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        // As writev(2), which std uses; sendmsg(2) would look at the connection's state.
        if len == 0 {
            return Ok(0);
        }
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || stream(sys::send_vectored(fd, bufs), len))
    }

    /// Does nothing: TCP streams have no buffer of their own.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

by_reference!(TcpStream);
descriptor!(TcpStream, net::TcpStream);

/// What Linux has for TCP connections beside: the mirror of [`std::os::linux::net::TcpStreamExt`].
pub trait TcpStreamExt: sealed::Sealed {
    /// Sets TCP_QUICKACK: whether what arrives is acknowledged at once. The kernel changes it by
    /// itself as it sees fit.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use bine_io::net::TcpStream;
    /// use bine_io::os::linux::net::TcpStreamExt;
    ///
    /// let stream = TcpStream::connect("127.0.0.1:8080")?;
    /// stream.set_quickack(true)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn set_quickack(&self, quickack: bool) -> io::Result<()>;

    /// The value of TCP_QUICKACK.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    fn quickack(&self) -> io::Result<bool>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::TcpStream {}
}

impl TcpStreamExt for TcpStream {
    fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.source.with(|inner| inner.set_quickack(quickack))
    }

    fn quickack(&self) -> io::Result<bool> {
        self.source.with(net::TcpStream::quickack)
    }
}

/// A TCP socket that accepts connections: the mirror of [`std::net::TcpListener`].
///
/// Several threads may accept from one listener at once; each connection wakes one of them.
///
/// # Examples
///
/// ```no_run
/// use std::io::{Read, Write};
/// use bine_io::net::TcpListener;
///
/// let listener = TcpListener::bind("127.0.0.1:8080")?;
/// for stream in listener.incoming() {
///     stream?.write_all(b"hello\n")?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpListener {
    source: Source<net::TcpListener>,
}

impl TcpListener {
    /// Listens on `addr`; port 0 stands for a port that the kernel chooses. If `addr` stands for
    /// several addresses, each is tried in turn until one can be bound. SO_REUSEADDR and the
    /// length of the queue are as in std.
    ///
    /// # Errors
    ///
    /// That of the last address tried (`AddrInUse`, for one); `InvalidInput` if `addr` stands for
    /// no address.
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = bine_io::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let inner = resolve::each(&addr, |addr| {
            sys::out_of_line(|| {
                let inner = net::TcpListener::bind(addr)?;
                inner.set_nonblocking(true)?;
                SockRef::from(&inner).listen(BACKLOG)?;
                Ok(inner)
            })
        })?;
        Ok(Self { source: Source::new(inner) })
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::TcpListener::local_addr)
    }

    /// A second handle to the same socket, with a descriptor of its own; both accept from one
    /// queue. The two share the non-blocking mode.
    ///
    /// # Errors
    ///
    /// Those of dup(2): too many open descriptors, for one.
    pub fn try_clone(&self) -> io::Result<Self> {
        let inner = self.source.with(net::TcpListener::try_clone)?;
        Ok(Self { source: self.source.clone_with(inner) })
    }

    /// Waits for a connection, and returns it with the address of its other end.
    ///
    /// # Errors
    ///
    /// Those of accept(2). Out of descriptors is an error of the call, not of the listener: later
    /// calls accept the connection when there are descriptors again.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let fd = self.source.raw_fd();
        let mut accepted = None;
        self.source.operate(Direction::Read, || whole(sys::accept(fd, &mut accepted)))?;
        let sys::Accepted { fd, peer } = accepted.expect("a successful accept has a connection");
        let source = self.source.accepted(net::TcpStream::from(fd));
        let peer = peer.as_socket().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the peer's address is no IP address")
        })?;
        Ok((TcpStream { source }, peer))
    }

    /// The connections that arrive, one after another, without end: each `next` is an
    /// [`accept`](Self::accept).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// As [`incoming`](Self::incoming), but keeps the listener. (std's is not stable yet.)
    #[must_use = "the listener is closed with the iterator"]
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    /// Sets IP_TTL: how many hops packets sent from here may take.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2): `InvalidInput` unless it is from 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.source.with(|inner| inner.set_ttl(ttl))
    }

    /// The value of IP_TTL.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        self.source.with(net::TcpListener::ttl)
    }

    /// Fails: the option has to be set before a socket is bound.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    #[deprecated(note = "this option can only be set before the socket is bound")]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.source.with(|inner| SockRef::from(inner).set_only_v6(only_v6))
    }

    /// Whether the socket takes no connections of IPv4 (IPV6_V6ONLY).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    #[deprecated(note = "this option can only be set before the socket is bound")]
    pub fn only_v6(&self) -> io::Result<bool> {
        self.source.with(|inner| SockRef::from(inner).only_v6())
    }

    /// Takes the error that is pending on the socket (SO_ERROR), if there is one.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.source.with(net::TcpListener::take_error)
    }

    /// Sets whether [`accept`](Self::accept) fails with `WouldBlock` where it would wait. Clones
    /// share the mode; accepted connections do not inherit it.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.source.set_nonblocking(nonblocking);
        Ok(())
    }
}

/// The connections that arrive at a listener, from [`TcpListener::incoming`]. Never ends.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

/// The connections that arrive at a listener of its own, from [`TcpListener::into_incoming`].
/// Never ends.
#[derive(Debug)]
pub struct IntoIncoming {
    listener: TcpListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for IntoIncoming {}

descriptor!(TcpListener, net::TcpListener);
