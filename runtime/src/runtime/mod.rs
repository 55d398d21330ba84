//! The runtime: building one, running on it, dropping it.

mod affinity;
mod builder;
mod callbacks;
mod handle;
mod start;

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fmt, io, panic, thread};

use parking_lot::Mutex;

pub(crate) use self::affinity::release_thread;
pub use self::builder::Builder;
pub use self::handle::{AsRuntime, Handle};
pub(crate) use self::start::{Setup, start_spare};
use crate::shared::Shared;
use crate::thread::JoinHandle;
use crate::{interrupt, monitor, wait, worker};

/// A set of workers that run green threads.
///
/// Most programs need none of their own: `bine::run`, `bine::spawn` and `#[bine::main]` use the
/// default one. Several runtimes may live in one process.
///
/// # Dropping
///
/// Dropping a runtime is [`shutdown_timeout`](Self::shutdown_timeout) with the time that
/// [`Builder::shutdown_timeout`] sets, 1 second if it does not. Green threads are cancelled, so most
/// of them end, with their destructors run. Those that have not run yet do so while there is time;
/// later they are dropped with their closures. Threads that have not ended by then are abandoned:
/// their stacks are leaked and not unwound, since others may hold references into them. Joining
/// either kind from outside gives an error whose payload is [`Abandoned`].
///
/// The OS thread of a worker is leaked too, asleep, if abandoned green threads are pinned to it:
/// they may have lent references into its thread-locals. One that a green thread holds without ever
/// blocking goes on until that blocks; only then do joins from outside give their error.
///
/// On one of the runtime's own green threads nothing can wait: the others are cancelled, and the
/// workers stop as soon as the threads that they run next block or yield, that one included.
///
/// [`Abandoned`]: crate::Abandoned
pub struct Runtime {
    shared: NonNull<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
    shutdown_timeout: Duration,
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
    /// called from any thread, also from a green one. The thread that runs `f` has the name of the
    /// calling one: "main", for example.
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
        run_on(self, f)
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
        Metrics::of(self.shared())
    }

    pub(crate) fn shared_ptr(&self) -> NonNull<Shared> {
        self.shared
    }

    fn shared(&self) -> &Shared {
        // SAFETY: kept until the owner, this value, has left.
        unsafe { self.shared.as_ref() }
    }
}

/// Workers that nothing holds get so much longer than the green threads, to leave.
const LEAVING: Duration = Duration::from_millis(100);

impl Runtime {
    /// Ends the runtime: cancels every green thread, as [`JoinHandle::cancel`], those too that are
    /// spawned meanwhile, waits for `timeout` at most until all have ended, and stops the workers.
    /// What has not ended is abandoned; see [Dropping](Self#dropping). Spawning from outside through a
    /// [`Handle`] is an error from the beginning.
    ///
    /// Workers have a tenth of a second more to leave: the whole takes no longer, even if a green
    /// thread holds a worker and never blocks. In a program with `panic = "abort"` nothing can be
    /// cancelled, and only the workers are waited for.
    ///
    /// A green thread of another runtime may call it. That one waits for the end even if it is
    /// cancelled meanwhile.
    ///
    /// ```
    /// use std::time::Duration;
    /// use bine_runtime::{Runtime, thread};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = Runtime::new()?;
    /// runtime.spawn(thread::park);
    /// let report = runtime.shutdown_timeout(Duration::from_secs(10));
    /// assert_eq!((report.ended, report.abandoned), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown_timeout(self, timeout: Duration) -> Shutdown {
        ManuallyDrop::new(self).shut_down(timeout)
    }

    /// Once; the shared state is not used afterwards.
    fn shut_down(&mut self, timeout: Duration) -> Shutdown {
        let threads = std::mem::take(&mut self.threads);
        self.shared().close();
        let unknown = Shutdown { ended: 0, abandoned: 0, unstarted: 0, settled: false };
        // The workers are not in a fork of their process, so nothing can be settled there.
        if self.shared().check_process().is_err() {
            std::mem::forget(threads);
            return unknown;
        }
        let unwinds = crate::thread::check_unwinding().is_ok();
        if let Some(core) = worker::core().filter(|core| core.shared == self.shared) {
            let caller = worker::green().map(|(_, task)| task);
            if unwinds {
                caller.into_iter().for_each(interrupt::enter_roll);
                core.shared().cancel_all(caller);
            }
            monitor::forget(self.shared);
            // Detached, as the workers are: abandoned threads may keep the shared state for ever.
            drop(std::mem::take(&mut *self.shared().spare_threads.lock()));
            self.shared().stop();
            // SAFETY: the owner's own count. Not the last: the worker that runs us is still there.
            unsafe { Shared::leave(self.shared) };
            return unknown;
        }
        wait::shielded(|| {
            let deadline = Instant::now().checked_add(timeout);
            let (spawned, alive) = self.shared().spawned_and_alive();
            if unwinds {
                self.shared().cancel_all(None);
                self.await_ends(deadline);
            }
            monitor::forget(self.shared);
            let spares = std::mem::take(&mut *self.shared().spare_threads.lock());
            let leaving = deadline.and_then(|deadline| deadline.checked_add(LEAVING));
            // SAFETY: we are the owner, and the pointer is not used afterwards.
            let stopped = unsafe { Shared::stop_and_wait(self.shared, leaving) };
            let settled = stopped.haunted.is_some();
            let threads = threads.into_iter().chain(spares);
            for (thread, haunted) in threads.zip(stopped.haunted.unwrap_or_default()) {
                if !haunted {
                    // A worker does not unwind (it aborts instead).
                    let _ = thread.join();
                }
            }
            Shutdown {
                // (One that was seen ended, and then calling a waker, counts as if it had not been.)
                ended: (stopped.spawned - stopped.alive).saturating_sub(spawned - alive),
                abandoned: stopped.alive - stopped.unstarted,
                unstarted: stopped.unstarted,
                settled,
            }
        })
    }

    /// Looks now and then whether all have ended: an end is told to nobody, as it would cost every
    /// end something.
    fn await_ends(&self, deadline: Option<Instant>) {
        let mut pause = Duration::from_micros(20);
        while self.shared().spawned_and_alive().1 > 0 {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return;
            }
            let next = now + pause;
            wait::park_until(deadline.map_or(next, |deadline| deadline.min(next)));
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shut_down(self.shutdown_timeout);
    }
}

