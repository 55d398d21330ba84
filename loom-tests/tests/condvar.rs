//! The condition variable: a notification after the unlocking always finds the waiter.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::{Condvar, Mutex, Unparker, cancel};
use loom::cell::UnsafeCell;
use loom::sync::mpsc;
use loom::thread;

/// A count whose accesses loom watches: two at once, or two that nothing orders, fail the model.
#[derive(Debug)]
struct Count(UnsafeCell<u32>);

impl Count {
    fn get(&self) -> u32 {
        // SAFETY: loom checks that the lock which gave it out means it.
        self.0.with(|count| unsafe { *count })
    }

    fn set(&mut self, to: u32) {
        // SAFETY: `&mut self`, and as in `get`.
        self.0.with_mut(|count| unsafe { *count = to });
    }
}

/// How many may go, and the news of it.
struct Gate {
    open: Mutex<Count>,
    changed: Condvar,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(Count(UnsafeCell::new(0))), changed: Condvar::new() })
    }

    fn open_for(&self, more: u32) {
        let mut open = self.open.lock().unwrap();
        let now = open.get();
        open.set(now + more);
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        let mut open = self.changed.wait_while(open, |open| open.get() == 0).unwrap();
        let now = open.get();
        open.set(now - 1);
    }

    /// Gives up at once if the gate is closed and no news come.
    fn try_pass(&self) -> bool {
        let mut open = self.open.lock().unwrap();
        if open.get() == 0 {
            open = self.changed.wait_timeout(open, Duration::ZERO).unwrap().0;
        }
        let now = open.get();
        open.set(now.saturating_sub(1));
        now > 0
    }
}

fn passer(gate: &Arc<Gate>) -> thread::JoinHandle<()> {
    let gate = gate.clone();
    thread::spawn(move || gate.pass())
}

#[test]
fn notify_one_against_wait() {
    model("condvar::notify_one_against_wait", || {
        let gate = Gate::new();
        let waiter = passer(&gate);
        gate.open_for(1);
        gate.changed.notify_one();
        waiter.join().unwrap();
    });
}

/// One that comes to wait just when there was nothing to notify of.
#[test]
fn a_notification_before_there_are_news() {
    model("condvar::a_notification_before_there_are_news", || {
        let gate = Gate::new();
        let waiter = passer(&gate);
        gate.changed.notify_one();
        gate.open_for(1);
        gate.changed.notify_one();
        waiter.join().unwrap();
    });
}

#[test]
fn notify_under_the_lock() {
    model("condvar::notify_under_the_lock", || {
        let gate = Gate::new();
        let waiter = passer(&gate);
        let mut open = gate.open.lock().unwrap();
        open.set(1);
        gate.changed.notify_one();
        drop(open);
        waiter.join().unwrap();
    });
}

#[test]
fn notify_all_reaches_both() {
    bounded_model("condvar::notify_all_reaches_both", 2, || {
        let gate = Gate::new();
        let waiters = [passer(&gate), passer(&gate)];
        gate.open_for(2);
        gate.changed.notify_all();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn one_notification_for_each() {
    bounded_model("condvar::one_notification_for_each", 1, || {
        let gate = Gate::new();
        let waiters = [passer(&gate), passer(&gate)];
        for _ in 0..2 {
            gate.open_for(1);
            gate.changed.notify_one();
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

/// Both may come for the first of them; the second is for whoever is still there.
#[test]
fn two_notifications_for_two() {
    bounded_model("condvar::two_notifications_for_two", 2, || {
        let gate = Gate::new();
        let waiters = [passer(&gate), passer(&gate)];
        gate.open_for(2);
        gate.changed.notify_one();
        gate.changed.notify_one();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn timeout_against_notify() {
    model("condvar::timeout_against_notify", || {
        let gate = Gate::new();
        let hasty = {
            let gate = gate.clone();
            thread::spawn(move || gate.try_pass())
        };
        gate.open_for(1);
        gate.changed.notify_one();
        let passed = hasty.join().unwrap();
        assert_eq!(gate.open.lock().unwrap().get(), u32::from(!passed));
    });
}

/// One of two that wait is cancelled, which may be the one that was notified.
#[test]
fn a_cancellation_beside_a_waiter() {
    bounded_model("condvar::a_cancellation_beside_a_waiter", 1, || {
        let gate = Gate::new();
        let (tell, told) = mpsc::channel();
        let victim = {
            let gate = gate.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                let open = gate.open.lock().unwrap();
                gate.changed.wait_unless_cancelled(open).1
            })
        };
        let survivor = passer(&gate);
        cancel(told.recv().unwrap());
        gate.open_for(1);
        gate.changed.notify_one();
        if victim.join().unwrap() {
            gate.changed.notify_one();
        }
        survivor.join().unwrap();
    });
}
