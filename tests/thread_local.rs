//! `bine::thread_local!` in all the forms that `std::thread_local!` takes, under std's name.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "to make runtimes that migrate, and for alarms")]
mod harness;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bine::runtime::Runtime;
// In the place of the one in the prelude, as in a program that changes its imports alone.
use bine::thread::{self, LocalKey};
use bine::thread_local;
use harness::Mode;

/// Runs `body` on an OS thread of its own, and on green threads of both modes with few workers and
/// with many.
fn everywhere(body: fn()) {
    std::thread::spawn(body).join().unwrap();
    let on = |runtime: &Runtime| runtime.spawn(body).join().unwrap();
    for mode in Mode::BOTH {
        for workers in [1, 2, 8] {
            on(&mode.runtime(workers));
        }
    }
}

/// What others set is not seen here, and the other way round.
fn is_each_threads_own(key: &'static LocalKey<Cell<u32>>, initial: u32) {
    assert_eq!(key.get(), initial);
    key.set(initial + 1);
    let theirs = thread::spawn(move || key.replace(initial + 2)).join().unwrap();
    assert_eq!((theirs, key.get()), (initial, initial + 1));
    key.set(initial);
}

thread_local! {}
thread_local!();
thread_local!(static BARE: Cell<u32> = Cell::new(1));
thread_local!(
    static CONSTANT: Cell<u32> = const { Cell::new(2) };
);
thread_local! { static STATEMENTS: Cell<u32> = const {
    let mut sum = 0;
    while sum < 3 {
        sum += 1;
    }
    Cell::new(sum)
} }
thread_local! {
    static FIRST_OF_MANY: Cell<u32> = Cell::new(4);
    static SECOND_OF_MANY: Cell<u32> = const { Cell::new(5) };
    static BLOCK: Cell<u32> = { let six = 6; Cell::new(six) };
    static LAST_OF_MANY: Cell<u32> = Cell::new(7)
}

#[test]
fn one_and_several_with_and_without_semicolons() {
    everywhere(|| {
        let keys =
            [&BARE, &CONSTANT, &STATEMENTS, &FIRST_OF_MANY, &SECOND_OF_MANY, &BLOCK, &LAST_OF_MANY];
        for (key, initial) in keys.into_iter().zip(1..) {
            is_each_threads_own(key, initial);
        }
    });
}

mod seen {
    use std::cell::Cell;

    #[allow(unreachable_pub, reason = "all visibilities are tried")]
    pub mod inside {
        use super::Cell;

        bine::thread_local! {
            static PRIVATE: Cell<u32> = const { Cell::new(0) };
            pub static PUBLIC: Cell<u32> = const { Cell::new(1) };
            pub(crate) static CRATE: Cell<u32> = Cell::new(2);
            pub(super) static SUPER: Cell<u32> = const { Cell::new(3) };
            pub(in crate::seen) static PATH: Cell<u32> = Cell::new(4);
        }

        pub(super) fn private() -> u32 {
            PRIVATE.get()
        }
    }

    pub(super) fn from_here() -> [u32; 5] {
        use inside::{CRATE, PATH, PUBLIC, SUPER};
        [inside::private(), PUBLIC.get(), CRATE.get(), SUPER.get(), PATH.get()]
    }
}

#[test]
fn every_visibility() {
    everywhere(|| {
        assert_eq!(seen::from_here(), [0, 1, 2, 3, 4]);
        is_each_threads_own(&seen::inside::PUBLIC, 1);
        is_each_threads_own(&seen::inside::CRATE, 2);
    });
}

thread_local! {
    /// A line.
    ///
    /// Another one, and ten more, for macros that take a line at a time:
    ///
    /// 1
    /// 2
    /// 3
    /// 4
    /// 5
    /// 6
    /// 7
    /// 8
    /// 9
    /// 10
    static DOCUMENTED: Cell<u32> = const { Cell::new(1) };
    #[doc = concat!("Made of ", "two")]
    #[doc(alias = "another")]
    #[allow(non_upper_case_globals)]
    static lower: Cell<u32> = Cell::new(2);
    #[cfg(any())]
    static LEFT_OUT: NoSuchType = no_such_function();
    #[cfg(not(any()))]
    #[cfg_attr(all(), allow(dead_code), doc = "There.")]
    static KEPT: Cell<u32> = const { Cell::new(3) };
    #[allow(unused)]
    static UNUSED: Cell<u32> = Cell::new(4);
    #[rustfmt::skip]
    static SKIPPED: Cell<u32> = Cell::new( 5 );
}

