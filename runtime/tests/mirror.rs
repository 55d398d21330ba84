//! Beside std's: the traits, the signatures and the debug output of each public item of `thread`.
//!
//! What behaves like std's is tested where it is tested at all (`threads.rs`, `scope.rs`, `locals.rs`).
//! What must not compile stands in the documentation of the items, as `compile_fail` examples.

mod modes;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::io;
use std::marker::PhantomPinned;
use std::num::NonZeroUsize;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use bine_runtime::thread as ours;
use modes::runtimes;
use std::thread as stds;

/// Whether a type has a trait, as a constant: the inherent constant hides that of the trait `No`,
/// where its bound holds.
macro_rules! has {
    ($type:ty: $($trait:tt)+) => {{
        #[allow(dead_code, reason = "never made")]
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "hidden where the trait is there")]
        trait No {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> No for Asked<T> {}
        #[allow(dead_code, reason = "as above")]
        impl<T: ?Sized + $($trait)+> Asked<T> {
            const ANSWER: bool = true;
        }
        <Asked<$type>>::ANSWER
    }};
}

/// The names of the traits that one of two types has and the other has not, with a sign: `+` if it is
/// ours that has it.
macro_rules! differences {
    ($ours:ty, $stds:ty) => {
        differences!($ours, $stds; Send Sync Unpin UnwindSafe RefUnwindSafe Clone Copy Debug Display
            Error Default PartialEq Eq Hash PartialOrd Ord Future Iterator)
    };
    ($ours:ty, $stds:ty; $($trait:ident)+) => {{
        let mut differences = Vec::new();
        $(match (has!($ours: $trait), has!($stds: $trait)) {
            (true, false) => differences.push(concat!("+", stringify!($trait))),
            (false, true) => differences.push(concat!("-", stringify!($trait))),
            _ => {}
        })+
        differences
    }};
}

