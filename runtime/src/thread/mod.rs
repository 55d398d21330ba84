//! Green threads with the interface of [`std::thread`].
//!
//! Everything here also works on plain OS threads, where it does what std does.

mod cancel;
mod handle;
mod join;
mod spawn;
mod suspend;

use std::io;
use std::num::NonZeroUsize;

pub use std::thread::{Result, panicking};

pub(crate) use self::handle::allocate_ids;
pub use self::{
    cancel::{cancelled, shielded},
    handle::{Thread, ThreadId, current},
    join::JoinHandle,
    spawn::{Builder, spawn},
    suspend::{park, park_timeout, sleep, sleep_until, yield_now},
};

pub use crate::interrupt::Cancelled;

/// How many green threads can run at the same time: the workers of the caller's runtime, or of the
/// default one.
///
/// # Errors
///
/// If `BINE_WORKERS` is not a number from 1 to 1024.
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    crate::runtime::parallelism()
}
