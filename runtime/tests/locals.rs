//! Thread-locals of green threads: as std's, and what std's cannot do.

#[path = "../../arch/tests/child/mod.rs"]
#[allow(dead_code, reason = "not every test binary uses all of it")]
mod child;

mod modes;

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bine_runtime::thread::{self, AccessError, LocalKey};
use modes::runtimes;

/// What happened, in order. Given to a thread in a global slot, since constants cannot capture it;
/// the lock is never held while anything blocks.
type Trace = Arc<Mutex<Vec<String>>>;

/// The scenarios, on the thread-locals and threads of one library. Each takes the trace, and leaves
/// in it what happened.
macro_rules! scenarios {
    ($name:ident, $threads:path, $locals:path) => {
        mod $name {
            use super::*;
            use $locals as locals;
            use $threads as threads;

            locals! {
                /// Where this thread's values report.
                static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
            }

            fn say(trace: &Trace, what: impl Into<String>) {
                trace.lock().unwrap().push(what.into());
            }

            /// Runs `f` on a thread, joins it, and says how it ended.
            fn on_thread(trace: &Trace, f: impl FnOnce(&Trace) + Send + 'static) {
                let inside = Arc::clone(trace);
                let joined = threads::spawn(move || {
                    f(&inside);
                    say(&inside, "closure done");
                })
                .join();
                say(trace, format!("joined: {}", joined.is_ok()));
            }

            /// Reports its end, after it has done what it was given to do.
            struct Value(Trace, &'static str, fn(&Trace));

            impl Drop for Value {
                fn drop(&mut self) {
                    say(&self.0, format!("drop {}", self.1));
                    (self.2)(&self.0);
                    say(&self.0, format!("dropped {}", self.1));
                }
            }

            type Key = threads::LocalKey<RefCell<Option<Value>>>;

            locals! {
                static A: RefCell<Option<Value>> = RefCell::new(None);
                static B: RefCell<Option<Value>> = const { RefCell::new(None) };
                static C: RefCell<Option<Value>> = const { RefCell::new(None) };
                static PLAIN: Cell<u32> = Cell::new(5);
                static CONSTANT: Cell<u32> = const { Cell::new(6) };
            }

            fn put(key: &'static Key, trace: &Trace, name: &'static str, then: fn(&Trace)) {
                let value = Value(Arc::clone(trace), name, then);
                let put = key.try_with(|there| *there.borrow_mut() = Some(value));
                say(trace, format!("put {name}: {put:?}"));
            }

            fn look(trace: &Trace) {
                for (name, key) in [("A", &A), ("B", &B), ("C", &C)] {
                    let what = key.try_with(|there| there.borrow().as_ref().map(|v| v.1));
                    say(trace, format!("look {name}: {what:?}"));
                }
                say(
                    trace,
                    format!("{:?} {:?}", PLAIN.try_with(Cell::get), CONSTANT.try_with(Cell::get)),
                );
            }

            fn nothing(_: &Trace) {}

            fn order(trace: &Trace) {
                on_thread(trace, |trace| {
                    put(&B, trace, "first", nothing);
                    put(&A, trace, "second", nothing);
                    put(&C, trace, "third", nothing);
                });
            }

            fn destructors_look_around(trace: &Trace) {
                on_thread(trace, |trace| {
                    PLAIN.set(7);
                    CONSTANT.set(8);
                    put(&A, trace, "a", look);
                    put(&B, trace, "b", look);
                });
            }

            fn destructors_initialise(trace: &Trace) {
                on_thread(trace, |trace| {
                    put(&A, trace, "a", |trace| {
                        put(&B, trace, "b", |trace| {
                            put(&A, trace, "a again", nothing);
                            put(&C, trace, "c", look);
                        });
                    });
                });
            }

            fn a_panic_ends_the_closure(trace: &Trace) {
                on_thread(trace, |trace| {
                    put(&A, trace, "a", |trace| {
                        say(trace, format!("panicking: {}", threads::panicking()));
                    });
                    panic::resume_unwind(Box::new("over"));
                });
            }

            fn results_go_first(trace: &Trace) {
                let inside = Arc::clone(trace);
                let (go, wait) = mpsc::channel::<()>();
                let (report, ended) = mpsc::channel::<()>();
                struct Reports(mpsc::Sender<()>);
                impl Drop for Reports {
                    fn drop(&mut self) {
                        let _ = self.0.send(());
                    }
                }
                locals! {
                    static LAST: RefCell<Option<Reports>> = const { RefCell::new(None) };
                }
                drop(threads::spawn(move || {
                    while wait.try_recv().is_err() {
                        threads::yield_now();
                    }
                    // The first to be initialised is the last to go.
                    LAST.set(Some(Reports(report)));
                    put(&A, &inside, "local", nothing);
                    Value(inside, "result", |trace| {
                        look(trace);
                        put(&B, trace, "b", nothing);
                    })
                }));
                go.send(()).unwrap();
                // Not `recv`: that would hold the worker on which the thread is to run.
                while ended.try_recv().is_err() {
                    threads::yield_now();
                }
            }

            fn recursive_initialisation(trace: &Trace) {
                // How many, not when: bine keeps those that were replaced until the end.
                static DROPPED: AtomicU32 = AtomicU32::new(0);
                struct Numbered(u32);
                impl Drop for Numbered {
                    fn drop(&mut self) {
                        DROPPED.fetch_add(1, Ordering::Relaxed);
                    }
                }
                locals! {
                    static DEPTH: Cell<u32> = const { Cell::new(0) };
                    static OUTER: Numbered = {
                        let depth = DEPTH.get();
                        DEPTH.set(depth + 1);
                        if depth < 2 {
                            OUTER.with(|value| assert!(value.0 == 2 || depth == 0));
                        }
                        Numbered(depth)
                    };
                }
                on_thread(trace, |trace| {
                    say(trace, format!("number {}", OUTER.with(|value| value.0)));
                    say(trace, format!("number {}", OUTER.with(|value| value.0)));
                });
                say(trace, format!("dropped {}", DROPPED.swap(0, Ordering::Relaxed)));
            }

            fn initialisers_that_panic(trace: &Trace) {
                locals! {
                    static TRIES: Cell<u32> = const { Cell::new(0) };
                    static FAILS: Box<u32> = {
                        TRIES.set(TRIES.get() + 1);
                        if TRIES.get() == 1 {
                            panic::resume_unwind(Box::new("not yet"));
                        }
                        Box::new(TRIES.get())
                    };
                }
                on_thread(trace, |trace| {
                    let tried = panic::catch_unwind(|| FAILS.with(|value| **value));
                    say(trace, format!("{}", tried.is_err()));
                    say(trace, format!("{}", FAILS.with(|value| **value)));
                });
            }

            fn set_without_initialiser(trace: &Trace) {
                locals! {
                    static CELL: Cell<u32> = panic!("the initialiser ran");
                    static REFCELL: RefCell<String> = panic!("the initialiser ran");
                }
                on_thread(trace, |trace| {
                    CELL.set(3);
                    REFCELL.set("text".to_owned());
                    say(trace, format!("{} {}", CELL.replace(4), REFCELL.replace("more".into())));
                    say(trace, format!("{} {}", CELL.take(), REFCELL.take()));
                    REFCELL.with_borrow_mut(|text| text.push('x'));
                    say(trace, format!("{} {}", CELL.get(), REFCELL.with_borrow(Clone::clone)));
                });
            }

            fn access_while_destroyed_panics(trace: &Trace) {
                on_thread(trace, |trace| {
                    put(&A, trace, "a", |trace| {
                        let with = panic::catch_unwind(|| A.with(|_| ()));
                        let set = panic::catch_unwind(|| A.set(None));
                        say(trace, format!("{} {}", with.is_err(), set.is_err()));
                    });
                });
            }

            pub(super) fn all(trace: &Trace) {
                let scenarios: [(&str, fn(&Trace)); 9] = [
                    ("order", order),
                    ("look", destructors_look_around),
                    ("initialise", destructors_initialise),
                    ("panic", a_panic_ends_the_closure),
                    ("results", results_go_first),
                    ("recursive", recursive_initialisation),
                    ("initialisers", initialisers_that_panic),
                    ("set", set_without_initialiser),
                    ("access", access_while_destroyed_panics),
                ];
                for (name, scenario) in scenarios {
                    say(trace, format!("== {name}"));
                    scenario(trace);
                }
            }
        }
    };
}

scenarios!(with_std, std::thread, std::thread_local);
scenarios!(with_bine, bine_runtime::thread, bine_runtime::thread_local);

fn trace_of(run: impl FnOnce(&Trace)) -> Vec<String> {
    let trace = Trace::default();
    run(&trace);
    std::mem::take(&mut *trace.lock().unwrap())
}

#[test]
fn what_happens_is_what_happens_with_std() {
    let expected = trace_of(with_std::all);
    assert!(expected.len() > 60, "{expected:#?}");
    for runtime in runtimes() {
        let trace = Trace::default();
        let inside = Arc::clone(&trace);
        runtime.spawn(move || with_bine::all(&inside)).join().unwrap();
        assert_eq!(*trace.lock().unwrap(), expected);
    }
}

/// The same, with all that happens on one OS thread's table.
#[test]
fn plain_os_threads_have_values_too() {
    bine_runtime::thread_local! {
        static FIRST: RefCell<Option<Says>> = const { RefCell::new(None) };
        static SECOND: RefCell<Option<Says>> = RefCell::new(None);
        static PLAIN: Cell<u8> = const { Cell::new(1) };
    }
    struct Says(mpsc::Sender<(u8, bool, u8)>, u8);
    impl Drop for Says {
        fn drop(&mut self) {
            let there = FIRST.try_with(|_| ()).is_ok();
            self.0.send((self.1, there, PLAIN.get())).unwrap();
        }
    }
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        PLAIN.set(2);
        FIRST.set(Some(Says(say.clone(), 1)));
        SECOND.set(Some(Says(say, 2)));
    })
    .join()
    .unwrap();
    assert_eq!(said.iter().collect::<Vec<_>>(), [(2, true, 2), (1, false, 2)]);
    assert_eq!(PLAIN.get(), 1);
}

