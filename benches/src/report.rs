//! The table and the JSON of a finished run.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::curve::Point;
use crate::machine::Machine;
use crate::round_robin::Cell;
use crate::statistics::ratio;
use crate::stored;
use crate::workload::{Metric, Size, count};

/// Everything that was measured, and where.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Where it ran, and when.
    pub(crate) machine: Machine,
    /// How many times each measurement was taken.
    pub(crate) rounds: u32,
    /// Workers of each runtime, but for the curves against them.
    pub(crate) workers: usize,
    /// Whether sizes were small.
    pub(crate) quick: bool,
    /// What came out.
    pub(crate) cells: Vec<Cell>,
}

impl Report {
    /// The cells of each workload.
    pub(crate) fn table_groups(&self) -> impl Iterator<Item = &[Cell]> {
        let groups = self.cells.chunk_by(Cell::belongs_with);
        groups.filter(|group| group[0].point.is_none())
    }

    /// The cells of each point of each curve.
    pub(crate) fn point_groups(&self) -> impl Iterator<Item = (Point, &[Cell])> {
        let groups = self.cells.chunk_by(Cell::belongs_with);
        groups.filter_map(|group| Some((group[0].point?, group)))
    }

    /// What it was run with, in a line.
    pub(crate) fn settings(&self) -> String {
        let sizes = if self.quick { "quick sizes" } else { "full sizes" };
        format!("{} rounds, {} workers, {sizes}", self.rounds, self.workers)
    }

    /// A table for each metric of each workload: medians, spreads, and ratios to the best peer.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n{}\n", self.machine, self.settings());
        for group in self.table_groups() {
            let workload = group[0].workload;
            let nominal = workload.size(self.quick);
            let _ = writeln!(text, "\n{}: {}", workload.name(), workload.describe(nominal));
            for &metric in workload.metrics() {
                write_metric(&mut text, group, metric, nominal);
            }
        }
        for (Point { curve, x }, group) in self.point_groups() {
            let _ =
                writeln!(text, "\n{} at {x} {}: {}", curve.name, curve.axis.name(), curve.title);
            for &metric in curve.workload.metrics() {
                write_metric(&mut text, group, metric, group[0].size);
            }
        }
        text
    }

    /// Every value, with what it takes to read them without the program.
    pub(crate) fn json(&self) -> Value {
        let groups = self.cells.chunk_by(Cell::belongs_with);
        let results: Vec<Value> = groups.flat_map(group_json).collect();
        json!({
            "machine": self.machine.json(),
            "settings": {
                "rounds": self.rounds,
                "workers": self.workers,
                "quick": self.quick,
            },
            "results": results,
            "cells": self.cells.iter().map(stored::cell).collect::<Vec<_>>(),
        })
    }
}

/// The median of the best peer of a workload. A peer that has less to do than the others is none:
/// to wake 10,000 sleepers in time says nothing of a million.
pub(crate) fn best_peer(group: &[Cell], metric: Metric) -> Option<f64> {
    let does_it_all = |cell: &&Cell| !cell.scaled_down && cell.spared.is_none();
    let peers = group.iter().filter(|cell| cell.runtime.is_peer()).filter(does_it_all);
    metric.better.best(peers.filter_map(|cell| Some(cell.summary(metric)?.median)))
}

fn write_metric(text: &mut String, group: &[Cell], metric: Metric, nominal: Size) {
    let best = best_peer(group, metric);
    let (name, median, spread, against) = (metric.unit, "median", "min - max", "to best peer");
    let _ = writeln!(text, "  {name:<24}{median:>12}{spread:>26}{against:>14}");
    for cell in group {
        let row = match cell.summary(metric) {
            None if cell.failures.is_empty() => format!("{:>12}", "not run"),
            None => format!("{:>12}", "fails"),
            Some(summary) => {
                let to_best = best.and_then(|best| ratio(summary.median, best));
                let to_best = to_best.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
                let spread = format!("{} - {}", short(summary.min), short(summary.max));
                format!("{:>12}{spread:>26}{to_best:>14}", short(summary.median))
            }
        };
        let (runtime, remarks) = (cell.runtime.name(), remarks(cell, nominal));
        let _ = writeln!(text, "    {}", format!("{runtime:<22}{row}  {remarks}").trim_end());
    }
}

/// What a reader must know of a cell: a smaller scale, less to do, failed rounds.
pub(crate) fn remarks(cell: &Cell, nominal: Size) -> String {
    let mut remarks = Vec::new();
    if cell.size.tasks != nominal.tasks {
        remarks.push(format!("{} tasks", count(cell.size.tasks)));
    }
    if cell.size.rounds != nominal.rounds {
        remarks.push(format!("{} rounds", count(cell.size.rounds)));
    }
    remarks.extend(cell.spared.map(str::to_owned));
    if let Some(why) = cell.failures.first() {
        let (failed, all) = (cell.failures.len(), cell.failures.len() + cell.figures.len());
        remarks.push(format!("failed {failed} of {all} times: {why}"));
    }
    remarks.join("; ")
}

