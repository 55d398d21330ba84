use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use super::on_threads::run_on;
use super::pool::Pool;
use crate::runtime::Builder;

/// Its threads leave when they have nothing to do for `keep_alive`. Kept for ever, as the one of the
/// process: its threads refer to it.
fn pool_for(limit: usize, keep_alive: Duration) -> &'static Pool {
    static KEPT: Mutex<Vec<&'static Pool>> = Mutex::new(Vec::new());
    let pool = Box::leak(Box::new(Pool::new(limit, keep_alive)));
    KEPT.lock().unwrap().push(pool);
    pool
}

fn pool(limit: usize) -> &'static Pool {
    pool_for(limit, Duration::from_millis(20))
}

#[test]
fn a_pool_that_has_nothing_to_do_shrinks_and_grows_again() {
    const JOBS: usize = 8;
    let pool = pool(JOBS);
    let runtime = Builder::new().workers(2).build().unwrap();
    for _ in 0..3 {
        let all = Arc::new(Barrier::new(JOBS));
        let spawn = |_| {
            let all = Arc::clone(&all);
            runtime.spawn(move || run_on(pool, || all.wait().is_leader()))
        };
        let threads: Vec<_> = (0..JOBS).map(spawn).collect();
        let leaders = threads.into_iter().filter_map(|thread| thread.join().unwrap().then_some(()));
        assert_eq!(leaders.count(), 1);
        while pool.threads() > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn threads_that_are_kept_for_ever_do_all_jobs() {
    let pool = pool_for(1, Duration::MAX);
    let runtime = Builder::new().workers(2).build().unwrap();
    let ids: Vec<_> = (0..20)
        .map(|_| {
            runtime.spawn(move || run_on(pool, || std::thread::current().id())).join().unwrap()
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(pool.threads(), 1);
}

/// Each thread is about to leave when the next job comes.
#[test]
fn threads_that_are_not_kept_lose_no_job() {
    for limit in [1, 2, 70] {
        let pool = pool_for(limit, Duration::ZERO);
        let runtime = Builder::new().workers(2).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let spawn = |_| {
            let ran = Arc::clone(&ran);
            runtime.spawn(move || {
                for round in 0..200 {
                    let job = || ran.fetch_add(1, Ordering::Relaxed);
                    run_on(pool, job);
                    if round % 3 == 0 {
                        crate::thread::yield_now();
                    }
                }
            })
        };
        let threads: Vec<_> = (0..10).map(spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(ran.load(Ordering::Relaxed), 2_000);
        while pool.threads() > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn more_jobs_than_threads_queue() {
    for limit in [1, 3, 65] {
        let pool = pool(limit);
        let runtime = Builder::new().workers(2).build().unwrap();
        let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let spawn = |_| {
            let counts = Arc::clone(&counts);
            runtime.spawn(move || {
                let [now, most] = &*counts;
                for _ in 0..20 {
                    run_on(pool, || {
                        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            })
        };
        let threads: Vec<_> = (0..100).map(spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((1..=limit).contains(&counts[1].load(Ordering::Relaxed)));
    }
}
