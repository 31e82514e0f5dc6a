//! How the search goes.

use super::{Bounds, Found, Observation, Probe, Step};

/// Halvings after which a generator that is still late is not late because of the rate. Met: the search ends.
const LATE_HALVINGS_MAX: u32 = 3;
/// Rates from here on are whole: that is fine enough, and can be typed again.
const WHOLE_FROM: f64 = 100.0;
/// How often a rate above the knee that holds after all, so that the misses below it were stalls, starts the bisection
/// anew. Met: it is taken for noise.
const RESTARTS_MAX: u32 = 1;
/// How the steps away from a noisy knee grow: the logarithm of each is that of the last one times this.
const STEP_GROWTH: f64 = 1.5;
/// How far, in precisions, the answer's rates may lie from the noise between them; or by this share of its width, if
/// that is more. Both are of logarithms.
const NOISE_MARGIN: f64 = 3.0;
const NOISE_MARGIN_SHARE: f64 = 0.25;

pub(super) fn run<P: Probe>(probe: &mut P, bounds: &Bounds) -> Result<Found, P::Error> {
    let mut search = Search { probe, bounds, left: bounds.probes_max, tallies: Vec::new(), late_at: None };
    let (Ok(found) | Err(found)) = search.run()?;
    Ok(match (found, search.late_at) {
        // What was missed there says nothing about the server.
        (Found::Knee { rate, missed, .. }, Some(late)) if missed >= late => {
            Found::GeneratorLimit { held: Some(rate), rate: late }
        }
        (Found::BelowMin { .. }, Some(late)) => Found::GeneratorLimit { held: None, rate: late },
        (found, _) => found,
    })
}

/// What the probes of one rate saw.
#[derive(Clone, Copy, Debug)]
struct Tally {
    rate: f64,
    met: u32,
    missed: u32,
}

/// What they say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Misses,
    Disagree,
}

impl Tally {
    /// `None` while it is open. A single miss among many that were met may be a stall of the machine, and a single met
    /// one among misses is noise.
    const fn verdict(&self, confirmations: u32) -> Option<Verdict> {
        match (self.met, self.missed) {
            (0, 2..) => Some(Verdict::Misses),
            (_, 2..) => Some(Verdict::Disagree),
            (met, missed) if met > confirmations.saturating_add(missed) => Some(Verdict::Holds),
            _ => None,
        }
    }
}

/// What a probe that was made tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Met,
    Missed,
    Late,
}

/// What lies above the lowest rate that missed.
enum Above {
    /// A rate that holds: the misses were none of the server's.
    Holds(f64),
    /// Noise, if anything, up to this rate that misses.
    Misses(f64),
}

