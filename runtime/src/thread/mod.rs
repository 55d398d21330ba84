//! Green threads with the interface of [`std::thread`].
//!
//! Everything here also works on plain OS threads, where it does what std does.
//!
//! # What is not as in std
//!
//! - A name is the green thread's alone. The OS thread below keeps its own, as the system shows it.
//! - [`available_parallelism`] is the number of workers.
//! - Output of a green thread is not captured by the test harness, which does so for each OS thread.
//! - A thread lets others run only where it waits. A loop that looks for something needs a wait in it,
//!   of no length at least: [`yield_now`], or a [`sleep`] of zero.
//! - Locks and channels of std's hold the worker, and with it all threads there, while they wait.
//! - A [`Scope`] whose [`ScopedJoinHandle`] is forgotten ends all the same; std's waits for ever.
//! - A scope's wait does not take the token of [`park`], and [`park`] returns for a token alone; std
//!   allows both to be otherwise.
//! - Destructors of local values on plain OS threads: see [`thread_local!`](crate::thread_local).
//! - `JoinHandle` is also `UnwindSafe`, `RefUnwindSafe` and a future, and `Builder` has a default.
//! - There is no `std::os::unix::thread::JoinHandleExt`: a green thread is no thread of the system's.
//!   Nothing stands for what is unstable in std, but for [`sleep_until`].
//! - The texts of panics and errors are bine's own, where they are not the same.
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

#[cfg(not(bine_loom))]
mod block_on;
#[cfg(not(bine_loom))]
mod cancel;
#[cfg(not(bine_loom))]
mod handle;
#[cfg(not(bine_loom))]
mod join;
mod local;
#[cfg(doctest)]
mod refused;
#[cfg(not(bine_loom))]
mod scope;
#[cfg(not(bine_loom))]
mod spawn;
#[cfg(not(bine_loom))]
mod suspend;

#[cfg(not(bine_loom))]
use std::io;
#[cfg(not(bine_loom))]
use std::num::NonZeroUsize;

pub use std::thread::Result;
#[cfg(not(bine_loom))]
pub use std::thread::panicking;

#[doc(hidden)]
pub use self::local::LocalSlot as __LocalSlot;
pub(crate) use self::local::Locals;
pub use self::local::{AccessError, LocalKey};
#[cfg(not(bine_loom))]
#[allow(deprecated, reason = "std has them, too")]
pub use self::suspend::{park_timeout_ms, sleep_ms};
#[cfg(not(bine_loom))]
pub use self::{
    block_on::block_on,
    cancel::cancelled,
    handle::{Thread, ThreadId, current},
    join::JoinHandle,
    scope::{Scope, ScopedJoinHandle, TryScope, scope, try_scope},
    spawn::{Builder, spawn},
    suspend::{park, park_timeout, sleep, sleep_until, yield_now},
};
#[cfg(not(bine_loom))]
pub(crate) use self::{cancel::check_unwinding, handle::allocate_ids};

#[cfg(not(bine_loom))]
pub use crate::interrupt::Cancelled;
#[cfg(not(bine_loom))]
pub use crate::wait::shielded;

#[cfg(bine_loom)]
pub use crate::modelled::block_on;
#[cfg(bine_loom)]
pub use crate::modelled::thread::{
    Builder, Cancelled, JoinHandle, Scope, ScopedJoinHandle, Thread, ThreadId, TryScope,
    available_parallelism, cancelled, current, panicking, park, park_timeout, scope, shielded,
    sleep, sleep_until, spawn, try_scope, yield_now,
};
#[cfg(bine_loom)]
#[allow(deprecated, reason = "std has them, too")]
pub use crate::modelled::thread::{park_timeout_ms, sleep_ms};

/// How many green threads can run at the same time: the workers of the caller's runtime, or of the
/// default one.
///
/// # Errors
///
/// If `BINE_WORKERS` is not a number from 1 to 1024.
#[cfg(not(bine_loom))]
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    crate::runtime::parallelism()
}
