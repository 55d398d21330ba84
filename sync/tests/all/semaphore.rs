//! The semaphore: permits are neither lost nor made, and come in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::crowd::{crowd, panic_deliberately, with_runtimes};
use bine_runtime::thread::{self, Cancelled};
use bine_sync::{
    AcquireError, AcquireTimeoutError, OwnedSemaphorePermit, Semaphore, SemaphorePermit,
    TryAcquireError,
};

#[test]
fn permits_are_counted() {
    let semaphore = Arc::new(Semaphore::new(3));
    let mut one = semaphore.acquire().unwrap();
    let two = semaphore.try_acquire_many(2).unwrap();
    assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(
        semaphore.acquire_timeout(Duration::ZERO).unwrap_err(),
        AcquireTimeoutError::Timeout
    );
    one.merge(two);
    let mut three = one;
    assert_eq!(three.num_permits(), 3);
    drop(three.split(1).unwrap());
    assert_eq!(semaphore.available_permits(), 1);
    assert!(three.split(3).is_none());
    three.forget();
    assert_eq!(semaphore.available_permits(), 1);
    semaphore.add_permits(4);
    assert_eq!(semaphore.forget_permits(2), 2);
    let mut owned = Arc::clone(&semaphore).acquire_many_owned(2).unwrap();
    owned.merge(Arc::clone(&semaphore).try_acquire_owned().unwrap());
    assert_eq!(semaphore.available_permits(), 0);
    assert_eq!(owned.split(1).unwrap().num_permits(), 1);
    assert!(Arc::ptr_eq(owned.semaphore(), &semaphore));
    drop(owned);
    assert_eq!(semaphore.available_permits(), 3);
    assert!(semaphore.acquire_many(0).is_ok());
}

#[test]
#[should_panic(expected = "permits of two semaphores")]
fn permits_of_two_semaphores_do_not_merge() {
    let (one, another) = (Semaphore::new(1), Semaphore::new(1));
    one.acquire().unwrap().merge(another.acquire().unwrap());
}

#[test]
#[should_panic(expected = "too many permits")]
fn permits_do_not_overflow() {
    Semaphore::new(1).add_permits(Semaphore::MAX_PERMITS);
}

#[test]
fn closing_ends_all_waits_and_keeps_permits() {
    with_runtimes(|runtime| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire().unwrap();
        let waits: Vec<_> = (0..10)
            .map(|_| {
                let semaphore = Arc::clone(&semaphore);
                runtime.spawn(move || semaphore.acquire().map(drop))
            })
            .collect();
        semaphore.close();
        assert!(semaphore.is_closed());
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Err(AcquireError));
        }
        assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
        drop(permit);
        assert_eq!(semaphore.available_permits(), 1);
        assert_eq!(
            semaphore.acquire_timeout(Duration::MAX).unwrap_err(),
            AcquireTimeoutError::Closed
        );
    });
}

/// One worker, so that the order in which threads come to wait is that in which they were spawned.
#[test]
fn permits_come_in_order() {
    let runtime = bine_runtime::Builder::new().workers(1).spare_workers(0).build().unwrap();
    runtime.run(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut threads = Vec::new();
        for (n, permits) in [3, 1, 2, 1].into_iter().enumerate() {
            let (semaphore, order) = (Arc::clone(&semaphore), Arc::clone(&order));
            threads.push(bine_runtime::spawn(move || {
                semaphore.acquire_many(permits).unwrap().forget();
                order.lock().unwrap().push(n);
            }));
            thread::yield_now();
        }
        // Enough for the second, which must not overtake the first.
        semaphore.add_permits(2);
        thread::yield_now();
        assert!(semaphore.try_acquire().is_err());
        assert!(order.lock().unwrap().is_empty());
        for _ in 0..5 {
            semaphore.add_permits(1);
            thread::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    });
}

