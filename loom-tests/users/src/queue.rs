//! A work queue: jobs go in, workers take them until the queue is closed and empty.

use std::collections::VecDeque;

use bine::sync::atomic::{AtomicBool, Ordering};
use bine::sync::{Condvar, Mutex};
use bine::thread::{self, Scope, ScopedJoinHandle};

/// A queue of jobs of the type `J`.
///
/// The mistake: `close` sets the flag without the lock. A worker that has looked at the flag, and does not
/// wait yet, misses the notification, and waits for ever.
#[derive(Debug)]
pub struct WorkQueue<J, const MISTAKEN: bool = false> {
    jobs: Mutex<VecDeque<J>>,
    closed: AtomicBool,
    changed: Condvar,
}

impl<J, const MISTAKEN: bool> Default for WorkQueue<J, MISTAKEN> {
    fn default() -> Self {
        Self::new()
    }
}

impl<J, const MISTAKEN: bool> WorkQueue<J, MISTAKEN> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            jobs: Mutex::new(VecDeque::new()),
            closed: AtomicBool::new(false),
            changed: Condvar::new(),
        }
    }

    /// Adds a job.
    ///
    /// # Panics
    ///
    /// If a thread has panicked in the middle of a call. So for all methods here.
    pub fn push(&self, job: J) {
        self.jobs.lock().unwrap().push_back(job);
        self.changed.notify_one();
    }

    /// The next job; none once the queue is closed and all jobs were taken.
    pub fn next(&self) -> Option<J> {
        let mut jobs = self.jobs.lock().unwrap();
        loop {
            if let Some(job) = jobs.pop_front() {
                return Some(job);
            }
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            jobs = self.changed.wait(jobs).unwrap();
        }
    }

    /// No jobs come any more.
    pub fn close(&self) {
        let jobs = (!MISTAKEN).then(|| self.jobs.lock().unwrap());
        self.closed.store(true, Ordering::Release);
        drop(jobs);
        self.changed.notify_all();
    }
}

impl<J: Send, const MISTAKEN: bool> WorkQueue<J, MISTAKEN> {
    /// Starts a worker, which returns the number of jobs that it has done.
    pub fn start_worker<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        name: &str,
        work: impl Fn(J) + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, usize> {
        let work = move || std::iter::from_fn(|| self.next()).map(&work).count();
        thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).unwrap()
    }
}
