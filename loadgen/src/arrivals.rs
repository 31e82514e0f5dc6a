//! When handshakes are due in an open loop. Pure: the randomness follows from a seed.
//!
//! A [`Profile`] says how many arrivals a second there are at each time; [`Arrivals`] draws them. Both think in
//! *expected arrivals* since the start: gaps there are all alike (one, or exponential with mean one), and the profile
//! turns them into times.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::duration;

/// How arrivals follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Law {
    /// Independently of each other, as those of many clients do: gaps are exponential.
    #[default]
    Poisson,
    /// At equal gaps.
    Constant,
}

/// A time over which the rate is constant or a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stage {
    length: Duration,
    /// Arrivals per second when it begins and when it ends.
    from: f64,
    to: f64,
}

impl Stage {
    fn expected(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.length.as_secs_f64()
    }

    /// The time after the beginning at which so many arrivals are expected.
    fn time_of(&self, expected: f64) -> Duration {
        if expected <= 0.0 {
            return Duration::ZERO;
        }
        let bend = (self.to - self.from) / (2.0 * self.length.as_secs_f64());
        // The root of bend t^2 + from t = expected, in the form that loses no digits when bend is small.
        let root = (self.from * self.from + 4.0 * bend * expected).max(0.0).sqrt();
        Duration::try_from_secs_f64(2.0 * expected / (self.from + root)).unwrap_or(Duration::MAX)
    }
}

/// Arrivals per second over time: stages, and then the last rate for ever.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    stages: Vec<Stage>,
    /// What follows the stages.
    last: f64,
}

impl Profile {
    /// `rate` arrivals per second, for ever.
    #[must_use]
    pub const fn steady(rate: f64) -> Self {
        Self { stages: Vec::new(), last: rate }
    }

    /// How long its stages take.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.stages.iter().map(|s| s.length).sum()
    }

    /// The rate with which it ends.
    #[must_use]
    pub const fn last_rate(&self) -> f64 {
        self.last
    }

    /// Arrivals expected in the stages.
    #[must_use]
    pub fn expected(&self) -> f64 {
        self.stages.iter().map(Stage::expected).sum()
    }

    /// The same, after `time` at the rate with which it begins.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        if !time.is_zero() {
            let rate = self.stages.first().map_or(self.last, |s| s.from);
            self.stages.insert(0, Stage { length: time, from: rate, to: rate });
        }
        self
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "write for example 30s@100,1m@500 (two steps) or 30s@100..500,1m@500 (a ramp, then a step)";
        let stage = |text: &str| {
            let (length, rates) = text.split_once('@').ok_or_else(|| format!("`{text}` has no @; {EXAMPLE}"))?;
            let length = duration::parse_nonzero(length).map_err(|e| format!("`{text}`: {e}"))?;
            let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
            let rate = |text: &str| parse_rate(text).map_err(|e| format!("{e}; {EXAMPLE}"));
            Ok::<_, String>(Stage { length, from: rate(from)?, to: rate(to)? })
        };
        let stages = text.split(',').map(|s| stage(s.trim())).collect::<Result<Vec<_>, _>>()?;
        if stages.iter().all(|s| s.expected() == 0.0) {
            return Err(format!("some stage must have a rate above 0; {EXAMPLE}"));
        }
        let last = stages.last().map_or(0.0, |s| s.to);
        Ok(Self { stages, last })
    }
}

/// Reads a rate above 0 for the command line.
///
/// # Errors
/// The text is none.
pub fn parse_rate_nonzero(text: &str) -> Result<f64, String> {
    match parse_rate(text) {
        Ok(rate) if rate > 0.0 => Ok(rate),
        Ok(_) => Err("it must be above 0; write for example 500, or 0.5 for one in two seconds".to_owned()),
        Err(e) => Err(format!("{e}; write for example 500, or 0.5 for one in two seconds")),
    }
}

/// The highest rate that can be asked for: a million times what one machine can do.
const RATE_MAX: f64 = 1e10;

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.trim().parse().map_err(|_| format!("`{text}` is no number of handshakes per second"))?;
    if !(0.0..=RATE_MAX).contains(&rate) {
        return Err(format!("`{text}` is no rate from 0 to {RATE_MAX}"));
    }
    Ok(rate)
}

