//! What the primitives of `bine::sync` and `bine::channel` cost where nobody is in the way, and what a wait
//! costs.
//!
//! `cargo run --release -p bine-benches --bin uncontended [ROUNDS]` prints the nanoseconds of locking and
//! unlocking, with bine's locks, parking_lot's and std's: the median of the rounds, the least and the
//! most. The contenders of a group take turns within each round, so that a change of the machine's speed
//! hits all of them.
//!
//! `... --bin uncontended instructions [NAME]` prints how many instructions those take, and everything else
//! (or all whose names contain NAME). They are counted by callgrind, which has to be there.
//!
//! `... --bin uncontended check FILE` counts a choice of them, and compares with what FILE has for this
//! target; `... record FILE` writes them there (`guard.rs`).

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bine::runtime::Builder;

mod callgrind;
mod guard;
mod operations;
mod record;
mod waits;

const LOCKINGS: usize = 2_000_000;

/// Something that is done so many times.
struct Operation {
    name: &'static str,
    run: fn(usize),
}

/// Groups of operations; the first of each is not one, but what it takes to go round the loop.
type Groups = [&'static [Operation]];

/// A number of rounds in each of which so many waits are waited, on the only worker.
struct Wait {
    name: &'static str,
    each: usize,
    run: fn(usize),
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [what, ..] if what == "instructions" => {
            let wanted = arguments.get(1).map_or("", String::as_str);
            return print_instructions(wanted);
        }
        [what, file] if what == "check" => return guard::check(Path::new(file)),
        [what, file] if what == "record" => return guard::record(Path::new(file)),
        // What callgrind runs.
        [what, place, name, count] if what == "only" => {
            run_only(place, name, count.parse().expect("COUNT is a number"));
        }
        _ => {
            let rounds = arguments.first().map_or(31, |n| n.parse().expect("ROUNDS is a number"));
            println!("on an OS thread");
            print_times(rounds);
            println!("on a green thread");
            bine::run(move || print_times(rounds));
        }
    }
    ExitCode::SUCCESS
}

fn print_times(rounds: usize) {
    for group in operations::LOCKS {
        let mut figures = vec![Vec::with_capacity(rounds); group.len()];
        for _ in 0..rounds {
            for (operation, figures) in group.iter().zip(&mut figures) {
                let start = Instant::now();
                (operation.run)(LOCKINGS);
                figures.push(start.elapsed().as_nanos() as f64 / LOCKINGS as f64);
            }
        }
        for (operation, figures) in group.iter().zip(&mut figures) {
            figures.sort_by(f64::total_cmp);
            let (least, most) = (figures[0], figures[rounds - 1]);
            let median = figures[rounds / 2];
            println!("  {median:7.2} ns  ({least:.2} to {most:.2})  {}", operation.name);
        }
    }
}

/// Where operations are run for counting: the name of the place on the command line.
const OS: &str = "os";
const GREEN: &str = "green";

fn groups() -> impl Iterator<Item = &'static [Operation]> {
    operations::LOCKS.iter().chain(operations::OTHERS).copied()
}

fn run_only(place: &str, name: &str, count: usize) {
    let mut operations = groups().flatten().map(|operation| (operation.name, operation.run));
    let mut waits = waits::WAITS.iter().map(|wait| (wait.name, wait.run));
    let found = operations.find(|found| found.0 == name);
    let run =
        found.or_else(|| waits.find(|found| found.0 == name)).expect("there is such a name").1;
    if place == OS {
        return run(count);
    }
    // No spares: the order of the waits is then the same each time.
    let builder = Builder::new().workers(1).spare_workers(0);
    builder.build().expect("the runtime starts").run(move || run(count));
}

fn print_instructions(wanted: &str) -> ExitCode {
    match print_operations(wanted).and_then(|()| print_waits(wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What an operation takes in one more of many rounds. A clock that is looked at now and then weighs little.
fn operation_instructions(place: &str, name: &str) -> io::Result<f64> {
    callgrind::instructions(place, name, 20_000)
}

/// The same for a round of a wait, which is longer.
fn wait_instructions(name: &str) -> io::Result<f64> {
    callgrind::instructions(GREEN, name, 4_000)
}

fn print_operations(wanted: &str) -> io::Result<()> {
    println!("{OS:>9}{GREEN:>9}   instructions of");
    for group in groups() {
        let (base, rest) = group.split_first().expect("a group has its loop");
        let wanted: Vec<_> = rest.iter().filter(|one| one.name.contains(wanted)).collect();
        if wanted.is_empty() {
            continue;
        }
        let without =
            [operation_instructions(OS, base.name)?, operation_instructions(GREEN, base.name)?];
        for Operation { name, .. } in wanted {
            let os = operation_instructions(OS, name)? - without[0];
            let green = operation_instructions(GREEN, name)? - without[1];
            println!("{os:9.1}{green:9.1}   {name}");
        }
    }
    Ok(())
}

fn print_waits(wanted: &str) -> io::Result<()> {
    println!("{GREEN:>18}   instructions of a wait, with the wake-up and the change of threads");
    for Wait { name, each, .. } in waits::WAITS.iter().filter(|wait| wait.name.contains(wanted)) {
        println!("{:18.1}   {name}", wait_instructions(name)? / *each as f64);
    }
    Ok(())
}
