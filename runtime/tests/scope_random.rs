//! Random programs of scopes: none ends before its children do, and each reports what it must.
//!
//! A program is a tree of scopes. Their closures and children open further scopes, spawn siblings, join
//! handles, pass them to siblings, drop or forget them, panic, fail, and are cancelled: one by one, as a
//! scope, or from the root. Results wait when they are dropped, and threads are refused. Whatever
//! borrows from a scope's owner is counted in the owner's frame: the count must be zero when the scope
//! has returned or unwound.
//!
//! `BINE_TORTURE_SEED` repeats a run, `BINE_TORTURE_ROUNDS` makes it longer.

#[path = "../../arch/tests/random/mod.rs"]
mod random;

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bine_runtime::thread::{self, Cancelled, Scope, ScopedJoinHandle};
use bine_runtime::{Builder, Runtime};
use random::Random;

/// What the scope's owner panics with if a child has.
const REPORT: &str = "a scoped thread panicked";

/// A panic or an error that is meant. Panics of it are raised without the hook.
struct Meant;

/// What all threads of a program share.
#[derive(Clone, Default)]
struct Program(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many threads the program may still spawn.
    left: AtomicUsize,
    scopes: AtomicUsize,
    /// Assertions that failed: a scope would take their panics for meant ones.
    failures: Mutex<Vec<String>>,
}

/// What the children of a scope borrow from its owner's frame.
#[derive(Default)]
struct Frame {
    /// Borrows that have not been dropped.
    borrows: AtomicUsize,
    /// Children that have panicked, less those whose join has said so.
    panics: AtomicUsize,
    /// Whether the scope's closure has.
    closure_panics: AtomicUsize,
    /// Errors of children and of the closure, in a scope for that.
    errors: AtomicUsize,
}

/// A borrow of a frame. What it borrows is gone if the scope ends too early.
struct Borrow<'frame>(&'frame Frame);

/// A child's result; may wait when it is dropped.
struct Product<'frame> {
    _borrow: Borrow<'frame>,
    waits: bool,
}

impl Frame {
    fn borrow(&self) -> Borrow<'_> {
        self.borrows.fetch_add(1, Ordering::Relaxed);
        Borrow(self)
    }

    fn error(&self, random: &mut Random) -> Result<(), Meant> {
        if random.below(4) != 0 {
            return Ok(());
        }
        self.errors.fetch_add(1, Ordering::Relaxed);
        Err(Meant)
    }
}

impl Drop for Borrow<'_> {
    fn drop(&mut self) {
        self.0.borrows.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Product<'_> {
    fn drop(&mut self) {
        if self.waits {
            thread::yield_now();
            thread::sleep(Duration::from_micros(1));
        }
    }
}

/// Runs `f`, and counts in `panics` if it unwinds for another reason than a cancellation.
fn counted<T>(panics: &AtomicUsize, f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        panics.fetch_add(usize::from(!payload.is::<Cancelled>()), Ordering::Relaxed);
        resume_unwind(payload)
    })
}

/// Opens a scope when it is dropped, be it that the thread unwinds.
struct Opens<'a>(&'a Program, u64);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        let opened = catch_unwind(AssertUnwindSafe(|| self.0.scope(&mut Random(self.1), 0)));
        if let Err(payload) = opened {
            self.0.check(is_meant(&*payload), || "a scope in a destructor");
        }
    }
}

impl Program {
    fn check<M: Into<String>>(&self, holds: bool, message: impl FnOnce() -> M) {
        if !holds {
            self.0.failures.lock().unwrap().push(message().into());
        }
    }

