//! The semaphore: permits neither lost nor made, and nobody left waiting for one that is there.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::{AcquireTimeoutError, Semaphore, Unparker, cancel};
use loom::cell::UnsafeCell;
use loom::sync::mpsc;
use loom::thread;

/// What the holder of all permits may touch; loom watches that it is one at a time.
struct Guarded {
    semaphore: Semaphore,
    count: UnsafeCell<u32>,
}

// SAFETY: loom checks that those who touch the count come one after the other.
unsafe impl Sync for Guarded {}
// SAFETY: a number.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self { semaphore: Semaphore::new(permits), count: UnsafeCell::new(0) })
    }

    fn add(&self, permits: u32) {
        let permits = self.semaphore.acquire_many(permits).unwrap();
        // SAFETY: loom checks it.
        self.count.with_mut(|count| unsafe { *count += 1 });
        drop(permits);
    }
}

fn adds(guarded: &Arc<Guarded>, permits: u32, times: u32) -> thread::JoinHandle<()> {
    let guarded = guarded.clone();
    thread::spawn(move || (0..times).for_each(|_| guarded.add(permits)))
}

#[test]
fn one_permit_and_three_threads() {
    bounded_model("semaphore::one_permit_and_three_threads", 2, || {
        let guarded = Guarded::new(1);
        let others = [adds(&guarded, 1, 1), adds(&guarded, 1, 1)];
        guarded.add(1);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(guarded.semaphore.available_permits(), 1);
        assert!(guarded.semaphore.try_acquire().is_ok(), "nobody waits");
    });
}

#[test]
fn two_permits_at_a_time() {
    model("semaphore::two_permits_at_a_time", || {
        let guarded = Guarded::new(2);
        let other = adds(&guarded, 2, 2);
        guarded.add(2);
        other.join().unwrap();
        assert!(guarded.semaphore.try_acquire_many(2).is_ok());
    });
}

/// One that wants more than there is gives up, and the one behind it goes on with what there is.
#[test]
fn a_timeout_lets_the_next_one_go_on() {
    bounded_model("semaphore::a_timeout_lets_the_next_one_go_on", 2, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let greedy = {
            let semaphore = semaphore.clone();
            thread::spawn(move || {
                let late = semaphore.acquire_many_timeout(2, Duration::ZERO).unwrap_err();
                assert_eq!(late, AcquireTimeoutError::Timeout);
            })
        };
        let modest = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.acquire().unwrap().forget())
        };
        modest.join().unwrap();
        greedy.join().unwrap();
        semaphore.add_permits(1);
        assert!(semaphore.try_acquire().is_ok(), "nobody waits");
    });
}

#[test]
fn closing_against_a_waiter_and_a_permit() {
    bounded_model("semaphore::closing_against_a_waiter_and_a_permit", 2, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let waits = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.acquire().map(|permit| permit.forget()).is_ok())
        };
        let closes = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.close())
        };
        semaphore.add_permits(1);
        let got = waits.join().unwrap();
        closes.join().unwrap();
        assert_eq!(semaphore.available_permits(), usize::from(!got));
    });
}

#[test]
fn closing_against_a_waiter() {
    model("semaphore::closing_against_a_waiter", || {
        let semaphore = Arc::new(Semaphore::new(0));
        let waits = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.acquire().is_err())
        };
        semaphore.close();
        assert!(waits.join().unwrap());
    });
}

/// A permit that is added brings along what was done before.
#[test]
fn adding_a_permit_against_a_waiter() {
    model("semaphore::adding_a_permit_against_a_waiter", || {
        let guarded = Guarded::new(0);
        let waits = adds(&guarded, 1, 1);
        // SAFETY: loom checks it.
        guarded.count.with_mut(|count| unsafe { *count += 1 });
        guarded.semaphore.add_permits(1);
        waits.join().unwrap();
    });
}

/// One that waits is cancelled, which may have been granted a permit by then.
#[test]
fn a_cancellation_beside_a_waiter() {
    bounded_model("semaphore::a_cancellation_beside_a_waiter", 1, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let (tell, told) = mpsc::channel();
        let victim = {
            let semaphore = semaphore.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                drop(semaphore.acquire());
            })
        };
        let survivor = {
            let semaphore = semaphore.clone();
            thread::spawn(move || drop(semaphore.acquire().unwrap()))
        };
        cancel(told.recv().unwrap());
        semaphore.add_permits(1);
        survivor.join().unwrap();
        victim.join().unwrap();
        assert!(semaphore.try_acquire().is_ok(), "the permit is there, and nobody waits");
    });
}

/// One that wants more than there is unwinds, and the one behind it goes on with what there is.
#[test]
fn a_cancellation_lets_the_next_one_go_on() {
    bounded_model("semaphore::a_cancellation_lets_the_next_one_go_on", 2, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let (tell, told) = mpsc::channel();
        let greedy = {
            let semaphore = semaphore.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                assert!(semaphore.acquire_many(2).is_err());
            })
        };
        let modest = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.acquire().unwrap().forget())
        };
        cancel(told.recv().unwrap());
        modest.join().unwrap();
        greedy.join().unwrap();
    });
}
