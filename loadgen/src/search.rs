//! The search for the highest rate that keeps to an objective. Pure: what a rate does is asked of a [`Probe`].
//!
//! Doubling (or halving) brackets the knee, bisection on a log scale narrows it, and the result is confirmed. A probe
//! of a real machine is noisy both ways, so neither way is believed at once: a miss counts when the same rate misses
//! twice, the rate that is reported has held in every confirmation, and a rate a little above it was missed again.

use std::fmt;

/// Halvings after which a generator that is still late is not late because of the rate. Met: the search ends.
const LATE_HALVINGS_MAX: u32 = 3;
/// Rates from here on are whole: that is fine enough, and can be typed again.
const WHOLE_FROM: f64 = 100.0;

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
    /// The search ends when the rate that missed is at most this share above the one that held.
    pub precision: f64,
    /// How often the result must hold once more.
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
        /// The next rate above it that was tried and missed twice.
        missed: f64,
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
    let mut search = Search { probe, bounds, left: bounds.probes_max, held: None, late_at: None };
    let (Ok(found) | Err(found)) = search.run()?;
    Ok(match (found, search.late_at) {
        // What was missed there says nothing about the server.
        (Found::Knee { rate, missed }, Some(late)) if missed >= late => {
            Found::GeneratorLimit { held: Some(rate), rate: late }
        }
        (Found::BelowMin { .. }, Some(late)) => Found::GeneratorLimit { held: None, rate: late },
        (found, _) => found,
    })
}

struct Search<'a, P> {
    probe: &'a mut P,
    bounds: &'a Bounds,
    left: u32,
    held: Option<f64>,
    /// The lowest rate that was missed because the generator was late.
    late_at: Option<f64>,
}

/// The inner error is an end before the knee is known.
type Ended<T, E> = Result<Result<T, Found>, E>;

/// Goes on with the value, or ends as the inner error says.
macro_rules! go_on {
    ($ended:expr) => {
        match $ended? {
            Ok(value) => value,
            Err(found) => return Ok(Err(found)),
        }
    };
}

impl<P: Probe> Search<'_, P> {
    fn run(&mut self) -> Ended<Found, P::Error> {
        let (mut low, mut high) = go_on!(self.bracket());
        loop {
            while high / low > 1.0 + self.bounds.precision {
                let middle = offered((low * high).sqrt());
                if middle <= low || middle >= high {
                    // Nothing that could be offered lies between them.
                    break;
                }
                if go_on!(self.holds(middle, Step::Bisect)) { low = middle } else { high = middle }
            }
            if !go_on!(self.confirmed(low)) {
                (low, high) = go_on!(self.down_from(low));
                continue;
            }
            // Both misses at `high` may have been a stall of the machine, not the knee. A little above it says so.
            let above = above(high, 1.0 + 2.0 * self.bounds.precision);
            if above > self.bounds.rate_max || !go_on!(self.asked_again(above)) {
                return Ok(Ok(Found::Knee { rate: low, missed: high }));
            }
            (low, high) = go_on!(self.up_from(above));
        }
    }

    /// `rate` held by luck. How far down the knee lies is unknown, so the steps grow.
    fn down_from(&mut self, rate: f64) -> Ended<(f64, f64), P::Error> {
        let (mut high, mut step) = (rate, 1.0 + self.bounds.precision);
        loop {
            let low = below(high, step).max(self.bounds.rate_min);
            if go_on!(self.holds(low, Step::Bisect)) {
                return Ok(Ok((low, high)));
            }
            if low <= self.bounds.rate_min {
                return Ok(Err(Found::BelowMin { rate: low }));
            }
            (high, step) = (low, (step * step).min(2.0));
        }
    }

    /// `rate` holds after all: up again, in growing steps.
    fn up_from(&mut self, rate: f64) -> Ended<(f64, f64), P::Error> {
        let (mut low, mut step) = (rate, 1.0 + self.bounds.precision);
        loop {
            if low >= self.bounds.rate_max {
                return Ok(Err(Found::AboveMax { rate: low }));
            }
            let high = above(low, step).min(self.bounds.rate_max);
            if !go_on!(self.holds(high, Step::Bracket)) {
                return Ok(Ok((low, high)));
            }
            (low, step) = (high, (step * step).min(2.0));
        }
    }

    /// A rate that holds and one, at most twice as high, that does not.
    fn bracket(&mut self) -> Ended<(f64, f64), P::Error> {
        let Bounds { start, rate_min, rate_max, .. } = *self.bounds;
        let mut rate = offered(start).clamp(rate_min, rate_max);
        if go_on!(self.holds(rate, Step::Bracket)) {
            while rate < rate_max {
                let next = above(rate, 2.0).min(rate_max);
                if !go_on!(self.holds(next, Step::Bracket)) {
                    return Ok(Ok((rate, next)));
                }
                rate = next;
            }
            return Ok(Err(Found::AboveMax { rate }));
        }
        for halvings in 1.. {
            if rate <= rate_min {
                break;
            }
            if halvings > LATE_HALVINGS_MAX && self.late_at == Some(rate) {
                break;
            }
            let next = below(rate, 2.0).max(rate_min);
            if go_on!(self.holds(next, Step::Bracket)) {
                return Ok(Ok((next, rate)));
            }
            rate = next;
        }
        Ok(Err(Found::BelowMin { rate }))
    }

    /// Whether the objective is met at `rate`; a miss is seen twice.
    fn holds(&mut self, rate: f64, step: Step) -> Ended<bool, P::Error> {
        let first = go_on!(self.ask(rate, step));
        let holds = first == Seen::Met || go_on!(self.again(rate, first));
        if holds {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        }
        Ok(Ok(holds))
    }

    /// A second probe at `rate`. When the generator was late in both, it is the limit there.
    fn again(&mut self, rate: f64, first: Seen) -> Ended<bool, P::Error> {
        let second = go_on!(self.ask(rate, Step::Repeat));
        if (first, second) == (Seen::Late, Seen::Late) {
            self.late_at = Some(self.late_at.map_or(rate, |at| at.min(rate)));
        }
        Ok(Ok(second == Seen::Met))
    }

    fn confirmed(&mut self, rate: f64) -> Ended<bool, P::Error> {
        for _ in 0..self.bounds.confirmations {
            if !go_on!(self.ask_unless_late(rate)) {
                self.held = None;
                return Ok(Ok(false));
            }
        }
        Ok(Ok(true))
    }

    /// Whether a rate above a miss holds, in one probe.
    fn asked_again(&mut self, rate: f64) -> Ended<bool, P::Error> {
        let met = go_on!(self.ask_unless_late(rate));
        if met {
            self.held = Some(rate);
        }
        Ok(Ok(met))
    }

    /// One probe, or a second one when the generator was late in the first: that says nothing of the server.
    fn ask_unless_late(&mut self, rate: f64) -> Ended<bool, P::Error> {
        let first = go_on!(self.ask(rate, Step::Confirm));
        if first == Seen::Late { self.again(rate, first) } else { Ok(Ok(first == Seen::Met)) }
    }

    fn ask(&mut self, rate: f64, step: Step) -> Ended<Seen, P::Error> {
        if self.left == 0 {
            return Ok(Err(Found::Unfinished { held: self.held }));
        }
        self.left -= 1;
        Ok(match self.probe.probe(rate, step)? {
            Observation::Met => {
                // Where it was late below this, that was by chance.
                self.late_at = self.late_at.filter(|late| *late > rate);
                Ok(Seen::Met)
            }
            Observation::Missed => Ok(Seen::Missed),
            Observation::GeneratorLate => Ok(Seen::Late),
            Observation::Interrupted => Err(Found::Unfinished { held: self.held }),
        })
    }
}