/// What [`Runtime::shutdown_timeout`] did with the green threads that lived when it was called or
/// were spawned later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Those that have ended, most of them because they were cancelled.
    pub ended: u64,
    /// Those that will never end. While some worker is held, those that have not ended so far.
    pub abandoned: u64,
    /// Those that never ran, and were dropped with their closures.
    pub unstarted: u64,
    /// All workers have left, so the counts are final. False if one was held by a green thread that
    /// does not block; and, with counts of 0, on one of the runtime's own green threads and in a fork
    /// of the process that had the workers, where nothing can be waited for.
    pub settled: bool,
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
    /// How often a green thread has held a worker for longer than [`Builder::hold_threshold`] while
    /// other work waited.
    pub holds: u64,
    /// OS threads that were started beside the workers because green threads held those; see
    /// [`Builder::spare_workers`]. They stay, asleep, until the runtime ends.
    pub spare_workers: usize,
    /// Those of them that run green threads as workers do, now.
    pub spares_on_duty: usize,
}

impl Metrics {
    fn of(shared: &Shared) -> Self {
        let foreign = shared.foreign_spawned.load(Ordering::Relaxed);
        // `ended` first: a thread that ends between the two sums counts as alive.
        let ended = shared.sum(|c| &c.ended);
        let spawned = foreign + shared.sum(|c| &c.spawned);
        let (spares, on_duty) = shared.spares();
        Self {
            workers: shared.workers,
            sleeping_workers: shared.idle.sleepers(),
            spawned,
            alive: spawned.saturating_sub(ended),
            steals: shared.sum(|c| &c.stolen),
            sleeps: shared.sum(|c| &c.slept),
            holds: shared.holds.load(Ordering::Relaxed),
            spare_workers: spares,
            spares_on_duty: on_duty,
        }
    }
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

/// As [`Runtime::run`].
#[track_caller]
fn run_on<F, T>(runtime: &impl AsRuntime, f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let builder = crate::thread::Builder::new();
    let builder = match crate::thread::current().name() {
        Some(name) => builder.name(name.to_owned()),
        None => builder,
    };
    match builder.spawn_on(runtime, f) {
        Ok(handle) => handle.join().unwrap_or_else(|payload| panic::resume_unwind(payload)),
        Err(error) => panic!("failed to spawn a green thread: {error}"),
    }
}

/// How many workers the calling thread's runtime has; for other threads, the default runtime's.
pub(crate) fn parallelism() -> io::Result<NonZeroUsize> {
    let workers = match worker::core() {
        Some(core) => core.shared().workers,
        None => Builder::new().worker_count()?,
    };
    Ok(NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN))
}
