//! What the socket types have in common with each other, and with std's.
//!
//! Macros and not a generic type, since each type is to have these as methods of its own.

/// Formatting, descriptors, and conversions both ways, for `$name` with the mirrored `$std`.
macro_rules! descriptor {
    ($name:ident, $std:ty) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.source.with(|inner| std::fmt::Debug::fmt(inner, f))
            }
        }

        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(self.source.get_ref())
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.source.raw_fd()
            }
        }

        impl std::os::fd::FromRawFd for $name {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> Self {
                // SAFETY: the caller gives an open descriptor that it owns.
                Self::from(unsafe {
                    <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
                })
            }
        }

        impl std::os::fd::IntoRawFd for $name {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(self.source.into_inner())
            }
        }

        impl From<std::os::fd::OwnedFd> for $name {
            fn from(fd: std::os::fd::OwnedFd) -> Self {
                Self::from(<$std>::from(fd))
            }
        }

        impl From<$name> for std::os::fd::OwnedFd {
            fn from(socket: $name) -> Self {
                socket.source.into_inner().into()
            }
        }

        /// Keeps std's timeouts and non-blocking mode.
        impl From<$std> for $name {
            fn from(inner: $std) -> Self {
                Self { source: crate::source::Source::adopt(inner) }
            }
        }

        /// Keeps timeouts and the non-blocking mode. The mode of the descriptor underneath, which
        /// this restores, is shared with clones that stay behind: a listener's clone would then
        /// block its OS thread.
        impl From<$name> for $std {
            fn from(socket: $name) -> Self {
                socket.source.into_inner()
            }
        }
    };
}

/// Timeouts, the pending error and the non-blocking mode of `$name`, which mirrors `$std`.
macro_rules! settings {
    (timeouts of $name:ident, $std:ty) => {
        impl $name {
            /// Sets for how long a receiving operation may wait; `None` is for ever. One that has
            /// waited that long fails with `WouldBlock`, as std's does on Linux. Clones share the
            /// timeout.
            ///
            /// # Errors
            ///
            /// `InvalidInput` if the timeout is zero.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.source.with(|inner| inner.set_read_timeout(timeout))?;
                self.source.note_timeout(Direction::Read, timeout);
                Ok(())
            }

            /// Sets for how long a sending operation may wait; `None` is for ever. One that has
            /// waited that long fails with `WouldBlock`, as std's does on Linux. Clones share the
            /// timeout.
            ///
            /// # Errors
            ///
            /// `InvalidInput` if the timeout is zero.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.source.with(|inner| inner.set_write_timeout(timeout))?;
                self.source.note_timeout(Direction::Write, timeout);
                Ok(())
            }

            /// For how long a receiving operation may wait, as the kernel has rounded it.
            ///
            /// # Errors
            ///
            /// Those of getsockopt(2).
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                self.source.with(<$std>::read_timeout)
            }

            /// For how long a sending operation may wait, as the kernel has rounded it.
            ///
            /// # Errors
            ///
            /// Those of getsockopt(2).
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                self.source.with(<$std>::write_timeout)
            }
        }
    };
    (mode of $name:ident, $std:ty) => {
        impl $name {
            /// A second handle to the same socket, with a descriptor of its own. The two share
            /// what is set, timeouts and the non-blocking mode among it.
            ///
            /// # Errors
            ///
            /// Those of dup(2): too many open descriptors, for one.
            pub fn try_clone(&self) -> io::Result<Self> {
                let inner = self.source.with(<$std>::try_clone)?;
                Ok(Self { source: self.source.clone_with(inner) })
            }

            /// Takes the error that is pending on the socket (SO_ERROR), if there is one.
            ///
            /// # Errors
            ///
            /// Those of getsockopt(2).
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.source.with(<$std>::take_error)
            }

            /// Sets whether operations fail with `WouldBlock` where they would wait. Clones share
            /// the mode.
            ///
            /// # Errors
            ///
            /// None at present.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.source.set_nonblocking(nonblocking);
                Ok(())
            }
        }
    };
}

/// [`Read`](std::io::Read) and [`Write`](std::io::Write) of a stream by value, by what a shared
/// reference to it does.
macro_rules! by_reference {
    ($name:ident) => {
        impl Read for $name {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(bufs)
            }
        }

        impl Write for $name {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (&*self).write(buf)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            #[inline]
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(crate) use {by_reference, descriptor, settings};
