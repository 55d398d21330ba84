//! A bar for each runtime, from the best peer's cost to its own, on a logarithmic scale.

use std::fmt::Write;

use super::escape;
use crate::report::{best_peer, short};
use crate::round_robin::Cell;
use crate::statistics::Better;
use crate::workload::Metric;

const WIDTH: f64 = 420.0;
/// Where the bars may be.
const LEFT: f64 = 96.0;
const RIGHT: f64 = 356.0;
const ROW: f64 = 24.0;
const THICK: f64 = 14.0;
/// Above the rows: the labels of the scale.
const TOP: f64 = 18.0;

/// The scale: powers of two, of which at least 1/2 and 2 are shown, and at most 1/16 and 32.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn around(ratios: impl Iterator<Item = f64> + Clone) -> Self {
        let powers = ratios.filter(|ratio| *ratio > 0.0).map(f64::log2);
        let least = powers.clone().fold(-1.0, f64::min).floor().max(-4.0);
        let most = powers.fold(1.0, f64::max).ceil().min(5.0);
        Self { least, most }
    }

    /// Where a ratio is, and whether that is on the scale.
    fn place(&self, ratio: f64) -> (f64, bool) {
        let power = ratio.max(f64::MIN_POSITIVE).log2();
        let shown = power.clamp(self.least, self.most);
        let place = LEFT + (shown - self.least) / (self.most - self.least) * (RIGHT - LEFT);
        (place, shown == power)
    }
}

/// How much something costs beside `base`; a low rate is a high cost.
fn cost(value: f64, base: f64, metric: Metric) -> Option<f64> {
    let ratio = match metric.better {
        Better::Lower => value / base,
        Better::Higher => base / value,
    };
    ratio.is_finite().then_some(ratio)
}

/// The chart of one metric.
pub(super) fn chart(group: &[Cell], metric: Metric) -> String {
    let medians = || group.iter().filter_map(|cell| Some(cell.summary(metric)?.median));
    // Without a peer, the best of all.
    let base = best_peer(group, metric).or_else(|| metric.better.best(medians()));
    let base = base.unwrap_or(0.0);
    let scale = Scale::around(medians().filter_map(|median| cost(median, base, metric)));
    let height = TOP + ROW * group.len() as f64 + 4.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{} of {}, beside the best peer\">\n",
        escape(metric.unit),
        group[0].workload.name(),
    );
    grid(&mut svg, &scale, height);
    for (row, cell) in group.iter().enumerate() {
        let middle = TOP + ROW * (row as f64 + 0.5);
        bar(&mut svg, cell, metric, base, &scale, middle);
    }
    svg + "</svg>"
}

fn grid(svg: &mut String, scale: &Scale, height: f64) {
    let (first, last) = (scale.least as i32, scale.most as i32);
    for power in first..=last {
        let (x, _) = scale.place(f64::from(power).exp2());
        let class = if power == 0 { "one" } else { "grid" };
        let label = if power < 0 { format!("1/{}", 1 << -power) } else { (1 << power).to_string() };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{height}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"11\" text-anchor=\"middle\">{label}</text>"
        );
    }
}