/// For each of several parameters that differ in their traits, the differences of a generic type.
macro_rules! differences_of_all {
    ($name:ident: $($of:tt)+) => {{
        let mut all: Vec<Vec<&str>> = Vec::new();
        differences_of_all!(@each all $name [$($of)+]
            [()] [Cell<u8>] [Rc<u8>] [*mut u8] [MutexGuard<'static, u8>] [&'static Cell<u8>]
            [PhantomPinned] [&'static mut u8] [Box<dyn FnOnce()>] [fn(Rc<u8>) -> Cell<u8>]);
        all.sort();
        all.dedup();
        all
    }};
    (@each $all:ident $name:ident $of:tt $([$type:ty])+) => {
        $(differences_of_all!(@one $all $name $of $type);)+
    };
    (@one $all:ident $name:ident [$($life:lifetime)?] $type:ty) => {
        $all.push(differences!(ours::$name<$($life,)? $type>, stds::$name<$($life,)? $type>));
    };
    (@one $all:ident $name:ident [-] $type:ty) => {
        $all.push(differences!(ours::$name<$type>, stds::$name<$type>));
    };
}

#[test]
fn types_have_the_traits_of_stds() {
    let same: [&[&str]; 1] = [&[]];
    assert_eq!(differences_of_all!(LocalKey: -), same);
    assert_eq!(differences_of_all!(ScopedJoinHandle: 'static), same);
    let none: [&str; 0] = [];
    assert_eq!(differences!(ours::Scope<'_, '_>, stds::Scope<'_, '_>), none);
    assert_eq!(differences!(ours::Thread, stds::Thread), none);
    assert_eq!(differences!(ours::ThreadId, stds::ThreadId), none);
    assert_eq!(differences!(ours::AccessError, stds::AccessError), none);
    // More than std's: nothing that compiles with std fails for that.
    assert_eq!(differences!(ours::Builder, stds::Builder), ["+Default"]);
    let more: [&[&str]; 1] = [&["+UnwindSafe", "+RefUnwindSafe", "+Future"]];
    assert_eq!(differences_of_all!(JoinHandle: -), more);
}

#[test]
fn the_comparison_sees_differences() {
    assert_eq!(differences!(Rc<u8>, u8), ["-Send", "-Sync", "-Copy"]);
    assert_eq!(
        differences!(u8, Cell<u8>),
        ["+Sync", "+RefUnwindSafe", "+Copy", "+Display", "+Hash"]
    );
}

/// What std has not.
#[test]
fn errors_are_errors() {
    assert!(has!(ours::Cancelled: Error) && has!(ours::Cancelled: Copy));
    assert!(has!(bine_runtime::Abandoned: Error) && has!(bine_runtime::Abandoned: Copy));
    let _: fn(stds::Result<u8>) -> ours::Result<u8> = |result| result;
    assert_eq!(size_of::<Option<ours::ThreadId>>(), size_of::<ours::ThreadId>());
}

/// Calls every item with no more than std asks for, and uses the type that std gives.
macro_rules! calls {
    ($name:ident, $threads:path) => {
        #[allow(deprecated, reason = "std has not removed them")]
        mod $name {
            use super::*;
            use $threads as threads;

            fn spawn<F: FnOnce() -> T + Send + 'static, T: Send + 'static>(
                f: F,
            ) -> threads::JoinHandle<T> {
                threads::spawn(f)
            }

            fn build<F: FnOnce() -> T + Send + 'static, T: Send + 'static>(
                f: F,
            ) -> io::Result<threads::JoinHandle<T>> {
                threads::Builder::new().spawn(f)
            }

            unsafe fn build_unchecked<F: FnOnce() -> T + Send, T: Send>(
                f: F,
            ) -> io::Result<threads::JoinHandle<T>> {
                // SAFETY: the caller's promise.
                unsafe { threads::Builder::new().spawn_unchecked(f) }
            }

            fn scope<'env, F, T>(f: F) -> T
            where
                F: for<'scope> FnOnce(&'scope threads::Scope<'scope, 'env>) -> T,
            {
                threads::scope(f)
            }

            fn spawn_there<'scope, F: FnOnce() -> T + Send + 'scope, T: Send + 'scope>(
                scope: &'scope threads::Scope<'scope, '_>,
                f: F,
            ) -> threads::ScopedJoinHandle<'scope, T> {
                scope.spawn(f)
            }

            fn build_there<'scope, 'env, F: FnOnce() -> T + Send + 'scope, T: Send + 'scope>(
                scope: &'scope threads::Scope<'scope, 'env>,
                f: F,
            ) -> io::Result<threads::ScopedJoinHandle<'scope, T>> {
                threads::Builder::new().spawn_scoped(scope, f)
            }

            fn joins<T>(handle: threads::JoinHandle<T>) -> threads::Result<T> {
                let _: (&threads::Thread, bool) = (handle.thread(), handle.is_finished());
                handle.join()
            }

            fn joins_there<T>(handle: threads::ScopedJoinHandle<'_, T>) -> threads::Result<T> {
                let _: (&threads::Thread, bool) = (handle.thread(), handle.is_finished());
                handle.join()
            }

            fn looks<T, R>(
                key: &'static threads::LocalKey<T>,
                f: impl Fn(&T) -> R,
            ) -> (R, Result<R, threads::AccessError>) {
                (key.with(&f), key.try_with(&f))
            }

            fn cells<T: Copy + Default>(
                key: &'static threads::LocalKey<Cell<T>>,
                value: T,
            ) -> [T; 3] {
                key.set(value);
                [key.get(), key.replace(value), key.take()]
            }

            fn refcells<T: Default>(
                key: &'static threads::LocalKey<RefCell<T>>,
                value: fn() -> T,
            ) -> [T; 2] {
                key.set(value());
                key.with_borrow(|_: &T| ());
                key.with_borrow_mut(|_: &mut T| ());
                [key.replace(value()), key.take()]
            }

            #[test]
            fn all_of_it() {
                // As function pointers, which have no room for other signatures.
                let waits: [fn(); 2] = [threads::park, threads::yield_now];
                let short: [fn(u32); 2] = [threads::sleep_ms, threads::park_timeout_ms];
                let long: [fn(Duration); 2] = [threads::sleep, threads::park_timeout];
                let _: (fn() -> bool, fn() -> threads::Thread) =
                    (threads::panicking, threads::current);
                let _: fn() -> io::Result<NonZeroUsize> = threads::available_parallelism;
                let _: fn(&threads::Thread) -> Option<&str> = threads::Thread::name;
                let _: fn(&threads::Thread) -> threads::ThreadId = threads::Thread::id;
                let _: fn(threads::Builder, String) -> threads::Builder = threads::Builder::name;
                let _: fn(threads::Builder, usize) -> threads::Builder =
                    threads::Builder::stack_size;
                short.iter().for_each(|wait| wait(0));
                long.iter().for_each(|wait| wait(Duration::ZERO));
                threads::current().unpark();
                waits.iter().for_each(|wait| wait());

                let number = 3;
                assert_eq!(joins(spawn(move || number)).unwrap(), 3);
                assert_eq!(joins(build(move || number).unwrap()).unwrap(), 3);
                // SAFETY: it is joined here.
                let unchecked = unsafe { build_unchecked(|| &number) };
                assert_eq!(joins(unchecked.unwrap()).unwrap(), &3);
                scope(|scope| {
                    assert_eq!(joins_there(spawn_there(scope, || &number)).unwrap(), &3);
                    assert_eq!(joins_there(build_there(scope, || &number).unwrap()).unwrap(), &3);
                });
                assert_eq!(looks(&NUMBER, Cell::get), (0, Ok(0)));
                assert_eq!(cells(&NUMBER, 4), [4, 4, 4]);
                assert_eq!(refcells(&TEXT, || "text".to_owned()), ["text", "text"]);
            }
        }
    };
}

