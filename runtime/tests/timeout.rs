//! Limits for what waits.

mod modes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bine_arch::coroutine::{Coroutine, CoroutineState};
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::time::{Elapsed, interval, timeout, timeout_at};
use bine_runtime::{blocking, wait};
use modes::runtimes;

/// Soon, and never.
const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Runs `test` on green threads of all kinds of runtimes, and on an OS thread.
fn everywhere(test: fn()) {
    for runtime in runtimes() {
        runtime.spawn(test).join().unwrap();
    }
    std::thread::spawn(test).join().unwrap();
}

/// Counts how often it is dropped.
struct Counts<'a>(&'a AtomicUsize);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_wait_ends_and_destructors_run() {
    let waits: [fn(); 8] = [
        || loop {
            thread::park();
        },
        || loop {
            thread::park_timeout(LONG);
        },
        || thread::sleep(LONG),
        || thread::sleep(Duration::MAX),
        || loop {
            thread::yield_now();
        },
        || loop {
            wait::park();
        },
        || {
            while !wait::is_interrupted() {
                wait::rest();
            }
            wait::interrupt();
        },
        || bine_runtime::block_on(std::future::pending()),
    ];
    for runtime in runtimes() {
        runtime.run(move || waits.into_iter().for_each(ends));
    }
    waits.into_iter().for_each(ends);

    fn ends(wait: fn()) {
        for limit in [SOON, Duration::ZERO] {
            let dropped = AtomicUsize::new(0);
            let ended = timeout(limit, || {
                let _counts = Counts(&dropped);
                wait();
                unreachable!("the wait has no end");
            });
            assert_eq!(ended, Err::<(), _>(Elapsed));
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
        }
        // It is over, and does not come back.
        thread::sleep(SOON * 2);
    }
}

#[test]
fn what_ends_in_time_or_does_not_wait_has_its_value() {
    everywhere(|| {
        assert_eq!(timeout(LONG, || 1), Ok(1));
        assert_eq!(timeout(Duration::MAX, || 2), Ok(2));
        let before = Instant::now();
        let sleeps = || {
            thread::sleep(SOON);
            3
        };
        assert_eq!(timeout(LONG, sleeps), Ok(3));
        assert!(before.elapsed() >= SOON);
        // Late, and does not wait.
        assert_eq!(timeout_at(Instant::now(), || 4), Ok(4));
        // Nothing is borrowed for longer than the call, and nothing has to be Send.
        let mut text = std::rc::Rc::new(String::from("x"));
        timeout(LONG, || std::rc::Rc::make_mut(&mut text).push('y')).unwrap();
        assert_eq!(*text, "xy");
    });
}

#[test]
fn the_inner_or_the_outer_deadline_ends_what_is_its_own() {
    everywhere(|| {
        let forever = || loop {
            wait::park();
        };
        // The inner one.
        let inner = timeout(LONG, || {
            let ended: Result<(), _> = timeout(SOON, forever);
            assert_eq!(ended, Err(Elapsed));
            thread::sleep(SOON);
            5
        });
        assert_eq!(inner, Ok(5));
        // The outer one, through the inner.
        let mut reached = false;
        let outer = timeout(SOON, || {
            let ended: Result<(), _> = timeout(LONG, forever);
            reached = true;
            ended
        });
        assert_eq!(outer, Err(Elapsed));
        assert!(!reached);
        // Both have passed.
        let both = timeout(Duration::ZERO, || timeout(Duration::ZERO, || thread::sleep(SOON)));
        assert_eq!(both, Err(Elapsed));
        // One after the other, ten deep.
        fn deep(levels: u32) -> u32 {
            match levels {
                0 => loop {
                    wait::park();
                },
                _ => timeout(SOON + LONG * (levels - 1), || deep(levels - 1)).unwrap_or(levels),
            }
        }
        assert_eq!(deep(10), 1);
    });
}

