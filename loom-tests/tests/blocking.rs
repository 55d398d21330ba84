//! Models of the pool for blocking calls: every job is run, whether the thread that it relies on
//! falls asleep, leaves or cannot be had, and the end of a job meets the one who waits for it.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};
use std::sync::{Arc, Mutex as Unseen};

use bine_loom_tests::{Queue, bounded_model, model};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Crew, Done, Means};
use loom::thread;

/// How a pool thread's sleep ends.
#[derive(Clone, Copy, PartialEq)]
enum Sleep {
    /// When it is woken, or all jobs are done: a job that nobody is woken for is a deadlock.
    Woken,
    /// At once, since its time is up.
    Over,
}

struct State {
    crew: Crew,
    jobs: Queue<()>,
    sleep: Sleep,
    /// How many threads may still be started.
    startable: Count,
    ran: Count,
    expected: usize,
    /// By slot, as in the pool that ships.
    threads: Vec<Unseen<Option<thread::Thread>>>,
    started: Unseen<Vec<thread::JoinHandle<()>>>,
}

#[derive(Clone)]
struct Pool(Arc<State>);

impl Pool {
    fn new(limit: usize, startable: usize, expected: usize, sleep: Sleep) -> Self {
        Self(Arc::new(State {
            crew: Crew::new(limit),
            jobs: Queue::default(),
            sleep,
            startable: Count::new(startable),
            ran: Count::new(0),
            expected,
            threads: (0..limit).map(|_| Unseen::new(None)).collect(),
            started: Unseen::default(),
        }))
    }

    fn submit(&self) {
        self.0.jobs.push(());
        self.0.crew.submit(self);
    }

    fn submit_elsewhere(&self) -> thread::JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || this.submit())
    }

    /// After all submissions: waits for the pool's threads.
    fn end(&self) {
        loop {
            let started = self.0.started.lock().unwrap().pop();
            let Some(thread) = started else { break };
            thread.join().unwrap();
        }
        assert_eq!(self.0.ran.load(Counting), self.0.expected, "every job once");
    }
}

impl Means for Pool {
    type Job = ();

    fn take(&self) -> Option<()> {
        self.0.jobs.pop()
    }

    fn is_empty(&self) -> bool {
        self.0.jobs.is_empty()
    }

    fn run(&self, (): ()) {
        if self.0.ran.fetch_add(1, Counting) + 1 == self.0.expected {
            for thread in &self.0.threads {
                let thread = thread.lock().unwrap().clone();
                thread.iter().for_each(thread::Thread::unpark);
            }
        }
    }

    fn start(&self, slot: usize) -> bool {
        let left = self.0.startable.load(Counting);
        if left == 0 {
            return false;
        }
        self.0.startable.store(left - 1, Counting);
        let this = self.clone();
        let thread = thread::spawn(move || this.0.crew.work(&this, slot));
        self.0.started.lock().unwrap().push(thread);
        true
    }

    fn enter(&self, slot: usize) {
        *self.0.threads[slot].lock().unwrap() = Some(thread::current());
    }

    fn unpark(&self, slot: usize) {
        let thread = self.0.threads[slot].lock().unwrap().clone();
        thread.iter().for_each(thread::Thread::unpark);
    }

    fn sleep(&self, asleep: impl Fn() -> bool) {
        while self.0.sleep == Sleep::Woken
            && asleep()
            && self.0.ran.load(Counting) < self.0.expected
        {
            thread::park();
        }
    }
}

/// The second job comes while the thread that runs the first one searches, runs or falls asleep.
#[test]
fn a_submission_against_a_thread_that_falls_asleep() {
    model("blocking::a_submission_against_a_thread_that_falls_asleep", || {
        let pool = Pool::new(1, 1, 2, Sleep::Woken);
        pool.submit();
        pool.submit();
        pool.end();
    });
}

/// As above, of a thread that leaves as soon as it has nothing to do.
#[test]
fn a_submission_against_a_thread_that_leaves() {
    model("blocking::a_submission_against_a_thread_that_leaves", || {
        let pool = Pool::new(1, 2, 2, Sleep::Over);
        pool.submit();
        pool.submit();
        pool.end();
    });
}

/// The thread that leaves finds a job and stays, or the submitter starts another one, or is refused
/// it and does the job itself.
#[test]
fn a_submission_against_the_last_thread_that_can_be_had() {
    model("blocking::a_submission_against_the_last_thread_that_can_be_had", || {
        let pool = Pool::new(2, 1, 2, Sleep::Over);
        pool.submit();
        pool.submit();
        pool.end();
    });
}

/// One submitter relies on the thread that another one tries to start in vain.
#[test]
fn two_submitters_and_no_thread_to_be_had() {
    model("blocking::two_submitters_and_no_thread_to_be_had", || {
        let pool = Pool::new(2, 0, 2, Sleep::Over);
        let other = pool.submit_elsewhere();
        pool.submit();
        other.join().unwrap();
        pool.end();
    });
}

/// As above, with one thread: it may be the other submitter's.
#[test]
fn two_submitters_and_one_thread() {
    bounded_model("blocking::two_submitters_and_one_thread", 2, || {
        let pool = Pool::new(2, 1, 2, Sleep::Woken);
        let other = pool.submit_elsewhere();
        pool.submit();
        other.join().unwrap();
        pool.end();
    });
}

/// The result is read, and the job freed, as soon as it is done.
#[test]
fn the_end_of_a_job_against_its_waiter() {
    struct Job(Done, UnsafeCell<u32>);

    // SAFETY: the model's claim: `Done` hands the cell over. loom checks it.
    unsafe impl Sync for Job {}
    // SAFETY: as above.
    unsafe impl Send for Job {}

    struct Address(*const Job);

    // SAFETY: it points to a `Job`.
    unsafe impl Send for Address {}

    model("blocking::the_end_of_a_job_against_its_waiter", || {
        let job = Box::new(Job(Done::for_current(), UnsafeCell::new(0)));
        let address = Address(&raw const *job);
        let runs = thread::spawn(move || {
            let Address(job) = { address };
            // SAFETY: the waiter keeps the job until `finish`.
            unsafe {
                (*job).1.with_mut(|result| *result = 7);
                Done::finish(&raw const (*job).0);
            }
        });
        job.0.wait();
        // SAFETY: the job is done.
        assert_eq!(job.1.with(|result| unsafe { *result }), 7);
        drop(job);
        runs.join().unwrap();
    });
}
