//! Lines over a logarithmic scale, with a mark of its own for each runtime.

use std::fmt::Write;

use super::escape;
use crate::report::short;
use crate::statistics::Summary;
use crate::workload::Runtime;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 280.0;
/// The plane within the axes.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 408.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 240.0;

/// One value of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    /// The place on the horizontal axis, in any unit.
    x: f64,
    median: f64,
    min: f64,
    max: f64,
}

impl Spot {
    /// None where it has no place on a logarithmic scale.
    pub(super) fn of(x: f64, summary: &Summary) -> Option<Self> {
        let Summary { median, min, max } = *summary;
        (min > 0.0).then_some(Self { x, median, min, max })
    }
}

/// The line of one runtime.
#[derive(Clone, Debug)]
pub(super) struct Series {
    runtime: Runtime,
    spots: Vec<Spot>,
}

impl Series {
    /// None where it has no spots.
    pub(super) fn of(runtime: Runtime, spots: Vec<Spot>) -> Option<Self> {
        (!spots.is_empty()).then_some(Self { runtime, spots })
    }
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// What it shows, for those who do not see it.
    pub(super) title: String,
    /// What the horizontal axis is.
    pub(super) x_title: String,
    /// Its labels: where, and what.
    pub(super) x_ticks: Vec<(f64, String)>,
    /// What the vertical axis is.
    pub(super) y_title: String,
    /// The lines.
    pub(super) series: Vec<Series>,
    /// Whether to show where half the cost would be at twice the place, from where bine begins.
    pub(super) ideal: bool,
}

/// The vertical axis, in decimal logarithms.
struct Range {
    least: f64,
    most: f64,
}

impl Range {
    fn of(series: &[Series]) -> Self {
        let spots = || series.iter().flat_map(|series| &series.spots);
        let least = spots().map(|spot| spot.min.log10()).fold(f64::INFINITY, f64::min);
        let most = spots().map(|spot| spot.max.log10()).fold(f64::NEG_INFINITY, f64::max);
        // Half a decade at least, so that noise does not look like a change.
        let room = ((0.5 - (most - least)) / 2.0).max(0.04);
        Self { least: least - room, most: most + room }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - self.least) / (self.most - self.least);
        BOTTOM - share * (BOTTOM - TOP)
    }

    /// Round values within: powers of ten, and 2 and 5 times those if there are few.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.least.floor() as i32..=self.most.ceil() as i32;
        let steps: &[f64] = match self.most - self.least {
            wide if wide > 3.0 => &[1.0],
            wide if wide > 1.0 => &[1.0, 3.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        };
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        all.filter(|tick| (self.least..=self.most).contains(&tick.log10())).collect()
    }
}

impl Plot {
    /// The chart, and below it what the marks mean. Says so where there is nothing to show.
    pub(super) fn figure(&self) -> String {
        if self.series.is_empty() {
            return "<p class=\"note\">no figures</p>\n".into();
        }
        let range = Range::of(&self.series);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.title)
        );
        self.axes(&mut svg, &range);
        if self.ideal {
            self.write_ideal(&mut svg, &range);
        }
        // Bine last, above the others.
        for series in &self.series {
            self.line(&mut svg, series, &range);
        }
        svg += "</svg>\n<ul class=\"legend\">";
        for Series { runtime, .. } in &self.series {
            let mark = mark(*runtime, 8.0, 8.0);
            let name = runtime.name();
            let _ = write!(
                svg,
                "<li><svg class=\"mark\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{mark}</svg>{name}</li>"
            );
        }
        svg + "</ul>\n"
    }

    fn x(&self, place: f64) -> f64 {
        let places = || self.x_ticks.iter().map(|(place, _)| *place);
        let least = places().fold(f64::INFINITY, f64::min);
        let most = places().fold(f64::NEG_INFINITY, f64::max);
        // One place alone is in the middle.
        let share = if most > least { (place - least) / (most - least) } else { 0.5 };
        LEFT + 12.0 + share * (RIGHT - LEFT - 24.0)
    }

    fn axes(&self, svg: &mut String, range: &Range) {
        for tick in range.ticks() {
            let y = range.place(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                y + 4.0,
                tick_label(tick)
            );
        }
        for (place, label) in &self.x_ticks {
            let x = self.x(*place);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 15.0,
                escape(label)
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"axis\" x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"axis\" x=\"4\" y=\"12\">{}</text>",
            BOTTOM + 33.0,
            escape(&self.x_title),
            escape(&self.y_title)
        );
    }

    fn write_ideal(&self, svg: &mut String, range: &Range) {
        let ours = self.series.iter().find(|series| series.runtime == Runtime::Bine);
        let Some(first) = ours.and_then(|series| series.spots.first()) else { return };
        let last = self.x_ticks.iter().map(|(place, _)| *place).fold(first.x, f64::max);
        // Both axes are logarithmic, so it is a straight line.
        let end = (first.median / 10_f64.powf(last - first.x)).max(10_f64.powf(range.least));
        let at_end = first.x + (first.median / end).log10();
        let _ = writeln!(
            svg,
            "<line class=\"ideal\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            self.x(first.x),
            range.place(first.median),
            self.x(at_end),
            range.place(end)
        );
    }

    fn line(&self, svg: &mut String, Series { runtime, spots }: &Series, range: &Range) {
        let name = runtime.name();
        let place = |spot: &Spot| format!("{:.1} {:.1}", self.x(spot.x), range.place(spot.median));
        let path: Vec<_> = spots.iter().map(place).collect();
        let _ =
            writeln!(svg, "<g class=\"l-{name}\"><path class=\"line\" d=\"M{}\"/>", path.join("L"));
        for spot in spots {
            let (x, y) = (self.x(spot.x), range.place(spot.median));
            let (low, high) = (range.place(spot.min), range.place(spot.max));
            let _ = writeln!(
                svg,
                "<path class=\"range\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>\
                 <g><title>{name}: {}</title>{}</g>",
                short(spot.median),
                mark(*runtime, x, y)
            );
        }
        *svg += "</g>\n";
    }
}

