//! Accepting connections.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use super::{UnixStream, address};
use crate::net::socket::{descriptor, settings};
use crate::readiness::Direction;
use crate::source::{Source, whole};
use crate::sys;

/// A Unix socket that accepts connections: the mirror of [`std::os::unix::net::UnixListener`].
///
/// Several threads may accept from one listener at once; each connection wakes one of them.
///
/// # Examples
///
/// ```no_run
/// use std::io::Write;
/// use bine_io::os::unix::net::UnixListener;
///
/// let listener = UnixListener::bind("/run/example.socket")?;
/// for stream in &listener {
///     stream?.write_all(b"hello\n")?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixListener {
    source: Source<net::UnixListener>,
}

impl UnixListener {
    /// Listens at `path`, where it makes a file that stays.
    ///
    /// # Errors
    ///
    /// Those of bind(2): `AddrInUse` if the file is there already, for one; `InvalidInput` if the
    /// path is longer than 107 bytes.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Listens at `socket_addr`, which may be abstract
    /// ([`SocketAddrExt`](crate::os::linux::net::SocketAddrExt)).
    ///
    /// # Errors
    ///
    /// Those of bind(2): `AddrInUse` if it is taken, for one.
    ///
    /// # Examples
    ///
    /// ```
    /// use bine_io::os::linux::net::SocketAddrExt;
    /// use bine_io::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    ///
    /// let name = format!("bine-example-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let listener = UnixListener::bind_addr(&address)?;
    /// let client = UnixStream::connect_addr(&address)?;
    /// let (server, _) = listener.accept()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<Self> {
        let inner = sys::out_of_line(|| {
            let inner = net::UnixListener::bind_addr(socket_addr)?;
            inner.set_nonblocking(true)?;
            io::Result::Ok(inner)
        })?;
        Ok(Self { source: Source::new(inner) })
    }

    /// Waits for a connection, and returns it with the address of its other end, which has a name
    /// only if it was bound to one.
    ///
    /// # Errors
    ///
    /// Those of accept(2). Out of descriptors is an error of the call, not of the listener: later
    /// calls accept the connection when there are descriptors again.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let fd = self.source.raw_fd();
        let mut accepted = None;
        self.source.operate(Direction::Read, || whole(sys::accept(fd, &mut accepted)))?;
        let sys::Accepted { fd, peer } = accepted.expect("a successful accept has a connection");
        let peer = address::from_kernel(&peer)?;
        // Unlike a TCP connection it inherits no timeouts.
        Ok((UnixStream::new(net::UnixStream::from(fd)), peer))
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.with(net::UnixListener::local_addr)
    }

    /// The connections that arrive, one after another, without end: each `next` is an
    /// [`accept`](Self::accept).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// The connections that arrive at a listener, from [`UnixListener::incoming`]. Never ends.
#[derive(Debug)]
#[must_use = "an iterator accepts nothing by itself"]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

settings!(mode of UnixListener, net::UnixListener);
descriptor!(UnixListener, net::UnixListener);
