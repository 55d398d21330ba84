//! `Once`, `OnceLock` and `LazyLock` do what std's do.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::crowd::{crowd, panic_deliberately, with_runtimes};
use bine_runtime::thread::{self, Cancelled};
use bine_sync::{LazyLock, Once, OnceLock};

fn panics<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("it panics");
    payload.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned())
}

#[test]
fn a_panic_poisons_a_once_until_one_returns() {
    let (ours, theirs) = (Once::new(), std::sync::Once::new());
    panics(|| ours.call_once(|| resume_unwind(Box::new(()))));
    panics(|| theirs.call_once(|| resume_unwind(Box::new(()))));
    assert!(!ours.is_completed());
    assert_eq!(panics(|| ours.call_once(|| ())), panics(|| theirs.call_once(|| ())));
    assert_eq!(panics(|| ours.wait()), panics(|| theirs.wait()));
    // Stays poisoned if it panics once more.
    panics(|| ours.call_once_force(|_| resume_unwind(Box::new(()))));
    panics(|| ours.call_once(|| ()));
    ours.call_once_force(|state| {
        assert!(state.is_poisoned());
        theirs.call_once_force(|other| assert_eq!(format!("{state:?}"), format!("{other:?}")));
    });
    assert!(ours.is_completed());
    ours.call_once(|| unreachable!("it is done"));
    ours.wait();
    ours.wait_force();
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

#[test]
fn a_panic_leaves_a_once_lock_empty() {
    let cell = OnceLock::new();
    panics(|| cell.get_or_init(|| resume_unwind(Box::new(()))));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.set(1), Ok(()));
    assert_eq!(cell.set(2), Err(2));
    assert_eq!(cell.get_or_init(|| 3), &1);
    assert_eq!(cell.wait(), &1);
}

#[test]
fn a_panic_poisons_a_lazy_lock() {
    let mut ours = LazyLock::new(|| -> u32 { resume_unwind(Box::new(())) });
    let theirs = std::sync::LazyLock::new(|| -> u32 { resume_unwind(Box::new(())) });
    panics(|| *ours);
    panics(|| *theirs);
    assert_eq!(panics(|| *ours), panics(|| *theirs));
    assert_eq!(LazyLock::get(&ours), None);
    assert_eq!(LazyLock::get_mut(&mut ours), None);
    panics(|| *LazyLock::force_mut(&mut ours));
}

