//! What runs, what is left, and how long that will take: a bar on a terminal, lines elsewhere.
//!
//! Measurements take from milliseconds to half a minute, so what is left is estimated from what each took in
//! the round before; where there was none, from the others of its workload, and else from all of them.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    /// None where stderr is no terminal.
    bar: Option<ProgressBar>,
    started: Instant,
    estimate: Estimate,
    /// What was said last, where there is no bar.
    said: String,
}

impl Progress {
    /// A run of these items.
    pub(crate) fn new(items: Vec<Item>) -> Self {
        let estimate = Estimate::new(items);
        let bar = std::io::stderr().is_terminal().then(|| bar(estimate.left()));
        Self { bar, started: Instant::now(), estimate, said: String::new() }
    }

    /// `what`, and in detail `detail`, begins. A line is written only where `what` is new.
    pub(crate) fn begin(&mut self, what: &str, detail: &str) {
        let left = match self.estimate.time_left() {
            Some(time) => format!("about {} left", spoken(time)),
            None => "time left unknown".into(),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{left}; {what} on {detail}"));
        } else if self.said != what {
            let (done, all) = (self.estimate.done, self.estimate.done + self.estimate.left());
            let gone = spoken(self.started.elapsed());
            eprintln!("{done}/{all} done in {gone}, {left}: {what}");
            what.clone_into(&mut self.said);
        }
    }

    /// The item of that index has taken so long.
    pub(crate) fn end(&mut self, item: usize, took: Duration) {
        self.estimate.record(item, took);
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// The run is over.
    pub(crate) fn finish(self, interrupted: bool) {
        let text = if interrupted { "interrupted" } else { "done" };
        match self.bar {
            Some(bar) if interrupted => {
                bar.abandon_with_message(text);
                // What follows is not to stand behind the bar.
                eprintln!();
            }
            Some(bar) => bar.finish_and_clear(),
            None => eprintln!("{text} after {}", spoken(self.started.elapsed())),
        }
    }
}

fn bar(length: usize) -> ProgressBar {
    let template = "{bar:24} {pos}/{len} [{elapsed}] {wide_msg}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar = ProgressBar::new(length as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// `2 min 5 s`, or `40 s`.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Something that is measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// What it has in common with others that take about as long.
    pub(crate) group: &'static str,
    /// How many times it is still to be measured.
    pub(crate) left: usize,
    /// How long it took the last time.
    pub(crate) took: Option<Duration>,
}

#[derive(Debug)]
struct Estimate {
    items: Vec<Item>,
    done: usize,
}

impl Estimate {
    fn new(items: Vec<Item>) -> Self {
        Self { items, done: 0 }
    }

    fn left(&self) -> usize {
        self.items.iter().map(|item| item.left).sum()
    }

    fn record(&mut self, item: usize, took: Duration) {
        self.done += 1;
        let item = &mut self.items[item];
        item.left -= 1;
        item.took = Some(took);
    }

    /// None before anything was measured.
    fn time_left(&self) -> Option<Duration> {
        let overall = mean(self.items.iter())?;
        let expected = |item: &Item| {
            let alike = || mean(self.items.iter().filter(|other| other.group == item.group));
            item.took.or_else(alike).unwrap_or(overall) * item.left as u32
        };
        Some(self.items.iter().map(expected).sum())
    }
}

fn mean<'a>(items: impl Iterator<Item = &'a Item>) -> Option<Duration> {
    let known: Vec<_> = items.filter_map(|item| item.took).collect();
    let sum: Duration = known.iter().sum();
    sum.checked_div(known.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_estimated_from_what_is_known() {
        let item = |group, left| Item { group, left, took: None };
        let mut estimate = Estimate::new(vec![item("a", 2), item("a", 2), item("b", 1)]);
        assert_eq!((estimate.left(), estimate.time_left()), (5, None));
        estimate.record(0, Duration::from_secs(10));
        // One more of the first, two of its kind, and one of which nothing is known.
        assert_eq!(estimate.time_left(), Some(Duration::from_secs(40)));
        estimate.record(2, Duration::from_secs(2));
        assert_eq!(estimate.time_left(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(spoken(Duration::from_secs(119)), "119 s");
        assert_eq!(spoken(Duration::from_secs(125)), "2 min 5 s");
    }
}
