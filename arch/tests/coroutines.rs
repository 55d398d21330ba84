//! What coroutines, generators, scopes and `on_stack` promise.

mod child;

use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::rc::Rc;
use std::thread;

use bine_arch::context::Bounds;
use bine_arch::coroutine::{
    self, Builder, Coroutine, CoroutineState, ForcedUnwind, Generator, OwnedStack, StackMemory,
    Yielder,
};

/// Writes its name to a log when it is dropped.
struct Noted(&'static str, Rc<RefCell<Vec<&'static str>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

fn log() -> Rc<RefCell<Vec<&'static str>>> {
    Rc::default()
}

/// The text of a panic that `f` ends with. The hook is not asked: the tests that panic on purpose
/// use `resume_unwind`, but for one.
fn panic_text<T>(f: impl FnOnce() -> T) -> String {
    let result = panic::catch_unwind(AssertUnwindSafe(|| drop(f())));
    let payload = result.expect_err("it panics");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().map_or("?".into(), |text| (*text).into()),
    }
}

#[test]
fn values_travel_both_ways() {
    let mut coroutine = Coroutine::new(|yielder, first: String| {
        let second: String = yielder.suspend(first.len());
        let third = yielder.suspend(second.len());
        first + &second + &third
    });
    assert!(!coroutine.has_started() && !coroutine.is_done());
    assert_eq!(coroutine.resume("a".into()), CoroutineState::Yielded(1));
    assert!(coroutine.has_started() && !coroutine.is_done());
    assert_eq!(coroutine.resume("bc".into()).yielded(), Some(2));
    assert_eq!(coroutine.resume("def".into()).complete(), Some("abcdef".into()));
    assert!(coroutine.is_done());
}

#[test]
fn values_without_size_and_large_ones_travel() {
    let mut nothing = Coroutine::new(|yielder: &Yielder<(), ()>, ()| yielder.suspend(()));
    assert_eq!(nothing.resume(()), CoroutineState::Yielded(()));
    assert_eq!(nothing.resume(()), CoroutineState::Complete(()));
    let mut large = Coroutine::new(|yielder, mut block: [u64; 512]| {
        for _ in 0..10 {
            block = yielder.suspend(block.map(|word| word + 1));
        }
    });
    let mut block = [0; 512];
    for _ in 0..10 {
        block = large.resume(block).yielded().unwrap();
    }
    assert_eq!(block, [10; 512]);
}

#[test]
fn a_panic_goes_to_the_resumer_and_ends_the_coroutine() {
    let log = log();
    let noted = Noted("body", log.clone());
    let mut coroutine = Coroutine::new(move |yielder, ()| {
        let _noted = noted;
        yielder.suspend(());
        panic::resume_unwind(Box::new(42));
    });
    coroutine.resume(());
    let payload = panic::catch_unwind(AssertUnwindSafe(|| coroutine.resume(()))).unwrap_err();
    assert_eq!(*payload.downcast::<i32>().unwrap(), 42);
    assert_eq!(*log.borrow(), ["body"]);
    assert!(coroutine.is_done() && !thread::panicking());
    let text = panic_text(|| coroutine.resume(()));
    assert!(text.contains("resumed after it had ended"), "{text}");
}

