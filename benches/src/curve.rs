//! Curves: how the cost of a workload changes with the number of tasks, or with the number of workers.
//!
//! A point of a curve is a workload at another size, and measured as all the others are.

use crate::workload::{Runtime, Size, Workload};

/// What changes from point to point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Axis {
    /// The number of tasks.
    Tasks,
    /// The number of workers.
    Workers,
}

impl Axis {
    /// What the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tasks => "green threads",
            Self::Workers => "workers",
        }
    }
}

/// A workload at many sizes.
#[derive(Debug)]
pub(crate) struct Curve {
    /// Its name on the command line and in the JSON.
    pub(crate) name: &'static str,
    /// What is run.
    pub(crate) workload: Workload,
    /// What changes.
    pub(crate) axis: Axis,
    /// What it shows.
    pub(crate) title: &'static str,
}

impl PartialEq for Curve {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// One of the sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Of what.
    pub(crate) curve: &'static Curve,
    /// So many tasks or workers.
    pub(crate) x: usize,
}

/// Every curve, in the order of the report.
pub(crate) static CURVES: [Curve; 7] = [
    Curve {
        name: "spawn",
        workload: Workload::SpawnBatch,
        axis: Axis::Tasks,
        title: "Spawn so many at once, then join them",
    },
    Curve {
        name: "yield",
        workload: Workload::Yield,
        axis: Axis::Tasks,
        title: "Yields among so many, their start included",
    },
    Curve {
        name: "wake",
        workload: Workload::Pairs,
        axis: Axis::Tasks,
        title: "Round trips (two waits, two wake-ups) of so many in pairs, their start included",
    },
    Curve {
        name: "park",
        workload: Workload::Park,
        axis: Axis::Tasks,
        title: "Spawn and park so many",
    },
    Curve {
        name: "forkjoin-workers",
        workload: Workload::ForkJoin,
        axis: Axis::Workers,
        title: "Fork and join, CPU-bound",
    },
    Curve {
        name: "chantree-workers",
        workload: Workload::ChannelTree,
        axis: Axis::Workers,
        title: "A tree of channels",
    },
    Curve {
        name: "echo-workers",
        workload: Workload::Echo100,
        axis: Axis::Workers,
        title: "TCP echo, 100 connections",
    },
];

/// How much a point of so many tasks is to do altogether.
const YIELDS: usize = 4_000_000;
const SPAWNS: usize = 200_000;
const ROUND_TRIPS: usize = 500_000;

impl Curve {
    /// The curve of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        CURVES.iter().find(|curve| curve.name == name)
    }

    /// Where it is measured: at powers of ten up to a million tasks (100,000 with `quick`), or at powers of
    /// two up to `workers` workers, and at that.
    pub(crate) fn points(&self, quick: bool, workers: usize) -> Vec<usize> {
        match self.axis {
            Axis::Tasks => {
                let most = if quick { 100_000 } else { 1_000_000 };
                let least = match self.workload {
                    // What fewer take is lost in how often the one who waits for them looks.
                    Workload::Park => 10_000,
                    Workload::Pairs => 2,
                    _ => 1,
                };
                let powers = (0..).map(|power| 10_usize.pow(power).max(least));
                let mut points: Vec<_> = powers.take_while(|&tasks| tasks <= most).collect();
                points.dedup();
                points
            }
            Axis::Workers => {
                let powers = (0..).map(|power| 1_usize << power);
                let powers = powers.take_while(|&power| power < workers);
                powers.chain([workers]).collect()
            }
        }
    }

    /// How much is run at `x`. All runtimes are given the same.
    pub(crate) fn size(&self, x: usize, quick: bool) -> Size {
        let shrink = if quick { 10 } else { 1 };
        match (self.axis, self.workload) {
            (Axis::Tasks, Workload::SpawnBatch) => {
                Size::new(x, (SPAWNS / shrink / x).clamp(1, 20_000), 0)
            }
            (Axis::Tasks, Workload::Yield) => {
                Size::new(x, (YIELDS / shrink / x).clamp(30, 200_000), 0)
            }
            (Axis::Tasks, Workload::Pairs) => {
                let pairs = x / 2;
                Size::new(pairs, (ROUND_TRIPS / shrink / pairs).clamp(10, 100_000), 0)
            }
            (Axis::Tasks, _) => Size { tasks: x, ..self.workload.size(quick) },
            (Axis::Workers, _) => self.workload.size(quick),
        }
    }

    /// Whether `runtime` has a point at `x`.
    pub(crate) fn runs(&self, runtime: Runtime, x: usize) -> bool {
        let reaches = match (self.axis, runtime) {
            // As many as a machine can be asked to have, and beyond which May aborts (`workload.rs`).
            (Axis::Tasks, Runtime::Threads | Runtime::May) => x <= 10_000,
            // The kernel gives them all CPUs, and the epoll loop has one thread.
            (Axis::Workers, Runtime::Threads | Runtime::Raw) => false,
            _ => true,
        };
        reaches && runtime.runs(self.workload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_go_from_one_to_a_million() {
        let spawn = Curve::named("spawn").unwrap();
        let powers = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
        assert_eq!(spawn.points(false, 2), powers);
        assert_eq!(spawn.points(true, 2), powers[..6]);
        assert_eq!(Curve::named("wake").unwrap().points(false, 2)[..2], [2, 10]);
        assert_eq!(Curve::named("park").unwrap().points(false, 2), powers[4..]);
    }

    #[test]
    fn workers_double_until_there_are_no_more() {
        let tree = Curve::named("chantree-workers").unwrap();
        assert_eq!(tree.points(false, 1), [1]);
        assert_eq!(tree.points(false, 2), [1, 2]);
        assert_eq!(tree.points(false, 12), [1, 2, 4, 8, 12]);
    }

    #[test]
    fn every_point_has_something_to_do_and_no_more_tasks_than_it_says() {
        for curve in &CURVES {
            for x in curve.points(false, 16) {
                let size = curve.size(x, false);
                assert!(size.tasks > 0 && size.tasks <= x.max(size.tasks));
                assert!(size.rounds > 0 || size.millis > 0, "{} at {x}", curve.name);
            }
        }
    }
}
