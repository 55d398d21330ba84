//! The figures that a measuring process prints and its parent reads, and the meters behind them.
//!
//! The protocol is one line for each figure, `name value`, so that a program in any language can
//! speak it. A process prints all of its figures or, where the work failed, none.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Named values, in the order in which they were taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    /// A single figure.
    pub(crate) fn one(name: &str, value: f64) -> Self {
        Self::default().and(name, value)
    }

    /// These figures and one more.
    pub(crate) fn and(mut self, name: &str, value: f64) -> Self {
        self.0.push((name.to_owned(), value));
        self
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The figure of that name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }

    /// Reads what [`Display`] wrote; `None` if any line is not a figure.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let figure = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse::<f64>().ok().filter(|v| v.is_finite())?))
        };
        text.lines().map(figure).collect::<Option<_>>().map(Self)
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

/// The time since a point, in nanoseconds for each of `operations`.
pub(crate) fn ns_each(start: Instant, operations: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / operations as f64
}

/// The time that this process has spent on CPUs so far.
pub(crate) fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of oneself cannot fail");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// Bytes that this process occupies: resident memory and page tables.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    kibibytes(&status, "VmRSS:") * 1024 + kibibytes(&status, "VmPTE:") * 1024
}

/// The value of one line of `/proc/PID/status`.
fn kibibytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no {field} in /proc/self/status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_survive_the_way_through_text() {
        let figures = Figures::one("ns", 334.25).and("bytes", 448.0);
        assert_eq!(Figures::parse(&figures.to_string()), Some(figures.clone()));
        assert_eq!(figures.get("bytes"), Some(448.0));
        assert_eq!(figures.get("ms"), None);
    }

    #[test]
    fn what_is_not_a_figure_is_refused() {
        assert_eq!(Figures::parse("ns 1\nthread panicked"), None);
        assert_eq!(Figures::parse("ns NaN"), None);
        assert_eq!(Figures::parse("ns"), None);
    }

    #[test]
    fn memory_is_read_from_the_status_file() {
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n", "VmRSS:"), 1234);
        assert!(memory() > 100 << 10);
    }
}
