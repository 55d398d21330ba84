#![doc = include_str!("../README.md")]

pub use bine_arch::coroutine;
pub use bine_io::{net, os, signal};
pub use bine_macros::{main, test};
pub use bine_runtime::{block_on, blocking, run, spawn, thread, thread_local};
pub use bine_sync::{channel, select, select_biased};

/// Runtimes of one's own, and what they report.
pub mod runtime {
    pub use bine_runtime::{
        Abandoned, AsRuntime, BlockingPool, Builder, Handle, Hold, Metrics, Runtime, Shutdown,
    };
}

/// Input and output that waits: [`Async`](io::Async) for any descriptor.
pub mod io {
    pub use bine_io::Async;
}

/// How deep stacks were used, and giving their memory back to the system.
pub mod stack {
    pub use bine_arch::stack::{GuardMechanism, Stats, Trimmed, Usage, stats, trim, usage};
}

/// Locks, once-cells and channels with the interface of [`std::sync`], what std has already, and what
/// users of tokio and crossbeam miss there: [`Semaphore`](sync::Semaphore),
/// [`WaitGroup`](sync::WaitGroup), [`Event`](sync::Event), [`Notify`](sync::Notify), and channels for
/// [one message](sync::oneshot), [a value](sync::watch) and [all](sync::broadcast).
pub mod sync {
    #[allow(deprecated, reason = "std has it still")]
    pub use bine_sync::ONCE_INIT;
    pub use bine_sync::{
        AcquireError, AcquireTimeoutError, OwnedSemaphorePermit, Semaphore, SemaphorePermit,
        TryAcquireError,
    };
    pub use bine_sync::{
        Barrier, BarrierWaitResult, Condvar, LazyLock, LockResult, Mutex, MutexGuard, Once,
        OnceLock, OnceState, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
        TryLockResult, WaitTimeoutResult,
    };
    pub use bine_sync::{Event, Notify, WaitGroup};
    pub use bine_sync::{broadcast, mpsc, oneshot, watch};
    pub use std::sync::{Arc, Weak, atomic};
}
