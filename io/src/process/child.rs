//! Children that have been started.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{self, ExitStatus, Output};
use std::time::Duration;

use bine_runtime::{thread, wait};

use super::{ChildStderr, ChildStdin, ChildStdout, exit};
use crate::source::Source;
use crate::sys;

/// A process that was started; see [`std::process::Child`].
///
/// As there, nothing happens to the process when this is dropped, unless
/// [`kill_on_drop`](super::Command::kill_on_drop) was asked for: it goes on, and when it has ended it
/// stays a zombie until this process ends. One that was waited for does not.
pub struct Child {
    /// Where the child's standard input comes from, if that is piped.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
    /// Apart, for a type that has a destructor cannot be taken apart, and std's can.
    process: Process,
}

/// The process itself.
struct Process {
    /// None once it was given to std, which happens to those that are consumed.
    inner: Option<process::Child>,
    /// Made when it is first needed, and gone when the child is reaped.
    pidfd: Option<Source<OwnedFd>>,
    reaped: bool,
    /// The process that kills the child when it drops it, by its id: one that is forked from it does
    /// not.
    killed_by: Option<u32>,
}

impl Child {
    pub(super) fn new(mut inner: process::Child, kill_on_drop: bool) -> Self {
        Self {
            stdin: inner.stdin.take().map(Into::into),
            stdout: inner.stdout.take().map(Into::into),
            stderr: inner.stderr.take().map(Into::into),
            process: Process {
                inner: Some(inner),
                pidfd: None,
                reaped: false,
                killed_by: kill_on_drop.then(process::id),
            },
        }
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills the process, with SIGKILL. Nothing happens to one that was waited for.
    ///
    /// # Errors
    ///
    /// Those of kill(2).
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Waits until the process has ended. Closes its standard input first, if that is piped.
    ///
    /// # Errors
    ///
    /// Those of waitpid(2): somebody else has waited for it, for one.
    ///
    /// # Examples
    ///
    /// ```
    /// bine_runtime::run(|| {
    ///     let mut child = bine_io::process::Command::new("true").spawn()?;
    ///     assert!(child.wait()?.success());
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.process.wait()
    }

    /// As [`wait`](Self::wait), for `timeout` at most. None if the process runs then; it goes on.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use bine_io::process::Command;
    ///
    /// bine_runtime::run(|| {
    ///     let mut child = Command::new("sleep").arg("60").spawn()?;
    ///     if child.wait_timeout(Duration::from_millis(1))?.is_none() {
    ///         child.kill()?;
    ///     }
    ///     assert_eq!(child.wait()?.code(), None);
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        self.process.wait_within(Some(timeout))
    }

    /// The process's status, if it has ended. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Waits until the process has ended, and reads all that it writes meanwhile, as far as that is
    /// piped: from both pipes at the same time, so that it never waits for a reader. Closes its
    /// standard input first, if that is piped.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and those of reading.
    ///
    /// # Examples
    ///
    /// ```
    /// use bine_io::process::{Command, Stdio};
    ///
    /// bine_runtime::run(|| {
    ///     let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    ///     assert_eq!(child.wait_with_output()?.stdout, b"hello\n");
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        if !wait::is_green() {
            return self.into_std().wait_with_output();
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        match (self.stdout.take(), self.stderr.take()) {
            (None, None) => {}
            (Some(mut pipe), None) => _ = pipe.read_to_end(&mut stdout)?,
            (None, Some(mut pipe)) => _ = pipe.read_to_end(&mut stderr)?,
            (Some(mut out), Some(mut err)) => thread::scope(|scope| {
                let reader =
                    thread::Builder::new().spawn_scoped(scope, || err.read_to_end(&mut stderr))?;
                out.read_to_end(&mut stdout)?;
                reader.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
                Ok::<(), io::Error>(())
            })?,
        }
        let status = self.wait()?;
        Ok(Output { status, stdout, stderr })
    }

    /// For an OS thread, which may block in std's way.
    fn into_std(mut self) -> process::Child {
        let mut inner = self.process.inner.take().expect("a child is consumed once");
        inner.stdout = self.stdout.take().map(|pipe| OwnedFd::from(pipe).into());
        inner.stderr = self.stderr.take().map(|pipe| OwnedFd::from(pipe).into());
        inner
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Process {
    fn inner(&mut self) -> &mut process::Child {
        self.inner.as_mut().expect("only a child that is consumed is given away")
    }

    fn id(&self) -> u32 {
        self.inner.as_ref().expect("only a child that is consumed is given away").id()
    }

    fn kill(&mut self) -> io::Result<()> {
        sys::out_of_line(|| self.inner().kill())
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.wait_within(None)
            .map(|status| status.expect("a wait without a limit ends with the child"))
    }

    fn wait_within(&mut self, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.try_wait()? {
            wait::checkpoint();
            return Ok(Some(status));
        }
        if self.pidfd.is_none() {
            self.pidfd = exit::watch(self.id());
        }
        let child = self.inner.as_mut().expect("only a child that is consumed is given away");
        let watched = self.pidfd.as_ref().map(|pidfd| exit::wait_watched(child, pidfd, timeout));
        let ended = match watched {
            Some(Ok(ended)) => ended,
            // No pidfds, or no poller, in a forked child say.
            Some(Err(_)) | None => exit::wait_unwatched(child, timeout),
        }?;
        if ended.is_some() {
            self.note_reaped();
        }
        Ok(ended)
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = exit::try_wait(self.inner())?;
        if ended.is_some() {
            self.note_reaped();
        }
        Ok(ended)
    }

    fn note_reaped(&mut self) {
        self.reaped = true;
        self.pidfd = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.killed_by.is_none_or(|by| by != process::id()) {
            return;
        }
        // An id that somebody else may have by now is not to be killed.
        if self.reaped || self.inner.is_none() {
            return;
        }
        // Fails where it cannot be helped: the process is another user's by now, say.
        if self.kill().is_ok() {
            // Not interrupted, or there would be a zombie; it is killed, so this takes no time.
            let _ = wait::shielded(|| self.wait());
        }
    }
}
