//! Files.
#![allow(unsafe_code)]

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use super::lock::wait_for_lock;
use super::{FileTimes, Metadata, OpenOptions, Permissions, TryLockError};
use crate::offload::offload;

/// An open file; see [`std::fs::File`].
///
/// Each operation is handed over to an OS thread of the blocking pool if a green thread calls it,
/// but for those that cannot block: [`try_clone`](Self::try_clone), and closing the file when it
/// is dropped, which std does in the same way.
///
/// # Examples
///
/// ```
/// use std::io::Read;
///
/// bine_runtime::run(|| {
///     let mut name = String::new();
///     bine_io::fs::File::open("/proc/self/comm")?.read_to_string(&mut name)?;
///     assert!(!name.is_empty());
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    inner: fs::File,
}

impl File {
    /// Opens a file to read it.
    ///
    /// # Errors
    ///
    /// Those of std's.
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file to write it. Makes it if it is missing, and empties it if not.
    ///
    /// # Errors
    ///
    /// Those of std's.
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file to read and to write it.
    ///
    /// # Errors
    ///
    /// Those of std's: `AlreadyExists`, for one.
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// As [`OpenOptions::new`].
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Waits until contents and metadata are on the disk.
    ///
    /// # Errors
    ///
    /// Those of fsync(2).
    pub fn sync_all(&self) -> io::Result<()> {
        offload(|| self.inner.sync_all())
    }

    /// Waits until the contents are on the disk.
    ///
    /// # Errors
    ///
    /// Those of fdatasync(2).
    pub fn sync_data(&self) -> io::Result<()> {
        offload(|| self.inner.sync_data())
    }

    /// Waits until the file can be locked for the caller alone, and locks it. Others that lock it
    /// wait, in this process (through other descriptors that were opened, not duplicated) and in
    /// others; who does not lock is not kept out.
    ///
    /// A green thread tries at growing intervals, 10 ms in the end, for the system would have it
    /// keep an OS thread. So it can be interrupted, and it may lose against those who wait in the
    /// system.
    ///
    /// # Errors
    ///
    /// Those of flock(2).
    pub fn lock(&self) -> io::Result<()> {
        wait_for_lock(|| self.inner.lock(), || self.inner.try_lock())
    }

    /// As [`lock`](Self::lock), but others may have the file locked as shared meanwhile.
    ///
    /// # Errors
    ///
    /// Those of flock(2).
    pub fn lock_shared(&self) -> io::Result<()> {
        wait_for_lock(|| self.inner.lock_shared(), || self.inner.try_lock_shared())
    }

    /// Locks the file for the caller alone if that is possible now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is locked, and those of flock(2).
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        offload(|| self.inner.try_lock())
    }

    /// Locks the file as shared if that is possible now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is locked by another alone, and those of flock(2).
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        offload(|| self.inner.try_lock_shared())
    }

    /// Unlocks the file.
    ///
    /// # Errors
    ///
    /// Those of flock(2).
    pub fn unlock(&self) -> io::Result<()> {
        offload(|| self.inner.unlock())
    }

    /// Cuts the file off at `size` bytes, or extends it with zeros.
    ///
    /// # Errors
    ///
    /// Those of ftruncate(2).
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        offload(|| self.inner.set_len(size))
    }

    /// What the system knows of the file.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    pub fn metadata(&self) -> io::Result<Metadata> {
        offload(|| self.inner.metadata())
    }

    /// A second handle of the same open file, with the same position.
    ///
    /// # Errors
    ///
    /// Those of dup(2): too many open descriptors, for one.
    pub fn try_clone(&self) -> io::Result<Self> {
        crate::sys::out_of_line(|| self.inner.try_clone()).map(Self::from)
    }

    /// Changes the permissions.
    ///
    /// # Errors
    ///
    /// Those of fchmod(2).
    pub fn set_permissions(&self, perm: Permissions) -> io::Result<()> {
        offload(|| self.inner.set_permissions(perm))
    }

    /// Changes when the file was last used.
    ///
    /// # Errors
    ///
    /// Those of futimens(2).
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        offload(|| self.inner.set_times(times))
    }

    /// Changes when the file was last written.
    ///
    /// # Errors
    ///
    /// Those of futimens(2).
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Whether it is a terminal; stands for [`IsTerminal`].
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        crate::sys::out_of_line(|| self.inner.is_terminal())
    }
}

impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        offload(|| (&self.inner).read(buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        offload(|| (&self.inner).read_vectored(bufs))
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        offload(|| (&self.inner).read_exact(buf))
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        offload(|| (&self.inner).read_to_end(buf))
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        offload(|| (&self.inner).read_to_string(buf))
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        offload(|| (&self.inner).write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        offload(|| (&self.inner).write_vectored(bufs))
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        offload(|| (&self.inner).write_all(buf))
    }

    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        write_formatted(args, |text| self.write_all(text))
    }

    /// Does nothing: there is no buffer here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has the whole of a formatted text written at once, as each piece would be a hand-over.
///
/// # Panics
///
/// If something says that it cannot be formatted, as std's.
pub(crate) fn write_formatted(
    args: fmt::Arguments<'_>,
    write_all: impl FnOnce(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(text) = args.as_str() {
        return write_all(text.as_bytes());
    }
    let mut text = String::new();
    let formatted = text.write_fmt(args);
    write_all(text.as_bytes())?;
    assert!(formatted.is_ok(), "a value that was to be written has failed to format itself");
    Ok(())
}

impl Seek for &File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        offload(|| (&self.inner).seek(pos))
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        offload(|| (&self.inner).stream_position())
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

impl Write for File {
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
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        (&*self).seek(pos)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        (&*self).stream_position()
    }
}

impl FileExt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        offload(|| self.inner.read_at(buf, offset))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        offload(|| self.inner.read_exact_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        offload(|| self.inner.write_at(buf, offset))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        offload(|| self.inner.write_all_at(buf, offset))
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl From<fs::File> for File {
    fn from(inner: fs::File) -> Self {
        Self { inner }
    }
}

impl From<File> for fs::File {
    fn from(file: File) -> Self {
        file.inner
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self { inner: fd.into() }
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> Self {
        file.inner.into()
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        file.inner.into()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl FromRawFd for File {
    unsafe fn from_raw_fd(fd: RawFd) -> Self {
        // SAFETY: the caller's promise.
        Self { inner: unsafe { fs::File::from_raw_fd(fd) } }
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        self.inner.into_raw_fd()
    }
}
