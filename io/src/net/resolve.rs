//! Names to addresses: the one place where the resolver is called.
//!
//! Numeric addresses never block: std parses those itself. A host name goes to `getaddrinfo`,
//! which blocks the OS thread.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::sys;

/// All addresses that `address` stands for, possibly none.
pub(super) fn resolve(address: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    sys::out_of_line(|| Ok(address.to_socket_addrs()?.collect()))
}

/// Tries `f` with each address in turn until one succeeds, and returns its result or the last
/// error. As std does it.
pub(super) fn each<T>(
    address: impl ToSocketAddrs,
    mut f: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in resolve(address)? {
        match f(&address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
    }))
}
