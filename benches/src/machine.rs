//! What a reader of the figures must know of the machine.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::go;

/// The machine, how busy it was when the run began, and what was compared on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    processor: String,
    cpus: usize,
    /// Gibibytes.
    memory: u64,
    kernel: String,
    /// The load average of the last minute: what others were doing.
    load: String,
    /// The day of the run, in UTC: `2026-01-31`.
    date: String,
    /// The compiler and the peers, with their versions.
    versions: Vec<String>,
}

impl Machine {
    /// Describes the machine of this process; what cannot be found out is `unknown`.
    pub(crate) fn inspect() -> Self {
        let first_word =
            |path| Some(fs::read_to_string(path).ok()?.split(' ').next()?.trim().into());
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            memory: memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            kernel: first_word("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            load: first_word("/proc/loadavg").unwrap_or_else(unknown),
            date: date(since_1970.as_secs() / (24 * 60 * 60)),
            versions: versions(),
        }
    }

    /// The day of the run.
    pub(crate) fn date(&self) -> &str {
        &self.date
    }

    /// The compiler and the peers, separated by commas.
    pub(crate) fn versions(&self) -> String {
        self.versions.join(", ")
    }

    /// For the JSON report.
    pub(crate) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "cpus": self.cpus,
            "memory_gib": self.memory,
            "kernel": self.kernel,
            "load_before": self.load,
            "date": self.date,
            "versions": self.versions,
        })
    }

    /// Reads what [`json`](Self::json) made; `None` if something is missing.
    pub(crate) fn from_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let versions = json["versions"].as_array()?.iter();
        Some(Self {
            processor: text("processor")?,
            cpus: json["cpus"].as_u64()? as usize,
            memory: json["memory_gib"].as_u64()?,
            kernel: text("kernel")?,
            load: text("load_before")?,
            date: text("date")?,
            versions: versions.map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cpus, memory, kernel, load, .. } = self;
        write!(
            f,
            "{processor}, {cpus} CPUs, {memory} GiB, Linux {kernel}, load {load} when it began"
        )
    }
}

fn unknown() -> String {
    "unknown".into()
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(unknown, |(_, name)| name.trim().to_owned())
}

/// Gibibytes, rounded; 0 if it is not told.
fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.map_or(0, |number| (number + (1 << 19)) >> 20)
}

/// The day that is so many days after the first one of 1970, by the Gregorian calendar. Months are counted
/// from March, so that the day that leap years add is the last of a year.
fn date(days: u64) -> String {
    let (mut year, mut rest) = (1969, days + 306);
    let leap = |year: u64| {
        year.is_multiple_of(400) || (year.is_multiple_of(4) && !year.is_multiple_of(100))
    };
    loop {
        // The year that begins in March of `year` ends with the February of the next one.
        let length = if leap(year + 1) { 366 } else { 365 };
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let mut month = 3;
    for length in [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    if month > 12 {
        (year, month) = (year + 1, month - 12);
    }
    format!("{year}-{month:02}-{:02}", rest + 1)
}

/// The compiler and Go as they call themselves, and the crates as they are locked.
fn versions() -> Vec<String> {
    let said = |program: &OsStr, argument: &str| {
        let output = Command::new(program).arg(argument).stderr(Stdio::null()).output().ok()?;
        let line = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| line.trim().to_owned())
    };
    let rustc = said("rustc".as_ref(), "--version").unwrap_or_else(|| "rustc unknown".into());
    let go = go::toolchain().and_then(|go| said(&go, "version"));
    let crates = ["tokio", "may", "corosensei", "crossbeam-channel", "async-channel"];
    let locked = crates.iter().filter_map(|name| {
        let entry = LOCKED.split("[[package]]").find(|entry| {
            entry.lines().any(|line| line.strip_prefix("name = ") == Some(&format!("{name:?}")))
        })?;
        let version = entry.lines().find_map(|line| line.strip_prefix("version = "))?;
        Some(format!("{name} {}", version.trim_matches('"')))
    });
    [rustc].into_iter().chain(locked).chain(go).collect()
}

const LOCKED: &str = include_str!("../../Cargo.lock");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_or_unknown() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Fast 9000 \n"), "Fast 9000");
        assert_eq!(processor("processor\t: 0\n"), "unknown");
    }

    #[test]
    fn memory_is_rounded() {
        assert_eq!(memory("MemTotal:       24650852 kB\nMemFree: 1 kB\n"), 24);
        assert_eq!(memory(""), 0);
    }

    #[test]
    fn days_have_their_dates() {
        let known =
            [(0, "1970-01-01"), (58, "1970-02-28"), (59, "1970-03-01"), (364, "1970-12-31")];
        let later = [(11_016, "2000-02-29"), (20_454, "2026-01-01"), (20_780, "2026-11-23")];
        for (days, text) in known.into_iter().chain(later) {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn a_machine_survives_the_way_through_json() {
        let machine = Machine::inspect();
        assert!(machine.versions().contains("tokio 1."), "{machine:?}");
        assert_eq!(Machine::from_json(&machine.json()), Some(machine));
    }
}
