//! Many green threads and OS threads at one object: some are cancelled, some panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Builder, Runtime};

use crate::random::Random;

const GREEN: u64 = 64;
const OS: u64 = 8;

/// The payload of a panic that belongs to a test.
struct Deliberate;

/// Panics without a message; whoever runs the crowd's acts catches it.
#[allow(dead_code, reason = "not every test binary uses it")]
pub(crate) fn panic_deliberately() -> ! {
    resume_unwind(Box::new(Deliberate))
}

/// Calls `f` with runtimes of both modes with 1, 2 and 8 workers, which are empty afterwards.
pub(crate) fn with_runtimes(f: impl Fn(&Runtime)) {
    for workers in [1, 2, 8] {
        // SAFETY: no test that uses this keeps a thread-local borrow across a blocking call.
        let migrating = unsafe { Builder::new().workers(workers).migrate() };
        for builder in [Builder::new().workers(workers), migrating] {
            let runtime = builder.build().unwrap();
            f(&runtime);
            assert_eq!(runtime.metrics().alive, 0, "{runtime:?}");
        }
    }
}

/// Has 64 green threads of `runtime` and 8 OS threads do `act` `rounds` times each, while about half
/// of the green ones are cancelled at random moments. Returns when all have ended.
#[allow(dead_code, reason = "not every test binary uses it")]
pub(crate) fn crowd(
    runtime: &Runtime,
    seed: u64,
    rounds: u64,
    act: impl Fn(&mut Random) + Send + Sync + 'static,
) {
    let act = Arc::new(act);
    let body = |stream: u64| {
        let act = Arc::clone(&act);
        move || {
            let mut random = Random::new(seed, stream);
            for _ in 0..rounds {
                let outcome = catch_unwind(AssertUnwindSafe(|| act(&mut random)));
                if let Err(payload) = outcome
                    && !payload.is::<Deliberate>()
                {
                    resume_unwind(payload);
                }
            }
        }
    };
    let os: Vec<_> = (0..OS).map(|n| std::thread::spawn(body(GREEN + n))).collect();
    let mut green: Vec<_> = (0..GREEN).map(|n| runtime.spawn(body(n))).collect();
    runtime.run(move || {
        let mut random = Random::new(seed, 1000);
        let mut cancelled = Vec::new();
        for _ in 0..GREEN / 2 {
            let at = random.below(green.len() as u64) as usize;
            let thread = green.swap_remove(at);
            thread.cancel().unwrap();
            cancelled.push(thread);
            (0..random.below(8)).for_each(|_| thread::yield_now());
        }
        for thread in cancelled {
            if let Err(payload) = thread.join() {
                assert!(payload.is::<Cancelled>(), "a thread panicked, seed {seed:#x}");
            }
        }
        for thread in green {
            assert!(thread.join().is_ok(), "a thread panicked, seed {seed:#x}");
        }
    });
    for thread in os {
        assert!(thread.join().is_ok(), "an OS thread panicked, seed {seed:#x}");
    }
}
