//! Starting processes.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};
use std::{fmt, io};

use super::Child;
use crate::offload::offload;
use crate::sys;

/// A process that is to be started; see [`std::process::Command`].
///
/// # Examples
///
/// ```
/// use bine_io::process::Command;
///
/// bine_runtime::run(|| {
///     let output = Command::new("sh").args(["-c", "echo hello"]).output()?;
///     assert!(output.status.success());
///     assert_eq!(output.stdout, b"hello\n");
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Command {
    pub(super) inner: process::Command,
    /// Which of the standard streams the user has set.
    streams: [bool; 3],
    /// Something of the user's runs in the child.
    pub(super) has_hook: bool,
    kill_on_drop: bool,
}

impl Command {
    /// The program at the path `program`, or in a directory of `PATH` if it has no slash.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Self {
        Self {
            inner: process::Command::new(program),
            streams: [false; 3],
            has_hook: false,
            kill_on_drop: false,
        }
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.inner.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env<K, V>(&mut self, key: K, val: V) -> &mut Self
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.inner.env(key, val);
        self
    }

    /// Sets variables of the environment.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.inner.envs(vars);
        self
    }

    /// Removes a variable from the environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// Has the process inherit no environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Self {
        self.inner.current_dir(dir);
        self
    }

    /// Sets where standard input comes from. By default it is inherited, but for
    /// [`output`](Self::output), where it is empty.
    pub fn stdin<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Self {
        self.inner.stdin(cfg);
        self.streams[0] = true;
        self
    }

    /// Sets where standard output goes. By default it is inherited, but for
    /// [`output`](Self::output), where it is piped.
    pub fn stdout<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Self {
        self.inner.stdout(cfg);
        self.streams[1] = true;
        self
    }

    /// Sets where standard error goes; as [`stdout`](Self::stdout).
    pub fn stderr<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Self {
        self.inner.stderr(cfg);
        self.streams[2] = true;
        self
    }

    /// Sets whether a [`Child`] that is dropped is killed: with SIGKILL, and waited for, so that no
    /// zombie is left. Off by default, as in std.
    ///
    /// # Examples
    ///
    /// ```
    /// use bine_io::process::Command;
    ///
    /// bine_runtime::run(|| {
    ///     let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn()?;
    ///     drop(child); // does not take 1000 seconds
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill_on_drop(&mut self, kill_on_drop: bool) -> &mut Self {
        self.kill_on_drop = kill_on_drop;
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// Those of std's: `NotFound` if there is no such program.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.spawn_with([Stdio::inherit, Stdio::inherit, Stdio::inherit])
    }

    /// Starts the process; the streams that the user has not set are `defaults`, this time.
    fn spawn_with(&mut self, defaults: [fn() -> Stdio; 3]) -> io::Result<Child> {
        let inner = &mut self.inner;
        let setters = [
            process::Command::stdin::<Stdio>,
            process::Command::stdout::<Stdio>,
            process::Command::stderr::<Stdio>,
        ];
        for ((set, is_set), default) in setters.into_iter().zip(self.streams).zip(defaults) {
            if !is_set {
                set(inner, default());
            }
        }
        let child = match self.has_hook {
            // See the module's documentation.
            true => sys::out_of_line(|| inner.spawn()),
            false => offload(|| inner.spawn()),
        }?;
        Ok(Child::new(child, self.kill_on_drop))
    }

    /// Starts the process, waits for its end, and returns what it has written.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    pub fn output(&mut self) -> io::Result<Output> {
        let child = self.spawn_with([Stdio::null, Stdio::piped, Stdio::piped]);
        child?.wait_with_output()
    }

    /// Starts the process, and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// The program.
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.inner.get_program()
    }

    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.inner.get_args()
    }

    /// The variables that were set or removed.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.inner.get_envs()
    }

    /// The working directory, if it was set.
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.inner.get_current_dir()
    }
}

impl fmt::Debug for Command {
    /// The command line, as std's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
