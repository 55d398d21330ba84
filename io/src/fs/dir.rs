//! Reading directories.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::DirEntryExt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::PathBuf;
use std::{fmt, fs, io};

use super::{FileType, Metadata};
use crate::offload::offload;

/// How many entries one hand-over brings at most: it costs as much as reading about so many.
const AHEAD: usize = 64;

/// The entries of a directory; see [`std::fs::ReadDir`]. Reads up to 64 of them ahead.
pub struct ReadDir {
    inner: fs::ReadDir,
    ahead: VecDeque<io::Result<fs::DirEntry>>,
    ended: bool,
}

// As std's: an error that is kept for its turn is only ever handed out.
impl UnwindSafe for ReadDir {}
impl RefUnwindSafe for ReadDir {}

impl ReadDir {
    pub(super) fn new(inner: fs::ReadDir) -> Self {
        Self { inner, ahead: VecDeque::new(), ended: false }
    }

    fn read_ahead(&mut self) {
        let (inner, ahead) = (&mut self.inner, &mut self.ahead);
        self.ended = offload(|| {
            while ahead.len() < AHEAD {
                match inner.next() {
                    // Whether there is anything after an error is told by what follows it.
                    Some(Err(error)) => {
                        ahead.push_back(Err(error));
                        return false;
                    }
                    Some(entry) => ahead.push_back(entry),
                    None => return true,
                }
            }
            false
        });
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if self.ahead.is_empty() && !self.ended {
            self.read_ahead();
        }
        Some(self.ahead.pop_front()?.map(|inner| DirEntry { inner }))
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// An entry of a directory; see [`std::fs::DirEntry`].
pub struct DirEntry {
    inner: fs::DirEntry,
}

impl DirEntry {
    /// The directory's path, as it was given, and the name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.inner.path()
    }

    /// The name alone.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.inner.file_name()
    }

    /// What the system knows of the entry; of a symbolic link, of the link itself.
    ///
    /// # Errors
    ///
    /// Those of std's.
    pub fn metadata(&self) -> io::Result<Metadata> {
        offload(|| self.inner.metadata())
    }

    /// What it is. Most file systems say so with the name, and others have to be asked.
    ///
    /// # Errors
    ///
    /// Those of std's.
    pub fn file_type(&self) -> io::Result<FileType> {
        offload(|| self.inner.file_type())
    }
}

impl DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.inner.ino()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
