//! Doing something once: one does it, and all others see that it is done.
#![cfg(bine_loom)]

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::{LazyLock, Once, OnceLock};
use loom::cell::UnsafeCell;
use loom::thread;

/// A number whose accesses loom watches.
struct Watched(UnsafeCell<u32>);

// SAFETY: loom checks that those who read it come after the one who wrote.
unsafe impl Sync for Watched {}
// SAFETY: a number.
unsafe impl Send for Watched {}

impl Watched {
    fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn set(&self, value: u32) {
        // SAFETY: loom checks it.
        self.0.with_mut(|at| unsafe { *at = value });
    }

    fn get(&self) -> u32 {
        // SAFETY: as in `set`.
        self.0.with(|at| unsafe { *at })
    }
}

#[test]
fn two_callers_and_a_waiter() {
    bounded_model("once::two_callers_and_a_waiter", 2, || {
        let shared = Arc::new((Once::new(), Watched::new(0)));
        let caller = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.0.call_once(|| shared.1.set(shared.1.get() + 1));
                assert_eq!(shared.1.get(), 1);
            })
        };
        let waiter = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.0.wait();
                assert_eq!(shared.1.get(), 1);
            })
        };
        shared.0.call_once(|| shared.1.set(shared.1.get() + 1));
        assert_eq!(shared.1.get(), 1);
        caller.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn a_once_lock_is_set_against_one_who_waits() {
    model("once::a_once_lock_is_set_against_one_who_waits", || {
        let cell = Arc::new(OnceLock::<Watched>::new());
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || cell.wait().get())
        };
        let _ = cell.set(Watched::new(7));
        assert_eq!(waiter.join().unwrap(), 7);
    });
}

#[test]
fn two_look_at_a_lazy_lock() {
    model("once::two_look_at_a_lazy_lock", || {
        let lazy = Arc::new(LazyLock::new(|| Watched::new(7)));
        let other = {
            let lazy = lazy.clone();
            thread::spawn(move || lazy.get())
        };
        assert_eq!(lazy.get(), 7);
        assert_eq!(other.join().unwrap(), 7);
    });
}
