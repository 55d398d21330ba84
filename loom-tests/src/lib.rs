//! What the models in `tests/` share: the entry point, and stand-ins for what knows nothing of
//! loom. See the README for what is modelled and how to run it.
//!
//! Without `--cfg bine_loom` this crate is empty.
#![cfg(bine_loom)]

pub mod channels;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex as Unseen;
use std::time::Instant;

use bine_runtime::model::Builder;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Idle, Rest, Rested, Woken};
use loom::thread::{self, Thread};

/// Preemptions in one execution where `LOOM_MAX_PREEMPTIONS` does not say otherwise.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` in every interleaving that loom tells apart, up to the bound on preemptions, and
/// prints how many there were and how long they took.
///
/// # Panics
///
/// With the panic of the first execution that fails.
pub fn model(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    bounded_model(name, PREEMPTIONS, scenario);
}

/// As [`model`] with at most `preemptions`, for scenarios that are too large for more.
///
/// # Panics
///
/// As [`model`].
pub fn bounded_model(name: &str, preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let given = std::env::var("LOOM_MAX_PREEMPTIONS").ok();
    let wanted = given.map_or(PREEMPTIONS, |given| given.parse().expect("a number of preemptions"));
    let start = Instant::now();
    let bounded = Builder::new().max_preemptions(wanted.min(preemptions));
    let executions = bounded.check_protocol(scenario);
    let took = start.elapsed().as_secs_f64();
    println!("{name}: {executions} executions, {took:.1} s");
}

/// In place of crossbeam's deques and injector.
///
/// loom sees only what these promise: an item that is taken was published by the push (Release to
/// Acquire), and a look at an empty queue orders nothing. loom's own mutex would promise more, for
/// each of its critical sections is a point of sequential consistency, and would hide missing
/// fences. So the items stand behind a lock that loom does not see: it runs one thread at a time
/// and switches at operations on its own types alone, so that lock is never contended.
#[derive(Debug)]
pub struct Queue<T> {
    items: Unseen<VecDeque<T>>,
    len: AtomicUsize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Unseen::default(), len: AtomicUsize::new(0) }
    }
}

impl<T> Queue<T> {
    /// Adds an item at the back.
    pub fn push(&self, item: T) {
        self.items.lock().unwrap().push_back(item);
        self.len.fetch_add(1, Ordering::Release);
    }

    /// Whether the queue looks empty.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Takes the item at the front.
    pub fn pop(&self) -> Option<T> {
        let mut len = self.len.load(Ordering::Acquire);
        while len != 0 {
            match self.len.compare_exchange(len, len - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.items.lock().unwrap().pop_front(),
                Err(now) => len = now,
            }
        }
        None
    }
}

/// The workers of a runtime as far as they sleep and wake. The methods that say so repeat the lines
/// of the function of that name, which needs what loom cannot run (stacks and OS threads).
pub struct Workers {
    /// The protocol that ships.
    pub idle: Idle,
    /// For everybody.
    pub injector: Queue<u32>,
    /// `Shared::stopping`.
    pub stopping: AtomicBool,
    /// `Remote::thread`. Written by the worker before it falls asleep, and read by who claims it:
    /// loom reports a claimer who need not see it.
    threads: Vec<UnsafeCell<Option<Thread>>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("idle", &self.idle).finish_non_exhaustive()
    }
}

// SAFETY: the cells are the model's claim: a claim hands them over. loom checks it.
unsafe impl Sync for Workers {}
// SAFETY: as above.
unsafe impl Send for Workers {}

impl Workers {
    /// All of them running.
    pub fn new(workers: usize) -> Self {
        Self::with_spares(workers, 0)
    }

    /// As many workers and, after them, spares that are off duty; all of them running.
    pub fn with_spares(workers: usize, spares: usize) -> Self {
        Self {
            idle: Idle::with_spares(workers, spares),
            injector: Queue::default(),
            stopping: AtomicBool::new(false),
            threads: (0..workers + spares).map(|_| UnsafeCell::new(None)).collect(),
        }
    }

    /// Says which loom thread a worker is. Before it falls asleep.
    pub fn enter(&self, worker: usize, thread: Thread) {
        // SAFETY: the worker is not asleep yet, so nobody can claim it.
        self.threads[worker].with_mut(|slot| unsafe { *slot = Some(thread) });
    }

    /// `Shared::unpark`.
    pub fn unpark(&self, worker: usize) {
        // SAFETY: the caller claimed the worker, which thus has written the slot.
        let thread = self.threads[worker].with(|slot| unsafe { (*slot).clone() });
        thread.expect("a worker that sleeps has said which thread it is").unpark();
    }

