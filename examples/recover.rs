//! Errors that are repaired where they arise: conditions and restarts, as in Common Lisp.
//!
//! What there is to learn: an error that is returned, or thrown, has left the place that could go on
//! with a better value before anybody decides. A coroutine may suspend there instead, at the bottom
//! of its calls, with a description of the problem. Whoever resumes it decides, and knows nothing of
//! parsing; the calls in between know nothing of decisions. To give up is to drop the coroutine: its
//! stack unwinds then, and its destructors run. (Not so under `panic = "abort"`.)
//!
//! Run it: `cargo run --example recover`.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};

use bine::coroutine::{self, CoroutineState, Yielder};

const RECORDS: [&str; 5] = ["flour 250", "sugar 1OO", "eggs", "butter 125", "milk half"];

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

fn run(out: &mut impl Write) -> io::Result<()> {
    let handlers: [(&str, Handler); 3] =
        [("careless", careless), ("careful", careful), ("strict", strict)];
    for (name, handler) in handlers {
        let journal = Journal::default();
        let total = weigh(&RECORDS, handler, &journal);
        writeln!(out, "The {name} cook:")?;
        for line in journal.into_inner() {
            writeln!(out, "  {line}")?;
        }
        match total {
            Some(total) => writeln!(out, "  total: {total}")?,
            None => writeln!(out, "  no total")?,
        }
    }
    Ok(())
}

/// What happened, in order. Shared by the coroutine and whoever resumes it: they take turns.
type Journal = RefCell<Vec<String>>;

/// A condition: what is wrong, for whoever decides.
enum Problem {
    NoAmount { record: &'static str },
    NotANumber { text: &'static str },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAmount { record } => write!(f, "{record:?} has no amount"),
            Self::NotANumber { text } => write!(f, "{text:?} is no number"),
        }
    }
}

/// A restart: how the computation can go on.
#[derive(Debug)]
enum Repair {
    UseValue(u32),
    Skip,
}

#[derive(Debug)]
enum Decision {
    Repair(Repair),
    Abort,
}

// The computation: it suspends itself with a problem, and gets a repair.

type Signaller = Yielder<Repair, Problem>;

/// Sums up the amounts of the records.
fn total(records: &[&'static str], journal: &Journal, signaller: &Signaller) -> u32 {
    let _scales = Scales::switch_on(journal);
    records.iter().filter_map(|record| amount(record, signaller)).sum()
}

/// The amount of one record, or `None` if it is to be left out.
fn amount(record: &'static str, signaller: &Signaller) -> Option<u32> {
    match record.split_once(' ') {
        Some((_, text)) => number(text, signaller),
        None => repaired(Problem::NoAmount { record }, signaller),
    }
}

fn number(text: &'static str, signaller: &Signaller) -> Option<u32> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => repaired(Problem::NotANumber { text }, signaller),
    }
}

/// Asks for a decision. If that is to abort, this does not return: the stack unwinds from here.
fn repaired(problem: Problem, signaller: &Signaller) -> Option<u32> {
    match signaller.suspend(problem) {
        Repair::UseValue(value) => Some(value),
        Repair::Skip => None,
    }
}

/// Something that must not be left switched on.
struct Scales<'a>(&'a Journal);

impl<'a> Scales<'a> {
    fn switch_on(journal: &'a Journal) -> Self {
        journal.borrow_mut().push("scales on".to_owned());
        Self(journal)
    }
}

impl Drop for Scales<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push("scales off".to_owned());
    }
}

// The handlers: they decide, and the computation goes on, or does not.

type Handler = fn(&Problem) -> Decision;

fn careless(_: &Problem) -> Decision {
    Decision::Repair(Repair::Skip)
}

fn careful(problem: &Problem) -> Decision {
    match problem {
        // Somebody has typed letters for the zeros.
        Problem::NotANumber { text } => match text.replace('O', "0").parse() {
            Ok(number) => Decision::Repair(Repair::UseValue(number)),
            Err(_) => Decision::Repair(Repair::Skip),
        },
        Problem::NoAmount { .. } => Decision::Repair(Repair::UseValue(60)),
    }
}

fn strict(problem: &Problem) -> Decision {
    match problem {
        Problem::NotANumber { .. } => careful(problem),
        Problem::NoAmount { .. } => Decision::Abort,
    }
}

/// Runs the computation, and has `handler` decide about its problems. `None` if it was aborted.
fn weigh(records: &[&'static str], handler: Handler, journal: &Journal) -> Option<u32> {
    // In a scope, coroutines may borrow: the records and the journal.
    coroutine::scope(|scope| {
        let mut computation =
            scope.coroutine(|signaller: &Signaller, _| total(records, journal, signaller));
        // The first input only starts it: there is nothing to repair yet.
        let mut repair = Repair::Skip;
        loop {
            let problem = match computation.resume(repair) {
                CoroutineState::Complete(total) => return Some(total),
                CoroutineState::Yielded(problem) => problem,
            };
            let decision = handler(&problem);
            journal.borrow_mut().push(format!("{problem}: {decision:?}"));
            repair = match decision {
                Decision::Repair(repair) => repair,
                // Drops the computation, which is still suspended.
                Decision::Abort => return None,
            };
        }
    })
}

#[cfg(test)]
mod tests {
    // 250 + 125; with the repairs 250 + 100 + 60 + 125.
    const EXPECTED: &str = "\
The careless cook:
  scales on
  \"1OO\" is no number: Repair(Skip)
  \"eggs\" has no amount: Repair(Skip)
  \"half\" is no number: Repair(Skip)
  scales off
  total: 375
The careful cook:
  scales on
  \"1OO\" is no number: Repair(UseValue(100))
  \"eggs\" has no amount: Repair(UseValue(60))
  \"half\" is no number: Repair(Skip)
  scales off
  total: 535
The strict cook:
  scales on
  \"1OO\" is no number: Repair(UseValue(100))
  \"eggs\" has no amount: Abort
  scales off
  no total
";

    #[test]
    fn prints_what_is_expected() {
        let mut out = Vec::new();
        super::run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), EXPECTED);
    }
}
