//! How long sleepers sleep, and how late they wake.

use std::sync::Mutex;
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

/// How long each sleep of [`Workload::Hogs`](crate::workload::Workload::Hogs) is.
pub(crate) const SHORT_SLEEP: Duration = Duration::from_millis(1);

/// How long a hog of so many milliseconds sleeps before it holds its worker.
pub(crate) fn before_a_hold(millis: u64) -> Duration {
    Duration::from_millis(millis / 2)
}

/// Holds the OS thread for so many milliseconds: the first hog computes, the others call the system.
pub(crate) fn hold(hog: usize, millis: u64) {
    let length = Duration::from_millis(millis);
    if hog > 0 {
        return std::thread::sleep(length);
    }
    let start = Instant::now();
    while start.elapsed() < length {
        std::hint::spin_loop();
    }
}

/// How late each of many wake-ups was.
#[derive(Debug, Default)]
pub(crate) struct Distribution(Mutex<Vec<u32>>);

impl Distribution {
    /// How late the caller is that was due at `due`, in microseconds.
    ///
    /// # Panics
    ///
    /// If it is too early.
    pub(crate) fn micros_late(due: Instant) -> u32 {
        let late = Instant::now().checked_duration_since(due).expect("a sleep ended early");
        u32::try_from(late.as_micros()).unwrap_or(u32::MAX)
    }

    /// Takes what one sleeper has measured.
    pub(crate) fn add(&self, micros: &[u32]) {
        self.0.lock().expect("nobody panics with it").extend_from_slice(micros);
    }

    /// The figures of the workload, once every sleeper has been joined.
    pub(crate) fn figures(&self) -> Figures {
        let mut all = self.0.lock().expect("nobody panics with it");
        all.sort_unstable();
        let at = |share: f64| f64::from(all[((all.len() - 1) as f64 * share) as usize]);
        Figures::one("late_max_ms", at(1.0) / 1e3)
            .and("late_p50_us", at(0.5))
            .and("late_p99_us", at(0.99))
            .and("late_p999_us", at(0.999))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_its_quantiles() {
        let distribution = Distribution::default();
        let micros: Vec<u32> = (0..=1_000).rev().collect();
        distribution.add(&micros[..500]);
        distribution.add(&micros[500..]);
        let figures = distribution.figures();
        assert_eq!(figures.get("late_p50_us"), Some(500.0));
        assert_eq!(figures.get("late_p99_us"), Some(990.0));
        assert_eq!(figures.get("late_max_ms"), Some(1.0));
    }

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
