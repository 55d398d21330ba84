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

/// Defines a constructor that is `const` in a normal build; loom's objects cannot be made in a
/// constant.
macro_rules! const_unless_loom {
    ($(#[$about:meta])* pub fn $name:ident($($argument:ident: $type:ty),*) -> $made:ty $body:block) => {
        #[cfg(not(bine_loom))]
        $(#[$about])*
        pub const fn $name($($argument: $type),*) -> $made $body

        #[cfg(bine_loom)]
        $(#[$about])*
        pub fn $name($($argument: $type),*) -> $made $body
    };
}

mod backoff;
mod barrier;
pub mod broadcast;
pub mod channel;
mod condvar;
mod event;
mod lazy_lock;
pub mod mpsc;
mod mutex;
mod once;
mod once_lock;
pub mod oneshot;
mod parking;
mod poison;
mod rwlock;
mod semaphore;
mod wait_group;
mod wait_list;
pub mod wait_queue;
mod waiter;
pub mod watch;

pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

pub use self::barrier::{Barrier, BarrierWaitResult};
pub use self::condvar::{Condvar, WaitTimeoutResult};
pub use self::event::{Event, Notify};
pub use self::lazy_lock::LazyLock;
pub use self::mutex::{Mutex, MutexGuard};
#[cfg(not(bine_loom))]
#[allow(deprecated, reason = "std has it still")]
pub use self::once::ONCE_INIT;
pub use self::once::{Once, OnceState};
pub use self::once_lock::OnceLock;
pub use self::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use self::semaphore::{
    AcquireError, AcquireTimeoutError, OwnedSemaphorePermit, Semaphore, SemaphorePermit,
    TryAcquireError,
};
pub use self::wait_group::WaitGroup;

/// Cancelling the threads of a model.
#[cfg(bine_loom)]
#[doc(hidden)]
pub use self::parking::{Unparker, cancel, shielded};
