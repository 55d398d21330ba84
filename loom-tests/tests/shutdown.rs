//! Models of the end of a runtime: every thread that waits is cancelled, whenever it enters the
//! roll, and exactly one side frees what the workers share.
#![cfg(bine_loom)]

use std::ptr::NonNull;

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Links, Member, Roll, Settling};
use loom::thread;

#[derive(Default)]
struct Green {
    links: Links<Green>,
    cancelled: AtomicBool,
}

// SAFETY: one field, which the roll alone uses.
unsafe impl Member for Green {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

/// Two threads enter one shard while the roll is called: each is found, or told. One of them leaves
/// again, and is not touched afterwards.
#[test]
fn nobody_is_missed() {
    model("nobody_is_missed", || {
        let roll = Arc::new(Roll::<Green>::new(1));
        let enters = |leaves: bool| {
            let roll = Arc::clone(&roll);
            thread::spawn(move || {
                let green = Box::new(Green::default());
                let member = NonNull::from(&*green);
                // SAFETY: entered once; it leaves, or stays in its box until the roll is gone.
                if unsafe { roll.enter(0, member) } {
                    green.cancelled.store(true, Ordering::Relaxed);
                }
                if leaves {
                    // SAFETY: entered above. The box is freed: loom reports a later access.
                    unsafe { roll.leave(0, member) };
                    return None;
                }
                Some(green)
            })
        };
        let stays = enters(false);
        let leaves = enters(true);
        // SAFETY: on the roll, hence alive.
        roll.call(|member| unsafe { member.as_ref() }.cancelled.store(true, Ordering::Relaxed));
        assert!(leaves.join().unwrap().is_none());
        assert!(stays.join().unwrap().unwrap().cancelled.load(Ordering::Relaxed));
    });
}

/// What the owner does until all have left.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    Parks,
    /// Looks again and again, as a park may return for no reason. It may see that all is settled before
    /// it is woken. loom's `unpark` orders memory for the thread that it is to wake, wherever that
    /// is, and would stand in for the settling's own order; so this one is not woken.
    Looks,
    /// At any time.
    GivesUp,
}

/// `Shared::leave` and `Shared::stop_and_wait`.
#[test]
fn one_side_frees() {
    struct Shared {
        present: AtomicUsize,
        settling: Settling<thread::Thread>,
        /// What is freed: the last access of all.
        freed: UnsafeCell<u32>,
    }
    // SAFETY: the model's claim about `freed`; loom checks it.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    fn free(shared: &Shared) {
        // SAFETY: the model's claim.
        shared.freed.with_mut(|freed| unsafe { *freed += 1 });
    }

    fn leave(shared: &Shared, owner: Owner) {
        // An access that must come before the freeing.
        // SAFETY: as above.
        shared.freed.with(|freed| assert_eq!(unsafe { *freed }, 0));
        if shared.present.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // SAFETY: all have left.
        match unsafe { shared.settling.settle() } {
            Some(thread) if owner == Owner::Parks => thread.unpark(),
            Some(_) => {}
            None => free(shared),
        }
    }

    for owner in [Owner::Parks, Owner::Looks, Owner::GivesUp] {
        model("one_side_frees", move || {
            let shared = Arc::new(Shared {
                present: AtomicUsize::new(2),
                settling: Settling::default(),
                freed: UnsafeCell::new(0),
            });
            let in_worker = Arc::clone(&shared);
            let worker = thread::spawn(move || leave(&in_worker, owner));
            // SAFETY: once, and before the owner leaves.
            unsafe { shared.settling.await_it(thread::current()) };
            leave(&shared, owner);
            let mut gave_up = false;
            while !gave_up && !shared.settling.is_settled() {
                match owner {
                    Owner::Parks => thread::park(),
                    Owner::Looks => thread::yield_now(),
                    Owner::GivesUp => {
                        // An access that must come before the freeing, here too.
                        // SAFETY: as above.
                        shared.freed.with(|freed| assert_eq!(unsafe { *freed }, 0));
                        gave_up = shared.settling.give_up();
                    }
                }
            }
            if !gave_up {
                free(&shared);
            }
            worker.join().unwrap();
            // SAFETY: all are done.
            shared.freed.with(|freed| assert_eq!(unsafe { *freed }, 1));
        });
    }
}
