//! What the threads of a random program do, and what is counted of them.

mod wakers;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bine_runtime::thread::{self, Cancelled, JoinHandle, ScopedJoinHandle};
use bine_runtime::{Abandoned, Builder, Handle, Runtime, block_on, blocking};

use self::wakers::{Alarm, Bell, Rings};
use crate::random::Random;

/// What a scope panics with if a child has.
pub(crate) const REPORT: &str = "a scoped thread panicked";
/// No shutdown here takes as long: the bound is there for a bug.
pub(crate) const AMPLE: Duration = Duration::from_secs(60);

/// Something that is counted as long as it lives, and that may wait when it is dropped.
pub(crate) struct Life {
    program: Program,
    kind: Kind,
    manner: u64,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// What a green thread captures.
    Thread,
    /// A value in a thread-local.
    Local,
    /// A result, a payload, or what a callback or a job captures.
    Value,
}

impl Drop for Life {
    fn drop(&mut self) {
        match self.manner % 16 {
            0 => thread::shielded(thread::yield_now),
            1 => thread::shielded(|| thread::sleep(Duration::from_micros(20))),
            2 => thread::shielded(|| thread::park_timeout(Duration::from_micros(20))),
            3 => thread::shielded(|| blocking(|| ())),
            // Not there any more, while the locals are dropped.
            4 => drop(LOCAL.try_with(|_| ())),
            _ => {}
        }
        self.program.0.living[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

bine_runtime::thread_local! {
    static LOCAL: RefCell<Vec<Life>> = const { RefCell::new(Vec::new()) };
    /// The initialiser waits, and may be cancelled.
    static LATE: Cell<Option<Life>> = {
        thread::yield_now();
        Cell::new(None)
    };
}

/// A panic or an error that is meant. Panics of it are raised without the hook.
struct Meant {
    _life: Life,
}

/// What all threads of a program share.
#[derive(Clone)]
pub(crate) struct Program(Arc<Shared>);

struct Shared {
    /// How many there are of each kind.
    living: [AtomicUsize; 3],
    /// How many threads the program may still spawn, how often one may hold a worker, and how many
    /// runtimes there may be inside.
    threads: AtomicUsize,
    holds: AtomicUsize,
    runtimes: AtomicUsize,
    /// All waits end, without a shutdown.
    ends: bool,
    /// The runtime may stop before its threads have ended.
    abandons: bool,
    /// To be rung by somebody outside.
    bells: Mutex<Vec<Arc<Bell>>>,
    /// Assertions that failed: their panics would be taken for results.
    failures: Mutex<Vec<String>>,
}

/// Whether one more may be had.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn micros(random: &mut Random, below: u64) -> Duration {
    Duration::from_micros(random.below(below))
}

impl Program {
    pub(crate) fn new(random: &mut Random, ends: bool, abandons: bool) -> Self {
        let holds = [0, 1, 4, 8][random.below(4) as usize];
        Self(Arc::new(Shared {
            living: Default::default(),
            threads: AtomicUsize::new(300),
            holds: AtomicUsize::new(holds),
            runtimes: AtomicUsize::new(if abandons { 0 } else { random.below(3) as usize }),
            ends,
            abandons,
            bells: Mutex::default(),
            failures: Mutex::default(),
        }))
    }

    pub(crate) fn life(&self, kind: Kind, manner: u64) -> Life {
        self.0.living[kind as usize].fetch_add(1, Ordering::Relaxed);
        Life { program: self.clone(), kind, manner }
    }

    /// How many threads, locals and values have not been dropped.
    pub(crate) fn living(&self) -> [usize; 3] {
        self.0.living.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.failures.lock().unwrap())
    }

    fn check(&self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0.failures.lock().unwrap().push(message());
        }
    }

    fn panic(&self, random: &mut Random) -> ! {
        resume_unwind(Box::new(Meant { _life: self.life(Kind::Value, random.next()) }))
    }

