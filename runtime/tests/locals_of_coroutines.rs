//! Coroutines that are suspended while they use a thread-local value, and may outlive its thread.
//!
//! What a coroutine has borrowed from a local value must stay until it lets go of it, whoever has the
//! coroutine by then: a thread-local that is dropped later, a neighbour on the same OS thread, nobody.

mod modes;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bine_arch::coroutine::{Coroutine, Yielder};
use bine_runtime::Builder;
use modes::runtimes;

/// What has become of a value and of those who use it.
#[derive(Debug, Default)]
struct Fate {
    dropped: AtomicUsize,
    /// How often it was used, and how often after it was dropped.
    used: AtomicUsize,
    used_too_late: AtomicUsize,
}

impl Fate {
    fn is(&self, dropped: usize, used: usize) {
        assert_eq!(self.used_too_late.load(Ordering::Relaxed), 0, "used after it was dropped");
        let found = (self.dropped.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed));
        assert_eq!(found, (dropped, used));
    }
}

/// A value that tells when it is dropped.
#[derive(Default)]
struct Value(RefCell<Option<Arc<Fate>>>);

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(fate) = &*self.0.borrow() {
            fate.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Uses a value when it is dropped. It has the fate by itself, so that a test which fails does not
/// look at what is gone.
struct Uses<'a>(#[expect(dead_code, reason = "what it would use")] &'a Value, Arc<Fate>);

impl Drop for Uses<'_> {
    fn drop(&mut self) {
        let late = self.1.dropped.load(Ordering::Relaxed);
        self.1.used_too_late.fetch_add(late, Ordering::Relaxed);
        self.1.used.fetch_add(1, Ordering::Relaxed);
    }
}

type Suspended = Coroutine<(), (), ()>;

bine_runtime::thread_local! {
    /// Initialised before `VALUE`, and so dropped after it.
    static KEEPS: RefCell<Vec<Suspended>> = const { RefCell::new(Vec::new()) };
    static VALUE: Value = Value::default();
}

bine_runtime::thread_local! {
    /// Has no destructor of its own.
    static PLAIN: [Cell<usize>; 64] = [const { Cell::new(7) }; 64];
    static ITSELF: RefCell<Option<Suspended>> = const { RefCell::new(None) };
    /// The number of the thread that has initialised it.
    static INITIALISED_BY: usize = {
        suspend_here();
        NUMBER.get()
    };
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

std::thread_local! {
    /// What a crate for scoped thread-locals would keep.
    static YIELDER: Cell<*const Yielder<(), ()>> = const { Cell::new(std::ptr::null()) };
    /// The OS thread's: all green threads there reach it.
    static LEFT_BEHIND: Cell<Option<Suspended>> = const { Cell::new(None) };
}

/// A coroutine in the midst of using the calling thread's `VALUE`.
fn suspended(fate: &Arc<Fate>) -> Suspended {
    let fate = Arc::clone(fate);
    let mut coroutine = Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
        VALUE.with(|value| {
            *value.0.borrow_mut() = Some(Arc::clone(&fate));
            let _uses = Uses(value, Arc::clone(&fate));
            yielder.suspend(());
        });
    });
    let _ = coroutine.resume(());
    coroutine
}

fn keeps_one_in_an_older_local(fate: &Arc<Fate>) {
    KEEPS.with_borrow(|_| ());
    let coroutine = suspended(fate);
    KEEPS.with_borrow_mut(|all| all.push(coroutine));
}

#[test]
fn a_value_goes_after_the_coroutine_in_an_older_local_that_uses_it() {
    for runtime in runtimes() {
        let fate = Arc::new(Fate::default());
        let inside = Arc::clone(&fate);
        runtime.spawn(move || keeps_one_in_an_older_local(&inside)).join().unwrap();
        fate.is(1, 1);
    }
    let fate = Arc::new(Fate::default());
    let inside = Arc::clone(&fate);
    std::thread::spawn(move || keeps_one_in_an_older_local(&inside)).join().unwrap();
    fate.is(1, 1);
}

