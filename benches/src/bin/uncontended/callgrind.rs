//! Counts instructions with valgrind's callgrind: those of one OS thread, without those of the monitor and
//! of the thread that has started the runtime.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::OS;

/// The rounds of the shorter of the two runs whose difference is taken: what a process does once is in both.
const FEW: usize = 500;

/// What one of `more` rounds of an operation adds to a run.
///
/// # Errors
///
/// If valgrind cannot be started, or does not run this program.
pub(crate) fn instructions(place: &str, name: &str, more: usize) -> io::Result<f64> {
    let added = counted(place, name, FEW + more)? - counted(place, name, FEW)?;
    Ok(added / more as f64)
}

/// The instructions of the thread that works, in a process that does nothing but that, so many times.
fn counted(place: &str, name: &str, count: usize) -> io::Result<f64> {
    // Callgrind numbers threads in the order in which they start: the first of a runtime is its worker.
    let thread = if place == OS { 1 } else { 2 };
    let dumps = Dumps::new();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--compress-strings=yes"])
        .arg(format!("--callgrind-out-file={}", dumps.of_all().display()))
        .arg(std::env::current_exe()?)
        .args(["only", place, name, &count.to_string()])
        .output()
        .map_err(|error| io::Error::other(format!("valgrind: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("valgrind on {name:?}: {}\n{said}", output.status)));
    }
    let total = |path: &Path| total(&std::fs::read_to_string(path)?);
    total(&dumps.of(thread)).map_err(|error| io::Error::other(format!("thread {thread}: {error}")))
}

/// The sum that a dump ends with.
fn total(dump: &str) -> io::Result<f64> {
    let totals = dump.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    let number = totals.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("callgrind has written no totals"))
}

/// The files that callgrind writes, one for each thread, which go with this value.
struct Dumps(PathBuf);

impl Dumps {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bine-instructions.{}.{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn of_all(&self) -> &Path {
        &self.0
    }

    fn of(&self, thread: usize) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(format!("-{thread:02}"));
        name.into()
    }
}

impl Drop for Dumps {
    fn drop(&mut self) {
        // The one for the whole process is empty.
        let _ = std::fs::remove_file(&self.0);
        for thread in 1.. {
            if std::fs::remove_file(self.of(thread)).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_dump_is_its_last() {
        let dump = "events: Ir\ntotals: 1\n\nfn=(1)\n3 4\n\ntotals: 402148\n";
        assert_eq!(total(dump).unwrap(), 402_148.0);
        assert!(total("events: Ir\n").is_err());
    }
}
