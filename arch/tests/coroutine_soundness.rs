//! Attempts of safe code to reach what it must not: coroutines that keep their own handles, payloads
//! and closures that panic while they are dropped, scopes that end in the midst of all that.

mod child;
mod random;

use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{mem, thread};

use bine_arch::coroutine::{
    self, Coroutine, CoroutineState, OwnedStack, Scope, ScopedCoroutine, SendCoroutine,
    StackMemory, Yielder,
};
use bine_arch::stack::DEFAULT_STACK_SIZE;
use random::{Random, rounds, seed};

type Scoped<'scope> = ScopedCoroutine<'scope, (), (), ()>;
/// Where a coroutine's handle is reached by all, itself among them.
type Slot<'scope> = Rc<RefCell<Option<Scoped<'scope>>>>;

/// Counts how often it is dropped.
struct Count<'a>(&'a Cell<usize>);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Calls a closure when it is dropped. What that panics with is the result of nothing.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn caught<T>(f: impl FnOnce() -> T) -> thread::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

#[test]
fn a_suspended_coroutine_may_keep_its_own_handle() {
    let dropped = Cell::new(0);
    coroutine::scope(|scope| {
        let slot = Slot::default();
        let inside = (Count(&dropped), slot.clone(), Count(&dropped));
        let mut own = scope.coroutine(move |yielder, ()| {
            let _inside = inside;
            yielder.suspend(());
        });
        let _ = own.resume(());
        *slot.borrow_mut() = Some(own);
    });
    assert_eq!(dropped.get(), 2);
}

#[test]
fn a_coroutine_cannot_resume_itself_while_its_scope_ends() {
    let refused = Cell::new(0);
    coroutine::scope(|scope| {
        let slot = Slot::default();
        let inside = slot.clone();
        let refused = &refused;
        let resume_itself = OnDrop(move || {
            let result = caught(|| inside.borrow_mut().as_mut().map(|own| own.resume(())));
            refused.set(refused.get() + usize::from(result.is_err()));
        });
        let mut own = scope.coroutine(move |yielder, ()| {
            let _resume_itself = resume_itself;
            yielder.suspend(());
        });
        let _ = own.resume(());
        *slot.borrow_mut() = Some(own);
    });
    assert_eq!(refused.get(), 1);
}

#[test]
fn coroutines_may_keep_the_handles_of_each_other() {
    let dropped = Cell::new(0);
    coroutine::scope(|scope| {
        let slots = [Slot::default(), Slot::default(), Slot::default()];
        for (index, slot) in slots.iter().enumerate() {
            let inside = (Count(&dropped), slots[(index + 1) % 3].clone(), Count(&dropped));
            let mut next = scope.coroutine(move |yielder, ()| {
                let _inside = inside;
                yielder.suspend(());
            });
            let _ = next.resume(());
            *slot.borrow_mut() = Some(next);
        }
    });
    assert_eq!(dropped.get(), 6);
}

/// Fails if its memory is used by anybody else while it is being dropped.
struct Undisturbed<'a>([u64; 64], &'a Cell<bool>);

impl Drop for Undisturbed<'_> {
    fn drop(&mut self) {
        let large = std::hint::black_box([0_u64; 256]);
        let mut other = Coroutine::new(move |_: &Yielder<(), ()>, ()| large.iter().sum::<u64>());
        let _ = other.resume(());
        self.1.set(std::hint::black_box(&self.0).iter().all(|&word| word == 7));
    }
}

#[test]
fn a_closure_that_keeps_its_own_handle_is_dropped_before_its_stack_is_reused() {
    let undisturbed = Cell::new(false);
    coroutine::scope(|scope| {
        let slot = Slot::default();
        // The handle goes first, and then somebody wants a stack.
        let inside = (slot.clone(), Undisturbed([7; 64], &undisturbed));
        let fresh = scope.coroutine(move |_: &Yielder<(), ()>, ()| {
            let _inside = &inside;
        });
        *slot.borrow_mut() = Some(fresh);
    });
    assert!(undisturbed.get());
}

