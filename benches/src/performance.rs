//! The goals, whether a run meets them, and the part of `docs/performance.md` that a run writes.

use std::fmt::Write;

use crate::curve::Axis;
use crate::report::{Report, best_peer, remarks, short};
use crate::round_robin::Cell;
use crate::statistics::ratio;
use crate::workload::{Metric, Runtime};

/// What a median is to be compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// The best of all peers that do all of it.
    BestPeer,
    /// The best of these.
    BestOf(&'static [Runtime]),
    /// Nothing: the value itself counts.
    Itself,
    /// The same with one worker instead of two.
    OneWorker,
}

/// Where a value is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// There or below.
    AtMost(f64),
    /// There or above.
    AtLeast(f64),
}

/// One goal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Of which workload, or of which curve.
    pub(crate) workload: &'static str,
    /// Which of its figures.
    metric: &'static str,
    against: Against,
    bound: Bound,
    /// The value in words, where it is not a ratio.
    unit: &'static str,
}

const fn goal(
    workload: &'static str,
    metric: &'static str,
    against: Against,
    bound: Bound,
) -> Goal {
    Goal { workload, metric, against, bound, unit: "" }
}

use Against::{BestOf, BestPeer, Itself, OneWorker};
use Bound::{AtLeast, AtMost};

const COROSENSEI: Against = BestOf(&[Runtime::Corosensei]);
const TOKIO: Against = BestOf(&[Runtime::Tokio]);
const GO: Against = BestOf(&[Runtime::Go]);
const RAW: Against = BestOf(&[Runtime::Raw]);
const THREADS_AND_GO: Against = BestOf(&[Runtime::Threads, Runtime::Go]);

/// Every goal. They were set before anything was measured, and are not loosened.
pub(crate) static GOALS: &[Goal] = &[
    goal("switch", "ns", COROSENSEI, AtMost(1.0)),
    goal("create", "ns", COROSENSEI, AtMost(1.0)),
    goal("yield", "ns", BestPeer, AtMost(0.5)),
    goal("spawnjoin", "ns", TOKIO, AtMost(0.5)),
    goal("spawnbatch", "ns", TOKIO, AtMost(0.5)),
    goal("pingpong", "ns", BestPeer, AtMost(0.5)),
    goal("pairs", "ns", BestPeer, AtMost(0.7)),
    goal("mutex", "ns", THREADS_AND_GO, AtMost(1.0)),
    goal("mpmc", "ns", BestPeer, AtMost(0.6)),
    goal("skynet", "ms", BestPeer, AtMost(0.25)),
    Goal { unit: "bytes a thread", ..goal("park", "bytes", Itself, AtMost(4.7 * 1024.0)) },
    goal("park", "ns", GO, AtMost(0.5)),
    goal("timers", "cpu_ns", TOKIO, AtMost(0.5)),
    Goal { unit: "ms late", ..goal("timers", "late_mean_ms", Itself, AtMost(0.5)) },
    goal("hogs", "late_max_ms", BestPeer, AtMost(1.0)),
    goal("echo-100", "cpu_us", RAW, AtMost(1.15)),
    goal("echo-100", "rate", TOKIO, AtLeast(1.1)),
    goal("echo-100", "p99_us", TOKIO, AtMost(1.0)),
    goal("echo-1000", "cpu_us", RAW, AtMost(1.15)),
    goal("echo-1000", "rate", TOKIO, AtLeast(1.1)),
    goal("echo-1000", "p99_us", TOKIO, AtMost(1.0)),
    goal("echo-10000", "cpu_us", RAW, AtMost(1.15)),
    goal("echo-10000", "rate", TOKIO, AtLeast(1.1)),
    goal("echo-10000", "p99_us", TOKIO, AtMost(1.0)),
    goal("http-64", "rate", TOKIO, AtLeast(1.15)),
    goal("http-512", "rate", TOKIO, AtLeast(1.15)),
    // Less than the clock of a process can show of a second.
    Goal { unit: "us of CPU a second", ..goal("idle-10000", "cpu_us", Itself, AtMost(100.0)) },
    Goal { unit: "times as fast", ..goal("forkjoin-workers", "ms", OneWorker, AtLeast(1.8)) },
];

