//! The condition variable: a notification after the unlocking always finds the waiter.
#![cfg(bine_loom)]

use std::time::Duration;

use bine_loom_tests::{bounded_model, model};
use bine_runtime::primitive::Arc;
use bine_sync::{Condvar, Mutex};
use loom::thread;

/// How many may go, and the news of it.
struct Gate {
    open: Mutex<u32>,
    changed: Condvar,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(0), changed: Condvar::new() })
    }

    fn pass(&self) {
        let guard = self.open.lock().unwrap();
        *self.changed.wait_while(guard, |open| *open == 0).unwrap() -= 1;
    }

    /// Gives up at once if the gate is closed and no news come.
    fn try_pass(&self) -> bool {
        let guard = self.open.lock().unwrap();
        let mut guard = if *guard == 0 {
            self.changed.wait_timeout(guard, Duration::ZERO).unwrap().0
        } else {
            guard
        };
        let passed = *guard > 0;
        *guard -= u32::from(passed);
        passed
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
        *gate.open.lock().unwrap() = 1;
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
        *open = 1;
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
        *gate.open.lock().unwrap() = 2;
        gate.changed.notify_all();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn one_notification_for_each() {
    bounded_model("condvar::one_notification_for_each", 2, || {
        let gate = Gate::new();
        let waiters = [passer(&gate), passer(&gate)];
        for _ in 0..2 {
            *gate.open.lock().unwrap() += 1;
            gate.changed.notify_one();
        }
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
        *gate.open.lock().unwrap() = 1;
        gate.changed.notify_one();
        let passed = hasty.join().unwrap();
        assert_eq!(*gate.open.lock().unwrap(), u32::from(!passed));
    });
}