mod with_std {
    use super::*;

    std::thread_local! {
        static NUMBER: Cell<u8> = const { Cell::new(0) };
        static TEXT: RefCell<String> = RefCell::default();
    }
    calls!(calls, std::thread);
}

mod with_bine {
    use super::*;

    bine_runtime::thread_local! {
        static NUMBER: Cell<u8> = const { Cell::new(0) };
        static TEXT: RefCell<String> = RefCell::default();
    }
    calls!(calls, bine_runtime::thread);
}

/// With every number in it replaced: ids differ.
fn without_numbers(text: String) -> String {
    let mut parts = text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "#" + part)
}

/// What the debug output of each type looks like.
macro_rules! shown {
    ($threads:path, $locals:path) => {{
        use $locals as locals;
        use $threads as threads;
        locals! {
            static DEAD: RefCell<Option<Looks>> = const { RefCell::new(None) };
        }
        struct Looks(mpsc::Sender<threads::AccessError>);
        impl Drop for Looks {
            fn drop(&mut self) {
                self.0.send(DEAD.try_with(|_| ()).unwrap_err()).unwrap();
            }
        }
        let mut shown = Vec::new();
        let (sender, errors) = mpsc::channel();
        let handle = threads::Builder::new().name("named".into()).spawn(move || {
            DEAD.set(Some(Looks(sender)));
        });
        let handle = handle.unwrap();
        shown.push(without_numbers(format!("{:?} {:#?}", handle.thread(), handle.thread())));
        shown.push(format!("{handle:?} {handle:#?}"));
        handle.join().unwrap();
        let unnamed = threads::spawn(|| ());
        shown.push(without_numbers(format!("{:?}", unnamed.thread())));
        shown.push(without_numbers(format!("{:?}", unnamed.thread().id())));
        unnamed.join().unwrap();
        let error = errors.recv().unwrap();
        shown.push(format!("{error:?} {error:#?} {error} <{error:>20}> <{error:.3}>"));
        shown.push(format!("{DEAD:?} {DEAD:#?}"));
        threads::scope(|scope| {
            let shows = without_numbers(format!("{scope:?}"));
            // The owner's name is the thread's that runs this.
            shown.push(shows.split("name").next().unwrap().to_owned());
            let handle = scope.spawn(|| ());
            shown.push(format!("{handle:?} {handle:#?}"));
        });
        let builder = threads::Builder::new().name("named".into()).stack_size(7);
        let text = format!("{builder:?}");
        shown.push(text.split(", ").take(2).collect::<Vec<_>>().join(", "));
        shown
    }};
}

