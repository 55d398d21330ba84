//! The pool: its queue, its OS threads, and the jobs as it sees them.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bine_arch::overflow;
use crossbeam_deque::{Injector, Steal};
use parking_lot::Mutex;

use super::crew::{Crew, Means};
use super::settings::BlockingPool;
use crate::fork;
use crate::runtime::release_thread;

/// What a job starts with: the function that runs it, given the address of this.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Header(pub(super) unsafe fn(NonNull<Header>));

/// A job that is to be run once, kept by the one who waits for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job(NonNull<Header>);

// SAFETY: `Pool::submit` is given jobs that may run on any thread.
unsafe impl Send for Job {}

/// The threads and their queue. Never freed once it was used: the threads refer to it.
#[derive(Debug)]
pub(super) struct Pool {
    crew: Crew,
    jobs: Injector<Job>,
    /// The thread of each slot, from before it first sleeps; after that of a former one.
    threads: Box<[Mutex<Option<Thread>>]>,
    /// One thread is started at a time: the headroom of the next must not be what this one needs.
    starting: Mutex<()>,
    /// How many were started, for their names.
    started: AtomicUsize,
    /// A thread that has had nothing to do for so long leaves.
    keep_alive: Duration,
    /// The process that has the threads; a fork of it has none.
    process: fork::Process,
}

/// The pool of the process, or null. A pointer, and no lock: a fork may come while it is being made,
/// and what the lock's owner was doing would never be finished in the child.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

impl Pool {
    /// The one of the process. None in a fork of the process that has it.
    ///
    /// # Panics
    ///
    /// If it is yet to be made, and the environment has nonsense for it.
    pub(super) fn get() -> Option<&'static Self> {
        let pool = match Self::of_process() {
            Some(pool) => pool,
            None => Self::make(),
        };
        pool.process.is_here().then_some(pool)
    }

    fn of_process() -> Option<&'static Self> {
        // SAFETY: null or what `install` has put there, for good. Acquire pairs with the Release
        // there.
        unsafe { POOL.load(Ordering::Acquire).as_ref() }
    }

    #[cold]
    fn make() -> &'static Self {
        match BlockingPool::new().pool() {
            // If not, somebody else was faster.
            Ok(pool) => _ = Self::install(pool),
            Err(error) => panic!("{error}"),
        }
        Self::of_process().expect("a pool was installed")
    }

    /// Makes `pool` the one of the process; false if there is one.
    pub(super) fn install(pool: Self) -> bool {
        let new = Box::into_raw(Box::new(pool));
        // Release pairs with the Acquire in `of_process`.
        let (null, release) = (ptr::null_mut(), Ordering::Release);
        let installed = POOL.compare_exchange(null, new, release, Ordering::Relaxed).is_ok();
        if !installed {
            // SAFETY: ours, and nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
        installed
    }

    pub(super) fn exists() -> bool {
        Self::of_process().is_some()
    }

    pub(super) fn new(limit: usize, keep_alive: Duration) -> Self {
        Self {
            crew: Crew::new(limit),
            jobs: Injector::new(),
            threads: (0..limit).map(|_| Mutex::new(None)).collect(),
            starting: Mutex::new(()),
            started: AtomicUsize::new(0),
            keep_alive,
            process: fork::Process::current(),
        }
    }

    /// Has the job run. It may have been when this returns, by the caller even.
    ///
    /// # Safety
    ///
    /// The job is kept until it has run, may run on any thread, and its function does not unwind.
    pub(super) unsafe fn submit(&'static self, job: NonNull<Header>) {
        self.jobs.push(Job(job));
        self.crew.submit(&self);
    }

    fn spawn(&'static self, slot: usize) -> std::io::Result<()> {
        let running = Arc::new(OnceLock::new());
        let tell = Arc::clone(&running);
        let body = move || {
            overflow::protect_thread();
            release_thread();
            let told = tell.set(());
            debug_assert!(told.is_ok(), "a thread starts once");
            drop(tell);
            self.crew.work(&self, slot);
        };
        let _starting = self.starting.lock();
        // Relaxed: a name.
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let headroom = overflow::Headroom::hold()?;
        let builder = thread::Builder::new().name(format!("bine-blocking-{number}"));
        fork::start_thread(builder, headroom, body)?;
        running.wait();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.crew.threads()
    }
}

impl Means for &'static Pool {
    type Job = Job;

    fn take(&self) -> Option<Job> {
        loop {
            match self.jobs.steal() {
                Steal::Success(job) => return Some(job),
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn run(&self, Job(job): Job) {
        // SAFETY: whoever submitted the job keeps it, and we have taken it out of the queue.
        unsafe { (job.as_ref().0)(job) };
        // The job has forked: what is queued is the parent's to run.
        if self.process.has_forked() {
            fork::abort_child();
        }
    }

    fn start(&self, slot: usize) -> bool {
        self.spawn(slot).is_ok()
    }

    fn enter(&self, slot: usize) {
        *self.threads[slot].lock() = Some(thread::current());
    }

    fn unpark(&self, slot: usize) {
        // None never: a thread says who it is before it falls asleep. That of a later thread if the
        // one that was claimed is awake already; it bears that.
        if let Some(thread) = &*self.threads[slot].lock() {
            thread.unpark();
        }
    }

    fn sleep(&self, asleep: impl Fn() -> bool) {
        // None: so far away that it never comes.
        let until = Instant::now().checked_add(self.keep_alive);
        while asleep() {
            let Some(until) = until else {
                thread::park();
                continue;
            };
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                _ => return,
            }
        }
    }
}
