//! The runtime: building one, running on it, dropping it.

mod builder;

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::{fmt, io, panic, thread};

use parking_lot::Mutex;

pub use self::builder::Builder;
use crate::shared::Shared;
use crate::thread::JoinHandle;
use crate::worker;

/// A set of workers that run green threads.
///
/// Most programs need none of their own: `bine::run`, `bine::spawn` and `#[bine::main]` use the
/// default one. Several runtimes may live in one process.
///
/// # Dropping
///
/// Dropping a runtime stops its workers as soon as the green threads that run there next block or
/// yield. Threads that have not run yet are dropped with their closures. Threads that have not
/// ended are abandoned: their stacks are leaked and not unwound, since others may hold references
/// into them. Joining either kind from outside gives an error whose payload is [`Abandoned`].
///
/// The OS thread of a worker is leaked too, asleep, if abandoned green threads are pinned to it:
/// they may have lent references into its thread-locals.
///
/// The drop waits for the workers, unless it happens on one of the runtime's own green threads:
/// that one then runs on until it next blocks, and is abandoned there.
///
/// [`Abandoned`]: crate::Abandoned
pub struct Runtime {
    shared: NonNull<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

// SAFETY: `Shared` is made for sharing between threads.
unsafe impl Send for Runtime {}
// SAFETY: as above.
unsafe impl Sync for Runtime {}

impl Runtime {
    /// A runtime with the default settings; see [`Builder`].
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Self> {
        Builder::new().build()
    }

    /// Runs `f` on a green thread of this runtime, waits for it, and returns its value. May be
    /// called from any thread, also from a green one.
    ///
    /// # Panics
    ///
    /// With `f`'s payload if `f` panics, and if no green thread could be spawned.
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.spawn(f).join() {
            Ok(value) => value,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Spawns a green thread on this runtime, from any thread.
    ///
    /// # Panics
    ///
    /// If the thread cannot be made, as `std::thread::spawn`.
    /// [`thread::Builder::spawn_on`](crate::thread::Builder::spawn_on) returns the error instead.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match crate::thread::Builder::new().spawn_on(self, f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn a green thread: {error}"),
        }
    }

    /// What the runtime has done so far.
    pub fn metrics(&self) -> Metrics {
        let shared = self.shared();
        let foreign = shared.foreign_spawned.load(Ordering::Relaxed);
        // `ended` first: a thread that ends between the two sums counts as alive.
        let ended = shared.sum(|c| &c.ended);
        let spawned = foreign + shared.sum(|c| &c.spawned);
        Metrics {
            workers: shared.remotes.len(),
            sleeping_workers: shared.idle.sleepers(),
            spawned,
            alive: spawned.saturating_sub(ended),
            steals: shared.sum(|c| &c.stolen),
            sleeps: shared.sum(|c| &c.slept),
        }
    }

    pub(crate) fn shared_ptr(&self) -> NonNull<Shared> {
        self.shared
    }

    fn shared(&self) -> &Shared {
        // SAFETY: kept until the owner, this value, has left.
        unsafe { self.shared.as_ref() }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The workers are not in a fork of their process, so nothing can be settled there.
        if self.shared().check_process().is_err() {
            return std::mem::forget(std::mem::take(&mut self.threads));
        }
        if worker::core().is_some_and(|core| core.shared == self.shared) {
            self.shared().stop();
            // SAFETY: the owner's own count. Not the last: the worker that runs us is still there.
            return unsafe { Shared::leave(self.shared) };
        }
        let threads = std::mem::take(&mut self.threads);
        // SAFETY: we are the owner, and the pointer is not used afterwards.
        let haunted = unsafe { Shared::stop_and_wait(self.shared) };
        for (thread, haunted) in threads.into_iter().zip(haunted) {
            if !haunted {
                // A worker does not unwind (it aborts instead).
                let _ = thread.join();
            }
        }
    }
}

// Nothing of a user's runs while any of it is being changed.
impl panic::RefUnwindSafe for Runtime {}
impl panic::UnwindSafe for Runtime {}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("migrating", &self.shared().migrating)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

/// Counts that a [`Runtime`] keeps. Each is exact; together they are no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// OS threads that run green threads.
    pub workers: usize,
    /// Those that are asleep now.
    pub sleeping_workers: usize,
    /// Green threads spawned since the start.
    pub spawned: u64,
    /// Green threads that have not ended.
    pub alive: u64,
    /// How often a worker found work at a peer.
    pub steals: u64,
    /// How often a worker fell asleep.
    pub sleeps: u64,
}

/// The runtime that serves threads which belong to none. Started at first use, never stopped.
///
/// # Errors
///
/// As [`Builder::build`]; a later call tries again. In a process that was forked after the start.
pub fn default_runtime() -> io::Result<&'static Runtime> {
    static DEFAULT: OnceLock<Runtime> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if DEFAULT.get().is_none() {
        let _starting = STARTING.lock();
        if DEFAULT.get().is_none() {
            let runtime = Runtime::new()?;
            return Ok(DEFAULT.get_or_init(|| runtime));
        }
    }
    let runtime = DEFAULT.get().expect("started above or before");
    runtime.shared().check_process()?;
    Ok(runtime)
}

/// Runs `f` on a green thread of the default runtime, waits for it, and returns its value.
///
/// ```
/// let sum: u32 = bine_runtime::run(|| {
///     let threads: Vec<_> = (1..=4).map(|n| bine_runtime::spawn(move || n * n)).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).sum()
/// });
/// assert_eq!(sum, 30);
/// ```
///
/// # Panics
///
/// With `f`'s payload if `f` panics; if the default runtime cannot be started, with the error.
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match default_runtime() {
        Ok(runtime) => runtime.run(f),
        Err(error) => panic!("cannot start the default runtime: {error}"),
    }
}

/// How many workers the calling thread's runtime has; for other threads, the default runtime's.
pub(crate) fn parallelism() -> io::Result<NonZeroUsize> {
    let workers = match worker::core() {
        Some(core) => core.shared().remotes.len(),
        None => Builder::new().worker_count()?,
    };
    Ok(NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN))
}
