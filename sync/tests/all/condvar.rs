//! The condition variable does what std's does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::crowd::{crowd, panic_deliberately, with_runtimes};
use crate::random::Random;
use bine_sync::{Condvar, Mutex};

/// Takers wait for permits that givers hand out, with and without a timeout; all are taken.
#[test]
fn every_permit_is_taken_once() {
    const SEED: u64 = 0xc04d;
    const EACH: u64 = 3_000;
    let permits = Mutex::new(0u64);
    let changed = Condvar::new();
    thread::scope(|s| {
        for stream in 0..4 {
            let (permits, changed) = (&permits, &changed);
            s.spawn(move || {
                let mut random = Random::new(SEED, stream);
                for _ in 0..EACH {
                    take(permits, changed, &mut random);
                }
            });
            s.spawn(move || {
                let mut random = Random::new(SEED, 100 + stream);
                let mut left = EACH;
                while left > 0 {
                    let some = (1 + random.below(3)).min(left);
                    left -= some;
                    *permits.lock().unwrap() += some;
                    // One notification is enough for one permit, not for more.
                    if some == 1 { changed.notify_one() } else { changed.notify_all() }
                }
            });
        }
    });
    assert_eq!(permits.into_inner().unwrap(), 0, "seed {SEED:#x}");
}

fn take(permits: &Mutex<u64>, changed: &Condvar, random: &mut Random) {
    let mut guard = permits.lock().unwrap();
    if random.below(4) == 0 {
        let patience = Duration::from_micros(random.below(200));
        loop {
            let (again, result) =
                changed.wait_timeout_while(guard, patience, |permits| *permits == 0).unwrap();
            if !result.timed_out() {
                guard = again;
                break;
            }
            // A patience that is over at once does not give the lock back, and nobody could ever
            // hand out a permit.
            drop(again);
            guard = permits.lock().unwrap();
        }
    } else {
        guard = changed.wait_while(guard, |permits| *permits == 0).unwrap();
    }
    *guard -= 1;
}

#[test]
fn a_timeout_says_so() {
    let mutex = Mutex::new(0);
    let condvar = Condvar::new();
    let guard = mutex.lock().unwrap();
    let (guard, result) = condvar.wait_timeout(guard, Duration::from_millis(1)).unwrap();
    assert!(result.timed_out());
    let (guard, result) =
        condvar.wait_timeout_while(guard, Duration::from_secs(3600), |_| false).unwrap();
    assert!(!result.timed_out());
    drop(guard);
    assert!(mutex.try_lock().is_ok(), "the lock was given back");
}

#[test]
fn a_timeout_beyond_the_clock_waits() {
    let mutex = Mutex::new(false);
    let condvar = Condvar::new();
    thread::scope(|s| {
        s.spawn(|| {
            *mutex.lock().unwrap() = true;
            condvar.notify_one();
        });
        let mut ready = mutex.lock().unwrap();
        while !*ready {
            ready = condvar.wait_timeout(ready, Duration::MAX).unwrap().0;
        }
    });
}

#[test]
fn waiting_reports_poison() {
    let mutex = Mutex::new(false);
    let condvar = Condvar::new();
    let result = thread::scope(|s| {
        s.spawn(|| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                *mutex.lock().unwrap() = true;
                condvar.notify_all();
                let _guard = mutex.lock();
                std::panic::resume_unwind(Box::new(()));
            }));
            assert!(caught.is_err());
            condvar.notify_all();
        });
        let mut guard = mutex.lock().unwrap_or_else(|error| error.into_inner());
        while !mutex.is_poisoned() {
            guard = condvar.wait(guard).unwrap_or_else(|error| error.into_inner());
        }
        drop(guard);
        mutex.lock().is_err()
    });
    assert!(result);
}

#[test]
fn formats_as_std_does() {
    assert_eq!(format!("{:?}", Condvar::new()), format!("{:?}", std::sync::Condvar::new()));
}

#[test]
#[allow(deprecated, reason = "std has it still")]
fn a_timeout_in_milliseconds_says_so() {
    let mutex = Mutex::new(false);
    let condvar = Condvar::new();
    let (guard, notified) = condvar.wait_timeout_ms(mutex.lock().unwrap(), 1).unwrap();
    assert!(!notified);
    drop(guard);
    thread::scope(|s| {
        let mut ready = mutex.lock().unwrap();
        s.spawn(|| {
            *mutex.lock().unwrap() = true;
            condvar.notify_one();
        });
        while !*ready {
            let (again, notified) = condvar.wait_timeout_ms(ready, u32::MAX).unwrap();
            assert!(notified || !*again);
            ready = again;
        }
    });
}

#[test]
fn bounds_are_those_of_std() {
    fn assert<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    assert::<Condvar>();
    assert::<bine_sync::WaitTimeoutResult>();
    let ours = bine_sync::Condvar::default()
        .wait_timeout(Mutex::new(()).lock().unwrap(), Duration::ZERO)
        .unwrap()
        .1;
    let theirs = std::sync::Condvar::default()
        .wait_timeout(std::sync::Mutex::new(()).lock().unwrap(), Duration::ZERO)
        .unwrap()
        .1;
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

/// Green threads and OS threads hand permits out and take them, with and without timeouts; some are
/// cancelled where they wait, and some panic with the mutex held.
#[test]
fn a_crowd_waits() {
    const SEED: u64 = 0xc40d;
    with_runtimes(|runtime| {
        let shared = Arc::new((Mutex::new(0u64), Condvar::new()));
        let [given, taken] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let (permits, gives, takes) = (Arc::clone(&shared), Arc::clone(&given), Arc::clone(&taken));
        crowd(runtime, SEED, 60, move |random| {
            let (mutex, changed) = &*permits;
            let mut guard = mutex.lock().unwrap_or_else(|error| error.into_inner());
            let dice = random.below(64);
            if dice < 40 {
                *guard += 1;
                gives.fetch_add(1, Ordering::Relaxed);
                if dice == 0 {
                    // Whoever panics has told nobody.
                    changed.notify_one();
                    panic_deliberately();
                }
                drop(guard);
                if dice < 32 {
                    changed.notify_one()
                } else {
                    changed.notify_all()
                }
                return;
            }
            // Not without a timeout: those who hand out may all have ended.
            let patience = Duration::from_micros(random.below(300));
            let (mut guard, result) = changed
                .wait_timeout_while(guard, patience, |permits| *permits == 0)
                .unwrap_or_else(|error| error.into_inner());
            if *guard > 0 {
                *guard -= 1;
                takes.fetch_add(1, Ordering::Relaxed);
            } else if !result.timed_out() {
                // `wait_timeout_while` stops at an error that says that the mutex is poisoned.
                assert!(mutex.is_poisoned(), "seed {SEED:#x}");
            }
        });
        shared.0.clear_poison();
        let left = *shared.0.try_lock().expect("nobody holds the lock");
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(left + count(&taken), count(&given), "seed {SEED:#x}");
    });
}
