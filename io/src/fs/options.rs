//! How files are opened and directories made.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::{fs, io};

use super::File;
use crate::offload::offload;

/// How a file is opened; see [`std::fs::OpenOptions`], and
/// [`OpenOptionsExt`] for the mode and more flags.
///
/// # Examples
///
/// ```no_run
/// use bine_io::fs::OpenOptions;
/// let log = OpenOptions::new().append(true).create(true).open("server.log")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    inner: fs::OpenOptions,
}

impl OpenOptions {
    /// Everything off.
    #[allow(clippy::new_without_default, reason = "std has none")]
    #[must_use]
    pub fn new() -> Self {
        Self { inner: fs::OpenOptions::new() }
    }

    /// Whether it can be read from.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.inner.read(read);
        self
    }

    /// Whether it can be written to.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.inner.write(write);
        self
    }

    /// Whether each write goes to the end.
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.inner.append(append);
        self
    }

    /// Whether what is there goes.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.inner.truncate(truncate);
        self
    }

    /// Whether it is made if it is missing.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.inner.create(create);
        self
    }

    /// Whether it is made, and must be missing.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.inner.create_new(create_new);
        self
    }

    /// Opens `path`.
    ///
    /// # Errors
    ///
    /// Those of std's.
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let path = path.as_ref();
        offload(|| self.inner.open(path)).map(File::from)
    }
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut Self {
        self.inner.mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut Self {
        self.inner.custom_flags(flags);
        self
    }
}

/// How a directory is made; see [`std::fs::DirBuilder`], and
/// [`DirBuilderExt`] for the mode.
// Fields and not std's builder, which cannot be shared with another thread while it is used.
#[derive(Debug)]
pub struct DirBuilder {
    mode: Option<u32>,
    recursive: bool,
}

impl DirBuilder {
    /// One directory, with the usual mode.
    #[allow(clippy::new_without_default, reason = "std has none")]
    #[must_use]
    pub fn new() -> Self {
        Self { mode: None, recursive: false }
    }

    /// Whether those above it are made, too, where they are missing.
    pub fn recursive(&mut self, recursive: bool) -> &mut Self {
        self.recursive = recursive;
        self
    }

    /// Makes `path`.
    ///
    /// # Errors
    ///
    /// Those of std's.
    pub fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let path = path.as_ref();
        offload(|| {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(self.recursive);
            if let Some(mode) = self.mode {
                builder.mode(mode);
            }
            builder.create(path)
        })
    }
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }
}