/// Three digits or more of a value, and no more than it takes.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        small if small < 10.0 => format!("{value:.2}"),
        middling if middling < 1_000.0 => format!("{value:.1}"),
        _ => grouped(value.round() as u64),
    }
}

/// Thousands separated by commas.
fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

fn group_json(group: &[Cell]) -> impl Iterator<Item = Value> {
    let metrics = group[0].workload.metrics().iter().copied();
    metrics.flat_map(move |metric| group.iter().map(move |cell| cell_json(group, cell, metric)))
}

fn cell_json(group: &[Cell], cell: &Cell, metric: Metric) -> Value {
    let summary = cell.summary(metric);
    let to_best = summary.and_then(|summary| ratio(summary.median, best_peer(group, metric)?));
    json!({
        "workload": cell.workload.name(),
        "runtime": cell.runtime.name(),
        "curve": cell.point.map(|point| point.curve.name),
        "at": cell.point.map(|point| point.x),
        "metric": metric.name,
        "unit": metric.unit,
        "lower_is_better": metric.better == crate::statistics::Better::Lower,
        "scaled_down": cell.scaled_down,
        "spared": cell.spared,
        "tasks": cell.size.tasks,
        "rounds_of_each": cell.size.rounds,
        "millis": cell.size.millis,
        "values": cell.values(metric),
        "median": summary.map(|summary| summary.median),
        "min": summary.map(|summary| summary.min),
        "max": summary.map(|summary| summary.max),
        "ratio_to_best_peer": to_best,
        "failures": cell.failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::workload::{Runtime, Workload};

    fn cell(runtime: Runtime, values: &[f64]) -> Cell {
        let mut cell = Cell::new(Workload::Yield, runtime, false);
        cell.figures = values.iter().map(|&value| Figures::one("ns", value)).collect();
        cell
    }

    #[test]
    fn ratios_are_taken_to_the_best_peer_and_not_to_others() {
        let group = [
            cell(Runtime::Threads, &[800.0, 900.0, 850.0]),
            cell(Runtime::Tokio, &[30.0, 29.0, 31.0]),
            cell(Runtime::Raw, &[1.0]),
            cell(Runtime::Bine, &[15.0]),
        ];
        let metric = Workload::Yield.metrics()[0];
        assert_eq!(best_peer(&group, metric), Some(30.0));
        assert_eq!(cell_json(&group, &group[3], metric)["ratio_to_best_peer"], 0.5);
        assert_eq!(cell_json(&group, &group[1], metric)["ratio_to_best_peer"], 1.0);
    }

    #[test]
    fn a_peer_that_does_less_is_not_the_best() {
        let cell = |runtime, value| {
            let mut cell = Cell::new(Workload::Timers, runtime, false);
            cell.figures = vec![Figures::one("late_max_ms", value)];
            cell
        };
        let group = [cell(Runtime::Threads, 1.0), cell(Runtime::Tokio, 200.0)];
        assert_eq!(best_peer(&group, Workload::Timers.metrics()[2]), Some(200.0));
    }

    #[test]
    fn a_peer_that_is_spared_something_is_not_the_best_and_its_row_says_so() {
        let cell = |runtime, value| {
            let mut cell = Cell::new(Workload::Select, runtime, false);
            cell.figures = vec![Figures::one("ns", value)];
            cell
        };
        let group = [cell(Runtime::May, 1.0), cell(Runtime::Go, 200.0)];
        assert_eq!(best_peer(&group, Workload::Select.metrics()[0]), Some(200.0));
        let remarks = group.each_ref().map(|cell| remarks(cell, Workload::Select.size(false)));
        assert_eq!(remarks, ["channels without a bound", ""]);
    }

    #[test]
    fn a_failure_is_shown_with_its_reason() {
        let mut failing = cell(Runtime::May, &[]);
        failing.failures.push("SIGABRT: no stack".into());
        let mut text = String::new();
        write_metric(
            &mut text,
            &[failing],
            Workload::Yield.metrics()[0],
            Workload::Yield.size(false),
        );
        assert!(text.contains("fails  failed 1 of 1 times: SIGABRT: no stack"), "{text}");
    }

    #[test]
    fn a_smaller_scale_is_said() {
        let scaled = Cell::new(Workload::Park, Runtime::May, false);
        assert_eq!(remarks(&scaled, Workload::Park.size(false)), "20k tasks");
    }

    #[test]
    fn values_are_short() {
        let shown = [0.0, 2.345, 29.04, 334.16, 76_700.4, 1_234_567.0].map(short);
        assert_eq!(shown, ["0", "2.35", "29.0", "334.2", "76,700", "1,234,567"]);
    }
}
