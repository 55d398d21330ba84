//! Throughput of bine beside its peers: OS threads, Tokio, May and Go.
//!
//! `cargo run --release -p bine-benches -- --help` says how to use it. The program runs itself
//! again for every measurement, and once more for every server, so that measurements share
//! nothing:
//!
//! ```text
//! bine-benches                 the run: rounds, progress, report        round_robin, report
//!   bine-benches measure       one workload on one runtime              blocking, tokio_peer, go
//!     bine-benches serve       the server of a workload                 server, echo, http
//! ```

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
use crate::workload::{Runtime, Workload};

mod blocking;
mod cli;
mod echo;
mod figures;
mod go;
mod http;
mod lateness;
mod load;
mod machine;
mod process;
mod raw;
mod report;
mod round_robin;
mod server;
mod statistics;
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
        Child::Measure { workload, quick, seat } => {
            print!("{}", measure(workload, quick, &seat)?);
            Ok(())
        }
    }
}

fn measure(workload: Workload, quick: bool, seat: &Seat) -> io::Result<Figures> {
    server::raise_descriptor_limit()?;
    let size = workload.size_for(seat.runtime, quick);
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
        Runtime::GoNetHttp | Runtime::Raw => {
            return Err(io::Error::other(format!("{} is a server alone", seat.runtime.name())));
        }
    })
}

/// The run that the user asked for.
fn compare(settings: &Settings) -> io::Result<ExitCode> {
    // Interrupted once, the run ends with a report of what there is.
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).map_err(io::Error::other)?;
    let seats = seats(settings)?;
    let machine = Machine::inspect();
    let cells = round_robin::run(settings, &seats)?;
    let report = Report { settings, machine: &machine, cells: &cells };
    print!("{}", report.table());
    if let Some(path) = &settings.json {
        std::fs::write(path, format!("{:#}\n", report.json()))?;
    }
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    Ok(if interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
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
    println!("runtimes: {}", Runtime::ALL.map(Runtime::name).join(", "));
}
