//! Building a runtime: its settings.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt, io, panic};

use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit};

use super::callbacks::Callbacks;
use super::start::{Setup, remote, start_worker};
use super::{Runtime, affinity};
use crate::check_tls::CheckTls;
use crate::monitor::{self, Hold, OnHold, Settings};
use crate::shared::Shared;
use crate::{blocking, fork, panic_report};

/// More workers than this is taken for a mistake.
const MAX_WORKERS: usize = 1024;
/// Spare workers of a runtime that has fewer workers.
const MIN_SPARES: usize = 4;
/// How long a green thread may hold a worker uncounted.
const HOLD_THRESHOLD: Duration = Duration::from_millis(10);
/// How long dropping a runtime waits for its green threads to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// How a [`Runtime`] is to be built.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = bine_runtime::Builder::new().workers(2).stack_size(128 << 10).build()?;
/// assert_eq!(runtime.run(|| 6 * 7), 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    workers: Option<usize>,
    stack_size: Option<usize>,
    migrating: bool,
    shutdown_timeout: Option<Duration>,
    callbacks: Callbacks,
    pins_workers: bool,
    spare_workers: Option<usize>,
    hold_threshold: Option<Duration>,
    on_hold: Option<Callback>,
}

/// `OnHold` with the `Debug` that a builder needs.
#[derive(Clone)]
struct Callback(OnHold);

// A panic in it is caught where it is called.
impl panic::RefUnwindSafe for Callback {}
impl panic::UnwindSafe for Callback {}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Builder {
    /// The defaults: `BINE_WORKERS` workers or as many as there are cores, stacks of 256 KiB,
    /// green threads pinned to the worker that first runs them.
    ///
    /// The cores that count are those that the calling thread may run on (`sched_getaffinity`), but no
    /// more than the CPU quota of the process's control group comes to, rounded up (`cpu.max`, or
    /// `cpu.cfs_quota_us` and `cpu.cfs_period_us` with cgroup v1, of the group that
    /// `/proc/self/cgroup` names). The quota is read once in a process.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many workers (OS threads that run green threads), 1 to 1024.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The size of a green thread's stack in bytes, its guard page included; rounded up to a power
    /// of two. Address space only: memory is committed as it is touched, by pages of 4 KiB.
    ///
    /// A thread that overflows its stack ends the process: a message on standard error names the
    /// thread, and the process dies of SIGABRT.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How long dropping the runtime waits for its green threads, which it cancels, to end; 1 second
    /// unless set. See [`Runtime::shutdown_timeout`].
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// How many more OS threads may be started while green threads hold workers: they compute, or
    /// block in the system, and do not come back to the scheduler. As many as there are workers, and
    /// 4 at least, unless set.
    ///
    /// A monitor looks at all workers every millisecond. If work waits that others can run, and every
    /// worker is held, it puts a spare on duty, so that the work goes on; also if only some workers
    /// are held, but each has been for longer than [`hold_threshold`](Self::hold_threshold) and
    /// threads that others can run wait in its queues. There are never more spares on duty than
    /// workers held. What others can run is, in a pinned runtime, what has not run yet. A thread that
    /// first runs on a spare stays there.
    ///
    /// With 0 no more threads run at the same time than there are workers. Work with known long system
    /// calls belongs into [`blocking`](crate::blocking()).
    pub fn spare_workers(mut self, spares: usize) -> Self {
        self.spare_workers = Some(spares);
        self
    }

    /// For how long a green thread must hold a worker, while other work waits, before it is counted
    /// in [`Metrics::holds`](super::Metrics::holds) and told to [`on_hold`](Self::on_hold); 10
    /// milliseconds unless set.
    pub fn hold_threshold(mut self, threshold: Duration) -> Self {
        self.hold_threshold = Some(threshold);
        self
    }