/// What a probe that was made tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Met,
    Missed,
    Late,
}

/// The rate that is offered for `rate`: it is also the one that is reported.
fn offered(rate: f64) -> f64 {
    if rate >= WHOLE_FROM { rate.round() } else { rate }
}

/// `rate` times `step`, and another rate in any case.
fn above(rate: f64, step: f64) -> f64 {
    let next = offered(rate * step);
    if next > rate { next } else { rate + 1.0 }
}

/// `rate` over `step`, and another rate in any case.
fn below(rate: f64, step: f64) -> f64 {
    let next = offered(rate / step);
    if next < rate { next } else { rate - 1.0 }
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
            let Found::Knee { rate, missed } = searched(&mut queue, &Bounds::default()) else { panic!("seed {seed}") };
            assert!((rate / knee - 1.0).abs() < 0.03, "seed {seed}: {rate} instead of {knee}");
            assert!(missed > rate);
            assert!(queue.probes <= 60, "seed {seed}: {} probes", queue.probes);
        }
    }

    #[test]
    fn without_noise_it_is_exact_to_its_precision_and_takes_few_probes() {
        let mut queue = Queue::new(8000.0, 1, 0.0, 0.0);
        let knee = queue.true_knee();
        let Found::Knee { rate, missed } = searched(&mut queue, &Bounds::default()) else { panic!() };
        assert!(rate <= knee && knee <= missed && missed / rate <= 1.01);
        assert!(queue.probes <= 25, "{} probes", queue.probes);
    }

    #[test]
    fn what_lies_outside_the_bounds_is_said() {
        let bounds = Bounds { rate_min: 100.0, rate_max: 5000.0, ..Bounds::default() };
        assert_eq!(searched(&mut Queue::new(1e6, 1, 0.0, 0.0), &bounds), Found::AboveMax { rate: 5000.0 });
        assert_eq!(searched(&mut Queue::new(50.0, 1, 0.0, 0.0), &bounds), Found::BelowMin { rate: 100.0 });
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
            let Found::Knee { rate, missed } = found else { panic!("{found:?}") };
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
            assert!(matches!(found, Found::Knee { rate, missed } if near(rate) && missed >= 2000.0), "{found:?}");
        }
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
