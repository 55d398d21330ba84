//! Scopes: threads that borrow.

#[path = "../../arch/tests/child/mod.rs"]
#[allow(dead_code, reason = "not every test binary uses all of it")]
mod child;

mod modes;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Abandoned, Builder};
use modes::{runtimes, runtimes_of};

/// Counts those that are alive.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(alive: &'a AtomicUsize) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits in its destructor, and then sets a flag.
struct WaitsAndSets<'a>(&'a AtomicBool);

impl Drop for WaitsAndSets<'_> {
    fn drop(&mut self) {
        thread::yield_now();
        thread::sleep(Duration::from_micros(1));
        self.0.store(true, Ordering::Relaxed);
    }
}

/// On a plain OS thread, and on a green one of each runtime.
fn everywhere(body: fn()) {
    body();
    runtimes().iter().for_each(|runtime| runtime.run(body));
}

/// Waits without a blocking call that could be interrupted. Only for what others bring about.
fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        thread::shielded(thread::yield_now);
    }
}

#[test]
fn the_scope_waits_for_forgotten_and_nested_children() {
    everywhere(|| {
        let ended = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                std::mem::forget(scope.spawn(|| {
                    thread::yield_now();
                    scope.spawn(|| {
                        thread::yield_now();
                        ended.fetch_add(1, Ordering::Relaxed);
                    });
                }));
            }
        });
        assert_eq!(ended.load(Ordering::Relaxed), 10);
    });
}

#[test]
fn scopes_in_scopes_in_scopes() {
    fn nested<'a>(words: &'a [&'a str], depth: usize) -> Vec<&'a str> {
        let Some((first, rest)) = words.split_first() else { return Vec::new() };
        let first = format!("{first}{depth}");
        assert!(!first.is_empty());
        thread::scope(|scope| {
            let rest = scope.spawn(|| nested(rest, depth + 1));
            let mut all = vec![words[0]];
            all.extend(rest.join().unwrap());
            all
        })
    }
    everywhere(|| {
        let words: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(nested(&words, 0), words);
    });
}

#[test]
fn siblings_join_each_other() {
    everywhere(|| {
        let text = String::from("borrowed");
        let joined = thread::scope(|scope| {
            let first = scope.spawn(|| text.as_str());
            let second = scope.spawn(|| first.join().unwrap());
            let third = scope.spawn(move || second.join().unwrap());
            third.join().unwrap()
        });
        assert_eq!(joined, "borrowed");
    });
}

#[test]
fn an_unjoined_panic_is_the_scopes_and_a_joined_one_is_not() {
    for runtime in runtimes() {
        runtime.run(|| {
            thread::scope(|scope| assert!(scope.spawn(|| panic!("joined")).join().is_err()));
            let unjoined = catch_unwind(|| {
                thread::scope(|scope| drop(scope.spawn(|| panic!("unjoined"))));
            });
            assert_eq!(unjoined.unwrap_err().downcast_ref(), Some(&"a scoped thread panicked"));
        });
    }
}

/// A panic of the closure goes before that of a child, and all children go on to their ends.
#[test]
fn a_panic_of_the_closure_waits_for_the_children() {
    everywhere(|| {
        let (panicked, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                for number in 0..4 {
                    let (panicked, ended) = (&panicked, &ended);
                    scope.spawn(move || {
                        until(panicked);
                        thread::yield_now();
                        ended.fetch_add(1, Ordering::Relaxed);
                        if number == 3 {
                            resume_unwind(Box::new("the child's"));
                        }
                    });
                }
                panicked.store(true, Ordering::Release);
                resume_unwind(Box::new("the closure's"));
            });
        }));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"the closure's"));
        assert_eq!(ended.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn a_cancelled_scope_ends_those_that_wait_and_those_that_come() {
    everywhere(|| {
        let (started, cancelled) = (AtomicBool::new(false), AtomicBool::new(false));
        let alive = AtomicUsize::new(0);
        thread::scope(|scope| {
            let parked = scope.spawn(|| {
                let _counted = Counted::new(&alive);
                started.store(true, Ordering::Release);
                loop {
                    thread::park();
                }
            });
            until(&started);
            let spawns = scope.spawn(|| {
                until(&cancelled);
                scope.spawn(thread::park).join()
            });
            // Perhaps not started yet.
            let fresh: Vec<_> = (0..10).map(|_| scope.spawn(thread::park)).collect();
            scope.cancel().unwrap();
            cancelled.store(true, Ordering::Release);
            let late = scope.spawn(thread::park);
            let computes = scope.spawn(thread::cancelled);

            assert!(parked.join().unwrap_err().is::<Cancelled>());
            // Its own join was interrupted, or came so late that it did not wait.
            let error = spawns.join().and_then(|joined| joined).unwrap_err();
            assert!(error.is::<Cancelled>());
            for child in fresh {
                assert!(child.join().unwrap_err().is::<Cancelled>());
            }
            assert!(late.join().unwrap_err().is::<Cancelled>());
            assert!(computes.join().unwrap());
        });
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_cancelled_child_is_the_only_one() {
    everywhere(|| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                thread::cancelled()
            });
            let parked = scope.spawn(thread::park);
            parked.cancel().unwrap();
            assert!(parked.join().unwrap_err().is::<Cancelled>());
            // Nobody joins it, and that is no panic.
            scope.spawn(thread::park).cancel().unwrap();
            done.store(true, Ordering::Release);
            assert!(!waits.join().unwrap());
        });
    });
}

