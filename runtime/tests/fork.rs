//! Forked children: what would hang there says so, and the rest works. Each test has a process of
//! its own.
// The thread sanitizer does not follow a child of a process with several threads.
#![cfg(not(bine_sanitize = "thread"))]

#[path = "../../arch/tests/child/mod.rs"]
mod child;
mod forked;
mod modes;

use std::future::pending;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use bine_runtime::thread::{self, JoinHandle};
use bine_runtime::{Builder, Handle, Hold, Runtime, block_on, blocking, wait};
use forked::{fork, panics};
use modes::runtimes_of;

/// Runs `test` in a process of its own, once for each runtime.
fn in_a_process(name: &str, test: impl Fn(Runtime)) {
    if std::env::var_os("BINE_TEST_RUNNER").is_some() {
        // qemu itself fails an assertion in the child.
        eprintln!("skipped: an emulator does not fork a process with several threads");
        return;
    }
    if !child::is_child() {
        // A backtrace of each panic in a child would take seconds under a sanitizer.
        return child::run_to_success(name, &[("RUST_BACKTRACE", "0")]);
    }
    for runtime in runtimes_of(&Builder::new(), &[1, 2, 8]) {
        test(runtime);
    }
}

fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| {
        error.kind() == io::ErrorKind::Unsupported && error.to_string().contains("forked")
    })
}

/// A thread that waits when this returns, or is about to.
fn waiting(runtime: &Runtime) -> JoinHandle<()> {
    let (tell, told) = mpsc::channel();
    let waits = runtime.spawn(move || {
        tell.send(()).unwrap();
        thread::park();
    });
    told.recv().unwrap();
    waits
}

#[test]
fn the_parents_runtime_is_of_no_use_to_an_os_thread() {
    in_a_process("the_parents_runtime_is_of_no_use_to_an_os_thread", |runtime| {
        let (waits, awaited) = (waiting(&runtime), waiting(&runtime));
        let ended = runtime.spawn(|| 3);
        while !ended.is_finished() {
            std::thread::yield_now();
        }
        let handle = runtime.handle();
        bine_runtime::run(|| ());
        fork(|| {
            assert!(is_refused(thread::Builder::new().spawn_on(&runtime, || ())));
            assert!(is_refused(thread::Builder::new().spawn_on(&handle, || ())));
            assert!(is_refused(thread::Builder::new().spawn(|| ())));
            assert!(panics(|| handle.spawn(|| ())));
            assert!(panics(|| bine_runtime::run(|| ())));
            assert!(panics(|| thread::scope(|scope| scope.spawn(|| ()).join())));
            assert_eq!(ended.join().unwrap(), 3);
            waits.thread().unpark();
            waits.cancel().unwrap();
            assert!(panics(|| waits.join()));
            assert!(panics(|| block_on(awaited)));
            assert!(panics(|| block_on(pending::<()>())));
            assert_eq!(blocking(|| 4), 4);
            assert_eq!(handle.metrics().workers, runtime.metrics().workers);
            drop(handle);
            !runtime.shutdown_timeout(Duration::from_secs(100)).settled
        })
        .well();
    });
}

#[test]
fn a_runtime_of_the_childs_own_works() {
    in_a_process("a_runtime_of_the_childs_own_works", |runtime| {
        let parents = waiting(&runtime);
        fork(|| {
            for own in runtimes_of(&Builder::new(), &[1, 2]) {
                let handle = own.handle();
                let sum = own.run(|| {
                    thread::sleep(Duration::from_millis(1));
                    let threads: Vec<_> =
                        (0..100).map(|n| bine_runtime::spawn(move || n)).collect();
                    thread::yield_now();
                    threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
                });
                assert_eq!(sum, 4950);
                assert_eq!(block_on(own.spawn(|| 5)).unwrap(), 5);
                // Longer than an OS thread looks around in a child.
                let late = own.spawn(|| thread::sleep(Duration::from_millis(120)));
                late.join().unwrap();
                assert_eq!(own.run(|| blocking(|| 6)), 6);
                own.spawn(thread::park);
                assert!(own.shutdown_timeout(Duration::from_secs(20)).settled);
                assert!(thread::Builder::new().spawn_on(&handle, || ()).is_err());
            }
            // The parent's thread does not end, whoever else is there.
            let _own = Builder::new().workers(1).build().unwrap();
            panics(|| parents.join())
        })
        .well();
    });
}

/// The locks that a look at a stack takes are free in the child.
#[test]
fn a_runtime_of_the_childs_own_works_while_stacks_are_looked_at() {
    if !child::is_child() {
        child::run_to_success("a_runtime_of_the_childs_own_works", &[("BINE_CHECK_TLS", "1")]);
    }
}

