//! Pipelines: stages that are written as loops of their own, and joined into one stream.
//!
//! What there is to learn: the two directions. In a pipeline that *pulls*, each stage is a
//! generator that owns the stage before it and asks it for items; nothing happens until the end
//! asks. In one that *pushes*, each stage is a coroutine that owns the stage after it and resumes it
//! with items; the beginning decides when. Third, `send`: a generator that is also told something.
//!
//! Run it: `cargo run --example pipeline`.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use bine::coroutine::{Coroutine, Generator};

const TEXT: [&str; 4] = [
    "a bine is a long stem",
    "that climbs by growing in a helix",
    "as hops and runner beans do",
    "while a vine has tendrils",
];

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

fn run(out: &mut impl Write) -> io::Result<()> {
    pull(out)?;
    push(out)?;
    renumber(out)
}

// Pulling: the consumer asks.

/// The lines of the text. `read` counts them as they are asked for.
fn lines(read: Rc<Cell<usize>>) -> Generator<&'static str> {
    Generator::new(move |yielder| {
        for line in TEXT {
            read.set(read.get() + 1);
            yielder.suspend(line);
        }
    })
}

fn words(lines: Generator<&'static str>) -> Generator<&'static str> {
    Generator::new(move |yielder| {
        for line in lines {
            yielder.suspend_all(line.split(' '));
        }
    })
}

fn longer_than(length: usize, words: Generator<&'static str>) -> Generator<&'static str> {
    Generator::new(move |yielder| {
        for word in words {
            if word.len() > length {
                yielder.suspend(word);
            }
        }
    })
}

fn numbered(words: Generator<&'static str>) -> Generator<String> {
    Generator::new(move |yielder| {
        for (number, word) in (1..).zip(words) {
            yielder.suspend(format!("{number}. {word}"));
        }
    })
}

fn pull(out: &mut impl Write) -> io::Result<()> {
    let read = Rc::new(Cell::new(0));
    let pipeline = numbered(longer_than(3, words(lines(Rc::clone(&read)))));
    writeln!(out, "Pulled, the first four long words:")?;
    for entry in pipeline.take(4) {
        writeln!(out, "  {entry}")?;
    }
    writeln!(out, "  (lines read: {} of {})", read.get(), TEXT.len())
}

// Pushing: the producer hands over.

/// A stage that is resumed with `Some` for each item and with `None` at the end; it suspends to wait
/// for the next one. What it returns at the end is handed back through all the stages before it.
type Sink<Report> = Coroutine<Option<&'static str>, (), Report>;

/// Tells a stage that there are no more items.
fn finish<Report>(mut sink: Sink<Report>) -> Report {
    sink.resume(None).complete().expect("a sink should return at the end of its items")
}

/// Pushes the words of the lines that are pushed to it.
fn push_words<Report: 'static>(mut next: Sink<Report>) -> Sink<Report> {
    // The first resume brings the closure's argument, the others what `suspend` returns.
    Sink::new(move |yielder, mut line| {
        while let Some(text) = line {
            for word in text.split(' ') {
                next.resume(Some(word));
            }
            line = yielder.suspend(());
        }
        finish(next)
    })
}

fn push_longer_than<Report: 'static>(length: usize, mut next: Sink<Report>) -> Sink<Report> {
    Sink::new(move |yielder, mut item| {
        while let Some(word) = item {
            if word.len() > length {
                next.resume(Some(word));
            }
            item = yielder.suspend(());
        }
        finish(next)
    })
}

/// The last stage: counts words, and keeps the longest.
fn summarise() -> Sink<(usize, &'static str)> {
    Sink::new(|yielder, mut item| {
        let (mut count, mut longest) = (0, "");
        while let Some(word) = item {
            count += 1;
            if word.len() > longest.len() {
                longest = word;
            }
            item = yielder.suspend(());
        }
        (count, longest)
    })
}

fn push(out: &mut impl Write) -> io::Result<()> {
    let mut pipeline = push_words(push_longer_than(3, summarise()));
    for line in TEXT {
        pipeline.resume(Some(line));
    }
    let (count, longest) = finish(pipeline);
    writeln!(out, "Pushed, all of them:")?;
    writeln!(out, "  {count} long words, the longest is {longest:?}")
}

// Both at once: `send` gives a generator something and takes its next item.

/// 1, 2, 3, ...; goes on from whatever number is sent to it.
fn numbers() -> Generator<u32, u32> {
    Generator::receiving(|yielder| {
        let mut number = 1;
        loop {
            // A `next` brings `None`.
            number = yielder.suspend(number).unwrap_or(number + 1);
        }
    })
}

fn renumber(out: &mut impl Write) -> io::Result<()> {
    let mut numbers = numbers();
    writeln!(out, "Numbers of pages, with an appendix:")?;
    let pages = [numbers.next(), numbers.next(), numbers.send(101), numbers.next()];
    let pages: Vec<_> = pages.into_iter().flatten().collect();
    writeln!(out, "  {pages:?}")
}

#[cfg(test)]
mod tests {
    const EXPECTED: &str = "\
Pulled, the first four long words:
  1. bine
  2. long
  3. stem
  4. that
  (lines read: 2 of 4)
Pushed, all of them:
  13 long words, the longest is \"tendrils\"
Numbers of pages, with an appendix:
  [1, 2, 101, 102]
";

    #[test]
    fn prints_what_is_expected() {
        let mut out = Vec::new();
        super::run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), EXPECTED);
    }
}
