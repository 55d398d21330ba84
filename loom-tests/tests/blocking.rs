//! Models of the pool for blocking calls: every job is run, whether the thread that it relies on
//! falls asleep, leaves or cannot be had, and the end of a job meets the one who waits for it.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};
use std::sync::{Arc, Mutex as Unseen};

use bine_loom_tests::{Queue, bounded_model, model};
use bine_runtime::primitive::atomic::{AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Crew, Done, Means};
use loom::sync::Notify;
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
    /// By slot: what its thread alone touches, while it has the slot.
    owned: Vec<UnsafeCell<u32>>,
    /// Where jobs wait for each other, and how many have come.
    meeting: Option<[Notify; 2]>,
    met: Count,
    started: Unseen<Vec<thread::JoinHandle<()>>>,
}

// SAFETY: the cells are the model's claim: a slot has one thread at a time. loom checks it.
unsafe impl Sync for State {}
// SAFETY: as above.
unsafe impl Send for State {}

#[derive(Clone)]
struct Pool(Arc<State>);

impl Pool {
    fn new(limit: usize, startable: usize, expected: usize, sleep: Sleep) -> Self {
        Self::with_meeting(limit, startable, expected, sleep, None)
    }

    fn with_meeting(
        limit: usize,
        startable: usize,
        expected: usize,
        sleep: Sleep,
        meeting: Option<[Notify; 2]>,
    ) -> Self {
        Self(Arc::new(State {
            crew: Crew::new(limit),
            jobs: Queue::default(),
            sleep,
            startable: Count::new(startable),
            ran: Count::new(0),
            expected,
            threads: (0..limit).map(|_| Unseen::new(None)).collect(),
            owned: (0..limit).map(|_| UnsafeCell::new(0)).collect(),
            meeting,
            met: Count::new(0),
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
        if let Some(meeting) = &self.0.meeting {
            let mine = self.0.met.fetch_add(1, Counting);
            meeting[1 - mine].notify();
            meeting[mine].wait();
        }
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
        // SAFETY: the slot is ours.
        self.0.owned[slot].with_mut(|cell| unsafe { *cell += 1 });
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

/// Two jobs that wait for each other need a thread each: the first one's, which searches when the second
/// job comes, sees to it that there is another.
#[test]
fn two_jobs_that_wait_for_each_other() {
    bounded_model("blocking::two_jobs_that_wait_for_each_other", 2, || {
        let meeting = Some([Notify::new(), Notify::new()]);
        let pool = Pool::with_meeting(2, 2, 2, Sleep::Over, meeting);
        pool.submit();
        pool.submit();
        pool.end();
    });
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

/// As above, with a thread that runs already: it does the one submitter's job and falls asleep, while the
/// other submitter relies on the thread that the first one tries to start in vain.
#[test]
fn two_submitters_and_a_thread_that_falls_asleep() {
    bounded_model("blocking::two_submitters_and_a_thread_that_falls_asleep", 2, || {
        let pool = Pool::new(2, 1, 3, Sleep::Woken);
        pool.submit();
        let other = pool.submit_elsewhere();
        pool.submit();
        other.join().unwrap();
        pool.end();
    });
}

/// The result is read as soon as it is done, and the next job begins in the same place, as in the frame
/// of a caller: who finishes the first one touches nothing of the second.
#[test]
fn the_end_of_a_job_against_its_waiter() {
    struct Job(Done, UnsafeCell<u32>);

    // SAFETY: the model's claim: `Done` hands the cell over. loom checks it.
    unsafe impl Sync for Job {}
    // SAFETY: as above.
    unsafe impl Send for Job {}

    struct Place(*mut Job);

    // SAFETY: it points to a `Job`.
    unsafe impl Send for Place {}

    /// Does the job. `step` is an atomic that both sides access, so that the waiter also goes on between
    /// the end and its wake-up, which loom would else take for one step. Relaxed: it orders nothing.
    fn run(place: Place, step: Arc<AtomicUsize>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let Place(job) = { place };
            // SAFETY: the waiter keeps the job until `finish`.
            let waiter = unsafe {
                (*job).1.with_mut(|result| *result = 7);
                Done::finish(&raw const (*job).0)
            };
            step.fetch_add(1, Ordering::Relaxed);
            waiter.expect("there is one who waits").unpark();
        })
    }

    /// Two jobs in one place, which is theirs alone. Joins nobody, as it may be unparked late.
    fn wait(place: &Place, step: &Arc<AtomicUsize>) -> [thread::JoinHandle<()>; 2] {
        [0, 1].map(|_| {
            // SAFETY: the place is free, or the job in it is done.
            unsafe { *place.0 = Job(Done::for_current(), UnsafeCell::new(0)) };
            let runs = run(Place(place.0), step.clone());
            // SAFETY: only shared from here on.
            let job = unsafe { &*place.0 };
            job.0.wait();
            step.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the job is done.
            assert_eq!(job.1.with(|result| unsafe { *result }), 7);
            runs
        })
    }

    model("blocking::the_end_of_a_job_against_its_waiter", || {
        let step = Arc::new(AtomicUsize::new(0));
        let waiter = thread::spawn(move || {
            let first = Box::new(Job(Done::for_current(), UnsafeCell::new(0)));
            let place = Place(Box::into_raw(first));
            let running = wait(&place, &step);
            (place, running)
        });
        let (Place(job), running) = waiter.join().unwrap();
        running.into_iter().for_each(|runs| runs.join().unwrap());
        // SAFETY: made above, and nobody uses it any more.
        drop(unsafe { Box::from_raw(job) });
    });
}
