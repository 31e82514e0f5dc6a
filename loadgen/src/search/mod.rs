//! The search for the highest rate that keeps to an objective. Pure: what a rate does is asked of a [`Probe`].
//!
//! Doubling (or halving) brackets the knee, bisection on a log scale narrows it, and the result is confirmed. A probe
//! of a real machine is noisy both ways, so neither way is believed at once: a miss counts when the same rate misses
//! twice, the rate that is reported has held in its confirmations, and a rate a little above it was missed again.
//!
//! Near a knee that is noisy itself, probes of one rate disagree, and no bisection gets closer than that. From the first
//! contradiction on the search looks for the two rates around the noise instead: the highest that holds, and the lowest
//! that misses.

mod hunt;

use std::fmt;

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observation {
    /// The objective was met.
    Met,
    /// It was missed.
    Missed,
    /// It was missed while the generator did not keep up with its own schedule, so that nothing is known about the
    /// server.
    GeneratorLate,
    /// The person ended it.
    Interrupted,
}

/// Something that can be loaded with a rate.
pub trait Probe {
    /// Why a probe could not be made at all.
    type Error;

    /// Offers `rate` arrivals per second for a while.
    ///
    /// # Errors
    /// Nothing could be measured; this ends the search.
    fn probe(&mut self, rate: f64, step: Step) -> Result<Observation, Self::Error>;
}

/// Why a probe is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Looking for a rate that is too high, or low enough.
    Bracket,
    /// Narrowing.
    Bisect,
    /// Again, because the same rate missed once.
    Repeat,
    /// Again, because it would be the result.
    Confirm,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bracket => "bracket",
            Self::Bisect => "bisect",
            Self::Repeat => "repeat",
            Self::Confirm => "confirm",
        })
    }
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bounds {
    /// The first rate to try, per second.
    pub start: f64,
    /// The lowest rate that is worth knowing.
    pub rate_min: f64,
    /// The highest rate to try.
    pub rate_max: f64,
    /// The search ends when the rate that missed is at most this share above the one that held, or when what lies
    /// between them is noise: see [`Found::Knee`].
    pub precision: f64,
    /// How often the result must hold once more. One miss is made up for by one more.
    pub confirmations: u32,
    /// Probes in all. Met: the search ends with what it has, unconfirmed.
    pub probes_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { start: 1000.0, rate_min: 1.0, rate_max: 1e7, precision: 0.01, confirmations: 2, probes_max: 60 }
    }
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Found {
    /// The highest rate that held, and held again.
    Knee {
        /// It, per second.
        rate: f64,
        /// How many of its probes met the objective.
        met: u32,
        /// How many probes it had.
        probes: u32,
        /// The lowest rate above it that missed twice and had none above it that held; the highest rate allowed, if
        /// that is noise itself.
        missed: f64,
        /// The lowest and the highest rate between the two at which probes contradicted one another. `None` when the
        /// two are as close as was asked for.
        noise: Option<(f64, f64)>,
    },
    /// The highest rate allowed held: the knee lies above it.
    AboveMax {
        /// It.
        rate: f64,
    },
    /// Not even the lowest rate allowed held.
    BelowMin {
        /// It.
        rate: f64,
    },
    /// From some rate on the generator was the limit: the knee is this or higher.
    GeneratorLimit {
        /// The highest rate that held; `None` when none was.
        held: Option<f64>,
        /// The rate that the generator could not make.
        rate: f64,
    },
    /// The search ended early, by the person or by its limit of probes.
    Unfinished {
        /// The highest rate that held; `None` when none was.
        held: Option<f64>,
    },
}

