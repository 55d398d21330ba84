//! How long sleepers sleep, and how late they wake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::workload::Size;

/// How long the `n`th task sleeps: between `size.millis` and 3 times that, spread evenly and the
/// same in every runtime. The multiplier is Knuth's for hashing, 2^32 divided by the golden ratio.
pub(crate) fn sleep_length(n: usize, size: Size) -> Duration {
    let scattered = (n as u32).wrapping_mul(2_654_435_769);
    let shortest = Duration::from_millis(size.millis);
    shortest + (2 * shortest).mul_f64(f64::from(scattered) / f64::from(u32::MAX))
}

/// What all sleepers of a run record together.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// Microseconds, all of them together.
    sum: AtomicU64,
    /// Microseconds, the worst.
    max: AtomicU64,
}

impl Lateness {
    /// Records that a sleeper that was due at `due` has woken now.
    ///
    /// # Panics
    ///
    /// If it is too early.
    pub(crate) fn record(&self, due: Instant) {
        let late = Instant::now().checked_duration_since(due).expect("a sleep ended early");
        let micros = late.as_micros() as u64;
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    /// The figures of the workload, once every sleeper has been joined.
    pub(crate) fn figures(&self, cpu: Duration, sleepers: usize) -> Figures {
        let mean = self.sum.load(Ordering::Relaxed) as f64 / sleepers as f64;
        Figures::one("cpu_ns", cpu.as_nanos() as f64 / sleepers as f64)
            .and("late_mean_ms", mean / 1e3)
            .and("late_max_ms", self.max.load(Ordering::Relaxed) as f64 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_lie_between_the_shortest_and_three_times_that() {
        let size = Size { tasks: 1_000, rounds: 1, millis: 100 };
        let lengths: Vec<_> = (0..size.tasks).map(|n| sleep_length(n, size).as_millis()).collect();
        assert!(lengths.iter().all(|length| (100..=300).contains(length)));
        let mean = lengths.iter().sum::<u128>() / 1_000;
        assert!((195..=205).contains(&mean), "{mean}");
    }

    #[test]
    fn mean_and_maximum_are_taken_over_all_sleepers() {
        let lateness = Lateness::default();
        let now = Instant::now();
        lateness.record(now - Duration::from_millis(30));
        lateness.record(now - Duration::from_millis(10));
        let figures = lateness.figures(Duration::from_micros(4), 2);
        assert_eq!(figures.get("cpu_ns"), Some(2_000.0));
        assert!((20.0..25.0).contains(&figures.get("late_mean_ms").unwrap()));
        assert!((30.0..35.0).contains(&figures.get("late_max_ms").unwrap()));
    }
}
