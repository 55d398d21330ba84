//! Generators: functions that hand out one item after another, and go on where they stopped.
//!
//! What there is to learn: a generator runs only while it is asked for an item, keeps its local
//! variables in between, and is an ordinary iterator. Several of them, asked in turn, are a little
//! scheduler: each suspension is the place where a task lets the others run.
//!
//! Run it: `cargo run --example generators`.

use std::collections::VecDeque;
use std::io::{self, Write};

use bine::coroutine::Generator;

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

fn run(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "Two generators, taken alternately:")?;
    alternate(out)?;
    writeln!(out, "Tasks that take turns:")?;
    take_turns(vec![make_tea(), toast(3), read_the_paper()].into(), out)
}

/// 1, 2, 3, ... without end: a generator need not end, as it runs only on demand.
fn counting() -> Generator<u32> {
    Generator::new(|yielder| {
        for number in 1.. {
            yielder.suspend(number);
        }
    })
}

/// a, b, c, ... up to `last`.
fn letters(last: char) -> Generator<char> {
    Generator::new(move |yielder| yielder.suspend_all('a'..=last))
}

fn alternate(out: &mut impl Write) -> io::Result<()> {
    let mut letters = letters('e');
    let mut numbers = counting();
    while let (Some(letter), Some(number)) = (letters.next(), numbers.next()) {
        writeln!(out, "  {letter} {number}")?;
    }
    // The loop has asked both six times.
    writeln!(out, "  next: {:?} {:?}", letters.next(), numbers.next())
}

/// A job that is done in steps. Its generator yields what each step was.
struct Task {
    name: &'static str,
    steps: Generator<String>,
}

fn make_tea() -> Task {
    let steps = Generator::new(|yielder| {
        yielder.suspend("boil the water".to_owned());
        yielder.suspend("pour it on".to_owned());
    });
    Task { name: "tea", steps }
}

fn toast(slices: u32) -> Task {
    let steps = Generator::new(move |yielder| {
        for slice in 1..=slices {
            yielder.suspend(format!("toast slice {slice} of {slices}"));
        }
    });
    Task { name: "toast", steps }
}

fn read_the_paper() -> Task {
    let steps = Generator::new(|yielder| {
        yielder.suspend("read the paper".to_owned());
    });
    Task { name: "paper", steps }
}

/// Lets the first task of the queue take a step and go to the end of the queue, until all have
/// ended.
fn take_turns(mut tasks: VecDeque<Task>, out: &mut impl Write) -> io::Result<()> {
    while let Some(mut task) = tasks.pop_front() {
        match task.steps.next() {
            Some(step) => {
                writeln!(out, "  {}: {step}", task.name)?;
                tasks.push_back(task);
            }
            None => writeln!(out, "  {}: done", task.name)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    const EXPECTED: &str = "\
Two generators, taken alternately:
  a 1
  b 2
  c 3
  d 4
  e 5
  next: None Some(7)
Tasks that take turns:
  tea: boil the water
  toast: toast slice 1 of 3
  paper: read the paper
  tea: pour it on
  toast: toast slice 2 of 3
  paper: done
  tea: done
  toast: toast slice 3 of 3
  toast: done
";

    #[test]
    fn prints_what_is_expected() {
        let mut out = Vec::new();
        super::run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), EXPECTED);
    }
}
