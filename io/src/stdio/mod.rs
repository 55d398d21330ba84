//! The standard streams: the mirror of [`std::io::stdin`], [`std::io::stdout`] and
//! [`std::io::stderr`], on green threads.
//!
//! A standard stream is often shared with other processes (a terminal, a pipe that the shell made),
//! and whether an open file is non-blocking is the same for all who have it. So these are not made
//! non-blocking. A thread that finds a stream not ready waits for it by the poller, without making
//! any call that would block, and can be interrupted meanwhile. Then the call is made on an OS
//! thread of the blocking pool: that another process may have taken what made the stream ready,
//! or that a large write does not fit, delays that OS thread and no worker. Regular files, which
//! are always ready, just take the way over the pool.
//!
//! The streams are registered with the poller for the length of one wait, since a program may put
//! another file in the place of one at any time.
//!
//! Each call costs a hand-over, some microseconds. Who writes much puts a
//! [`BufWriter`](std::io::BufWriter) around a [lock](Stdout::lock); what one [`write!`] formats is
//! written at once.
//!
//! # Beside std
//!
//! What is written here goes into std's own buffer of standard output, so it comes in order with what
//! [`println!`] writes, and is flushed at the end of the process. A [lock](Stdout::lock) keeps out
//! the others who write by way of this module, and not [`println!`]; a thread must not write here
//! while it holds std's own lock. What is read here does go through a buffer of its own: a program
//! reads by way of std or of bine, not both.
//!
//! [`IsTerminal`](std::io::IsTerminal) cannot be implemented by others than std: each stream has
//! `is_terminal` of its own.

mod out;
mod ready;
mod stdin;
mod turns;

pub use self::{
    out::{Stderr, StderrLock, Stdout, StdoutLock, stderr, stdout},
    stdin::{Stdin, StdinLock, stdin},
};