#[test]
fn dropping_a_suspended_one_runs_its_destructors() {
    fn descend(depth: usize, yielder: &Yielder<(), ()>, dropped: &Rc<Cell<usize>>) {
        struct Count(Rc<Cell<usize>>);
        impl Drop for Count {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let _count = Count(dropped.clone());
        match depth {
            0 => yielder.suspend(()),
            _ => descend(depth - 1, yielder, dropped),
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let inside = dropped.clone();
    let mut coroutine =
        Coroutine::new(move |yielder: &Yielder<(), ()>, ()| descend(100, yielder, &inside));
    coroutine.resume(());
    assert_eq!(dropped.get(), 0);
    drop(coroutine);
    assert_eq!((dropped.get(), Rc::strong_count(&dropped)), (101, 1));
    assert!(!thread::panicking());
}

#[test]
fn a_fresh_one_drops_its_closure_and_does_not_run() {
    let log = log();
    let noted = Noted("closure", log.clone());
    let coroutine = Coroutine::new(move |_: &Yielder<(), ()>, ()| {
        noted.1.borrow_mut().push("ran");
        drop(noted);
    });
    drop(coroutine);
    assert_eq!(*log.borrow(), ["closure"]);
}

#[test]
fn a_body_may_catch_its_unwinding_and_return() {
    let log = log();
    let noted = Noted("result", log.clone());
    let mut coroutine = Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
        let caught = panic::catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
        assert!(caught.unwrap_err().is::<ForcedUnwind>());
        noted
    });
    let _ = coroutine.resume(());
    drop(coroutine);
    assert_eq!(*log.borrow(), ["result"]);
}

#[test]
fn a_body_that_suspends_again_while_it_is_dropped_is_unwound_again() {
    let log = log();
    let inside = log.clone();
    let mut coroutine = Coroutine::new(move |yielder: &Yielder<(), Noted>, ()| {
        for name in ["first", "second", "third"] {
            let value = Noted(name, inside.clone());
            let _ = panic::catch_unwind(AssertUnwindSafe(|| yielder.suspend(value)));
        }
    });
    let first = coroutine.resume(()).yielded().unwrap();
    drop(coroutine);
    assert_eq!(*log.borrow(), ["second", "third"], "what nobody took is dropped");
    drop(first);
}

#[test]
fn a_body_may_suspend_while_it_panics() {
    struct Suspend<'a>(&'a Yielder<(), &'static str>);
    impl Drop for Suspend<'_> {
        fn drop(&mut self) {
            self.0.suspend("unwinding");
        }
    }
    let mut coroutine = Coroutine::new(|yielder: &Yielder<(), &'static str>, ()| {
        let _suspend = Suspend(yielder);
        panic::resume_unwind(Box::new("the panic"));
    });
    assert_eq!(coroutine.resume(()), CoroutineState::Yielded("unwinding"));
    assert_eq!(panic_text(|| coroutine.resume(())), "the panic");
    assert!(!thread::panicking());
}

/// A child process that must end by SIGABRT, having said `expected`.
#[track_caller]
fn assert_aborts(name: &str, expected: &str) {
    let output = child::run(name, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_body_that_never_stops_suspending_while_it_is_dropped_aborts() {
    if !child::is_child() {
        return assert_aborts(
            "a_body_that_never_stops_suspending_while_it_is_dropped_aborts",
            "coroutine 'stubborn' (created at",
        );
    }
    let body = |yielder: &Yielder<(), ()>, ()| loop {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
    };
    let mut coroutine: Coroutine<(), (), ()> =
        Builder::new().name("stubborn").coroutine(body).unwrap();
    coroutine.resume(());
    drop(coroutine);
}

#[test]
fn a_destructor_that_suspends_while_its_coroutine_is_dropped_aborts() {
    if !child::is_child() {
        return assert_aborts(
            "a_destructor_that_suspends_while_its_coroutine_is_dropped_aborts",
            "panic in a destructor during cleanup",
        );
    }
    struct Suspend<'a>(&'a Yielder<(), ()>);
    impl Drop for Suspend<'_> {
        fn drop(&mut self) {
            self.0.suspend(());
        }
    }
    let mut coroutine = Coroutine::new(|yielder: &Yielder<(), ()>, ()| {
        let _suspend = Suspend(yielder);
        yielder.suspend(());
    });
    coroutine.resume(());
    drop(coroutine);
}

#[test]
fn a_stack_is_given_back_and_used_again() {
    let mut stack = OwnedStack::new(64 << 10).unwrap();
    let bounds = stack.bounds();
    for n in 0..1_000 {
        let mut coroutine = Coroutine::with_stack(stack, |yielder: &Yielder<_, _>, n| {
            let n = yielder.suspend(n + 1);
            yielder.suspend(n * 2);
        });
        assert_eq!(coroutine.resume(n), CoroutineState::Yielded(n + 1));
        // Fresh, suspended or done: it is unwound first.
        for _ in 0..n % 3 {
            let _ = coroutine.resume(n);
        }
        stack = coroutine.into_stack();
        assert_eq!(stack.bounds(), bounds);
    }
}

/// Memory of one's own, on the heap.
struct Heap(NonNull<[u128]>);

