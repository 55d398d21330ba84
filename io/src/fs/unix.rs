//! The mirror of [`std::os::unix::fs`]: its traits, which the types of [`fs`](super) implement, and
//! its functions.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub use std::os::unix::fs::{
    DirBuilderExt, DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};

use crate::offload::offload;

/// Makes a symbolic link; see [`std::os::unix::fs::symlink`].
///
/// # Errors
///
/// Those of std's.
pub fn symlink<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    let (original, link) = (original.as_ref(), link.as_ref());
    offload(|| std::os::unix::fs::symlink(original, link))
}

/// Changes the owner and the group of a file; see [`std::os::unix::fs::chown`].
///
/// # Errors
///
/// Those of std's.
pub fn chown<P: AsRef<Path>>(dir: P, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let dir = dir.as_ref();
    offload(|| std::os::unix::fs::chown(dir, uid, gid))
}

/// As [`chown`], of a descriptor; see [`std::os::unix::fs::fchown`].
///
/// # Errors
///
/// Those of std's.
pub fn fchown<F: AsFd>(fd: F, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let fd = fd.as_fd();
    offload(|| std::os::unix::fs::fchown(fd, uid, gid))
}

/// As [`chown`], of a symbolic link itself; see [`std::os::unix::fs::lchown`].
///
/// # Errors
///
/// Those of std's.
pub fn lchown<P: AsRef<Path>>(dir: P, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let dir = dir.as_ref();
    offload(|| std::os::unix::fs::lchown(dir, uid, gid))
}

/// Changes the root directory of the process; see [`std::os::unix::fs::chroot`].
///
/// # Errors
///
/// Those of std's.
pub fn chroot<P: AsRef<Path>>(dir: P) -> io::Result<()> {
    let dir = dir.as_ref();
    offload(|| std::os::unix::fs::chroot(dir))
}
