//! Locks and channels of the [bine](https://docs.rs/bine) runtime.
//!
//! They have the interfaces of [`std::sync`] and of `crossbeam_channel`, and serve green threads
//! and plain OS threads alike, also in one and the same lock or channel. A green thread that waits
//! lets others run on its worker; an OS thread blocks.
//!
//! Everything that blocks here is a list of waiters on the waiters' own stacks (`waiter`), guarded
//! either by a table for the whole process that is searched by address ([`wait_queue`]), for locks
//! of one word, or by the object itself (`wait_list`), for channels.
#![deny(unsafe_code)]

mod backoff;
pub mod channel;
mod condvar;
mod mutex;
mod parking;
mod poison;
mod wait_list;
pub mod wait_queue;
mod waiter;

pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

pub use self::condvar::{Condvar, WaitTimeoutResult};
pub use self::mutex::{Mutex, MutexGuard};

/// Cancelling the threads of a model.
#[cfg(bine_loom)]
#[doc(hidden)]
pub use self::parking::{Unparker, cancel};
