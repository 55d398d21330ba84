//! The mirror of [`std::os::unix::process`].
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;

pub use std::os::unix::process::{ExitStatusExt, parent_id};

use super::Command;

/// What commands have on Unix; see [`std::os::unix::process::CommandExt`], of which this has all
/// that is stable and not deprecated.
pub trait CommandExt {
    /// Sets the user.
    fn uid(&mut self, id: u32) -> &mut Command;

    /// Sets the group.
    fn gid(&mut self, id: u32) -> &mut Command;

    /// Has `f` run in the child, after the fork and before the program.
    ///
    /// # Safety
    ///
    /// As std's: `f` runs in a forked child, where only what is async-signal-safe works, and
    /// neither allocating nor taking a lock is. Nor is anything of bine's that waits.
    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static;

    /// Replaces this process by the program, with all its threads. Returns if that fails.
    fn exec(&mut self) -> io::Error;

    /// Sets the argument 0, which is the program's name otherwise.
    fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command;

    /// Sets the process group; 0 makes a new one.
    fn process_group(&mut self, pgroup: i32) -> &mut Command;
}

impl CommandExt for Command {
    fn uid(&mut self, id: u32) -> &mut Command {
        self.inner.uid(id);
        self
    }

    fn gid(&mut self, id: u32) -> &mut Command {
        self.inner.gid(id);
        self
    }

    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise.
        unsafe { self.inner.pre_exec(f) };
        self.has_hook = true;
        self
    }

    fn exec(&mut self) -> io::Error {
        crate::sys::out_of_line(|| self.inner.exec())
    }

    fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.inner.arg0(arg);
        self
    }

    fn process_group(&mut self, pgroup: i32) -> &mut Command {
        self.inner.process_group(pgroup);
        self
    }
}
