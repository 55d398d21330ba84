//! Models of handles that outlive their runtime: a spawn that meets the shutdown is refused, run or
//! settled, and the last one that keeps the shared state frees it.
#![cfg(bine_loom)]

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Keeping, Presence};
use loom::thread;

/// A queue with room for one: `queued` says who may touch the slot, as a queue does, but orders
/// nothing for the settling, which sees the slot by the presence alone.
struct Runtime {
    presence: Presence,
    queued: AtomicBool,
    slot: UnsafeCell<Option<u32>>,
    settled: AtomicUsize,
    abandoned: AtomicUsize,
}

// SAFETY: the model's claim about `slot`; loom checks it.
unsafe impl Sync for Runtime {}
// SAFETY: as above.
unsafe impl Send for Runtime {}

impl Runtime {
    fn leave(&self) {
        if !self.presence.leave() {
            return;
        }
        assert_eq!(self.settled.fetch_add(1, Ordering::Relaxed), 0, "settled once");
        // SAFETY: all have left.
        if self.slot.with_mut(|slot| unsafe { (*slot).take() }).is_some() {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As `spawn_on` through a handle. Whether it was not refused.
    fn spawn(&self) -> bool {
        if !self.presence.try_enter() {
            return false;
        }
        // SAFETY: there is one spawner, and nobody looks before `queued`.
        self.slot.with_mut(|slot| unsafe { *slot = Some(1) });
        self.queued.store(true, Ordering::Release);
        self.leave();
        true
    }

    /// A worker that looks for work once more, and leaves. Whether it has run something.
    fn work(&self) -> bool {
        // Acquire pairs with the Release in `spawn`.
        let ran = self.queued.load(Ordering::Acquire)
            // SAFETY: queued, and there is one worker.
            && self.slot.with_mut(|slot| unsafe { (*slot).take() }).is_some();
        self.leave();
        ran
    }
}

/// One spawns through a handle while a worker starts, as a spare may at any time, and the owner shuts
/// the runtime down.
#[test]
fn no_spawn_is_lost() {
    model("no_spawn_is_lost", || {
        let runtime = Arc::new(Runtime {
            presence: Presence::new(),
            queued: AtomicBool::new(false),
            slot: UnsafeCell::new(None),
            settled: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
        });
        let (here, there) = (Arc::clone(&runtime), Arc::clone(&runtime));
        let spawner = thread::spawn(move || there.spawn());
        runtime.presence.enter();
        let worker = thread::spawn(move || here.work());
        runtime.presence.close();
        runtime.leave();
        let (ran, accepted) = (worker.join().unwrap(), spawner.join().unwrap());
        let abandoned = runtime.abandoned.load(Ordering::Relaxed);
        assert_eq!(runtime.settled.load(Ordering::Relaxed), 1);
        assert_eq!(usize::from(accepted), usize::from(ran) + abandoned);
        assert!(!runtime.presence.try_enter());
    });
}

/// The runtime settles with two cells made and one of them freed by a worker, while the other one is
/// freed elsewhere, and a handle is cloned and dropped twice.
#[test]
fn the_last_one_frees() {
    struct Shared {
        keeping: Keeping,
        /// What is freed: the last access of all.
        freed: UnsafeCell<u32>,
    }
    // SAFETY: the model's claim about `freed`; loom checks it.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    impl Shared {
        fn access(&self) {
            // SAFETY: the model's claim.
            self.freed.with(|freed| assert_eq!(unsafe { *freed }, 0));
        }

        fn free_if(&self, last: bool) {
            if last {
                // SAFETY: the model's claim.
                self.freed.with_mut(|freed| unsafe { *freed += 1 });
            }
        }
    }

    model("the_last_one_frees", || {
        let shared = Arc::new(Shared { keeping: Keeping::new(), freed: UnsafeCell::new(0) });
        shared.keeping.keep();
        let (cell, handle) = (Arc::clone(&shared), Arc::clone(&shared));
        let cell = thread::spawn(move || {
            cell.access();
            cell.free_if(cell.keeping.let_go());
        });
        let handle = thread::spawn(move || {
            handle.keeping.keep();
            handle.free_if(handle.keeping.let_go());
            handle.access();
            handle.free_if(handle.keeping.let_go());
        });
        shared.access();
        shared.free_if(shared.keeping.settle(1));
        cell.join().unwrap();
        handle.join().unwrap();
        // SAFETY: all are done.
        shared.freed.with(|freed| assert_eq!(unsafe { *freed }, 1));
    });
}
