//! Networking: the mirror of [`std::net`], on green threads.
//!
//! Types, signatures, errors and blocking behaviour are those of [`std::net`]. What an operation
//! waits for, only the calling thread waits for, be it a green thread or a plain OS thread.
//!
//! Differences that a program might notice:
//! - the descriptors are always non-blocking underneath (conversions to std's types restore the
//!   mode that std has for them);
//! - interrupted system calls are retried, so [`Interrupted`](std::io::ErrorKind::Interrupted) is
//!   not returned;
//! - writing to a connection that the peer has closed never raises SIGPIPE;
//! - a write that does not fit into the socket's buffer takes what fits and returns, where std
//!   would wait to place all of it ([`write_all`](std::io::Write::write_all) does so here too).
//!
//! A host name is resolved on an OS thread of the [blocking pool](bine_runtime::blocking), so that
//! it keeps no worker, if it is given as a `&str` or a `String`, alone or with a port. What a type
//! of your own does in its [`ToSocketAddrs`], it does on the worker; and so does
//! [`to_socket_addrs`](ToSocketAddrs::to_socket_addrs) itself, which is std's.
//!
//! # Closing
//!
//! A socket is closed when its last handle goes away, and nobody can wait for it then: who waits
//! has borrowed a handle. To end the waits of others, [`shut it down`](TcpStream::shutdown). A
//! descriptor that unsafe code closes under those who wait for it leaves them waiting, as it does
//! with std's; what gets its number next is not taken for it.

mod resolve;
mod socket;
pub(crate) mod tcp;
mod udp;
pub(crate) mod unix;

pub use self::tcp::{Incoming, IntoIncoming, TcpListener, TcpStream};
pub use self::udp::UdpSocket;
pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
    ToSocketAddrs,
};