struct Search<'a, P> {
    probe: &'a mut P,
    bounds: &'a Bounds,
    left: u32,
    /// One for each rate that was probed.
    tallies: Vec<Tally>,
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
        let mut restarts = RESTARTS_MAX;
        loop {
            (low, high) = go_on!(self.bisected(low, high));
            let floor = go_on!(self.down_to_what_holds(low));
            match go_on!(self.above_a_miss(high)) {
                Above::Misses(ceiling) => return self.around_the_noise(floor, ceiling),
                Above::Holds(rate) if restarts == 0 => {
                    let (_, ceiling) = go_on!(self.up_from(rate));
                    return self.around_the_noise(rate, ceiling);
                }
                Above::Holds(rate) => {
                    restarts -= 1;
                    (low, high) = go_on!(self.up_from(rate));
                }
            }
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

    /// The two as close as they have to be, or as they are when a rate first contradicts itself.
    fn bisected(&mut self, mut low: f64, mut high: f64) -> Ended<(f64, f64), P::Error> {
        while high / low > 1.0 + self.bounds.precision && self.tally(low).missed == 0 {
            let Some(middle) = middle(low, high) else { break };
            if go_on!(self.holds(middle, Step::Bisect)) { low = middle } else { high = middle }
        }
        Ok(Ok((low, high)))
    }

    /// `rate`, or if it held by luck the next one below it that holds. How far down that lies is unknown, so the steps
    /// grow.
    fn down_to_what_holds(&mut self, mut rate: f64) -> Ended<f64, P::Error> {
        let mut step = 1.0 + self.bounds.precision;
        while go_on!(self.settled(rate, Step::Bisect)) != Verdict::Holds {
            if rate <= self.bounds.rate_min {
                return Ok(Err(Found::BelowMin { rate }));
            }
            rate = below(rate, step).max(self.bounds.rate_min);
            step = step.powf(STEP_GROWTH).min(2.0);
        }
        Ok(Ok(rate))
    }

    /// Both misses at `rate` may have been a stall of the machine, or noise. A little above it says so.
    fn above_a_miss(&mut self, rate: f64) -> Ended<Above, P::Error> {
        let mut next = above(rate, 1.0 + 2.0 * self.bounds.precision);
        if next > self.bounds.rate_max || !go_on!(self.met_once_more(next)) {
            return Ok(Ok(Above::Misses(rate)));
        }
        let mut step = 1.0 + self.bounds.precision;
        loop {
            match go_on!(self.settled(next, Step::Bracket)) {
                Verdict::Holds => return Ok(Ok(Above::Holds(next))),
                Verdict::Misses => return Ok(Ok(Above::Misses(next))),
                Verdict::Disagree if next >= self.bounds.rate_max => return Ok(Ok(Above::Misses(next))),
                Verdict::Disagree => next = above(next, step).min(self.bounds.rate_max),
            }
            step = step.powf(STEP_GROWTH).min(2.0);
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
            // The highest rate would be the answer, so it is not asked in haste.
            let holds = if high < self.bounds.rate_max {
                go_on!(self.holds(high, Step::Bracket))
            } else {
                go_on!(self.settled(high, Step::Bracket)) == Verdict::Holds
            };
            if !holds {
                return Ok(Ok((low, high)));
            }
            (low, step) = (high, (step * step).min(2.0));
        }
    }

    /// The answer, from a rate that holds and one that misses. As far as anything between them is neither, it is noise,
    /// and they are moved close to that; else to each other.
    fn around_the_noise(&mut self, mut floor: f64, mut ceiling: f64) -> Ended<Found, P::Error> {
        let confirmations = self.bounds.confirmations;
        let precision = (1.0 + self.bounds.precision).ln();
        loop {
            let between: Vec<(f64, Option<Verdict>)> = self
                .tallies
                .iter()
                .filter(|t| floor < t.rate && t.rate < ceiling && (t.met > 0 || t.missed > 1))
                .map(|t| (t.rate, t.verdict(confirmations)))
                .collect();
            let of = |wanted| between.iter().filter(move |(_, v)| *v == wanted).map(|(rate, _)| *rate);
            let noisiest = of(Some(Verdict::Disagree)).max_by(f64::total_cmp);
            if let Some(held) = of(Some(Verdict::Holds)).max_by(f64::total_cmp) {
                floor = held;
                continue;
            }
            let missed = of(Some(Verdict::Misses)).filter(|rate| noisiest.is_none_or(|noisy| *rate > noisy));
            if let Some(missed) = missed.min_by(f64::total_cmp) {
                ceiling = missed;
                continue;
            }
            // One that held by the way, before there was any doubt.
            let open = of(None).next();
            let noise = between.iter().map(|(rate, _)| *rate).min_by(f64::total_cmp).zip(noisiest);
            let width = noise.map_or(0.0, |(low, high)| (high / low).ln());
            let margin = (NOISE_MARGIN * precision).max(NOISE_MARGIN_SHARE * width);
            let next = match (open, noise) {
                (Some(open), _) => Some(open),
                (None, None) if (ceiling / floor).ln() > precision => middle(floor, ceiling),
                (None, Some((low, _))) if (low / floor).ln() > margin => middle(floor, low),
                (None, Some((_, high))) if (ceiling / high).ln() > margin => middle(high, ceiling),
                _ => None,
            };
            // The last probes are not for what is known already.
            let enough = noise.is_some() && self.left < confirmations.saturating_add(3);
            let Some(next) = next.filter(|_| !enough) else {
                let Tally { met, missed, .. } = self.tally(floor);
                return Ok(Ok(Found::Knee { rate: floor, met, probes: met + missed, missed: ceiling, noise }));
            };
            go_on!(self.settled(next, Step::Bisect));
        }
    }

    /// Whether the objective is met at `rate`, in haste: a miss is seen twice.
    fn holds(&mut self, rate: f64, step: Step) -> Ended<bool, P::Error> {
        let first = go_on!(self.ask(rate, step));
        if first == Seen::Met { Ok(Ok(true)) } else { self.again(rate, first) }
    }

    /// Probes `rate` until its probes have a verdict.
    fn settled(&mut self, rate: f64, first: Step) -> Ended<Verdict, P::Error> {
        loop {
            let tally = self.tally(rate);
            if let Some(verdict) = tally.verdict(self.bounds.confirmations) {
                return Ok(Ok(verdict));
            }
            let step = match (tally.met, tally.missed) {
                (0, 0) => first,
                (0, _) => Step::Repeat,
                _ => Step::Confirm,
            };
            go_on!(self.ask_unless_late(rate, step));
        }
    }

    /// Whether one probe of `rate` meets the objective.
    fn met_once_more(&mut self, rate: f64) -> Ended<bool, P::Error> {
        self.ask_unless_late(rate, Step::Confirm)
    }

    /// One probe, or a second one when the generator was late in the first: that says nothing of the server.
    fn ask_unless_late(&mut self, rate: f64, step: Step) -> Ended<bool, P::Error> {
        let first = go_on!(self.ask(rate, step));
        if first == Seen::Late { self.again(rate, first) } else { Ok(Ok(first == Seen::Met)) }
    }

    /// A second probe at `rate`. When the generator was late in both, it is the limit there.
    fn again(&mut self, rate: f64, first: Seen) -> Ended<bool, P::Error> {
        let second = go_on!(self.ask(rate, Step::Repeat));
        if (first, second) == (Seen::Late, Seen::Late) {
            self.late_at = Some(self.late_at.map_or(rate, |at| at.min(rate)));
            self.count(rate, 0, 2);
        }
        Ok(Ok(second == Seen::Met))
    }

    fn ask(&mut self, rate: f64, step: Step) -> Ended<Seen, P::Error> {
        if self.left == 0 {
            return Ok(Err(Found::Unfinished { held: self.held() }));
        }
        self.left -= 1;
        Ok(match self.probe.probe(rate, step)? {
            Observation::Met => {
                // Where it was late below this, that was by chance.
                self.late_at = self.late_at.filter(|late| *late > rate);
                self.count(rate, 1, 0);
                Ok(Seen::Met)
            }
            Observation::Missed => {
                self.count(rate, 0, 1);
                Ok(Seen::Missed)
            }
            Observation::GeneratorLate => Ok(Seen::Late),
            Observation::Interrupted => Err(Found::Unfinished { held: self.held() }),
        })
    }

    fn count(&mut self, rate: f64, met: u32, missed: u32) {
        let known = self.tallies.iter().position(|t| t.rate.total_cmp(&rate).is_eq());
        let at = known.unwrap_or_else(|| {
            self.tallies.push(Tally { rate, met: 0, missed: 0 });
            self.tallies.len() - 1
        });
        self.tallies[at].met += met;
        self.tallies[at].missed += missed;
    }

    fn tally(&self, rate: f64) -> Tally {
        let known = self.tallies.iter().find(|t| t.rate.total_cmp(&rate).is_eq());
        known.copied().unwrap_or(Tally { rate, met: 0, missed: 0 })
    }

    /// The highest rate that was met more often than missed.
    fn held(&self) -> Option<f64> {
        self.tallies.iter().filter(|t| t.met > t.missed).map(|t| t.rate).max_by(f64::total_cmp)
    }
}

/// The rate that is offered for `rate`: it is also the one that is reported.
fn offered(rate: f64) -> f64 {
    if rate >= WHOLE_FROM { rate.round() } else { rate }
}

/// `None` when nothing that could be offered lies between the two.
fn middle(low: f64, high: f64) -> Option<f64> {
    Some(offered((low * high).sqrt())).filter(|middle| low < *middle && *middle < high)
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
