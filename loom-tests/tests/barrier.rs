//! The barrier: nobody goes on before all have come, and nobody stays behind.
#![cfg(bine_loom)]

use bine_loom_tests::bounded_model;
use bine_runtime::primitive::Arc;
use bine_sync::{Barrier, Unparker, cancel, shielded};
use loom::cell::UnsafeCell;
use loom::sync::mpsc;
use loom::thread;

/// What each brings along, whose accesses loom watches.
struct Meeting {
    barrier: Barrier,
    brought: [UnsafeCell<u32>; 2],
}

// SAFETY: loom checks that the barrier keeps those apart who write and read.
unsafe impl Sync for Meeting {}
// SAFETY: numbers.
unsafe impl Send for Meeting {}

impl Meeting {
    /// Brings something along, waits, and looks at what the other has brought; `rounds` times, with a
    /// second meeting in each so that nobody brings the next thing too early.
    fn attend(&self, me: usize, rounds: u32) -> u32 {
        let mut led = 0;
        for round in 1..=rounds {
            // SAFETY: loom checks it.
            self.brought[me].with_mut(|at| unsafe { *at = round });
            led += u32::from(self.barrier.wait().is_leader());
            // SAFETY: as above.
            let other = self.brought[1 - me].with(|at| unsafe { *at });
            assert_eq!(other, round);
            if round < rounds {
                self.barrier.wait();
            }
        }
        led
    }
}

#[test]
fn two_meet_twice() {
    bounded_model("barrier::two_meet_twice", 3, || {
        let meeting = Arc::new(Meeting {
            barrier: Barrier::new(2),
            brought: [UnsafeCell::new(0), UnsafeCell::new(0)],
        });
        let other = {
            let meeting = meeting.clone();
            thread::spawn(move || meeting.attend(1, 2))
        };
        let led = meeting.attend(0, 2);
        assert_eq!(led + other.join().unwrap(), 2);
    });
}

#[test]
fn three_meet() {
    bounded_model("barrier::three_meet", 2, || {
        let barrier = Arc::new(Barrier::new(3));
        let others = [0, 1].map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || barrier.wait().is_leader())
        });
        let mut led = u32::from(barrier.wait().is_leader());
        for other in others {
            led += u32::from(other.join().unwrap());
        }
        assert_eq!(led, 1);
    });
}

/// One that waits is cancelled just when the other comes: either they have met, or it left, and one
/// more has to come.
#[test]
fn a_cancellation_against_the_last_to_come() {
    bounded_model("barrier::a_cancellation_against_the_last_to_come", 2, || {
        let barrier = Arc::new(Barrier::new(2));
        let (tell, told) = mpsc::channel();
        let victim = {
            let barrier = barrier.clone();
            thread::spawn(move || {
                tell.send(Unparker::current()).unwrap();
                let met = barrier.wait_unless_cancelled();
                // In place of one that has left.
                met.or_else(|| shielded(|| barrier.wait_unless_cancelled())).unwrap()
            })
        };
        let other = {
            let barrier = barrier.clone();
            thread::spawn(move || barrier.wait().is_leader())
        };
        cancel(told.recv().unwrap());
        assert_ne!(victim.join().unwrap(), other.join().unwrap(), "one leads");
    });
}
