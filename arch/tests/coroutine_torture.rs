//! Coroutines that wander at random: into recursions, nested coroutines and other stacks, out of
//! them by returns and by panics, and dropped wherever they are. Every value that lived on a stack is
//! accounted for in the end.
//!
//! `BINE_TORTURE_SEED` repeats a run, `BINE_TORTURE_ROUNDS` sets its length.

mod random;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bine_arch::coroutine::{self, Coroutine, CoroutineState, OwnedStack, SendCoroutine, Yielder};
use random::{Random, rounds, seed};

/// How many of the values below are alive.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The tests count the same things: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A value on a coroutine's stack, which finds out whether it is dropped once and unchanged.
struct Canary {
    word: u64,
    boxed: Box<u64>,
}

impl Canary {
    fn new(word: u64) -> Self {
        // A count, read after all threads have been joined: Relaxed.
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self { word, boxed: Box::new(!word) }
    }

    fn check(&self) {
        assert_eq!(self.word, !*self.boxed, "a value on a stack has changed");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.check();
        *self.boxed = 0;
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The payload of the panics here: they do not reach the hook.
struct OnPurpose(#[expect(dead_code, reason = "it is dropped, which is what matters")] Canary);

fn panic_on_purpose(word: u64) -> ! {
    panic::resume_unwind(Box::new(OnPurpose(Canary::new(word))))
}

type Body = Coroutine<u64, u64, Canary>;

fn wanderer(seed: u64) -> Body {
    let canary = Canary::new(seed);
    Coroutine::new(move |yielder, first| {
        canary.check();
        wander(&mut Random(seed ^ first), yielder, 0, 0);
        Canary::new(seed)
    })
}

/// Takes some steps at random, at this depth of calls and of stacks.
fn wander(random: &mut Random, yielder: &Yielder<u64, u64>, depth: u32, stacks: u32) {
    let canary = Canary::new(random.next());
    for _ in 0..random.below(6) {
        canary.check();
        match random.below(10) {
            0..4 => {
                let word = random.next();
                assert_eq!(yielder.suspend(word), word ^ 1, "what came in is not the answer");
            }
            4 | 5 if depth < 12 => wander(random, yielder, depth + 1, stacks),
            6 if depth < 12 => {
                let deeper = AssertUnwindSafe(|| wander(random, yielder, depth + 1, stacks));
                if let Err(payload) = panic::catch_unwind(deeper) {
                    // An unwinding that is not ours must go on.
                    if !payload.is::<OnPurpose>() {
                        panic::resume_unwind(payload);
                    }
                }
            }
            7 if stacks < 3 => resume_another(random, yielder, stacks),
            8 if stacks < 3 => {
                let elsewhere = || wander(random, yielder, depth, stacks + 1);
                coroutine::on_stack(64 << 10, elsewhere).expect("there is a stack");
            }
            9 if random.below(4) == 0 => panic_on_purpose(random.next()),
            _ => {}
        }
    }
}

/// Makes a coroutine that borrows, resumes it for a while, and leaves it wherever it is.
fn resume_another(random: &mut Random, yielder: &Yielder<u64, u64>, stacks: u32) {
    let canary = Canary::new(random.next());
    let seed = random.next();
    coroutine::scope(|scope| {
        let mut other = scope.coroutine(|inner: &Yielder<u64, u64>, _| {
            canary.check();
            let mut random = Random(seed);
            // At times it suspends its own coroutine, at times the one around it.
            let both = [inner, yielder];
            wander(&mut random, both[(seed % 2) as usize], 0, stacks + 1);
        });
        let mut word = 0;
        for _ in 0..random.below(5) {
            match other.resume(word ^ 1) {
                CoroutineState::Yielded(next) => word = next,
                CoroutineState::Complete(()) => break,
            }
        }
        if random.below(3) == 0 {
            // Its stack is lost, but it is unwound all the same.
            if random.below(10) == 0 {
                std::mem::forget(other);
            }
        }
    });
}

/// What a coroutine is to be given next: the answer to what it gave.
struct Walk<C> {
    coroutine: C,
    next: u64,
}

/// One step: false when the coroutine has ended.
fn step<C>(
    walk: &mut Walk<C>,
    resume: impl FnOnce(&mut C, u64) -> CoroutineState<u64, Canary>,
) -> bool {
    let next = walk.next;
    let coroutine = &mut walk.coroutine;
    match panic::catch_unwind(AssertUnwindSafe(|| resume(coroutine, next))) {
        Ok(CoroutineState::Yielded(word)) => {
            walk.next = word ^ 1;
            true
        }
        Ok(CoroutineState::Complete(canary)) => {
            canary.check();
            false
        }
        Err(payload) if payload.is::<OnPurpose>() => false,
        Err(payload) => panic::resume_unwind(payload),
    }
}

#[test]
fn random_walks_leave_nothing_behind() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut random = Random(seed());
    let mut walks: Vec<Walk<Body>> = Vec::new();
    for _ in 0..rounds(100_000) {
        if walks.len() < 40 {
            walks.push(Walk { coroutine: wanderer(random.next()), next: random.next() });
        }
        let index = random.below(walks.len() as u64) as usize;
        let goes_on = step(&mut walks[index], |coroutine, word| coroutine.resume(word));
        if !goes_on || random.below(30) == 0 {
            walks.swap_remove(index);
        }
    }
    drop(walks);
    assert_eq!(LIVE.load(Ordering::Relaxed), 0);
    assert!(!thread::panicking());
}

#[test]
fn random_walks_move_between_os_threads() {
    type Mover = SendCoroutine<u64, u64, Canary, OwnedStack>;
    let _alone = ONE_AT_A_TIME.lock();
    let seed = seed();
    let rounds = rounds(100_000) / 4;
    let market: Mutex<Vec<Walk<Mover>>> = Mutex::default();
    thread::scope(|scope| {
        for number in 0..4 {
            let market = &market;
            scope.spawn(move || {
                let mut random = Random(seed ^ number);
                for _ in 0..rounds {
                    let taken = {
                        let mut market = market.lock().unwrap();
                        let count = market.len() as u64;
                        (count > 20).then(|| market.swap_remove(random.below(count) as usize))
                    };
                    let mut walk = taken.unwrap_or_else(|| Walk {
                        // SAFETY: what its stack holds is `Send`, and none of it is bound to an OS
                        // thread.
                        coroutine: unsafe { wanderer(random.next()).assert_send() },
                        next: random.next(),
                    });
                    let mut goes_on = true;
                    for _ in 0..=random.below(3) {
                        goes_on = goes_on && step(&mut walk, SendCoroutine::resume);
                    }
                    if goes_on && random.below(30) != 0 {
                        market.lock().unwrap().push(walk);
                    }
                }
                assert!(!thread::panicking());
            });
        }
    });
    drop(market);
    assert_eq!(LIVE.load(Ordering::Relaxed), 0);
}
