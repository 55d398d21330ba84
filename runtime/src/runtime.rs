//! The runtime: workers and what they share, from building to shutdown.

use std::num::NonZeroUsize;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::{env, fmt, io, panic, thread};

use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit, StackCache};
use crossbeam_deque::{Injector, Steal, Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::clock;
use crate::idle::Idle;
use crate::queue::Inbox;
use crate::search;
use crate::task::{ANYWHERE, Attributes, Task, TaskRef};
use crate::thread::JoinHandle;
use crate::timer::Timers;
use crate::wait::Unparker;
use crate::worker::{self, Core, Runnable};

/// More workers than this is taken for a mistake.
const MAX_WORKERS: usize = 1024;

/// What all threads know of one worker.
pub(crate) struct Remote {
    pub(crate) fresh: Stealer<Runnable>,
    pub(crate) ready: Stealer<Runnable>,
    pub(crate) inbox: Inbox<Task>,
    pub(crate) timers: Timers<TaskRef>,
    /// Set before the worker first sleeps.
    thread: OnceLock<thread::Thread>,
    counters: Counters,
}

/// Written by the worker alone (hence load and store, no read-modify-write), read by all.
#[derive(Default)]
struct Counters {
    spawned: AtomicU64,
    ended: AtomicU64,
    freed: AtomicU64,
    stolen: AtomicU64,
    slept: AtomicU64,
}

fn count(counter: &AtomicU64) {
    // Relaxed: one writer. Readers that need more wait for that writer to end.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// What the workers of one runtime share.
///
/// Freed when the runtime is dropped and no thread's cell is left (cells are counted when they are
/// made and when they are freed), else leaked: somebody may still hold a handle.
pub(crate) struct Shared {
    pub(crate) idle: Idle,
    pub(crate) injector: Injector<Runnable>,
    pub(crate) remotes: Box<[CachePadded<Remote>]>,
    /// Threads that have run may move to another worker.
    pub(crate) migrating: bool,
    stack_size: usize,
    stopping: AtomicBool,
    /// All workers have ended: what has not ended by now never will.
    stopped: AtomicBool,
    /// Cells made and freed by threads that are not workers of this runtime.
    foreign_spawned: AtomicU64,
    foreign_freed: AtomicU64,
    /// Joiners that are not threads of this runtime, to be woken when it has stopped.
    foreign_joiners: Mutex<Vec<Unparker>>,
}

// No code of a user runs while any of it is being changed, so no panic is seen half-way through.
impl panic::RefUnwindSafe for Shared {}
impl panic::RefUnwindSafe for Runtime {}
impl panic::UnwindSafe for Runtime {}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        // Relaxed: a worker about to sleep has a fence before this load (`Idle::fall_asleep`),
        // which pairs with the one in `Runtime::drop`.
        self.stopping.load(Ordering::Relaxed)
    }

    /// Wakes a worker, if one sleeps and none searches, after stealable work was queued.
    #[inline]
    pub(crate) fn wake_for_work(&self) {
        if let Some(worker) = self.idle.submit() {
            self.unpark(worker);
        }
    }

    /// Wakes up to `count` workers, whether one searches or not.
    pub(crate) fn wake_many(&self, count: usize) {
        // Pairs with the fence in `Idle::fall_asleep`, as the one in `Idle::submit`.
        fence(Ordering::SeqCst);
        for _ in 0..count.min(self.remotes.len()) {
            match self.idle.claim_any() {
                Some(worker) => self.unpark(worker),
                None => break,
            }
        }
    }

    /// Wakes that worker if it sleeps, after its inbox was filled.
    pub(crate) fn wake_worker(&self, worker: usize) {
        if self.idle.claim(worker) {
            self.unpark(worker);
        }
    }

    fn unpark(&self, worker: usize) {
        let thread = self.remotes[worker].thread.get();
        thread.expect("a worker that sleeps has said which thread it is").unpark();
    }

    pub(crate) fn push_to_inbox(&self, worker: usize, task: NonNull<Task>) {
        // SAFETY: the caller took the thread out of PARKED, so its run reference is the caller's
        // and it is in no queue.
        if unsafe { self.remotes[worker].inbox.push(task.as_ptr()) } {
            self.wake_worker(worker);
        }
    }

    /// Queues a thread that was taken out of PARKED by somebody who is no worker of this runtime.
    /// The caller holds a reference to the thread beside the run reference that it gives away.
    pub(crate) fn schedule_from_outside(&self, task: NonNull<Task>) {
        // SAFETY: the run reference is the caller's. Relaxed: acquired with the token.
        match unsafe { task.as_ref() }.home.load(Ordering::Relaxed) {
            ANYWHERE => {
                self.injector.push(Runnable(task));
                self.wake_for_work();
            }
            home => self.push_to_inbox(home as usize, task),
        }
    }

    /// Whether worker `index` would find anything to do. For its last look before it sleeps.
    pub(crate) fn has_work_for(&self, index: usize) -> bool {
        !self.remotes[index].inbox.is_empty()
            || !self.injector.is_empty()
            || self.remotes.iter().any(|peer| !peer.fresh.is_empty() || !peer.ready.is_empty())
    }

    pub(crate) fn count_end(&self, worker: usize) {
        count(&self.remotes[worker].counters.ended);
    }

    pub(crate) fn count_steal(&self, worker: usize) {
        count(&self.remotes[worker].counters.stolen);
    }

    pub(crate) fn count_sleep(&self, worker: usize) {
        count(&self.remotes[worker].counters.slept);
    }

    /// The last access to `shared` on behalf of a cell.
    ///
    /// # Safety
    ///
    /// The cell was counted when it was made, and is counted here once.
    pub(crate) unsafe fn cell_freed(shared: NonNull<Self>) {
        // SAFETY: the runtime keeps its shared state until every cell is counted here.
        let this = unsafe { shared.as_ref() };
        match worker::core() {
            Some(core) if core.shared == shared => {
                count(&this.remotes[core.index].counters.freed);
            }
            // Release pairs with the Acquire in `cells`: this access is over before the runtime
            // frees its shared state.
            _ => drop(this.foreign_freed.fetch_add(1, Ordering::Release)),
        }
    }

    /// How many cells are left. Exact once the workers have ended.
    fn cells(&self) -> u64 {
        // Acquire pairs with the Release in `cell_freed`.
        let freed = self.foreign_freed.load(Ordering::Acquire) + self.sum(|c| &c.freed);
        let made = self.foreign_spawned.load(Ordering::Relaxed) + self.sum(|c| &c.spawned);
        made.saturating_sub(freed)
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.remotes.iter().map(|remote| counter(&remote.counters).load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn has_stopped(&self) -> bool {
        // Acquire pairs with the Release in `Runtime::drop`.
        self.stopped.load(Ordering::Acquire)
    }

    /// Has a joiner from outside woken if the runtime stops first.
    pub(crate) fn add_foreign_joiner(&self, joiner: Unparker) {
        self.foreign_joiners.lock().push(joiner);
    }

    pub(crate) fn remove_foreign_joiner(&self, joiner: &Unparker) {
        let mut joiners = self.foreign_joiners.lock();
        if let Some(at) = joiners.iter().position(|other| other.is_same(joiner)) {
            joiners.swap_remove(at);
        }
    }
}

/// How a green thread is to be made.
#[derive(Debug, Default)]
pub(crate) struct SpawnOptions {
    pub(crate) name: Option<String>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) pinned: bool,
}

/// Spawns on the runtime of `shared`.
///
/// # Safety
///
/// As [`Task::create`]; `shared` is alive for the length of the call.
pub(crate) unsafe fn spawn_on<F, T>(
    shared: NonNull<Shared>,
    options: SpawnOptions,
    spawned_at: &'static Location<'static>,
    closure: F,
) -> io::Result<TaskRef>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: the caller's promise.
    let this = unsafe { shared.as_ref() };
    let stack_size = options.stack_size.unwrap_or(this.stack_size);
    let core = worker::core().filter(|core| core.shared == shared);
    let (permit, id) = match core {
        // SAFETY: the worker's OS thread alone touches its cache, and this is it.
        Some(core) => unsafe { ((*core.stacks.get()).reserve(stack_size)?, core.next_id()) },
        None => (Permit::reserve(stack_size)?, crate::thread::allocate_ids(1)),
    };
    let name = options.name.map(String::into_boxed_str);
    let pinned = options.pinned;
    let attributes = Attributes { shared, permit, id, name, pinned, spawned_at };
    // SAFETY: the caller's promise.
    let task = unsafe { Task::create(attributes, closure)? };
    match core {
        Some(core) => {
            count(&this.remotes[core.index].counters.spawned);
            core.push_fresh(task.as_ptr());
        }
        None => {
            // Relaxed: ordered by the queue.
            this.foreign_spawned.fetch_add(1, Ordering::Relaxed);
            this.injector.push(Runnable(task.as_ptr()));
            this.wake_for_work();
        }
    }
    Ok(task)
}

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
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Lets green threads that have run move to other workers, so that every runnable one can be
    /// stolen.
    ///
    /// # Safety
    ///
    /// No green thread of this runtime keeps a reference into its OS thread's thread-local storage
    /// across a blocking call of bine's, in whatever form: an open `LocalKey::with`, an `Rc` cloned
    /// out of a `std::thread_local!` (a `ThreadRng` is one), an epoch guard, the address of
    /// `errno`. After the call the thread may be on another OS thread, and that storage another
    /// thread's. [`thread::Builder::pinned`](crate::thread::Builder::pinned) exempts one green
    /// thread.
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
        let deques: Vec<_> = (0..workers).map(|_| (Deque::new_lifo(), Deque::new_fifo())).collect();
        let shared = NonNull::from(Box::leak(Box::new(Shared {
            idle: Idle::new(workers),
            injector: Injector::new(),
            remotes: deques.iter().map(|(fresh, ready)| remote(fresh, ready)).collect(),
            migrating: self.migrating,
            stack_size,
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            foreign_spawned: AtomicU64::new(0),
            foreign_freed: AtomicU64::new(0),
            foreign_joiners: Mutex::new(Vec::new()),
        })));
        // Dropping it on an error stops the workers that have started.
        let mut runtime = Runtime { shared, threads: Vec::with_capacity(workers) };
        for (index, (fresh, ready)) in deques.into_iter().enumerate() {
            runtime.threads.push(start_worker(shared, index, fresh, ready)?);
        }
        Ok(runtime)
    }

    fn worker_count(&self) -> io::Result<usize> {
        let (count, source) = match (self.workers, env::var("BINE_WORKERS")) {
            (Some(count), _) => (Some(count), count.to_string()),
            (None, Ok(text)) => (text.trim().parse().ok(), format!("BINE_WORKERS={text:?}")),
            (None, Err(_)) => (Some(num_cpus::get().clamp(1, MAX_WORKERS)), String::new()),
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
        counters: Counters::default(),
    })
}

