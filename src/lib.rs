#![doc = include_str!("../README.md")]

pub use bine_arch::coroutine;
pub use bine_io::{net, signal};
pub use bine_macros::{main, test};
pub use bine_runtime::{block_on, blocking, run, spawn, thread, thread_local};
pub use bine_sync::channel;

/// Runtimes of one's own, and what they report.
pub mod runtime {
    pub use bine_runtime::{
        Abandoned, AsRuntime, BlockingPool, Builder, Handle, Hold, Metrics, Runtime, Shutdown,
    };
}

/// How deep stacks were used, and giving their memory back to the system.
pub mod stack {
    pub use bine_arch::stack::{GuardMechanism, Stats, Trimmed, Usage, stats, trim, usage};
}

/// Locks with the interface of [`std::sync`], and what std has already.
pub mod sync {
    pub use bine_sync::{
        Condvar, LockResult, Mutex, MutexGuard, PoisonError, TryLockError, TryLockResult,
        WaitTimeoutResult,
    };
    pub use std::sync::{Arc, Weak, atomic};
}