#[test]
fn a_result_that_keeps_its_own_handle_is_dropped_before_its_stack_is_reused() {
    type Result<'a> = (Rc<dyn Fn() + 'a>, Undisturbed<'a>);
    let undisturbed = Cell::new(false);
    coroutine::scope(|scope| {
        let slot: Rc<RefCell<Option<ScopedCoroutine<'_, (), (), Result<'_>>>>> = Rc::default();
        let inside = slot.clone();
        let undisturbed = Undisturbed([7; 64], &undisturbed);
        let mut own = scope.coroutine(move |yielder: &Yielder<(), ()>, ()| -> Result<'_> {
            let _ = caught(|| yielder.suspend(()));
            let keep: Rc<dyn Fn() + '_> = Rc::new(move || drop(inside.try_borrow()));
            (keep, undisturbed)
        });
        let _ = own.resume(());
        *slot.borrow_mut() = Some(own);
    });
    assert!(undisturbed.get());
}

#[test]
fn no_payload_keeps_a_scope_from_unwinding_all() {
    /// A payload that panics when it is dropped, with such a payload.
    struct Payload(u32);
    impl Drop for Payload {
        fn drop(&mut self) {
            if let Some(left) = self.0.checked_sub(1) {
                panic::resume_unwind(Box::new(Payload(left)));
            }
        }
    }
    let dropped = Cell::new(0);
    let end = |also_panic: bool| {
        coroutine::scope(|scope| {
            for _ in 0..4 {
                let count = Count(&dropped);
                let throw = OnDrop(|| panic::resume_unwind(Box::new(Payload(3))));
                mem::forget(scope.coroutine(move |_: &Yielder<(), ()>, ()| {
                    let _both = (&count, &throw);
                }));
            }
            if also_panic {
                panic::resume_unwind(Box::new("the scope's"));
            }
        });
    };
    let first = caught(|| end(false)).unwrap_err();
    assert!(first.is::<Payload>());
    mem::forget(first);
    assert_eq!(dropped.get(), 4);
    assert!(caught(|| end(true)).unwrap_err().is::<&str>());
    assert_eq!(dropped.get(), 8);
    assert!(!thread::panicking());
}

#[test]
fn a_scope_that_cannot_unwind_aborts_also_without_anywhere_to_say_so() {
    if !child::is_child() {
        let name = "a_scope_that_cannot_unwind_aborts_also_without_anywhere_to_say_so";
        let output = child::run(name, &[]);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        return;
    }
    // SAFETY: no Rust value owns this descriptor, and no other thread of this child needs it.
    unsafe {
        let full = libc::open(c"/dev/full".as_ptr(), libc::O_WRONLY);
        assert!(full >= 0 && libc::dup2(full, 2) == 2);
    }
    coroutine::scope(|scope| {
        let mut stubborn = scope.coroutine(|yielder: &Yielder<(), ()>, ()| {
            loop {
                let _ = caught(|| yielder.suspend(()));
            }
        });
        let _: CoroutineState<(), ()> = stubborn.resume(());
        mem::forget(stubborn);
    });
}

#[test]
fn a_borrowed_stack_is_nobodys_after_its_scope() {
    let mut stack = OwnedStack::new(64 << 10).unwrap();
    // SAFETY: the words above the top of a stack of the pool belong to it; see `Stack::set_owner`.
    let owner = |stack: &OwnedStack| unsafe { stack.bounds().top.cast::<usize>().read_volatile() };
    coroutine::scope(|scope| {
        let mut forgotten = scope.coroutine_on(&mut stack, |yielder: &Yielder<(), ()>, ()| {
            yielder.suspend(());
        });
        let _ = forgotten.resume(());
        mem::forget(forgotten);
    });
    assert_eq!(owner(&stack), 0);
    let again = Coroutine::with_stack(stack, |_: &Yielder<(), ()>, ()| ());
    assert_eq!(owner(&again.into_stack()), 0);
}

/// A coroutine that is suspended by a destructor, in the midst of a panic.
fn in_the_midst_of_a_panic() -> SendCoroutine<(), (), ()> {
    let coroutine: Coroutine<(), (), ()> = Coroutine::new(|yielder: &Yielder<(), ()>, ()| {
        let _suspend = OnDrop(|| drop(caught(|| yielder.suspend(()))));
        panic::resume_unwind(Box::new("the panic"));
    });
    // SAFETY: nothing that is bound to a thread is on its stack, but the panic.
    let mut coroutine = unsafe { coroutine.assert_send() };
    let _ = coroutine.resume(());
    coroutine
}

