//! Stacks in a forked child: whatever the other threads of its parent were doing with theirs, the lists of
//! free stacks are whole there, and nobody holds their locks.
//!
//! For the handlers of `pthread_atfork`, which the runtime registers.

use std::cell::RefCell;
use std::sync::MutexGuard;

use super::{depot, trim};

/// The locks of a thread that is about to fork. In this order: who trims locks depots.
struct Stillness {
    _depots: depot::Locked,
    _nobody_trims: MutexGuard<'static, ()>,
}

thread_local! {
    static HELD: RefCell<Option<Stillness>> = const { RefCell::new(None) };
}

/// Before the fork: waits until nobody changes the lists, and keeps them as they are. A second call
/// changes nothing.
pub fn before() {
    // In a destructor of a thread-local that comes after this one's, the child has to take its chance.
    let _ = HELD.try_with(|held| {
        held.borrow_mut().get_or_insert_with(|| {
            let nobody_trims = trim::nothing_in_hand();
            Stillness { _depots: depot::Depot::lock_all(), _nobody_trims: nobody_trims }
        });
    });
}

/// After the fork, in the parent and in the child, on the thread that has forked.
pub fn after() {
    let _ = HELD.try_with(RefCell::take);
}
