//! The wait queue: no wake-up is lost, none reaches more threads than it should.
#![cfg(bine_loom)]

use std::time::Instant;

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::atomic::{AtomicU32, Ordering};
use bine_sync::wait_queue::{Outcome, wait, wake, wake_all, wake_one};
use loom::thread;

fn wait_for_1(word: &AtomicU32) {
    while word.load(Ordering::Acquire) == 0 {
        let _ = wait(word, 0, None);
    }
}

#[test]
fn wait_against_wake() {
    model("wait_queue::wait_against_wake", || {
        let word = Arc::new(AtomicU32::new(0));
        let waiter = {
            let word = word.clone();
            thread::spawn(move || wait_for_1(&word))
        };
        word.store(1, Ordering::Release);
        wake_one(&*word);
        waiter.join().unwrap();
    });
}

#[test]
fn wake_all_reaches_both() {
    model("wait_queue::wake_all_reaches_both", || {
        let word = Arc::new(AtomicU32::new(0));
        let waiters = [0, 1].map(|_| {
            let word = word.clone();
            thread::spawn(move || wait_for_1(&word))
        });
        word.store(1, Ordering::Release);
        wake_all(&*word);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn two_waiters_wake_one() {
    model("wait_queue::two_waiters_wake_one", || {
        let word = Arc::new(AtomicU32::new(0));
        let waiters = [0, 1].map(|_| {
            let word = word.clone();
            thread::spawn(move || wait(&word, 0, None))
        });
        // The word keeps its value, so both come to wait, and each wakes for a call of its own.
        let mut woken = 0;
        while woken < 2 {
            let more = wake(&*word, 1);
            assert!(more <= 1);
            woken += more;
            thread::yield_now();
        }
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Outcome::Woken);
        }
        assert!(!wake_one(&*word), "nobody is left");
    });
}

#[test]
fn timeout_against_wake() {
    model("wait_queue::timeout_against_wake", || {
        let word = Arc::new(AtomicU32::new(0));
        let waiter = {
            let word = word.clone();
            thread::spawn(move || wait(&word, 0, Some(Instant::now())))
        };
        let woke = wake_one(&*word);
        let outcome = waiter.join().unwrap();
        assert_eq!(outcome, if woke { Outcome::Woken } else { Outcome::TimedOut });
        assert!(!wake_one(&*word), "the waiter is out of the queue");
    });
}

#[test]
fn timeout_of_the_first_leaves_the_second() {
    model("wait_queue::timeout_of_the_first_leaves_the_second", || {
        let word = Arc::new(AtomicU32::new(0));
        let hasty = {
            let word = word.clone();
            thread::spawn(move || wait(&word, 0, Some(Instant::now())))
        };
        let patient = {
            let word = word.clone();
            thread::spawn(move || wait_for_1(&word))
        };
        word.store(1, Ordering::Release);
        wake_all(&*word);
        let _ = hasty.join().unwrap();
        patient.join().unwrap();
    });
}

#[test]
fn two_words_in_one_bucket() {
    model("wait_queue::two_words_in_one_bucket", || {
        let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let waiters = [0, 1].map(|i| {
            let words = words.clone();
            thread::spawn(move || wait_for_1(&words[i]))
        });
        for word in &*words {
            word.store(1, Ordering::Release);
            wake_one(word);
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
