//! Callbacks on the workers' OS threads, and how many workers there are and on which cores.

#[path = "../../arch/tests/child/mod.rs"]
mod child;

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bine_runtime::{Abandoned, Builder, Handle, Runtime, thread};

const AMPLE: Duration = Duration::from_secs(60);

/// Builders of both modes.
fn builders(workers: usize) -> [Builder; 2] {
    let builder = || Builder::new().workers(workers).shutdown_timeout(AMPLE);
    // SAFETY: these tests keep no thread-local borrow across a blocking call.
    [builder(), unsafe { builder().migrate() }]
}

std::thread_local! {
    static STARTED: Cell<Option<usize>> = const { Cell::new(None) };
}

#[test]
fn each_worker_calls_each_once_on_its_own_thread() {
    for workers in [1, 2, 8] {
        for builder in builders(workers) {
            let events = Arc::new(Mutex::new(Vec::new()));
            let (starts, stops) = (Arc::clone(&events), Arc::clone(&events));
            let builder = builder
                .on_worker_start(move |worker| {
                    assert!(Handle::try_current().is_err());
                    STARTED.set(Some(worker));
                    starts.lock().unwrap().push((worker, "start"));
                })
                .on_worker_stop(move |worker| {
                    assert_eq!(STARTED.get(), Some(worker));
                    assert!(Handle::try_current().is_err());
                    stops.lock().unwrap().push((worker, "stop"));
                });
            assert!(format!("{builder:?}").contains("Callbacks"));
            // Both runtimes have them.
            let runtimes = [builder.clone().build().unwrap(), builder.build().unwrap()];
            assert_eq!(events.lock().unwrap().len(), 2 * workers);
            for runtime in &runtimes {
                let threads: Vec<_> =
                    (0..100).map(|_| runtime.spawn(|| STARTED.get().is_some())).collect();
                assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
            }
            drop(runtimes);
            let events = events.lock().unwrap();
            for worker in 0..workers {
                for event in ["start", "stop"] {
                    let count = events.iter().filter(|&&other| other == (worker, event)).count();
                    assert_eq!(count, 2, "{event} {worker}: {events:?}");
                }
            }
        }
    }
}

#[test]
fn a_panic_at_the_start_is_an_error_of_the_build() {
    for builder in builders(4) {
        let stopped = Arc::new(Mutex::new(Vec::new()));
        let stops = Arc::clone(&stopped);
        let error = builder
            .on_worker_start(|worker| assert_ne!(worker, 2, "not this one"))
            .on_worker_stop(move |worker| stops.lock().unwrap().push(worker))
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        let text = error.to_string();
        assert!(text.contains("`on_worker_start` panicked on worker 2"), "{text}");
        assert!(text.contains("not this one"), "{text}");
        // Those that had started have stopped.
        let mut stopped = stopped.lock().unwrap().clone();
        stopped.sort();
        assert_eq!(stopped, [0, 1]);
    }
}

/// Also panics that panic again when they are dropped.
#[test]
fn a_panic_at_the_stop_is_ignored() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload");
        }
    }
    for builder in builders(3) {
        let calls = Arc::new(AtomicUsize::new(0));
        let stops = Arc::clone(&calls);
        let runtime = builder
            .on_worker_stop(move |worker| {
                stops.fetch_add(1, Ordering::Relaxed);
                match worker {
                    0 => std::panic::panic_any(Bomb),
                    _ => panic!("worker {worker}"),
                }
            })
            .build()
            .unwrap();
        assert_eq!(runtime.run(|| 3), 3);
        let report = runtime.shutdown_timeout(AMPLE);
        assert!(report.settled);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn a_panic_at_the_start_may_have_any_payload() {
    let error = Builder::new()
        .workers(1)
        .on_worker_start(|_| std::panic::panic_any(7))
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("panicked on worker 0: (no text)"), "{error}");
}

/// Pinned threads that are abandoned keep the OS threads for ever; the stop is called all the same.
#[test]
fn workers_that_stay_for_abandoned_threads_have_stopped() {
    for builder in builders(2) {
        let calls = Arc::new(AtomicUsize::new(0));
        let stops = Arc::clone(&calls);
        let runtime = builder
            .on_worker_stop(move |_| {
                stops.fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let keeps = runtime.spawn(move || {
            thread::shielded(|| {
                tell.send(()).unwrap();
                thread::park();
            });
        });
        told.recv().unwrap();
        let report = runtime.shutdown_timeout(Duration::from_millis(1));
        assert!(keeps.join().unwrap_err().is::<Abandoned>());
        if report.settled {
            assert_eq!(calls.load(Ordering::Relaxed), 2);
        }
    }
}

// ---- cores ----

/// The cores on which the calling thread may run.
fn cores() -> Vec<usize> {
    // SAFETY: all zeros is an empty set; the buffer is as long as we say.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

fn restrict_to(core: usize) {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

#[test]
fn by_default_there_are_as_many_workers_as_cores_that_may_be_used() {
    let test = "by_default_there_are_as_many_workers_as_cores_that_may_be_used";
    if !child::is_child() {
        return child::run_to_success(test, &[]);
    }
    // SAFETY: nothing else reads the environment now: the one test of this process is here.
    unsafe { std::env::remove_var("BINE_WORKERS") };
    let all = cores();
    restrict_to(all[all.len() - 1]);
    assert_eq!(Runtime::new().unwrap().metrics().workers, 1);
    assert_eq!(thread::available_parallelism().unwrap().get(), 1);
    // What is said counts all the same.
    assert_eq!(Builder::new().workers(3).build().unwrap().metrics().workers, 3);
}

#[test]
fn workers_are_pinned_in_turn_to_the_cores_of_the_process() {
    let all = cores();
    for builder in builders(all.len() + 1) {
        let seen = Arc::new(Mutex::new(vec![Vec::new(); all.len() + 1]));
        let sees = Arc::clone(&seen);
        let runtime = builder
            .pin_workers(true)
            .on_worker_start(move |worker| sees.lock().unwrap()[worker] = cores())
            .build()
            .unwrap();
        let expected: Vec<_> = all.iter().chain(&all[..1]).map(|&core| vec![core]).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
        assert_eq!(runtime.run(|| cores().len()), 1);
        // Threads of the pool are not, though a worker has started them.
        let pooled = runtime.run(|| {
            let threads: Vec<_> =
                (0..8).map(|_| bine_runtime::spawn(|| bine_runtime::blocking(cores))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(pooled.iter().all(|cores| *cores == all), "{pooled:?}");
    }
    assert_eq!(cores(), all, "the builder's thread is left alone");
}

#[test]
fn without_being_asked_nothing_is_pinned() {
    let all = cores();
    for builder in builders(2) {
        for builder in [builder.clone(), builder.pin_workers(true).pin_workers(false)] {
            assert_eq!(builder.build().unwrap().run(cores), all);
        }
    }
}

/// A process that may use one core of several pins all its workers there.
#[test]
fn only_cores_of_the_process_are_used() {
    let test = "only_cores_of_the_process_are_used";
    if !child::is_child() {
        return child::run_to_success(test, &[]);
    }
    let all = cores();
    let last = all[all.len() - 1];
    restrict_to(last);
    for builder in builders(3) {
        let runtime = builder.pin_workers(true).build().unwrap();
        let threads: Vec<_> = (0..30).map(|_| runtime.spawn(cores)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == [last]));
    }
}