#[test]
fn debug_output_has_stds_form() {
    let stds = shown!(std::thread, std::thread_local);
    assert_eq!(shown!(bine_runtime::thread, bine_runtime::thread_local), stds);
    // Only the unpark comes from outside, so no worker is held by the receive.
    let green = bine_runtime::run(|| shown!(bine_runtime::thread, bine_runtime::thread_local));
    assert_eq!(green, stds);
    println!("{stds:#?}");
}

/// A loop that looks for something now and then, with a wait of no length in between, holds nobody
/// up, even if there is one worker alone.
#[test]
fn waits_of_no_length_let_others_go() {
    let waits: [fn(); 4] = [
        || ours::sleep(Duration::ZERO),
        || ours::park_timeout(Duration::ZERO),
        || ours::sleep_until(Instant::now()),
        ours::yield_now,
    ];
    for runtime in runtimes() {
        for wait in waits {
            runtime.run(move || {
                let done = Arc::new(AtomicBool::new(false));
                let child = {
                    let done = Arc::clone(&done);
                    ours::spawn(move || done.store(true, Ordering::Release))
                };
                while !done.load(Ordering::Acquire) {
                    wait();
                }
                child.join().unwrap();
            });
        }
    }
}

/// A token that is there is taken by a park of no length, and none is left behind.
#[test]
fn a_park_of_no_length_takes_the_token() {
    let body = || {
        ours::current().unpark();
        ours::park_timeout(Duration::ZERO);
        let before = Instant::now();
        ours::park_timeout(Duration::from_millis(2));
        // std may return early for no reason, on plain OS threads.
        assert!(before.elapsed() >= Duration::from_millis(2) || !bine_runtime::wait::is_green());
    };
    body();
    runtimes().iter().for_each(|runtime| runtime.run(body));
}

/// Sizes that cannot be had are errors, small ones are made larger, and a NUL in a name is a panic, of
/// which the closure's drop is a part.
#[test]
fn builders_refuse_as_stds() {
    for size in [0, 1, 4096] {
        let thread = ours::Builder::new().stack_size(size).spawn(move || size).unwrap();
        assert_eq!(thread.join().unwrap(), size);
    }
    for size in [usize::MAX, usize::MAX / 2 + 1, usize::MAX / 2] {
        assert!(ours::Builder::new().stack_size(size).spawn(|| ()).is_err());
        ours::scope(|scope| {
            let captured = Arc::new(());
            let inside = Arc::clone(&captured);
            let builder = ours::Builder::new().stack_size(size);
            assert!(builder.spawn_scoped(scope, move || drop(inside)).is_err());
            assert_eq!(Arc::strong_count(&captured), 1);
        });
    }
    let captured = Arc::new(());
    for name in ["\0", "with\0in", "at the end\0"] {
        let inside = Arc::clone(&captured);
        let refused = catch_unwind(|| {
            ours::scope(|scope| {
                let builder = ours::Builder::new().name(name.to_owned());
                builder.spawn_scoped(scope, move || drop(inside)).map(drop)
            })
        });
        assert!(refused.is_err());
        assert_eq!(Arc::strong_count(&captured), 1);
    }
    for name in ["", "with spaces", &"long".repeat(1_000), "\u{1f980}"] {
        let named = ours::Builder::new().name(name.to_owned());
        let thread = named.spawn(|| ours::current().name().map(str::to_owned)).unwrap();
        assert_eq!(thread.join().unwrap().as_deref(), Some(name));
    }
}