impl Goal {
    /// `ns: 0.5 times tokio's or less`.
    pub(crate) fn describe(&self) -> String {
        let (number, direction) = match self.bound {
            AtMost(number) => (number, "or less"),
            AtLeast(number) => (number, "or more"),
        };
        let (metric, number) = (self.metric, trimmed(number));
        match self.against {
            BestPeer => format!("{metric}: {number} times the best peer's {direction}"),
            BestOf([one]) => format!("{metric}: {number} times {}'s {direction}", one.name()),
            BestOf(several) => {
                let names: Vec<_> = several.iter().map(|one| one.name()).collect();
                format!("{metric}: {number} times the best of {} {direction}", names.join(" and "))
            }
            Itself => format!("{metric}: {number} {} {direction}", self.unit),
            OneWorker => format!("{number} {} {direction} with 2 workers as with 1", self.unit),
        }
    }

    /// What `runtime` has to be compared with the bound.
    fn value(&self, report: &Report, runtime: Runtime) -> Option<f64> {
        if matches!(self.against, OneWorker) {
            let median = |workers| {
                let at = |(point, _): &(crate::curve::Point, &[Cell])| {
                    point.curve.name == self.workload
                        && point.curve.axis == Axis::Workers
                        && point.x == workers
                };
                let (_, group) = report.point_groups().find(at)?;
                self.median(group, runtime)
            };
            return ratio(median(1)?, median(2)?);
        }
        let group = self.group(report)?;
        let median = self.median(group, runtime)?;
        match self.against {
            BestPeer => ratio(median, best_peer(group, self.metric(group)?)?),
            BestOf(peers) => {
                let medians = peers.iter().filter_map(|peer| self.median(group, *peer));
                ratio(median, self.metric(group)?.better.best(medians)?)
            }
            Itself | OneWorker => Some(median),
        }
    }

    fn group<'a>(&self, report: &'a Report) -> Option<&'a [Cell]> {
        report.table_groups().find(|group| group[0].workload.name() == self.workload)
    }

    fn metric(&self, group: &[Cell]) -> Option<Metric> {
        let mut metrics = group[0].workload.metrics().iter();
        metrics.find(|metric| metric.name == self.metric).copied()
    }

    fn median(&self, group: &[Cell], runtime: Runtime) -> Option<f64> {
        let cell = group.iter().find(|cell| cell.runtime == runtime)?;
        Some(cell.summary(self.metric(group)?)?.median)
    }

    fn is_met_by(&self, value: f64) -> bool {
        match self.bound {
            AtMost(most) => value <= most,
            AtLeast(least) => value >= least,
        }
    }

    /// What the run says of it.
    fn judge(&'static self, report: &Report) -> Judged {
        let values = [Runtime::Bine, Runtime::BineMigrate].map(|mode| self.value(report, mode));
        let met = |value: Option<f64>| value.map(|value| self.is_met_by(value));
        // To be pinned is to stay with a worker, whoever holds it.
        let verdict = match (values.map(met), self.workload) {
            ([_, migrating], "hogs") => migrating.map_or(Verdict::Open, Verdict::of),
            ([None, None], _) => Verdict::Open,
            ([Some(true), Some(true) | None] | [None, Some(true)], _) => Verdict::Met,
            ([Some(true), _], _) => Verdict::Pinned,
            ([_, Some(true)], _) => Verdict::Migrating,
            _ => Verdict::Missed,
        };
        let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), trimmed);
        let [pinned, migrating] = values.map(text);
        Judged { goal: self, pinned, migrating, verdict }
    }
}

/// A goal and what a run says of it.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The goal.
    pub(crate) goal: &'static Goal,
    /// What bine has to be compared with it.
    pub(crate) pinned: String,
    /// The same with threads that migrate.
    pub(crate) migrating: String,
    /// What comes of it.
    pub(crate) verdict: Verdict,
}

/// Whether a goal is met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// By both modes, or by all that have it.
    Met,
    /// By pinned threads alone.
    Pinned,
    /// By threads that migrate alone.
    Migrating,
    /// By none.
    Missed,
    /// It was not measured.
    Open,
}

impl Verdict {
    fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }

    /// As the reports have it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Met => "yes",
            Self::Pinned => "pinned only",
            Self::Migrating => "migrating only",
            Self::Missed => "no",
            Self::Open => "not measured",
        }
    }

    /// The class of it in the page.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Open => "open",
            _ => "missed",
        }
    }
}

/// Every goal beside a run.
pub(crate) fn judge(report: &Report) -> Vec<Judged> {
    GOALS.iter().map(|goal| goal.judge(report)).collect()
}

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// `text` with the figures of `report` in the place of what is between its markers.
///
/// # Errors
///
/// If the markers are not there.
pub(crate) fn insert(text: &str, report: &Report) -> Result<String, String> {
    let parts = text.split_once(BEGIN).and_then(|(above, rest)| {
        let (_, below) = rest.split_once(END)?;
        Some((above, below))
    });
    let (above, below) = parts.ok_or_else(|| format!("{BEGIN} and {END} are not both there"))?;
    Ok(format!("{above}{BEGIN}\n{}{END}{below}", section(report)))
}

