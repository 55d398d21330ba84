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

mod resolve;
mod tcp;

pub use self::tcp::{Incoming, TcpListener, TcpStream};
pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
    ToSocketAddrs,
};