/// Whether this OS thread takes itself for panicking while another one is: std looks at each thread's
/// count only while there is a panic anywhere.
fn takes_itself_for_panicking() -> bool {
    let (begun, begins) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let _wait = OnDrop(|| {
            begun.send(()).unwrap();
            let _ = ends.recv();
        });
        panic::resume_unwind(Box::new("elsewhere"));
    });
    begins.recv().unwrap();
    let answer = thread::panicking();
    drop(end);
    assert!(other.join().is_err());
    answer
}

#[test]
fn a_panicking_coroutine_spoils_the_count_of_no_other_os_thread() {
    let dropped_elsewhere = in_the_midst_of_a_panic();
    let taken_elsewhere = in_the_midst_of_a_panic();
    let elsewhere = thread::spawn(move || {
        drop(dropped_elsewhere);
        let taken = caught(|| taken_elsewhere.into_inner().resume(()));
        let text = taken.unwrap_err().downcast::<&str>().unwrap();
        assert!(text.contains("while its OS thread was panicking"), "{text}");
        takes_itself_for_panicking()
    });
    assert!(!elsewhere.join().unwrap());
    // Here it unwinds, and after it has ended it may go anywhere.
    thread::spawn(|| {
        let mut here = in_the_midst_of_a_panic();
        assert!(caught(|| here.resume(())).is_err() && here.is_done());
        drop(in_the_midst_of_a_panic());
        assert!(!takes_itself_for_panicking());
        thread::spawn(move || drop(here)).join().unwrap();
    })
    .join()
    .unwrap();
}

/// What a random scope shares: its coroutines reach each other's handles, and their own.
struct Shared<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    slots: [RefCell<Option<Scoped<'scope>>>; 6],
    random: RefCell<Random>,
    /// Values on stacks and in closures that have not been dropped.
    live: &'env Cell<usize>,
    made: Cell<usize>,
}

/// A value whose destructor finds out whether it was overwritten, and does something at random.
struct Busy<'scope, 'env> {
    shared: Rc<Shared<'scope, 'env>>,
    word: usize,
    inverse: Box<usize>,
}

impl<'scope, 'env> Busy<'scope, 'env> {
    fn new(shared: &Rc<Shared<'scope, 'env>>) -> Self {
        shared.live.set(shared.live.get() + 1);
        let word = shared.below(1 << 30);
        Self { shared: shared.clone(), word, inverse: Box::new(!word) }
    }
}

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        assert_eq!(self.word, !*self.inverse, "a value has changed");
        *self.inverse = self.word;
        self.shared.live.set(self.shared.live.get() - 1);
        if self.shared.below(3) == 0 {
            let _ = caught(|| act(&self.shared));
        }
    }
}

impl Shared<'_, '_> {
    fn below(&self, bound: usize) -> usize {
        self.random.borrow_mut().below(bound as u64) as usize
    }
}

/// Makes, resumes, drops, moves or forgets a coroutine.
fn act(shared: &Rc<Shared<'_, '_>>) {
    let slot = &shared.slots[shared.below(6)];
    // Whoever resumes one has its slot borrowed.
    let Ok(mut handle) = slot.try_borrow_mut() else { return };
    match shared.below(8) {
        0 | 1 => {
            if shared.made.replace(shared.made.get() + 1) < 60 {
                let (inside, captured) = (shared.clone(), Busy::new(shared));
                let next =
                    shared.scope.coroutine(move |yielder, ()| wander(&inside, captured, yielder));
                let old = handle.replace(next);
                drop(handle);
                drop(old);
            }
        }
        2..5 => {
            if let Some(coroutine) = handle.as_mut().filter(|coroutine| !coroutine.is_done()) {
                let _ = coroutine.resume(());
            }
        }
        5 => {
            let old = handle.take();
            drop(handle);
            drop(old);
        }
        6 => {
            let other = &shared.slots[shared.below(6)];
            if let Ok(mut other) = other.try_borrow_mut() {
                mem::swap(&mut *handle, &mut *other);
            }
        }
        _ => {
            let old = handle.take();
            drop(handle);
            mem::forget(old);
        }
    }
}