fn section(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "\nMeasured on {}: {machine}. {}. {}.\n\n### Goals\n\n\
         | workload | goal | bine | bine-migrate | met |\n|---|---|---|---|---|\n",
        machine.date(),
        capitalised(&report.settings()),
        machine.versions(),
    );
    for Judged { goal, pinned, migrating, verdict } in judge(report) {
        let (workload, goal) = (goal.workload, goal.describe());
        let _ =
            writeln!(text, "| {workload} | {goal} | {pinned} | {migrating} | {} |", verdict.text());
    }
    text += "\n### Everything\n\nMedians, in brackets the ratio to the best peer. An asterisk stands where a \
             runtime is given less to do, or has failed (below); it is not taken for the best then.\n\n";
    text += &medians(report);
    text += &speedups(report);
    text
}

/// A line for each metric of each workload, a column for each runtime.
fn medians(report: &Report) -> String {
    let runs =
        |runtime: &Runtime| report.table_groups().flatten().any(|cell| cell.runtime == *runtime);
    let runtimes: Vec<_> = Runtime::ALL.into_iter().filter(runs).collect();
    let names: Vec<_> = runtimes.iter().map(|runtime| runtime.name()).collect();
    let mut text = format!("| workload | | {} |\n|---|---|", names.join(" | "));
    text += &"---|".repeat(runtimes.len());
    text += "\n";
    let mut notes = String::new();
    for group in report.table_groups() {
        let workload = group[0].workload;
        for &metric in workload.metrics() {
            let _ = write!(text, "| {} | {} |", workload.name(), metric.unit);
            let best = best_peer(group, metric);
            for runtime in &runtimes {
                let cell = group.iter().find(|cell| cell.runtime == *runtime);
                let _ = write!(
                    text,
                    " {} |",
                    cell.map_or_else(String::new, |cell| value(cell, metric, best))
                );
            }
            text += "\n";
        }
        for cell in group {
            let remarks = remarks(cell, workload.size(report.quick));
            if !remarks.is_empty() {
                let (workload, runtime) = (workload.name(), cell.runtime.name());
                let _ = writeln!(notes, "- {workload} on {runtime}: {}", remarks.replace('|', "/"));
            }
        }
    }
    if !notes.is_empty() {
        text += &format!("\nLess to do, and failures:\n\n{notes}");
    }
    text
}

fn value(cell: &Cell, metric: Metric, best: Option<f64>) -> String {
    let less = cell.scaled_down || cell.spared.is_some() || !cell.failures.is_empty();
    let star = if less { "*" } else { "" };
    let Some(summary) = cell.summary(metric) else { return format!("fails{star}") };
    match best.and_then(|best| ratio(summary.median, best)) {
        Some(ratio) => format!("{}{star} ({ratio:.2})", short(summary.median)),
        None => format!("{}{star}", short(summary.median)),
    }
}