/// A pointer to the shared state, for a worker's OS thread.
struct SharedForWorker(NonNull<Shared>);

// SAFETY: `Shared` is made for sharing, and outlives the workers.
unsafe impl Send for SharedForWorker {}

fn start_worker(
    shared: NonNull<Shared>,
    index: usize,
    fresh: Deque<Runnable>,
    ready: Deque<Runnable>,
) -> io::Result<thread::JoinHandle<()>> {
    let shared = SharedForWorker(shared);
    let body = move || {
        let SharedForWorker(shared) = { shared };
        // SAFETY: the runtime frees its shared state after its workers have ended.
        let stack_size = unsafe { shared.as_ref() }.stack_size;
        // `build` has reserved a stack of this size, so there is a class for it.
        let stacks = StackCache::with_stack_size(stack_size).unwrap_or_default();
        let core = Core::new(shared, index, fresh, ready, stacks);
        let known = core.shared().remotes[index].thread.set(thread::current());
        debug_assert!(known.is_ok(), "one OS thread for each worker");
        search::run(&core);
    };
    thread::Builder::new().name(format!("bine-worker-{index}")).spawn(body).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot start the OS thread of worker {index}: {error}"),
        )
    })
}

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
        crate::thread::Builder::new()
            .spawn_on(self, f)
            .unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
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
        // SAFETY: freed by `drop` only.
        unsafe { self.shared.as_ref() }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let shared = self.shared();
        shared.stopping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Idle::fall_asleep`: a worker either sees `stopping` in its last
        // look or is seen asleep here. (`wake_worker` has the fence.)
        for worker in 0..shared.remotes.len() {
            shared.wake_worker(worker);
        }
        let remains = Remains { shared: self.shared, threads: std::mem::take(&mut self.threads) };
        if worker::core().is_none_or(|core| core.shared != self.shared) {
            return remains.bury();
        }
        // One of the runtime's own green threads drops it: its worker cannot wait for itself, and
        // goes on until that thread next blocks. Where no OS thread can be had, all is leaked.
        let undertaker = thread::Builder::new().name("bine-shutdown".into());
        drop(undertaker.spawn(move || remains.bury()));
    }
}

/// A runtime that was told to stop.
struct Remains {
    shared: NonNull<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

// SAFETY: `Shared` is made for sharing between threads.
unsafe impl Send for Remains {}

impl Remains {
    /// Waits for the workers and settles what they left.
    fn bury(self) {
        for thread in self.threads {
            // A worker does not unwind (it aborts instead).
            let _ = thread.join();
        }
        // SAFETY: freed below only.
        let shared = unsafe { self.shared.as_ref() };
        abandon_unstarted(shared);
        // Release pairs with the Acquire in `has_stopped`.
        shared.stopped.store(true, Ordering::Release);
        let joiners = std::mem::take(&mut *shared.foreign_joiners.lock());
        joiners.into_iter().for_each(Unparker::unpark);
        if shared.cells() == 0 {
            // SAFETY: made by `Box::leak`; the runtime is gone, its workers have ended, and no cell
            // is left that could reach it.
            drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
        }
    }
}

/// Ends what was spawned and never ran, after the workers have ended. The closures are dropped
/// here, not on a worker.
fn abandon_unstarted(shared: &Shared) {
    loop {
        match shared.injector.steal() {
            Steal::Success(Runnable(task)) => {
                // SAFETY: the workers have ended, so what is queued is ours, with its run
                // reference.
                unsafe {
                    if !task.as_ref().started.get() {
                        TaskRef::from_owned(task).abandon();
                    }
                }
            }
            Steal::Empty => break,
            Steal::Retry => {}
        }
    }
}

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
/// As [`Builder::build`]; a later call tries again.
pub fn default_runtime() -> io::Result<&'static Runtime> {
    static DEFAULT: OnceLock<Runtime> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = DEFAULT.get() {
        return Ok(runtime);
    }
    let _starting = STARTING.lock();
    if let Some(runtime) = DEFAULT.get() {
        return Ok(runtime);
    }
    let runtime = Runtime::new()?;
    Ok(DEFAULT.get_or_init(|| runtime))
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
