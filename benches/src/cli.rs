//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::curve::{CURVES, Curve};
use crate::workload::{Runtime, Service, Size, Workload};

/// Runs the same workloads on bine and on its peers, in turn, and compares them.
///
/// Every measurement runs in a fresh process. A round runs each workload once on every runtime,
/// one after the other, so that drift of the machine meets all of them alike.
#[derive(Debug, Parser)]
#[command(name = "bine-benches", version)]
pub(crate) struct Cli {
    /// A process of the program's own.
    #[command(subcommand)]
    pub(crate) child: Option<Child>,
    /// What to run and how.
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// What the user chooses.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Workloads to run, separated by commas; `echo` and `http` stand for all sizes [default: all]
    #[arg(long, value_delimiter = ',', value_parser = parse_workloads)]
    workloads: Vec<Workloads>,
    /// Runtimes to run, separated by commas [default: all that this machine has]
    #[arg(long, value_delimiter = ',', value_parser = parse_runtime)]
    pub(crate) runtimes: Vec<Runtime>,
    /// How many times each measurement is taken [default: 5, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Worker threads of each runtime; the curves against workers end at as many, or at the CPUs there are
    #[arg(long, default_value_t = 2, value_parser = parse_workers)]
    pub(crate) workers: usize,
    /// Smaller sizes: a look, not a figure to publish
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seconds after which a measurement is given up
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Curves to measure, separated by commas; `all` and `none` are understood [default: all, or none
    /// where workloads are chosen]
    #[arg(long, value_delimiter = ',', value_parser = parse_curves)]
    curves: Vec<Curves>,
    /// Write every value to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report with charts to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Replace what this file has between its markers by the goals and the table
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Measure nothing: report what an earlier run has written by --json
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// List workloads and runtimes, and run nothing
    #[arg(long)]
    pub(crate) list: bool,
}

impl Settings {
    /// The chosen workloads, each once, in the order of the report.
    pub(crate) fn chosen_workloads(&self) -> Vec<Workload> {
        let wanted = |w: &Workload| {
            self.workloads.is_empty() || self.workloads.iter().any(|some| some.0.contains(w))
        };
        Workload::ALL.into_iter().filter(wanted).collect()
    }

    /// The chosen curves, each once.
    pub(crate) fn chosen_curves(&self) -> Vec<&'static Curve> {
        let all = self.curves.is_empty() && self.workloads.is_empty();
        let wanted = |curve: &&Curve| all || self.curves.iter().any(|some| some.0.contains(curve));
        CURVES.iter().filter(wanted).collect()
    }

    /// How many times each measurement is taken.
    pub(crate) fn chosen_rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// When a measurement is given up.
    pub(crate) fn time_limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// The processes that a run consists of; none of them is for users.
#[derive(Debug, Subcommand)]
pub(crate) enum Child {
    /// Take one measurement and print its figures.
    #[command(hide = true)]
    Measure {
        /// What to run.
        #[arg(long, value_parser = parse_workload)]
        workload: Workload,
        /// How much of it.
        #[command(flatten)]
        size: Size,
        /// Where to run it.
        #[command(flatten)]
        seat: Seat,
    },
    /// Serve what a workload asks for until killed; the first line of output is the port.
    #[command(hide = true)]
    Serve {
        /// What to serve.
        #[arg(long, value_parser = parse_workload)]
        workload: Workload,
        /// Where to run it.
        #[command(flatten)]
        seat: Seat,
    },
}

/// The runtime of a child process.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seat {
    /// Which runtime.
    #[arg(long, value_parser = parse_runtime)]
    pub(crate) runtime: Runtime,
    /// Its worker threads.
    #[arg(long, value_parser = parse_workers)]
    pub(crate) workers: usize,
    /// The built program of `benches/go`, for the runtime `go`.
    #[arg(long)]
    pub(crate) go_program: Option<PathBuf>,
}

impl Seat {
    /// The arguments that a child process reads this from.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--runtime".into(), self.runtime.name().into(), "--workers".into()];
        arguments.push(self.workers.to_string().into());
        if let Some(program) = &self.go_program {
            arguments.extend(["--go-program".into(), program.into()]);
        }
        arguments
    }
}

/// What one name on the command line stands for.
#[derive(Clone, Debug)]
struct Workloads(Vec<Workload>);