    /// Wakes those who wait for somebody outside.
    pub(crate) fn ring(&self) {
        let bells = std::mem::take(&mut *self.0.bells.lock().unwrap());
        bells.iter().for_each(|bell| bell.ring());
    }

    /// Spawns a thread of the program on `runtime`, or on the caller's.
    fn spawn(
        &self,
        on: Option<&Handle>,
        random: &mut Random,
        depth: u32,
    ) -> std::io::Result<JoinHandle<Life>> {
        let (program, seed) = (self.clone(), random.next());
        let life = self.life(Kind::Thread, random.next());
        let body = move || {
            let _life = life;
            program.live(&mut Random(seed), depth)
        };
        let mut builder = thread::Builder::new().pinned(random.below(4) == 0);
        if random.below(8) == 0 {
            builder = builder.name(String::from("one with a name")).stack_size(512 << 10);
        }
        match on {
            Some(handle) => builder.spawn_on(handle, body),
            None => builder.spawn(body),
        }
    }

    pub(crate) fn root(&self, runtime: &Runtime, random: &mut Random) -> JoinHandle<Life> {
        self.spawn(Some(&runtime.handle()), random, 5).expect("nobody shuts it down")
    }

    /// A thread's result. A thread that has ended in another way than it may is a failure.
    pub(crate) fn outcome<T>(&self, result: std::thread::Result<T>) {
        if let Err(payload) = result {
            self.check(self.is_meant(&*payload), || "a panic that was not meant".into());
        }
    }

    fn is_meant(&self, payload: &(dyn Any + Send)) -> bool {
        let abandoned = self.0.abandons && payload.is::<Abandoned>();
        payload.is::<Meant>() || payload.is::<Cancelled>() || is_report(payload) || abandoned
    }

    /// The life of a thread, and its result.
    fn live(&self, random: &mut Random, depth: u32) -> Life {
        let mut children = Vec::new();
        for _ in 0..random.below(8) {
            match random.below(16) {
                0..=4 if depth > 0 => self.have_a_child(random, depth - 1, &mut children),
                5 if depth > 0 => self.open_a_scope(random, depth - 1),
                6 if depth > 0 => self.try_a_scope(random, depth - 1),
                7 if depth > 0 => self.open_a_runtime(random, depth - 1),
                8 | 9 => self.wait_for_others(random),
                10 => self.change_its_locals(random),
                _ => self.wait(random),
            }
        }
        for child in children {
            if random.below(3) == 0 {
                self.outcome(child.join());
            }
        }
        self.life(Kind::Value, random.next())
    }

    fn wait(&self, random: &mut Random) {
        match random.below(12) {
            0..=2 => thread::yield_now(),
            3 => thread::sleep(micros(random, 200)),
            4 => thread::sleep_until(Instant::now() + micros(random, 200)),
            5 => thread::park_timeout(micros(random, 200)),
            6 => thread::shielded(thread::yield_now),
            7 => self.catch_a_panic(random),
            8 => self.hold_a_worker(random),
            9 if random.below(6) == 0 => self.panic(random),
            10 if random.below(6) == 0 && !self.0.ends => thread::park(),
            _ => {}
        }
    }

    /// Waits for the pool, or for a waker.
    fn wait_for_others(&self, random: &mut Random) {
        match random.below(4) {
            0 => {
                let (life, panics) = (self.life(Kind::Value, random.next()), random.below(3) == 0);
                let seed = random.next();
                let called = catch_unwind(AssertUnwindSafe(|| {
                    blocking(|| {
                        let random = &mut Random(seed);
                        std::thread::sleep(micros(random, 50));
                        if panics { self.panic(random) } else { life }
                    })
                }));
                self.check(called.is_err() == panics, || "what the pool did is not known".into());
            }
            1 => {
                let bell = Bell::new();
                // Also where it is cancelled.
                let rings = Rings(Arc::clone(&bell));
                thread::spawn(move || {
                    let _rings = rings;
                    thread::yield_now();
                });
                block_on(bell.rung());
            }
            _ => {
                let bell = Bell::new();
                self.0.bells.lock().unwrap().push(Arc::clone(&bell));
                block_on(bell.rung());
            }
        }
    }

