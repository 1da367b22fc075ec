//! Two ways of doing the same thing, measured in turns, so that what disturbs the machine disturbs both.

use std::time::Duration;

/// What both ways took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pair {
    /// Seconds for one piece of work, by us, one figure a round.
    pub ours: Vec<f64>,
    /// The same for the baseline.
    pub baseline: Vec<f64>,
}

impl Pair {
    /// Runs both ways in turns. Each says how long it took for how many pieces of work.
    pub fn measure(
        rounds: usize,
        mut ours: impl FnMut() -> (Duration, usize),
        mut baseline: impl FnMut() -> (Duration, usize),
    ) -> Pair {
        let mut pair = Pair::default();
        for _ in 0..rounds {
            pair.baseline.push(each(baseline()));
            pair.ours.push(each(ours()));
        }
        pair
    }

    /// How fast we are, where the baseline is 1: above 1 is faster.
    pub fn ratio(&self) -> f64 {
        median(&self.baseline) / median(&self.ours)
    }

    /// Pieces of work in a second, by us: the median of the rounds.
    pub fn ours_per_second(&self) -> f64 {
        1.0 / median(&self.ours)
    }

    /// Pieces of work in a second by the baseline: the median of the rounds.
    pub fn baseline_per_second(&self) -> f64 {
        1.0 / median(&self.baseline)
    }
}

fn each((time, pieces): (Duration, usize)) -> f64 {
    time.as_secs_f64() / pieces.max(1) as f64
}

/// The figure in the middle; of an even number, the mean of the two in the middle.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_round_changes_nothing() {
        assert_eq!(median(&[1.0, 900.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        let pair = Pair { ours: vec![2.0, 2.0, 70.0], baseline: vec![1.0, 0.001, 1.0] };
        assert_eq!((pair.ratio(), pair.ours_per_second()), (0.5, 0.5));
    }
}
