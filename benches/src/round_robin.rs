//! The run: every workload on every runtime, round by round, one measurement at a time.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Seat, Settings};
use crate::figures::Figures;
use crate::process::{self, Ending, INTERRUPTED};
use crate::statistics::Summary;
use crate::workload::{Metric, Runtime, Size, Workload};

/// All measurements of one workload on one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// What was run.
    pub(crate) workload: Workload,
    /// On what.
    pub(crate) runtime: Runtime,
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
            size,
            scaled_down: size != workload.size(quick),
            spared: runtime.is_spared(workload),
            figures: Vec::new(),
            failures: Vec::new(),
            timed_out: false,
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
    let progress = progress_bar(cells.len() * rounds);
    for round in 0..rounds {
        for index in turns(&cells, round) {
            let cell = &mut cells[index];
            let (workload, runtime) = (cell.workload.name(), cell.runtime.name());
            progress.set_message(format!("round {}/{rounds}: {workload} on {runtime}", round + 1));
            if !cell.timed_out && !INTERRUPTED.load(Ordering::Relaxed) {
                let seat = seats.iter().find(|seat| seat.runtime == cell.runtime);
                let seat = seat.expect("a cell is made for a seat");
                let ending = process::measure(cell.workload, seat, settings.quick, limit)?;
                if !cell.record(ending, limit) {
                    progress.abandon_with_message("interrupted");
                    return Ok(cells);
                }
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(cells)
}

/// What there is to measure, workload by workload.
fn cells(settings: &Settings, seats: &[Seat]) -> Vec<Cell> {
    let on_all = |workload: Workload| {
        let runs = move |seat: &&Seat| seat.runtime.runs(workload);
        let cell = move |seat: &Seat| Cell::new(workload, seat.runtime, settings.quick);
        seats.iter().filter(runs).map(cell)
    };
    settings.chosen_workloads().into_iter().flat_map(on_all).collect()
}

/// The order of a round: workload by workload; within one, the runtimes take turns in being
/// first, so that none always follows the same neighbour.
fn turns(cells: &[Cell], round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    for group in order.chunk_by_mut(|&a, &b| cells[a].workload == cells[b].workload) {
        group.rotate_left(round % group.len());
    }
    order
}

/// What runs and what is left, on stderr; nothing where stderr is no terminal.
fn progress_bar(measurements: usize) -> ProgressBar {
    let template = "{bar:30} {pos}/{len} [{elapsed}, {eta} left] {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let progress = ProgressBar::new(measurements as u64).with_style(style);
    progress.enable_steady_tick(Duration::from_millis(250));
    progress
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
