//! Standard input.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::io::{self, BufRead, BufReader, IoSliceMut, IsTerminal, Lines, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::LazyLock;

use super::ready::await_ready;
use super::turns::Turns;
use crate::offload::offload;
use crate::readiness::Direction;
use crate::sys;

/// The descriptor, without a buffer.
#[derive(Debug)]
struct Raw;

impl Read for Raw {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        await_ready(libc::STDIN_FILENO, Direction::Read);
        match offload(|| read_now(buf)) {
            // A process that was started without standard input has an empty one, as in std.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(0),
            result => result,
        }
    }
}

fn read_now(buf: &mut [u8]) -> io::Result<usize> {
    let len = buf.len().min(isize::MAX as usize);
    // SAFETY: `buf` is valid for writes of `len` bytes.
    let read = unsafe { libc::read(libc::STDIN_FILENO, buf.as_mut_ptr().cast(), len) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

struct Shared {
    turns: Turns,
    /// # Invariant
    ///
    /// Used by the one alone whose turn it is.
    reader: UnsafeCell<BufReader<Raw>>,
}

// SAFETY: the reader, which is Send, has one user at a time.
unsafe impl Sync for Shared {}

// As std's: what a panic may leave behind is a buffer, which is whole.
impl RefUnwindSafe for Shared {}

static SHARED: LazyLock<Shared> =
    LazyLock::new(|| Shared { turns: Turns::new(), reader: UnsafeCell::new(BufReader::new(Raw)) });

/// Standard input; see [`std::io::Stdin`] and [`stdin`].
pub struct Stdin(&'static Shared);

/// Standard input, locked; see [`std::io::StdinLock`].
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// let lock = bine_io::stdio::stdin().lock();
/// bine_runtime::spawn(move || drop(lock));
/// ```
pub struct StdinLock<'a> {
    shared: &'a Shared,
    /// Neither Send nor Sync: its thread has the turn.
    stays: PhantomData<*mut ()>,
}

/// The process's standard input, with one buffer for all who read it here.
///
/// # Examples
///
/// ```no_run
/// for line in bine_io::stdio::stdin().lines() {
///     println!("got {}", line?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn stdin() -> Stdin {
    Stdin(&SHARED)
}

impl Stdin {
    /// Waits until no other thread has it locked, and locks it.
    ///
    /// A thread that has locked it already waits for ever, as with std's.
    pub fn lock(&self) -> StdinLock<'static> {
        self.0.turns.enter();
        StdinLock { shared: self.0, stays: PhantomData }
    }

    /// Reads a line into `buf`, after what is there, with its end; returns how many bytes it has,
    /// 0 at the end of the input.
    ///
    /// # Errors
    ///
    /// Those of read(2), and `InvalidData` if it is not UTF-8.
    pub fn read_line(&self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_line(buf)
    }

    /// The lines that follow, without their ends.
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }

    /// Whether it is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        sys::out_of_line(|| io::stdin().is_terminal())
    }
}

impl Read for &Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.lock().read_vectored(bufs)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.lock().read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_to_string(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.lock().read_exact(buf)
    }
}

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buf)
    }
}

impl StdinLock<'_> {
    fn reader(&mut self) -> &mut BufReader<Raw> {
        // SAFETY: it is this lock's turn, of which there is one, and it is borrowed for as long.
        unsafe { &mut *self.shared.reader.get() }
    }

    /// As [`Stdin::is_terminal`].
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        stdin().is_terminal()
    }
}

impl Read for StdinLock<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader().read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader().read_vectored(bufs)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.reader().read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.reader().read_to_string(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.reader().read_exact(buf)
    }
}

impl BufRead for StdinLock<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader().fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader().consume(amount);
    }
}

impl Drop for StdinLock<'_> {
    fn drop(&mut self) {
        self.shared.turns.leave();
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: as with std's, the descriptor stays open while the process lives.
        unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
    }
}

impl AsRawFd for Stdin {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

impl AsFd for StdinLock<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: as above.
        unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
    }
}

impl AsRawFd for StdinLock<'_> {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}
