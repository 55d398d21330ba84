//! Locks and channels of the [bine](https://docs.rs/bine) runtime.
//!
//! They have the interfaces of [`std::sync`] and of `crossbeam_channel`, and serve green threads
//! and plain OS threads alike, also in one and the same lock or channel. A green thread that waits
//! lets others run on its worker; an OS thread blocks.
//!
//! Everything that blocks here is a list of waiters on the waiters' own stacks (`waiter`), guarded
//! either by a table for the whole process that is searched by address ([`wait_queue`]), for locks
//! of one word, or by the object itself (`wait_list`), for channels.
//!
//! # What things cost
//!
//! In instructions on x86-64, optimised, counted by callgrind: `cargo run --release -p bine-benches --bin
//! uncontended instructions` does it again. "In the way" is nobody. On a green thread an operation that
//! need not wait also counts against the thread's turn, so that channels cost it 10 more each; a lock
//! that is free does not.
//!
//! | operation, nobody in the way | OS thread | green thread |
//! |---|--:|--:|
//! | [`Mutex`]: `lock`, unlock (std's: 19, `parking_lot`'s: 6) | 28 | 28 |
//! | [`Mutex`]: `try_lock`, unlock | 32 | 32 |
//! | [`RwLock`]: `write`, unlock (std's: 20, `parking_lot`'s: 6) | 19 | 19 |
//! | [`RwLock`]: `read`, unlock (std's: 16, `parking_lot`'s: 16) | 13 | 13 |
//! | [`Condvar`]: `notify_one`, `notify_all` | 14, 18 | 14, 18 |
//! | [`Barrier`] for one: `wait` | 260 | 260 |
//! | [`Once`], done: `call_once` | 2 | 2 |
//! | [`OnceLock`], [`LazyLock`], made: look at the value | 4 | 4 |
//! | [`Semaphore`]: `acquire`, give back | 16 | 16 |
//! | [`WaitGroup`]: `clone`, drop | 27 | 27 |
//! | [`Event`]: `is_set` | 2 | 2 |
//! | [`Event`]: `set`, `wait`, `reset` | 72 | 72 |
//! | [`Notify`]: `notify_one`, `wait` | 68 | 68 |
//! | [`oneshot`]: `channel`, `send`, `recv`, both dropped | 204 | 223 |
//! | [`watch`]: `send` | 255 | 265 |
//! | [`watch`]: `borrow`; `has_changed` | 15; 11 | 15; 11 |
//! | [`broadcast`] to one: `send`, `recv` | 464 | 492 |
//! | [`channel::unbounded`], [`mpsc::channel`]: `send`, `recv` | 198 | 218 |
//! | [`channel::bounded`], [`mpsc::sync_channel`]: `send`, `recv` | 151 | 170 |
//! | [`channel::bounded`] of 0: `try_send` | 40 | 50 |
//! | [`channel::never`](channel::never()): `try_recv` | 32 | 42 |
//! | a `select!` of one [`channel::bounded`], with the `send` | 413 | 433 |
//! | a `select!` of eight, of which one is ready, with the `send` | 1,010 | 1,029 |
//! | a `select!` of eight with `default`, none is ready | 1,998 | 2,009 |
//!
//! A wait by itself: two green threads on one worker wait for each other in turns. Each figure is one wait,
//! with the wake-up that ends it and the change from one thread to the other, which alone, as a
//! [`yield_now`](bine_runtime::thread::yield_now), is 138. A holder of a lock yields once while it
//! holds it, which is in the figure.
//!
//! | one wait | instructions |
//! |---|--:|
//! | [`Notify`] | 387 |
//! | [`Condvar`], with its mutex | 391 |
//! | [`channel::bounded`] of 0 | 542 |
//! | [`Mutex`] | 580 |
//! | [`channel::unbounded`], [`mpsc::channel`] | 555 |
//! | [`channel::bounded`] of 1 | 664 |
//! | [`Semaphore`] | 827 |
//! | [`Event`] | 862 |
//! | [`Barrier`] of two | 867 |
//! | [`watch`] | 880 |
//! | [`RwLock`], to write | 935 |
//! | [`broadcast`] | 1,148 |
//! | a `select!` of one; of eight | 1,504; 5,183 |
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
#[cfg(bine_loom)]
#[doc(hidden)]
pub mod modelled;
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
