//! Building a runtime: its settings, and the start of its workers.

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, io, thread};

use bine_arch::overflow;
use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit, StackCache};
use crossbeam_deque::Worker as Deque;
use crossbeam_utils::CachePadded;

use super::Runtime;
use crate::clock;
use crate::panic_report;
use crate::queue::Inbox;
use crate::search;
use crate::shared::{Counters, Remote, Shared};
use crate::timer::Timers;
use crate::worker::{Core, Runnable};

/// More workers than this is taken for a mistake.
const MAX_WORKERS: usize = 1024;
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
}

impl Builder {
    /// The defaults: `BINE_WORKERS` workers or as many as there are cores, stacks of 256 KiB,
    /// green threads pinned to the worker that first runs them.
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
    pub unsafe fn migrate(mut self) -> Self {
        self.migrating = true;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there are too many workers or none, if the stack size is beyond what the
    /// address space holds, or if `BINE_WORKERS` is not a number; otherwise what the system said
    /// when it refused a thread or the memory.
    pub fn build(self) -> io::Result<Runtime> {
        let workers = self.worker_count()?;
        let stack_size = self.stack_size.unwrap_or(DEFAULT_STACK_SIZE);
        // Says now, and not at the first spawn, that no stack of this size can be had.
        drop(Permit::reserve(stack_size)?);
        panic_report::install();
        let deques: Vec<_> = (0..workers).map(|_| (Deque::new_lifo(), Deque::new_fifo())).collect();
        let remotes = deques.iter().map(|(fresh, ready)| remote(fresh, ready)).collect();
        let shared = Shared::new(remotes, self.migrating, stack_size);
        let shared = NonNull::from(Box::leak(Box::new(shared)));
        // Dropping it on an error stops the workers that have started.
        let shutdown_timeout = self.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
        let threads = Vec::with_capacity(workers);
        let mut runtime = Runtime { shared, threads, shutdown_timeout };
        for (index, (fresh, ready)) in deques.into_iter().enumerate() {
            runtime.threads.push(start_worker(shared, index, fresh, ready)?);
        }
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

fn remote(fresh: &Deque<Runnable>, ready: &Deque<Runnable>) -> CachePadded<Remote> {
    CachePadded::new(Remote {
        fresh: fresh.stealer(),
        ready: ready.stealer(),
        inbox: Inbox::new(),
        timers: Timers::new(clock::now()),
        thread: OnceLock::new(),
        residents: AtomicUsize::new(0),
        woken_by_peer: AtomicBool::new(false),
        haunted: AtomicBool::new(false),
        counters: Counters::default(),
    })
}

/// A pointer to the shared state, for a worker's OS thread.
struct SharedForWorker(NonNull<Shared>);

// SAFETY: `Shared` is made for sharing, and is kept until the worker has left.
unsafe impl Send for SharedForWorker {}

fn start_worker(
    shared: NonNull<Shared>,
    index: usize,
    fresh: Deque<Runnable>,
    ready: Deque<Runnable>,
) -> io::Result<thread::JoinHandle<()>> {
    let for_worker = SharedForWorker(shared);
    let body = move || {
        let SharedForWorker(shared) = { for_worker };
        // SAFETY: this worker was counted before its OS thread was started, and leaves once.
        unsafe { work(shared, index, fresh, ready) };
    };
    // SAFETY: the caller builds the runtime and holds it.
    let this = unsafe { shared.as_ref() };
    this.enter();
    let headroom = overflow::Headroom::hold();
    let builder = thread::Builder::new().name(format!("bine-worker-{index}"));
    match headroom.and_then(|_until_it_is_made| builder.spawn(body)) {
        Ok(thread) => {
            // One after the other: the headroom of the next must not be what this one needs.
            this.remotes[index].thread.wait();
            Ok(thread)
        }
        Err(error) => {
            // SAFETY: counted above, for a worker that there will not be. Not the last: the owner is
            // still there.
            unsafe { Shared::leave(shared) };
            let text = format!("cannot start the OS thread of worker {index}: {error}");
            Err(io::Error::new(error.kind(), text))
        }
    }
}

/// The life of a worker's OS thread.
///
/// # Safety
///
/// The worker was counted by [`Shared::enter`].
unsafe fn work(
    shared: NonNull<Shared>,
    index: usize,
    fresh: Deque<Runnable>,
    ready: Deque<Runnable>,
) {
    // SAFETY: the shared state is kept until we leave.
    let this = unsafe { shared.as_ref() };
    overflow::protect_thread();
    // `build` has reserved a stack of this size, so there is a class for it.
    let stacks = StackCache::with_stack_size(this.stack_size).unwrap_or_default();
    let core = Core::new(shared, index, fresh, ready, stacks);
    let known = this.remotes[index].thread.set(thread::current());
    debug_assert!(known.is_ok(), "one OS thread for each worker");
    search::run(&core);
    let haunted = core.residents() > 0;
    // Relaxed: read by the owner after all have left.
    this.remotes[index].haunted.store(haunted, Ordering::Relaxed);
    drop(core);
    // SAFETY: the caller's promise.
    unsafe { Shared::leave(shared) };
    // Green threads were abandoned that may hold references into this OS thread's thread-locals,
    // and may have lent them to others. So the thread-locals must stay.
    if haunted {
        loop {
            thread::park();
        }
    }
}