/// The randomness of shard `index`: the same for the same seed, on every machine.
#[must_use]
pub fn randomness(seed: u64, index: u32) -> Pcg64 {
    let mut root = Pcg64::seed_from_u64(seed);
    let state = (0..=index).fold(0, |_, _| root.random());
    Pcg64::new(state, u128::from(index))
}

/// The arrivals of one shard, in their order: times since the start. Those of all shards together are the profile's.
#[derive(Clone, Debug)]
pub struct Arrivals {
    profile: Profile,
    law: Law,
    rng: Pcg64,
    /// Of so many shards each takes its share: every n-th arrival, or a Poisson process of an n-th of the rate.
    shards: f64,
    /// Where the next arrival is: in this stage, ...
    stage: usize,
    /// ... which begins at this time, ...
    began: Duration,
    /// ... and has so many expected arrivals before it.
    expected: f64,
    next: Option<Duration>,
}

impl Arrivals {
    /// Those of shard `index` of `shards`.
    #[must_use]
    pub fn new(profile: Profile, law: Law, seed: u64, index: u32, shards: u32) -> Self {
        let rng = randomness(seed, index);
        let shards = f64::from(shards.max(1));
        let mut arrivals =
            Self { profile, law, rng, shards, stage: 0, began: Duration::ZERO, expected: 0.0, next: None };
        let first = match law {
            Law::Poisson => arrivals.gap(),
            Law::Constant => f64::from(index),
        };
        arrivals.advance(first);
        arrivals
    }

    /// The next one; `None` when there are no more.
    #[must_use]
    pub const fn peek(&self) -> Option<Duration> {
        self.next
    }

    fn gap(&mut self) -> f64 {
        match self.law {
            // The number is below 1, so the logarithm is finite.
            Law::Poisson => -self.shards * (-self.rng.random::<f64>()).ln_1p(),
            Law::Constant => self.shards,
        }
    }

    fn advance(&mut self, by: f64) {
        self.expected += by;
        while let Some(stage) = self.profile.stages.get(self.stage) {
            let there = stage.expected();
            if self.expected < there {
                self.next = Some(self.began + stage.time_of(self.expected));
                return;
            }
            self.expected -= there;
            self.began += stage.length;
            self.stage += 1;
        }
        self.next = (self.profile.last > 0.0)
            .then(|| Duration::try_from_secs_f64(self.expected / self.profile.last).ok())
            .flatten()
            .and_then(|t| self.began.checked_add(t));
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next?;
        let gap = self.gap();
        self.advance(gap);
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn profile(text: &str) -> Profile {
        text.parse().unwrap()
    }

    fn until(arrivals: Arrivals, end: Duration) -> Vec<f64> {
        arrivals.take_while(|t| *t < end).map(|t| t.as_secs_f64()).collect()
    }

    /// What all of `shards` shards start, in its order.
    fn union(profile: &Profile, law: Law, shards: u32, end: Duration) -> Vec<f64> {
        let one = |index| until(Arrivals::new(profile.clone(), law, 7, index, shards), end);
        let mut all: Vec<f64> = (0..shards).flat_map(one).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    #[test]
    fn gaps_of_a_poisson_process_are_exponential() {
        for shards in [1, 4] {
            let times = union(&Profile::steady(1000.0), Law::Poisson, shards, 100 * SECOND);
            let mut gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) * 1000.0).collect();
            gaps.sort_by(f64::total_cmp);
            let n = gaps.len() as f64;
            // Kolmogorov and Smirnov: the largest distance between both distribution functions. A true sample stays
            // below 1.63 / sqrt(n) in 99 of 100 cases, and the seed is fixed.
            let distance = gaps.iter().enumerate().fold(0.0_f64, |worst, (i, gap)| {
                let expected = 1.0 - (-gap).exp();
                worst.max((expected - i as f64 / n).abs()).max((expected - (i + 1) as f64 / n).abs())
            });
            assert!(distance < 1.63 / n.sqrt(), "{shards} shards: {distance} of {}", 1.63 / n.sqrt());
        }
    }

