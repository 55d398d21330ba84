//! The mutex: one holder at a time, and nobody left waiting.
#![cfg(bine_loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::{Mutex, TryLockError, Unparker, cancel};
use loom::cell::UnsafeCell;
use loom::sync::mpsc;
use loom::thread;

/// A count whose accesses loom watches: two at once, or two that nothing orders, fail the model.
#[derive(Debug)]
struct Count(UnsafeCell<u32>);

impl Count {
    fn add(&mut self) {
        // SAFETY: `&mut self`; loom checks that the lock which gave it out means it.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: as in `add`.
        self.0.with(|count| unsafe { *count })
    }
}

fn counter() -> Arc<Mutex<Count>> {
    Arc::new(Mutex::new(Count(UnsafeCell::new(0))))
}

fn adds(mutex: &Arc<Mutex<Count>>, times: u32) -> thread::JoinHandle<()> {
    let mutex = mutex.clone();
    thread::spawn(move || (0..times).for_each(|_| mutex.lock().unwrap().add()))
}

#[test]
fn two_threads() {
    model("mutex::two_threads", || {
        let mutex = counter();
        let other = adds(&mutex, 1);
        mutex.lock().unwrap().add();
        other.join().unwrap();
        assert_eq!(mutex.lock().unwrap().get(), 2);
    });
}

#[test]
fn two_threads_twice() {
    model("mutex::two_threads_twice", || {
        let mutex = counter();
        let other = adds(&mutex, 2);
        mutex.lock().unwrap().add();
        mutex.lock().unwrap().add();
        other.join().unwrap();
        assert_eq!(mutex.lock().unwrap().get(), 4);
    });
}

#[test]
fn three_threads() {
    model("mutex::three_threads", || {
        let mutex = counter();
        let others = [adds(&mutex, 1), adds(&mutex, 1)];
        mutex.lock().unwrap().add();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(mutex.lock().unwrap().get(), 3);
    });
}

#[test]
fn hand_over_after_losses() {
    model("mutex::hand_over_after_losses", || {
        let mutex = counter();
        let others = [adds(&mutex, 1), adds(&mutex, 3)];
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(mutex.lock().unwrap().get(), 4);
    });
}

#[test]
fn try_lock_against_waiters() {
    model("mutex::try_lock_against_waiters", || {
        let mutex = counter();
        let others = [adds(&mutex, 1), adds(&mutex, 1)];
        let mut added = 2;
        match mutex.try_lock() {
            Ok(mut count) => {
                count.add();
                added += 1;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(_)) => unreachable!("nobody panics"),
        }
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(mutex.lock().unwrap().get(), added);
    });
}

#[test]
fn poisoned_unlock_wakes_the_waiter() {
    model("mutex::poisoned_unlock_wakes_the_waiter", || {
        let mutex = counter();
        let other = {
            let mutex = mutex.clone();
            thread::spawn(move || {
                // `resume_unwind` is a panic without a message for each execution.
                let panic = AssertUnwindSafe(|| {
                    let _guard = mutex.lock().unwrap_or_else(|error| error.into_inner());
                    std::panic::resume_unwind(Box::new("the holder"));
                });
                assert!(catch_unwind(panic).is_err());
            })
        };
        mutex.lock().unwrap_or_else(|error| error.into_inner()).add();
        other.join().unwrap();
        assert!(mutex.is_poisoned());
        assert_eq!(mutex.lock().unwrap_err().get_ref().get(), 1);
    });
}

/// Whoever unlocks last frees the lock, which the one before may just have given back.
#[test]
fn the_last_holder_frees_it() {
    model("mutex::the_last_holder_frees_it", || {
        let mutex = Box::into_raw(Box::new(Mutex::new(2)));
        let leave = move || {
            // SAFETY: it is there until both have left.
            let mut stay = unsafe { &*mutex }.lock().unwrap();
            *stay -= 1;
            let last = *stay == 0;
            drop(stay);
            if last {
                // SAFETY: from a box, and the other has left.
                drop(unsafe { Box::from_raw(mutex) });
            }
        };
        let other = thread::spawn(leave);
        leave();
        other.join().unwrap();
    });
}

/// One that waits is cancelled, which may be the woken one, or hold the lock by then.
#[test]
fn a_cancellation_passes_the_lock_on() {
    bounded_model("mutex::a_cancellation_passes_the_lock_on", 1, || {
        let mutex = counter();
        let (tell, told) = mpsc::channel();
        let guard = mutex.lock().unwrap();
        let victim = {
            let mutex = mutex.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                if let Some(guard) = mutex.lock_unless_cancelled() {
                    guard.unwrap().add();
                }
            })
        };
        let other = adds(&mutex, 1);
        let victim_thread = told.recv().unwrap();
        drop(guard);
        cancel(victim_thread);
        other.join().unwrap();
        victim.join().unwrap();
        assert!(mutex.try_lock().is_ok(), "nobody holds the lock");
    });
}

/// As before with one waiter, which loses the lock first, and is cancelled just when it is handed it.
#[test]
fn a_cancellation_of_one_that_is_handed_the_lock() {
    model("mutex::a_cancellation_of_one_that_is_handed_the_lock", || {
        let mutex = counter();
        let (tell, told) = mpsc::channel();
        let guard = mutex.lock().unwrap();
        let victim = {
            let mutex = mutex.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                if let Some(guard) = mutex.lock_unless_cancelled() {
                    guard.unwrap().add();
                }
            })
        };
        let victim_thread = told.recv().unwrap();
        drop(guard);
        let guard = mutex.lock().unwrap();
        cancel(victim_thread);
        drop(guard);
        victim.join().unwrap();
        assert!(mutex.try_lock().is_ok(), "nobody holds the lock");
    });
}