bine_runtime::thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    static COUNTED: Rc<Cell<usize>> = Rc::default();
}

/// Each thread's own, however often it waits and wherever it goes on.
#[test]
fn neighbours_do_not_see_each_other() {
    for runtime in runtimes() {
        let threads: Vec<_> = (0..64)
            .map(|number| {
                runtime.spawn(move || {
                    NUMBER.set(number);
                    COUNTED.with(|counted| {
                        for round in 1..=20 {
                            thread::yield_now();
                            counted.set(counted.get() + 1);
                            assert_eq!(NUMBER.get(), number);
                            assert_eq!(COUNTED.with(|counted| counted.get()), round);
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(runtime.spawn(|| NUMBER.get()).join().unwrap(), 0);
    }
}

#[test]
fn initialisers_may_wait() {
    bine_runtime::thread_local! {
        static SLOW: usize = {
            for _ in 0..10 {
                thread::yield_now();
            }
            bine_runtime::spawn(|| 6).join().unwrap() + 1
        };
    }
    for runtime in runtimes() {
        let threads: Vec<_> = (0..16).map(|_| runtime.spawn(|| SLOW.with(|slow| *slow))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 7);
        }
    }
}

/// A destructor waits, spawns and joins, and its thread is still itself.
struct Waits(Arc<AtomicUsize>, thread::ThreadId);

impl Drop for Waits {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.1);
        assert_eq!(thread::current().name(), Some("has locals"));
        for _ in 0..3 {
            thread::yield_now();
        }
        thread::sleep(std::time::Duration::from_micros(1));
        let dropped = Arc::clone(&self.0);
        let child = bine_runtime::spawn(move || dropped.fetch_add(1, Ordering::Relaxed));
        child.join().unwrap();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Parks when it is dropped, until it is told to end.
struct Parks {
    parked: Arc<AtomicUsize>,
    may_end: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Drop for Parks {
    fn drop(&mut self) {
        while self.may_end.load(Ordering::Acquire) == 0 {
            self.parked.fetch_add(1, Ordering::Release);
            thread::park();
        }
        thread::yield_now();
        thread::sleep(std::time::Duration::from_micros(1));
        self.ended.store(1, Ordering::Release);
    }
}

/// The closure returns, or unwinds for another reason, or because of a first request.
#[test]
fn a_destructor_that_waits_is_not_interrupted_by_a_cancellation() {
    bine_runtime::thread_local! {
        static PARKS: RefCell<Option<Parks>> = const { RefCell::new(None) };
    }
    for runtime in runtimes() {
        for how in ["returns", "panics", "is cancelled"] {
            let [parked, may_end, ended] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
            let parks = Parks {
                parked: Arc::clone(&parked),
                may_end: Arc::clone(&may_end),
                ended: Arc::clone(&ended),
            };
            let target = runtime.spawn(move || {
                PARKS.set(Some(parks));
                match how {
                    "panics" => panic::resume_unwind(Box::new("over")),
                    "is cancelled" => thread::sleep(std::time::Duration::MAX),
                    _ => {}
                }
                7
            });
            if how == "is cancelled" {
                target.cancel().unwrap();
            }
            let parked_since = |before: usize| {
                while parked.load(Ordering::Acquire) == before {
                    std::thread::yield_now();
                }
            };
            parked_since(0);
            // Wakes it up, or finds it on its way into the wait: it must go on to wait in any case.
            target.cancel().unwrap();
            target.thread().unpark();
            parked_since(1);
            assert!(!target.is_finished());
            may_end.store(1, Ordering::Release);
            target.thread().unpark();
            match (how, target.join()) {
                ("returns", Ok(7)) => {}
                ("panics", Err(payload)) => assert!(payload.is::<&str>()),
                ("is cancelled", Err(payload)) => assert!(payload.is::<thread::Cancelled>()),
                (how, result) => panic!("{how}, and then {result:?}"),
            }
            assert_eq!(ended.load(Ordering::Acquire), 1);
        }
    }
}

bine_runtime::thread_local! {
    static WAITS: RefCell<Vec<Waits>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn destructors_wait_and_the_join_comes_after_them() {
    for runtime in runtimes() {
        for cancel in [false, true] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    let dropped = Arc::clone(&dropped);
                    let builder = thread::Builder::new().name("has locals".to_owned());
                    builder
                        .spawn_on(&runtime, move || {
                            let me = thread::current().id();
                            WAITS.with_borrow_mut(|all| all.push(Waits(dropped, me)));
                            if cancel {
                                thread::current().unpark();
                                loop {
                                    thread::park();
                                }
                            }
                        })
                        .unwrap()
                })
                .collect();
            let mut ran = 0;
            for thread in threads {
                if cancel {
                    thread.cancel().unwrap();
                }
                let before = dropped.load(Ordering::Relaxed);
                let joined = thread.join();
                assert_eq!(joined.is_err(), cancel);
                ran += 1;
                assert!(dropped.load(Ordering::Relaxed) >= 2 * ran, "{before}");
            }
            assert_eq!(dropped.load(Ordering::Relaxed), 32);
        }
    }
}

/// A table that grows does not move what is in it.
#[test]
fn values_stay_where_they_are() {
    macro_rules! many {
        ($($name:ident)*) => {{
            bine_runtime::thread_local! { $(static $name: Box<u32> = Box::new(line!());)* }
            let all: &[&'static LocalKey<Box<u32>>] = &[$(&$name),*];
            all
        }};
    }
    fn nested(keys: &[&'static LocalKey<Box<u32>>], seen: &mut Vec<*const u32>) {
        let Some((first, rest)) = keys.split_first() else { return };
        first.with(|value| {
            let before = (value as *const Box<u32>, **value);
            seen.push(&raw const **value);
            nested(rest, seen);
            assert_eq!((value as *const Box<u32>, **value), before);
        });
    }
    let keys = many!(A B C D E F G H I J K L M N O P Q R S T U V W X Y Z);
    bine_runtime::spawn(move || {
        let mut seen = Vec::new();
        nested(keys, &mut seen);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 26);
    })
    .join()
    .unwrap();
}

mod syntax {
    #![forbid(unsafe_code)]
    #![allow(dead_code)]

    use std::cell::{Cell, RefCell};

    // Names that the macro must not stumble over.
    struct LocalKey;
    struct Option;
    struct Slot;

    bine_runtime::thread_local! {}
    bine_runtime::thread_local!(static ONE: Cell<u8> = Cell::new(1));
    bine_runtime::thread_local!(pub(crate) static TWO: Cell<u8> = const { Cell::new(2) });
    bine_runtime::thread_local! {
        /// Documented.
        #[allow(non_upper_case_globals)]
        pub(super) static three: &'static str = const { "3" };
        #[cfg(any())]
        static NOT_THERE: NoSuchType = NoSuchType;
        static FOUR: RefCell<Vec<u8>> = RefCell::new(vec![4]);
        pub static FIVE: [Cell<u8>; 2] = const { let five = 5; [Cell::new(five), Cell::new(0)] };
        pub(in crate::syntax) static SIX: Box<dyn Fn() -> u8> = Box::new(|| 6);
    }
    bine_runtime::thread_local!(static NO_SEMICOLON: u8 = { 7 });

    #[test]
    fn all_of_it_is_taken() {
        assert_eq!((ONE.get(), TWO.get(), three.with(|text| *text)), (1, 2, "3"));
        assert_eq!(FOUR.with_borrow(|four| four[0]), 4);
        assert_eq!(FIVE.with(|five| five[0].get()) + SIX.with(|six| six()), 11);
        assert_eq!(NO_SEMICOLON.with(|seven| *seven), 7);
        assert_eq!(format!("{ONE:?}"), "LocalKey { .. }");
    }
}

#[test]
fn keys_and_errors_have_the_traits_of_stds() {
    fn key<T: Send + Sync + Unpin + panic::UnwindSafe + panic::RefUnwindSafe>() {}
    fn error<T: std::error::Error + Copy + Eq + Send + Sync + 'static>() {}
    key::<LocalKey<*mut u8>>();
    key::<LocalKey<Rc<Cell<u8>>>>();
    error::<AccessError>();
}

/// The result of a thread whose handle is dropped at whatever moment may use locals, and none of
/// them stays behind.
#[test]
fn results_of_detached_threads_use_locals() {
    struct Uses(mpsc::Sender<()>, Arc<()>);
    bine_runtime::thread_local! {
        static HELD: RefCell<Option<(Arc<()>, mpsc::Sender<()>)>> = const { RefCell::new(None) };
    }
    impl Drop for Uses {
        fn drop(&mut self) {
            // Dropped on whichever thread: if that is the dropper of the handle, at its end.
            if bine_runtime::wait::is_green() {
                HELD.set(Some((Arc::clone(&self.1), self.0.clone())));
            }
        }
    }
    for runtime in runtimes() {
        let held = Arc::new(());
        let (ended, wait) = mpsc::channel();
        for _ in 0..200 {
            let (held, ended) = (Arc::clone(&held), ended.clone());
            drop(runtime.spawn(move || Uses(ended, held)));
        }
        drop(ended);
        // Ends when the last sender is gone, and with it the last local value.
        assert!(wait.recv().is_err());
        while Arc::strong_count(&held) > 1 {
            std::thread::yield_now();
        }
    }
}

/// A destructor that panics ends the process, with a message.
#[test]
fn a_panic_in_a_destructor_aborts() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    bine_runtime::thread_local! {
        static PANICS: Panics = const { Panics };
    }
    if child::is_child() {
        let touch = || PANICS.with(|_| ());
        let _ = panic::catch_unwind(AssertUnwindSafe(|| bine_runtime::spawn(touch).join()));
        return;
    }
    let child = child::run("a_panic_in_a_destructor_aborts", &[]);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(errors.contains("local value panicked when it was dropped"), "{errors}");
    assert!(!child.status.success());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(libc::SIGABRT));
}
