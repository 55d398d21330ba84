//! Steady beats.

use std::iter::FusedIterator;
use std::time::{Duration, Instant};

use crate::thread::sleep_until;
use crate::wait;

/// What happens to ticks that nobody has waited for in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTicks {
    /// They come at once, one after the other, until all have come: as many ticks as periods.
    #[default]
    Burst,
    /// The one that is late comes at once, and the next one a period after that: never two that are
    /// closer than a period.
    Delay,
    /// The one that is late comes at once, and those that were missed besides do not: ticks stay in
    /// step with the first one.
    Skip,
}

/// Ticks, a period apart; see [`interval`].
///
/// As an iterator it has no end; each item is when its tick was due.
#[derive(Debug, Clone)]
pub struct Interval {
    /// When the next tick is due; none, if that is beyond the clock's range.
    next: Option<Instant>,
    period: Duration,
    missed: MissedTicks,
}

/// Ticks at once, and then each `period`. Where nobody waits in time, [`MissedTicks::Burst`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use bine_runtime::time;
///
/// bine_runtime::run(|| {
///     let before = Instant::now();
///     let mut interval = time::interval(Duration::from_millis(2));
///     for _ in 0..3 {
///         interval.tick(); // after 0, 2, and 4 ms
///     }
///     assert!(before.elapsed() >= Duration::from_millis(4));
/// });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// As [`interval`], with the first tick at `start`.
///
/// # Panics
///
/// If `period` is zero.
#[must_use]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period that is not zero");
    Interval { next: Some(start), period, missed: MissedTicks::default() }
}

impl Interval {
    /// Says what happens to ticks that nobody has waited for in time.
    #[must_use]
    pub fn missed_ticks(self, missed: MissedTicks) -> Self {
        Self { missed, ..self }
    }

    /// Waits for the next tick; returns when it was due. A tick is counted only when this returns: a
    /// wait that is interrupted takes none.
    pub fn tick(&mut self) -> Instant {
        let Some(due) = self.next else {
            loop {
                wait::park();
            }
        };
        let now = Instant::now();
        match now < due {
            true => sleep_until(due),
            // Who is late for every tick still lets others run.
            false => wait::checkpoint(),
        }
        self.next = self.after(due, now.max(due));
        due
    }

    /// When the tick after that at `due` comes, which is taken at `now`.
    fn after(&self, due: Instant, now: Instant) -> Option<Instant> {
        let next = due.checked_add(self.period)?;
        if next > now {
            return Some(next);
        }
        match self.missed {
            MissedTicks::Burst => Some(next),
            MissedTicks::Delay => now.checked_add(self.period),
            MissedTicks::Skip => {
                let over = (now - due).as_nanos() % self.period.as_nanos();
                // Less than the period, which is so many seconds and nanoseconds.
                let left = self.period - duration_of(over);
                now.checked_add(left)
            }
        }
    }

    /// Has the next tick come a period from now.
    pub fn reset(&mut self) {
        self.next = Instant::now().checked_add(self.period);
    }

    /// The time from one tick to the next.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }
}

fn duration_of(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).expect("less than a duration is one");
    Duration::new(seconds, (nanos % SECOND) as u32)
}

impl Iterator for Interval {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        Some(self.tick())
    }
}

impl FusedIterator for Interval {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_ticks_come_as_they_should() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let next = |missed, due, now| {
            let interval = interval_at(start, Duration::from_millis(10)).missed_ticks(missed);
            interval.after(at(due), at(now)).unwrap()
        };
        for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
            assert_eq!(next(missed, 0, 0), at(10));
            assert_eq!(next(missed, 0, 9), at(10));
        }
        assert_eq!(next(MissedTicks::Burst, 0, 35), at(10));
        assert_eq!(next(MissedTicks::Delay, 0, 35), at(45));
        assert_eq!(next(MissedTicks::Skip, 0, 35), at(40));
        assert_eq!(next(MissedTicks::Skip, 20, 30), at(40));
        let far = interval_at(start, Duration::MAX);
        assert_eq!(far.after(start, start), None);
    }

    #[test]
    #[should_panic(expected = "a period that is not zero")]
    fn a_period_of_zero_is_refused() {
        let _ = interval(Duration::ZERO);
    }
}