/// A body.
fn wander<'scope, 'env>(
    shared: &Rc<Shared<'scope, 'env>>,
    captured: Busy<'scope, 'env>,
    yielder: &Yielder<(), ()>,
) {
    let mut kept = Vec::new();
    let _local = Busy::new(shared);
    let mut captured = Some(captured);
    for _ in 0..shared.below(8) {
        match shared.below(7) {
            0 | 1 => yielder.suspend(()),
            2 => drop(caught(|| yielder.suspend(()))),
            3 => kept
                .extend(shared.slots[shared.below(6)].try_borrow_mut().map(|mut slot| slot.take())),
            4 => drop(captured.take()),
            5 if shared.below(4) == 0 => panic::resume_unwind(Box::new(())),
            _ => drop(caught(|| act(shared))),
        }
    }
}

#[test]
fn scopes_whose_coroutines_reach_all_handles_end_in_good_order() {
    let seed = seed();
    for round in 0..rounds(3_000) {
        let live = Cell::new(0);
        coroutine::scope(|scope| {
            let shared = Rc::new(Shared {
                scope,
                slots: Default::default(),
                random: RefCell::new(Random(seed ^ round)),
                live: &live,
                made: Cell::new(0),
            });
            for _ in 0..40 {
                let _ = caught(|| act(&shared));
            }
        });
        assert_eq!(live.get(), 0, "round {round}");
        assert!(!thread::panicking());
    }
}

#[test]
fn a_destructor_that_panics_loses_nothing_else() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    /// Counts, and panics if asked to.
    struct Value(bool);
    impl Drop for Value {
        fn drop(&mut self) {
            // One thread: Relaxed.
            DROPPED.fetch_add(1, Ordering::Relaxed);
            if self.0 {
                panic::resume_unwind(Box::new(1_u8));
            }
        }
    }
    type Valued = Coroutine<Value, Value, Value>;
    /// How many values are dropped, whether that panics, and how the coroutine is made.
    type Way = (usize, bool, fn() -> Valued);
    let ways: [Way; 4] = [
        // The closure of a fresh one.
        (2, true, || {
            let captured = (Value(true), Value(false));
            Coroutine::new(move |_: &Yielder<Value, Value>, _| {
                let _captured = captured;
                Value(false)
            })
        }),
        // A value that was yielded while the stack unwound: the body catches what it panics with.
        (4, false, || {
            let mut coroutine = Coroutine::new(|yielder: &Yielder<Value, Value>, _input| {
                for throws in [false, true] {
                    drop(caught(|| yielder.suspend(Value(throws))));
                }
                yielder.suspend(Value(false))
            });
            drop(coroutine.resume(Value(false)));
            coroutine
        }),
        // The result.
        (3, true, || {
            let mut coroutine = Coroutine::new(|yielder: &Yielder<Value, Value>, _input| {
                let _ = caught(|| yielder.suspend(Value(false)));
                Value(true)
            });
            drop(coroutine.resume(Value(false)));
            coroutine
        }),
        // The payload.
        (3, true, || {
            let mut coroutine = Coroutine::new(|yielder: &Yielder<Value, Value>, _input| {
                let _ = caught(|| yielder.suspend(Value(false)));
                panic::resume_unwind(Box::new(Value(true)))
            });
            drop(coroutine.resume(Value(false)));
            coroutine
        }),
    ];
    // The stack that was last given back is the next to be taken.
    let next = || OwnedStack::new(DEFAULT_STACK_SIZE).unwrap().bounds();
    let hottest = next();
    for (way, (expected, panics, make)) in ways.into_iter().enumerate() {
        for into_stack in [false, true] {
            DROPPED.store(0, Ordering::Relaxed);
            let coroutine = make();
            let result = match into_stack {
                false => caught(|| drop(coroutine)),
                true => caught(|| drop(coroutine.into_stack())),
            };
            assert_eq!(result.is_err(), panics, "way {way}");
            assert_eq!(DROPPED.load(Ordering::Relaxed), expected, "way {way}");
            assert_eq!(next(), hottest, "way {way}: its stack was not given back");
        }
    }
    assert!(!thread::panicking());
}