fn bar(svg: &mut String, cell: &Cell, metric: Metric, base: f64, scale: &Scale, middle: f64) {
    let name = cell.runtime.name();
    let less = cell.scaled_down || cell.spared.is_some();
    let star = if less || !cell.failures.is_empty() { "*" } else { "" };
    let ours = if name.starts_with("bine") { "name ours" } else { "name" };
    let baseline = middle + 4.0;
    let _ = write!(
        svg,
        "<text class=\"{ours}\" x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{name}{star}</text>",
        LEFT - 6.0
    );
    let Some(summary) = cell.summary(metric) else {
        let why = if cell.failures.is_empty() { "not run" } else { "fails" };
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{WIDTH}\" y=\"{baseline:.1}\" text-anchor=\"end\">{why}</text>"
        );
        return;
    };
    let value = short(summary.median);
    let _ = writeln!(
        svg,
        "<text class=\"value\" x=\"{WIDTH}\" y=\"{baseline:.1}\" text-anchor=\"end\">{value}</text>"
    );
    let Some(ratio) = cost(summary.median, base, metric) else { return };
    let ((one, _), (end, on_scale)) = (scale.place(1.0), scale.place(ratio));
    let (x, width) = (one.min(end), (end - one).abs().max(1.5));
    let class = if less { "less " } else { "" };
    let _ = writeln!(
        svg,
        "<rect class=\"{class}r-{name}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{THICK}\">\
         <title>{name}: {value}, {ratio:.2} times the best peer's cost</title></rect>",
        middle - THICK / 2.0
    );
    if !on_scale {
        arrow(svg, end, middle, if end > one { 1.0 } else { -1.0 });
    }
    let ends = [summary.min, summary.max].map(|value| cost(value, base, metric));
    if let [Some(a), Some(b)] = ends.map(|ratio| ratio.map(|ratio| scale.place(ratio).0)) {
        let (low, high) = (middle - 4.0, middle + 4.0);
        let _ = writeln!(
            svg,
            "<path class=\"whisker\" d=\"M{a:.1} {low:.1}V{high:.1}M{a:.1} {middle:.1}H{b:.1}M{b:.1} {low:.1}V{high:.1}\"/>"
        );
    }
}

/// Says that a bar goes on beyond the scale.
fn arrow(svg: &mut String, x: f64, middle: f64, direction: f64) {
    let (back, point) = (x - 3.0 * direction, x + 5.0 * direction);
    let (low, high) = (middle - 6.0, middle + 6.0);
    let _ = writeln!(
        svg,
        "<path class=\"arrow\" d=\"M{back:.1} {low:.1}L{point:.1} {middle:.1}L{back:.1} {high:.1}\"/>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::workload::{Runtime, Workload};

    #[test]
    fn the_scale_has_one_and_what_is_near() {
        let scale = Scale::around([0.3, 1.0, 3.0].into_iter());
        assert_eq!((scale.least, scale.most), (-2.0, 2.0));
        assert_eq!(scale.place(1.0), (f64::midpoint(LEFT, RIGHT), true));
        assert_eq!(scale.place(0.25), (LEFT, true));
        assert_eq!(scale.place(100.0), (RIGHT, false));
        assert_eq!(scale.place(0.0), (LEFT, false));
        let scale = Scale::around([1e-9, 1e9].into_iter());
        assert_eq!((scale.least, scale.most), (-4.0, 5.0));
    }

    #[test]
    fn half_the_rate_costs_twice_as_much() {
        let metric = |name| Workload::Echo100.metrics().iter().find(|one| one.name == name);
        assert_eq!(cost(50.0, 100.0, *metric("rate").unwrap()), Some(2.0));
        assert_eq!(cost(50.0, 100.0, *metric("cpu_us").unwrap()), Some(0.5));
        assert_eq!(cost(0.0, 0.0, *metric("cpu_us").unwrap()), None);
    }

    #[test]
    fn better_than_the_best_peer_is_left_of_the_line() {
        let cell = |runtime, value| {
            let mut cell = Cell::new(Workload::Yield, runtime, false);
            cell.figures = vec![Figures::one("ns", value)];
            cell
        };
        let group = [cell(Runtime::Tokio, 30.0), cell(Runtime::Bine, 15.0)];
        let chart = chart(&group, Workload::Yield.metrics()[0]);
        let one = f64::midpoint(LEFT, RIGHT);
        assert!(chart.contains(&format!("<rect class=\"r-bine\" x=\"{LEFT:.1}\"")), "{chart}");
        assert!(chart.contains(&format!("<rect class=\"r-tokio\" x=\"{one:.1}\"")), "{chart}");
    }
}
