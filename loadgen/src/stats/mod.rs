//! What samples of **rounds** allow to say about two servers. Pure: no clock, no randomness.
//!
//! A round is one whole measurement, and it is the unit that is sampled. The hundred thousand handshakes inside a
//! round tell how steady the server was during that round; they say nothing about how the next round will turn out
//! (other neighbours on the machine, another clock frequency, another memory layout), and that is the noise that
//! makes two measurements of one thing differ. So two single runs can never be told apart, however long they are.
//!
//! The interval is Student's on the logarithms of the rounds' figures ([`unpaired`] after Welch, [`paired`] on the
//! differences of neighbours):
//! - logarithms, because noise on a machine scales a figure, and because the question is a ratio;
//! - Student's t, because there are few rounds. A percentile bootstrap of five values draws from 126 different
//!   resamples and covers a nominal 95 % in about 85 % of cases; t is exact for normal noise from three rounds on, and
//!   errs to the careful side when a stalled round gives the sample a tail;
//! - pairs when rounds alternated, because what drifts over minutes then hits both of a pair and falls out.

mod interval;
mod spread;
pub mod verdict;

pub use interval::{CannotTell, Confidence, ERROR_SHARE_MAX, ROUNDS_MIN, RatioInterval, paired, unpaired};
pub use spread::Spread;
pub use verdict::{Better, Verdict, verdict};

/// The middle of a sample; the mean of the two middle values when their number is even. `None` for an empty one.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n.is_multiple_of(2) => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// The value below which a share `q` (0 to 1) of a sample lies, interpolated between its neighbours. `None` for an
/// empty one.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the position is inside the slice")]
pub fn percentile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * at.fract())
}

/// Normal noise for the tests of this crate's statistics, from a seed.
#[cfg(test)]
pub(crate) mod noise {
    use rand::RngExt;
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::SeedableRng;

    pub(crate) struct Noise(Pcg64Mcg);

    impl Noise {
        pub(crate) fn seeded(seed: u64) -> Self {
            Self(Pcg64Mcg::seed_from_u64(seed))
        }

        pub(crate) fn uniform(&mut self) -> f64 {
            self.0.random::<f64>()
        }

        /// Standard normal, after Box and Muller.
        pub(crate) fn normal(&mut self) -> f64 {
            let (u, v) = (1.0 - self.uniform(), self.uniform());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[5.0], 0.99), Some(5.0));
        assert_eq!(percentile(&[0.0, 10.0, 20.0], 0.25), Some(5.0));
    }
}
