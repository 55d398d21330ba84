//! Random programs of everything that threads do: nothing of them is left behind.
//!
//! A program is a tree of green threads, each of which does as a seeded generator says: it spawns, joins,
//! awaits, detaches, cancels, parks, unparks, sleeps, panics, opens scopes and runtimes, calls the
//! blocking pool, holds its worker. What it captures, returns, panics with and keeps in thread-locals
//! may wait when it is dropped. An OS thread spawns more of them meanwhile, through a handle.
//!
//! Half of the programs end by themselves. In the others threads wait for good, and the shutdown of the
//! runtime, which comes at any moment, ends them. In the end each thread, each value, each local, each
//! stack and each spare worker's duty must be gone.
//!
//! `BINE_TORTURE_SEED` repeats a run, `BINE_TORTURE_ROUNDS` makes it longer.

mod lives;
#[path = "../../arch/tests/random/mod.rs"]
mod random;

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bine_arch::stack;
use bine_runtime::{Builder, Handle, Hold, Metrics, Runtime, thread};
use lives::{AMPLE, Kind, Program, REPORT};
use random::Random;

/// The size of the stacks on which panic counts are taken off OS threads. These stay, eight more each
/// time that there are not enough.
const STACK_OF_A_PANIC_COUNT: usize = 64 << 10;

/// How many there were, in all programs.
#[derive(Default)]
struct Totals {
    threads: u64,
    from_outside: usize,
    holds: u64,
    spares: usize,
    sleeps: u64,
    steals: u64,
}

/// What the workers of a program's runtime have called.
#[derive(Default)]
struct Calls {
    starts: AtomicUsize,
    stops: AtomicUsize,
}

/// A runtime with callbacks that hold values of the program, and settings for held workers.
fn runtime(
    random: &mut Random,
    program: &Program,
    calls: &Arc<Calls>,
    (workers, migrating): (usize, bool),
) -> Runtime {
    let mut builder = Builder::new().workers(workers).shutdown_timeout(AMPLE);
    if random.below(4) == 0 {
        builder = builder.spare_workers(random.below(3) as usize);
    }
    builder = builder.hold_threshold(Duration::from_millis([0, 1, 10][random.below(3) as usize]));
    let mut life = || program.life(Kind::Value, random.next());
    let (started, stopped, held) = (life(), life(), life());
    let (starts, stops) = (Arc::clone(calls), Arc::clone(calls));
    builder = builder
        .on_worker_start(move |_| {
            let _captured = &started;
            starts.starts.fetch_add(1, Ordering::Relaxed);
        })
        .on_worker_stop(move |_| {
            let _captured = &stopped;
            stops.stops.fetch_add(1, Ordering::Relaxed);
        })
        .on_hold(move |hold: &Hold| {
            let _captured = &held;
            // The identity of the thread may be long gone.
            assert!(!hold.to_string().is_empty());
        });
    lives::in_a_mode(builder, migrating)
}

/// Looks now and then until `condition` holds.
fn await_that(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < AMPLE, "it never comes");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// One program on one runtime.
fn run(seed: u64, workers: usize, migrating: bool, totals: &mut Totals) {
    let random = &mut Random(seed);
    let ends = random.below(2) == 0;
    let program = Program::new(random, ends, false);
    let calls = Arc::default();
    let runtime = runtime(random, &program, &calls, (workers, migrating));
    let handle = runtime.handle();
    let roots: Vec<_> = (0..4).map(|_| program.root(&runtime, random)).collect();
    let outside = &mut Random(random.next());
    let visitor = Visitor::default();
    std::thread::scope(|scope| {
        let visit = scope.spawn(|| visitor.visit(&program, &handle, outside));
        let ends_the_visit = EndsTheVisit(&visitor);
        if ends {
            visitor.quieten();
            await_that(|| handle.metrics().alive == 0);
            // What is not there is not missed.
            await_that(|| handle.metrics().spares_on_duty == 0);
            drop(ends_the_visit);
        } else {
            std::thread::sleep(Duration::from_micros(random.below(3_000)));
        }
        let Metrics { holds, spare_workers, sleeps, steals, .. } = handle.metrics();
        let shutdown = runtime.shutdown_timeout(AMPLE);
        let left = (shutdown.abandoned, shutdown.unstarted, shutdown.settled);
        assert_eq!(left, (0, 0, true), "seed {seed}: {shutdown:?}");
        totals.from_outside += visit.join().unwrap();
        totals.holds += holds;
        totals.spares += spare_workers;
        totals.sleeps += sleeps;
        totals.steals += steals;
    });
    roots.into_iter().for_each(|root| program.outcome(root.join()));
    // Wakers that have outlived their threads.
    program.ring();
    let metrics = handle.metrics();
    assert_eq!(metrics.alive, 0, "seed {seed}: {metrics:?}");
    totals.threads += metrics.spawned;
    drop(handle);
    // The monitor may be in the midst of telling of a hold, and so keep that callback's value.
    let [threads, locals, values] = program.living();
    assert_eq!((threads, locals), (0, 0), "seed {seed}: threads or locals are left");
    assert!(values <= 1, "seed {seed}: {values} values are left");
    await_that(|| program.living() == [0; 3]);
    assert_eq!(calls.starts.load(Ordering::Relaxed), calls.stops.load(Ordering::Relaxed));
    let failures = program.failures();
    assert!(failures.is_empty(), "seed {seed}: {failures:#?}");
}