#[test]
fn a_panic_and_a_cancellation_go_through() {
    everywhere(|| {
        let caught = catch_unwind(|| timeout(LONG, || std::panic::panic_any(7)));
        assert_eq!(*caught.unwrap_err().downcast::<i32>().unwrap(), 7);
    });
    for runtime in runtimes() {
        let thread = runtime.spawn(|| timeout(LONG, thread::park));
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        // Both at once.
        let thread = runtime.spawn(|| {
            thread::shielded(thread::park);
            timeout(Duration::ZERO, thread::yield_now)
        });
        thread.cancel().unwrap();
        thread.thread().unpark();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
    }
}

#[test]
fn who_catches_it_unwinds_again_and_what_is_shielded_goes_on() {
    everywhere(|| {
        let mut caught = 0;
        let ended = timeout(Duration::ZERO, || {
            for _ in 0..3 {
                let unwound = catch_unwind(|| thread::sleep(SOON));
                caught += i32::from(unwound.is_err());
            }
            thread::shielded(|| {
                thread::sleep(SOON);
                thread::yield_now();
            });
            blocking(|| caught += 10);
            thread::yield_now();
            caught += 100;
        });
        assert_eq!((ended, caught), (Err(Elapsed), 13));
        // A timeout in a shielded section is no less one.
        thread::shielded(|| assert_eq!(timeout(SOON, || thread::sleep(LONG)), Err(Elapsed)));
    });
}

#[test]
fn locks_are_not_poisoned_and_a_later_panic_is_one() {
    struct Looks<'a>(&'a mut Option<bool>);

    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            *self.0 = Some(wait::panicking());
        }
    }

    everywhere(|| {
        let mut panicking = None;
        let ended = timeout(SOON, || {
            let _looks = Looks(&mut panicking);
            thread::sleep(LONG);
        });
        assert_eq!((ended, panicking), (Err(Elapsed), Some(false)));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _looks = Looks(&mut panicking);
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(caught.is_err());
        assert_eq!(panicking, Some(true));
    });
}

#[test]
fn a_destructor_that_waits_while_the_thread_unwinds_is_not_interrupted() {
    struct Sleeps<'a>(&'a AtomicUsize);

    impl Drop for Sleeps<'_> {
        fn drop(&mut self) {
            thread::sleep(SOON);
            let ended = timeout(Duration::ZERO, || thread::sleep(SOON));
            assert_eq!(ended, Ok(()));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    everywhere(|| {
        let slept = AtomicUsize::new(0);
        let ended = timeout(Duration::ZERO, || {
            let _sleeps = Sleeps(&slept);
            thread::yield_now();
        });
        assert_eq!((ended, slept.load(Ordering::Relaxed)), (Err(Elapsed), 1));
    });
}

#[test]
fn a_scope_ends_its_threads_before_it_is_left() {
    everywhere(|| {
        let ended = AtomicUsize::new(0);
        // The owner waits for the scope's end, or for one of its threads, or for something else.
        for waits in 0..3 {
            let result = timeout(SOON, || {
                thread::scope(|scope| {
                    let threads = [(); 5].map(|()| {
                        scope.spawn(|| {
                            let _counts = Counts(&ended);
                            thread::sleep(LONG);
                        })
                    });
                    match waits {
                        0 => {}
                        1 => threads.into_iter().for_each(|thread| drop(thread.join())),
                        _ => thread::sleep(LONG),
                    }
                });
            });
            assert_eq!(result, Err(Elapsed));
            // Those that had not started never will.
            assert!(ended.swap(0, Ordering::Relaxed) <= 5);
        }
        let value = timeout(LONG, || thread::scope(|scope| scope.spawn(|| 8).join().unwrap()));
        assert_eq!(value, Ok(8));
        // A scope that was shielded within goes on, and so does the join of one.
        let shielded = timeout(Duration::ZERO, || {
            thread::shielded(|| {
                thread::scope(|scope| drop(scope.spawn(|| thread::sleep(SOON))));
                9
            })
        });
        assert_eq!(shielded, Ok(9));
    });
}

