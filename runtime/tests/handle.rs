//! Handles to a runtime: from everywhere, and after its end.

mod modes;

use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Abandoned, Builder, Handle, Runtime};
use modes::{runtimes, runtimes_of};

/// Never waited for in full: the bound is there for a bug.
const AMPLE: Duration = Duration::from_secs(60);

/// Counts how often it is dropped.
struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn handles_go_everywhere() {
    fn is_fit<T: Clone + Send + Sync + panic::UnwindSafe + panic::RefUnwindSafe + 'static>() {}
    is_fit::<Handle>();
    assert!(format!("{:?}", Runtime::new().unwrap().handle()).contains("Handle"));
}

#[test]
fn from_os_threads_and_from_green_threads_of_this_and_of_other_runtimes() {
    let other = Builder::new().workers(2).build().unwrap();
    for runtime in runtimes() {
        let workers = runtime.metrics().workers;
        let handle = runtime.handle();
        let here = move |handle: &Handle| {
            let where_am_i = || Handle::current().metrics().workers;
            assert_eq!(handle.run(where_am_i), workers);
            assert_eq!(handle.spawn(where_am_i).join().unwrap(), workers);
            let builder = thread::Builder::new().name("named".into());
            let named =
                builder.spawn_on(handle, || thread::current().name().map(String::from)).unwrap();
            assert_eq!(named.join().unwrap().as_deref(), Some("named"));
        };
        here(&handle);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let handle = handle.clone();
                scope.spawn(move || here(&handle));
            }
        });
        let (first, second) = (handle.clone(), handle.clone());
        runtime.run(move || here(&first));
        other.run(move || here(&second));
        // Workers fall asleep meanwhile.
        let (one, other) = (handle.metrics(), runtime.metrics());
        assert_eq!((one.workers, one.spawned), (other.workers, other.spawned));
    }
}

#[test]
fn whatever_is_a_runtime_can_be_spawned_on() {
    let runtime = Arc::new(Builder::new().workers(1).build().unwrap());
    let builder = thread::Builder::new;
    assert_eq!(builder().spawn_on(&*runtime, || 1).unwrap().join().unwrap(), 1);
    assert_eq!(builder().spawn_on(&runtime, || 2).unwrap().join().unwrap(), 2);
    assert_eq!(builder().spawn_on(&runtime.handle(), || 3).unwrap().join().unwrap(), 3);
    assert_eq!(builder().spawn_on(&&runtime.handle(), || 4).unwrap().join().unwrap(), 4);
}

#[test]
fn where_there_is_no_runtime_there_is_no_current_one() {
    let error = Handle::try_current().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no current runtime"), "{error}");
    let panic = panic::catch_unwind(Handle::current).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("no current runtime"));
    for runtime in runtimes() {
        let inside = runtime.run(|| {
            let pooled = bine_runtime::blocking(|| Handle::try_current().is_err());
            (pooled, Handle::try_current().is_ok())
        });
        assert_eq!(inside, (true, true));
    }
}

#[test]
fn after_the_end_spawning_is_an_error_and_drops_the_closure() {
    for runtime in runtimes() {
        let handle = runtime.handle();
        runtime.run(|| ());
        drop(runtime);
        let dropped = Arc::new(AtomicUsize::new(0));
        let counts = Counts(Arc::clone(&dropped));
        let error = thread::Builder::new().spawn_on(&handle, move || drop(counts)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(error.to_string().contains("runtime that was shut down"), "{error}");
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        let panic = panic::catch_unwind(AssertUnwindSafe(|| handle.spawn(|| ()))).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.starts_with("failed to spawn a green thread: "), "{text}");
        // Handles go on as such.
        let last = handle.clone();
        drop(handle);
        assert_eq!(last.metrics().alive, 0);
    }
}

/// Handles, join handles and the runtime go in any order.
#[test]
fn what_outlives_the_runtime_is_of_use_and_goes_in_any_order() {
    for round in 0..6 {
        for runtime in runtimes_of(&Builder::new().shutdown_timeout(AMPLE), &[1, 2]) {
            let handle = runtime.handle();
            let ended = handle.spawn(|| 5);
            let waits = handle.spawn(thread::park);
            drop(runtime);
            match round {
                0 => drop(handle),
                1 => drop((handle, ended)),
                2 => drop((ended, waits, handle)),
                3 => drop((handle.clone(), waits, handle, ended)),
                4 => {
                    assert!(waits.join().unwrap_err().is::<Cancelled>());
                    drop(handle);
                }
                _ => {
                    let later = std::thread::spawn(move || handle.metrics().alive);
                    assert_eq!(later.join().unwrap(), 0);
                    assert!(ended.is_finished() && waits.is_finished());
                }
            }
        }
    }
}