impl Heap {
    fn new(size: usize) -> Self {
        let block = Box::leak(vec![0_u128; size / 16].into_boxed_slice());
        Self(NonNull::from(block))
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: the block of `new`, which nobody else frees.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: the heap block is this value's alone and does not move; the bodies of these tests use
// little of it.
unsafe impl StackMemory for Heap {
    fn bounds(&self) -> Bounds {
        let limit = self.0.cast::<u8>();
        // SAFETY: one past the end of the block.
        Bounds { limit, top: unsafe { limit.add(self.0.len() * 16) } }
    }
}

#[test]
fn memory_of_ones_own_serves_as_a_stack() {
    let mut heap = Heap::new(256 << 10);
    let mut coroutine = Coroutine::with_stack(heap, |yielder: &Yielder<u32, u32>, n| {
        let m = yielder.suspend(n + 1);
        m.to_string() + &n.to_string()
    });
    assert_eq!(coroutine.resume(1), CoroutineState::Yielded(2));
    assert_eq!(coroutine.resume(2), CoroutineState::Complete("21".into()));
    heap = coroutine.into_stack();
    assert_eq!(coroutine::on_given_stack(&mut heap, || 6 * 7), 42);
}

#[test]
fn a_closure_is_aligned_and_may_be_large() {
    #[repr(align(256))]
    struct Aligned([u8; 40_000]);
    let aligned = Aligned([7; 40_000]);
    let mut coroutine = Coroutine::new(move |yielder: &Yielder<(), usize>, ()| {
        let aligned = &aligned;
        yielder.suspend((&raw const *aligned).addr() % 256);
        aligned.0.iter().map(|&byte| usize::from(byte)).sum::<usize>()
    });
    assert_eq!(coroutine.resume(()), CoroutineState::Yielded(0));
    assert_eq!(coroutine.resume(()), CoroutineState::Complete(280_000));
}

#[test]
fn a_closure_that_does_not_fit_is_an_error() {
    let large = [1_u8; 20_000];
    let body = move |_: &Yielder<(), ()>, ()| large.len();
    let error = Builder::new().stack_size(16 << 10).coroutine(body).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    for part in ["20000 bytes", "Builder::stack_size"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let stack = OwnedStack::new(16 << 10).unwrap();
    let text = panic_text(|| Coroutine::with_stack(stack, body));
    assert!(text.contains("too large for its stack"), "{text}");
    let error = Builder::new().stack_size(usize::MAX).coroutine(|_: &Yielder<(), ()>, ()| ());
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_name_is_shown() {
    let body = |yielder: &Yielder<(), String>, ()| yielder.suspend(format!("{yielder:?}"));
    let mut coroutine = Builder::new().name("ada").coroutine(body).unwrap();
    assert!(format!("{coroutine:?}").contains("\"ada\""), "{coroutine:?}");
    assert!(coroutine.resume(()).yielded().unwrap().contains("\"ada\""));
    assert!(format!("{coroutine:?}").contains("suspended"), "{coroutine:?}");
}

#[test]
fn generators_are_fused_iterators() {
    let mut generator = Generator::new(|yielder| {
        yielder.suspend_all(0..3);
    });
    assert_eq!(generator.by_ref().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(generator.is_done());
    assert_eq!(generator.next(), None);
    assert_eq!(generator.send(()), None);

    let mut panics = Generator::new(|yielder| {
        yielder.suspend(1);
        panic::resume_unwind(Box::new("oh"));
    });
    assert_eq!(panics.next(), Some(1));
    assert_eq!(panic_text(|| panics.next()), "oh");
    assert_eq!(panics.next(), None);
}

#[test]
fn generators_receive_what_is_sent() {
    let mut sums = Generator::receiving(|yielder| {
        let mut sum = 0;
        loop {
            sum += yielder.suspend(sum).unwrap_or(100);
        }
    });
    let text = panic_text(|| sums.send(1));
    assert!(text.contains("has not been started"), "{text}");
    assert_eq!(sums.next(), Some(0));
    assert_eq!(sums.send(5), Some(5));
    assert_eq!(sums.next(), Some(105));
}

#[test]
fn generators_nest_deeply() {
    fn primes() -> Generator<u32> {
        fn sieve(mut numbers: Generator<u32>, yielder: &Yielder<Option<()>, u32>) {
            let Some(prime) = numbers.next() else { return };
            yielder.suspend(prime);
            let rest = Generator::new(move |inner| {
                inner.suspend_all(numbers.filter(|n| n % prime != 0));
            });
            sieve(rest, yielder);
        }
        Generator::new(|yielder| {
            sieve(Generator::new(|inner| inner.suspend_all(2..)), yielder);
        })
    }
    assert_eq!(primes().take(100).last(), Some(541));
}

#[test]
fn scopes_lend_borrows_and_unwind_what_was_forgotten() {
    let log = log();
    let mut count = 0;
    let answer = coroutine::scope(|scope| {
        let mut kept = scope.coroutine(|yielder, ()| {
            let _noted = Noted("kept", log.clone());
            count += 1;
            yielder.suspend(&log);
            count += 100;
        });
        assert!(kept.resume(()).yielded().unwrap().borrow().is_empty());
        let mut forgotten = scope.coroutine(|yielder, ()| {
            let _noted = Noted("forgotten", log.clone());
            yielder.suspend(());
        });
        let _ = forgotten.resume(());
        std::mem::forget(forgotten);
        std::mem::forget(scope.coroutine(|yielder: &Yielder<(), ()>, ()| {
            let _noted = Noted("never runs", log.clone());
            yielder.suspend(());
        }));
        drop(kept);
        assert_eq!(*log.borrow(), ["kept"]);
        42
    });
    assert_eq!((answer, count), (42, 1));
    assert_eq!(*log.borrow(), ["kept", "forgotten"]);
}

#[test]
fn a_scope_that_panics_unwinds_its_coroutines() {
    let log = log();
    let text = panic_text(|| {
        coroutine::scope(|scope| {
            let mut coroutine = scope.coroutine(|yielder, ()| {
                let _noted = Noted("unwound", log.clone());
                yielder.suspend(());
            });
            let _ = coroutine.resume(());
            std::mem::forget(coroutine);
            panic::resume_unwind(Box::new("the scope's"));
        });
    });
    assert_eq!(text, "the scope's");
    assert_eq!(*log.borrow(), ["unwound"]);
}

#[test]
fn a_panic_while_a_scope_ends_keeps_no_coroutine_from_being_unwound() {
    struct Panics(Rc<Cell<usize>>);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic::resume_unwind(Box::new("a closure's"));
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let text = panic_text(|| {
        coroutine::scope(|scope| {
            for _ in 0..3 {
                let panics = Panics(dropped.clone());
                let body = move |_: &Yielder<(), ()>, ()| drop(panics);
                std::mem::forget(scope.coroutine(body));
            }
        });
    });
    assert_eq!((text.as_str(), dropped.get()), ("a closure's", 3));
}

#[test]
fn handles_may_be_kept_by_other_coroutines_of_their_scope() {
    let log = log();
    coroutine::scope(|scope| {
        let mut inner = scope.coroutine(|yielder, ()| {
            let _noted = Noted("inner", log.clone());
            yielder.suspend(());
        });
        let _ = inner.resume(());
        let mut outer = scope.coroutine(move |yielder, ()| {
            // Both orders of unwinding come by here: the scope's list, or this frame.
            let _inner = inner;
            yielder.suspend(());
        });
        let _ = outer.resume(());
        std::mem::forget(outer);
    });
    assert_eq!(*log.borrow(), ["inner"]);
}

#[test]
fn scoped_generators_send_and_end() {
    let words = ["a", "b", "c"].map(String::from);
    coroutine::scope(|scope| {
        let mut generator = scope.receiving_generator(|yielder| {
            let mut index = 0;
            while let Some(word) = words.get(index) {
                index = yielder.suspend(word.as_str()).unwrap_or(index + 1);
            }
        });
        assert_eq!(generator.next(), Some("a"));
        assert_eq!(generator.send(2), Some("c"));
        assert_eq!(generator.next(), None);
        assert!(generator.is_done());
    });
}

#[test]
fn a_yielder_suspends_the_whole_chain() {
    let log = log();
    let inside = log.clone();
    let mut outer = Coroutine::new(move |yielder: &Yielder<u32, u32>, first| {
        let _noted = Noted("outer", inside.clone());
        coroutine::scope(|scope| {
            let mut inner = scope.coroutine(|_: &Yielder<(), ()>, ()| {
                let _noted = Noted("inner", inside.clone());
                let on_other_stack = || yielder.suspend(first + 1);
                let second = coroutine::on_stack(64 << 10, on_other_stack).unwrap();
                yielder.suspend(second + 1)
            });
            inner.resume(()).complete().unwrap()
        })
    });
    assert_eq!(outer.resume(1), CoroutineState::Yielded(2));
    assert_eq!(outer.resume(2), CoroutineState::Yielded(3));
    drop(outer);
    assert_eq!(*log.borrow(), ["inner", "outer"]);
}

#[test]
fn deep_recursion_fits_on_another_stack() {
    fn depth(n: usize) -> usize {
        let frame = std::hint::black_box([n; 32]);
        if n == 0 { 0 } else { depth(frame[0] - 1) + 1 }
    }
    // The thread sanitizer has room for 65,536 calls in its own account of them.
    let deep = if cfg!(bine_sanitize = "thread") { 50_000 } else { 200_000 };
    assert_eq!(coroutine::on_stack(256 << 20, || depth(deep)).unwrap(), deep);
    let text = String::from("borrowed");
    let nested = || coroutine::on_stack(1 << 20, || text.len() + depth(100)).unwrap();
    assert_eq!(coroutine::on_stack(1 << 20, nested).unwrap(), 108);
    let panics = || coroutine::on_stack(0, || panic::resume_unwind(Box::new("through"))).unwrap();
    assert_eq!(panic_text(panics), "through");
    assert!(coroutine::on_stack(usize::MAX, || ()).is_err());
}

#[test]
fn coroutines_are_resumed_by_other_coroutines() {
    let mut level = Coroutine::new(|yielder: &Yielder<u64, u64>, mut n| {
        loop {
            n = yielder.suspend(n + 1);
        }
    });
    for _ in 0..50 {
        let mut below: Coroutine<u64, u64, ()> = level;
        level = Coroutine::new(move |yielder: &Yielder<u64, u64>, mut n| {
            loop {
                n = yielder.suspend(below.resume(n).yielded().unwrap() + 1);
            }
        });
    }
    for n in 0..100 {
        assert_eq!(level.resume(n), CoroutineState::Yielded(n + 51));
    }
}

#[test]
fn promised_coroutines_move_between_os_threads() {
    let coroutine = Coroutine::new(|yielder: &Yielder<u64, u64>, mut n| {
        let mut sum = 0;
        while n > 0 {
            sum += n;
            n = yielder.suspend(sum);
        }
        sum
    });
    // SAFETY: numbers are all that its stack holds.
    let mut coroutine = unsafe { coroutine.assert_send() };
    for n in 1..=20 {
        coroutine = thread::spawn(move || {
            assert_eq!(coroutine.resume(n), CoroutineState::Yielded(n * (n + 1) / 2));
            coroutine
        })
        .join()
        .unwrap();
    }
    assert_eq!(coroutine.resume(0), CoroutineState::Complete(210));
    assert!(coroutine.is_done());
}

#[test]
fn a_coroutine_that_unwinds_stays_on_its_os_thread() {
    struct Suspend<'a>(&'a Yielder<(), ()>);
    impl Drop for Suspend<'_> {
        fn drop(&mut self) {
            self.0.suspend(());
        }
    }
    let coroutine: Coroutine<(), (), ()> = Coroutine::new(|yielder: &Yielder<(), ()>, ()| {
        let _suspend = Suspend(yielder);
        panic::resume_unwind(Box::new("the panic"));
    });
    // SAFETY: nothing that is bound to a thread is on its stack, but the panic.
    let mut coroutine = unsafe { coroutine.assert_send() };
    let _ = coroutine.resume(());
    let mut coroutine = thread::spawn(move || {
        let text = panic_text(|| coroutine.resume(()));
        assert!(text.contains("while its OS thread was panicking"), "{text}");
        coroutine
    })
    .join()
    .unwrap();
    assert_eq!(panic_text(|| coroutine.resume(())), "the panic");
    assert!(!thread::panicking());
}

#[test]
fn coroutines_kept_in_thread_locals_end_with_their_os_thread() {
    thread_local! {
        static KEPT: RefCell<Option<Generator<u32>>> = const { RefCell::new(None) };
    }
    struct Count<'a>(&'a std::sync::atomic::AtomicU32);
    impl Drop for Count<'_> {
        fn drop(&mut self) {
            // Counts are all that passes: Relaxed.
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    static DROPPED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    thread::spawn(|| {
        KEPT.with_borrow_mut(|kept| {
            let generator = kept.insert(Generator::new(|yielder| {
                let _count = Count(&DROPPED);
                yielder.suspend_all(0..);
            }));
            assert_eq!(generator.nth(9), Some(9));
        });
    })
    .join()
    .unwrap();
    assert_eq!(DROPPED.load(std::sync::atomic::Ordering::Relaxed), 1);
}