/// An OS thread that is woken by another one of the child's is not alone, and one that was woken before
/// that ended was not in vain.
#[test]
fn os_threads_of_the_child_wake_each_other() {
    in_a_process("os_threads_of_the_child_wake_each_other", |_runtime| {
        fork(|| {
            for round in 0..20 {
                let woken = Arc::new(AtomicBool::new(false));
                let (wakes, waiter) = (Arc::clone(&woken), wait::Unparker::current());
                let other = std::thread::spawn(move || {
                    if round % 10 == 0 {
                        std::thread::sleep(Duration::from_millis(120));
                    }
                    wakes.store(true, Ordering::Release);
                    waiter.unpark();
                });
                while !woken.load(Ordering::Acquire) {
                    wait::park();
                }
                other.join().unwrap();
            }
            true
        })
        .well();
    });
}

/// Several green threads are runnable, some of them fresh, where the one forks.
#[test]
fn nothing_but_the_green_thread_that_forked_runs() {
    in_a_process("nothing_but_the_green_thread_that_forked_runs", |runtime| {
        runtime.run(|| {
            let (runs, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
            let neighbour = || {
                let (runs, stop) = (Arc::clone(&runs), Arc::clone(&stop));
                bine_runtime::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        runs.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                    }
                })
            };
            let neighbours: Vec<_> = (0..20).map(|_| neighbour()).collect();
            while runs.load(Ordering::Relaxed) < 100 {
                thread::yield_now();
            }
            let fresh: Vec<_> = (0..5).map(|_| neighbour()).collect();
            fork(|| {
                let before = runs.load(Ordering::Relaxed);
                for _ in 0..1000 {
                    thread::yield_now();
                    wait::checkpoint();
                }
                assert!(panics(thread::park));
                runs.load(Ordering::Relaxed) == before
            })
            .well();
            // The parent's go on.
            let before = runs.load(Ordering::Relaxed);
            while runs.load(Ordering::Relaxed) < before + 100 {
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            neighbours.into_iter().chain(fresh).for_each(|thread| thread.join().unwrap());
        });
    });
}

#[test]
fn the_green_thread_that_forked_cannot_wait() {
    in_a_process("the_green_thread_that_forked_cannot_wait", |runtime| {
        let other = Builder::new().workers(1).build().unwrap();
        let foreign = waiting(&other);
        let name = thread::Builder::new().name("forks".into());
        let forks = move || {
            let mine = bine_runtime::spawn(thread::park);
            let ended = bine_runtime::spawn(|| 3);
            while !ended.is_finished() {
                thread::yield_now();
            }
            fork(|| {
                assert!(panics(thread::park));
                assert!(panics(|| thread::park_timeout(Duration::from_millis(1))));
                assert!(panics(|| thread::sleep(Duration::from_millis(1))));
                assert!(panics(|| thread::sleep(Duration::MAX)));
                assert!(panics(|| block_on(pending::<()>())));
                assert!(panics(|| mine.join()));
                assert!(panics(|| foreign.join()));
                assert_eq!(ended.join().unwrap(), 3);
                assert!(is_refused(thread::Builder::new().spawn(|| ())));
                assert!(is_refused(thread::Builder::new().spawn_on(&Handle::current(), || ())));
                assert!(panics(|| bine_runtime::spawn(|| ())));
                assert!(panics(|| thread::scope(|scope| scope.spawn(|| ()).join())));
                // It is the one that it was, and what needs nobody else works.
                assert_eq!(thread::current().name(), Some("forks"));
                assert_eq!(blocking(|| 4), 4);
                assert!(!thread::cancelled() && !thread::panicking());
                assert!(Command::new("true").status().unwrap().success());
                // On an OS thread there may be a runtime.
                let own = || Builder::new().workers(2).build().unwrap().run(thread::yield_now);
                std::thread::spawn(own).join().is_ok()
            })
            .well();
        };
        name.spawn_on(&runtime, forks).unwrap().join().unwrap();
        assert_eq!(runtime.run(|| 1), 1);
    });
}

#[test]
fn where_it_cannot_unwind_the_child_aborts() {
    /// Waits when it is dropped.
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            thread::park();
        }
    }
    in_a_process("where_it_cannot_unwind_the_child_aborts", |runtime| {
        runtime.run(|| {
            fork(|| thread::shielded(|| panics(thread::park))).aborted();
            fork(|| {
                let _waits = Waits;
                panic!("the first");
            })
            .aborted();
            thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    while !thread::cancelled() {
                        thread::yield_now();
                    }
                });
                // Out of the scope, whose threads are in the parent.
                fork(|| panics(|| waits.thread().unpark()) || panics(thread::park)).well();
                scope.cancel().unwrap();
            });
        });
    });
}

#[test]
fn a_green_thread_that_ends_in_the_child_ends_it() {
    in_a_process("a_green_thread_that_ends_in_the_child_ends_it", |runtime| {
        let [ended, panicked, pooled] = [0, 1, 2].map(|how| {
            let status = fork_and_leave(&runtime, how);
            (libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, status)
        });
        assert!(ended.0 && panicked.0 && pooled.0, "{ended:?} {panicked:?} {pooled:?}");
    });
}

