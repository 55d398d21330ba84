//! What only some systems have: the mirror of [`std::os`].

/// What Unix has.
pub mod unix {
    pub mod net {
        //! Unix sockets: the mirror of [`std::os::unix::net`], on green threads.
        //!
        //! What is said of [`bine_io::net`](crate::net) holds here, too. Besides:
        //! - a [connection](UnixStream::connect) to a listener whose queue is full, and a
        //!   [datagram](UnixDatagram::send_to) to a receiver whose queue is full, are tried again
        //!   after pauses of at most 10 ms: the kernel does not tell when there is room there;
        //! - [`UnixStream::peek`], [`UnixStream::peer_cred`], [`UnixDatagram::peek`] and
        //!   [`UnixDatagram::peek_from`] are not stable yet in std;
        //! - ancillary data, which is not stable there either, is not mirrored.

        pub use crate::net::unix::{Incoming, UCred, UnixDatagram, UnixListener, UnixStream};
        pub use std::os::unix::net::SocketAddr;
    }
}

/// What Linux alone has.
pub mod linux {
    /// Extensions of networking: the mirror of [`std::os::linux::net`].
    pub mod net {
        pub use crate::net::tcp::TcpStreamExt;
        pub use crate::net::unix::UnixSocketExt;
        pub use std::os::linux::net::SocketAddrExt;
    }
}
