//! Green threads with the interface of [`std::thread`].
//!
//! Everything here also works on plain OS threads, where it does what std does.
//!
//! # Panics
//!
//! A panic on a green thread is reported with that thread's name and the place that spawned it, by a
//! panic hook that the first runtime sets if the program has set none until then. A program's own
//! hook, set before or later, stays.
//!
//! A panic hook must not wait in a blocking call of bine's. std remembers for each OS thread that its
//! hook runs, and ends the process if that OS thread panics meanwhile, which may be another green
//! thread. bine takes that mark along with the count of panics where it can, but does not promise it.
//!
//! [`panicking`] is each green thread's own, also when it or a neighbour waits while it unwinds. Only
//! if the system has refused what that takes (an OS thread, for a moment, or a little memory) may a
//! thread see a neighbour's.

mod block_on;
mod cancel;
mod handle;
mod join;
mod local;
mod scope;
mod spawn;
mod suspend;

use std::io;
use std::num::NonZeroUsize;

pub use std::thread::{Result, panicking};

pub use self::block_on::block_on;
pub(crate) use self::cancel::check_unwinding;
pub(crate) use self::handle::allocate_ids;
#[doc(hidden)]
pub use self::local::LocalSlot as __LocalSlot;
pub(crate) use self::local::Locals;
pub use self::{
    cancel::cancelled,
    handle::{Thread, ThreadId, current},
    join::JoinHandle,
    local::{AccessError, LocalKey},
    scope::{Scope, ScopedJoinHandle, TryScope, scope, try_scope},
    spawn::{Builder, spawn},
    suspend::{park, park_timeout, sleep, sleep_until, yield_now},
};

pub use crate::interrupt::Cancelled;
pub use crate::wait::shielded;

/// How many green threads can run at the same time: the workers of the caller's runtime, or of the
/// default one.
///
/// # Errors
///
/// If `BINE_WORKERS` is not a number from 1 to 1024.
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    crate::runtime::parallelism()
}
