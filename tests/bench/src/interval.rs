//! What some rounds allow to say of the figure behind them: a middle, and an interval that holds it with 95 %.

use serde::Serialize;

/// Student's t for 95 %, two-sided, by degrees of freedom from 1.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// For more degrees of freedom than the table has.
const T_OF_MANY: f64 = 1.96;

/// A figure with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Not less than this.
    pub low: f64,
    /// Most likely this.
    pub middle: f64,
    /// Not more than this.
    pub high: f64,
}

impl Interval {
    /// Of the mean of such rounds.
    ///
    /// # Panics
    ///
    /// With fewer than two rounds: one says nothing of its own uncertainty.
    pub fn of_mean(rounds: &[f64]) -> Self {
        assert!(rounds.len() >= 2, "at least two rounds");
        let count = rounds.len() as f64;
        let middle = rounds.iter().sum::<f64>() / count;
        let variance = rounds.iter().map(|round| (round - middle).powi(2)).sum::<f64>() / (count - 1.0);
        let t = T.get(rounds.len() - 2).copied().unwrap_or(T_OF_MANY);
        let half = t * (variance / count).sqrt();
        Self { low: middle - half, middle, high: middle + half }
    }

    /// Of the ratio of paired rounds. Ratios are averaged as logarithms, so that a half and a double cancel.
    ///
    /// # Panics
    ///
    /// As [`Interval::of_mean`].
    pub fn of_ratio(pairs: &[(f64, f64)]) -> Self {
        let logarithms: Vec<_> = pairs.iter().map(|(ours, baseline)| (ours / baseline).ln()).collect();
        let Self { low, middle, high } = Self::of_mean(&logarithms);
        Self { low: low.exp(), middle: middle.exp(), high: high.exp() }
    }
}

/// The value below which this share of all lies.
///
/// # Panics
///
/// Without any.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1).expect("at least one value");
    sorted[(last as f64 * share).round() as usize]
}

/// The value in the midst.
///
/// # Panics
///
/// Without any.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(one: f64, other: f64) -> bool {
        (one - other).abs() < 0.001
    }

    #[test]
    fn a_mean_has_students_interval() {
        let Interval { low, middle, high } = Interval::of_mean(&[1.0, 2.0, 3.0]);
        // Its standard error is 1 / √3, and t with two degrees of freedom 4.303.
        assert!(is_near(middle, 2.0) && is_near(low, -0.4844) && is_near(high, 4.4844), "{low} {middle} {high}");
    }

    #[test]
    fn equal_rounds_leave_no_doubt() {
        assert_eq!(Interval::of_mean(&[5.0; 40]), Interval { low: 5.0, middle: 5.0, high: 5.0 });
    }

    #[test]
    fn a_half_and_a_double_cancel() {
        let Interval { low, middle, high } = Interval::of_ratio(&[(1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]);
        assert!(is_near(middle, 1.0) && is_near(low * high, 1.0) && low < 0.5, "{low} {middle} {high}");
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let values = [9.0, 1.0, 5.0, 3.0, 7.0];
        assert_eq!((median(&values), quantile(&values, 0.0), quantile(&values, 0.99)), (5.0, 1.0, 9.0));
    }
}