#[test]
fn attributes_and_documentation() {
    everywhere(|| {
        let all = [&DOCUMENTED, &lower, &KEPT, &SKIPPED].map(|key| key.get());
        assert_eq!(all, [1, 2, 3, 5]);
    });
}

/// Names of items around the macro that its own might be taken for.
mod names {
    use super::{Cell, everywhere};

    const INIT: u32 = 1;
    const SLOT: usize = 2;
    #[allow(dead_code, reason = "they are there to be mistaken for others")]
    mod types {
        pub(super) struct LocalKey;
        pub(super) struct LocalSlot;
        pub(super) struct Option;
        pub(super) struct Box;
    }
    #[allow(unused_imports, reason = "as above")]
    use types::{Box, LocalKey, LocalSlot, Option};
    #[allow(dead_code, non_camel_case_types, reason = "as above")]
    type bool = ();

    bine::thread_local! {
        static CONSTANT: Cell<u32> = const { Cell::new(INIT) };
        static LATER: Cell<u32> = Cell::new(INIT);
        static SIZED: [u8; SLOT] = const { [7; SLOT] };
        static SIZED_LATER: [u8; SLOT] = [8; SLOT];
    }

    #[test]
    fn are_the_users_own() {
        everywhere(|| {
            assert_eq!((CONSTANT.get(), LATER.get()), (1, 1));
            assert_eq!(SIZED.with(|sized| *sized), [7; 2]);
            assert_eq!(SIZED_LATER.with(|sized| *sized), [8; 2]);
        });
    }
}

