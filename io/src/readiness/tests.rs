//! What needs no second thread; the rest is modelled in loom-tests.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::*;

type Log = Rc<RefCell<Vec<&'static str>>>;

/// Writes its name down when woken.
struct Named(&'static str, Log);

impl Wake for Named {
    fn wake(self) {
        self.1.borrow_mut().push(self.0);
    }
}

fn exhausted() -> (Readiness<Named>, u32, Log) {
    let readiness = Readiness::new();
    let generation = readiness.open(Direction::Read);
    (readiness, generation, Log::default())
}

fn event(readiness: &Readiness<Named>, generation: u32, ready: Ready) {
    assert_eq!(readiness.event(generation, ready, Wake::wake), Applied::Yes);
}

/// A park that does something of its own, and then unwinds.
struct Unwinding<'a> {
    log: &'a Log,
    before: &'a dyn Fn(),
}

impl Parking for Unwinding<'_> {
    type Waker = Named;

    fn waker(&self) -> Named {
        Named("unwinding", Rc::clone(self.log))
    }

    fn park(&mut self) -> bool {
        (self.before)();
        std::panic::resume_unwind(Box::new("cancelled"));
    }
}

fn unwind(readiness: &Readiness<Named>, generation: u32, log: &Log, before: &dyn Fn()) {
    let mut parking = Unwinding { log, before };
    let wait = || {
        readiness.block_on(generation, Direction::Read, &mut parking, || Attempt::<()>::WouldBlock)
    };
    assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
}

#[test]
fn unwinding_out_of_a_wait_leaves_nobody_on_the_list() {
    let (readiness, generation, log) = exhausted();
    unwind(&readiness, generation, &log, &|| {});
    event(&readiness, generation, Ready::READABLE);
    assert!(log.borrow().is_empty());
}

#[test]
fn a_waiter_that_unwinds_after_its_wake_up_passes_it_on() {
    let (readiness, generation, log) = exhausted();
    unwind(&readiness, generation, &log, &|| {
        let next = Named("next", Rc::clone(&log));
        assert!(matches!(readiness.enlist(generation, Direction::Read, next), Enlisted::At(_)));
        event(&readiness, generation, Ready::READABLE);
        assert_eq!(*log.borrow(), ["unwinding"]);
    });
    assert_eq!(*log.borrow(), ["unwinding", "next"]);
}

#[test]
fn waiters_are_woken_one_by_one_in_their_order() {
    let (readiness, generation, log) = exhausted();
    let enlist =
        |name| match readiness.enlist(generation, Direction::Read, Named(name, Rc::clone(&log))) {
            Enlisted::At(ticket) => ticket,
            other => panic!("{other:?}"),
        };
    let (_a, b, _c, d) = (enlist("a"), enlist("b"), enlist("c"), enlist("d"));
    assert_eq!(readiness.delist(Direction::Read, b), Delisted::Removed);
    assert_eq!(readiness.delist(Direction::Read, b), Delisted::Woken);
    event(&readiness, generation, Ready::WRITABLE);
    assert!(log.borrow().is_empty(), "the other direction");
    event(&readiness, generation, Ready::READABLE);
    assert_eq!(*log.borrow(), ["a"]);
    readiness.hand_over(Direction::Read);
    assert_eq!(*log.borrow(), ["a", "c"]);
    assert_eq!(readiness.delist(Direction::Read, d), Delisted::Removed);
    readiness.hand_over(Direction::Read);
    assert_eq!(*log.borrow(), ["a", "c"]);
}

#[test]
fn an_end_wakes_all_waiters_of_its_direction() {
    let (readiness, generation, log) = exhausted();
    for name in ["a", "b", "c"] {
        let waiter = Named(name, Rc::clone(&log));
        assert!(matches!(readiness.enlist(generation, Direction::Read, waiter), Enlisted::At(_)));
    }
    event(&readiness, generation, Ready::WRITE_CLOSED);
    assert!(log.borrow().is_empty());
    event(&readiness, generation, Ready::READ_CLOSED);
    assert_eq!(*log.borrow(), ["a", "b", "c"]);
}

#[test]
fn a_short_read_leaves_the_end_and_would_block_clears_it() {
    let (readiness, generation, _) = exhausted();
    event(&readiness, generation, Ready::READABLE.and(Ready::READ_CLOSED));
    let clear = |evidence| readiness.clear(Direction::Read, readiness.load(), evidence);
    assert_eq!(clear(Evidence::Short), Cleared::Yes);
    assert!(readiness.load().is_ready(Direction::Read));
    assert_eq!(clear(Evidence::WouldBlock), Cleared::Yes);
    assert!(!readiness.load().is_ready(Direction::Read));
    assert!(readiness.load().is_ready(Direction::Write), "optimistic, and untouched");
}

#[test]
fn a_short_read_proves_nothing_beside_urgent_data() {
    let (readiness, generation, _) = exhausted();
    event(&readiness, generation, Ready::READABLE.and(Ready::URGENT));
    let clear = |evidence| readiness.clear(Direction::Read, readiness.load(), evidence);
    assert_eq!(clear(Evidence::Short), Cleared::Refused);
    assert_eq!(clear(Evidence::WouldBlock), Cleared::Yes);
    event(&readiness, generation, Ready::READABLE);
    assert_eq!(clear(Evidence::Short), Cleared::Yes);
}

#[test]
fn the_tick_wraps_without_touching_the_generation() {
    let (readiness, generation, _) = exhausted();
    for _ in 0..70_000 {
        event(&readiness, generation, Ready::READABLE);
    }
    assert_eq!(readiness.load().generation(), generation);
    assert_eq!(readiness.load().tick(), (70_000 % (1 << 16)) as u16);
}

#[test]
fn a_closed_slot_takes_neither_events_nor_waiters() {
    let (readiness, generation, log) = exhausted();
    readiness.close(generation);
    readiness.close(generation);
    assert_eq!(readiness.event(generation, Ready::READABLE, Wake::wake), Applied::Stale);
    assert_eq!(readiness.event(generation + 1, Ready::READABLE, Wake::wake), Applied::Stale);
    let late = Named("late", log);
    assert_eq!(readiness.enlist(generation, Direction::Read, late), Enlisted::Closed);
    assert_eq!(readiness.open(Direction::Write), generation + 1);
    assert!(readiness.load().is_ready(Direction::Read));
    assert!(!readiness.load().is_ready(Direction::Write));
}
