//! Processes: the mirror of [`std::process`], on green threads.
//!
//! A [`Child`] is waited for by way of a pidfd, which the poller watches as it does sockets, and its
//! pipes are non-blocking on this side. So a green thread that waits for a child, or for what it
//! writes, keeps neither worker nor OS thread. Where the kernel has no pidfds (before Linux 5.3,
//! and in some emulators) [`Child::wait`] keeps an OS thread of the blocking pool.
//!
//! Starting a child takes a fraction of a millisecond at least, in which the system holds the OS
//! thread that does it: so it is handed over to the blocking pool as well. But for a command with
//! [`pre_exec`](unix::CommandExt::pre_exec): that one is started by the calling OS thread, as what
//! such closures set up may be meant for the thread (PR_SET_PDEATHSIG, which has the child killed
//! with the *thread* that started it, and threads of the pool come and go).
//!
//! # What std does not have
//!
//! [`Command::kill_on_drop`] and [`Child::wait_timeout`].
//!
//! # What is not as in std
//!
//! - [`Child::wait_with_output`] and [`Command::output`] return the error of a pipe, where std
//!   panics. On a green thread that reads two pipes a second one reads the other.
//! - `uid`, `gid` and so on are in [`unix::CommandExt`]; std's trait is sealed.
//! - What is unstable in std is missing.

mod child;
mod command;
mod exit;
mod pipe;
pub mod unix;

pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id,
};

pub use self::{
    child::Child,
    command::Command,
    pipe::{ChildStderr, ChildStdin, ChildStdout},
};
