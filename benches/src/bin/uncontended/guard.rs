//! Keeps the instruction counts where they are: compares a choice of operations with stored counts.
//!
//! A count that differs is taken again, up to [`TRIES`] times, and the lowest one is compared: a worker looks
//! at clocks, and the monitor may take something from it, both of which only ever add to its work.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::record::{Count, Record, Target, Verdict};
use crate::{GREEN, OS, groups, operation_instructions, wait_instructions, waits};

const TRIES: usize = 3;

/// Operations that find nobody in their way, on an OS thread and on a green one.
const OPERATIONS: &[&str] = &[
    "Coroutine: resume, suspend",
    "Coroutine: new, resume, drop",
    "bine::sync::Mutex",
    "bine::sync::RwLock, read",
    "bine::sync::RwLock, write",
    "Semaphore: acquire, give back",
    "oneshot: channel, send, recv, drop",
    "unbounded: send, recv",
    "bounded: send, recv",
    "bounded: send, recv by select! of 8",
];

/// What waits, on green threads.
const WAITS: &[&str] = &[
    "yield_now",
    "spawn, join",
    "spawn 100, join 100",
    "park, unpark",
    "park_timeout, unpark: with a timer set and cancelled",
    "Mutex",
    "Condvar",
    "unbounded",
    "bounded(1)",
    "bounded(0)",
    "select! of 1, bounded(1)",
    "select! of 8, bounded(16)",
];

/// One thing to count.
struct Item {
    place: &'static str,
    name: &'static str,
}

impl Item {
    /// Its name in the file.
    fn title(&self) -> String {
        format!("{:<5}  {}", self.place, self.name)
    }

    /// Instructions of one wait, or of one operation without the loop around it.
    fn count(&self) -> io::Result<f64> {
        if let Some(wait) = waits::WAITS.iter().find(|wait| wait.name == self.name) {
            return Ok(wait_instructions(self.name)? / wait.each as f64);
        }
        let mut groups = groups().filter_map(|group| group.split_first());
        let found = groups.find(|(_, rest)| rest.iter().any(|one| one.name == self.name));
        let (base, _) = found.expect("there is such an operation");
        Ok(operation_instructions(self.place, self.name)? - loop_instructions(base.name)?)
    }
}

/// Instructions of a loop around nothing, which are the same on all threads; counted once.
fn loop_instructions(name: &'static str) -> io::Result<f64> {
    static KNOWN: Mutex<BTreeMap<&str, f64>> = Mutex::new(BTreeMap::new());
    if let Some(known) = KNOWN.lock().expect("nobody panics with it").get(name) {
        return Ok(*known);
    }
    let count = operation_instructions(OS, name)?;
    KNOWN.lock().expect("nobody panics with it").insert(name, count);
    Ok(count)
}

fn items() -> Vec<Item> {
    let on = |place| OPERATIONS.iter().map(move |name| Item { place, name });
    let waits = WAITS.iter().map(|name| Item { place: GREEN, name });
    on(OS).chain(on(GREEN)).chain(waits).collect()
}

/// Counts, and compares with the file.
pub(crate) fn check(file: &Path) -> ExitCode {
    match compare(file) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failure(&error),
    }
}

/// Counts, and writes to the file.
pub(crate) fn record(file: &Path) -> ExitCode {
    let written = read(file).and_then(|mut record| {
        let counts = items()
            .into_iter()
            .zip(count_all(|_, _| true)?)
            .map(|(item, instructions)| Count { name: item.title(), instructions });
        let counts = counts.collect();
        record.replace(Target { name: target(), toolchain: toolchain()?, counts });
        std::fs::write(file, record.to_string())
    });
    written.map_or_else(|error| failure(&error), |()| ExitCode::SUCCESS)
}

fn failure(error: &io::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn read(file: &Path) -> io::Result<Record> {
    Record::parse(&std::fs::read_to_string(file)?).map_err(io::Error::other)
}

/// Prints a line for each count. False if one has risen.
fn compare(file: &Path) -> io::Result<bool> {
    let (record, target, toolchain) = (read(file)?, target(), toolchain()?);
    let Some(stored) = record.target(&target) else {
        println!("nothing is stored for {target}");
        return Ok(true);
    };
    let same = stored.toolchain == toolchain;
    if !same {
        println!(
            "counted with {toolchain}\nstored with  {}\nso the bound is wide",
            stored.toolchain
        );
    }
    let verdict =
        |item: &Item, now| stored.get(&item.title()).map(|stored| Verdict::of(stored, now, same));
    let now = count_all(|item, now| {
        matches!(verdict(item, now), Some(Verdict::Risen | Verdict::Fallen))
    })?;
    let (mut risen, mut fallen, mut new) = (0, 0, 0);
    println!("   stored      now   change");
    for (item, now) in items().iter().zip(now) {
        let title = item.title();
        let Some(before) = stored.get(&title) else {
            println!("{:>9}{now:9.1}      new   {title}", "-");
            new += 1;
            continue;
        };
        let remark = match verdict(item, now) {
            Some(Verdict::Risen) => "   RISEN",
            Some(Verdict::Fallen) => "   fallen",
            _ => "",
        };
        risen += usize::from(remark == "   RISEN");
        fallen += usize::from(remark == "   fallen");
        let change = (now / before - 1.0) * 100.0;
        println!("{before:9.1}{now:9.1} {change:+7.1}%   {title}{remark}");
    }
    if risen + fallen + new > 0 {
        println!(
            "{risen} have risen, {fallen} have fallen, {new} are new: ci/instructions.sh --update stores them"
        );
    }
    Ok(risen == 0 && new == 0)
}

/// Counts everything, as many at a time as there are CPUs. What `again` is true for is counted anew, and the
/// lowest count taken.
fn count_all(again: impl Fn(&Item, f64) -> bool + Sync) -> io::Result<Vec<f64>> {
    let items = items();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<_>> = Mutex::new((0..items.len()).map(|_| None).collect());
    let count = || {
        while let Some((index, item)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            let result = count_again(item, &again);
            results.lock().expect("nobody panics with it")[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        let counters = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..counters {
            scope.spawn(count);
        }
    });
    let results = results.into_inner().expect("nobody panics with it");
    results.into_iter().map(|result| result.expect("all are counted")).collect()
}

fn count_again(item: &Item, again: impl Fn(&Item, f64) -> bool) -> io::Result<f64> {
    let mut lowest = item.count()?;
    for _ in 1..TRIES {
        if !again(item, lowest) {
            break;
        }
        lowest = lowest.min(item.count()?);
    }
    Ok(lowest)
}

/// What the counts depend on and the compiler is told.
fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// Compiler and C library: malloc is among what is counted.
fn toolchain() -> io::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).arg("--version").output()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // SAFETY: it returns a string that lives for ever.
    let library = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    Ok(format!("{version}, glibc {}", library.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_guarded_is_there_once() {
        let mut titles: Vec<_> = items().iter().map(Item::title).collect();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), items().len());
        for item in items() {
            let operations = groups().flatten().map(|operation| operation.name);
            let known = operations.chain(waits::WAITS.iter().map(|wait| wait.name));
            assert_eq!(known.filter(|name| *name == item.name).count(), 1, "{}", item.name);
        }
    }
}
