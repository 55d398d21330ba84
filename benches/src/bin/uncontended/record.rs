//! The file of stored counts: its text, and what a new count means beside an old one.
//!
//! ```text
//! # Comments are kept.
//!
//! [x86_64-linux-gnu]
//! toolchain = rustc 1.95.0 (59807616e 2026-04-14), glibc 2.36
//!      76.0  green  bounded: send, recv
//! ```
//!
//! Counts belong to a target and to the toolchain that has compiled them. Another compiler chooses other
//! instructions, and so the bound is wider where the toolchain is not the one that they were stored with.

use std::fmt::{self, Display};

/// How much more than stored is a failure, with the same toolchain.
const SAME_TOOLCHAIN: f64 = 0.05;
/// The same with another one.
const OTHER_TOOLCHAIN: f64 = 0.25;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// The lines above the first target.
    head: String,
    targets: Vec<Target>,
}

/// What is stored for one target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// What it was built with.
    pub(crate) toolchain: String,
    /// What takes how much.
    pub(crate) counts: Vec<Count>,
}

/// Instructions for one operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Count {
    /// Where it ran, and its name, as the file has them.
    pub(crate) name: String,
    /// How many.
    pub(crate) instructions: f64,
}

/// What a new count means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is about as stored.
    Same,
    /// It has risen too much.
    Risen,
    /// It has fallen so much that the stored one would hide a later rise.
    Fallen,
}

impl Verdict {
    /// Compares; `same` tells whether the toolchain is the stored one.
    pub(crate) fn of(stored: f64, now: f64, same: bool) -> Self {
        let bound = if same { SAME_TOOLCHAIN } else { OTHER_TOOLCHAIN };
        match now / stored - 1.0 {
            change if change > bound => Self::Risen,
            change if change < -bound => Self::Fallen,
            _ => Self::Same,
        }
    }
}

impl Record {
    /// Reads what [`Display`] wrote.
    ///
    /// # Errors
    ///
    /// The first line that is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut record = Self::default();
        for line in text.lines() {
            let Some(target) = record.targets.last_mut() else {
                match section(line) {
                    Some(name) => record.targets.push(Target::new(name)),
                    None => record.head += &format!("{line}\n"),
                }
                continue;
            };
            if let Some(name) = section(line) {
                record.targets.push(Target::new(name));
            } else if let Some(toolchain) = line.strip_prefix("toolchain = ") {
                toolchain.clone_into(&mut target.toolchain);
            } else if let Some(count) = Count::parse(line) {
                target.counts.push(count);
            } else if !line.is_empty() {
                return Err(format!("not understood: {line}"));
            }
        }
        Ok(record)
    }

    /// What is stored for a target.
    pub(crate) fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// Puts `target` in the place of the one of its name.
    pub(crate) fn replace(&mut self, target: Target) {
        match self.targets.iter_mut().find(|old| old.name == target.name) {
            Some(old) => *old = target,
            None => self.targets.push(target),
        }
    }
}

fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

impl Target {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), toolchain: String::new(), counts: Vec::new() }
    }

    /// The stored count of that name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.counts.iter().find(|count| count.name == name).map(|count| count.instructions)
    }
}

impl Count {
    fn parse(line: &str) -> Option<Self> {
        let (number, name) = line.trim().split_once("  ")?;
        let instructions = number.parse().ok().filter(|number: &f64| *number > 0.0)?;
        Some(Self { name: name.trim().to_owned(), instructions })
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.head)?;
        for (index, Target { name, toolchain, counts }) in self.targets.iter().enumerate() {
            let above = if index == 0 { "" } else { "\n" };
            writeln!(f, "{above}[{name}]\ntoolchain = {toolchain}")?;
            for Count { name, instructions } in counts {
                writeln!(f, "{instructions:9.1}  {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A comment.\n\n[one-linux]\ntoolchain = rustc 1\n     76.0  green  a: b, c\n     \
                        12.5  os     d\n\n[two-linux]\ntoolchain = rustc 2\n      1.0  os     d\n";

    #[test]
    fn a_record_survives_the_way_through_text() {
        let record = Record::parse(TEXT).unwrap();
        assert_eq!(record.to_string(), TEXT);
        assert_eq!(record.target("one-linux").unwrap().get("green  a: b, c"), Some(76.0));
        assert_eq!(record.target("three-linux"), None);
    }

    #[test]
    fn a_target_is_replaced_and_the_others_stay() {
        let mut record = Record::parse(TEXT).unwrap();
        record.replace(Target::new("two-linux"));
        assert_eq!(record.target("two-linux").unwrap().counts, []);
        assert_eq!(record.target("one-linux"), Record::parse(TEXT).unwrap().target("one-linux"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Record::parse("[one-linux]\nhello world\n").is_err());
        assert!(Record::parse("[one-linux]\n     -1.0  os  d\n").is_err());
    }

    #[test]
    fn a_rise_over_the_bound_is_one() {
        assert_eq!(Verdict::of(100.0, 104.9, true), Verdict::Same);
        assert_eq!(Verdict::of(100.0, 105.1, true), Verdict::Risen);
        assert_eq!(Verdict::of(100.0, 94.9, true), Verdict::Fallen);
        assert_eq!(Verdict::of(100.0, 105.1, false), Verdict::Same);
        assert_eq!(Verdict::of(100.0, 126.0, false), Verdict::Risen);
    }
}
