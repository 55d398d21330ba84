//! The barrier does what std's does.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::crowd::with_runtimes;
use crate::random::Random;
use bine_runtime::thread::{self, Cancelled};
use bine_sync::{Barrier, BarrierWaitResult};

#[test]
fn formats_and_bounds_are_those_of_std() {
    fn assert<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    assert::<Barrier>();
    assert::<BarrierWaitResult>();
    let (ours, theirs) = (Barrier::new(1), std::sync::Barrier::new(1));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    assert_eq!(format!("{:?}", ours.wait()), format!("{:?}", theirs.wait()));
    assert!(Barrier::new(0).wait().is_leader());
}

/// Green threads and OS threads meet again and again: nobody is a generation ahead, and each
/// generation has one leader.
#[test]
fn all_meet_in_each_generation() {
    const GREEN: usize = 30;
    const OS: usize = 4;
    const ROUNDS: usize = 100;
    with_runtimes(|runtime| {
        let barrier = Arc::new(Barrier::new(GREEN + OS));
        let arrived = Arc::new(AtomicUsize::new(0));
        let leaders = Arc::new(AtomicUsize::new(0));
        let body = || {
            let (barrier, arrived) = (Arc::clone(&barrier), Arc::clone(&arrived));
            let leaders = Arc::clone(&leaders);
            move || {
                for round in 0..ROUNDS {
                    arrived.fetch_add(1, Ordering::Relaxed);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                    let seen = arrived.load(Ordering::Relaxed);
                    assert!(seen >= (round + 1) * (GREEN + OS), "{seen} in round {round}");
                    assert!(seen < (round + 2) * (GREEN + OS), "{seen} in round {round}");
                }
            }
        };
        let green: Vec<_> = (0..GREEN).map(|_| runtime.spawn(body())).collect();
        let os: Vec<_> = (0..OS).map(|_| std::thread::spawn(body())).collect();
        green.into_iter().for_each(|thread| thread.join().unwrap());
        os.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(leaders.load(Ordering::Relaxed), ROUNDS);
    });
}

/// Those that are cancelled while they wait are not counted, and those that have passed are.
#[test]
fn a_cancelled_thread_has_not_arrived() {
    const SEED: u64 = 0xba44;
    const THREADS: u64 = 16;
    with_runtimes(|runtime| {
        let mut random = Random::new(SEED, 0);
        for _ in 0..20 {
            // As many as are not cancelled, and one that comes last: the barrier opens just then.
            let victims = 1 + random.below(THREADS);
            let barrier = Arc::new(Barrier::new(THREADS as usize + 1));
            let passed = Arc::new(AtomicU64::new(0));
            let spawn = || {
                let (barrier, passed) = (Arc::clone(&barrier), Arc::clone(&passed));
                runtime.spawn(move || {
                    barrier.wait();
                    passed.fetch_add(1, Ordering::Relaxed);
                })
            };
            let cancelled: Vec<_> = (0..victims).map(|_| spawn()).collect();
            let mut waiting: Vec<_> = (0..THREADS - victims).map(|_| spawn()).collect();
            (0..random.below(4)).for_each(|_| std::thread::yield_now());
            cancelled.iter().for_each(|victim| victim.cancel().unwrap());
            for victim in cancelled {
                // One that was cancelled before it ran may not have waited, but did not pass.
                assert!(victim.join().unwrap_err().is::<Cancelled>(), "seed {SEED:#x}");
            }
            assert_eq!(passed.load(Ordering::Relaxed), 0, "seed {SEED:#x}");
            waiting.extend((0..victims).map(|_| spawn()));
            let last = Arc::clone(&barrier);
            let last = runtime.spawn(move || {
                thread::yield_now();
                last.wait();
            });
            last.join().unwrap();
            waiting.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(passed.load(Ordering::Relaxed), THREADS, "seed {SEED:#x}");
        }
    });
}

/// Cancelled at the very moment when the last one comes: it has arrived or not, and the barrier is in
/// order.
#[test]
fn a_cancellation_against_the_last_to_arrive() {
    with_runtimes(|runtime| {
        for _ in 0..100 {
            let barrier = Arc::new(Barrier::new(2));
            let victim = {
                let barrier = Arc::clone(&barrier);
                runtime.spawn(move || barrier.wait().is_leader())
            };
            let other = {
                let barrier = Arc::clone(&barrier);
                runtime.spawn(move || barrier.wait().is_leader())
            };
            victim.cancel().unwrap();
            match victim.join() {
                Ok(led) => assert_ne!(other.join().unwrap(), led),
                Err(error) => {
                    assert!(error.is::<Cancelled>());
                    let substitute = {
                        let barrier = Arc::clone(&barrier);
                        runtime.spawn(move || barrier.wait().is_leader())
                    };
                    // With the victim, if that was counted just before it unwound, or else with the
                    // substitute, who waits in the former case until it is cancelled.
                    other.join().unwrap();
                    substitute.cancel().unwrap();
                    let _ = substitute.join();
                }
            }
            // Nobody is left on the count.
            let meets = {
                let barrier = Arc::clone(&barrier);
                runtime.spawn(move || barrier.wait().is_leader())
            };
            assert_ne!(barrier.wait().is_leader(), meets.join().unwrap());
        }
    });
}