#[test]
fn a_value_stays_for_a_coroutine_that_outlives_its_thread() {
    // Pinned: a promise of the migrating mode is that nobody does this.
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    for resume in [false, true] {
        let fate = Arc::new(Fate::default());
        let inside = Arc::clone(&fate);
        runtime.spawn(move || LEFT_BEHIND.set(Some(suspended(&inside)))).join().unwrap();
        fate.is(0, 0);
        let next = runtime.spawn(move || {
            let mut left = LEFT_BEHIND.take().unwrap();
            if resume {
                let _ = left.resume(());
            }
        });
        next.join().unwrap();
        fate.is(0, 1);
    }
}

#[test]
fn a_value_stays_for_a_coroutine_that_outlives_its_os_thread() {
    let fate = Arc::new(Fate::default());
    let inside = Arc::clone(&fate);
    let thread = std::thread::spawn(move || {
        // The coroutine's slot is initialised first, and dropped after bine's values.
        LEFT_BEHIND.set(None);
        LEFT_BEHIND.set(Some(suspended(&inside)));
    });
    thread.join().unwrap();
    fate.is(0, 1);
}

#[test]
fn a_value_that_needs_no_destructor_stays_as_well() {
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let leaves = |yielder: &Yielder<(), ()>, ()| {
        PLAIN.with(|all| {
            yielder.suspend(());
            all.iter().for_each(|cell| assert_eq!(cell.replace(8), 7));
        });
    };
    let first = runtime.spawn(move || {
        let mut coroutine = Coroutine::new(leaves);
        let _ = coroutine.resume(());
        LEFT_BEHIND.set(Some(coroutine));
    });
    first.join().unwrap();
    let next = runtime.spawn(|| {
        // Would be given its memory.
        PLAIN.with(|all| all.iter().for_each(|cell| cell.set(9)));
        LEFT_BEHIND.take().unwrap().resume(()).complete()
    });
    assert_eq!(next.join().unwrap(), Some(()));
}

#[test]
fn a_value_that_keeps_its_own_user_is_leaked() {
    for runtime in runtimes() {
        let fate = Arc::new(Fate::default());
        let inside = Arc::clone(&fate);
        let thread = runtime.spawn(move || {
            let mut coroutine = Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
                ITSELF.with(|_| {
                    let value = Value(RefCell::new(Some(Arc::clone(&inside))));
                    let _uses = Uses(&value, inside);
                    yielder.suspend(());
                });
            });
            let _ = coroutine.resume(());
            ITSELF.set(Some(coroutine));
        });
        thread.join().unwrap();
        fate.is(0, 0);
    }
}

fn suspend_here() {
    let yielder = YIELDER.get();
    if !yielder.is_null() {
        // SAFETY: set by the coroutine in which we are, for as long as it runs.
        unsafe { (*yielder).suspend(()) };
    }
}

/// The value is that of the thread which goes on with the initialiser.
#[test]
fn an_initialiser_may_end_on_another_thread() {
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let first = runtime.spawn(|| {
        NUMBER.set(1);
        let mut coroutine = Coroutine::new(|yielder: &Yielder<(), ()>, ()| {
            YIELDER.set(yielder);
            INITIALISED_BY.with(|number| assert_eq!(*number, 2));
        });
        let _ = coroutine.resume(());
        YIELDER.set(std::ptr::null());
        LEFT_BEHIND.set(Some(coroutine));
    });
    first.join().unwrap();
    let next = runtime.spawn(|| {
        NUMBER.set(2);
        assert_eq!(LEFT_BEHIND.take().unwrap().resume(()).complete(), Some(()));
        NUMBER.set(3);
        INITIALISED_BY.with(|number| *number)
    });
    assert_eq!(next.join().unwrap(), 2);
}
