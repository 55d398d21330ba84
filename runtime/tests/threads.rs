//! Green threads, in both modes, on several numbers of workers.

mod modes;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use bine_runtime::{Abandoned, Builder, Runtime, thread};
use modes::runtimes;

#[test]
fn a_value_comes_back() {
    for runtime in runtimes() {
        assert_eq!(runtime.run(|| bine_runtime::spawn(|| 1 + 1).join().unwrap()), 2);
    }
}

#[test]
fn a_panic_is_the_joins_error_and_harms_nobody_else() {
    for runtime in runtimes() {
        let (error, value) = runtime.run(|| {
            let bad = bine_runtime::spawn(|| std::panic::resume_unwind(Box::new("boom")));
            let good = bine_runtime::spawn(|| 5);
            (bad.join().map(|()| 0).unwrap_err(), good.join().unwrap())
        });
        assert_eq!(*error.downcast::<&str>().unwrap(), "boom");
        assert_eq!(value, 5);
    }
}

#[test]
fn run_resumes_the_panic() {
    let runtime = Builder::new().workers(2).build().unwrap();
    let unwound = std::panic::catch_unwind(|| {
        runtime.run(|| std::panic::resume_unwind(Box::new(7u8)));
    });
    assert_eq!(*unwound.unwrap_err().downcast::<u8>().unwrap(), 7);
    assert_eq!(runtime.run(|| 1), 1);
}

