//! Standard output and standard error.
#![allow(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IsTerminal, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::ready::await_ready;
use super::turns::Turns;
use crate::fs::write_formatted;
use crate::offload::offload;
use crate::readiness::Direction;
use crate::sys;

macro_rules! output {
    ($stream:ident, $lock:ident, $function:ident, $std:path, $fd:expr, $turns:ident, $what:literal) => {
        static $turns: Turns = Turns::new();

        #[doc = concat!($what, "; see [`std::io::", stringify!($stream), "`] and [`", stringify!($function), "`].")]
        pub struct $stream(());

        #[doc = concat!($what, ", locked; see [`std::io::", stringify!($lock), "`]. It stays on its thread.")]
        pub struct $lock<'a> {
            /// Neither Send nor Sync: its thread has the turn.
            stays: PhantomData<(&'a (), *mut ())>,
        }

        #[doc = concat!("The process's ", stringify!($function), ", by way of [`", stringify!($std), "`].")]
        #[must_use]
        pub fn $function() -> $stream {
            $stream(())
        }

        impl $stream {
            /// Waits until no other thread has it locked, and locks it. A thread may do so again
            /// while it has it locked.
            pub fn lock(&self) -> $lock<'static> {
                $turns.enter_again();
                $lock { stays: PhantomData }
            }

            /// Whether it is a terminal.
            #[must_use]
            pub fn is_terminal(&self) -> bool {
                sys::out_of_line(|| $std().is_terminal())
            }
        }

        impl $lock<'_> {
            /// Whether it is a terminal.
            #[must_use]
            pub fn is_terminal(&self) -> bool {
                $function().is_terminal()
            }
        }

        impl Write for $lock<'_> {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                await_ready($fd, Direction::Write);
                offload(|| $std().write(buf))
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                await_ready($fd, Direction::Write);
                offload(|| $std().write_vectored(bufs))
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                await_ready($fd, Direction::Write);
                offload(|| $std().write_all(buf))
            }

            fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
                write_formatted(args, |text| self.write_all(text))
            }

            fn flush(&mut self) -> io::Result<()> {
                await_ready($fd, Direction::Write);
                offload(|| $std().flush())
            }
        }

        impl Write for &$stream {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.lock().write(buf)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.lock().write_vectored(bufs)
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                self.lock().write_all(buf)
            }

            fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
                self.lock().write_fmt(args)
            }

            fn flush(&mut self) -> io::Result<()> {
                self.lock().flush()
            }
        }

        impl Write for $stream {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (&*self).write(buf)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                (&*self).write_all(buf)
            }

            fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
                (&*self).write_fmt(args)
            }

            fn flush(&mut self) -> io::Result<()> {
                (&*self).flush()
            }
        }

        impl Drop for $lock<'_> {
            fn drop(&mut self) {
                $turns.leave();
            }
        }

        impl AsFd for $stream {
            fn as_fd(&self) -> BorrowedFd<'_> {
                // SAFETY: as with std's, the descriptor stays open while the process lives.
                unsafe { BorrowedFd::borrow_raw($fd) }
            }
        }

        impl AsRawFd for $stream {
            fn as_raw_fd(&self) -> RawFd {
                $fd
            }
        }

        impl AsFd for $lock<'_> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                // SAFETY: as above.
                unsafe { BorrowedFd::borrow_raw($fd) }
            }
        }

        impl AsRawFd for $lock<'_> {
            fn as_raw_fd(&self) -> RawFd {
                $fd
            }
        }

        impl fmt::Debug for $stream {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($stream)).finish_non_exhaustive()
            }
        }

        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }
    };
}

output!(
    Stdout,
    StdoutLock,
    stdout,
    std::io::stdout,
    libc::STDOUT_FILENO,
    STDOUT,
    "Standard output"
);
output!(Stderr, StderrLock, stderr, std::io::stderr, libc::STDERR_FILENO, STDERR, "Standard error");
