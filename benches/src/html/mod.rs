//! The report as a page: one file that needs nothing else, with a chart for each figure and the numbers below.
//!
//! Charts are drawn 420 units wide, and a column is about as many pixels, on a telephone too: their text keeps
//! its size. Runtimes are told by names and marks, and by colours only beside those.

use std::fmt::Write;

use crate::curve::{Axis, CURVES, Point};
use crate::performance;
use crate::report::{Report, best_peer, remarks, short};
use crate::round_robin::Cell;
use crate::statistics::ratio;
use crate::workload::{Metric, Runtime, Size, count};

mod bars;
mod plot;

use plot::{Plot, Series, Spot};

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let mut body = format!(
        "<header><h1>bine beside its peers</h1>\n<p>{}</p>\n<p>{}. {}.</p>\n<p>{}</p></header>\n",
        escape(&report.machine.to_string()),
        escape(report.machine.date()),
        escape(&report.settings()),
        escape(&report.machine.versions()),
    );
    body += &section("Goals", "", &goals(report));
    body += &section(
        "Beside the best peer",
        BARS,
        &report.table_groups().map(bar_card).collect::<String>(),
    );
    body +=
        &section("Latency", LATENCY, &report.table_groups().map(latency_card).collect::<String>());
    let of_axis = |axis: Axis| -> String {
        let curves = CURVES.iter().filter(|curve| curve.axis == axis);
        curves.map(|curve| curve_cards(report, curve.name)).collect()
    };
    body += &section("Cost against green threads", TASKS, &of_axis(Axis::Tasks));
    body += &section("Cost against workers", WORKERS, &of_axis(Axis::Workers));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>bine beside its peers</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

const STYLE: &str = include_str!("style.css");
const BARS: &str = "Bars go left from the line where a runtime is better than the best peer, and right where it \
                    is worse; the scale is logarithmic. They end at the median of the rounds, and the thin \
                    lines go from the least to the most. An asterisk stands where a runtime was given less \
                    to do; it is not taken for the best then.";
const LATENCY: &str =
    "How long the slowest half, the slowest hundredth and so on have to wait, in microseconds.";
const TASKS: &str =
    "The same work at 1 to 1,000,000 threads or tasks. Lines end where a runtime can hold no more.";
const WORKERS: &str = "The grey line is where twice the workers would take half the time.";

/// A part of the page; nothing where there is nothing in it.
fn section(title: &str, text: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!(
        "<section>\n<h2>{title}</h2>\n<p>{text}</p>\n<div class=\"cards\">\n{content}</div>\n</section>\n"
    )
}

