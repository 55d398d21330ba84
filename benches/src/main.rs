//! Throughput of bine beside its peers: OS threads, Tokio, May and Go.
//!
//! `cargo run --release -p bine-benches -- --help` says how to use it. The program runs itself
//! again for every measurement, and once more for every server, so that measurements share
//! nothing:
//!
//! ```text
//! bine-benches                 the run: rounds, progress                round_robin, curve, progress
//!   bine-benches measure       one workload on one runtime              blocking, tokio_peer, go, coroutines
//!     bine-benches serve       the server of a workload                 server, echo, http
//! ```
//!
//! What comes out is a table, JSON, a page with charts and a part of `docs/performance.md` (`report`,
//! `stored`, `html`, `performance`).

use std::io;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;

use crate::blocking::{bine::Bine, may::May, threads::Threads};
use crate::cli::{Child, Cli, Seat, Settings};
use crate::figures::Figures;
use crate::machine::Machine;
use crate::process::INTERRUPTED;
use crate::report::Report;
use crate::workload::{Runtime, Size, Workload};

mod blocking;
mod cli;
mod coroutines;
mod curve;
mod echo;
mod figures;
mod go;
mod html;
mod http;
mod lateness;
mod load;
mod machine;
mod performance;
mod process;
mod progress;
mod raw;
mod report;
mod round_robin;
mod server;
mod statistics;
mod stored;
mod tokio_peer;
mod workload;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.child {
        Some(child) => be_child(child).map(|()| ExitCode::SUCCESS),
        None if cli.settings.list => {
            list(cli.settings.quick);
            Ok(ExitCode::SUCCESS)
        }
        None => compare(&cli.settings),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bine-benches: {error}");
        ExitCode::FAILURE
    })
}

/// Takes one measurement, or serves.
fn be_child(child: Child) -> io::Result<()> {
    process::die_with_parent()?;
    match child {
        Child::Serve { workload, seat } => server::serve(workload, &seat),
        Child::Measure { workload, size, seat } => {
            print!("{}", measure(workload, size, &seat)?);
            Ok(())
        }
    }
}

fn measure(workload: Workload, size: Size, seat: &Seat) -> io::Result<Figures> {
    server::raise_descriptor_limit()?;
    if workload.is_of_coroutines() {
        return Ok(coroutines::measure(workload, seat.runtime, size));
    }
    if workload.service().is_some() {
        return server::measure(seat, workload, size);
    }
    let workers = seat.workers;
    Ok(match seat.runtime {
        Runtime::Threads => blocking::measure::<Threads>(workload, size, workers),
        Runtime::May => blocking::measure::<May>(workload, size, workers),
        Runtime::Bine => blocking::measure::<Bine<false>>(workload, size, workers),
        Runtime::BineMigrate => blocking::measure::<Bine<true>>(workload, size, workers),
        Runtime::Tokio => tokio_peer::measure(workload, size, workers),
        Runtime::Go => return Err(go::become_measurement(seat, workload, size)),
        Runtime::Corosensei => return Err(io::Error::other("coroutines have no scheduler")),
        Runtime::GoNetHttp | Runtime::Raw => {
            return Err(io::Error::other(format!("{} is a server alone", seat.runtime.name())));
        }
    })
}

/// The run that the user asked for, or the report of an earlier one.
fn compare(settings: &Settings) -> io::Result<ExitCode> {
    let report = match &settings.from {
        Some(path) => {
            let json = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            let what = || io::Error::other(format!("{} is no run of this program", path.display()));
            stored::report(&json).ok_or_else(what)?
        }
        None => run(settings)?,
    };
    print!("{}", report.table());
    if let Some(path) = &settings.json {
        std::fs::write(path, format!("{:#}\n", report.json()))?;
    }
    if let Some(path) = &settings.html {
        std::fs::write(path, html::page(&report))?;
    }
    if let Some(path) = &settings.markdown {
        let text = std::fs::read_to_string(path)?;
        let text = performance::insert(&text, &report).map_err(io::Error::other)?;
        std::fs::write(path, text)?;
    }
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    Ok(if interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// Measures what the user has chosen.
fn run(settings: &Settings) -> io::Result<Report> {
    // Interrupted once, the run ends with a report of what there is.
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).map_err(io::Error::other)?;
    let seats = seats(settings)?;
    let machine = Machine::inspect();
    let cells = round_robin::run(settings, &seats)?;
    let (rounds, workers) = (settings.chosen_rounds(), settings.workers);
    Ok(Report { machine, rounds, workers, quick: settings.quick, cells })
}

/// The runtimes to run. Go is left out where it is not installed, unless it was asked for.
fn seats(settings: &Settings) -> io::Result<Vec<Seat>> {
    let all = settings.runtimes.is_empty();
    let chosen = |runtime: &Runtime| all || settings.runtimes.contains(runtime);
    let mut seats = Vec::new();
    for runtime in Runtime::ALL.into_iter().filter(chosen) {
        let mut seat = Seat { runtime, workers: settings.workers, go_program: None };
        if runtime.is_go() {
            match go::toolchain() {
                Some(go) => seat.go_program = Some(go::build(&go)?),
                None if all && runtime == Runtime::GoNetHttp => continue,
                None if all => {
                    eprintln!("go is left out: it is not on the PATH, and GO does not name it");
                    continue;
                }
                None => return Err(io::Error::other("go is not on the PATH, nor named by GO")),
            }
        }
        seats.push(seat);
    }
    Ok(seats)
}

fn list(quick: bool) {
    println!("workloads:");
    for workload in Workload::ALL {
        println!("  {:<14} {}", workload.name(), workload.describe(workload.size(quick)));
    }
    println!("curves:");
    for curve in &curve::CURVES {
        println!("  {:<18}{}, against {}", curve.name, curve.title, curve.axis.name());
    }
    println!("runtimes: {}", Runtime::ALL.map(Runtime::name).join(", "));
}