/// Two functions, and two uses of one macro, have keys of their own under the same name.
#[test]
fn inside_of_functions_and_macros() {
    fn first() -> u32 {
        thread_local!(static NUMBER: Cell<u32> = const { Cell::new(10) });
        NUMBER.replace(NUMBER.get() + 1)
    }
    fn second() -> u32 {
        thread_local! {
            static NUMBER: Cell<u32> = Cell::new(20);
        }
        NUMBER.replace(NUMBER.get() + 1)
    }
    /// One key for all types: a static in a generic function is not generic.
    fn generic<T>() -> u32 {
        thread_local!(static NUMBER: Cell<u32> = Cell::new(30));
        NUMBER.replace(NUMBER.get() + size_of::<T>() as u32)
    }
    macro_rules! declared {
        ($(#[$attribute:meta])* $visibility:vis $name:ident: $type:ty = $value:expr) => {{
            thread_local! {
                $(#[$attribute])*
                $visibility static $name: $type = $value;
            }
            $name.with(|value| value.clone())
        }};
    }
    everywhere(|| {
        assert_eq!([first(), second(), first(), second()], [10, 20, 11, 21]);
        assert_eq!([generic::<u8>(), generic::<u32>(), generic::<()>()], [30, 31, 35]);
        assert_eq!(declared!(/** One. */ NAME: u32 = 40), 40);
        assert_eq!(declared!(#[allow(unused)] pub(crate) NAME: String = "41".to_owned()), "41");
    });
}

/// As an associated function's own, and in a block.
#[test]
fn inside_of_implementations() {
    struct Ids;
    impl Ids {
        fn next() -> u32 {
            thread_local!(static NEXT: Cell<u32> = const { Cell::new(0) });
            NEXT.replace(NEXT.get() + 1)
        }
    }
    everywhere(|| {
        assert_eq!([Ids::next(), Ids::next(), Ids::next()], [0, 1, 2]);
        let value = {
            thread_local!(static HERE: Cell<u32> = Cell::new(3));
            HERE.get()
        };
        assert_eq!(value, 3);
    });
}

macro_rules! many {
    ($($name:ident)+) => {
        thread_local! { $(static $name: Cell<u32> = const { Cell::new(0) };)+ }
        const MANY: &[&LocalKey<Cell<u32>>] = &[$(&$name),+];
    };
}
many! {
    A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 B0 B1 B2 B3 B4 B5 B6 B7 B8 B9 C0 C1 C2 C3 C4 C5 C6 C7 C8 C9
    D0 D1 D2 D3 D4 D5 D6 D7 D8 D9 E0 E1 E2 E3 E4 E5 E6 E7 E8 E9 F0 F1 F2 F3 F4 F5 F6 F7 F8 F9
    G0 G1 G2 G3 G4 G5 G6 G7 G8 G9 H0 H1 H2 H3 H4 H5 H6 H7 H8 H9 I0 I1 I2 I3 I4 I5 I6 I7 I8 I9
}

#[test]
fn ninety_in_one_call() {
    everywhere(|| {
        for (number, key) in (0..).zip(MANY) {
            key.set(number);
        }
        for (number, key) in (0..).zip(MANY) {
            assert_eq!(key.get(), number);
        }
    });
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

#[repr(align(256))]
struct Aligned(u8);

thread_local! {
    static SHARED: Rc<Cell<u32>> = Rc::default();
    static POINTER: Cell<*const u8> = const { Cell::new(std::ptr::null()) };
    static FUNCTION: fn(u32) -> u32 = |number| number + 1;
    static CLOSURE: Box<dyn Fn(u32) -> u32> = Box::new(|number| number + 2);
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    static ONCE: OnceCell<Vec<u8>> = const { OnceCell::new() };
    static NOTHING: () = ();
    static LARGE: RefCell<[u64; 1000]> = const { RefCell::new([3; 1000]) };
    static ALIGNED: Aligned = const { Aligned(9) };
    static DROPS: Counted = const { Counted };
    static DROPS_LATER: Counted = Counted;
    static QUESTION: Option<u32> = { let digits: Result<u32, _> = "12".parse(); digits.ok() };
    static NESTED: u32 = FUNCTION.with(|function| function(BARE.get()));
}

#[test]
fn values_of_all_kinds() {
    everywhere(|| {
        SHARED.with(|shared| shared.set(shared.get() + 1));
        assert_eq!(SHARED.with(|shared| (shared.get(), Rc::strong_count(shared))), (1, 1));
        assert!(POINTER.get().is_null());
        assert_eq!(FUNCTION.with(|function| function(1)) + CLOSURE.with(|closure| closure(1)), 5);
        TEXT.with_borrow_mut(|text| text.push('x'));
        assert_eq!(TEXT.take() + &TEXT.replace("y".to_owned()), "x");
        assert_eq!(ONCE.with(|once| once.get_or_init(|| vec![1]).len()), 1);
        NOTHING.with(|()| ());
        assert_eq!(LARGE.with_borrow(|large| large.iter().sum::<u64>()), 3000);
        ALIGNED.with(|aligned| {
            assert_eq!((&raw const *aligned).addr() % 256, 0);
            assert_eq!(aligned.0, 9);
        });
        assert_eq!(QUESTION.with(|number| *number), Some(12));
        assert_eq!(NESTED.with(|number| *number), 2);
    });
}

/// Once for each thread that has used it, before that can be joined; never for one that has not.
#[test]
fn values_are_dropped_with_their_threads() {
    for mode in Mode::BOTH {
        for workers in [1, 2, 8] {
            let runtime = mode.runtime(workers);
            let before = DROPPED.load(Ordering::SeqCst);
            runtime.spawn(|| ()).join().unwrap();
            assert_eq!(DROPPED.load(Ordering::SeqCst), before);
            let uses = || {
                DROPS.with(|_| thread::yield_now());
                DROPS_LATER.with(|_| thread::yield_now());
            };
            let threads: Vec<_> = (0..10).map(|_| runtime.spawn(uses)).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(DROPPED.load(Ordering::SeqCst), before + 20);
        }
    }
}
