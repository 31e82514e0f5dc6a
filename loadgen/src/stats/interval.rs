//! An interval for the ratio of two servers, from their rounds.

use std::fmt;

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Rounds that each side must have. With two, the interval is so wide that it says nothing about anything.
pub const ROUNDS_MIN: usize = 3;

/// A share of failures above which the figures of what succeeded decide nothing: what fails costs a server less than what
/// succeeds, and a 99th percentile is that of a hundred of which one may be missing.
pub const ERROR_SHARE_MAX: f64 = 0.01;

/// Figures are read off histograms with three significant digits: both sides' rounds may all be off by the same half
/// step, which no number of rounds averages away. So much is added to each end of an interval, on the logarithm.
const READING_STEP: f64 = 1e-3;
/// Keeps rounds that read all the same from having no variance, which Welch's formula divides by.
const VARIANCE_MIN: f64 = 1e-12;

/// How often an interval has to hold the truth: a share between 0.5 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence(f64);

impl Confidence {
    /// As a share: 0.99 for 99 %.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (0.5..1.0).contains(&share).then_some(Self(share))
    }

    /// The share.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0
    }
}

impl Default for Confidence {
    /// 99 %: of a hundred comparisons of a server with itself, one is called a difference.
    fn default() -> Self {
        Self(0.99)
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hundredths are enough to tell 99.9 % from 99 %.
        write!(f, "{} %", (self.0 * 1e4).round() / 1e2)
    }
}

/// Why there is no interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotTell {
    /// One side has fewer than [`ROUNDS_MIN`] rounds.
    TooFewRounds {
        /// Rounds of the first side.
        a: usize,
        /// Rounds of the second.
        b: usize,
    },
    /// Pairs need as many rounds on one side as on the other.
    Unpaired,
    /// A round without a figure above zero: nothing succeeded in it, or it was not measured.
    NotPositive,
    /// In so many rounds of each side the load generator or its machine was the limit, so they do not tell of the
    /// server.
    GeneratorLimit {
        /// Rounds of the first side.
        a: usize,
        /// Rounds of the second.
        b: usize,
    },
    /// So many rounds of each side ended before their time: the person ended them, or the target was lost.
    CutShort {
        /// Rounds of the first side.
        a: usize,
        /// Rounds of the second.
        b: usize,
    },
    /// More than [`ERROR_SHARE_MAX`] of a side's handshakes failed.
    Failures,
}

impl fmt::Display for CannotTell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewRounds { a, b } => write!(
                f,
                "{a} and {b} rounds are too few, because noise between runs is not inside a run; measure at least \
                 {ROUNDS_MIN}, better 5 or more, with --rounds 5"
            ),
            Self::Unpaired => f.write_str("the two sides do not have the same number of rounds"),
            Self::NotPositive => {
                f.write_str("a round has no figure above zero: nothing succeeded in it, or it was not measured")
            }
            Self::GeneratorLimit { a, b } => write!(
                f,
                "the generator or its machine, not the server, was the limit in {a} and {b} rounds; their runs said what \
                 to do"
            ),
            Self::CutShort { a, b } => write!(
                f,
                "{a} and {b} rounds did not come to their planned end, because they were interrupted or their server was \
                 lost; measure them again"
            ),
            Self::Failures => write!(
                f,
                "more than {} % of a side's handshakes failed, and the figures are of those that succeeded",
                ERROR_SHARE_MAX * 100.0
            ),
        }
    }
}

impl std::error::Error for CannotTell {}

/// Where the ratio of the second side to the first one lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioInterval {
    /// The lower end.
    pub low: f64,
    /// The ratio of the geometric means.
    pub ratio: f64,
    /// The upper end.
    pub high: f64,
}

/// The ratio of `b` to `a` for rounds that were measured at different times (Welch).
///
/// # Errors
/// Too few rounds, or one without a positive figure.
pub fn unpaired(a: &[f64], b: &[f64], confidence: Confidence) -> Result<RatioInterval, CannotTell> {
    let (log_a, log_b) = logs(a, b)?;
    let (a, b) = (Moments::of(&log_a), Moments::of(&log_b));
    let (share_a, share_b) = (a.variance / a.n, b.variance / b.n);
    let error = share_a + share_b;
    let freedom = error * error / (share_a * share_a / (a.n - 1.0) + share_b * share_b / (b.n - 1.0));
    Ok(around(b.mean - a.mean, error.sqrt(), freedom, confidence))
}

