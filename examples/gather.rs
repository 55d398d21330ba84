//! Three functions that each print, wait for a second, and print again, run at the same time: a second
//! later all of them have ended.
//!
//! What there is to learn: ordinary functions that wait become concurrent by being spawned in a scope,
//! and what they return is gathered in the order in which they were spawned, whoever ends first.
//!
//! Run it: `cargo run --example gather`. Ctrl-C ends it early.

use std::time::{Duration, Instant};

use bine::thread;
use clap::Parser;

/// Runs functions side by side, and gathers what they return
#[derive(Parser)]
struct Options {
    /// How many functions
    #[arg(long, default_value_t = 3)]
    functions: usize,
    /// How long each waits, in seconds
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    Ok(seconds)
}

fn main() {
    let options = Options::parse();
    let wait = Duration::from_secs_f64(options.seconds);
    bine::run(move || {
        let start = Instant::now();
        let numbers = gather(options.functions, wait);
        println!("{numbers:?} after {:.1} s", start.elapsed().as_secs_f64());
    });
}

/// Calls [`count`] so often at the same time; what the calls return, in their order.
fn gather(functions: usize, wait: Duration) -> Vec<usize> {
    thread::scope(|scope| {
        let calls: Vec<_> =
            (0..functions).map(|number| scope.spawn(move || count(number, wait))).collect();
        calls.into_iter().map(|call| call.join().expect("a call panicked")).collect()
    })
}

fn count(number: usize, wait: Duration) -> usize {
    println!("One");
    thread::sleep(wait);
    println!("Two");
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_none_waits_for_another() {
        let wait = Duration::from_millis(100);
        let start = Instant::now();
        let numbers = bine::run(move || gather(1_000, wait));
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
        // One after the other they would take so long at least.
        assert!(start.elapsed() < wait * 1_000);
    }
}
