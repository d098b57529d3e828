//! Samples of several contestants, taken in turn.
//!
//! What a machine does besides comes and goes over seconds: whoever is measured in the same seconds suffers from the same of
//! it. Rounds therefore go forth and back (A B B A ..), and a comparison is made between samples of one run only.

/// The order of `count` contestants in a round: forth in even ones, back in odd ones.
pub fn order(round: usize, count: usize) -> Vec<usize> {
    match round.is_multiple_of(2) {
        true => (0..count).collect(),
        false => (0..count).rev().collect(),
    }
}

/// What was measured of one contestant; lower is better.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: f64) {
        assert!(sample.is_finite(), "a sample is a number, not {sample}");
        self.0.push(sample);
    }

    /// Nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest: what the code costs when nobody disturbs it.
    pub fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The middle one, the higher of two; NaN without samples.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::{Samples, order};

    #[test]
    fn every_second_round_goes_back() {
        assert_eq!((order(0, 3), order(1, 3), order(2, 3)), (vec![0, 1, 2], vec![2, 1, 0], vec![0, 1, 2]));
    }

    #[test]
    fn best_and_median_do_not_depend_on_the_order() {
        let mut samples = Samples::default();
        for sample in [3.0, 1.0, 7.0, 2.0, 9.0] {
            samples.push(sample);
        }
        assert_eq!((samples.best(), samples.median()), (1.0, 3.0));
    }
}