/// What one name of a curve on the command line stands for.
#[derive(Clone, Debug)]
struct Curves(Vec<&'static Curve>);

fn parse_curves(name: &str) -> Result<Curves, String> {
    match name {
        "all" => Ok(Curves(CURVES.iter().collect())),
        "none" => Ok(Curves(Vec::new())),
        _ => {
            let found = Curve::named(name).map(|curve| Curves(vec![curve]));
            let names: Vec<_> = CURVES.iter().map(|curve| curve.name).collect();
            found.ok_or_else(|| format!("one of: all, none, {}", names.join(", ")))
        }
    }
}

fn parse_workloads(name: &str) -> Result<Workloads, String> {
    let service = match name {
        "echo" => Some(Service::Echo),
        "http" => Some(Service::Http),
        _ => None,
    };
    if service.is_some() {
        let all = Workload::ALL.into_iter().filter(|w| w.service() == service);
        return Ok(Workloads(all.collect()));
    }
    parse_workload(name).map(|one| Workloads(vec![one]))
}

fn parse_workload(name: &str) -> Result<Workload, String> {
    let found = Workload::ALL.into_iter().find(|w| w.name() == name);
    found.ok_or_else(|| {
        format!("one of: echo, http, {}", Workload::ALL.map(Workload::name).join(", "))
    })
}

fn parse_runtime(name: &str) -> Result<Runtime, String> {
    let found = Runtime::ALL.into_iter().find(|r| r.name() == name);
    found.ok_or_else(|| format!("one of: {}", Runtime::ALL.map(Runtime::name).join(", ")))
}

fn parse_workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..) => Ok(workers),
        _ => Err("a number of at least 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("bine-benches").chain(line.split_whitespace()))
    }

    #[test]
    fn everything_is_run_by_default() {
        let settings = parse("").unwrap().settings;
        assert_eq!(settings.chosen_workloads(), Workload::ALL);
        assert!(settings.runtimes.is_empty());
        assert_eq!((settings.chosen_rounds(), settings.workers), (5, 2));
    }

    #[test]
    fn lists_are_separated_by_commas_and_sorted() {
        let settings = parse("--workloads pairs,yield,pairs --runtimes tokio,bine-migrate");
        let settings = settings.unwrap().settings;
        assert_eq!(settings.chosen_workloads(), [Workload::Yield, Workload::Pairs]);
        assert_eq!(settings.runtimes, [Runtime::Tokio, Runtime::BineMigrate]);
    }

    #[test]
    fn echo_and_http_stand_for_all_their_sizes() {
        let echo = parse("--workloads echo").unwrap().settings.chosen_workloads();
        assert_eq!(echo.first(), Some(&Workload::Echo100));
        assert_eq!(echo.last(), Some(&Workload::Idle10000));
        let http = parse("--workloads http").unwrap().settings.chosen_workloads();
        assert_eq!(http, [Workload::Http64, Workload::Http512, Workload::HttpPipelined]);
    }

    #[test]
    fn curves_are_measured_by_default_unless_workloads_are_chosen() {
        let names = |line| -> Vec<_> {
            parse(line).unwrap().settings.chosen_curves().iter().map(|curve| curve.name).collect()
        };
        assert_eq!(names("").len(), CURVES.len());
        assert_eq!(names("--curves none"), [""; 0]);
        assert_eq!(names("--workloads yield"), [""; 0]);
        assert_eq!(names("--workloads yield --curves wake,spawn"), ["spawn", "wake"]);
        assert!(parse("--curves nosuch").is_err());
    }

    #[test]
    fn quick_runs_fewer_rounds_unless_told() {
        assert_eq!(parse("--quick").unwrap().settings.chosen_rounds(), 3);
        assert_eq!(parse("--quick --rounds 7").unwrap().settings.chosen_rounds(), 7);
    }

    #[test]
    fn wrong_names_and_numbers_are_refused() {
        for line in
            ["--workloads nosuch", "--runtimes nosuch", "--rounds 0", "--workers 0", "--timeout 0"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_child_is_told_everything_by_its_arguments() {
        let given =
            Seat { runtime: Runtime::Go, workers: 3, go_program: Some(PathBuf::from("/x")) };
        let line = ["bine-benches", "measure", "--workload", "echo-100"].map(OsString::from);
        let half = Size::new(3, 4, 5);
        let line = line.into_iter().chain(half.arguments()).chain(given.arguments());
        let cli = Cli::try_parse_from(line).unwrap();
        let Some(Child::Measure { workload, size, seat }) = cli.child else {
            panic!("not a measurement");
        };
        assert_eq!((workload, size), (Workload::Echo100, half));
        assert_eq!(seat, given);
    }
}