/// What one that wants many held up goes on when that one gives up.
#[test]
fn those_behind_go_on_when_the_first_gives_up() {
    with_runtimes(|runtime| {
        let semaphore = Arc::new(Semaphore::new(1));
        let greedy = {
            let semaphore = Arc::clone(&semaphore);
            runtime.spawn(move || semaphore.acquire_many(2).map(drop))
        };
        // From when on it waits, nobody else gets one.
        while semaphore.try_acquire().is_ok() {
            std::thread::yield_now();
        }
        let modest = {
            let semaphore = Arc::clone(&semaphore);
            runtime.spawn(move || semaphore.acquire().map(drop))
        };
        greedy.cancel().unwrap();
        assert!(greedy.join().unwrap_err().is::<Cancelled>());
        assert_eq!(modest.join().unwrap(), Ok(()));

        let hasty = {
            let semaphore = Arc::clone(&semaphore);
            runtime.spawn(move || {
                semaphore.acquire_many_timeout(2, Duration::from_millis(1)).map(drop)
            })
        };
        let modest = {
            let semaphore = Arc::clone(&semaphore);
            runtime.spawn(move || semaphore.acquire().map(drop))
        };
        assert_eq!(hasty.join().unwrap(), Err(AcquireTimeoutError::Timeout));
        assert_eq!(modest.join().unwrap(), Ok(()));
        assert!(semaphore.try_acquire().is_ok());
    });
}

#[test]
fn bounds_and_formats() {
    fn shared<T: Send + Sync>() {}
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    shared::<Semaphore>();
    shared::<SemaphorePermit<'static>>();
    shared::<OwnedSemaphorePermit>();
    error::<AcquireError>();
    error::<TryAcquireError>();
    error::<AcquireTimeoutError>();
    let semaphore = Semaphore::new(2);
    let permit = semaphore.acquire().unwrap();
    assert_eq!(format!("{semaphore:?}"), "Semaphore { permits: 1, .. }");
    assert_eq!(format!("{permit:?}"), "SemaphorePermit { permits: 1, .. }");
}

#[test]
fn a_crowd_takes_and_gives_back() {
    const SEED: u64 = 0x5e4a;
    const PERMITS: usize = 4;
    with_runtimes(|runtime| {
        let semaphore = Arc::new(Semaphore::new(PERMITS));
        let held = Arc::new(AtomicUsize::new(0));
        let added = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&semaphore);
        let (holders, forgotten) = (Arc::clone(&held), Arc::clone(&added));
        /// Counts what is held, also if the thread unwinds.
        struct Held<'a>(&'a AtomicUsize, usize);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(self.1, Ordering::Relaxed);
            }
        }
        crowd(runtime, SEED, 100, move |random| {
            let n = 1 + random.below(3) as u32;
            let permit = match random.below(8) {
                0 => shared.try_acquire_many(n).ok(),
                1 => {
                    let patience = Duration::from_micros(random.below(200));
                    shared.acquire_many_timeout(n, patience).ok()
                }
                2 => {
                    drop(Arc::clone(&shared).acquire_owned().unwrap());
                    None
                }
                _ => Some(shared.acquire_many(n).unwrap()),
            };
            let Some(permit) = permit else { return };
            let before = holders.fetch_add(n as usize, Ordering::Relaxed);
            let _held = Held(&holders, n as usize);
            assert!(before + n as usize <= PERMITS, "seed {SEED:#x}");
            match random.below(16) {
                0..6 => thread::yield_now(),
                6 => panic_deliberately(),
                7 => {
                    // Counts down before others may get the permits.
                    drop(_held);
                    forgotten.fetch_add(u64::from(n), Ordering::Relaxed);
                    permit.forget();
                    shared.add_permits(n as usize);
                    return;
                }
                _ => {}
            }
            drop(_held);
            drop(permit);
        });
        assert_eq!(held.load(Ordering::Relaxed), 0, "seed {SEED:#x}");
        assert_eq!(semaphore.available_permits(), PERMITS, "seed {SEED:#x}");
        // The word says that nobody waits.
        assert!(semaphore.try_acquire_many(PERMITS as u32).is_ok(), "seed {SEED:#x}");
    });
}