#[test]
fn its_own_green_threads_spawn_to_the_end_and_others_do_not() {
    for runtime in runtimes_of(&Builder::new(), &[1, 2, 8]) {
        let handle = runtime.handle();
        let (tell, told) = mpsc::channel();
        let (spawned, wait_for) = mpsc::channel();
        let inside = handle.clone();
        let breeds = handle.spawn(move || {
            tell.send(()).unwrap();
            while !thread::cancelled() {
                std::hint::spin_loop();
            }
            // The shutdown has begun.
            let child = thread::Builder::new().spawn_on(&inside, || 7);
            spawned.send(()).unwrap();
            child.map(|child| child.thread().id()).is_ok()
        });
        told.recv().unwrap();
        let from_outside = std::thread::spawn(move || {
            wait_for.recv().unwrap();
            thread::Builder::new().spawn_on(&handle, || 8).map(drop)
        });
        let report = runtime.shutdown_timeout(AMPLE);
        assert_eq!((report.abandoned, report.unstarted, report.settled), (0, 0, true));
        assert!(breeds.join().unwrap());
        assert_eq!(from_outside.join().unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
    }
}

/// A closure that owns a runtime is run on that one, or dropped by a spawn that fails.
#[test]
fn a_closure_may_own_the_runtime() {
    for runtime in runtimes() {
        let handle = runtime.handle();
        let ends = handle.spawn(move || drop(runtime));
        // It stops the workers as soon as it blocks or ends.
        assert!(ends.join().is_ok());
        let error = loop {
            match thread::Builder::new().spawn_on(&handle, || ()) {
                Ok(thread) => drop(thread.join()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        let owned = Builder::new().workers(1).build().unwrap();
        let (inner, waits) = (owned.handle(), owned.spawn(thread::park));
        assert!(thread::Builder::new().spawn_on(&handle, move || drop(owned)).is_err());
        assert!(waits.join().unwrap_err().is::<Cancelled>());
        assert!(thread::Builder::new().spawn_on(&inner, || ()).is_err());
    }
}

/// Spawns through handles meet the shutdown: each fails, or its thread runs, or is abandoned and
/// counted.
#[test]
fn no_spawn_is_lost_when_it_meets_the_shutdown() {
    const SPAWNERS: usize = 3;
    const ROUNDS: usize = 60;
    for round in 0..ROUNDS {
        let timeout = if round % 2 == 0 { Duration::ZERO } else { AMPLE };
        for runtime in runtimes_of(&Builder::new(), &[1, 2, 8]) {
            let start = Arc::new(Barrier::new(SPAWNERS + 1));
            let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let spawner = || {
                let (handle, start) = (runtime.handle(), Arc::clone(&start));
                let (ran, dropped) = (Arc::clone(&ran), Arc::clone(&dropped));
                move || {
                    start.wait();
                    let mut threads = Vec::new();
                    loop {
                        let (ran, counts) = (Arc::clone(&ran), Counts(Arc::clone(&dropped)));
                        let body = move || {
                            let _counts = counts;
                            ran.fetch_add(1, Ordering::Relaxed);
                        };
                        match thread::Builder::new().spawn_on(&handle, body) {
                            Ok(thread) => threads.push(thread),
                            Err(error) if error.kind() == ErrorKind::NotConnected => {
                                return threads;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            };
            let spawners: Vec<_> = (0..SPAWNERS).map(|_| std::thread::spawn(spawner())).collect();
            start.wait();
            for _ in 0..round * 10 {
                std::hint::spin_loop();
            }
            let report = runtime.shutdown_timeout(timeout);
            let threads: Vec<_> =
                spawners.into_iter().flat_map(|spawner| spawner.join().unwrap()).collect();
            let spawned = threads.len();
            let mut abandoned = 0;
            for thread in threads {
                // They never block, so they are not cancelled.
                if let Err(error) = thread.join() {
                    assert!(error.is::<Abandoned>(), "{error:?}");
                    abandoned += 1;
                }
            }
            assert_eq!(ran.load(Ordering::Relaxed) + abandoned, spawned);
            // Each closure, and that of each spawner's last try.
            assert_eq!(dropped.load(Ordering::Relaxed), spawned + SPAWNERS);
            if report.settled {
                assert_eq!(report.unstarted, abandoned as u64, "{report:?}");
                assert_eq!(report.abandoned, 0, "{report:?}");
            }
        }
    }
}
