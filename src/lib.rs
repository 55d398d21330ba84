#![doc = include_str!("../README.md")]

pub use bine_arch::coroutine;
#[cfg(not(bine_loom))]
pub use bine_io::{fs, process};
pub use bine_io::{net, signal};
// A model runs on one OS thread, which may as well wait.
pub use bine_macros::{main, test};
pub use bine_runtime::{block_on, blocking, model, run, spawn, thread, thread_local, time};
pub use bine_sync::{channel, select, select_biased};
#[cfg(bine_loom)]
pub use std::{fs, process};

/// The standard streams, which wait without holding a worker, [`Async`](io::Async) for any descriptor,
/// and what programs use of [`std::io`] beside them.
pub mod io {
    pub use bine_io::Async;
    #[cfg(not(bine_loom))]
    pub use bine_io::stdio::{
        Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, stderr, stdin, stdout,
    };
    pub use std::io::{
        BufRead, BufReader, BufWriter, Bytes, Chain, Cursor, Empty, Error, ErrorKind,
        IntoInnerError, IoSlice, IoSliceMut, IsTerminal, LineWriter, Lines, Read, Repeat, Result,
        Seek, SeekFrom, Sink, Split, Take, Write, copy, empty, prelude, read_to_string, repeat,
        sink,
    };
    #[cfg(bine_loom)]
    pub use std::io::{
        Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, stderr, stdin, stdout,
    };
}

/// What [`std::os`] has for the types here.
pub mod os {
    /// What [`std::os::unix`] has.
    #[cfg(not(bine_loom))]
    pub mod unix {
        pub use bine_io::fs::unix as fs;
        pub use bine_io::os::unix::net;
        pub use bine_io::process::unix as process;
    }

    /// What [`std::os::unix`] has.
    #[cfg(bine_loom)]
    pub mod unix {
        pub use bine_io::unix as net;
        pub use std::os::unix::{fs, process};
    }

    #[cfg(not(bine_loom))]
    pub use bine_io::os::linux;
}

/// Runtimes of one's own, and what they report.
pub mod runtime {
    pub use bine_runtime::{Abandoned, AsRuntime, BlockingPool, Builder, Handle, Runtime};
    // What is known about workers, of which a model has none.
    #[cfg(not(bine_loom))]
    pub use bine_runtime::{Hold, Metrics, Shutdown};
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
    pub use std::sync::{Arc, Weak};

    #[cfg(bine_loom)]
    pub use bine_runtime::primitive::const_atomic as atomic;
    #[cfg(not(bine_loom))]
    pub use std::sync::atomic;
}