/// The ratio of `b` to `a` for rounds that were measured in turn: `a[i]` and `b[i]` are neighbours in time.
///
/// # Errors
/// As for [`unpaired`], or the sides differ in length.
pub fn paired(a: &[f64], b: &[f64], confidence: Confidence) -> Result<RatioInterval, CannotTell> {
    let (log_a, log_b) = logs(a, b)?;
    if log_a.len() != log_b.len() {
        return Err(CannotTell::Unpaired);
    }
    let differences: Vec<f64> = log_a.iter().zip(&log_b).map(|(a, b)| b - a).collect();
    let d = Moments::of(&differences);
    Ok(around(d.mean, (d.variance / d.n).sqrt(), d.n - 1.0, confidence))
}

fn logs(a: &[f64], b: &[f64]) -> Result<(Vec<f64>, Vec<f64>), CannotTell> {
    if a.len().min(b.len()) < ROUNDS_MIN {
        return Err(CannotTell::TooFewRounds { a: a.len(), b: b.len() });
    }
    if !a.iter().chain(b).all(|v| *v > 0.0 && v.is_finite()) {
        return Err(CannotTell::NotPositive);
    }
    let log = |values: &[f64]| values.iter().map(|v| v.ln()).collect();
    Ok((log(a), log(b)))
}

struct Moments {
    n: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    /// Of two values or more.
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Self { n, mean, variance: (squares / (n - 1.0)).max(VARIANCE_MIN) }
    }
}

fn around(log_ratio: f64, error: f64, freedom: f64, confidence: Confidence) -> RatioInterval {
    // Neither the freedom (at least 2 here) nor the scale can be refused.
    let t =
        StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(f64::midpoint(confidence.0, 1.0)));
    let half = t * error + READING_STEP;
    RatioInterval { low: (log_ratio - half).exp(), ratio: log_ratio.exp(), high: (log_ratio + half).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_textbook_agrees() {
        // t(0.975; 4 degrees) = 2.776: five differences with mean 0 and deviation 0.01.
        let a = [100.0; 5];
        let b: Vec<f64> = [-1.264_911, -0.632_456, 0.0, 0.632_456, 1.264_911]
            .iter()
            .map(|z: &f64| 100.0 * (z * 0.01).exp())
            .collect();
        let interval = paired(&a, &b, Confidence::new(0.95).unwrap()).unwrap();
        let half = 2.776 * 0.01 / 5.0_f64.sqrt() + READING_STEP;
        assert!((interval.high.ln() - half).abs() < 1e-5, "{interval:?}");
        assert!((interval.low.ln() + half).abs() < 1e-5, "{interval:?}");
        assert!((interval.ratio - 1.0).abs() < 1e-6);
    }

    #[test]
    fn two_single_runs_cannot_tell() {
        let refused = unpaired(&[100.0], &[200.0], Confidence::default());
        assert_eq!(refused, Err(CannotTell::TooFewRounds { a: 1, b: 1 }));
        assert!(refused.unwrap_err().to_string().contains("--rounds 5"));
        assert!(unpaired(&[1.0; 5], &[2.0; 2], Confidence::default()).is_err());
    }

    #[test]
    fn rounds_without_a_figure_are_no_sample() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(paired(&[1.0, 1.0, bad], &[1.0; 3], Confidence::default()), Err(CannotTell::NotPositive));
        }
        assert_eq!(paired(&[1.0; 3], &[1.0; 4], Confidence::default()), Err(CannotTell::Unpaired));
    }

    #[test]
    fn rounds_that_differ_in_the_last_digit_only_are_no_difference() {
        let interval = unpaired(&[500.0; 5], &[500.4; 5], Confidence::default()).unwrap();
        assert!(interval.low < 1.0 && interval.high > 1.0, "{interval:?}");
    }

    #[test]
    fn confidences_are_shares() {
        assert_eq!(Confidence::new(99.0), None);
        assert_eq!(Confidence::new(0.999).unwrap().to_string(), "99.9 %");
    }
}
