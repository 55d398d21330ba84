//! Who is at the other end.

use std::io;
use std::os::fd::AsFd;

use socket2::SockRef;

use super::{UnixDatagram, UnixStream};
use crate::sys;

/// The credentials of a process: the mirror of std's type of this name, which is not stable yet.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UCred {
    /// The effective user of the process.
    pub uid: libc::uid_t,
    /// Its effective group.
    pub gid: libc::gid_t,
    /// Its number. Linux always knows it.
    pub pid: Option<libc::pid_t>,
}

/// The credentials of the process at the other end of the connection `socket`.
pub(super) fn of_peer(socket: impl AsFd) -> io::Result<UCred> {
    let peer = sys::peer_credentials(socket.as_fd())?;
    Ok(UCred { uid: peer.uid, gid: peer.gid, pid: Some(peer.pid) })
}

/// What Linux has for Unix sockets beside: the mirror of std's trait of this name, which is not
/// stable yet.
pub trait UnixSocketExt: sealed::Sealed {
    /// Whether what is received brings the credentials of its sender along (SO_PASSCRED).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    fn passcred(&self) -> io::Result<bool>;

    /// Sets SO_PASSCRED.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    fn set_passcred(&self, passcred: bool) -> io::Result<()>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! passcred {
    ($name:ident) => {
        impl sealed::Sealed for $name {}

        impl UnixSocketExt for $name {
            fn passcred(&self) -> io::Result<bool> {
                sys::out_of_line(|| SockRef::from(self).passcred())
            }

            fn set_passcred(&self, passcred: bool) -> io::Result<()> {
                sys::out_of_line(|| SockRef::from(self).set_passcred(passcred))
            }
        }
    };
}

passcred!(UnixStream);
passcred!(UnixDatagram);
