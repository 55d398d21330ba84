//! Cancelling green threads.

mod modes;

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bine_runtime::Builder;
use bine_runtime::thread::{self, Cancelled};
use modes::{runtimes, runtimes_of};

#[test]
fn a_parked_thread_unwinds_and_its_destructors_run() {
    struct Counts(Arc<AtomicUsize>);

    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let counts = Counts(Arc::clone(&dropped));
        let thread = runtime.spawn(move || {
            let _counts = counts;
            thread::park();
        });
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_shielded_section_is_not_interrupted_and_what_follows_is() {
    for runtime in runtimes() {
        let thread = runtime.spawn(|| {
            thread::shielded(thread::park);
            assert!(thread::cancelled());
            thread::yield_now();
            unreachable!("the thread was cancelled");
        });
        thread.cancel().unwrap();
        assert!(!thread.is_finished());
        thread.thread().unpark();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
    }
}

#[test]
fn every_wait_is_interrupted() {
    const LONG: Duration = Duration::from_secs(3600);
    let waits: [fn(); 5] = [
        thread::park,
        || thread::park_timeout(LONG),
        || thread::sleep(LONG),
        || loop {
            thread::yield_now();
        },
        || drop(thread::spawn(thread::park).join()),
    ];
    for runtime in runtimes() {
        for wait in waits {
            for starts_first in [false, true] {
                let started = Arc::new(AtomicUsize::new(0));
                let starts = Arc::clone(&started);
                let thread = runtime.spawn(move || {
                    starts.store(1, Ordering::Release);
                    wait();
                });
                while starts_first && started.load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                }
                thread.cancel().unwrap();
                assert!(thread.join().unwrap_err().is::<Cancelled>());
            }
        }
    }
}

#[test]
fn a_thread_that_has_ended_or_does_not_wait_returns_its_value() {
    for runtime in runtimes() {
        let ended = runtime.spawn(|| 1);
        while !ended.is_finished() {
            std::thread::yield_now();
        }
        ended.cancel().unwrap();
        assert_eq!(ended.join().unwrap(), 1);
        let busy = runtime.spawn(|| {
            while !thread::cancelled() {
                std::hint::spin_loop();
            }
            2
        });
        busy.cancel().unwrap();
        assert_eq!(busy.join().unwrap(), 2);
    }
}

#[test]
fn the_request_stays_when_the_unwinding_is_caught() {
    for runtime in runtimes() {
        let thread = runtime.spawn(|| {
            for _ in 0..100 {
                assert!(catch_unwind(thread::park).unwrap_err().is::<Cancelled>());
                thread::shielded(|| thread::shielded(thread::yield_now));
            }
        });
        thread.cancel().unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn a_join_that_is_interrupted_leaves_the_result_to_the_thread() {
    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let result = Arc::downgrade(&dropped);
        let inner = runtime.spawn(move || {
            thread::park();
            dropped
        });
        let unparks = inner.thread().clone();
        let outer = runtime.spawn(move || drop(inner.join()));
        outer.cancel().unwrap();
        assert!(outer.join().unwrap_err().is::<Cancelled>());
        unparks.unpark();
        while result.strong_count() > 0 {
            std::thread::yield_now();
        }
    }
}

/// Waits when it is dropped.
struct Blocks(Arc<AtomicUsize>);

impl Drop for Blocks {
    fn drop(&mut self) {
        thread::yield_now();
        thread::sleep(Duration::from_nanos(1));
        self.0.fetch_add(1, Ordering::Release);
    }
}

#[test]
fn a_result_whose_destructor_waits_may_be_dropped_by_a_cancelled_thread() {
    for runtime in runtimes() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let blocks = Blocks(Arc::clone(&dropped));
        // Detached and cancelled: the thread drops its result itself.
        let detached = runtime.spawn(move || {
            thread::shielded(thread::park);
            blocks
        });
        detached.cancel().unwrap();
        let unparks = detached.thread().clone();
        drop(detached);
        unparks.unpark();
        while dropped.load(Ordering::Acquire) != 1 {
            std::thread::yield_now();
        }
        // Another thread's result, dropped with its join handle by a cancelled one.
        let blocks = Blocks(Arc::clone(&dropped));
        let ended = runtime.spawn(move || blocks);
        while !ended.is_finished() {
            std::thread::yield_now();
        }
        let drops = runtime.spawn(move || {
            thread::shielded(thread::park);
            drop(ended);
        });
        drops.cancel().unwrap();
        drops.thread().unpark();
        drops.join().unwrap();
        assert_eq!(dropped.load(Ordering::Acquire), 2);
    }
}

#[test]
fn a_cancelled_thread_waits_for_the_end_of_another_runtime_that_it_drops() {
    for runtime in runtimes() {
        let other = Builder::new().workers(2).build().unwrap();
        let thread = runtime.spawn(move || {
            thread::shielded(thread::park);
            drop(other.spawn(thread::park));
            drop(other);
            thread::cancelled()
        });
        thread.cancel().unwrap();
        thread.thread().unpark();
        assert!(thread.join().unwrap());
    }
}

#[test]
fn many_cancel_one_thread_that_is_about_to_end() {
    for runtime in runtimes() {
        for _ in 0..50 {
            let thread = runtime.spawn(|| (0..3).for_each(|_| thread::yield_now()));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| thread.cancel().unwrap());
                }
            });
            if let Err(error) = thread.join() {
                assert!(error.is::<Cancelled>());
            }
        }
        assert_eq!(runtime.metrics().alive, 0);
    }
}

/// A thread whose join is interrupted leaves nothing with the one that it waited for. Else a row of
/// such threads would hold one another, and go when the last one does, each in the middle of the next.
#[test]
fn interrupted_joins_do_not_add_up() {
    const THREADS: u64 = 5_000;
    for runtime in runtimes_of(&Builder::new().stack_size(64 << 10), &[1]) {
        let mut next = runtime.spawn(thread::park);
        let last = next.thread().clone();
        let (tell, told) = mpsc::channel();
        for _ in 1..THREADS {
            let tell = tell.clone();
            next = runtime.spawn(move || {
                tell.send(()).unwrap();
                let _ = next.join();
            });
            told.recv().unwrap();
        }
        drop(next);
        // Those that came last are cancelled first, while the ones that they join still wait.
        let report = runtime.shutdown_timeout(Duration::from_secs(60));
        assert_eq!((report.ended, report.abandoned), (THREADS, 0));
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn(move || drop(last)).unwrap().join().unwrap();
    }
}
