//! The wait queue under load.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;
use bine_sync::wait_queue::{Outcome, wait, wake, wake_all, wake_one};

#[test]
fn another_value_does_not_wait() {
    let word = AtomicU32::new(1);
    assert_eq!(wait(&word, 0, None), Outcome::Changed);
    assert!(!wake_one(&word));
}

#[test]
fn a_deadline_that_has_passed_ends_the_wait() {
    let word = AtomicU32::new(0);
    assert_eq!(wait(&word, 0, Some(Instant::now())), Outcome::TimedOut);
    assert_eq!(wake_all(&word), 0);
}

#[test]
fn wakes_as_many_as_told() {
    let word = AtomicU32::new(0);
    thread::scope(|s| {
        for _ in 0..5 {
            s.spawn(|| assert_eq!(wait(&word, 0, None), Outcome::Woken));
        }
        let mut woken = 0;
        while woken < 4 {
            let more = wake(&word, 2.min(4 - woken));
            assert!(more <= 2);
            woken += more;
            thread::yield_now();
        }
        while wake(&word, 1) == 0 {
            thread::yield_now();
        }
        assert_eq!(wake_all(&word), 0);
    });
}

/// Tickets on many words at once, so that queues share buckets, and with timeouts, so that waiters
/// leave from every place in them.
#[test]
fn turns_are_taken_on_many_words() {
    const SEED: u64 = 0x3a17;
    const WORDS: u64 = 700;
    const THREADS: u32 = 6;
    const ROUNDS: u32 = 1_500;
    let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
    let words = &words;
    thread::scope(|s| {
        for me in 0..THREADS {
            s.spawn(move || {
                let mut random = Random::new(SEED, me.into());
                // All threads visit the same words in the same order; each visit is a round in
                // which every thread takes one turn, by its number.
                let mut route = Random::new(SEED, 1_000);
                for _ in 0..ROUNDS {
                    let word = &words[route.below(WORDS) as usize];
                    take_turn(word, me, THREADS, &mut random);
                }
            });
        }
    });
    let turns: u32 = words.iter().map(|word| word.load(Ordering::Relaxed)).sum();
    assert_eq!(turns, THREADS * ROUNDS, "seed {SEED:#x}");
}

fn take_turn(word: &AtomicU32, me: u32, threads: u32, random: &mut Random) {
    loop {
        let now = word.load(Ordering::Acquire);
        if now % threads == me {
            word.store(now + 1, Ordering::Release);
            wake_all(word);
            return;
        }
        let deadline = (random.below(3) == 0)
            .then(|| Instant::now() + Duration::from_micros(random.below(100)));
        let _ = wait(word, now, deadline);
    }
}