#[test]
fn many_threads_all_run_once() {
    for runtime in runtimes() {
        let total = runtime.run(|| {
            let threads: Vec<_> = (0..5_000u64)
                .map(|n| {
                    bine_runtime::spawn(move || {
                        if n.is_multiple_of(3) {
                            thread::yield_now();
                        }
                        n
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum::<u64>()
        });
        assert_eq!(total, 4_999 * 5_000 / 2);
        assert_eq!(runtime.metrics().alive, 0);
        assert_eq!(runtime.metrics().spawned, 5_001);
    }
}

#[test]
fn a_tree_of_threads_adds_up() {
    fn node(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> =
            (0..8).map(|_| bine_runtime::spawn(move || node(depth - 1))).collect();
        children.into_iter().map(|child| child.join().unwrap()).sum()
    }
    for runtime in runtimes() {
        assert_eq!(runtime.run(|| node(4)), 4096);
    }
}

#[test]
fn unpark_before_park_is_not_lost_and_does_not_add_up() {
    for runtime in runtimes() {
        runtime.run(|| {
            let me = thread::current();
            me.unpark();
            me.unpark();
            thread::park();
            let before = Instant::now();
            thread::park_timeout(Duration::from_millis(5));
            assert!(before.elapsed() >= Duration::from_millis(5), "the second token is not there");
        });
    }
}

#[test]
fn parked_threads_wait_for_their_unpark() {
    for runtime in runtimes() {
        runtime.run(|| {
            let woken = Arc::new(AtomicUsize::new(0));
            let sleepers: Vec<_> = (0..200)
                .map(|_| {
                    let woken = Arc::clone(&woken);
                    bine_runtime::spawn(move || {
                        thread::park();
                        woken.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            for round in 0..3 {
                thread::yield_now();
                assert_eq!(woken.load(Ordering::Relaxed), 0, "round {round}");
            }
            sleepers.iter().for_each(|sleeper| sleeper.thread().unpark());
            sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
            assert_eq!(woken.load(Ordering::Relaxed), 200);
        });
    }
}

/// A wait in the runtime (here: a join) must not eat the token that a user left.
#[test]
fn a_join_does_not_consume_the_users_token() {
    for runtime in runtimes() {
        runtime.run(|| {
            let me = thread::current();
            let other = bine_runtime::spawn(move || {
                me.unpark();
                (0..10).for_each(|_| thread::yield_now());
            });
            other.join().unwrap();
            thread::park();
        });
    }
}

#[test]
fn unpark_from_an_os_thread() {
    for runtime in runtimes() {
        let (tell, told) = std::sync::mpsc::channel();
        let waker = std::thread::spawn(move || {
            let sleepers: Vec<thread::Thread> = told.iter().collect();
            sleepers.iter().for_each(thread::Thread::unpark);
        });
        runtime.run(move || {
            let sleepers: Vec<_> = (0..100)
                .map(|_| {
                    let tell = tell.clone();
                    bine_runtime::spawn(move || {
                        tell.send(thread::current()).unwrap();
                        drop(tell);
                        thread::park();
                    })
                })
                .collect();
            drop(tell);
            sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        });
        waker.join().unwrap();
    }
}

#[test]
fn sleeps_are_never_short_and_run_side_by_side() {
    for runtime in runtimes() {
        runtime.run(|| {
            let before = Instant::now();
            let sleepers: Vec<_> = (0..300u64)
                .map(|n| {
                    bine_runtime::spawn(move || {
                        let (before, span) = (Instant::now(), Duration::from_micros(n * 60));
                        thread::sleep(span);
                        assert!(before.elapsed() >= span);
                    })
                })
                .collect();
            sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
            // One after the other they would take 2.7 s.
            assert!(before.elapsed() < Duration::from_millis(2_600));
        });
    }
}

#[test]
fn a_sleep_without_end_is_not_a_panic() {
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.run(|| {
        bine_runtime::spawn(|| thread::sleep(Duration::MAX));
        thread::sleep(Duration::ZERO);
        thread::park_timeout(Duration::from_nanos(1));
        thread::yield_now();
    });
}

#[test]
fn join_from_os_threads_and_other_runtimes() {
    let here = Builder::new().workers(2).build().unwrap();
    let there = Builder::new().workers(2).build().unwrap();
    let slow = here.spawn(|| {
        thread::sleep(Duration::from_millis(20));
        11
    });
    assert_eq!(there.run(move || slow.join().unwrap()), 11);
    assert_eq!(here.spawn(|| 12).join().unwrap(), 12);
}

#[test]
fn names_and_ids() {
    let runtime = Builder::new().workers(2).build().unwrap();
    runtime.run(|| {
        let named = thread::Builder::new().name("carol".into()).spawn(thread::current).unwrap();
        let (name, id) = (named.thread().name().map(str::to_owned), named.thread().id());
        assert_eq!(name.as_deref(), Some("carol"));
        let handle = named.join().unwrap();
        assert_eq!(handle.id(), id);
        assert_eq!(handle.name(), Some("carol"), "the handle outlives the thread");
        let ids: HashSet<_> = (0..2_000)
            .map(|_| bine_runtime::spawn(|| thread::current().id()))
            .map(|t| t.join().unwrap())
            .collect();
        assert_eq!(ids.len(), 2_000);
        assert!(!ids.contains(&thread::current().id()));
    });
}

#[test]
fn a_stack_of_its_own_size() {
    fn deep(n: usize) -> usize {
        let room = std::hint::black_box([n; 512]);
        if n == 0 { 0 } else { deep(n - 1) + room[0] - n + 1 }
    }
    // The address sanitizer's redzones double the frames.
    const LEVELS: usize = if cfg!(bine_sanitize = "address") { 1_000 } else { 2_000 };
    let runtime = Builder::new().workers(2).build().unwrap();
    let depth = runtime.run(|| {
        let big = thread::Builder::new().stack_size(16 << 20).spawn(|| deep(LEVELS)).unwrap();
        big.join().unwrap()
    });
    assert_eq!(depth, LEVELS);
    let error = runtime.run(|| {
        thread::Builder::new().stack_size(usize::MAX / 2).spawn(|| ()).unwrap_err().to_string()
    });
    assert!(error.contains("stack"), "{error}");
}

#[test]
fn detached_results_are_dropped_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let in_thread = Arc::clone(&dropped);
        runtime.run(move || {
            for n in 0..300 {
                let counted = Counted(Arc::clone(&in_thread));
                let handle = bine_runtime::spawn(move || {
                    if n % 2 == 0 {
                        thread::yield_now();
                    }
                    counted
                });
                match n % 3 {
                    0 => drop(handle),
                    1 => drop(handle.join().unwrap()),
                    _ => {
                        thread::yield_now();
                        drop(handle);
                    }
                }
            }
        });
        while runtime.metrics().alive > 0 {
            std::thread::yield_now();
        }
        drop(runtime);
        assert_eq!(dropped.load(Ordering::Relaxed), 300);
    }
}

/// One green thread produces, and then keeps its worker busy until a peer has run what it made.
#[test]
fn stealing_is_real() {
    for migrating in [false, true] {
        let builder = Builder::new();
        // SAFETY: no thread-local borrow is kept across a blocking call.
        let builder = if migrating { unsafe { builder.migrate() } } else { builder };
        let runtime = builder.workers(4).build().unwrap();
        let seen = runtime.run(|| {
            let seen = Arc::new(Mutex::new(HashSet::new()));
            let meeting = Arc::new(Barrier::new(4));
            let children: Vec<_> = (0..4)
                .map(|_| {
                    let (seen, meeting) = (Arc::clone(&seen), Arc::clone(&meeting));
                    bine_runtime::spawn(move || {
                        seen.lock().unwrap().insert(std::thread::current().id());
                        // Blocks the OS thread: only if four workers run them do all four meet.
                        meeting.wait();
                    })
                })
                .collect();
            children.into_iter().for_each(|child| child.join().unwrap());
            Arc::into_inner(seen).unwrap().into_inner().unwrap()
        });
        assert_eq!(seen.len(), 4, "each worker ran one");
        assert!(runtime.metrics().steals >= 3);
    }
}

/// A green thread yields to a neighbour that blocks their OS thread, again and again, until it was
/// seen on a second OS thread or has tried often enough.
fn os_threads_of_one_green_thread(runtime: &Runtime, most_rounds: usize) -> usize {
    runtime.run(move || {
        let mut seen = HashSet::new();
        for _ in 0..most_rounds {
            seen.insert(std::thread::current().id());
            if seen.len() > 1 {
                break;
            }
            let hog = bine_runtime::spawn(|| std::thread::sleep(Duration::from_millis(2)));
            thread::yield_now();
            hog.join().unwrap();
        }
        seen.len()
    })
}

#[test]
fn a_started_thread_moves_in_migrating_mode() {
    // SAFETY: no thread-local borrow is kept across a blocking call.
    let runtime = unsafe { Builder::new().migrate() }.workers(4).build().unwrap();
    assert_eq!(os_threads_of_one_green_thread(&runtime, usize::MAX), 2);
}

#[test]
fn a_started_thread_never_moves_in_pinned_mode() {
    let runtime = Builder::new().workers(4).build().unwrap();
    assert_eq!(os_threads_of_one_green_thread(&runtime, 100), 1);
}

#[test]
fn a_pinned_thread_never_moves_in_migrating_mode() {
    // SAFETY: no thread-local borrow is kept across a blocking call.
    let runtime = unsafe { Builder::new().migrate() }.workers(4).build().unwrap();
    runtime.run(|| {
        let pinned: Vec<_> = (0..50)
            .map(|_| {
                let body = || {
                    let home = std::thread::current().id();
                    for n in 0..300 {
                        match n % 5 {
                            0 => thread::sleep(Duration::from_micros(20)),
                            _ => thread::yield_now(),
                        }
                        assert_eq!(std::thread::current().id(), home);
                    }
                };
                thread::Builder::new().pinned(true).spawn(body).unwrap()
            })
            .collect();
        pinned.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A worker that is crowded with threads that cannot move places fresh ones on a peer that sleeps,
/// and does not keep them until the peer has woken up to steal them.
#[test]
fn pinned_threads_spread_over_sleeping_workers() {
    let runtime = Arc::new(Builder::new().workers(2).build().unwrap());
    let handle = Arc::clone(&runtime);
    let stayed = runtime.run(move || {
        let homes = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (1..=100)
            .map(|n| {
                while handle.metrics().sleeping_workers == 0 {
                    thread::yield_now();
                }
                let inside = Arc::clone(&homes);
                let thread = bine_runtime::spawn(move || {
                    inside.lock().unwrap().push(std::thread::current().id());
                    thread::park();
                });
                while homes.lock().unwrap().len() < n {
                    thread::yield_now();
                }
                thread
            })
            .collect();
        threads.iter().for_each(|thread| thread.thread().unpark());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let here = std::thread::current().id();
        let homes = homes.lock().unwrap();
        homes.iter().filter(|&&home| home == here).count()
    });
    // Under load a peer may also have woken up in time to steal them all.
    assert!(stayed <= 80, "{stayed} of 100 stayed with the worker that spawned them");
}

/// A destructor that blocks while its thread unwinds comes back to its OS thread, and std's panic
/// count is right everywhere afterwards.
#[test]
fn blocking_while_unwinding() {
    struct Blocks;
    impl Drop for Blocks {
        fn drop(&mut self) {
            let home = std::thread::current().id();
            for _ in 0..20 {
                thread::sleep(Duration::from_micros(100));
                thread::yield_now();
                assert_eq!(std::thread::current().id(), home);
                assert!(std::thread::panicking());
            }
        }
    }
    for runtime in runtimes() {
        runtime.run(|| {
            let threads: Vec<_> = (0..40)
                .map(|n| {
                    bine_runtime::spawn(move || {
                        let _blocks = Blocks;
                        thread::yield_now();
                        std::panic::resume_unwind(Box::new(n));
                    })
                })
                .collect();
            for (n, thread) in threads.into_iter().enumerate() {
                let payload = thread.join().map(|()| 0).unwrap_err();
                assert_eq!(*payload.downcast::<i32>().unwrap(), n as i32);
            }
            let checks: Vec<_> =
                (0..64).map(|_| bine_runtime::spawn(std::thread::panicking)).collect();
            assert!(checks.into_iter().all(|check| !check.join().unwrap()));
        });
    }
}

#[test]
fn dropping_a_runtime_abandons_what_has_not_ended() {
    for workers in [1, 2, 8] {
        let runtime = Builder::new().workers(workers).build().unwrap();
        let parked = runtime.spawn(|| thread::shielded(thread::park));
        while runtime.metrics().sleeping_workers < workers {
            std::thread::yield_now();
        }
        let joiner = std::thread::spawn(move || parked.join().unwrap_err());
        let report = runtime.shutdown_timeout(Duration::ZERO);
        assert_eq!((report.ended, report.abandoned), (0, 1));
        assert!(joiner.join().unwrap().is::<Abandoned>());
    }
}

/// The one worker is held until the owner has given up, so nothing else runs before the stop.
#[test]
fn dropping_a_runtime_drops_what_has_not_run() {
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let (started, has_started) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    runtime.spawn(move || {
        started.send(()).unwrap();
        released.recv().unwrap();
    });
    has_started.recv().unwrap();
    let captured = Arc::new(());
    let inside = Arc::clone(&captured);
    let unstarted = runtime.spawn(move || drop(inside));
    assert!(!runtime.shutdown_timeout(Duration::ZERO).settled);
    assert_eq!(Arc::strong_count(&captured), 2);
    release.send(()).unwrap();
    assert!(unstarted.join().unwrap_err().is::<Abandoned>());
    // The joins return first, then the closures are dropped: they might join.
    while Arc::strong_count(&captured) > 1 {
        std::thread::yield_now();
    }
}

/// An abandoned green thread may have lent what it borrows from its OS thread's thread-locals, so
/// these must outlive the runtime.
#[test]
fn thread_locals_outlive_the_green_threads_that_borrow_them() {
    struct Local(Arc<AtomicUsize>);
    impl Drop for Local {
        fn drop(&mut self) {
            self.0.store(0, Ordering::SeqCst);
        }
    }
    static ALIVE: std::sync::LazyLock<Arc<AtomicUsize>> =
        std::sync::LazyLock::new(Default::default);
    std::thread_local! {
        static LOCAL: Local = {
            ALIVE.store(7, Ordering::SeqCst);
            Local(Arc::clone(&ALIVE))
        };
    }
    let brief = Duration::from_millis(1);
    let runtime = Builder::new().workers(1).shutdown_timeout(brief).build().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    runtime.spawn(move || {
        LOCAL.with(|local| {
            std::thread::scope(|scope| {
                scope.spawn(|| tell.send(local.0.load(Ordering::SeqCst)).unwrap());
                thread::shielded(thread::park);
            })
        });
    });
    assert_eq!(told.recv().unwrap(), 7);
    drop(runtime);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 7, "the thread-local was destroyed");
}

/// The destructor of a closure that never ran may wait for threads of the same runtime.
#[test]
fn a_closure_that_joins_when_it_is_dropped() {
    struct JoinOnDrop(Option<thread::JoinHandle<()>>);
    impl Drop for JoinOnDrop {
        fn drop(&mut self) {
            if let Some(handle) = self.0.take() {
                let _ = handle.join();
            }
        }
    }
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let parked = runtime.spawn(thread::park);
    let (started, has_started) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    runtime.spawn(move || {
        started.send(()).unwrap();
        released.recv().unwrap();
        thread::park();
    });
    has_started.recv().unwrap();
    let guard = JoinOnDrop(Some(parked));
    runtime.spawn(move || drop(guard));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(runtime));
        release.send(()).unwrap();
    });
}

#[test]
fn joining_itself_is_a_panic() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let (give, given) = std::sync::mpsc::channel::<thread::JoinHandle<()>>();
    let (tell, told) = std::sync::mpsc::channel();
    let selfish = runtime.spawn(move || {
        let handle = given.recv().unwrap();
        let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle.join()));
        tell.send(joined.is_err()).unwrap();
    });
    give.send(selfish).unwrap();
    assert!(told.recv().unwrap());
}

/// A thread that wakes up from a sleep or an unpark from outside waits for its neighbours' turns,
/// not for dozens of them.
#[test]
fn arrivals_are_seen_between_long_slices() {
    // A spare would run some of the neighbours at the same time.
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    runtime.run(|| {
        let stop = Arc::new(AtomicUsize::new(0));
        let turns = Arc::new(AtomicUsize::new(0));
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let (stop, turns) = (Arc::clone(&stop), Arc::clone(&turns));
                bine_runtime::spawn(move || {
                    while stop.load(Ordering::Relaxed) == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                        turns.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            let before = turns.load(Ordering::Relaxed);
            thread::sleep(Duration::from_micros(1));
            let waited = turns.load(Ordering::Relaxed) - before;
            assert!(waited <= 4 + 4 + 4, "{waited} turns of the neighbours");
        }
        stop.store(1, Ordering::Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_green_thread_may_drop_its_own_runtime() {
    for workers in [1, 2] {
        let runtime = Arc::new(Builder::new().workers(workers).build().unwrap());
        let inside = Arc::clone(&runtime);
        let (tell, told) = std::sync::mpsc::channel();
        let last = runtime.spawn(move || {
            // The last owner, once the one outside is gone.
            while Arc::strong_count(&inside) > 1 {
                std::thread::yield_now();
            }
            drop(inside);
            tell.send("still runs").unwrap();
        });
        drop(runtime);
        assert_eq!(told.recv().unwrap(), "still runs");
        last.join().unwrap();
    }
}

#[test]
fn bad_settings_are_errors() {
    let error = Builder::new().workers(0).build().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(Builder::new().workers(100_000).build().is_err());
    assert!(Builder::new().workers(1).stack_size(usize::MAX).build().is_err());
}

#[test]
fn what_is_run_has_the_name_of_its_caller() {
    for runtime in runtimes() {
        let name = || thread::current().name().map(str::to_owned);
        let test = Some("what_is_run_has_the_name_of_its_caller".to_owned());
        assert_eq!(runtime.run(name), test);
        assert_eq!(runtime.handle().run(name), test);
        assert_eq!(runtime.spawn(name).join().unwrap(), None);
        let unnamed = std::thread::spawn(move || runtime.run(name));
        assert_eq!(unnamed.join().unwrap(), None);
    }
}
