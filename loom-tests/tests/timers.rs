//! Models of timers that are set, cancelled and fired at the same time: a timer fires once, and
//! nobody touches it, or what it wakes, when its waiter has gone.
#![cfg(bine_loom)]

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed as Counting};

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicBool, Ordering};
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::{NEVER, Timers, Wake};
use loom::thread;

/// Some ticks of the wheel.
const EARLY: u64 = 2 << 16;
const DEADLINE: u64 = 5 << 16;
const LATE: u64 = 9 << 16;

/// A waiter: on its stack, as the flag of its timer.
struct Target {
    /// Read by whoever wakes it and written by the waiter when its wait is over: loom reports a
    /// wake-up that is not over by then.
    waits: UnsafeCell<bool>,
    queued: Queued,
}

/// What is left to be done for one that was woken, who may be gone.
#[derive(Clone)]
struct Queued {
    runs: Arc<AtomicBool>,
    fired: Arc<Count>,
}

#[derive(Clone, Copy)]
struct Name(*const Target);

// SAFETY: the model's claim: after the wait nobody but the waiter has access. loom checks it.
unsafe impl Send for Name {}

impl Wake for Name {
    type Woken = Queued;

    unsafe fn wake(self) -> Option<Queued> {
        // SAFETY: the waiter waits.
        let target = unsafe { &*self.0 };
        // SAFETY: as above.
        target.waits.with(|waits| assert!(unsafe { *waits }, "the waiter has gone"));
        Some(target.queued.clone())
    }
}

impl Target {
    fn new() -> Self {
        let queued =
            Queued { runs: Arc::new(AtomicBool::new(false)), fired: Arc::new(Count::new(0)) };
        Self { waits: UnsafeCell::new(true), queued }
    }

    /// Waits with a deadline, and then takes the target back.
    fn wait(self, timers: &Timers<Name>, deadline: u64, wait: impl FnOnce(&Self)) -> usize {
        timers.with_deadline(Name(&raw const self), deadline, || wait(&self));
        // SAFETY: the wait is over.
        self.waits.with_mut(|waits| unsafe { *waits = false });
        self.queued.fired.load(Counting)
    }

    fn sleep(&self) {
        while !self.queued.runs.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    }
}

impl Queued {
    fn queue(&self) {
        self.fired.fetch_add(1, Counting);
        self.runs.store(true, Ordering::Relaxed);
    }
}

/// `Core::fire_timers`, and how many it woke.
fn fire(timers: &Timers<Name>, now: u64) -> usize {
    if timers.next() > now {
        return 0;
    }
    fire_anyway(timers, now)
}

fn fire_anyway(timers: &Timers<Name>, now: u64) -> usize {
    let mut due = Vec::new();
    assert!(!timers.fire(now, &mut due));
    due.iter().for_each(Queued::queue);
    due.len()
}

fn firer(timers: &Arc<Timers<Name>>) -> thread::JoinHandle<usize> {
    let timers = timers.clone();
    thread::spawn(move || fire_anyway(&timers, LATE))
}

/// The wait ends for another reason while the timer fires.
#[test]
fn a_cancellation_against_a_thief_that_fires() {
    model("timers::a_cancellation_against_a_thief_that_fires", || {
        let timers = Arc::new(Timers::new(0));
        let thief = firer(&timers);
        Target::new().wait(&timers, DEADLINE, |_| {});
        assert!(thief.join().unwrap() <= 1);
        assert!(timers.is_empty(), "fired or cancelled");
    });
}

/// The wait ends for another reason while a thief finds nothing due.
#[test]
fn a_cancellation_against_a_thief_that_finds_nothing_due() {
    model("timers::a_cancellation_against_a_thief_that_finds_nothing_due", || {
        let timers = Arc::new(Timers::new(0));
        let thief = {
            let timers = timers.clone();
            thread::spawn(move || assert_eq!(fire_anyway(&timers, EARLY), 0))
        };
        assert_eq!(Target::new().wait(&timers, DEADLINE, |_| {}), 0);
        thief.join().unwrap();
        assert!(timers.is_empty(), "cancelled");
    });
}

/// A timer that is set is fired by whoever looks next, or was due already; it is never set and
/// forgotten, and `next` tells its owner of it.
#[test]
fn a_timer_that_is_set_while_a_thief_fires() {
    model("timers::a_timer_that_is_set_while_a_thief_fires", || {
        let timers = Arc::new(Timers::new(0));
        let thief = firer(&timers);
        let mut waited = false;
        Target::new().wait(&timers, DEADLINE, |target| {
            waited = true;
            let mine = fire(&timers, LATE);
            // What this owner did not fire, the thief has taken out, and will wake.
            target.sleep();
            assert!(mine <= 1);
        });
        let stolen = thief.join().unwrap();
        assert!(stolen <= usize::from(waited));
        assert!(timers.is_empty());
        assert_eq!(timers.next(), NEVER);
    });
}

/// A thief finds nothing due while the owner sets a timer: the owner is told of it all the same, and
/// fires it.
#[test]
fn the_next_deadline_is_not_lost_to_a_thief_that_finds_nothing_due() {
    model("timers::the_next_deadline_is_not_lost_to_a_thief_that_finds_nothing_due", || {
        let timers = Arc::new(Timers::new(0));
        let thief = {
            let timers = timers.clone();
            thread::spawn(move || assert_eq!(fire_anyway(&timers, EARLY), 0))
        };
        let fired = Target::new().wait(&timers, DEADLINE, |target| {
            assert_eq!(fire(&timers, LATE), 1);
            target.sleep();
        });
        assert_eq!(fired, 1);
        thief.join().unwrap();
        assert!(timers.is_empty());
    });
}

/// Two thieves, one waiter: one of them wakes it.
#[test]
fn two_thieves_fire_one_timer() {
    model("timers::two_thieves_fire_one_timer", || {
        let timers = Arc::new(Timers::new(0));
        let thieves = [firer(&timers), firer(&timers)];
        let mut waited = 0;
        Target::new().wait(&timers, DEADLINE, |target| {
            waited = 1;
            target.sleep();
        });
        let fired: usize = thieves.into_iter().map(|thief| thief.join().unwrap()).sum();
        assert_eq!(fired, waited, "fired once, if it was set");
    });
}

/// Two thieves while the wait ends.
#[test]
fn two_thieves_against_a_cancellation() {
    model("timers::two_thieves_against_a_cancellation", || {
        let timers = Arc::new(Timers::new(0));
        let thieves = [firer(&timers), firer(&timers)];
        Target::new().wait(&timers, DEADLINE, |_| {});
        let fired: usize = thieves.into_iter().map(|thief| thief.join().unwrap()).sum();
        assert!(fired <= 1);
        assert!(timers.is_empty());
    });
}

/// Neighbours in one slot: a waiter that moved to another worker cancels, the second one's timer is
/// linked to the first one's in the wheel, and a thief fires.
#[test]
fn neighbours_in_a_slot_cancel_and_fire() {
    model("timers::neighbours_in_a_slot_cancel_and_fire", || {
        let timers = Arc::new(Timers::new(0));
        let thief = firer(&timers);
        let neighbour = {
            let timers = timers.clone();
            thread::spawn(move || Target::new().wait(&timers, DEADLINE, |_| {}))
        };
        Target::new().wait(&timers, DEADLINE, |_| {});
        neighbour.join().unwrap();
        assert!(thief.join().unwrap() <= 2);
        assert!(timers.is_empty());
    });
}
