//! The end of a runtime: what is cancelled, what is abandoned, and who does not wait.

mod modes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use bine_runtime::thread::{self, Cancelled};
use bine_runtime::{Abandoned, Builder, Runtime};
use modes::runtimes_of;

/// Never waited for in full: the bound is there for a bug.
const AMPLE: Duration = Duration::from_secs(60);

fn runtimes() -> Vec<Runtime> {
    runtimes_of(&Builder::new().shutdown_timeout(AMPLE), &[1, 2, 8])
}

struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whatever_waits_is_cancelled_and_counted() {
    const EACH: usize = 300;
    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let waits: [fn(); 4] = [
            thread::park,
            || thread::sleep(Duration::from_secs(100_000)),
            || loop {
                thread::yield_now();
            },
            || {
                bine_runtime::spawn(thread::park).join().unwrap();
            },
        ];
        let mut threads = Vec::new();
        for wait in waits {
            for _ in 0..EACH {
                let counts = Counts(Arc::clone(&dropped));
                threads.push(runtime.spawn(move || {
                    let _counts = counts;
                    wait();
                }));
            }
        }
        // One that has ended already is not counted.
        runtime.run(|| ());
        let report = runtime.shutdown_timeout(AMPLE);
        assert_eq!((report.abandoned, report.unstarted, report.settled), (0, 0, true));
        // Not every joiner has come to spawn its child.
        let each = EACH as u64;
        assert!((4 * each..=5 * each).contains(&report.ended), "{report:?}");
        assert_eq!(dropped.load(Ordering::Relaxed), 4 * EACH);
        for thread in threads {
            assert!(thread.is_finished());
            let error = thread.join().unwrap_err();
            // The joiner's child may have been cancelled, and joined, first.
            assert!(error.is::<Cancelled>() || error.is::<String>());
        }
    }
}

#[test]
fn what_does_not_end_is_abandoned_and_counted() {
    for runtime in runtimes() {
        let (tell, told) = mpsc::channel();
        let keeps: Vec<_> = (0..20)
            .map(|_| {
                let tell = tell.clone();
                runtime.spawn(move || {
                    thread::shielded(|| {
                        tell.send(()).unwrap();
                        thread::park();
                    });
                })
            })
            .collect();
        (0..20).for_each(|_| told.recv().unwrap());
        let report = runtime.shutdown_timeout(Duration::ZERO);
        if report.settled {
            assert_eq!((report.ended, report.abandoned, report.unstarted), (0, 20, 0));
        }
        for keep in keeps {
            assert!(keep.join().unwrap_err().is::<Abandoned>());
        }
    }
}

#[test]
fn a_held_worker_is_not_waited_for() {
    for workers in [1, 2, 8] {
        let runtime = Builder::new().workers(workers).build().unwrap();
        let release = Arc::new(AtomicBool::new(false));
        let released = Arc::clone(&release);
        let (tell, told) = mpsc::channel();
        let holds = runtime.spawn(move || {
            tell.send(()).unwrap();
            while !released.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            9
        });
        told.recv().unwrap();
        let report = runtime.shutdown_timeout(Duration::from_millis(1));
        assert!(!report.settled);
        assert_eq!((report.ended, report.abandoned), (0, 1));
        // The worker goes on, and frees what it shared when it leaves.
        release.store(true, Ordering::Relaxed);
        assert_eq!(holds.join().unwrap(), 9);
    }
}

/// The settling and the giving up meet at about the same time.
#[test]
fn giving_up_races_with_the_last_worker() {
    for round in 0..200u64 {
        let runtime = Builder::new().workers(2).build().unwrap();
        let (tell, told) = mpsc::channel();
        let ends = Instant::now() + Duration::from_millis(100) + Duration::from_micros(round);
        let thread = runtime.spawn(move || {
            tell.send(()).unwrap();
            while round < 20 && Instant::now() < ends {
                std::hint::spin_loop();
            }
        });
        told.recv().unwrap();
        let report = runtime.shutdown_timeout(Duration::ZERO);
        assert_eq!(report.unstarted, 0);
        thread.join().unwrap();
    }
}