/// The OS thread that waits for the green one may hold a lock of its parker's when that forks, which the
/// child must not come to. It does so for a moment only: hence many forks, each a little later or earlier.
#[test]
fn a_green_thread_ends_in_the_child_whatever_its_joiner_was_doing() {
    const NAME: &str = "a_green_thread_ends_in_the_child_whatever_its_joiner_was_doing";
    if std::env::var_os("BINE_TEST_RUNNER").is_some() {
        eprintln!("skipped: an emulator does not fork a process with several threads");
        return;
    }
    if !child::is_child() {
        return child::run_to_success(NAME, &[]);
    }
    let runtime = Builder::new().workers(1).build().unwrap();
    for round in 0..400 {
        let child = runtime.run(move || {
            for _ in 0..round * 7 % 500 {
                std::hint::spin_loop();
            }
            split()
        });
        let status = status_of(child);
        let aborted = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT;
        assert!(aborted, "round {round}: {status}");
    }
}

/// Forks. The child does nothing before it leaves its green thread, or the callback, and ends in a
/// while if it hangs.
fn split() -> libc::pid_t {
    // SAFETY: as above.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: SIGALRM ends the process.
        unsafe { libc::alarm(30) };
    }
    child
}

/// Forks on a green thread, or in a blocking call of one, and lets the child leave it. Its status.
fn fork_and_leave(runtime: &Runtime, how: usize) -> libc::c_int {
    let child = runtime.run(move || match how {
        0 => split(),
        1 => match split() {
            0 => panic!("in the child"),
            child => child,
        },
        _ => blocking(split),
    });
    status_of(child)
}

fn status_of(child: libc::pid_t) -> libc::c_int {
    assert!(child > 0, "the child has come to where its parent waits");
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } != child {}
    status
}

/// As the child's worker, or monitor, it would work for the parent's runtime.
#[test]
fn a_callback_that_has_forked_does_not_return_in_the_child() {
    const NAME: &str = "a_callback_that_has_forked_does_not_return_in_the_child";
    if !child::is_child() {
        return child::run_to_success(NAME, &[]);
    }
    let (tell, told) = mpsc::channel();
    let forks = move || tell.send(split()).unwrap();
    let aborts = || {
        let status = status_of(told.recv().unwrap());
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status}");
    };
    let builder = || Builder::new().workers(1);

    let on_start = forks.clone();
    drop(builder().on_worker_start(move |_| on_start()).build().unwrap());
    aborts();

    let on_stop = forks.clone();
    drop(builder().on_worker_stop(move |_| on_stop()).build().unwrap());
    aborts();

    let on_hold = move |hold: &Hold| {
        if !hold.is_over() {
            forks();
        }
    };
    let runtime = builder().on_hold(on_hold).build().unwrap();
    let release = Arc::new(AtomicBool::new(false));
    let this = release.clone();
    let hog = runtime.spawn(move || {
        while !this.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    let waits = runtime.spawn(|| ());
    aborts();
    release.store(true, Ordering::Relaxed);
    hog.join().unwrap();
    waits.join().unwrap();
}

/// A child may fork again.
#[test]
fn a_childs_child() {
    in_a_process("a_childs_child", |runtime| {
        let handle = runtime.handle();
        fork(|| {
            let own = Builder::new().workers(1).build().unwrap();
            let waits = waiting(&own);
            fork(|| {
                assert!(is_refused(thread::Builder::new().spawn_on(&own, || ())));
                assert!(is_refused(thread::Builder::new().spawn_on(&handle, || ())));
                assert_eq!(Builder::new().workers(1).build().unwrap().run(|| 2), 2);
                panics(|| waits.join())
            })
            .well();
            own.run(|| fork(|| panics(thread::park)).well());
            own.run(|| 1) == 1
        })
        .well();
    });
}

/// The child needs stacks, whatever the other threads of its parent were doing with theirs.
#[test]
fn a_child_has_stacks_of_its_own() {
    in_a_process("a_child_has_stacks_of_its_own", |runtime| {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(Barrier::new(3));
        let trades: Vec<_> = (0..2)
            .map(|_| {
                let (stop, handle) = (Arc::clone(&stop), runtime.handle());
                let begun = Arc::clone(&begun);
                std::thread::spawn(move || {
                    begun.wait();
                    while !stop.load(Ordering::Relaxed) {
                        let threads = (0..64).map(|_| handle.spawn(thread::yield_now));
                        let threads: Vec<_> = threads.collect();
                        threads.into_iter().for_each(|thread| thread.join().unwrap());
                        let _ = bine_arch::stack::trim();
                    }
                })
            })
            .collect();
        // A thread that starts has a lock of std's for a moment, which every thread of a child's would want.
        begun.wait();
        for _ in 0..40 {
            fork(|| Builder::new().workers(1).build().unwrap().run(|| 2) == 2).well();
        }
        stop.store(true, Ordering::Relaxed);
        trades.into_iter().for_each(|trade| trade.join().unwrap());
    });
}