    /// `Shared::wake_for_work`.
    pub fn wake_for_work(&self) {
        if let Some(worker) = self.idle.submit() {
            self.unpark(worker);
        }
    }

    /// `Shared::wake_many`.
    pub fn wake_many(&self, count: usize) {
        self.idle.wake_many(count, |worker| self.unpark(worker));
    }

    /// `Shared::wake_worker`.
    pub fn wake_worker(&self, worker: usize) {
        if self.idle.summon(worker) {
            self.unpark(worker);
        }
    }

    /// `search::stop_searching`.
    pub fn stop_searching(&self, searching: bool) {
        self.idle.stop_searching(searching, |worker| self.unpark(worker));
    }

    /// `search::sleep`, of a worker without timers.
    pub fn sleep(&self, worker: usize, searching: bool, has_work: impl Fn() -> bool) -> bool {
        self.sleep_as(worker, searching, |_all| has_work(), || {})
    }

    /// As [`sleep`](Self::sleep). What `has_work` is given says whether the worker may take what others
    /// can run; `wakes` is called when it has looked asleep and is awake.
    pub fn sleep_as(
        &self,
        worker: usize,
        searching: bool,
        has_work: impl Fn(bool) -> bool,
        wakes: impl Fn(),
    ) -> bool {
        let sleep = Sleep { workers: self, worker, has_work, wakes };
        match self.idle.rest(worker, searching, &sleep) {
            Rested::Not { searches } => searches,
            Rested::Slept(woken) => woken == Woken::Claimed,
        }
    }

    /// Starts a worker that is asleep before anything else happens, and does `body` when it is woken.
    pub fn start_asleep<T: 'static>(
        &self,
        worker: usize,
        body: impl FnOnce() -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let thread = thread::spawn(move || {
            thread::park();
            body()
        });
        self.enter(worker, thread.thread().clone());
        self.idle.fall_asleep(worker, false);
        thread.thread().unpark();
        thread
    }

    /// The rest of [`sleep`](Self::sleep), after the last look.
    pub fn sleep_on(&self, worker: usize) -> bool {
        let sleep = Sleep { workers: self, worker, has_work: |_all| false, wakes: || {} };
        self.idle.rest_on(worker, &sleep) == Rested::Slept(Woken::Claimed)
    }

    /// As [`sleep_on`](Self::sleep_on), of a worker whose timer is due at once.
    pub fn wake_by_itself(&self, worker: usize, wakes: impl Fn()) -> bool {
        struct Due<W>(W);

        impl<W: Fn()> Rest for Due<W> {
            fn has_work(&self, _all: bool) -> bool {
                false
            }

            fn is_stopping(&self) -> bool {
                false
            }

            fn sleep(&self) {}

            fn wakes(&self) {
                (self.0)();
            }
        }

        self.idle.rest_on(worker, &Due(wakes)) == Rested::Slept(Woken::Claimed)
    }

    /// The loop of `search::run`, until it has found something for the worker to run: what `take`
    /// finds.
    pub fn find<T>(
        &self,
        worker: usize,
        mut searching: bool,
        take: impl Fn() -> Option<T>,
        has_work: impl Fn() -> bool,
    ) -> T {
        loop {
            let mut found = take();
            if found.is_none() && !searching {
                searching = self.idle.begin_search();
                found = if searching { take() } else { None };
            }
            if let Some(work) = found {
                self.stop_searching(searching);
                return work;
            }
            searching = self.sleep(worker, searching, &has_work);
        }
    }
}

/// What a worker's rest is given; see [`Workers::sleep_as`].
struct Sleep<'a, H, W> {
    workers: &'a Workers,
    worker: usize,
    has_work: H,
    wakes: W,
}

impl<H: Fn(bool) -> bool, W: Fn()> Rest for Sleep<'_, H, W> {
    fn has_work(&self, all: bool) -> bool {
        (self.has_work)(all)
    }

    fn is_stopping(&self) -> bool {
        self.workers.stopping.load(Ordering::Relaxed)
    }

    fn sleep(&self) {
        while self.workers.idle.is_asleep(self.worker) {
            thread::park();
        }
    }

    fn wakes(&self) {
        (self.wakes)();
    }
}

/// Fails unless searchers are counted exactly: none, now that all workers have stopped.
pub fn assert_nobody_searches(idle: &Idle, workers: usize) {
    // At most half of the workers, rounded up, may begin.
    for _ in 0..workers.div_ceil(2) {
        assert!(idle.begin_search(), "a searcher too many is counted");
    }
    assert!(!idle.begin_search(), "a searcher too few is counted");
}
