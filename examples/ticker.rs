//! A generator that is fed by an interval: an iterator whose items come a period apart.
//!
//! What there is to learn: a generator's body may wait like any other code. Its green thread waits
//! then, and whoever else runs goes on, as the dots show. And a time limit ends the wait for the next
//! item without a line in the generator.
//!
//! Run it: `cargo run --example ticker`. Ctrl-C ends it early.

use std::time::Duration;

use bine::coroutine::Generator;
use bine::time;
use clap::Parser;

/// Counts the beats of an interval
#[derive(Parser, Clone)]
struct Options {
    /// The time between two beats, in milliseconds
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    period: u64,
    /// How many beats
    #[arg(long, default_value_t = 5)]
    beats: usize,
}

fn main() {
    let options = Options::parse();
    bine::run(move || {
        let period = Duration::from_millis(options.period);
        let dots = bine::spawn(move || {
            for _ in time::interval(period / 2) {
                println!(".");
            }
        });
        for beat in beats(period).take(options.beats) {
            println!("beat {beat}");
        }
        dots.cancel().expect("green threads can be cancelled");

        let mut beats = beats(period * 1000);
        beats.next();
        match time::timeout(period, || beats.next()) {
            Ok(_) => println!("a beat in no time"),
            Err(error) => println!("no more beats: {error}"),
        }
    });
}

/// 1, 2, 3, and so on: the first at once, and the others a period apart.
fn beats(period: Duration) -> Generator<u64> {
    Generator::new(move |yielder| {
        for (beat, _) in (1..).zip(time::interval(period)) {
            yielder.suspend(beat);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_comes_after_the_other() {
        bine::run(|| {
            let period = Duration::from_millis(1);
            let start = time::Instant::now();
            assert_eq!(beats(period).take(4).collect::<Vec<_>>(), [1, 2, 3, 4]);
            assert!(start.elapsed() >= period * 3);
        });
    }
}