/// How many times faster each curve against workers is than with one; nothing where none was measured.
fn speedups(report: &Report) -> String {
    let mut rows = String::new();
    let of_workers =
        || report.point_groups().filter(|(point, _)| point.curve.axis == Axis::Workers);
    for (point, group) in of_workers().filter(|(point, _)| point.x > 1) {
        let first = of_workers().find(|(first, _)| first.curve == point.curve && first.x == 1);
        let Some((_, first)) = first else { continue };
        let Some(metric) = point.curve.workload.metrics().first() else { continue };
        for cell in group {
            let one = first.iter().find(|one| one.runtime == cell.runtime);
            let medians = one.and_then(|one| Some((one.summary(*metric)?, cell.summary(*metric)?)));
            let Some((one, many)) = medians else { continue };
            let Some(times) = ratio(one.median, many.median) else { continue };
            let (curve, x, runtime) = (point.curve.name, point.x, cell.runtime.name());
            let (from, to, unit) = (short(one.median), short(many.median), metric.unit);
            let _ = writeln!(
                rows,
                "| {curve} | {x} | {runtime} | {from} | {to} | {unit} | {times:.2} |"
            );
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\n### More workers\n\n| curve | workers | runtime | with one | with so many | | times as fast |\n\
         |---|---|---|---|---|---|---|\n{rows}"
    )
}

/// Three digits or so, without zeros at the end: a bound is not to look rounded.
fn trimmed(number: f64) -> String {
    match number {
        large if large >= 1_000.0 => format!("{number:.0}"),
        _ => format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Curve, Point};
    use crate::figures::Figures;
    use crate::stored::tests::made_up;
    use crate::workload::Workload;

    fn measured(mut cell: Cell, name: &str, value: f64) -> Cell {
        cell.figures = vec![Figures::one(name, value)];
        cell
    }

    fn report(cells: Vec<Cell>) -> Report {
        Report { cells, ..made_up() }
    }

    fn verdict(report: &Report, workload: &str) -> Verdict {
        judge(report).into_iter().find(|one| one.goal.workload == workload).unwrap().verdict
    }

    #[test]
    fn a_goal_is_met_at_its_bound() {
        let cell =
            |runtime, value| measured(Cell::new(Workload::Yield, runtime, false), "ns", value);
        let with = |bine, migrate| {
            let peers = [cell(Runtime::Tokio, 30.0), cell(Runtime::Go, 130.0)];
            let ours = [cell(Runtime::Bine, bine), cell(Runtime::BineMigrate, migrate)];
            verdict(&report(peers.into_iter().chain(ours).collect()), "yield")
        };
        assert_eq!(with(15.0, 14.0), Verdict::Met);
        assert_eq!(with(15.0, 16.0), Verdict::Pinned);
        assert_eq!(with(16.0, 15.0), Verdict::Migrating);
        assert_eq!(with(16.0, 16.0), Verdict::Missed);
        assert_eq!(verdict(&report(Vec::new()), "yield"), Verdict::Open);
    }

    #[test]
    fn a_rate_is_to_be_high() {
        let cell =
            |runtime, value| measured(Cell::new(Workload::Echo100, runtime, false), "rate", value);
        let with = |bine| {
            let cells = vec![cell(Runtime::Tokio, 100.0), cell(Runtime::Bine, bine)];
            let judged = judge(&report(cells));
            let of_rate =
                |one: &Judged| one.goal.workload == "echo-100" && one.goal.metric == "rate";
            judged.into_iter().find(of_rate).unwrap().verdict
        };
        assert_eq!(with(111.0), Verdict::Met);
        assert_eq!(with(109.0), Verdict::Missed);
    }

    #[test]
    fn two_workers_are_compared_with_one() {
        let curve = Curve::named("forkjoin-workers").unwrap();
        let at = |x, ms| {
            let cell = Cell::of_curve(Point { curve, x }, Runtime::Bine, false);
            measured(cell, "ms", ms)
        };
        assert_eq!(verdict(&report(vec![at(1, 100.0), at(2, 55.0)]), curve.name), Verdict::Met);
        assert_eq!(verdict(&report(vec![at(1, 100.0), at(2, 60.0)]), curve.name), Verdict::Missed);
    }

    #[test]
    fn only_threads_that_migrate_can_flee_from_a_hog() {
        let cell = |runtime, value| {
            measured(Cell::new(Workload::Hogs, runtime, false), "late_max_ms", value)
        };
        let with = |bine, migrate| {
            let ours = [cell(Runtime::Bine, bine), cell(Runtime::BineMigrate, migrate)];
            let peer = [cell(Runtime::May, 2.0)];
            verdict(&report(peer.into_iter().chain(ours).collect()), "hogs")
        };
        assert_eq!(with(500.0, 2.0), Verdict::Met);
        assert_eq!(with(1.0, 3.0), Verdict::Missed);
    }

    #[test]
    fn what_is_outside_the_markers_stays() {
        let text = format!("# Above\n\n{BEGIN}\nold\n{END}\n\nBelow.\n");
        let once = insert(&text, &made_up()).unwrap();
        assert!(once.starts_with("# Above\n") && once.ends_with("Below.\n"));
        assert!(!once.contains("old") && once.contains("| yield |"));
        assert_eq!(insert(&once, &made_up()).unwrap(), once);
        assert!(insert("nothing", &made_up()).is_err());
    }

    #[test]
    fn goals_name_what_they_are_about() {
        let described: Vec<_> = GOALS.iter().map(Goal::describe).collect();
        assert!(described.contains(&"ns: 0.5 times tokio's or less".into()), "{described:?}");
        assert!(described.contains(&"ns: 1 times the best of threads and go or less".into()));
        assert!(described.contains(&"bytes: 4813 bytes a thread or less".into()));
    }
}