    /// Has `f` called when a green thread has held a worker for longer than the threshold, and again
    /// when that hold is over. It is called on the monitor's OS thread and should return soon: no
    /// worker is looked after meanwhile. If it panics, that is reported and ignored.
    ///
    /// Where this is not set the environment decides: with `BINE_LOG_HOLDS=1` holds are written to
    /// standard error.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = bine_runtime::Builder::new().on_hold(|hold| eprintln!("{hold}")).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_hold(mut self, f: impl Fn(&Hold) + Send + Sync + 'static) -> Self {
        self.on_hold = Some(Callback(Arc::new(f)));
        self
    }

    /// Has `f` called on the OS thread of each worker, with the worker's number, before it runs any
    /// green thread. [`build`](Self::build) returns after all these calls. There is one such
    /// function; a later call replaces it.
    ///
    /// It runs on no green thread, and the runtime is not there for it yet. If it panics, no runtime
    /// is built: the error says so. Workers that have started by then stop, as usual.
    ///
    /// A spare worker calls it when it is first needed, with a number after those of the workers. It
    /// must not wait for green threads of this runtime then, and a panic is reported and otherwise
    /// ignored.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let running = Arc::new(AtomicUsize::new(0));
    /// let (starts, stops) = (Arc::clone(&running), Arc::clone(&running));
    /// let runtime = bine_runtime::Builder::new()
    ///     .workers(2)
    ///     .on_worker_start(move |_worker| {
    ///         starts.fetch_add(1, Ordering::Relaxed);
    ///     })
    ///     .on_worker_stop(move |_worker| {
    ///         stops.fetch_sub(1, Ordering::Relaxed);
    ///     })
    ///     .build()?;
    /// assert_eq!(running.load(Ordering::Relaxed), 2);
    /// drop(runtime);
    /// assert_eq!(running.load(Ordering::Relaxed), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_worker_start(mut self, f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.callbacks.start = Some(Arc::new(f));
        self
    }

    /// Has `f` called on the OS thread of each worker, with the worker's number, when it will run no
    /// green thread any more. Shutting down waits for these calls, within its time. There is one such
    /// function; a later call replaces it.
    ///
    /// A panic is reported by the panic hook and otherwise ignored. `f` must not wait for green
    /// threads of this runtime: those that have not ended are abandoned only after all these calls.
    /// It is not called for a worker whose start has failed, nor for the default runtime, which never
    /// stops.
    pub fn on_worker_stop(mut self, f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.callbacks.stop = Some(Arc::new(f));
        self
    }

    /// Pins the OS thread of each worker to one core, if `pin`: the first one to the first of the
    /// cores that the thread which calls [`build`](Self::build) may run on (`sched_getaffinity`), and
    /// so on, from the first again if there are more workers than cores. Off unless asked for.
    ///
    /// It pays where the machine does nothing else; where other programs run, or two runtimes, a
    /// worker may have to wait for its core while others are free. OS threads that a green thread
    /// starts inherit its worker's core, as is the system's way; the threads of
    /// [`blocking`](crate::blocking()) do not.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = bine_runtime::Builder::new().pin_workers(true).build()?;
    /// // On a worker that is pinned there is one core to be had.
    /// assert_eq!(runtime.run(|| std::thread::available_parallelism().unwrap().get()), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pin_workers(mut self, pin: bool) -> Self {
        self.pins_workers = pin;
        self
    }

    /// Lets green threads that have run move to other workers, so that every runnable one can be
    /// stolen.
    ///
    /// A promise, so it takes the word:
    ///
    /// ```compile_fail,E0133
    /// let builder = bine_runtime::Builder::new().migrate();
    /// ```
    ///
    /// # Safety
    ///
    /// No green thread of this runtime keeps a reference into its OS thread's thread-local storage
    /// across a blocking call of bine's, in whatever form: an open `LocalKey::with`, an `Rc` cloned
    /// out of a `std::thread_local!` (a `ThreadRng` is one), an epoch guard, the address of
    /// `errno`. After the call the thread may be on another OS thread, and that storage another
    /// thread's. The compiler may keep the address of a thread-local by itself, where one function
    /// uses it both before and after a blocking call: such uses belong into functions of their own
    /// that are never inlined. `docs/migration.md` tells more.
    /// [`thread::Builder::pinned`](crate::thread::Builder::pinned) exempts one green thread.
    ///
    /// In debug builds, the environment variable `BINE_CHECK_TLS` has stacks looked at for such
    /// references: `1` reports what is found to standard error, `abort` ends the process, too. Not
    /// all can be found: `docs/migration.md` has a list.
    pub unsafe fn migrate(mut self) -> Self {
        self.migrating = true;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there are too many workers or none, if the stack size is beyond what the
    /// address space holds, if `BINE_WORKERS` or `BINE_BLOCKING_THREADS` is not a number or out of
    /// bounds, if `BINE_LOG_HOLDS` is neither `0` nor `1`, or if a runtime is to migrate and
    /// `BINE_CHECK_TLS` is neither `0`, `1` nor `abort`; `Other` if
    /// [`on_worker_start`](Self::on_worker_start) panicked; otherwise what the system said when it
    /// refused a thread, the memory, or a core to pin a worker to.
    pub fn build(self) -> io::Result<Runtime> {
        let workers = self.worker_count()?;
        blocking::check()?;
        let stack_size = self.stack_size.unwrap_or(DEFAULT_STACK_SIZE);
        let check_tls = CheckTls::from_environment(self.migrating)?;
        // Says now, and not at the first spawn, that no stack of this size can be had.
        drop(Permit::reserve(stack_size)?);
        let cores = if self.pins_workers { affinity::cores()? } else { Vec::new() };
        fork::watch()?;
        panic_report::install();
        let on_hold = match self.on_hold {
            Some(Callback(on_hold)) => Some(on_hold),
            None => monitor::log_by_default()?,
        };
        let threshold = self.hold_threshold.unwrap_or(HOLD_THRESHOLD);
        let spares = self.spare_workers.unwrap_or(workers.max(MIN_SPARES)).min(MAX_WORKERS);
        let remotes = (0..workers + spares).map(|_| remote()).collect();
        let shared = Shared::new(remotes, workers, self.migrating, check_tls, stack_size);
        let shared = NonNull::from(Box::leak(Box::new(shared)));
        // Dropping it on an error stops the workers that have started.
        let shutdown_timeout = self.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
        let threads = Vec::with_capacity(workers);
        let mut runtime = Runtime { shared, threads, shutdown_timeout };
        let callbacks = self.callbacks;
        for index in 0..workers {
            let core = cores.get(index % cores.len().max(1)).copied();
            let setup = Setup { core, callbacks: callbacks.clone() };
            runtime.threads.push(start_worker(shared, index, setup)?);
        }
        let spare = Setup { core: None, callbacks };
        // SAFETY: it is forgotten before the shared state goes.
        unsafe { monitor::watch(shared, Settings { threshold, on_hold, spare })? };
        Ok(runtime)
    }

    pub(super) fn worker_count(&self) -> io::Result<usize> {
        let (count, source) = match (self.workers, env::var_os("BINE_WORKERS")) {
            (Some(count), _) => (Some(count), count.to_string()),
            (None, Some(text)) => {
                let count = text.to_str().and_then(|text| text.trim().parse().ok());
                (count, format!("BINE_WORKERS={text:?}"))
            }
            (None, None) => (Some(num_cpus::get().clamp(1, MAX_WORKERS)), String::new()),
        };
        match count {
            Some(count @ 1..=MAX_WORKERS) => Ok(count),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the number of workers must be from 1 to {MAX_WORKERS}, not {source}"),
            )),
        }
    }
}
