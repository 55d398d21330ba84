//! Medians, spreads and ratios: the arithmetic of the report.

/// What several rounds of one measurement say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The middle value, or the mean of the two middle ones.
    pub(crate) median: f64,
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest value.
    pub(crate) max: f64,
}

impl Summary {
    /// Summarises `values`; `None` where there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

/// Which of two values of a metric is the better one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Better {
    /// Costs: times, bytes, lateness.
    Lower,
    /// Rates.
    Higher,
}

impl Better {
    /// The best of `medians`; `None` where there are none.
    pub(crate) fn best(self, medians: impl Iterator<Item = f64>) -> Option<f64> {
        medians.reduce(match self {
            Self::Lower => f64::min,
            Self::Higher => f64::max,
        })
    }
}

/// `value / base`; `None` where the quotient would say nothing (a base of zero).
pub(crate) fn ratio(value: f64, base: f64) -> Option<f64> {
    (base != 0.0).then(|| value / base)
}

/// The value below which the share `quantile` (0 to 1) of the sorted `values` lies (nearest rank).
///
/// # Panics
///
/// If `values` is empty.
pub(crate) fn percentile(values: &[u32], quantile: f64) -> u32 {
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_odd_count_is_the_middle_value() {
        let summary = Summary::of(&[9.0, 1.0, 5.0]).unwrap();
        assert_eq!(summary, Summary { median: 5.0, min: 1.0, max: 9.0 });
    }

    #[test]
    fn median_of_an_even_count_is_the_mean_of_the_middle_values() {
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_value_is_its_own_summary() {
        assert_eq!(Summary::of(&[7.0]), Some(Summary { median: 7.0, min: 7.0, max: 7.0 }));
    }

    #[test]
    fn the_best_depends_on_the_direction() {
        assert_eq!(Better::Lower.best([3.0, 1.0, 2.0].into_iter()), Some(1.0));
        assert_eq!(Better::Higher.best([3.0, 1.0, 2.0].into_iter()), Some(3.0));
        assert_eq!(Better::Lower.best(std::iter::empty()), None);
    }

    #[test]
    fn a_ratio_to_zero_is_none() {
        assert_eq!(ratio(3.0, 2.0), Some(1.5));
        assert_eq!(ratio(3.0, 0.0), None);
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 0.5), 50);
        assert_eq!(percentile(&values, 0.99), 99);
        assert_eq!(percentile(&values, 1.0), 100);
        assert_eq!(percentile(&[7], 0.0), 7);
    }
}