fn goals(report: &Report) -> String {
    let mut rows = String::new();
    for judged in performance::judge(report) {
        let class = judged.verdict.class();
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td></tr>",
            escape(judged.goal.workload),
            escape(&judged.goal.describe()),
            escape(&judged.pinned),
            escape(&judged.migrating),
            judged.verdict.text(),
        );
    }
    format!(
        "<div class=\"card wide\"><table><thead><tr><th>workload</th><th>goal</th><th>bine</th>\
         <th>bine-migrate</th><th>met</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// A workload: a chart for each metric, and the numbers.
fn bar_card(group: &[Cell]) -> String {
    let workload = group[0].workload;
    let nominal = nominal(group);
    let mut content = String::new();
    for &metric in workload.metrics() {
        let _ =
            writeln!(content, "<h4>{}</h4>\n{}", escape(metric.unit), bars::chart(group, metric));
    }
    let notes: Vec<_> = group
        .iter()
        .filter_map(|cell| {
            let remarks = remarks(cell, nominal);
            (!remarks.is_empty()).then(|| format!("{}: {remarks}", cell.runtime.name()))
        })
        .collect();
    if !notes.is_empty() {
        let _ = writeln!(content, "<p class=\"note\">* {}</p>", escape(&notes.join("; ")));
    }
    content += &numbers(group, workload.metrics());
    card(workload.name(), &workload.describe(nominal), &content)
}

/// What those are given that are not given less.
fn nominal(group: &[Cell]) -> Size {
    let all = group.iter().find(|cell| !cell.scaled_down);
    all.unwrap_or(&group[0]).size
}

fn card(title: &str, text: &str, content: &str) -> String {
    format!(
        "<article class=\"card\"><h3>{}</h3>\n<p>{}</p>\n{content}</article>\n",
        escape(title),
        escape(text)
    )
}

/// The numbers behind a chart, for those who want them.
fn numbers(group: &[Cell], metrics: &[Metric]) -> String {
    let mut rows = String::new();
    for &metric in metrics {
        let best = best_peer(group, metric);
        for cell in group {
            let values = match cell.summary(metric) {
                None => "<td colspan=\"3\">no figures</td>".to_owned(),
                Some(summary) => {
                    let to_best = best.and_then(|best| ratio(summary.median, best));
                    let to_best = to_best.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
                    let (median, min, max) = (summary.median, summary.min, summary.max);
                    format!(
                        "<td>{}</td><td>{} - {}</td><td>{to_best}</td>",
                        short(median),
                        short(min),
                        short(max)
                    )
                }
            };
            let (name, unit) = (cell.runtime.name(), escape(metric.unit));
            let _ = writeln!(rows, "<tr><th scope=\"row\">{name}</th><td>{unit}</td>{values}</tr>");
        }
    }
    details(&["runtime", "", "median", "min - max", "to best peer"], &rows)
}

fn details(titles: &[&str], rows: &str) -> String {
    let titles: String = titles.iter().map(|title| format!("<th>{title}</th>")).collect();
    format!(
        "<details><summary>Numbers</summary><div class=\"scroll\"><table><thead><tr>{titles}</tr></thead>\
         <tbody>\n{rows}</tbody></table></div></details>\n"
    )
}

/// The percentile that a figure is, if it is one of a latency: `p999_us` is 0.999.
fn percentile(name: &str) -> Option<f64> {
    let digits = name.strip_suffix("_us")?.trim_start_matches("late_").strip_prefix('p')?;
    let number: f64 = digits.parse().ok()?;
    Some(number / 10_f64.powi(digits.len() as i32))
}

/// The percentiles of a workload that has two or more of them.
fn latency_card(group: &[Cell]) -> String {
    let workload = group[0].workload;
    let metrics: Vec<_> = workload
        .metrics()
        .iter()
        .filter_map(|&metric| Some((percentile(metric.name)?, metric)))
        .collect();
    if metrics.len() < 2 {
        return String::new();
    }
    // A share of 1/10 that is slower, 1/100, 1/1,000 are equally far apart.
    let place = |percentile: f64| -(1.0 - percentile).log10();
    let ticks = metrics.iter().map(|(at, _)| (place(*at), format!("p{}", trimmed(at * 100.0))));
    let series = group.iter().filter_map(|cell| {
        let spots =
            metrics.iter().filter_map(|(at, metric)| Spot::of(place(*at), &cell.summary(*metric)?));
        Series::of(cell.runtime, spots.collect())
    });
    let plot = Plot {
        title: format!("latency of {}", workload.name()),
        x_title: "percentile".into(),
        x_ticks: ticks.collect(),
        y_title: "us".into(),
        series: series.collect(),
        ideal: false,
    };
    card(workload.name(), &workload.describe(nominal(group)), &plot.figure())
}

/// `99` for 99.0 and `99.9` for 99.9.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A curve: a plot for each of its metrics that tells of cost.
fn curve_cards(report: &Report, name: &str) -> String {
    let points: Vec<(Point, &[Cell])> =
        report.point_groups().filter(|(point, _)| point.curve.name == name).collect();
    let Some((Point { curve, .. }, _)) = points.first() else { return String::new() };
    let wanted = |metric: &&Metric| percentile(metric.name).is_none() && metric.name != "rate";
    let cards = curve.workload.metrics().iter().filter(wanted).map(|&metric| {
        let series = Runtime::ALL.into_iter().filter_map(|runtime| {
            let spots = points.iter().filter_map(|(point, group)| {
                let cell = group.iter().find(|cell| cell.runtime == runtime)?;
                Spot::of((point.x as f64).log10(), &cell.summary(metric)?)
            });
            Series::of(runtime, spots.collect())
        });
        let ticks = points.iter().map(|(point, _)| ((point.x as f64).log10(), count(point.x)));
        let plot = Plot {
            title: format!("{}: {}", curve.title, metric.unit),
            x_title: curve.axis.name().into(),
            x_ticks: ticks.collect(),
            y_title: metric.unit.into(),
            series: series.collect(),
            ideal: curve.axis == Axis::Workers && metric.name == "ms",
        };
        let title = format!("{}, {}", curve.name, metric.unit);
        card(&title, curve.title, &(plot.figure() + &curve_numbers(&points, metric)))
    });
    cards.collect()
}

fn curve_numbers(points: &[(Point, &[Cell])], metric: Metric) -> String {
    let mut rows = String::new();
    for (point, group) in points {
        for cell in *group {
            let (x, name) = (count(point.x), cell.runtime.name());
            let values = match cell.summary(metric) {
                Some(all) => {
                    let (median, min, max) = (short(all.median), short(all.min), short(all.max));
                    format!("<td>{median}</td><td>{min} - {max}</td>")
                }
                None => {
                    let why = cell.failures.first().map_or("not run", String::as_str);
                    format!("<td colspan=\"2\">{}</td>", escape(why))
                }
            };
            let _ = writeln!(rows, "<tr><th scope=\"row\">{x}</th><td>{name}</td>{values}</tr>");
        }
    }
    details(&["at", "runtime", "median", "min - max"], &rows)
}

/// Text as it may stand in HTML and in its attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::tests::made_up;
    use crate::workload::Workload;

    /// Reads tags in turn, and fails if one is not closed, or closed in the wrong place.
    fn well_formed(page: &str) {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag ends");
            let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty()).expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "<{tag}>");
            } else if !tag.ends_with('/') && !["!DOCTYPE", "meta"].contains(&name) {
                assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
                open.push(name);
            }
            assert!(!text.contains('>') || open.last() == Some(&"style"), "{text:?}");
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_page_is_well_formed_and_has_everything() {
        let page = page(&made_up());
        well_formed(&page);
        for workload in Workload::ALL {
            assert!(page.contains(&format!("<h3>{}</h3>", workload.name())));
        }
        for curve in &CURVES {
            assert!(page.contains(&format!("<h3>{}, ", curve.name)), "{}", curve.name);
        }
        assert!(page.contains("SIGABRT: &lt;no&gt; stack &amp; &quot;nothing&quot;"));
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let page = page(&made_up());
        for foreign in ["http://", "https://", "url(", "src=", "@import", "<script", "<link"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn nothing_measured_is_a_page_too() {
        let mut report = made_up();
        for cell in &mut report.cells {
            cell.figures.clear();
        }
        well_formed(&page(&report));
        report.cells.clear();
        well_formed(&page(&report));
    }

    #[test]
    fn percentiles_are_told_by_their_names() {
        assert_eq!(percentile("p50_us"), Some(0.5));
        assert_eq!(percentile("late_p999_us"), Some(0.999));
        assert_eq!(percentile("cpu_us"), None);
        assert_eq!(percentile("rate"), None);
        assert_eq!([50.0, 99.0, 99.9].map(trimmed), ["50", "99", "99.9"]);
    }
}
