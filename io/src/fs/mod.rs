//! Files and directories: the mirror of [`std::fs`], on green threads.
//!
//! The kernel has no way to wait for a file without an OS thread that waits. So what may block is
//! handed over to an OS thread of the [blocking pool](bine_runtime::blocking) while the calling
//! green thread waits; its worker goes on with others. On a plain OS thread everything is done in
//! place.
//!
//! A hand-over costs some microseconds, whatever is done meanwhile. So what std has as one call is
//! one hand-over here, however large it is: [`read`], [`write()`], [`copy`], and of [`File`]
//! [`read_to_end`](std::io::Read::read_to_end), [`read_exact`](std::io::Read::read_exact),
//! [`write_all`](std::io::Write::write_all), [`write!`](std::write). Who reads or writes little at
//! a time puts a [`BufReader`](std::io::BufReader) or a [`BufWriter`](std::io::BufWriter) around
//! the file, as for std's.
//!
//! Types that are plain data are std's own, and so are the traits of [`std::os::unix::fs`], which
//! the types here implement.
//!
//! # What is not as in std
//!
//! - A green thread that was cancelled unwinds before an operation, never in it.
//! - [`File::lock`] on a green thread tries again and again; see there.
//! - [`ReadDir`] reads some entries ahead.
//! - `Arc<File>` has no `Read`, `Write` and `Seek`, which only std can give it; `&File` has them.
//!   [`IsTerminal`](std::io::IsTerminal) cannot be implemented by others;
//!   [`File::is_terminal`] stands for it.
//! - What waits for a peer (a FIFO that is opened, or read through a [`File`]) keeps an OS thread of
//!   the pool until the peer comes.

mod dir;
mod file;
mod lock;
mod options;
pub mod unix;

use std::io;
use std::path::{Path, PathBuf};

pub use std::fs::{FileTimes, FileType, Metadata, Permissions, TryLockError};

pub(crate) use self::file::write_formatted;
pub use self::{
    dir::{DirEntry, ReadDir},
    file::File,
    options::{DirBuilder, OpenOptions},
};
use crate::offload::offload;

/// Reads a file; see [`std::fs::read`].
///
/// # Errors
///
/// Those of std's.
///
/// # Examples
///
/// ```
/// bine_runtime::run(|| {
///     let status = bine_io::fs::read("/proc/self/status")?;
///     assert!(!status.is_empty());
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read<P: AsRef<Path>>(path: P) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    offload(|| std::fs::read(path))
}

/// Reads a file of UTF-8; see [`std::fs::read_to_string`].
///
/// # Errors
///
/// Those of std's: `InvalidData` if it is not UTF-8.
pub fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    let path = path.as_ref();
    offload(|| std::fs::read_to_string(path))
}

/// Writes a file, in place of what is there; see [`std::fs::write`].
///
/// # Errors
///
/// Those of std's.
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    let (path, contents) = (path.as_ref(), contents.as_ref());
    offload(|| std::fs::write(path, contents))
}

/// Copies a file's contents and permissions; returns how many bytes. See [`std::fs::copy`].
///
/// # Errors
///
/// Those of std's.
pub fn copy<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<u64> {
    let (from, to) = (from.as_ref(), to.as_ref());
    offload(|| std::fs::copy(from, to))
}

/// Renames a file or a directory; see [`std::fs::rename`].
///
/// # Errors
///
/// Those of std's.
pub fn rename<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    offload(|| std::fs::rename(from, to))
}

/// Makes a hard link; see [`std::fs::hard_link`].
///
/// # Errors
///
/// Those of std's.
pub fn hard_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    let (original, link) = (original.as_ref(), link.as_ref());
    offload(|| std::fs::hard_link(original, link))
}

/// Makes a symbolic link.
///
/// # Errors
///
/// As [`unix::symlink`].
#[deprecated(note = "replaced by `os::unix::fs::symlink`, as in std")]
pub fn soft_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    unix::symlink(original, link)
}

/// Where a symbolic link leads; see [`std::fs::read_link`].
///
/// # Errors
///
/// Those of std's.
pub fn read_link<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    let path = path.as_ref();
    offload(|| std::fs::read_link(path))
}

/// The absolute path without symbolic links; see [`std::fs::canonicalize`].
///
/// # Errors
///
/// Those of std's.
pub fn canonicalize<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    let path = path.as_ref();
    offload(|| std::fs::canonicalize(path))
}

/// What the system knows of a file, after symbolic links; see [`std::fs::metadata`].
///
/// # Errors
///
/// Those of std's.
pub fn metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    let path = path.as_ref();
    offload(|| std::fs::metadata(path))
}

/// As [`metadata`], of a symbolic link itself; see [`std::fs::symlink_metadata`].
///
/// # Errors
///
/// Those of std's.
pub fn symlink_metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    let path = path.as_ref();
    offload(|| std::fs::symlink_metadata(path))
}

/// Whether there is something at `path`, after symbolic links; see [`std::fs::exists`].
///
/// # Errors
///
/// Those of std's, where it cannot be told.
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    let path = path.as_ref();
    offload(|| std::fs::exists(path))
}

/// Changes the permissions of a file; see [`std::fs::set_permissions`].
///
/// # Errors
///
/// Those of std's.
pub fn set_permissions<P: AsRef<Path>>(path: P, perm: Permissions) -> io::Result<()> {
    let path = path.as_ref();
    offload(|| std::fs::set_permissions(path, perm))
}

/// Removes a file; see [`std::fs::remove_file`].
///
/// # Errors
///
/// Those of std's.
pub fn remove_file<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref();
    offload(|| std::fs::remove_file(path))
}

/// Makes a directory; see [`std::fs::create_dir`].
///
/// # Errors
///
/// Those of std's.
pub fn create_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref();
    offload(|| std::fs::create_dir(path))
}

/// Makes a directory, and those above it that are missing; see [`std::fs::create_dir_all`].
///
/// # Errors
///
/// Those of std's.
pub fn create_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref();
    offload(|| std::fs::create_dir_all(path))
}

/// Removes an empty directory; see [`std::fs::remove_dir`].
///
/// # Errors
///
/// Those of std's.
pub fn remove_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref();
    offload(|| std::fs::remove_dir(path))
}

/// Removes a directory with all that is in it; see [`std::fs::remove_dir_all`].
///
/// # Errors
///
/// Those of std's.
pub fn remove_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    let path = path.as_ref();
    offload(|| std::fs::remove_dir_all(path))
}

/// What is in a directory; see [`std::fs::read_dir`].
///
/// # Errors
///
/// Those of std's, here and of each entry.
///
/// # Examples
///
/// ```
/// bine_runtime::run(|| {
///     let names = bine_io::fs::read_dir("/proc/self")?
///         .map(|entry| entry.map(|entry| entry.file_name()))
///         .collect::<Result<Vec<_>, _>>()?;
///     assert!(names.iter().any(|name| name == "status"));
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref();
    offload(|| std::fs::read_dir(path)).map(ReadDir::new)
}
