//! The mutex does what std's does.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::random::Random;
use bine_sync::{Mutex, TryLockError};

#[test]
fn counts_every_addition() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 20_000;
    let count = Mutex::new(0);
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| (0..ROUNDS).for_each(|_| *count.lock().unwrap() += 1));
        }
    });
    assert_eq!(count.into_inner().unwrap(), THREADS * ROUNDS);
}

/// Locks, tries, holds across a yield, and panics with the lock held, at random.
#[test]
fn holders_that_panic_lose_nothing() {
    const SEED: u64 = 0xb1e5;
    const ROUNDS: u64 = 4_000;
    let count = Mutex::new(0u64);
    let added = thread::scope(|s| {
        let threads: Vec<_> = (0..6)
            .map(|stream| {
                let count = &count;
                s.spawn(move || (0..ROUNDS).filter(|_| add_somehow(count, SEED, stream)).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap() as u64).sum::<u64>()
    });
    count.clear_poison();
    assert_eq!(*count.lock().unwrap(), added, "seed {SEED:#x}");
}

/// One round; says whether it added.
fn add_somehow(count: &Mutex<u64>, seed: u64, stream: u64) -> bool {
    thread_local!(static RANDOM: std::cell::RefCell<Option<Random>> = const { std::cell::RefCell::new(None) });
    let dice = RANDOM.with_borrow_mut(|random| {
        random.get_or_insert_with(|| Random::new(seed, stream)).below(64)
    });
    match dice {
        0 => {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let mut guard = count.lock().unwrap_or_else(|error| error.into_inner());
                *guard += 1;
                resume_unwind(Box::new("a holder that panics"));
            }));
            assert!(panicked.is_err());
            true
        }
        1..16 => match count.try_lock() {
            Ok(mut guard) => {
                *guard += 1;
                true
            }
            Err(TryLockError::Poisoned(error)) => {
                *error.into_inner() += 1;
                true
            }
            Err(TryLockError::WouldBlock) => false,
        },
        dice => {
            let mut guard = count.lock().unwrap_or_else(|error| error.into_inner());
            let before = *guard;
            if dice < 20 {
                thread::yield_now();
            }
            *guard = before + 1;
            true
        }
    }
}

#[test]
fn a_panic_poisons_until_cleared() {
    let mut mutex = Mutex::new(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock().unwrap();
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    // `resume_unwind` counts as a panic, as in std.
    assert!(mutex.is_poisoned());
    assert_eq!(*mutex.lock().unwrap_err().into_inner(), 1);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    assert_eq!(*mutex.get_mut().unwrap_err().into_inner(), 1);
    mutex.clear_poison();
    assert!(!mutex.is_poisoned());
    assert_eq!(mutex.into_inner().unwrap(), 1);
}

/// A lock that is taken by a destructor while its thread unwinds is not poisoned by that.
#[test]
fn locking_while_unwinding_does_not_poison() {
    struct Locks<'a>(&'a Mutex<u32>);
    impl Drop for Locks<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _locks = Locks(&mutex);
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    assert!(!mutex.is_poisoned());
    assert_eq!(mutex.into_inner().unwrap(), 1);
}

/// Nobody is left out while two threads do their best to keep the lock between them.
#[test]
fn a_waiter_gets_its_turn() {
    let mutex = Mutex::new(());
    let served = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !served.load(Ordering::Relaxed) {
                    drop(mutex.lock().unwrap());
                }
            });
        }
        s.spawn(|| {
            for _ in 0..1_000 {
                drop(mutex.lock().unwrap());
            }
            served.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn formats_as_std_does() {
    let (ours, theirs) = (Mutex::new(1), std::sync::Mutex::new(1));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    let (our_guard, their_guard) = (ours.lock().unwrap(), theirs.lock().unwrap());
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    assert_eq!(format!("{our_guard:?} {our_guard}"), format!("{their_guard:?} {their_guard}"));
}

#[test]
fn holds_unsized_values() {
    let mutex: Box<Mutex<[u32]>> = Box::new(Mutex::new([1, 2, 3]));
    mutex.lock().unwrap()[1] = 5;
    assert_eq!(*mutex.lock().unwrap(), [1, 5, 3]);
}

#[test]
fn bounds_are_those_of_std() {
    fn assert<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    fn sync<T: Sync>() {}
    assert::<Mutex<std::cell::Cell<u32>>>();
    sync::<bine_sync::MutexGuard<'static, u32>>();
    assert_eq!(*Mutex::<u32>::default().lock().unwrap(), 0);
    assert_eq!(*Mutex::from(3).lock().unwrap(), 3);
}

/// A green thread that holds a lock while a neighbour waits in the middle of unwinding.
#[test]
fn a_neighbours_panic_poisons_nothing() {
    for migrating in [false, true] {
        let builder = bine_runtime::Builder::new().workers(1).spare_workers(0);
        // SAFETY: nothing here keeps a thread-local borrow across a blocking call.
        let builder = if migrating { unsafe { builder.migrate() } } else { builder };
        let runtime = builder.build().unwrap();
        let (theirs, ours) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        let (lock, both) = (Arc::clone(&theirs), Arc::clone(&ours));
        runtime.run(move || {
            let gate = Arc::new(Mutex::new(()));
            let closed = gate.lock().unwrap();
            let begun = Arc::new(AtomicBool::new(false));
            let (seen, waits) = (Arc::clone(&begun), WaitsForGate(Arc::clone(&gate), begun));
            let held = both.lock().unwrap();
            let unwinds = bine_runtime::spawn(move || {
                let _held = lock.lock().unwrap();
                let _waits = waits;
                resume_unwind(Box::new(()));
            });
            // From here on it has begun to unwind, and waits for the gate.
            while !seen.load(Ordering::Relaxed) {
                bine_runtime::thread::yield_now();
            }
            drop(held);
            drop(closed);
            assert!(unwinds.join().is_err());
        });
        assert!(theirs.is_poisoned());
        assert!(!ours.is_poisoned());
    }
}

/// Waits when it is dropped.
struct WaitsForGate(Arc<Mutex<()>>, Arc<AtomicBool>);

impl Drop for WaitsForGate {
    fn drop(&mut self) {
        // There is one worker: who sees this runs once we wait.
        self.1.store(true, Ordering::Relaxed);
        drop(self.0.lock());
    }
}
