//! Figures with their noise.

use std::fmt;

pub use handfast_load::stats::Spread;
use serde::Serialize;

/// The 95 % interval of a ratio that was measured in several rounds.
///
/// It is the t-interval of the logarithms: ratios multiply, and one of 2 must weigh as much as one of 1/2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower bound.
    pub low: f64,
    /// The geometric mean.
    pub mean: f64,
    /// Its upper bound.
    pub high: f64,
}

/// Student's t for a two-sided 95 %, by degrees of freedom from 1 on.
const STUDENT_T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl Interval {
    /// Of the ratios of at least two rounds, all greater than zero; `None` of others.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a few dozen rounds")]
    pub fn of_ratios(ratios: &[f64]) -> Option<Self> {
        if ratios.len() < 2 || ratios.iter().any(|r| !r.is_finite() || *r <= 0.0) {
            return None;
        }
        let n = ratios.len() as f64;
        let mean = ratios.iter().map(|r| r.ln()).sum::<f64>() / n;
        let variance = ratios.iter().map(|r| (r.ln() - mean).powi(2)).sum::<f64>() / (n - 1.0);
        // Beyond the table its last value is a little too wide, which errs on the safe side.
        let t = STUDENT_T_95[(ratios.len() - 2).min(STUDENT_T_95.len() - 1)];
        let half = t * (variance / n).sqrt();
        Some(Self { low: (mean - half).exp(), mean: mean.exp(), high: (mean + half).exp() })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(f, "{:.digits$} .. {:.digits$}, mean {:.digits$}", self.low, self.high, self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_logarithms() {
        assert_eq!(Interval::of_ratios(&[1.0]), None);
        assert_eq!(Interval::of_ratios(&[1.0, 0.0]), None);
        let same = Interval::of_ratios(&[0.5; 7]).expect("seven rounds");
        assert!((same.low - 0.5).abs() < 1e-12 && (same.high - 0.5).abs() < 1e-12, "{same}");
        // Logarithms -0.1, 0 and 0.1: a standard error of 0.1 / sqrt(3), times 4.303.
        let spread = Interval::of_ratios(&[(-0.1_f64).exp(), 1.0, 0.1_f64.exp()]).expect("three rounds");
        assert!((spread.mean - 1.0).abs() < 1e-12, "{spread}");
        assert!((spread.low.ln() + 0.248_434).abs() < 1e-5 && (spread.high.ln() - 0.248_434).abs() < 1e-5, "{spread}");
    }
}
