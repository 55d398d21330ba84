//! Green threads that draw random numbers until one exceeds their threshold, and sleep between the
//! draws. What they have drawn is gathered in the order of the threads, whoever ends first.
//!
//! What there is to learn: each thread has a generator of its own, seeded from the seed and its number.
//! So the numbers, and with them the results, do not depend on who runs when; only the order of the
//! lines in between does, with `--verbose`.
//!
//! Run it: `cargo run --example make_random`. Ctrl-C ends it early.

use std::time::Duration;

use bine::thread;
use clap::Parser;
use fastrand::Rng;

/// Draws random numbers until they are large enough
#[derive(Parser, Clone)]
struct Options {
    /// Where the random numbers begin
    #[arg(long, default_value_t = 444)]
    seed: u64,
    /// Numbers above this end a thread; one thread for each
    #[arg(long = "threshold", default_values_t = [9, 8, 8], value_parser = clap::value_parser!(u8).range(0..10))]
    thresholds: Vec<u8>,
    /// How long the first thread sleeps after a draw that is too low, in milliseconds; the second
    /// twice as long, and so on
    #[arg(long, default_value_t = 50)]
    pause: u64,
    /// Print each draw
    #[arg(long)]
    verbose: bool,
}

fn main() {
    let options = Options::parse();
    bine::run(move || {
        for (number, drawn) in make(&options).into_iter().enumerate() {
            let last = drawn.last().expect("each thread draws once at least");
            println!("{number}: {last} after {} draws", drawn.len());
        }
    });
}

/// What each thread has drawn.
fn make(options: &Options) -> Vec<Vec<u8>> {
    thread::scope(|scope| {
        let spawn = |number| scope.spawn(move || draw(options, number));
        let threads: Vec<_> = (0..options.thresholds.len()).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).collect()
    })
}

/// Draws numbers from 0 to 10 until one is above the threshold of the thread `number`.
fn draw(options: &Options, number: usize) -> Vec<u8> {
    let threshold = options.thresholds[number];
    let mut random = Rng::with_seed(options.seed.wrapping_add(number as u64));
    let pause = Duration::from_millis(options.pause) * (number as u32 + 1);
    let mut drawn = Vec::new();
    loop {
        let next = random.u8(0..=10);
        drawn.push(next);
        if next > threshold {
            return drawn;
        }
        if options.verbose {
            println!("{number} has drawn {next}, which is not above {threshold}");
        }
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_numbers() {
        let options = Options { seed: 7, thresholds: vec![9, 0, 5, 9], pause: 1, verbose: false };
        let made = bine::run(move || [make(&options), make(&options)]);
        assert_eq!(made[0], made[1]);
        for (drawn, threshold) in made[0].iter().zip([9, 0, 5, 9]) {
            let (last, before) = drawn.split_last().unwrap();
            assert!(*last > threshold && before.iter().all(|&number| number <= threshold));
        }
    }
}