#[test]
fn threads_that_are_spawned_meanwhile_are_cancelled_too() {
    fn breed(depth: usize) {
        if depth > 0 {
            let _child = bine_runtime::spawn(move || breed(depth - 1));
            thread::yield_now();
        }
        thread::park();
    }
    for runtime in runtimes() {
        for _ in 0..50 {
            runtime.spawn(|| breed(10));
        }
        let report = runtime.shutdown_timeout(AMPLE);
        assert_eq!((report.abandoned, report.unstarted, report.settled), (0, 0, true));
    }
}

#[test]
fn a_green_thread_of_another_runtime_waits_without_holding_its_worker() {
    let outer = Builder::new().workers(1).build().unwrap();
    for inner in runtimes() {
        let (tell, told) = mpsc::channel();
        let keeps = inner.spawn(move || {
            thread::shielded(|| {
                tell.send(thread::current()).unwrap();
                thread::park();
            });
        });
        let inside = told.recv().unwrap();
        let ends = outer.spawn(move || inner.shutdown_timeout(AMPLE));
        // On the one worker that the other one waits on.
        outer.run(move || inside.unpark());
        keeps.join().unwrap();
        let report = ends.join().unwrap();
        assert_eq!((report.abandoned, report.settled), (0, true));
    }
}

#[test]
fn a_computation_can_see_it() {
    for runtime in runtimes() {
        let (tell, told) = mpsc::channel();
        let computes = runtime.spawn(move || {
            tell.send(()).unwrap();
            while !thread::cancelled() {
                std::hint::spin_loop();
            }
            "seen"
        });
        told.recv().unwrap();
        assert_eq!(runtime.shutdown_timeout(AMPLE).abandoned, 0);
        assert_eq!(computes.join().unwrap(), "seen");
    }
}

/// A result that nobody takes is dropped by its thread, which has not ended before.
#[test]
fn the_destructor_of_a_detached_result_is_waited_for() {
    struct Parks(mpsc::Sender<()>, Arc<AtomicUsize>);

    impl Drop for Parks {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
            thread::park();
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (tell, told) = mpsc::channel();
        let result = Parks(tell, Arc::clone(&dropped));
        let handle = runtime.spawn(move || {
            thread::park();
            result
        });
        let thread = handle.thread().clone();
        drop(handle);
        thread.unpark();
        told.recv().unwrap();
        assert_eq!(runtime.metrics().alive, 1);
        thread.unpark();
        let report = runtime.shutdown_timeout(AMPLE);
        assert_eq!((report.abandoned, report.settled), (0, true));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}

/// So is the waker of whoever awaits a thread: it is called there.
#[test]
fn a_waker_that_blocks_is_waited_for() {
    struct Parks(mpsc::Sender<thread::Thread>, Arc<AtomicUsize>);

    impl Wake for Parks {
        fn wake(self: Arc<Self>) {
            // The runtime that stops calls it once more: the handle is still there.
            if bine_runtime::wait::is_green() {
                self.0.send(thread::current()).unwrap();
                thread::park();
                thread::yield_now();
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    for runtime in runtimes() {
        let woken = Arc::new(AtomicUsize::new(0));
        let (tell, told) = mpsc::channel();
        let waker = Waker::from(Arc::new(Parks(tell, Arc::clone(&woken))));
        let mut handle = runtime.spawn(thread::park);
        assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
        handle.thread().unpark();
        let thread = told.recv().unwrap();
        let unparks = std::thread::spawn(move || thread.unpark());
        let report = runtime.shutdown_timeout(AMPLE);
        assert_eq!((report.abandoned, report.settled), (0, true));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        unparks.join().unwrap();
        handle.join().unwrap();
    }
}