#[test]
fn a_cancelled_owner_cancels_its_children_while_it_waits() {
    for runtime in runtimes() {
        let owner = runtime.spawn(|| {
            thread::scope(|scope| {
                scope.spawn(thread::park);
            });
            thread::yield_now();
        });
        owner.cancel().unwrap();
        assert!(owner.join().unwrap_err().is::<Cancelled>());
    }
}

/// At whatever moment: before the scope, in its closure, in a join there, in the wait.
#[test]
fn a_cancelled_owner_leaves_no_child_behind() {
    for runtime in runtimes() {
        for pauses in 0..40 {
            let alive = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&alive);
            let owner = runtime.spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    thread::scope(|scope| {
                        for _ in 0..3 {
                            let counted = Counted::new(&counts);
                            scope.spawn(move || {
                                let _counted = counted;
                                thread::scope(|inner| drop(inner.spawn(thread::park)));
                                thread::park();
                            });
                            thread::yield_now();
                        }
                        scope.spawn(thread::park).join()
                    })
                }));
                assert_eq!(counts.load(Ordering::Relaxed), 0);
                resume_unwind(ended.unwrap_err());
            });
            for _ in 0..pauses {
                std::hint::spin_loop();
            }
            owner.cancel().unwrap();
            assert!(owner.join().unwrap_err().is::<Cancelled>());
            assert_eq!(alive.load(Ordering::Relaxed), 0);
        }
    }
}

/// In a shielded section, and in a destructor that runs because the thread unwinds, nothing of a
/// cancelled owner's is interrupted: neither are its children there.
#[test]
fn children_of_a_scope_that_is_not_interrupted_are_not_cancelled() {
    fn children_end_by_themselves() {
        let ended = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        thread::yield_now();
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(ended.load(Ordering::Relaxed), 3, "children were cancelled");
    }
    struct CleansUp(Arc<AtomicBool>);
    impl Drop for CleansUp {
        fn drop(&mut self) {
            children_end_by_themselves();
            self.0.store(true, Ordering::Relaxed);
        }
    }
    for runtime in runtimes() {
        let cleaned = Arc::new(AtomicBool::new(false));
        let cleans_up = CleansUp(Arc::clone(&cleaned));
        let started = Arc::new(AtomicBool::new(false));
        let starts = Arc::clone(&started);
        let owner = runtime.spawn(move || {
            let _cleans_up = cleans_up;
            thread::shielded(|| {
                starts.store(true, Ordering::Release);
                while !thread::cancelled() {
                    thread::yield_now();
                }
                children_end_by_themselves();
            });
            thread::park();
        });
        while !started.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        owner.cancel().unwrap();
        assert!(owner.join().unwrap_err().is::<Cancelled>());
        assert!(cleaned.load(Ordering::Relaxed));
    }
}

#[test]
fn the_first_error_cancels_the_siblings() {
    everywhere(|| {
        let result = thread::try_scope(|scope| {
            scope.spawn(|| {
                thread::park();
                Ok(())
            });
            scope.spawn(|| Err::<(), _>("no"));
            Ok(())
        });
        assert_eq!(result, Err("no"));
    });
}

/// An error of a sibling that comes of its cancellation is not the first one, and the closure's own
/// error counts as a child's.
#[test]
fn errors_that_follow_are_dropped() {
    everywhere(|| {
        let result = thread::try_scope(|scope| {
            scope.spawn(|| {
                while !thread::cancelled() {
                    thread::shielded(thread::yield_now);
                }
                Err::<(), _>("stopped")
            });
            scope.spawn(|| Err::<(), _>("the first"));
            Ok(())
        });
        assert_eq!(result, Err("the first"));

        let result: Result<(), _> = thread::try_scope(|scope| {
            let handle = scope.spawn(|| {
                thread::park();
                Ok(())
            });
            assert!(!handle.is_finished());
            Err("the closure's")
        });
        assert_eq!(result, Err("the closure's"));

        let result = thread::try_scope(|scope| {
            let seven = scope.spawn(|| Ok::<_, &str>(7));
            Ok(seven.join().unwrap())
        });
        assert_eq!(result, Ok(Some(7)));
    });
}

