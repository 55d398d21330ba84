//! The condition variable does what std's does.

mod random;

use std::thread;
use std::time::Duration;

use bine_sync::{Condvar, Mutex};
use random::Random;

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