    /// Whether one more thread may be spawned.
    fn may_spawn(&self) -> bool {
        let take = |left: usize| left.checked_sub(1);
        self.0.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// A thread's life, beside the siblings that it spawns.
    fn live(&self, random: &mut Random, depth: u32) {
        for _ in 0..random.below(4) {
            match random.below(14) {
                0..=3 if depth > 0 => self.some_scope(random, depth - 1),
                4 if depth > 0 => {
                    let _opens = Opens(self, random.next());
                    self.live(random, depth - 1);
                }
                5 => thread::sleep(Duration::from_micros(random.below(100))),
                6 => thread::park_timeout(Duration::from_micros(random.below(100))),
                7 if depth > 0 => thread::shielded(|| self.some_scope(random, depth - 1)),
                8 if random.below(4) == 0 => resume_unwind(Box::new(Meant)),
                // Until the thread is cancelled. Never shielded.
                9 if random.below(16) == 0 => thread::park(),
                _ => thread::yield_now(),
            }
        }
    }

    fn some_scope(&self, random: &mut Random, depth: u32) {
        if random.below(4) == 0 {
            self.failing_scope(random, depth);
        } else {
            self.scope(random, depth);
        }
    }

    /// A scope; unwinds as that does.
    fn scope(&self, random: &mut Random, depth: u32) {
        let frame = Frame::default();
        self.after(&frame, || {
            thread::scope(|scope| {
                counted(&frame.closure_panics, || {
                    let _borrow = frame.borrow();
                    self.have_children(scope, &frame, random, depth);
                });
            });
        });
    }

    /// As above, with children that may fail.
    fn failing_scope(&self, random: &mut Random, depth: u32) {
        let frame = Frame::default();
        let result = self.after(&frame, || {
            thread::try_scope(|scope| {
                counted(&frame.closure_panics, || {
                    for _ in 0..random.below(4) {
                        if self.may_spawn() {
                            let (borrow, mut theirs) = (frame.borrow(), Random(random.next()));
                            let frame = &frame;
                            let child = scope.spawn(move || {
                                let _borrow = borrow;
                                counted(&frame.panics, || self.live(&mut theirs, depth));
                                frame.error(&mut theirs)
                            });
                            self.part_with(scope.scope(), frame, child, true, random);
                        }
                    }
                    self.have_children(scope.scope(), &frame, random, depth);
                    frame.error(random)
                })
            })
        });
        let errors = frame.errors.load(Ordering::Relaxed);
        self.check(result.is_err() == (errors > 0), || format!("{errors} errors"));
    }

    /// Runs a scope on `frame`, and looks at what is left of it.
    fn after<T>(&self, frame: &Frame, scope: impl FnOnce() -> T) -> T {
        self.0.scopes.fetch_add(1, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(scope));
        let borrows = frame.borrows.load(Ordering::Relaxed);
        self.check(borrows == 0, || format!("the scope ended before {borrows} of its borrows"));
        let panics = frame.panics.load(Ordering::Relaxed);
        match outcome {
            Ok(value) => {
                self.check(panics == 0, || format!("{panics} panics were not reported"));
                value
            }
            Err(payload) => {
                self.check(is_meant(&*payload), || "a scope's panic that was not meant");
                let closure = frame.closure_panics.load(Ordering::Relaxed) > 0;
                let reports = is_report(&*payload) && !closure;
                self.check(!reports || panics > 0, || "a panic of nobody's was reported");
                resume_unwind(payload)
            }
        }
    }

    /// Has children in `scope`, from its closure or from one of them.
    fn have_children<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        frame: &'env Frame,
        random: &mut Random,
        depth: u32,
    ) {
        for _ in 0..random.below(5) {
            if !self.may_spawn() {
                break;
            }
            let (borrow, mut theirs) = (frame.borrow(), Random(random.next()));
            match random.below(10) {
                0 => self.is_refused(scope, borrow, random),
                1 | 2 => {
                    let child = scope.spawn_try(move || {
                        let _borrow = borrow;
                        counted(&frame.panics, || self.live(&mut theirs, depth));
                        if theirs.below(4) == 0 { Err(Meant) } else { Ok(()) }
                    });
                    self.part_with(scope, frame, child, true, random);
                }
                _ => {
                    let child = scope.spawn(move || {
                        let product = Product { _borrow: borrow, waits: theirs.below(2) == 0 };
                        counted(&frame.panics, || {
                            if depth > 0 && theirs.below(2) == 0 {
                                self.have_children(scope, frame, &mut theirs, depth - 1);
                            }
                            self.live(&mut theirs, depth);
                        });
                        product
                    });
                    self.part_with(scope, frame, child, false, random);
                }
            }
            match random.below(24) {
                0 => scope.cancel().unwrap(),
                1 => resume_unwind(Box::new(Meant)),
                2..6 => thread::yield_now(),
                _ => {}
            }
        }
    }

