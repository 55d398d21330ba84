//! Models of the end of a green thread: its joiner is woken when it must be, and the result has one
//! owner at each moment.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{Completed, Completion};
use loom::thread::{self, Thread};

struct Cell {
    completion: Completion<Joiner>,
    result: UnsafeCell<Option<u32>>,
    /// Who have taken or dropped the result.
    owners: Count,
    woken: Count,
}

/// A joiner with something in it that loom sees: it is read where it was written, or after it was
/// handed over.
struct Joiner {
    thread: Thread,
    word: UnsafeCell<u32>,
}

// SAFETY: the model's claim: the completion hands the cells over. loom checks it.
unsafe impl Sync for Cell {}
// SAFETY: as above.
unsafe impl Send for Cell {}

impl Joiner {
    fn current() -> Self {
        let joiner = Self { thread: thread::current(), word: UnsafeCell::new(0) };
        // SAFETY: nobody else has it yet.
        joiner.word.with_mut(|word| unsafe { *word = 7 });
        joiner
    }
}

impl Cell {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            completion: Completion::new(),
            result: UnsafeCell::new(None),
            owners: Count::new(0),
            woken: Count::new(0),
        })
    }

    fn take_result(&self) {
        // SAFETY: the completion has given the result to the caller.
        assert_eq!(self.result.with_mut(|result| unsafe { (*result).take() }), Some(42));
        self.owners.fetch_add(1, Counting);
    }

    /// The green thread: its result, `Task::complete`, and the waking of the joiner.
    fn end(&self) {
        // SAFETY: before `complete` the result is the thread's.
        self.result.with_mut(|result| unsafe { *result = Some(42) });
        // SAFETY: once, by the thread that ends.
        match unsafe { self.completion.complete() } {
            Completed::Joinable(None) => {}
            Completed::Joinable(Some(joiner)) => {
                self.woken.fetch_add(1, Counting);
                // SAFETY: the joiner was handed over.
                joiner.word.with(|word| assert_eq!(unsafe { *word }, 7));
                joiner.thread.unpark();
            }
            Completed::Detached => self.take_result(),
        }
    }
}

/// Starts the green thread.
fn spawn(cell: &Arc<Cell>) -> thread::JoinHandle<()> {
    let cell = cell.clone();
    thread::spawn(move || cell.end())
}

/// The one joiner asks to be woken.
fn register(cell: &Cell) -> bool {
    // SAFETY: once in each model, before any detach.
    unsafe { cell.completion.register(Joiner::current()) }
}

/// `JoinHandle::join`: the joiner finds the result or is woken for it.
#[test]
fn complete_against_join() {
    model("completion::complete_against_join", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        let mut registered = 0;
        if !cell.completion.is_done() && register(&cell) {
            registered = 1;
            while !cell.completion.is_done() {
                thread::park();
            }
        }
        cell.take_result();
        green.join().unwrap();
        assert_eq!(cell.woken.load(Counting), registered, "woken if it waits, and only then");
        assert_eq!(cell.owners.load(Counting), 1);
    });
}

/// As above without the look before: only `register` tells.
#[test]
fn complete_against_register() {
    model("completion::complete_against_register", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        if register(&cell) {
            while !cell.completion.is_done() {
                thread::park();
            }
        }
        cell.take_result();
        green.join().unwrap();
        assert_eq!(cell.owners.load(Counting), 1);
    });
}

/// The handle is dropped as the thread ends: one of the two drops the result.
#[test]
fn complete_against_detach() {
    model("completion::complete_against_detach", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        if cell.completion.detach() {
            cell.take_result();
        }
        green.join().unwrap();
        assert_eq!(cell.owners.load(Counting), 1, "the result is dropped once");
        assert_eq!(cell.woken.load(Counting), 0);
    });
}

/// A joiner that waits gives up (its thread's runtime has stopped) and drops the handle: one of the
/// two drops the result, and the joiner that was registered is read by nobody or by the completer.
#[test]
fn complete_against_a_joiner_that_gives_up() {
    model("completion::complete_against_a_joiner_that_gives_up", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        let registered = register(&cell);
        if cell.completion.detach() {
            cell.take_result();
        } else {
            assert!(registered, "a thread that has ended has");
        }
        green.join().unwrap();
        assert_eq!(cell.owners.load(Counting), 1, "the result is dropped once");
    });
}

/// `JoinHandle::is_finished` in a loop, then the join, which finds the result at once.
#[test]
fn complete_against_polling() {
    model("completion::complete_against_polling", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        while !cell.completion.is_done() {
            thread::yield_now();
        }
        cell.take_result();
        assert!(cell.completion.detach(), "after the join the handle is dropped");
        green.join().unwrap();
        assert_eq!(cell.owners.load(Counting), 1);
    });
}

/// The joiner wakes up for another reason, takes the result and drops the handle while the thread
/// that ended is about to read whom to wake.
#[test]
fn a_joiner_that_wakes_up_by_itself_is_gone_before_it_is_woken() {
    model("completion::a_joiner_that_wakes_up_by_itself_is_gone_before_it_is_woken", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        if register(&cell) {
            while !cell.completion.is_done() {
                thread::yield_now();
            }
        }
        cell.take_result();
        assert!(cell.completion.detach());
        drop(cell);
        green.join().unwrap();
    });
}

/// The joiner replaces what it has registered while the thread ends: it is woken by what it
/// registered last, or finds the result, or is woken by what it could not take back any more.
#[test]
fn complete_against_a_joiner_that_registers_anew() {
    model("completion::complete_against_a_joiner_that_registers_anew", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        let mut registered = register(&cell);
        // SAFETY: this is the one joiner.
        if let Some(old) = unsafe { cell.completion.take_back() } {
            // SAFETY: it was taken back.
            old.word.with(|word| assert_eq!(unsafe { *word }, 7));
            registered = register(&cell);
        }
        if registered {
            while !cell.completion.is_done() {
                thread::park();
            }
        }
        cell.take_result();
        green.join().unwrap();
        assert_eq!(cell.woken.load(Counting), usize::from(registered));
        assert_eq!(cell.owners.load(Counting), 1);
    });
}

/// The joiner takes its registration back and goes, while the thread ends.
#[test]
fn complete_against_a_joiner_that_takes_itself_back_and_detaches() {
    model("completion::complete_against_a_joiner_that_takes_itself_back_and_detaches", || {
        let cell = Cell::new();
        let green = spawn(&cell);
        register(&cell);
        // SAFETY: this is the one joiner.
        drop(unsafe { cell.completion.take_back() });
        if cell.completion.detach() {
            cell.take_result();
        }
        green.join().unwrap();
        assert_eq!(cell.owners.load(Counting), 1);
    });
}
