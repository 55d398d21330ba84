//! The lock for readers and writers does what std's does.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::crowd::{crowd, panic_deliberately, with_runtimes};
use bine_runtime::thread::{Cancelled, yield_now};
use bine_sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

fn panics_with<T>(lock: &RwLock<T>, write: bool) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _write = write.then(|| lock.write().unwrap());
        let _read = (!write).then(|| lock.read().unwrap());
        resume_unwind(Box::new(()));
    }));
    assert!(outcome.is_err());
}

#[test]
fn readers_come_together_and_writers_alone() {
    let lock = RwLock::new(1);
    let (one, another) = (lock.read().unwrap(), lock.try_read().unwrap());
    assert_eq!(*one + *another, 2);
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    drop(one);
    assert!(lock.try_write().is_err());
    drop(another);
    let mut writes = lock.try_write().unwrap();
    *writes = 2;
    assert!(lock.try_write().is_err());
    assert!(lock.try_read().is_err());
    drop(writes);
    assert_eq!(lock.into_inner().unwrap(), 2);
}

#[test]
fn a_panic_poisons_for_a_writer_alone() {
    let mut lock = RwLock::new(1);
    panics_with(&lock, false);
    assert!(!lock.is_poisoned());
    panics_with(&lock, true);
    assert!(lock.is_poisoned());
    assert_eq!(*lock.read().unwrap_err().into_inner(), 1);
    assert_eq!(*lock.write().unwrap_err().into_inner(), 1);
    assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
    assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
    assert_eq!(*lock.get_mut().unwrap_err().into_inner(), 1);
    lock.clear_poison();
    assert!(lock.write().is_ok());
    panics_with(&lock, true);
    assert_eq!(lock.into_inner().unwrap_err().into_inner(), 1);
}

#[test]
fn formats_as_std_does() {
    let (ours, theirs) = (RwLock::new(1), std::sync::RwLock::new(1));
    assert_eq!(format!("{ours:?} {ours:#?}"), format!("{theirs:?} {theirs:#?}"));
    {
        let (our_guard, their_guard) = (ours.read().unwrap(), theirs.read().unwrap());
        assert_eq!(format!("{our_guard:?} {our_guard}"), format!("{their_guard:?} {their_guard}"));
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
    let (our_guard, their_guard) = (ours.write().unwrap(), theirs.write().unwrap());
    assert_eq!(format!("{our_guard:?} {our_guard}"), format!("{their_guard:?} {their_guard}"));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    drop((our_guard, their_guard));
    panics_with(&ours, true);
    assert!(
        catch_unwind(AssertUnwindSafe(|| {
            let _guard = theirs.write().unwrap();
            resume_unwind(Box::new(()));
        }))
        .is_err()
    );
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

#[test]
fn bounds_are_those_of_std() {
    fn assert<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn sync<T: Sync + UnwindSafe>() {}
    fn covariant<'a>(guard: RwLockReadGuard<'a, &'static str>) -> RwLockReadGuard<'a, &'a str> {
        guard
    }
    assert::<RwLock<u32>>();
    sync::<RwLockReadGuard<'static, u32>>();
    sync::<RwLockWriteGuard<'static, u32>>();
    assert_eq!(*RwLock::<u32>::default().read().unwrap(), 0);
    assert_eq!(*RwLock::from(3).read().unwrap(), 3);
    let lock = RwLock::new("covariant");
    assert_eq!(*covariant(lock.read().unwrap()), "covariant");
    let unsized_value: Box<RwLock<[u32]>> = Box::new(RwLock::new([1, 2, 3]));
    unsized_value.write().unwrap()[1] = 5;
    assert_eq!(*unsized_value.read().unwrap(), [1, 5, 3]);
}

#[test]
fn nobody_writes_while_a_writer_becomes_a_reader() {
    const ROUNDS: u64 = 500;
    let lock = RwLock::new(0u64);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut writes = lock.write().unwrap();
                    *writes += 1;
                    let written = *writes;
                    let reads = RwLockWriteGuard::downgrade(writes);
                    assert_eq!(*reads, written);
                    assert!(lock.try_write().is_err());
                }
            });
        }
    });
    assert_eq!(lock.into_inner().unwrap(), 4 * ROUNDS);
}

