//! The ends of the pipes to a child's standard streams that are on this side.
//!
//! Each end is an open file of its own, so making it non-blocking concerns nobody else. One that is
//! given away, to another child say, is made blocking again.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{self, Stdio};

use crate::readiness::{Attempt, Direction};
use crate::source::{Source, whole};
use crate::sys;

/// One attempt at a transfer. Never taken for short: only EAGAIN says of any file whatsoever that
/// there is no more.
fn attempt(mut call: impl FnMut() -> io::Result<usize>) -> Attempt<isize> {
    loop {
        match sys::out_of_line(&mut call) {
            Ok(moved) => return Attempt::Done(moved as isize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return whole(-(error.raw_os_error().unwrap_or(libc::EIO) as isize)),
        }
    }
}

macro_rules! pipe {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name {
            source: Source<File>,
        }

        impl From<OwnedFd> for $name {
            /// Makes the open file behind the descriptor non-blocking.
            fn from(fd: OwnedFd) -> Self {
                Self { source: Source::adopt(File::from(fd)) }
            }
        }

        impl From<process::$name> for $name {
            fn from(pipe: process::$name) -> Self {
                OwnedFd::from(pipe).into()
            }
        }

        impl From<$name> for OwnedFd {
            fn from(pipe: $name) -> Self {
                pipe.source.into_inner().into()
            }
        }

        impl From<$name> for Stdio {
            fn from(pipe: $name) -> Self {
                OwnedFd::from(pipe).into()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.source.get_ref().as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.source.raw_fd()
            }
        }

        impl IntoRawFd for $name {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

macro_rules! readable {
    ($name:ident) => {
        impl Read for $name {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let mut file = self.source.get_ref();
                self.source.operate(Direction::Read, || attempt(|| file.read(buf)))
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let mut file = self.source.get_ref();
                self.source.operate(Direction::Read, || attempt(|| file.read_vectored(bufs)))
            }
        }
    };
}

pipe! {
    /// What is written here the child reads as its standard input; see [`std::process::ChildStdin`].
    /// The child finds the end when this is dropped.
    ChildStdin
}
pipe! {
    /// The child's standard output; see [`std::process::ChildStdout`].
    ChildStdout
}
pipe! {
    /// The child's standard error; see [`std::process::ChildStderr`].
    ChildStderr
}
readable!(ChildStdout);
readable!(ChildStderr);

impl Write for &ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut file = self.source.get_ref();
        self.source.operate(Direction::Write, || attempt(|| file.write(buf)))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut file = self.source.get_ref();
        self.source.operate(Direction::Write, || attempt(|| file.write_vectored(bufs)))
    }

    /// Does nothing: there is no buffer here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