/// A body that suspends itself within a timeout: the deadline holds on the coroutine only.
#[test]
fn a_coroutine_takes_its_deadline_along() {
    everywhere(|| {
        let mut coroutine = Coroutine::<(), (), _>::new(|yielder, ()| {
            timeout(SOON, || {
                yielder.suspend(());
                thread::sleep(LONG);
            })
        });
        assert_eq!(coroutine.resume(()), CoroutineState::Yielded(()));
        // The deadline passes meanwhile, and is none of this stack's.
        thread::sleep(SOON * 3);
        thread::yield_now();
        assert_eq!(coroutine.resume(()), CoroutineState::Complete(Err(Elapsed)));

        // One that is resumed within a timeout is interrupted with it.
        let mut sleeps = Coroutine::<(), (), _>::new(|_, ()| thread::sleep(LONG));
        assert_eq!(timeout(SOON, || sleeps.resume(())), Err(Elapsed));

        // Dropped while it is suspended.
        let mut dropped = Coroutine::<(), (), _>::new(|yielder, ()| {
            let _ = timeout(LONG, || yielder.suspend(()));
        });
        assert_eq!(dropped.resume(()), CoroutineState::Yielded(()));
        drop(dropped);
        thread::yield_now();
        assert_eq!(timeout(Duration::ZERO, thread::yield_now), Err(Elapsed));
    });
}

#[test]
fn many_at_once_each_with_its_own() {
    for runtime in runtimes() {
        let ended = Arc::new(AtomicUsize::new(0));
        let threads = (0..500_u64).map(|number| {
            let ended = Arc::clone(&ended);
            runtime.spawn(move || {
                for round in 0..4 {
                    let soon = Duration::from_micros((number * 7 + round) % 900);
                    assert_eq!(timeout(soon, || thread::sleep(LONG)), Err(Elapsed));
                    assert_eq!(timeout(LONG, || thread::sleep(soon)), Ok(()));
                }
                ended.fetch_add(1, Ordering::Relaxed);
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(ended.load(Ordering::Relaxed), 500);
    }
}

#[test]
fn a_join_that_took_too_long_leaves_the_thread_as_it_was() {
    for runtime in runtimes() {
        let waits = runtime.spawn(thread::park);
        let unparks = waits.thread().clone();
        assert!(timeout(SOON, || waits.join()).is_err());
        unparks.unpark();
    }
}

#[test]
fn an_interval_keeps_in_step() {
    everywhere(|| {
        let mut beats = interval(Duration::from_micros(300));
        let first = beats.tick();
        for beat in 1..10 {
            let due = beats.tick();
            assert_eq!(due, first + Duration::from_micros(300) * beat);
            assert!(Instant::now() >= due);
        }
        let more: Vec<_> = beats.by_ref().take(3).collect();
        assert_eq!(more[2] - more[0], Duration::from_micros(600));
        // An interrupted wait takes no tick.
        let mut slow = interval(LONG);
        let first = slow.tick();
        assert_eq!(timeout(SOON, || slow.tick()), Err(Elapsed));
        assert_eq!(slow.period(), LONG);
        assert!(slow.clone().next_is_at(first + LONG));
        // One whose ticks are beyond all time waits like any other.
        let mut never = interval(Duration::MAX);
        never.tick();
        assert_eq!(timeout(SOON, || never.tick()), Err(Elapsed));
    });

    trait NextIsAt {
        fn next_is_at(self, at: Instant) -> bool;
    }

    impl NextIsAt for bine_runtime::time::Interval {
        fn next_is_at(self, at: Instant) -> bool {
            // Debug says when the next one is due.
            format!("{self:?}").contains(&format!("{at:?}"))
        }
    }
}
