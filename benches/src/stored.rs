//! A run as it is kept in a file, so that it can be reported again, or elsewhere.

use serde_json::{Map, Value, json};

use crate::curve::{Curve, Point};
use crate::figures::Figures;
use crate::machine::Machine;
use crate::report::Report;
use crate::round_robin::Cell;
use crate::workload::{Runtime, Size, Workload};

/// What was measured in one cell, and all that a report says of it.
pub(crate) fn cell(cell: &Cell) -> Value {
    let figures = cell.figures.iter().map(|figures| {
        Value::from_iter(figures.iter().map(|(name, value)| (name.to_owned(), json!(value))))
    });
    json!({
        "workload": cell.workload.name(),
        "runtime": cell.runtime.name(),
        "curve": cell.point.map(|point| point.curve.name),
        "at": cell.point.map(|point| point.x),
        "tasks": cell.size.tasks,
        "rounds_of_each": cell.size.rounds,
        "millis": cell.size.millis,
        "scaled_down": cell.scaled_down,
        "figures": figures.collect::<Vec<_>>(),
        "failures": cell.failures,
    })
}

/// Reads what [`Report::json`] made. `None` if something is missing, or of a workload that is unknown.
pub(crate) fn report(json: &Value) -> Option<Report> {
    let settings = &json["settings"];
    let quick = settings["quick"].as_bool()?;
    let cells = json["cells"].as_array()?.iter().map(|cell| read_cell(cell, quick));
    Some(Report {
        machine: Machine::from_json(&json["machine"])?,
        rounds: settings["rounds"].as_u64()?.try_into().ok()?,
        workers: settings["workers"].as_u64()? as usize,
        quick,
        cells: cells.collect::<Option<_>>()?,
    })
}

fn read_cell(json: &Value, quick: bool) -> Option<Cell> {
    let name = |key: &str| json[key].as_str();
    let number = |key: &str| Some(json[key].as_u64()? as usize);
    let workload = Workload::ALL.into_iter().find(|one| Some(one.name()) == name("workload"))?;
    let runtime = Runtime::ALL.into_iter().find(|one| Some(one.name()) == name("runtime"))?;
    let mut cell = Cell::new(workload, runtime, quick);
    if let Some(curve) = name("curve") {
        cell.point = Some(Point { curve: Curve::named(curve)?, x: number("at")? });
    }
    let millis = json["millis"].as_u64()?;
    cell.size = Size::new(number("tasks")?, number("rounds_of_each")?, millis);
    cell.scaled_down = json["scaled_down"].as_bool()?;
    let figures = json["figures"].as_array()?.iter().map(|round| read_figures(round.as_object()?));
    cell.figures = figures.collect::<Option<_>>()?;
    let failures = json["failures"].as_array()?.iter();
    cell.failures = failures.map(|why| why.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    Some(cell)
}

fn read_figures(round: &Map<String, Value>) -> Option<Figures> {
    round.iter().try_fold(Figures::default(), |figures, (name, value)| {
        Some(figures.and(name, value.as_f64()?))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::curve::CURVES;

    /// A run in which each runtime takes as many as its number, in both of two rounds.
    pub(crate) fn made_up() -> Report {
        let mut cells = Vec::new();
        let fill = |mut cell: Cell, number: usize| {
            let metrics = cell.workload.metrics().iter();
            let value = |round: usize| (number * 10 + round) as f64;
            let figures = |round| {
                let metrics = metrics.clone();
                metrics.fold(Figures::default(), |all, metric| all.and(metric.name, value(round)))
            };
            cell.figures = vec![figures(9), figures(11)];
            cell
        };
        for workload in Workload::ALL {
            let runtimes = Runtime::ALL.into_iter().enumerate();
            let runtimes = runtimes.filter(|(_, runtime)| runtime.runs(workload));
            cells.extend(runtimes.map(|(n, it)| fill(Cell::new(workload, it, false), n)));
        }
        for curve in &CURVES {
            for x in curve.points(false, 2) {
                let runtimes = Runtime::ALL.into_iter().enumerate();
                let runtimes = runtimes.filter(|(_, runtime)| curve.runs(*runtime, x));
                let cell = |it| Cell::of_curve(Point { curve, x }, it, false);
                cells.extend(runtimes.map(|(n, it)| fill(cell(it), n)));
            }
        }
        cells[5].failures.push("SIGABRT: <no> stack & \"nothing\"".into());
        Report { machine: Machine::inspect(), rounds: 2, workers: 2, quick: false, cells }
    }

    #[test]
    fn a_report_survives_the_way_through_json() {
        let made = made_up();
        let text = made.json().to_string();
        let read = report(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(read.table(), made.table());
        assert_eq!(read.json(), made.json());
    }

    #[test]
    fn what_is_missing_is_missed() {
        let mut json = made_up().json();
        json["cells"][0]["workload"] = "nosuch".into();
        assert!(report(&json).is_none());
        assert!(report(&json!({})).is_none());
    }
}
