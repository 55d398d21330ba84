//! Random programs of everything that threads do: nothing of them is left behind.
//!
//! A program is a tree of green threads, each of which spawns, joins, parks, unparks, cancels, panics,
//! opens scopes and sleeps as a seeded generator says. Some park for good, and the shutdown of their
//! runtime ends them. In the end each thread, each of its locals and each stack must be gone.
//!
//! `BINE_TORTURE_SEED` repeats a run, `BINE_TORTURE_ROUNDS` makes it longer.

#[path = "../../arch/tests/random/mod.rs"]
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bine_arch::stack;
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Builder, Runtime};
use random::Random;

/// How many threads and locals there are that have not been dropped.
#[derive(Clone, Default)]
struct Living(Arc<AtomicUsize>);

struct Life(Arc<AtomicUsize>);

impl Living {
    fn one_more(&self) -> Life {
        self.0.fetch_add(1, Ordering::Relaxed);
        Life(Arc::clone(&self.0))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

bine_runtime::thread_local! {
    static LOCAL: std::cell::RefCell<Vec<Life>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// A panic that is meant, without the hook.
struct Meant;

/// What all threads of a program share.
#[derive(Clone)]
struct Program {
    living: Living,
    joined: Arc<AtomicUsize>,
    /// How many threads the program may still spawn.
    left: Arc<AtomicUsize>,
}

impl Program {
    /// Whether one more thread may be spawned.
    fn may_spawn(&self) -> bool {
        let take = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Spawns a thread of the program, which lives as its seed says.
    fn spawn(&self, seed: u64, depth: u32) -> thread::JoinHandle<()> {
        let (program, life) = (self.clone(), self.living.one_more());
        thread::spawn(move || {
            let _life = life;
            program.live(&mut Random(seed), depth);
        })
    }

    fn live(&self, random: &mut Random, depth: u32) {
        if random.below(3) == 0 {
            LOCAL.with_borrow_mut(|lives| lives.push(self.living.one_more()));
        }
        for _ in 0..random.below(6) {
            match random.below(12) {
                0..=2 if depth > 0 && self.may_spawn() => self.have_a_child(random, depth - 1),
                3 if depth > 0 && self.may_spawn() => self.open_a_scope(random, depth - 1),
                4 | 5 => thread::yield_now(),
                6 => thread::sleep(Duration::from_micros(random.below(200))),
                7 => thread::park_timeout(Duration::from_micros(random.below(200))),
                8 => thread::shielded(thread::yield_now),
                9 => catch_a_panic(),
                10 if random.below(8) == 0 => resume_unwind(Box::new(Meant)),
                11 if random.below(8) == 0 => thread::park(),
                _ => {}
            }
        }
    }

    /// Spawns a child, and detaches, joins, cancels or wakes it.
    fn have_a_child(&self, random: &mut Random, depth: u32) {
        let child = self.spawn(random.next(), depth);
        match random.below(5) {
            0 => return,
            1 => child.thread().unpark(),
            2 => child.cancel().expect("panics unwind here"),
            3 => {
                // Whoever parks for good is woken now and then, or the shutdown does it.
                let waker = child.thread().clone();
                thread::spawn(move || waker.unpark());
            }
            _ => {
                child.thread().unpark();
                thread::yield_now();
                child.cancel().expect("panics unwind here");
            }
        }
        if let Err(payload) = child.join() {
            assert!(is_meant(&*payload), "a thread panicked that was not to");
        }
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    /// Children that borrow from this frame, in a scope that may be cancelled.
    fn open_a_scope(&self, random: &mut Random, depth: u32) {
        let children = random.below(4);
        let lives: Vec<Life> = (0..children).map(|_| self.living.one_more()).collect();
        let seen = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                let cancels = random.below(2) == 0;
                for life in &lives {
                    let mut random = Random(random.next());
                    let seen = &seen;
                    scope.spawn(move || {
                        assert!(Arc::strong_count(&life.0) > 0);
                        seen.fetch_add(1, Ordering::Relaxed);
                        self.live(&mut random, depth);
                    });
                }
                if cancels {
                    scope.cancel().expect("panics unwind here");
                }
            });
        }));
        // A child that parks for good would keep the scope; a shutdown cancels it.
        assert_eq!(seen.load(Ordering::Relaxed), lives.len(), "a scope ended before its children");
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
    }
}

fn is_meant(payload: &(dyn std::any::Any + Send)) -> bool {
    let scoped = payload.downcast_ref::<&str>() == Some(&"a scoped thread panicked");
    payload.is::<Meant>() || payload.is::<Cancelled>() || scoped
}

/// A panic inside of which the thread blocks.
fn catch_a_panic() {
    struct Yields;

    impl Drop for Yields {
        fn drop(&mut self) {
            thread::yield_now();
        }
    }

    let caught = catch_unwind(|| {
        let _yields = Yields;
        resume_unwind(Box::new(Meant));
    });
    assert!(caught.is_err_and(|payload| payload.is::<Meant>()));
}

fn runtime(workers: usize, migrating: bool) -> Runtime {
    let builder = Builder::new().workers(workers);
    match migrating {
        // SAFETY: nothing here keeps a borrow of std's thread-locals across a blocking call.
        true => unsafe { builder.migrate() }.build().unwrap(),
        false => builder.build().unwrap(),
    }
}

/// One program on one runtime. How many threads it had.
fn run(seed: u64, workers: usize, migrating: bool) -> u64 {
    let runtime = runtime(workers, migrating);
    let program = Program {
        living: Living::default(),
        joined: Arc::default(),
        left: Arc::new(AtomicUsize::new(300)),
    };
    let mut random = Random(seed);
    let roots: Vec<_> = (0..4)
        .map(|_| {
            let (program, seed) = (program.clone(), random.next());
            let life = program.living.one_more();
            runtime.spawn(move || {
                let _life = life;
                program.live(&mut Random(seed), 5);
            })
        })
        .collect();
    // Half of the programs end by themselves as far as they do, half are shut down in the middle.
    if random.below(2) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
    }
    let spawned = runtime.metrics().spawned;
    let shutdown = runtime.shutdown_timeout(Duration::from_secs(60));
    assert_eq!(shutdown.abandoned, 0, "seed {seed}: {shutdown:?}");
    for root in roots {
        if let Err(payload) = root.join() {
            assert!(is_meant(&*payload), "seed {seed}: a thread panicked that was not to");
        }
    }
    assert_eq!(
        program.living.0.load(Ordering::Relaxed),
        0,
        "seed {seed}: threads or locals are left"
    );
    spawned
}

#[test]
fn nothing_is_left_of_random_programs() {
    let (first, programs) = (random::seed(), random::rounds(100));
    let mut threads = 0;
    for program in 0..programs {
        let workers = [1, 2, 3, 8][program as usize / 2 % 4];
        threads += run(first.wrapping_add(program), workers, program % 2 == 1);
    }
    let stacks = stack::stats();
    // The runtime keeps a stack for each panic count that it had to take off an OS thread at a time, in
    // eights.
    assert_eq!(stacks.lent, stacks.promised);
    assert!(stacks.lent <= 64 && stacks.lent.is_multiple_of(8), "{} stacks are left", stacks.lent);
    println!("{programs} programs, {threads} threads");
}