    #[test]
    fn counts_of_a_poisson_process_are_as_dispersed_as_they_have_to_be() {
        for shards in [1, 4] {
            let times = union(&Profile::steady(500.0), Law::Poisson, shards, 200 * SECOND);
            let mut counts = vec![0.0; 2000];
            for t in times {
                // Windows of a tenth of a second.
                counts[Duration::from_secs_f64(t).as_millis() as usize / 100] += 1.0;
            }
            let n = counts.len() as f64;
            let mean = counts.iter().sum::<f64>() / n;
            let variance = counts.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>() / (n - 1.0);
            // The index of dispersion is 1 with a standard deviation of sqrt(2 / n); three of them either way.
            let dispersion = variance / mean;
            assert!((dispersion - 1.0).abs() < 3.0 * (2.0 / n).sqrt(), "{shards} shards: {dispersion}");
        }
    }

    #[test]
    fn a_rate_is_what_was_asked_for_over_ten_minutes() {
        for law in [Law::Poisson, Law::Constant] {
            for (rate, shards) in [(1000.0, 1), (1000.0, 3), (333.3, 4)] {
                let got = union(&Profile::steady(rate), law, shards, 600 * SECOND).len() as f64 / 600.0;
                assert!((got / rate - 1.0).abs() < 0.005, "{law:?} {rate}/s over {shards} shards: {got}");
            }
        }
    }

    #[test]
    fn constant_arrivals_of_all_shards_interleave() {
        let times = union(&Profile::steady(10.0), Law::Constant, 3, 2 * SECOND);
        assert_eq!(times.len(), 20);
        assert!(times.iter().enumerate().all(|(i, t)| (t - i as f64 / 10.0).abs() < 1e-6), "{times:?}");
    }

    #[test]
    fn a_step_keeps_its_rate_and_a_ramp_is_a_straight_line() {
        let steps = union(&profile("10s@100,10s@0,10s@300"), Law::Constant, 2, 30 * SECOND);
        let within = |from: f64, to: f64| steps.iter().filter(|t| (from..to).contains(t)).count() as f64;
        assert_eq!((within(0.0, 10.0), within(10.0, 20.0), within(20.0, 30.0)), (1000.0, 0.0, 3000.0));
        let ramp = union(&profile("10s@0..200,5s@200"), Law::Constant, 1, 15 * SECOND);
        let within = |to: f64| ramp.iter().filter(|t| **t < to).count() as f64;
        // The area under the line.
        for (to, expected) in [(2.5, 62.5), (5.0, 250.0), (10.0, 1000.0), (15.0, 2000.0)] {
            assert!((within(to) - expected).abs() <= 1.0, "{} before {to} s", within(to));
        }
    }

    #[test]
    fn a_warm_up_has_the_first_rate_and_shifts_the_stages() {
        let shifted = profile("1s@100..200").after(2 * SECOND);
        assert_eq!((shifted.length(), shifted.expected()), (3 * SECOND, 350.0));
        assert_eq!(Profile::steady(5.0).after(Duration::ZERO), Profile::steady(5.0));
    }

    #[test]
    fn the_seed_decides_everything() {
        let draw = |seed, index| until(Arrivals::new(Profile::steady(50.0), Law::Poisson, seed, index, 2), SECOND);
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
    }

    #[test]
    fn what_is_no_profile_is_refused_with_an_example() {
        for bad in ["", "30s", "@5", "30s@", "30s@x", "30s@-1", "0s@5", "30s@5..", "30s@inf", "5s@0", "30s@NaN"] {
            let error = bad.parse::<Profile>().expect_err(bad);
            assert!(error.contains("write for example"), "{bad}: {error}");
        }
        assert!(parse_rate_nonzero("0").is_err());
        assert_eq!(parse_rate_nonzero("0.5"), Ok(0.5));
    }

    #[test]
    fn a_profile_that_ends_with_nothing_has_a_last_arrival() {
        assert_eq!(Arrivals::new(profile("1s@10,1s@0"), Law::Constant, 1, 0, 1).count(), 10);
    }
}