fn tick_label(value: f64) -> String {
    match value {
        small if small < 0.99 => format!("{value:.2}"),
        large if large >= 999_999.0 => format!("{}M", (value / 1e6 * 10.0).round() / 10.0),
        large if large >= 9_999.0 => format!("{}k", (value / 1e3 * 10.0).round() / 10.0),
        _ => format!("{}", (value * 10.0).round() / 10.0),
    }
}

/// The mark of a runtime: no two have the same shape.
fn mark(runtime: Runtime, x: f64, y: f64) -> String {
    let class = format!("r-{}", runtime.name());
    let path = |d: &str| {
        format!("<path class=\"{class}\" transform=\"translate({x:.1} {y:.1})\" d=\"{d}\"/>")
    };
    match runtime {
        Runtime::Bine => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"),
        Runtime::BineMigrate => path("M0 -6L6 0L0 6L-6 0Z"),
        Runtime::Tokio => path("M-4 -4H4V4H-4Z"),
        Runtime::Go => path("M0 -5L5 4H-5Z"),
        Runtime::May => path("M0 5L5 -4H-5Z"),
        Runtime::Threads => path("M-5 -2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z"),
        Runtime::Raw => path("M-6 -2H6V2H-6Z"),
        Runtime::GoNetHttp => path("M0 -5L5 4L0 2L-5 4Z"),
        Runtime::Corosensei => path("M-2 -6H2V6H-2Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        let spot = |(x, &value): (usize, &f64)| {
            let summary = Summary { median: value, min: value, max: value };
            Spot::of(x as f64, &summary).unwrap()
        };
        Series { runtime: Runtime::Bine, spots: values.iter().enumerate().map(spot).collect() }
    }

    #[test]
    fn ticks_are_round_and_within() {
        let range = Range::of(&[series(&[2.0, 90.0])]);
        assert_eq!(range.ticks(), [3.0, 10.0, 30.0]);
        let range = Range::of(&[series(&[1.0, 900_000.0])]);
        assert_eq!(range.ticks(), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
        assert!(range.place(1.0) > range.place(10.0));
    }

    #[test]
    fn a_value_of_zero_has_no_place() {
        assert_eq!(Spot::of(1.0, &Summary { median: 1.0, min: 0.0, max: 2.0 }), None);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.5, 1.5, 300.0, 10_000.0, 1_500_000.0].map(tick_label);
        assert_eq!(labels, ["0.50", "1.5", "300", "10k", "1.5M"]);
    }

    #[test]
    fn shapes_differ() {
        let mut shapes: Vec<_> = Runtime::ALL.map(|one| mark(one, 0.0, 0.0)).into();
        let shape =
            |text: &String| text.split_once(" ").unwrap().1.split_once(' ').unwrap().1.to_owned();
        shapes = shapes.iter().map(shape).collect();
        shapes.sort();
        shapes.dedup();
        assert_eq!(shapes.len(), Runtime::ALL.len());
    }
}