/// An OS thread that spawns on a program's runtime.
#[derive(Default)]
struct Visitor {
    /// It is to spawn no more, has heard that, and is to go.
    is_enough: AtomicBool,
    has_heard: AtomicBool,
    is_over: AtomicBool,
}

impl Visitor {
    fn visit(&self, program: &Program, runtime: &Handle, random: &mut Random) -> usize {
        let enough = || {
            let enough = self.is_enough.load(Ordering::Relaxed);
            // Release pairs with the Acquire in `quieten`.
            self.has_heard.store(enough, Ordering::Release);
            enough
        };
        program.visit(runtime, random, [&enough, &|| self.is_over.load(Ordering::Relaxed)])
    }

    /// Returns when no thread will come from it any more.
    fn quieten(&self) {
        self.is_enough.store(true, Ordering::Relaxed);
        await_that(|| self.has_heard.load(Ordering::Acquire));
    }
}

/// Also where an assertion fails.
struct EndsTheVisit<'a>(&'a Visitor);

impl Drop for EndsTheVisit<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// A program whose runtime is dropped by one of its own threads, which cannot wait for the others. What
/// has not ended then is left behind, but nobody who joins it waits.
fn run_and_drop_inside(seed: u64, workers: usize, migrating: bool) {
    let random = &mut Random(seed);
    let program = Program::new(random, false, true);
    let calls = Arc::default();
    let runtime = Arc::new(runtime(random, &program, &calls, (workers, migrating)));
    let handle = runtime.handle();
    let roots: Vec<_> = (0..4).map(|_| program.root(&runtime, random)).collect();
    let last = Arc::clone(&runtime);
    let drops = runtime.spawn(move || {
        thread::yield_now();
        drop(last);
    });
    drop(runtime);
    Visitor::default().visit(&program, &handle, random);
    roots.into_iter().for_each(|root| program.outcome(root.join()));
    drop(drops.join());
    program.ring();
    // Some worker may be about to run a thread, and to leave when that blocks.
    await_that(|| calls.starts.load(Ordering::Relaxed) == calls.stops.load(Ordering::Relaxed));
    let failures = program.failures();
    assert!(failures.is_empty(), "seed {seed}: {failures:#?}");
}

/// No stack is in use: what is free is trimmed, and then none has memory but those of panic counts.
fn no_stack_is_left() {
    let stats = stack::stats();
    assert_eq!(stats.lent, stats.promised);
    assert!(stats.lent.is_multiple_of(8), "{} stacks are left", stats.lent);
    let _trimmed = stack::trim();
    for usage in stack::usage().into_iter().flatten() {
        if usage.stack_size != STACK_OF_A_PANIC_COUNT {
            assert_eq!(usage.resident, 0, "a stack is left: {usage:?}");
        }
    }
}

/// The reports of scopes are panics with the hook, and there are thousands of them here.
fn hide_reports() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&REPORT) {
            hook(info);
        }
    }));
}

#[test]
fn nothing_is_left_of_random_programs() {
    hide_reports();
    let (first, programs) = (random::seed(), random::rounds(100));
    let mut totals = Totals::default();
    let kind = |program: u64| ([1, 2, 3, 8][program as usize / 2 % 4], program % 2 == 1);
    for program in 0..programs {
        let (workers, migrating) = kind(program);
        run(first.wrapping_add(program), workers, migrating, &mut totals);
        no_stack_is_left();
    }
    // Last, and few: each leaves stacks and OS threads behind.
    for program in 0..(programs / 4).min(100) {
        let (workers, migrating) = kind(program);
        run_and_drop_inside(first.wrapping_sub(program), workers, migrating);
    }
    let Totals { threads, from_outside, holds, spares, sleeps, steals } = totals;
    println!(
        "{programs} programs, {threads} threads, {from_outside} from outside; {holds} holds, \
         {spares} spares, {sleeps} sleeps, {steals} steals"
    );
}
