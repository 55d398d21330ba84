//! What a reader of the figures must know of the machine.

use std::fmt::{self, Display};
use std::fs;

use serde_json::{Value, json};

/// The machine and how busy it was when the run began.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    cpus: usize,
    kernel: String,
    /// The load average of the last minute: what others were doing.
    load: String,
}

impl Machine {
    /// Describes the machine of this process; what cannot be found out is `unknown`.
    pub(crate) fn inspect() -> Self {
        let first_word =
            |path| Some(fs::read_to_string(path).ok()?.split(' ').next()?.trim().into());
        Self {
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: first_word("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            load: first_word("/proc/loadavg").unwrap_or_else(unknown),
        }
    }

    /// For the JSON report.
    pub(crate) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "cpus": self.cpus,
            "kernel": self.kernel,
            "load_before": self.load,
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cpus, kernel, load } = self;
        write!(f, "{processor}, {cpus} CPUs, Linux {kernel}, load {load} when it began")
    }
}

fn unknown() -> String {
    "unknown".into()
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(unknown, |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_or_unknown() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Fast 9000 \n"), "Fast 9000");
        assert_eq!(processor("processor\t: 0\n"), "unknown");
    }
}
