//! Better, worse, or no difference.

use std::fmt;

use super::interval::{CannotTell, RatioInterval};

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Latencies and costs.
    Lower,
}

/// What the rounds say about the second side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The whole interval lies on the good side of 1.
    Better,
    /// The whole interval lies on the bad side of 1.
    Worse,
    /// 1 lies inside the interval: no difference was found, and none larger than the interval's ends is there.
    NoDifference,
    /// There is no interval.
    CannotTell(CannotTell),
}

impl Verdict {
    /// The word in a JSON report.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no_difference",
            Self::CannotTell(_) => "cannot_tell",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
            Self::CannotTell(_) => "cannot tell",
        })
    }
}

/// Judges an interval of the second side's figure over the first one's.
#[must_use]
pub fn verdict(interval: &Result<RatioInterval, CannotTell>, good: Better) -> Verdict {
    let interval = match interval {
        Ok(interval) => interval,
        Err(why) => return Verdict::CannotTell(*why),
    };
    let (higher, lower) = (interval.low > 1.0, interval.high < 1.0);
    match good {
        Better::Higher if higher => Verdict::Better,
        Better::Lower if lower => Verdict::Better,
        _ if higher || lower => Verdict::Worse,
        _ => Verdict::NoDifference,
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise::Noise;
    use super::super::{Confidence, paired, unpaired};
    use super::*;

    /// How many of `comparisons` seeded ones are called a difference.
    fn differences(comparisons: u64, mut samples: impl FnMut(&mut Noise) -> (Vec<f64>, Vec<f64>), pairs: bool) -> u64 {
        let judge = if pairs { paired } else { unpaired };
        let found = (0..comparisons).filter(|seed| {
            let (a, b) = samples(&mut Noise::seeded(*seed));
            matches!(verdict(&judge(&a, &b, Confidence::default()), Better::Higher), Verdict::Better | Verdict::Worse)
        });
        found.count() as u64
    }

    /// `n` rounds around `centre` with normal noise of `deviation` on the logarithm.
    fn rounds(noise: &mut Noise, n: usize, centre: f64, deviation: f64) -> Vec<f64> {
        (0..n).map(|_| centre * (deviation * noise.normal()).exp()).collect()
    }

    /// Half of the rounds stall a little, one in ten by much: what a busy virtual machine does.
    fn stalling(noise: &mut Noise, n: usize) -> Vec<f64> {
        (0..n)
            .map(|_| {
                let stall = if noise.uniform() < 0.1 { 0.15 * noise.uniform() } else { 0.01 * noise.uniform() };
                10_000.0 * (1.0 - stall) * (0.005 * noise.normal()).exp()
            })
            .collect()
    }

    // A false verdict in one of a hundred is what 99 % states: 20 of 2,000, and by chance (3.3 standard deviations,
    // one test in a thousand) no more than 35.
    const FALSE_OF_2000: u64 = 35;

    #[test]
    fn one_distribution_is_called_no_difference_at_the_stated_rate() {
        for n in [3, 5, 10] {
            for pairs in [false, true] {
                let same = |noise: &mut Noise| (rounds(noise, n, 9000.0, 0.02), rounds(noise, n, 9000.0, 0.02));
                let found = differences(2000, same, pairs);
                assert!(found <= FALSE_OF_2000, "{found} false verdicts with {n} rounds, pairs: {pairs}");
            }
        }
    }

    #[test]
    fn the_stated_rate_is_used_up_and_not_bought_with_blindness() {
        let same = |noise: &mut Noise| (rounds(noise, 5, 9000.0, 0.02), rounds(noise, 5, 9000.0, 0.02));
        assert!(differences(2000, same, true) >= 8);
    }

    #[test]
    fn stalled_rounds_make_no_difference() {
        for pairs in [false, true] {
            let found = differences(2000, |noise| (stalling(noise, 5), stalling(noise, 5)), pairs);
            assert!(found <= FALSE_OF_2000, "{found} false verdicts, pairs: {pairs}");
        }
    }

    #[test]
    fn a_drift_over_all_rounds_falls_out_of_pairs() {
        // The machine loses 2 % per round, ABBAABB..: the sides take turns in going first.
        let drifting = |noise: &mut Noise| {
            let mut sides = (Vec::new(), Vec::new());
            for pair in 0..6 {
                for half in 0..2 {
                    let value = 9000.0 * 0.98_f64.powi(2 * pair + half) * (0.01 * noise.normal()).exp();
                    let first = (pair + half) % 2 == 0;
                    if first { sides.0.push(value) } else { sides.1.push(value) }
                }
            }
            sides
        };
        assert!(differences(2000, drifting, true) <= FALSE_OF_2000);
    }

    #[test]
    fn a_change_of_five_percent_is_found() {
        // 1 % between rounds is a quiet machine and 2 % a noisy one, which needs more rounds for the same.
        for (n, deviation) in [(5, 0.01), (10, 0.02)] {
            let changed =
                |noise: &mut Noise| (rounds(noise, n, 9000.0, deviation), rounds(noise, n, 9450.0, deviation));
            let found = differences(500, changed, false);
            assert!(found >= 475, "{found} of 500 with {n} rounds of {deviation}");
        }
    }

    #[test]
    fn a_verdict_knows_which_way_is_good() {
        let interval = |low, high| Ok(RatioInterval { low, ratio: f64::midpoint(low, high), high });
        assert_eq!(verdict(&interval(1.02, 1.08), Better::Higher), Verdict::Better);
        assert_eq!(verdict(&interval(1.02, 1.08), Better::Lower), Verdict::Worse);
        assert_eq!(verdict(&interval(0.92, 0.98), Better::Lower), Verdict::Better);
        assert_eq!(verdict(&interval(0.92, 0.98), Better::Higher), Verdict::Worse);
        assert_eq!(verdict(&interval(0.98, 1.02), Better::Lower), Verdict::NoDifference);
        let few = CannotTell::TooFewRounds { a: 1, b: 1 };
        assert_eq!(verdict(&Err(few), Better::Lower), Verdict::CannotTell(few));
    }
}