    fn change_its_locals(&self, random: &mut Random) {
        let life = self.life(Kind::Local, random.next());
        match random.below(4) {
            0 => LATE.set(Some(life)),
            1 => {
                let earlier = LATE.take();
                LATE.with(|late| {
                    thread::yield_now();
                    late.set(Some(life));
                });
                drop(earlier);
            }
            _ => LOCAL.with_borrow_mut(|lives| lives.push(life)),
        }
    }

    /// A panic inside of which the thread blocks.
    fn catch_a_panic(&self, random: &mut Random) {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _waits = self.life(Kind::Value, random.below(4));
            self.panic(random);
        }));
        self.check(caught.is_err_and(|payload| payload.is::<Meant>()), || "another panic".into());
    }

    /// Does not come back to the scheduler for up to 5 ms.
    fn hold_a_worker(&self, random: &mut Random) {
        if !take(&self.0.holds) {
            return;
        }
        let length = micros(random, 5_000);
        if random.below(2) == 0 {
            return std::thread::sleep(length);
        }
        let end = Instant::now() + length;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }

    /// Spawns a child, and detaches, joins, awaits, cancels or wakes it.
    fn have_a_child(&self, random: &mut Random, depth: u32, children: &mut Vec<JoinHandle<Life>>) {
        if !take(&self.0.threads) {
            return;
        }
        let mut child = self.spawn(None, random, depth).expect("there are stacks");
        for _ in 0..random.below(3) {
            let alarm = Alarm::new(self, random.next(), children.pop());
            if let Some(result) = alarm.poll(&mut child) {
                return self.outcome(result);
            }
            if random.below(2) == 0 {
                thread::yield_now();
            }
        }
        match random.below(10) {
            0 => drop(child),
            1 => blocking(|| drop(child)),
            2 => children.push(child),
            3 => {
                child.cancel().expect("panics unwind here");
                children.push(child);
            }
            4 => {
                child.cancel().expect("panics unwind here");
                self.outcome(child.join());
            }
            5 => {
                child.thread().unpark();
                thread::yield_now();
                child.cancel().expect("panics unwind here");
                self.outcome(block_on(child));
            }
            6 => self.outcome(block_on(child)),
            7 => {
                // Whoever parks for good is woken now and then, or the shutdown does it.
                let waker = child.thread().clone();
                thread::spawn(move || waker.unpark());
                self.outcome(child.join());
            }
            _ => {
                child.thread().unpark();
                self.outcome(child.join());
            }
        }
    }

    /// Children that borrow from this frame, in a scope that may be cancelled.
    fn open_a_scope(&self, random: &mut Random, depth: u32) {
        let life = self.life(Kind::Value, random.next());
        let (spawned, seen) = (Cell::new(0), AtomicUsize::new(0));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                let mut children = Vec::new();
                while random.below(3) > 0 && take(&self.0.threads) {
                    let (seed, seen, life) = (random.next(), &seen, &life);
                    spawned.set(spawned.get() + 1);
                    children.push(scope.spawn(move || {
                        seen.fetch_add(1, Ordering::Relaxed);
                        life.program.live(&mut Random(seed), depth)
                    }));
                }
                if random.below(3) == 0 {
                    scope.cancel().expect("panics unwind here");
                }
                children.into_iter().for_each(|child| self.part_with(random, child));
            });
        }));
        let (spawned, seen) = (spawned.get(), seen.load(Ordering::Relaxed));
        self.check(seen == spawned, || format!("a scope ended before {} of {spawned}", seen));
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
    }

    fn part_with(&self, random: &mut Random, child: ScopedJoinHandle<'_, Life>) {
        match random.below(5) {
            0 => child.cancel().expect("panics unwind here"),
            1 => self.outcome(child.join()),
            2 => blocking(|| drop(child)),
            3 => child.thread().unpark(),
            _ => {}
        }
    }

    /// Children that may fail; one that does cancels the others.
    fn try_a_scope(&self, random: &mut Random, depth: u32) {
        let failures = AtomicUsize::new(0);
        let fail = |random: &mut Random| {
            failures.fetch_add(1, Ordering::Relaxed);
            Err::<Life, _>(Meant { _life: self.life(Kind::Value, random.next()) })
        };
        let result = thread::try_scope(|scope| {
            while random.below(3) > 0 && take(&self.0.threads) {
                let (seed, fail) = (random.next(), &fail);
                let child = scope.spawn(move || {
                    let random = &mut Random(seed);
                    let life = self.live(random, depth);
                    if random.below(3) == 0 { fail(random) } else { Ok(life) }
                });
                if random.below(3) == 0 {
                    self.outcome(child.join());
                }
            }
            if random.below(6) == 0 { fail(random) } else { Ok(self.life(Kind::Value, 0)) }
        });
        let failures = failures.load(Ordering::Relaxed);
        self.check(result.is_err() == (failures > 0), || format!("{failures} errors, or none"));
    }

    /// A runtime that is dropped on a thread of this one.
    fn open_a_runtime(&self, random: &mut Random, depth: u32) {
        if !take(&self.0.runtimes) {
            return;
        }
        let builder = Builder::new().workers(1 + random.below(2) as usize).shutdown_timeout(AMPLE);
        let runtime = in_a_mode(builder, random.below(2) == 0);
        let handle = runtime.handle();
        let spawned: Vec<_> =
            (0..=random.below(2)).map(|_| self.spawn(Some(&handle), random, depth)).collect();
        let mut children: Vec<_> =
            spawned.into_iter().map(|child| child.expect("nobody shuts it down")).collect();
        match random.below(3) {
            // Where this one is cancelled, the unwinding drops the runtime.
            0 => children.pop().into_iter().for_each(|child| self.outcome(child.join())),
            1 => thread::yield_now(),
            _ => {}
        }
        if random.below(2) == 0 {
            drop(runtime);
        } else {
            let shutdown = runtime.shutdown_timeout(AMPLE);
            let all = shutdown.abandoned + shutdown.unstarted == 0 && shutdown.settled;
            self.check(all, || format!("of a runtime inside: {shutdown:?}"));
        }
        self.check(handle.metrics().alive == 0, || format!("inside: {:?}", handle.metrics()));
        children.into_iter().for_each(|child| self.outcome(child.join()));
    }

    /// On an OS thread: spawns on the runtime until `enough`, or until that is shut down, and rings bells
    /// until `over`, or the same. How many threads it spawned.
    pub(crate) fn visit(
        &self,
        runtime: &Handle,
        random: &mut Random,
        [enough, over]: [&dyn Fn() -> bool; 2],
    ) -> usize {
        let mut children = Vec::new();
        let mut spawned = 0;
        while !over() {
            self.ring();
            std::thread::sleep(micros(random, 200));
            if enough() {
                continue;
            }
            let child = match take(&self.0.threads) {
                true => self.spawn(Some(runtime), random, 3),
                false => self.spawn(Some(runtime), random, 0),
            };
            // What is refused is dropped.
            let Ok(child) = child else { break };
            spawned += 1;
            match random.below(4) {
                0 => drop(child),
                1 => {
                    child.cancel().expect("panics unwind here");
                    children.push(child);
                }
                2 => child.thread().unpark(),
                _ => children.push(child),
            }
        }
        children.into_iter().for_each(|child| self.outcome(child.join()));
        spawned
    }
}

fn is_report(payload: &(dyn Any + Send)) -> bool {
    payload.downcast_ref() == Some(&REPORT)
}

pub(crate) fn in_a_mode(builder: Builder, migrating: bool) -> Runtime {
    match migrating {
        // SAFETY: nothing here keeps a borrow of std's thread-locals across a blocking call.
        true => unsafe { builder.migrate() }.build().unwrap(),
        false => builder.build().unwrap(),
    }
}