/// What counts as a failure of a child: an error and a panic, also one that comes after it was cancelled
/// and has caught that; not the cancellation itself.
#[test]
fn failures_cancel_the_siblings_and_cancellations_do_not() {
    everywhere(|| {
        for panics in [true, false] {
            thread::scope(|scope| {
                let waits = scope.spawn(thread::park);
                let fails = scope.spawn_try(|| {
                    assert!(catch_unwind(thread::park).unwrap_err().is::<Cancelled>());
                    if panics { resume_unwind(Box::new("after all")) } else { Err::<(), _>("no") }
                });
                fails.cancel().unwrap();
                assert_eq!(fails.join().is_err(), panics);
                assert!(waits.join().unwrap_err().is::<Cancelled>());
            });
        }
        thread::scope(|scope| {
            let done = Arc::new(AtomicBool::new(false));
            let waits = {
                let done = Arc::clone(&done);
                scope.spawn(move || {
                    while !done.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                })
            };
            let cancelled = scope.spawn_try(|| {
                thread::park();
                Ok::<_, ()>(())
            });
            cancelled.cancel().unwrap();
            assert!(cancelled.join().unwrap_err().is::<Cancelled>());
            assert_eq!(scope.spawn_try(|| Ok::<_, ()>(7)).join().unwrap(), Ok(7));
            done.store(true, Ordering::Release);
            waits.join().unwrap();
        });
    });
}

/// A result that nobody takes is dropped before the scope ends, wherever, however long that waits,
/// and whoever is cancelled meanwhile.
#[test]
fn results_that_wait_when_they_are_dropped() {
    everywhere(|| {
        for cancels in [false, true] {
            for ends_first in [false, true] {
                let dropped = AtomicBool::new(false);
                let going = AtomicBool::new(ends_first);
                thread::scope(|scope| {
                    let child = scope.spawn(|| {
                        until(&going);
                        WaitsAndSets(&dropped)
                    });
                    while ends_first && !child.is_finished() {
                        thread::yield_now();
                    }
                    if cancels {
                        child.cancel().unwrap();
                    }
                    drop(child);
                    going.store(true, Ordering::Release);
                });
                assert!(dropped.load(Ordering::Relaxed));
            }
        }
    });
}

/// The same with an owner that is cancelled, and drops the handle as it unwinds or in the normal course.
#[test]
fn results_that_a_cancelled_owner_drops() {
    for runtime in runtimes() {
        for unwinds in [false, true] {
            let owner = runtime.spawn(move || {
                let dropped = AtomicBool::new(false);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    thread::scope(|scope| {
                        let child = scope.spawn(|| WaitsAndSets(&dropped));
                        while !thread::cancelled() || !child.is_finished() {
                            thread::shielded(thread::yield_now);
                        }
                        if unwinds {
                            thread::park();
                        }
                        drop(child);
                    });
                }));
                assert!(dropped.load(Ordering::Relaxed));
                assert_eq!(outcome.is_err(), unwinds);
            });
            owner.cancel().unwrap();
            owner.join().unwrap();
        }
    }
}

#[test]
fn a_result_that_panics_when_it_is_dropped_ends_the_process() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    const NAME: &str = "a_result_that_panics_when_it_is_dropped_ends_the_process";
    if child::is_child() {
        bine_runtime::run(|| thread::scope(|scope| drop(scope.spawn(|| Panics))));
        return;
    }
    let child = child::run(NAME, &[]);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(errors.contains("result of a green thread panicked when it was dropped"), "{errors}");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(libc::SIGABRT));
}

#[test]
fn a_runtime_that_is_dropped_ends_its_scopes() {
    for runtime in
        runtimes_of(&Builder::new().shutdown_timeout(Duration::from_secs(60)), &[1, 2, 8])
    {
        let alive = Arc::new(AtomicUsize::new(0));
        let owners: Vec<_> = (0..20)
            .map(|_| {
                let alive = Arc::clone(&alive);
                runtime.spawn(move || {
                    thread::scope(|scope| {
                        for _ in 0..3 {
                            let counted = Counted::new(&alive);
                            scope.spawn(move || {
                                let _counted = counted;
                                thread::park();
                            });
                        }
                    });
                    thread::park();
                })
            })
            .collect();
        drop(runtime);
        for owner in owners {
            assert!(owner.join().unwrap_err().is::<Cancelled>());
        }
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

/// A child that does not end is abandoned with the owner that waits for it; what it borrows stays.
#[test]
fn a_child_that_is_abandoned_goes_on_borrowing() {
    for runtime in runtimes_of(&Builder::new(), &[1, 2, 8]) {
        let alive = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(AtomicBool::new(false));
        let owner = {
            let (alive, started) = (Arc::clone(&alive), Arc::clone(&started));
            runtime.spawn(move || {
                let borrowed = Counted::new(&alive);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let _borrowed = &borrowed;
                        started.store(true, Ordering::Release);
                        thread::shielded(thread::park);
                    });
                });
            })
        };
        while !started.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let shutdown = runtime.shutdown_timeout(Duration::ZERO);
        assert_eq!((shutdown.abandoned, shutdown.ended), (2, 0), "{shutdown:?}");
        assert!(owner.join().unwrap_err().is::<Abandoned>());
        assert_eq!(alive.load(Ordering::Relaxed), 1);
    }
}
