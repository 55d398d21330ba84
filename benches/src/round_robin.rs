//! The run: every workload on every runtime, round by round, one measurement at a time.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cli::{Seat, Settings};
use crate::curve::{Axis, Point};
use crate::figures::Figures;
use crate::process::{self, Ending, INTERRUPTED};
use crate::progress::{Item, Progress};
use crate::statistics::Summary;
use crate::workload::{Metric, Runtime, Size, Workload};

/// All measurements of one workload on one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// What was run.
    pub(crate) workload: Workload,
    /// On what.
    pub(crate) runtime: Runtime,
    /// Which point of a curve it is; a cell of the table if none.
    pub(crate) point: Option<Point>,
    /// How much of it.
    pub(crate) size: Size,
    /// Whether that is less than what others are given.
    pub(crate) scaled_down: bool,
    /// In which way it has less to do for the same size, if so.
    pub(crate) spared: Option<&'static str>,
    /// What each round that succeeded yielded.
    pub(crate) figures: Vec<Figures>,
    /// Why the others failed.
    pub(crate) failures: Vec<String>,
    /// Whether a round took too long; then the rest of them is not tried.
    timed_out: bool,
}

impl Cell {
    /// Nothing measured yet.
    pub(crate) fn new(workload: Workload, runtime: Runtime, quick: bool) -> Self {
        let size = workload.size_for(runtime, quick);
        Self {
            workload,
            runtime,
            point: None,
            size,
            scaled_down: size != workload.size(quick),
            spared: runtime.is_spared(workload),
            figures: Vec::new(),
            failures: Vec::new(),
            timed_out: false,
        }
    }

    /// Nothing measured yet of a point.
    pub(crate) fn of_curve(point: Point, runtime: Runtime, quick: bool) -> Self {
        let size = point.curve.size(point.x, quick);
        let cell = Self::new(point.curve.workload, runtime, quick);
        Self { point: Some(point), size, scaled_down: false, ..cell }
    }

    /// Whether it is compared with `other`.
    pub(crate) fn belongs_with(&self, other: &Self) -> bool {
        self.workload == other.workload && self.point == other.point
    }

    /// How many times it is measured where others are measured `rounds` times. A curve has many points, which
    /// bear each other out.
    fn rounds(&self, rounds: usize) -> usize {
        if self.point.is_some() { rounds.min(3) } else { rounds }
    }

    /// What it runs, for those who wait.
    fn title(&self) -> String {
        match self.point {
            Some(Point { curve, x }) => format!("{} at {x} {}", curve.name, curve.axis.name()),
            None => self.workload.name().to_owned(),
        }
    }

    /// The values of one metric, in the order of the rounds.
    pub(crate) fn values(&self, metric: Metric) -> Vec<f64> {
        self.figures.iter().filter_map(|figures| figures.get(metric.name)).collect()
    }

    /// The rounds together; `None` if none succeeded.
    pub(crate) fn summary(&self, metric: Metric) -> Option<Summary> {
        Summary::of(&self.values(metric))
    }

    /// Takes note of a round. False if the run is over.
    fn record(&mut self, ending: Ending, limit: Duration) -> bool {
        match ending {
            Ending::Figures(figures) => self.figures.push(figures),
            Ending::Failed(why) => self.failures.push(why),
            Ending::TimedOut => {
                self.failures.push(format!("not done after {} s", limit.as_secs()));
                self.timed_out = true;
            }
            Ending::Interrupted => return false,
        }
        true
    }
}

/// Runs everything that `settings` choose on `seats`; after an interrupt, returns what there is.
pub(crate) fn run(settings: &Settings, seats: &[Seat]) -> io::Result<Vec<Cell>> {
    let mut cells = cells(settings, seats);
    let (rounds, limit) = (settings.chosen_rounds() as usize, settings.time_limit());
    let item =
        |cell: &Cell| Item { group: cell.workload.name(), left: cell.rounds(rounds), took: None };
    let mut progress = Progress::new(cells.iter().map(item).collect());
    for round in 0..rounds {
        for index in turns(&cells, round) {
            let cell = &mut cells[index];
            if round >= cell.rounds(rounds) {
                continue;
            }
            let what = format!("round {}/{rounds}: {}", round + 1, cell.title());
            progress.begin(&what, cell.runtime.name());
            let start = Instant::now();
            if !cell.timed_out && !INTERRUPTED.load(Ordering::Relaxed) {
                let seat = seat(cell, seats);
                let ending = process::measure(cell.workload, cell.size, &seat, limit)?;
                if !cell.record(ending, limit) {
                    progress.finish(true);
                    return Ok(cells);
                }
            }
            progress.end(index, start.elapsed());
        }
    }
    progress.finish(INTERRUPTED.load(Ordering::Relaxed));
    Ok(cells)
}

/// The runtime of a cell, with the workers that it is to have.
fn seat(cell: &Cell, seats: &[Seat]) -> Seat {
    let seat = seats.iter().find(|seat| seat.runtime == cell.runtime);
    let mut seat = seat.expect("a cell is made for a seat").clone();
    if let Some(Point { curve, x }) = cell.point
        && curve.axis == Axis::Workers
    {
        seat.workers = x;
    }
    seat
}

/// What there is to measure, workload by workload, and then point by point.
fn cells(settings: &Settings, seats: &[Seat]) -> Vec<Cell> {
    let (quick, mut cells) = (settings.quick, Vec::new());
    for workload in settings.chosen_workloads() {
        let seats = seats.iter().filter(|seat| seat.runtime.runs(workload));
        cells.extend(seats.map(|seat| Cell::new(workload, seat.runtime, quick)));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    for curve in settings.chosen_curves() {
        for x in curve.points(quick, cpus.max(settings.workers)) {
            let seats = seats.iter().filter(|seat| curve.runs(seat.runtime, x));
            let point = Point { curve, x };
            cells.extend(seats.map(|seat| Cell::of_curve(point, seat.runtime, quick)));
        }
    }
    cells
}

/// The order of a round: workload by workload; within one, the runtimes take turns in being
/// first, so that none always follows the same neighbour.
fn turns(cells: &[Cell], round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    for group in order.chunk_by_mut(|&a, &b| cells[a].belongs_with(&cells[b])) {
        group.rotate_left(round % group.len());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_take_turns_in_being_first() {
        let cell = |workload, runtime| Cell::new(workload, runtime, true);
        let cells = [
            cell(Workload::Yield, Runtime::Tokio),
            cell(Workload::Yield, Runtime::May),
            cell(Workload::Yield, Runtime::Bine),
            cell(Workload::Pairs, Runtime::Tokio),
            cell(Workload::Pairs, Runtime::Bine),
        ];
        assert_eq!(turns(&cells, 0), [0, 1, 2, 3, 4]);
        assert_eq!(turns(&cells, 1), [1, 2, 0, 4, 3]);
        assert_eq!(turns(&cells, 3), [0, 1, 2, 4, 3]);
    }

    #[test]
    fn failures_stand_beside_figures() {
        let mut cell = Cell::new(Workload::Yield, Runtime::May, true);
        let limit = Duration::from_secs(9);
        assert!(cell.record(Ending::Figures(Figures::one("ns", 3.0)), limit));
        assert!(cell.record(Ending::Failed("SIGABRT".into()), limit));
        assert!(cell.record(Ending::TimedOut, limit));
        assert!(!cell.record(Ending::Interrupted, limit));
        assert_eq!(cell.failures, ["SIGABRT", "not done after 9 s"]);
        assert_eq!(cell.summary(Workload::Yield.metrics()[0]).unwrap().median, 3.0);
    }
}
