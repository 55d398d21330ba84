//! The lock for readers and writers: writers alone, and nobody left waiting.
#![cfg(bine_loom)]

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::{RwLock, RwLockWriteGuard, Unparker, cancel};
use loom::cell::UnsafeCell;
use loom::sync::mpsc;
use loom::thread;

/// A count whose accesses loom watches: a write beside another access, or two accesses that nothing
/// orders, fail the model.
#[derive(Debug)]
struct Count(UnsafeCell<u32>);

// SAFETY: loom checks that the lock keeps writers apart from everybody.
unsafe impl Sync for Count {}

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

type Lock = Arc<RwLock<Count>>;

fn counter() -> Lock {
    Arc::new(RwLock::new(Count(UnsafeCell::new(0))))
}

fn writes(lock: &Lock, times: u32) -> thread::JoinHandle<()> {
    let lock = lock.clone();
    thread::spawn(move || (0..times).for_each(|_| lock.write().unwrap().add()))
}

fn reads(lock: &Lock, times: u32) -> thread::JoinHandle<()> {
    let lock = lock.clone();
    thread::spawn(move || {
        for _ in 0..times {
            lock.read().unwrap().get();
        }
    })
}

#[test]
fn a_reader_and_a_writer() {
    model("rwlock::a_reader_and_a_writer", || {
        let lock = counter();
        let other = writes(&lock, 2);
        for _ in 0..2 {
            assert!(lock.read().unwrap().get() <= 2);
        }
        other.join().unwrap();
        assert_eq!(lock.read().unwrap().get(), 2);
    });
}

#[test]
fn two_writers_and_a_reader() {
    bounded_model("rwlock::two_writers_and_a_reader", 2, || {
        let lock = counter();
        let others = [writes(&lock, 1), reads(&lock, 1)];
        lock.write().unwrap().add();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(lock.read().unwrap().get(), 2);
    });
}

#[test]
fn two_readers_and_a_writer() {
    bounded_model("rwlock::two_readers_and_a_writer", 2, || {
        let lock = counter();
        let others = [reads(&lock, 1), reads(&lock, 1)];
        lock.write().unwrap().add();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(lock.read().unwrap().get(), 1);
    });
}

#[test]
fn hand_over_after_losses() {
    bounded_model("rwlock::hand_over_after_losses", 2, || {
        let lock = counter();
        let others = [writes(&lock, 1), writes(&lock, 3)];
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(lock.read().unwrap().get(), 4);
    });
}

#[test]
fn a_downgrade_lets_readers_in_and_no_writer() {
    bounded_model("rwlock::a_downgrade_lets_readers_in_and_no_writer", 2, || {
        let lock = counter();
        let others = [reads(&lock, 1), writes(&lock, 1)];
        let mut guard = lock.write().unwrap();
        guard.add();
        let seen = guard.get();
        let guard = RwLockWriteGuard::downgrade(guard);
        assert_eq!(guard.get(), seen);
        drop(guard);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(lock.read().unwrap().get(), 2);
    });
}

/// A writer that has lost the lock once is to be handed it, but not beside a reader.
#[test]
fn a_downgrade_and_a_writer_that_has_lost() {
    model("rwlock::a_downgrade_and_a_writer_that_has_lost", || {
        let lock = counter();
        let other = writes(&lock, 1);
        drop(lock.write().unwrap());
        let guard = RwLockWriteGuard::downgrade(lock.write().unwrap());
        let seen = guard.get();
        assert_eq!(guard.get(), seen);
        drop(guard);
        other.join().unwrap();
    });
}

/// The one who holds the lock for reading waits for a reader, which must not wait for a writer that is
/// there no more.
#[test]
fn a_cancelled_writer_keeps_no_reader_out() {
    bounded_model("rwlock::a_cancelled_writer_keeps_no_reader_out", 2, || {
        let lock = counter();
        let (tell, told) = mpsc::channel();
        let guard = lock.read().unwrap();
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                assert!(lock.write_unless_cancelled().is_none(), "the lock is held");
            })
        };
        let reader = reads(&lock, 1);
        cancel(told.recv().unwrap());
        reader.join().unwrap();
        writer.join().unwrap();
        drop(guard);
        assert!(lock.try_write().is_ok());
    });
}

/// A writer that is cancelled lets a reader in, which must see what was written before: it gets the order
/// from one that never had the lock.
#[test]
fn a_cancelled_writer_lets_a_reader_in() {
    bounded_model("rwlock::a_cancelled_writer_lets_a_reader_in", 2, || {
        let lock = counter();
        let (tell, told) = mpsc::channel();
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                drop(lock.write_unless_cancelled());
            })
        };
        let canceller = thread::spawn(move || cancel(told.recv().unwrap()));
        let reader = reads(&lock, 1);
        let mut guard = lock.write().unwrap();
        guard.add();
        let guard = RwLockWriteGuard::downgrade(guard);
        canceller.join().unwrap();
        reader.join().unwrap();
        writer.join().unwrap();
        drop(guard);
    });
}

/// A writer that is cancelled just when it is woken, or handed the lock.
#[test]
fn a_cancelled_writer_passes_the_lock_on() {
    bounded_model("rwlock::a_cancelled_writer_passes_the_lock_on", 2, || {
        let lock = counter();
        let (tell, told) = mpsc::channel();
        let guard = lock.write().unwrap();
        let victim = {
            let lock = lock.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                if let Some(guard) = lock.write_unless_cancelled() {
                    guard.unwrap().add();
                }
            })
        };
        let others = writes(&lock, 1);
        let victim_thread = told.recv().unwrap();
        drop(guard);
        cancel(victim_thread);
        others.join().unwrap();
        victim.join().unwrap();
        assert!(lock.try_write().is_ok(), "nobody holds the lock");
    });
}
