//! What measurements say of a mean and of a ratio, and how sure that is.
//!
//! They come in rounds of slices. The slices of a round share what the start of its servers has brought with it, such as their
//! places in memory and who came first, so they are no independent witnesses: a round's mean is one observation.

use std::fmt;

/// Student's t for 95 %, both sides, by degrees of freedom from 1 on.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) standard_error: f64,
    /// Half the width of its 95 % interval.
    margin: f64,
}

impl Estimate {
    /// Of what was measured in each slice of each round; `None` of fewer than two rounds and of an empty one.
    pub(super) fn of(rounds: &[Vec<f64>]) -> Option<Self> {
        let means: Vec<f64> = rounds.iter().map(|slices| mean(slices)).collect::<Option<_>>()?;
        let freedom = means.len().checked_sub(1).filter(|&freedom| freedom > 0)?;
        let mean = mean(&means)?;
        let squares: f64 = means.iter().map(|round| (round - mean).powi(2)).sum();
        let standard_error = (squares / count(freedom) / count(means.len())).sqrt();
        // Beyond the table it is a little smaller than its last.
        let margin = standard_error * T[freedom.min(T.len()) - 1];
        Some(Self { mean, standard_error, margin })
    }
}

/// How many times as much one costs as the other, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub(super) ratio: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Ratio {
    /// Slice by slice, as the geometric mean: the arithmetic one of a noisy ratio is too large, whichever is divided by the
    /// other. `None` as of [`Estimate::of`], and where the two were not measured alike.
    pub(super) fn of(costs: &[Vec<f64>], to: &[Vec<f64>]) -> Option<Self> {
        let alike = costs.len() == to.len() && costs.iter().zip(to).all(|(a, b)| a.len() == b.len());
        let logarithms =
            |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| (a / b).ln()).collect();
        let rounds: Vec<Vec<f64>> = costs.iter().zip(to).map(logarithms).collect();
        let Estimate { mean, margin, .. } = Estimate::of(&rounds).filter(|_| alike)?;
        Some(Self { ratio: mean.exp(), low: (mean - margin).exp(), high: (mean + margin).exp() })
    }

    /// Whether chance alone is an unlikely reason for the difference.
    pub(super) fn excludes_1(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.ratio, self.low, self.high)
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values.len()))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(value: f64, wanted: f64) {
        assert!((value - wanted).abs() < 1e-6, "{value}, not {wanted}");
    }

    #[test]
    fn a_rounds_mean_is_one_observation_however_many_slices_it_has() {
        // Means 2, 4 and 9: variance 13.
        let rounds = [vec![1.0, 3.0], vec![4.0; 100], vec![9.0]];
        let estimate = Estimate::of(&rounds).unwrap();
        assert_near(estimate.mean, 5.0);
        assert_near(estimate.standard_error, (13.0_f64 / 3.0).sqrt());
        assert_near(estimate.margin, estimate.standard_error * 4.303);
    }

    #[test]
    fn one_round_or_an_empty_one_says_nothing_of_chance() {
        assert_eq!(Estimate::of(&[vec![1.0, 2.0]]), None);
        assert_eq!(Estimate::of(&[vec![1.0], vec![]]), None);
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn t_does_not_end_with_its_table() {
        let rounds: Vec<Vec<f64>> = (0..40).map(|round| vec![f64::from(round % 2)]).collect();
        let estimate = Estimate::of(&rounds).unwrap();
        assert_near(estimate.margin, estimate.standard_error * 2.042);
    }

    #[test]
    fn a_ratio_is_taken_slice_by_slice_and_inverts_when_the_two_change_places() {
        // The machine's pace changes a hundredfold from slice to slice: what stays is the ratio.
        let ours = [vec![10.0, 1_000.0], vec![20.0, 30.0], vec![5.0, 5.0]];
        let twice = ours.clone().map(|slices| slices.iter().map(|cost| cost * 2.0).collect());
        let ratio = Ratio::of(&twice, &ours).unwrap();
        assert_near(ratio.ratio, 2.0);
        assert_near(ratio.high - ratio.low, 0.0);
        let theirs = [vec![11.0, 900.0], vec![24.0, 31.0], vec![5.0, 6.0]];
        let (over, under) = (Ratio::of(&theirs, &ours).unwrap(), Ratio::of(&ours, &theirs).unwrap());
        assert_near(over.ratio * under.ratio, 1.0);
        assert_near(over.low * under.high, 1.0);
    }

    #[test]
    fn slices_without_their_counterpart_are_not_compared() {
        assert_eq!(Ratio::of(&[vec![1.0, 1.0], vec![1.0]], &[vec![1.0], vec![1.0]]), None);
        assert_eq!(Ratio::of(&vec![vec![1.0]; 3], &vec![vec![1.0]; 2]), None);
    }

    #[test]
    fn an_interval_excludes_1_from_either_side() {
        let is = |low, high| Ratio { ratio: 1.0, low, high }.excludes_1();
        assert!(is(1.001, 1.2) && is(0.8, 0.999));
        assert!(!is(0.999, 1.001) && !is(1.0, 1.2));
        assert_eq!(Ratio { ratio: 1.0123, low: 0.9987, high: 1.0261 }.to_string(), "1.012 (0.999 to 1.026)");
    }
}