/// Runs the search.
///
/// # Errors
/// A probe could not be made.
pub fn knee<P: Probe>(probe: &mut P, bounds: &Bounds) -> Result<Found, P::Error> {
    hunt::run(probe, bounds)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::stats::noise::Noise;

    /// A queue with one server, random arrivals and a fixed time of service: p99 of its sojourn time against 20 ms,
    /// by the heavy-traffic approximation (exponential waiting time).
    struct Queue {
        capacity: f64,
        noise: Noise,
        /// How much the capacity differs from probe to probe, and how often a probe meets a stall that ruins it.
        jitter: f64,
        stalls: f64,
        probes: u32,
    }

    const OBJECTIVE_S: f64 = 0.020;

    impl Queue {
        fn new(capacity: f64, seed: u64, jitter: f64, stalls: f64) -> Self {
            Self { capacity, noise: Noise::seeded(seed), jitter, stalls, probes: 0 }
        }

        fn p99(rate: f64, capacity: f64) -> f64 {
            let load = rate / capacity;
            if load >= 1.0 {
                return f64::INFINITY;
            }
            let service = 1.0 / capacity;
            let waiting = service * load / (2.0 * (1.0 - load));
            service + waiting * 100.0_f64.ln()
        }

        /// Where p99 is exactly the objective.
        fn true_knee(&self) -> f64 {
            let (mut low, mut high) = (0.0, self.capacity);
            for _ in 0..100 {
                let middle = f64::midpoint(low, high);
                if Self::p99(middle, self.capacity) < OBJECTIVE_S { low = middle } else { high = middle }
            }
            low
        }
    }

    impl Probe for Queue {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, _: Step) -> Result<Observation, Infallible> {
            self.probes += 1;
            let capacity = self.capacity * (self.jitter * self.noise.normal()).exp();
            let stalled = self.noise.uniform() < self.stalls;
            let met = !stalled && Self::p99(rate, capacity) < OBJECTIVE_S;
            Ok(if met { Observation::Met } else { Observation::Missed })
        }
    }

    fn searched(queue: &mut Queue, bounds: &Bounds) -> Found {
        let Ok(found) = knee(queue, bounds);
        found
    }

    #[test]
    fn the_knee_of_a_server_of_known_capacity_is_found_within_three_percent() {
        for seed in 0..300 {
            let capacity = 400.0 * 1.03_f64.powi(i32::try_from(seed).unwrap());
            let mut queue = Queue::new(capacity, seed, 0.005, 0.02);
            let knee = queue.true_knee();
            let Found::Knee { rate, missed, .. } = searched(&mut queue, &Bounds::default()) else {
                panic!("seed {seed}")
            };
            assert!((rate / knee - 1.0).abs() < 0.03, "seed {seed}: {rate} instead of {knee}");
            assert!(missed > rate);
            assert!(queue.probes <= 60, "seed {seed}: {} probes", queue.probes);
        }
    }

    #[test]
    fn without_noise_it_is_exact_to_its_precision_and_takes_few_probes() {
        let mut queue = Queue::new(8000.0, 1, 0.0, 0.0);
        let knee = queue.true_knee();
        let found = searched(&mut queue, &Bounds::default());
        let Found::Knee { rate, met: 3, probes: 3, missed, noise: None } = found else { panic!("{found:?}") };
        assert!(rate <= knee && knee <= missed && missed / rate <= 1.01);
        assert!(queue.probes <= 25, "{} probes", queue.probes);
    }

    #[test]
    fn what_lies_outside_the_bounds_is_said() {
        let bounds = Bounds { rate_min: 100.0, rate_max: 5000.0, ..Bounds::default() };
        assert_eq!(searched(&mut Queue::new(1e6, 1, 0.0, 0.0), &bounds), Found::AboveMax { rate: 5000.0 });
        assert_eq!(searched(&mut Queue::new(50.0, 1, 0.0, 0.0), &bounds), Found::BelowMin { rate: 100.0 });
    }

    /// A knee that is noisy itself: below it every probe is met and above it none, and at rates in between one in so
    /// many, by chance. A stall ruins some of the others.
    struct Noisy {
        from: f64,
        to: f64,
        stalls: f64,
        noise: Noise,
        seen: Vec<(f64, bool)>,
    }

    impl Probe for Noisy {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, _: Step) -> Result<Observation, Infallible> {
            let chance = ((self.to - rate) / (self.to - self.from)).clamp(0.0, 1.0);
            let met = self.noise.uniform() < chance * (1.0 - self.stalls);
            self.seen.push((rate, met));
            Ok(if met { Observation::Met } else { Observation::Missed })
        }
    }

    #[test]
    fn a_noisy_knee_ends_the_search_with_the_two_rates_around_the_noise() {
        for (width, stalls) in [(0.005, 0.0), (0.02, 0.0), (0.05, 0.01), (0.1, 0.0), (0.1, 0.01), (0.3, 0.0)] {
            let (mut disagreed, mut most, mut all) = (0, 0, 0);
            for seed in 0..300 {
                let from = 400.0 * 1.03_f64.powi(i32::try_from(seed).unwrap());
                let to = from * (1.0 + width);
                let mut server = Noisy { from, to, stalls, noise: Noise::seeded(seed), seen: Vec::new() };
                // Half of what a closed loop does, or so.
                let start = from * (0.3 + 0.4 * server.noise.uniform());
                let Ok(found) = knee(&mut server, &Bounds { start, ..Bounds::default() });
                let Found::Knee { rate, met, probes, missed, noise } = found else {
                    panic!("{width} {seed}: {found:?}")
                };
                // As close to the noise as the search comes, and a whole rate more.
                let margin = 1.01_f64.powi(3).max((1.0 + width).powf(0.25));
                let (lowest, highest) = (from / margin - 1.0, to * margin + 1.0);
                assert!(
                    lowest <= rate && rate <= to && from <= missed && missed <= highest,
                    "{width} {seed}: {found:?}"
                );
                let of = |wanted: f64| server.seen.iter().filter(move |(rate, _)| *rate == wanted);
                assert_eq!(of(rate).count(), probes as usize, "{width} {seed}");
                assert_eq!(of(rate).filter(|(_, met)| *met).count(), met as usize, "{width} {seed}");
                assert!(met >= 3 && probes - met <= 1, "{width} {seed}: {found:?}");
                if let Some((low, high)) = noise {
                    assert!(rate < low && low <= high && high < missed, "{width} {seed}: {found:?}");
                    disagreed += 1;
                } else {
                    assert!(missed / rate <= 1.011, "{width} {seed}: {found:?}");
                }
                most = most.max(server.seen.len());
                all += server.seen.len();
            }
            assert!(width < 0.05 || disagreed > 150, "{width}: noise in {disagreed} of 300");
            assert!(most <= Bounds::default().probes_max as usize && all / 300 <= 35, "{width}: {most}, {all} in all");
        }
    }

    #[test]
    fn noise_at_the_highest_rate_allowed_is_no_rate_that_held() {
        let bounds = Bounds { rate_max: 5000.0, start: 2000.0, ..Bounds::default() };
        for seed in 0..300 {
            let noise = Noise::seeded(seed);
            let mut server = Noisy { from: 4800.0, to: 5050.0, stalls: 0.0, noise, seen: Vec::new() };
            let Ok(found) = knee(&mut server, &bounds);
            let misses = server.seen.iter().filter(|(rate, met)| *rate == bounds.rate_max && !met).count();
            match found {
                Found::AboveMax { .. } => assert!(misses < 2, "{seed}: {misses} misses"),
                Found::Knee { rate, missed, .. } => {
                    assert!(rate < missed && missed <= bounds.rate_max, "{seed}: {found:?}")
                }
                _ => panic!("{seed}: {found:?}"),
            }
        }
    }

    /// Keeps what it was offered, and holds up to a rate.
    struct Offered {
        knee: f64,
        rates: Vec<f64>,
    }

    impl Probe for Offered {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, _: Step) -> Result<Observation, Infallible> {
            self.rates.push(rate);
            Ok(if rate <= self.knee { Observation::Met } else { Observation::Missed })
        }
    }

    #[test]
    fn the_rates_of_the_answer_were_offered_and_are_two() {
        for (i, precision) in (0..200).zip([0.001, 0.003, 0.01].into_iter().cycle()) {
            let mut probe = Offered { knee: 60.0 * 1.02_f64.powi(i), rates: Vec::new() };
            let Ok(found) = knee(&mut probe, &Bounds { precision, start: 333.3, ..Bounds::default() });
            let Found::Knee { rate, missed, noise: None, .. } = found else { panic!("{found:?}") };
            assert!(rate <= probe.knee && probe.knee < missed, "{rate} {missed} around {}", probe.knee);
            assert!(missed / rate <= 1.0 + precision || missed - rate <= 1.0, "{rate} {missed}");
            for reported in [rate, missed] {
                assert!(probe.rates.contains(&reported), "{reported} was never offered: {:?}", probe.rates);
            }
            assert!(probe.rates.iter().all(|r| *r < 100.0 || r.fract() == 0.0), "{:?}", probe.rates);
            // Twice each miss, the confirmations, and never without end.
            assert!(probe.rates.len() <= 40, "{}", probe.rates.len());
        }
    }

    struct Script(Vec<(f64, Observation)>);

    impl Probe for Script {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, _: Step) -> Result<Observation, Infallible> {
            let known = self.0.iter().rev().find(|(from, _)| rate >= *from);
            Ok(known.map_or(Observation::Met, |(_, o)| o.clone()))
        }
    }

    fn scripted(script: Vec<(f64, Observation)>) -> Found {
        let Ok(found) = knee(&mut Script(script), &Bounds::default());
        found
    }

    #[test]
    fn a_generator_that_is_late_or_a_person_ends_the_search_with_what_is_known() {
        let Found::GeneratorLimit { held: Some(held), rate } = scripted(vec![(3000.0, Observation::GeneratorLate)])
        else {
            panic!()
        };
        assert!(held < 3000.0 && 3000.0 <= rate && rate / held <= 1.01, "{held} {rate}");
        // A generator that is late at any rate is not asked down to the lowest.
        let late = scripted(vec![(0.0, Observation::GeneratorLate)]);
        assert_eq!(late, Found::GeneratorLimit { held: None, rate: 125.0 });
        // The server's own knee lies below what the generator can do.
        let knee = scripted(vec![(1500.0, Observation::Missed), (1700.0, Observation::GeneratorLate)]);
        assert!(matches!(knee, Found::Knee { rate, .. } if rate < 1500.0), "{knee:?}");
        let interrupted = scripted(vec![(0.0, Observation::Interrupted)]);
        assert_eq!(interrupted, Found::Unfinished { held: None });
    }

    /// Capacity 2000, and a generator that is late in every probe of a list of them, by number.
    struct Stumbling(u32, fn(u32) -> bool);

    impl Probe for Stumbling {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, _: Step) -> Result<Observation, Infallible> {
            self.0 += 1;
            Ok(match () {
                () if self.1(self.0) => Observation::GeneratorLate,
                () if rate < 2000.0 => Observation::Met,
                () => Observation::Missed,
            })
        }
    }

    #[test]
    fn a_generator_that_is_late_now_and_then_is_asked_again_and_costs_no_answer() {
        for late in [|n: u32| n.is_multiple_of(3), |n: u32| n % 5 == 1, |n: u32| n == 13 || n == 15] {
            let Ok(found) = knee(&mut Stumbling(0, late), &Bounds::default());
            let near = |rate: f64| (1960.0..2000.0).contains(&rate);
            assert!(matches!(found, Found::Knee { rate, missed, .. } if near(rate) && missed >= 2000.0), "{found:?}");
        }
    }

    #[test]
    fn a_generator_that_is_late_from_some_time_on_ends_the_search() {
        for on_time in 0..30 {
            let mut probes = 0;
            let mut late = |rate: f64, _: Step| {
                probes += 1;
                Ok(match () {
                    () if probes > on_time => Observation::GeneratorLate,
                    () if rate < 2000.0 => Observation::Met,
                    () => Observation::Missed,
                })
            };
            let Ok(found) = knee(&mut Asked(&mut late), &Bounds::default());
            assert!(probes < 60, "late behind {on_time}: {probes} probes, {found:?}");
        }
    }

    struct Asked<F>(F);

    impl<F: FnMut(f64, Step) -> Result<Observation, Infallible>> Probe for Asked<F> {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, step: Step) -> Result<Observation, Infallible> {
            self.0(rate, step)
        }
    }

    #[test]
    fn two_stalls_far_below_the_knee_are_overcome() {
        let mut probes = 0;
        let mut stalled = |rate: f64, _: Step| {
            probes += 1;
            let stalls = probes == 2 || probes == 3;
            Ok(if rate < 156_000.0 && !stalls { Observation::Met } else { Observation::Missed })
        };
        let Ok(found) = knee(&mut Asked(&mut stalled), &Bounds::default());
        let Found::Knee { rate, missed, noise: None, .. } = found else { panic!("{found:?}") };
        assert!(rate < 156_000.0 && 156_000.0 <= missed && missed / rate < 1.011, "{found:?}");
        assert!(probes < 50, "{probes}");
    }

    /// Holds once everywhere and never again.
    struct Fickle(Vec<f64>);

    impl Probe for Fickle {
        type Error = Infallible;

        fn probe(&mut self, rate: f64, _: Step) -> Result<Observation, Infallible> {
            let again = self.0.contains(&rate) || rate > 10_000.0;
            self.0.push(rate);
            Ok(if again { Observation::Missed } else { Observation::Met })
        }
    }

    #[test]
    fn a_rate_that_cannot_be_confirmed_is_not_reported() {
        let mut fickle = Fickle(Vec::new());
        let Ok(found) = knee(&mut fickle, &Bounds::default());
        assert!(matches!(found, Found::Unfinished { .. } | Found::BelowMin { .. }), "{found:?}");
        assert!(fickle.0.len() <= 60);
    }
}