#[test]
fn formats_as_std_does() {
    let (ours, theirs) = (OnceLock::new(), std::sync::OnceLock::new());
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{theirs:?} {theirs:#?}"));
    ours.set("text").unwrap();
    theirs.set("text").unwrap();
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{theirs:?} {theirs:#?}"));
    let (ours, theirs) = (LazyLock::new(|| 1), std::sync::LazyLock::new(|| 1));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    assert_eq!(*ours, *theirs);
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

#[test]
fn bounds_and_conversions_are_those_of_std() {
    fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn sent<T: Send>() {}
    fn sent_and_safe<T: Send + UnwindSafe>() {}
    shared::<Once>();
    sent_and_safe::<bine_sync::OnceState>();
    shared::<OnceLock<u32>>();
    sent::<OnceLock<Cell<u32>>>();
    shared::<LazyLock<u32>>();
    // An initialiser need not be `Sync`.
    shared::<LazyLock<u32, Box<dyn FnOnce() -> u32 + Send + UnwindSafe>>>();
    assert_eq!(OnceLock::from(1).clone(), OnceLock::from(1));
    assert_ne!(OnceLock::from(1), OnceLock::default());
    assert_eq!(OnceLock::<u32>::new().clone(), OnceLock::new());
    assert_eq!(*LazyLock::<u32>::default(), 0);
    let mut lazy = LazyLock::new(|| 1);
    *lazy += 1;
    assert_eq!(LazyLock::get(&lazy), Some(&2));
    assert_eq!(LazyLock::get_mut(&mut lazy), Some(&mut 2));
    let mut cell = OnceLock::from(1);
    *cell.get_mut().unwrap() += 1;
    assert_eq!((cell.take(), cell.take()), (Some(2), None));
    assert_eq!((cell.set(5), cell.into_inner()), (Ok(()), Some(5)));
}

/// Values are dropped once, whether they were made or not, and may borrow from what goes with them.
#[test]
fn values_are_dropped_once() {
    struct Counts<'a>(&'a Cell<u32>);
    impl Drop for Counts<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Cell::new(0);
    drop(OnceLock::<Counts<'_>>::new());
    assert_eq!(drops.get(), 0);
    drop(OnceLock::from(Counts(&drops)));
    assert_eq!(drops.get(), 1);
    let owned = Counts(&drops);
    drop(LazyLock::new(move || owned));
    assert_eq!(drops.get(), 2);
    let owned = Counts(&drops);
    let lazy = LazyLock::new(move || owned);
    LazyLock::force(&lazy);
    assert_eq!(drops.get(), 2);
    drop(lazy);
    assert_eq!(drops.get(), 3);

    let cell = OnceLock::new();
    let text = String::from("declared after the cell, dropped before");
    cell.set(&text).unwrap();
}

/// Whoever is cancelled or panics while it makes the value, another one makes it, and all get it.
#[test]
fn a_crowd_makes_a_value_once() {
    const SEED: u64 = 0x0ace;
    with_runtimes(|runtime| {
        for round in 0..10 {
            let once = Arc::new((Once::new(), OnceLock::new()));
            let made = Arc::new(AtomicU64::new(0));
            let (shared, counted) = (Arc::clone(&once), Arc::clone(&made));
            crowd(runtime, SEED + round, 20, move |random| {
                let dice = random.below(64);
                let (once, cell) = &*shared;
                match dice {
                    0..8 => assert!(cell.get().is_none_or(|n| *n == 1), "seed {SEED:#x}"),
                    8..24 => once.call_once_force(|_| {
                        thread::yield_now();
                        if dice < 20 {
                            panic_deliberately();
                        }
                    }),
                    _ => {
                        let value = cell.get_or_init(|| {
                            thread::yield_now();
                            if dice < 56 {
                                panic_deliberately();
                            }
                            counted.fetch_add(1, Ordering::Relaxed) + 1
                        });
                        assert_eq!(*value, 1, "seed {SEED:#x}");
                    }
                }
            });
            once.1.get_or_init(|| made.fetch_add(1, Ordering::Relaxed) + 1);
            assert_eq!(made.load(Ordering::Relaxed), 1, "seed {SEED:#x}");
            once.0.call_once_force(|_| ());
            assert!(once.0.is_completed());
        }
    });
}

#[test]
fn a_cancelled_initialiser_poisons_no_once_and_a_lazy_lock() {
    with_runtimes(|runtime| {
        let once = Arc::new(Once::new());
        let lazy = Arc::new(LazyLock::new(|| {
            thread::park();
            1
        }));
        let (one, another) = (Arc::clone(&once), Arc::clone(&lazy));
        let victims = [
            runtime.spawn(move || one.call_once(thread::park)),
            runtime.spawn(move || assert_eq!(**another, 1)),
        ];
        let waits = {
            let once = Arc::clone(&once);
            // `wait` would panic if the once were poisoned.
            runtime.spawn(move || once.wait())
        };
        for victim in victims {
            victim.cancel().unwrap();
            assert!(victim.join().unwrap_err().is::<Cancelled>());
        }
        once.call_once(|| ());
        waits.join().unwrap();
        // The initialiser may not have run at all. It is used up if it has.
        assert!(LazyLock::get(&lazy).is_none());
    });
}

/// A thread that waits for the one that is cancelled gets its turn.
#[test]
fn one_that_waits_takes_over_from_one_that_is_cancelled() {
    with_runtimes(|runtime| {
        let cell = Arc::new(OnceLock::new());
        let begun = Arc::new(AtomicU64::new(0));
        let victim = {
            let (cell, begun) = (Arc::clone(&cell), Arc::clone(&begun));
            runtime.spawn(move || {
                cell.get_or_init(|| {
                    begun.store(1, Ordering::Relaxed);
                    loop {
                        thread::park();
                    }
                });
            })
        };
        while begun.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let heirs: Vec<_> = (0..4)
            .map(|n| {
                let cell = Arc::clone(&cell);
                runtime.spawn(move || *cell.get_or_init(|| n))
            })
            .collect();
        victim.cancel().unwrap();
        assert!(victim.join().unwrap_err().is::<Cancelled>());
        for heir in heirs {
            assert_eq!(heir.join().unwrap(), *cell.wait());
        }
    });
}
