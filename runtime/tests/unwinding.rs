//! Each green thread has its own panics: those that wait while they unwind are not seen by others.

#[path = "../../arch/tests/random/mod.rs"]
mod random;

mod modes;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bine_runtime::spawn;
use bine_runtime::thread::{self, Cancelled};
use modes::runtimes;
use random::Random;

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Unwinds, without the hook, and runs `f` in a destructor meanwhile.
fn unwind_through(f: impl FnMut()) {
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let _on_drop = OnDrop(f);
        panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(caught.is_err());
}

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        thread::park();
    }
}

/// What is asserted in a destructor that runs because of a panic ends the process: so it is told
/// afterwards.
#[test]
fn a_neighbour_does_not_see_it() {
    for runtime in runtimes() {
        runtime.run(|| {
            let go_on = Arc::new(AtomicBool::new(false));
            let waits = Arc::new(AtomicBool::new(false));
            let unwinds = {
                let (go_on, waits, main) =
                    (Arc::clone(&go_on), Arc::clone(&waits), thread::current());
                spawn(move || {
                    let mut seen = Vec::new();
                    unwind_through(|| {
                        seen.push(thread::panicking());
                        waits.store(true, Ordering::Release);
                        main.unpark();
                        wait_for(&go_on);
                        seen.push(thread::panicking());
                        thread::yield_now();
                        seen.push(thread::panicking());
                    });
                    seen.push(thread::panicking());
                    seen
                })
            };
            wait_for(&waits);
            assert!(!thread::panicking());
            let neighbours: Vec<_> = (0..32).map(|_| spawn(thread::panicking)).collect();
            for neighbour in neighbours {
                assert!(!neighbour.join().unwrap());
            }
            go_on.store(true, Ordering::Release);
            unwinds.thread().unpark();
            assert_eq!(unwinds.join().unwrap(), [true, true, true, false]);
            assert!(!thread::panicking());
        });
    }
}

#[test]
fn locks_are_poisoned_by_those_who_panicked_alone() {
    for runtime in runtimes() {
        runtime.run(|| {
            let unwinding: Vec<_> = (0..8)
                .map(|_| {
                    spawn(|| {
                        let lock = Mutex::new(());
                        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
                            let _held = lock.lock().unwrap();
                            let _waits = OnDrop(|| (0..50).for_each(|_| thread::yield_now()));
                            panic::resume_unwind(Box::new(()));
                        }));
                        assert!(caught.is_err());
                        lock.is_poisoned()
                    })
                })
                .collect();
            let others: Vec<_> = (0..8)
                .map(|_| {
                    spawn(|| {
                        let lock = Mutex::new(());
                        for _ in 0..50 {
                            let held = lock.lock().unwrap();
                            thread::yield_now();
                            drop(held);
                        }
                        lock.is_poisoned()
                    })
                })
                .collect();
            assert!(unwinding.into_iter().all(|thread| thread.join().unwrap()));
            assert!(others.into_iter().all(|thread| !thread.join().unwrap()));
        });
    }
}

#[test]
fn a_panic_within_a_destructor_counts_twice() {
    for runtime in runtimes() {
        runtime.run(|| {
            let nested = || {
                let mut seen = Vec::new();
                unwind_through(|| {
                    unwind_through(|| {
                        thread::yield_now();
                        seen.push(thread::panicking());
                    });
                    // One is caught, the other goes on.
                    thread::yield_now();
                    seen.push(thread::panicking());
                });
                thread::yield_now();
                seen.push(thread::panicking());
                seen
            };
            let nested: Vec<_> = (0..16).map(|_| spawn(nested)).collect();
            let others: Vec<_> = (0..16)
                .map(|_| {
                    spawn(|| {
                        (0..10).any(|_| {
                            thread::yield_now();
                            thread::panicking()
                        })
                    })
                })
                .collect();
            for thread in nested {
                assert_eq!(thread.join().unwrap(), [true, true, false]);
            }
            assert!(others.into_iter().all(|thread| !thread.join().unwrap()));
        });
    }
}

#[test]
fn a_cancelled_thread_that_blocks_in_a_destructor() {
    for runtime in runtimes() {
        runtime.run(|| {
            let (waits, go_on) =
                (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let (told, may, main) = (Arc::clone(&waits), Arc::clone(&go_on), thread::current());
            let cancelled = spawn(move || {
                let _waits = OnDrop(|| {
                    told.store(true, Ordering::Release);
                    main.unpark();
                    wait_for(&may);
                });
                loop {
                    thread::park();
                }
            });
            cancelled.cancel().unwrap();
            wait_for(&waits);
            assert!(!thread::panicking());
            assert!(!spawn(thread::panicking).join().unwrap());
            go_on.store(true, Ordering::Release);
            cancelled.thread().unpark();
            let end: Result<(), _> = cancelled.join();
            assert!(end.unwrap_err().is::<Cancelled>());
        });
    }
}

/// Unwinds to a random depth, and waits in between. How often `panicking` was wrong.
fn wander(random: &mut Random, depth: u32) -> usize {
    let mut wrong = 0;
    for _ in 0..random.below(4) {
        match random.below(3) {
            0 if depth < 4 => {
                let mut inner = 0;
                unwind_through(|| inner += wander(random, depth + 1));
                wrong += inner;
            }
            1 => thread::sleep(std::time::Duration::from_micros(random.below(20))),
            _ => thread::yield_now(),
        }
        wrong += usize::from(thread::panicking() != (depth > 0));
    }
    wrong
}

#[test]
fn random_interleavings() {
    let seed = random::seed();
    for runtime in runtimes() {
        let wrong = runtime.run(move || {
            let threads: Vec<_> = (0..32)
                .map(move |stream: u64| {
                    spawn(move || {
                        let mut random = Random(seed ^ stream);
                        (0..random::rounds(50)).map(|_| wander(&mut random, 0)).sum::<usize>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(wrong, 0);
        // On every worker, with some luck; none has kept a count.
        let after: Vec<_> = (0..64).map(|_| runtime.spawn(thread::panicking)).collect();
        assert!(after.into_iter().all(|thread| !thread.join().unwrap()));
    }
}