    /// Threads that cannot be made, in either way.
    fn is_refused<'scope, 'env>(
        &self,
        scope: &'scope Scope<'scope, 'env>,
        borrow: Borrow<'env>,
        random: &mut Random,
    ) {
        let builder = thread::Builder::new();
        if random.below(2) == 0 {
            let refused = builder.stack_size(usize::MAX).spawn_scoped(scope, move || drop(borrow));
            self.check(refused.is_err(), || "an endless stack");
        } else {
            let builder = builder.name("\0".to_owned());
            let refused = catch_unwind(AssertUnwindSafe(|| {
                builder.spawn_scoped(scope, move || drop(borrow)).map(drop)
            }));
            self.check(refused.is_err(), || "a name with a NUL");
        }
    }

    /// Joins a child, has a sibling do so, or lets it go; perhaps cancels it before.
    fn part_with<'scope, 'env, T: Send + 'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        frame: &'env Frame,
        child: ScopedJoinHandle<'scope, T>,
        may_leak: bool,
        random: &mut Random,
    ) {
        match random.below(8) {
            0 | 1 => child.cancel().unwrap(),
            2 => child.thread().unpark(),
            3 => thread::yield_now(),
            _ => {}
        }
        match random.below(5) {
            0 | 1 => self.join(frame, child),
            2 => {
                let borrow = frame.borrow();
                scope.spawn(move || {
                    let _borrow = borrow;
                    self.join(frame, child);
                });
            }
            3 if may_leak => std::mem::forget(child),
            _ => drop(child),
        }
    }

    fn join<T>(&self, frame: &Frame, child: ScopedJoinHandle<'_, T>) {
        if let Err(payload) = child.join()
            && !payload.is::<Cancelled>()
        {
            frame.panics.fetch_sub(1, Ordering::Relaxed);
            self.check(is_meant(&*payload), || "a child's panic that was not meant");
        }
    }
}

fn is_report(payload: &(dyn Any + Send)) -> bool {
    payload.downcast_ref() == Some(&REPORT)
}

fn is_meant(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Meant>() || payload.is::<Cancelled>() || is_report(payload)
}

fn runtime(workers: usize, migrating: bool) -> Runtime {
    let builder = Builder::new().workers(workers);
    match migrating {
        // SAFETY: nothing here keeps a borrow of std's thread-locals across a blocking call.
        true => unsafe { builder.migrate() }.build().unwrap(),
        false => builder.build().unwrap(),
    }
}

/// One program on one runtime. How many scopes it had.
fn run(seed: u64, workers: usize, migrating: bool) -> usize {
    let runtime = runtime(workers, migrating);
    let program = Program::default();
    program.0.left.store(300, Ordering::Relaxed);
    let mut random = Random(seed);
    let roots: Vec<_> = (0..4)
        .map(|_| {
            let (program, mut random) = (program.clone(), Random(random.next()));
            runtime.spawn(move || {
                program.some_scope(&mut random, 4);
                program.live(&mut random, 4);
            })
        })
        .collect();
    if random.below(2) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
    }
    roots[0].cancel().unwrap();
    let shutdown = runtime.shutdown_timeout(Duration::from_secs(60));
    assert_eq!(shutdown.abandoned, 0, "seed {seed}: {shutdown:?}");
    for root in roots {
        if let Err(payload) = root.join() {
            assert!(is_meant(&*payload), "seed {seed}: a thread panicked that was not to");
        }
    }
    let failures = std::mem::take(&mut *program.0.failures.lock().unwrap());
    assert!(failures.is_empty(), "seed {seed}: {failures:#?}");
    program.0.scopes.load(Ordering::Relaxed)
}

#[test]
fn no_scope_ends_before_its_children() {
    // The reports of scopes are panics with the hook, and there are thousands of them here.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<&str>().unwrap_or(&"");
        if *text != REPORT && !text.contains("null bytes") {
            hook(info);
        }
    }));
    let (first, programs) = (random::seed(), random::rounds(200));
    let mut scopes = 0;
    for program in 0..programs {
        let workers = [1, 2, 3, 8][program as usize / 2 % 4];
        scopes += run(first.wrapping_add(program), workers, program % 2 == 1);
    }
    println!("{programs} programs, {scopes} scopes");
    assert!(scopes as u64 >= programs, "a program has four scopes at least");
}