#[test]
fn readers_that_wait_come_in_when_the_writer_becomes_a_reader() {
    with_runtimes(|runtime| {
        let lock = Arc::new(RwLock::new(0));
        let writes = lock.write().unwrap();
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let lock = Arc::clone(&lock);
                runtime.spawn(move || *lock.read().unwrap())
            })
            .collect();
        let reads = RwLockWriteGuard::downgrade(writes);
        // They end although the lock is held for reading all the while.
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 0);
        }
        drop(reads);
    });
}

/// Ends only if readers without end do not keep a writer out, nor writers a reader.
#[test]
fn nobody_starves() {
    for writers_only in [false, true] {
        let lock = RwLock::new(());
        let served = AtomicBool::new(false);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    while !served.load(Ordering::Relaxed) {
                        if writers_only {
                            drop(lock.write().unwrap());
                        } else {
                            // Two that overlap: without a rule the lock is never free.
                            let first = lock.read().unwrap();
                            yield_now();
                            drop(first);
                        }
                    }
                });
            }
            s.spawn(|| {
                for _ in 0..200 {
                    if writers_only {
                        drop(lock.read().unwrap());
                    } else {
                        drop(lock.write().unwrap());
                    }
                }
                served.store(true, Ordering::Relaxed);
            });
        });
    }
}

/// A writer that waits keeps readers out; when it is cancelled, nothing does.
#[test]
fn readers_behind_a_cancelled_writer_come_in_beside_the_others() {
    with_runtimes(|runtime| {
        let lock = Arc::new(RwLock::new(()));
        let reads = lock.read().unwrap();
        let writer = {
            let lock = Arc::clone(&lock);
            runtime.spawn(move || drop(lock.write()))
        };
        // From when on it waits, a reader would have to.
        while lock.try_read().is_ok() {
            thread::yield_now();
        }
        let reader = {
            let lock = Arc::clone(&lock);
            runtime.spawn(move || drop(lock.read()))
        };
        writer.cancel().unwrap();
        assert!(writer.join().unwrap_err().is::<Cancelled>());
        reader.join().unwrap();
        assert!(lock.try_read().is_ok());
        drop(reads);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_crowd_reads_and_writes() {
    const SEED: u64 = 0x4711;
    with_runtimes(|runtime| {
        let lock = Arc::new(RwLock::new((0u64, 0u64)));
        let written = Arc::new(AtomicU64::new(0));
        let (shared, counted) = (Arc::clone(&lock), Arc::clone(&written));
        crowd(runtime, SEED, 150, move |random| {
            let dice = random.below(64);
            match dice {
                0..32 => {
                    let reads = shared.read().unwrap_or_else(|error| error.into_inner());
                    let before = *reads;
                    if dice < 16 {
                        yield_now();
                    }
                    assert_eq!(*reads, before, "seed {SEED:#x}");
                    assert_eq!(before.0, before.1, "seed {SEED:#x}");
                    if dice == 0 {
                        panic_deliberately();
                    }
                }
                32..40 => {
                    if let Ok(reads) = shared.try_read() {
                        assert_eq!(reads.0, reads.1, "seed {SEED:#x}");
                    }
                }
                40..44 => {
                    if let Ok(mut writes) = shared.try_write() {
                        writes.0 += 1;
                        writes.1 += 1;
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                _ => {
                    let mut writes = shared.write().unwrap_or_else(|error| error.into_inner());
                    let before = writes.0;
                    if dice < 54 {
                        yield_now();
                    }
                    writes.0 = before + 1;
                    writes.1 += 1;
                    counted.fetch_add(1, Ordering::Relaxed);
                    match dice {
                        63 => panic_deliberately(),
                        60..63 => {
                            let reads = RwLockWriteGuard::downgrade(writes);
                            yield_now();
                            assert_eq!(reads.0, before + 1, "seed {SEED:#x}");
                        }
                        _ => {}
                    }
                }
            }
        });
        lock.clear_poison();
        let value = *lock.try_write().expect("nobody holds the lock");
        let written = written.load(Ordering::Relaxed);
        assert_eq!(value, (written, written), "seed {SEED:#x}");
    });
}
