//! UDP.
#![allow(unsafe_code)]

use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::SockAddr;

use super::resolve;
use super::socket::{descriptor, settings};
use crate::readiness::Direction;
use crate::source::{Source, whole};
use crate::sys;

/// A UDP socket: the mirror of [`std::net::UdpSocket`].
///
/// Sending and receiving suspend the calling thread, green or OS, until they can go on. Several
/// threads may use one socket at once, in either direction.
///
/// # Examples
///
/// ```
/// use bine_io::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.local_addr()?)?;
///
/// let mut buf = [0; 16];
/// let (len, from) = server.recv_from(&mut buf)?;
/// assert_eq!((&buf[..len], from), (&b"hello"[..], client.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpSocket {
    source: Source<net::UdpSocket>,
}

impl UdpSocket {
    /// A socket at `addr`; port 0 stands for a port that the kernel chooses. If `addr` stands for
    /// several addresses, each is tried in turn until one can be bound.
    ///
    /// # Errors
    ///
    /// That of the last address tried; `InvalidInput` if `addr` stands for no address.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = bine_io::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        let inner = resolve::each(&addr, |addr| {
            sys::out_of_line(|| {
                let inner = net::UdpSocket::bind(addr)?;
                inner.set_nonblocking(true)?;
                Ok(inner)
            })
        })?;
        Ok(Self { source: Source::new(inner) })
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

    /// As [`recv_from`](Self::recv_from), but the datagram stays and is received again.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, libc::MSG_PEEK)
    }

    fn recv_from_with(&self, buf: &mut [u8], flags: i32) -> io::Result<(usize, SocketAddr)> {
        let fd = self.source.raw_fd();
        let mut from = None;
        let len = self
            .source
            .operate(Direction::Read, || whole(sys::recv_from(fd, buf, flags, &mut from)))?;
        let from = from.as_ref().and_then(SockAddr::as_socket).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the sender's address is no IP address")
        })?;
        Ok((len, from))
    }

    /// Sends a datagram to the first of the addresses that `addr` stands for. Waits for room in the
    /// socket's buffer; nobody says whether the datagram arrives. Returns its length.
    ///
    /// # Errors
    ///
    /// Those of sendto(2); `InvalidInput` if `addr` stands for no address.
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let addr = resolve::resolve(&addr)?.next().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to")
        })?;
        let addr = SockAddr::from(addr);
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || whole(sys::send_to(fd, buf, &addr)))
    }

    /// The address that the socket is connected to.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2): `NotConnected`, for one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UdpSocket::peer_addr)
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UdpSocket::local_addr)
    }

    /// Has [`send`](Self::send) send to `addr`, and the socket receive from there only. If `addr`
    /// stands for several addresses, each is tried in turn. Does not wait but for the resolver.
    ///
    /// # Errors
    ///
    /// That of the last address tried; `InvalidInput` if `addr` stands for no address.
    ///
    /// # Examples
    ///
    /// ```
    /// use bine_io::net::UdpSocket;
    ///
    /// let (one, two) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// one.connect(two.local_addr()?)?;
    /// two.connect(one.local_addr()?)?;
    /// one.send(b"hello")?;
    /// let mut buf = [0; 16];
    /// assert_eq!(two.recv(&mut buf)?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        resolve::each(&addr, |addr| self.source.with(|inner| inner.connect(addr)))
    }

    /// Sends a datagram to the address that the socket is connected to. Returns its length.
    ///
    /// # Errors
    ///
    /// Those of send(2). `ConnectionRefused` tells of an earlier datagram that nobody was there to
    /// receive.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Write, || whole(sys::send(fd, buf)))
    }

    /// Waits for a datagram from the address that the socket is connected to, and returns its
    /// length. What does not fit into `buf` is lost.
    ///
    /// # Errors
    ///
    /// Those of recv(2); `WouldBlock` after the [timeout](Self::set_read_timeout).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || whole(sys::recv(fd, buf, 0)))
    }

    /// As [`recv`](Self::recv), but the datagram stays and is received again.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.raw_fd();
        self.source.operate(Direction::Read, || whole(sys::recv(fd, buf, libc::MSG_PEEK)))
    }

    /// Joins the group `multiaddr` on the interface of the address `interface`; the unspecified
    /// address has the kernel choose one.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.source.with(|inner| inner.join_multicast_v4(multiaddr, interface))
    }

    /// Joins the group `multiaddr` on the interface of the index `interface`; 0 has the kernel
    /// choose one.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.source.with(|inner| inner.join_multicast_v6(multiaddr, interface))
    }

    /// Undoes a [`join_multicast_v4`](Self::join_multicast_v4).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.source.with(|inner| inner.leave_multicast_v4(multiaddr, interface))
    }

    /// Undoes a [`join_multicast_v6`](Self::join_multicast_v6).
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.source.with(|inner| inner.leave_multicast_v6(multiaddr, interface))
    }
}

/// A pair of functions for an option, which set it and return it.
macro_rules! option {
    ($set:ident, $get:ident: $type:ty, $what:literal) => {
        impl UdpSocket {
            #[doc = concat!("Sets ", $what)]
            ///
            /// # Errors
            ///
            /// Those of setsockopt(2).
            pub fn $set(&self, value: $type) -> io::Result<()> {
                self.source.with(|inner| inner.$set(value))
            }

            #[doc = concat!("The value of ", $what)]
            ///
            /// # Errors
            ///
            /// Those of getsockopt(2).
            pub fn $get(&self) -> io::Result<$type> {
                self.source.with(net::UdpSocket::$get)
            }
        }
    };
}

option!(
    set_broadcast, broadcast: bool,
    "SO_BROADCAST: whether it may send to broadcast addresses."
);
option!(
    set_multicast_loop_v4, multicast_loop_v4: bool,
    "IP_MULTICAST_LOOP: whether this host gets what is sent to groups from here."
);
option!(
    set_multicast_ttl_v4, multicast_ttl_v4: u32,
    "IP_MULTICAST_TTL: how many hops what is sent to groups may take; 1 unless set."
);
option!(
    set_multicast_loop_v6, multicast_loop_v6: bool,
    "IPV6_MULTICAST_LOOP: whether this host gets what is sent to groups from here."
);
option!(set_ttl, ttl: u32, "IP_TTL: how many hops what is sent may take.");

settings!(timeouts of UdpSocket, net::UdpSocket);
settings!(mode of UdpSocket, net::UdpSocket);
descriptor!(UdpSocket, net::UdpSocket);
