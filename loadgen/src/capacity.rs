//! What a sweep says about the machines that a stated load needs. Pure.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::duration::Human;
use crate::output::written;
use crate::report::sweep::{Sweep, SweepPoint};
use crate::report::{SCHEMA, grouped_rate};
use crate::stats::median;
use crate::usl::{Bounds, Fit, FitError, Law, bounds, fit};

/// The same sweep gives the same intervals.
const SEED: u64 = 0x6861_6e64;
/// Fits with less left over than this are called good.
const R_SQUARED_MIN: f64 = 0.98;
const RESIDUAL_MAX: f64 = 0.10;
/// Points from which on nobody has to be warned.
const POINTS_GOOD: usize = 7;
/// How far beyond the sweep the law is believed.
const BEYOND_MAX: f64 = 1.5;
/// Intervals wider than this (upper over lower end) do not support an answer.
const WIDTH_MAX: f64 = 1.5;
/// Client threads busier than this are the limit themselves.
const CLIENT_BUSY_MAX: f64 = 0.9;
const ERRORS_MAX: f64 = 0.01;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Question {
    /// Handshakes per second, over all hosts.
    pub rate: f64,
    /// The 99th percentile of the latency has to be at most this.
    pub latency: Option<Duration>,
    /// The share of a host's capacity that stays free.
    pub headroom: f64,
    /// Cores of the server that was swept.
    pub server_cores: Option<u32>,
    /// Cores of a host to come, for a sweep over cores.
    pub host_cores: Option<u32>,
    /// How long a connection stays open after its handshake.
    pub open_for: Duration,
    /// Bytes of memory that an open connection takes.
    pub memory_per_connection: Option<f64>,
}

impl Question {
    /// Only a rate.
    #[must_use]
    pub const fn rate(rate: f64) -> Self {
        Self {
            rate,
            latency: None,
            headroom: 0.0,
            server_cores: None,
            host_cores: None,
            open_for: Duration::ZERO,
            memory_per_connection: None,
        }
    }
}

/// Why an answer may be wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The fewer points, the less is left over to see how good the fit is.
    FewPoints(usize),
    /// The curve does not go through the points.
    PoorFit {
        /// The share of the variance explained.
        r_squared: f64,
        /// The largest distance of a point.
        worst: f64,
    },
    /// The rate still rises in proportion: the knee is not in the data.
    NoCurvature,
    /// The answer lies beyond what was swept.
    Beyond {
        /// Where it lies.
        n: f64,
        /// The largest value swept.
        swept: f64,
    },
    /// The interval is too wide.
    Wide(Bounds),
    /// There is no interval: too many resampled sweeps give no answer.
    NoInterval,
    /// Handshakes failed at a point.
    Errors(f64),
    /// The client's threads were busy at a point.
    ClientBusy(f64),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewPoints(n) => write!(f, "only {n} points; {POINTS_GOOD} or more show how well the curve fits"),
            Self::PoorFit { r_squared, worst } => write!(
                f,
                "poor fit: the curve explains {:.1} % of the variance and misses a point by {:.0} %; measure longer, on \
                 a quieter machine",
                r_squared * 100.0,
                worst * 100.0
            ),
            Self::NoCurvature => {
                f.write_str("no curvature: the rate still rises in proportion at the last point, so where it ends is not in the data; sweep further")
            }
            Self::Beyond { n, swept } => {
                write!(f, "the answer lies at {n:.0}, and the sweep ends at {swept:.0}; sweep as far as the answer")
            }
            Self::Wide(b) => write!(
                f,
                "wide interval: the capacity is anything from {} to {} handshakes/s; measure more points, for longer",
                grouped_rate(b.low),
                grouped_rate(b.high)
            ),
            Self::NoInterval => f.write_str("no interval: resampled sweeps often give no answer at all"),
            Self::Errors(n) => write!(f, "more than 1 % of the handshakes failed at {n}; the rate there is not what the server can do"),
            Self::ClientBusy(n) => write!(
                f,
                "at {n} the load generator's own threads were busy; the curve may be the generator's, not the server's; \
                 give it more --shards or another machine"
            ),
        }
    }
}

/// What a stated load needs, as far as the data say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// The fit behind it.
    pub fit: Fit,
    /// The option that was swept.
    pub over: String,
    /// Where on the curve a host is to be run.
    pub n: f64,
    /// Handshakes per second of one host there, headroom taken off.
    pub per_host: f64,
    /// Where that lies in 95 of 100 cases.
    pub per_host_bounds: Option<Bounds>,
    /// Hosts, with the interval's ends.
    pub hosts: Whole,
    /// Cores over all hosts.
    pub cores: Option<Whole>,
    /// Cores kept busy by the CPU time of so many handshakes alone.
    pub cores_busy: Option<f64>,
    /// Connections open at a time, over all hosts.
    pub open: f64,
    /// Bytes of memory of these.
    pub memory: Option<f64>,
    /// Why it may be wrong.
    pub warnings: Vec<Warning>,
}

/// A whole number with an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Whole {
    /// The best guess.
    pub best: f64,
    /// At least; null when nothing is known.
    pub low: Option<f64>,
    /// At most; null when nothing is known.
    pub high: Option<f64>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum NoAnswer {
    /// There is no fit.
    Fit(FitError),
    /// Not even one connection at a time is fast enough.
    LatencyTooLow(Duration),
    /// The question and the sweep do not go together; what to do instead.
    Mismatch(&'static str),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fit(error) => error.fmt(f),
            Self::LatencyTooLow(wanted) => {
                write!(f, "a p99 of {} is less than this server takes for a single handshake", Human(*wanted))
            }
            Self::Mismatch(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// The law is about how much a server does when it is given more connections or more cores.
fn check(sweep: &Sweep, question: &Question) -> Result<(), NoAnswer> {
    match (&*sweep.over, question.latency) {
        ("connections", _) | ("server-shards", None) => {}
        ("server-shards", Some(_)) => {
            return Err(NoAnswer::Mismatch(
                "a sweep over server-shards says what a host does with more cores, and not how its latency follows its \
                 load: leave --latency out, or give plan a sweep over connections",
            ));
        }
        _ => {
            return Err(NoAnswer::Mismatch(
                "plan is for sweeps over connections or server-shards, as a rate that was offered is not what a server \
                 can do: measure with `sweep --over connections=1..128`",
            ));
        }
    }
    if sweep.points.iter().any(|p| p.run.open.is_some()) {
        return Err(NoAnswer::Mismatch(
            "the sweep was measured in an open loop, whose rate is what was offered and not what the server can do: \
             sweep without --rate and --stages",
        ));
    }
    Ok(())
}

/// Answers `question` from `sweep`.
///
/// # Errors
/// The data give no answer at all, or not to this question.
pub fn answer(sweep: &Sweep, question: &Question) -> Result<Answer, NoAnswer> {
    check(sweep, question)?;
    let points = sweep.rates();
    let fit = fit(&points).map_err(NoAnswer::Fit)?;
    let swept = points.iter().map(|p| p.n).fold(1.0, f64::max);
    let cores_swept = sweep.over == "server-shards";
    let place = |law: &Law| {
        if cores_swept {
            let most = question.host_cores.map_or(swept, f64::from);
            Some(law.peak().map_or(most, |peak| most.min(peak.floor().max(1.0))))
        } else {
            within(law, sweep, question.latency)
        }
    };
    let capacity = |law: &Law| {
        let n = place(law)?;
        let rate = if n.is_finite() { law.rate(n) } else { law.rate(swept * BEYOND_MAX) };
        Some(rate * (1.0 - question.headroom))
    };
    let (Some(n), Some(per_host)) = (place(&fit.law), capacity(&fit.law)) else {
        return Err(NoAnswer::LatencyTooLow(question.latency.unwrap_or_default()));
    };
    // A law without an end is believed a little beyond the sweep.
    let n = if n.is_finite() { n } else { swept * BEYOND_MAX };
    let per_host_bounds = bounds(&fit.resampled(SEED), capacity);
    let ceil = |per_host: f64| (question.rate / per_host).ceil().max(1.0);
    let hosts = Whole {
        best: ceil(per_host),
        low: per_host_bounds.map(|b| ceil(b.high)),
        high: per_host_bounds.map(|b| ceil(b.low)),
    };
    let cores_each = if cores_swept { Some(n) } else { question.server_cores.map(f64::from) };
    let cores = match cores_each {
        // One host does not need all of its cores.
        Some(_) if cores_swept && hosts.best <= 1.0 => fit
            .law
            .n_for(question.rate / (1.0 - question.headroom))
            .map(|n| Whole { best: n.ceil(), low: None, high: None }),
        Some(each) => Some(hosts.times(each)),
        None => None,
    };
    // By Little's law, with as many connections under way as were swept.
    let latency_s = if cores_swept { latency_at(sweep, n) } else { n / fit.law.rate(n) };
    let open = question.rate * (latency_s + question.open_for.as_secs_f64());
    let mut answer = Answer {
        question: *question,
        over: sweep.over.clone(),
        n,
        per_host,
        per_host_bounds,
        hosts,
        cores,
        cores_busy: cpu_each(sweep).map(|us| us * question.rate / 1e6),
        open,
        memory: question.memory_per_connection.map(|bytes| bytes * open),
        warnings: Vec::new(),
        fit,
    };
    answer.warnings = warnings(sweep, &answer, swept);
    Ok(answer)
}

impl Whole {
    fn times(self, each: f64) -> Self {
        Self { best: self.best * each, low: self.low.map(|v| v * each), high: self.high.map(|v| v * each) }
    }
}

/// Where the 99th percentile reaches `latency`: by Little's law the mean latency at `n` is `n / X(n)`, and the sweep says
/// how far above its mean the 99th percentile lies. Without a limit it is the peak.
fn within(law: &Law, sweep: &Sweep, latency: Option<Duration>) -> Option<f64> {
    let Some(latency) = latency else {
        return Some(law.peak().unwrap_or(f64::INFINITY));
    };
    law.n_within(latency.as_secs_f64() / p99_over_mean(sweep).unwrap_or(1.0))
}

/// How far the 99th percentile lies above the mean (Little's), in the middle of the points.
fn p99_over_mean(sweep: &Sweep) -> Option<f64> {
    let factors = sweep.points.iter().filter_map(|p| {
        let mean_us = p.n / p.run.handshakes_per_second * 1e6;
        Some(p.run.latency_us.total.p99? / mean_us)
    });
    median(&factors.filter(|f| f.is_finite() && *f > 0.0).collect::<Vec<_>>()).map(|f| f.max(1.0))
}

/// The mean latency in seconds with `n` cores: on the line between the points at both sides, and beyond the sweep that of
/// its end. Each point's is Little's, of the connections that its closed loop kept under way.
fn latency_at(sweep: &Sweep, n: f64) -> f64 {
    let mean = |p: &SweepPoint| f64::from(p.run.connections) / p.run.handshakes_per_second;
    let mut means: Vec<(f64, f64)> = sweep.points.iter().map(|p| (p.n, mean(p))).filter(|m| m.1.is_finite()).collect();
    means.sort_by(|a, b| a.0.total_cmp(&b.0));
    let above = means.partition_point(|(at, _)| *at < n);
    match (above.checked_sub(1).and_then(|below| means.get(below)), means.get(above)) {
        (Some((n0, s0)), Some((n1, s1))) => s0 + (s1 - s0) * (n - n0) / (n1 - n0),
        (Some((_, end)), None) | (None, Some((_, end))) => *end,
        (None, None) => 0.0,
    }
}

fn cpu_each(sweep: &Sweep) -> Option<f64> {
    median(&sweep.points.iter().filter_map(|p| p.run.server_cpu_us_per_handshake).collect::<Vec<_>>())
}

fn warnings(sweep: &Sweep, answer: &Answer, swept: f64) -> Vec<Warning> {
    let fit = &answer.fit;
    let mut warnings = Vec::new();
    if sweep.points.len() < POINTS_GOOD {
        warnings.push(Warning::FewPoints(sweep.points.len()));
    }
    if fit.r_squared < R_SQUARED_MIN || fit.worst_residual > RESIDUAL_MAX {
        warnings.push(Warning::PoorFit { r_squared: fit.r_squared, worst: fit.worst_residual });
    }
    if fit.law.rate(swept) > 0.9 * fit.law.lambda * swept {
        warnings.push(Warning::NoCurvature);
    }
    if answer.n > swept * BEYOND_MAX {
        warnings.push(Warning::Beyond { n: answer.n, swept });
    }
    match answer.per_host_bounds {
        None => warnings.push(Warning::NoInterval),
        Some(b) if b.high > b.low * WIDTH_MAX => warnings.push(Warning::Wide(b)),
        Some(_) => {}
    }
    let worst = |of: &dyn Fn(&SweepPoint) -> bool| sweep.points.iter().find(|p| of(p)).map(|p| p.n);
    warnings.extend(worst(&|p| p.run.error_share() > ERRORS_MAX).map(Warning::Errors));
    warnings.extend(worst(&|p| p.client_busy().is_some_and(|b| b > CLIENT_BUSY_MAX)).map(Warning::ClientBusy));
    warnings
}

/// As JSON.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    schema: u32,
    kind: &'static str,
    over: String,
    lambda: f64,
    sigma: f64,
    kappa: f64,
    peak_n: Option<f64>,
    r_squared: f64,
    worst_residual: f64,
    n: f64,
    handshakes_per_second_per_host: f64,
    handshakes_per_second_per_host_low: Option<f64>,
    handshakes_per_second_per_host_high: Option<f64>,
    hosts: Whole,
    cores: Option<Whole>,
    cores_busy: Option<f64>,
    open_connections: f64,
    memory_bytes: Option<f64>,
    warnings: Vec<String>,
}

impl Answer {
    /// The answer as JSON.
    #[must_use]
    pub fn report(&self) -> Report {
        let law = self.fit.law;
        Report {
            schema: SCHEMA,
            kind: "plan",
            over: self.over.clone(),
            lambda: law.lambda,
            sigma: law.sigma,
            kappa: law.kappa,
            peak_n: law.peak(),
            r_squared: self.fit.r_squared,
            worst_residual: self.fit.worst_residual,
            n: self.n,
            handshakes_per_second_per_host: self.per_host,
            handshakes_per_second_per_host_low: self.per_host_bounds.map(|b| b.low),
            handshakes_per_second_per_host_high: self.per_host_bounds.map(|b| b.high),
            hosts: self.hosts,
            cores: self.cores,
            cores_busy: self.cores_busy,
            open_connections: self.open,
            memory_bytes: self.memory,
            warnings: self.warnings.iter().map(Warning::to_string).collect(),
        }
    }

    /// The answer for a person.
    #[must_use]
    pub fn table(&self) -> String {
        written(|out| self.write(out))
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let law = self.fit.law;
        let unit = if self.over == "server-shards" { "shards" } else { "connections" };
        writeln!(
            out,
            "\n  Universal Scalability Law over {unit}: {} handshakes/s for the first one,",
            grouped_rate(law.lambda)
        )?;
        let peak = law.peak().map_or_else(
            || "no peak".to_owned(),
            |n| format!("peak of {} handshakes/s at {n:.0} {unit}", grouped_rate(law.rate(n))),
        );
        writeln!(
            out,
            "  contention {:.4}, coherency {:.6}, {peak}; R² {:.4}\n",
            law.sigma, law.kappa, self.fit.r_squared
        )?;
        let question = &self.question;
        let latency = question.latency.map_or_else(String::new, |l| format!(" with a p99 of at most {}", Human(l)));
        let headroom = if question.headroom > 0.0 {
            format!(", {:.0} % left free", question.headroom * 100.0)
        } else {
            String::new()
        };
        writeln!(out, "  for {} handshakes/s{latency}{headroom}", grouped_rate(question.rate))?;
        let ends = self.per_host_bounds.map_or_else(String::new, |b| {
            format!("   {} .. {} in 95 of 100 cases", grouped_rate(b.low), grouped_rate(b.high))
        });
        writeln!(
            out,
            "  one host       {:>12} handshakes/s, at {:.0} {unit}{ends}",
            grouped_rate(self.per_host),
            self.n
        )?;
        writeln!(out, "  hosts          {:>12}{}", self.hosts.best, interval(&self.hosts))?;
        match &self.cores {
            Some(cores) => writeln!(out, "  cores          {:>12}{}", cores.best, interval(cores))?,
            None => {
                writeln!(out, "  cores               unknown   say what the swept server had, with --server-cores")?
            }
        }
        if let Some(busy) = self.cores_busy {
            writeln!(out, "  cores busy     {busy:>12.1}   by CPU time per handshake alone, a lower bound")?;
        }
        writeln!(out, "  connections    {:>12}   open at a time, over all hosts", grouped_rate(self.open))?;
        match self.memory {
            Some(bytes) => writeln!(out, "  memory         {:>12}   of these, over all hosts", binary(bytes))?,
            None => writeln!(
                out,
                "  memory              unknown   say what a connection takes, with --memory-per-connection"
            )?,
        }
        for warning in &self.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        Ok(())
    }
}

fn interval(whole: &Whole) -> String {
    match (whole.low, whole.high) {
        (Some(low), Some(high)) => format!("   {low} .. {high}"),
        _ => String::new(),
    }
}

/// Bytes in the binary unit that fits them.
#[must_use]
pub fn binary(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::RunResult;
    use crate::report::result::{Latencies, Quantiles};
    use crate::stats::noise::Noise;

    const LAW: (f64, f64, f64) = (2000.0, 0.05, 0.000_5);

    fn rate(n: f64) -> f64 {
        LAW.0 * n / (1.0 + LAW.1 * (n - 1.0) + LAW.2 * n * (n - 1.0))
    }

    fn sweep(ns: &[f64], deviation: f64, law: impl Fn(f64) -> f64) -> Sweep {
        let mut noise = Noise::seeded(7);
        let point = |n: &f64| {
            let rate = law(*n) * (deviation * noise.normal()).exp();
            let total =
                Quantiles { p50: Some(n / rate * 1e6), p99: Some(2.0 * n / rate * 1e6), ..Quantiles::default() };
            let latency_us = Latencies { total, ..Latencies::default() };
            let run = RunResult {
                handshakes_per_second: rate,
                handshakes: 1000,
                connections: 64,
                shards: 1,
                latency_us,
                client_cpu_us_per_handshake: Some(10.0),
                server_cpu_us_per_handshake: Some(100.0),
                ..RunResult::default()
            };
            SweepPoint::new(*n, run)
        };
        Sweep::of("connections", ns.iter().map(point).collect())
    }

    const NS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

    #[test]
    fn hosts_cores_and_memory_follow_from_the_law() {
        let mut question = Question::rate(100_000.0);
        question.server_cores = Some(4);
        question.memory_per_connection = Some(8192.0);
        question.open_for = Duration::from_secs(10);
        let answer = answer(&sweep(&NS, 0.0, rate), &question).unwrap();
        let peak = rate(((1.0 - LAW.1) / LAW.2).sqrt());
        assert!((answer.per_host / peak - 1.0).abs() < 0.01, "{answer:?}");
        assert_eq!(answer.hosts.best, (100_000.0 / peak).ceil());
        assert_eq!(answer.cores.unwrap().best, 4.0 * answer.hosts.best);
        assert!((answer.cores_busy.unwrap() - 10.0).abs() < 1e-9);
        assert!(answer.memory.unwrap() > 8192.0 * 1e6);
        assert_eq!(answer.warnings, []);
        for part in ["hosts", "cores", "GiB", "R²", "95 of 100"] {
            assert!(answer.table().contains(part), "{part}: {}", answer.table());
        }
    }

    #[test]
    fn a_tighter_latency_needs_more_hosts() {
        let hosts = |latency: Option<u64>| {
            let mut question = Question::rate(100_000.0);
            question.latency = latency.map(Duration::from_micros);
            answer(&sweep(&NS, 0.01, rate), &question).map(|a| a.hosts.best)
        };
        let (any, slow, fast) = (hosts(None).unwrap(), hosts(Some(5000)).unwrap(), hosts(Some(1500)).unwrap());
        assert!(any <= slow && slow < fast, "{any} {slow} {fast}");
        // One handshake takes 500 µs on average, and its p99 twice that.
        assert_eq!(hosts(Some(900)), Err(NoAnswer::LatencyTooLow(Duration::from_micros(900))));
    }

    #[test]
    fn data_that_do_not_support_the_answer_are_warned_about() {
        let warned = |s: &Sweep| answer(s, &Question::rate(1000.0)).unwrap().warnings;
        assert!(warned(&sweep(&NS[..5], 0.0, rate)).contains(&Warning::FewPoints(5)));
        assert!(warned(&sweep(&NS, 0.0, |n| 100.0 * n)).contains(&Warning::NoCurvature));
        let poor = |w: &Warning| matches!(w, Warning::PoorFit { .. });
        assert!(warned(&sweep(&NS, 0.4, rate)).iter().any(poor));
        let mut failing = sweep(&NS, 0.0, rate);
        failing.points[3].run.errors.insert("timeout".to_owned(), 100);
        failing.points[4].run.client_cpu_us_per_handshake = Some(1000.0);
        assert_eq!(warned(&failing), [Warning::Errors(8.0), Warning::ClientBusy(16.0)]);
        let few = answer(&sweep(&NS[..3], 0.0, rate), &Question::rate(1.0));
        assert_eq!(few.err(), Some(NoAnswer::Fit(FitError::TooFewPoints(3))));
    }

    #[test]
    fn a_sweep_over_cores_answers_in_cores() {
        let cores = |n: f64| 3000.0 * n / (1.0 + 0.02 * (n - 1.0));
        let mut sweep = sweep(&[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0], 0.0, cores);
        sweep.over = "server-shards".to_owned();
        let one = answer(&sweep, &Question::rate(10_000.0)).unwrap();
        assert_eq!((one.hosts.best, one.cores.unwrap().best), (1.0, 4.0));
        let mut question = Question::rate(100_000.0);
        question.host_cores = Some(8);
        let many = answer(&sweep, &question).unwrap();
        assert_eq!(many.hosts.best, (100_000.0 / cores(8.0)).ceil());
        assert_eq!(many.cores.unwrap().best, 8.0 * many.hosts.best);
    }

    #[test]
    fn open_connections_are_those_of_the_point_that_is_chosen() {
        let mut question = Question::rate(100_000.0);
        question.latency = Some(Duration::from_millis(2));
        let by = |question: &Question| answer(&sweep(&NS, 0.0, rate), question).unwrap();
        let (tight, loose) = (by(&question), by(&Question::rate(100_000.0)));
        for answer in [&tight, &loose] {
            // Little: so many are under way in a host that does so many a second.
            let under_way = answer.question.rate * answer.n / answer.fit.law.rate(answer.n);
            assert!((answer.open / under_way - 1.0).abs() < 1e-9, "{} instead of {under_way}", answer.open);
        }
        // p99 is twice the mean there.
        assert!((tight.open / (100_000.0 * 0.001) - 1.0).abs() < 0.01, "{}", tight.open);
        assert!(loose.open > 1.5 * tight.open, "{} {}", loose.open, tight.open);
        question.memory_per_connection = Some(1000.0);
        assert_eq!(by(&question).memory, Some(1000.0 * tight.open));
    }

    #[test]
    fn over_cores_the_latency_is_that_between_the_points_at_both_sides() {
        let cores = |n: f64| 3000.0 * n / (1.0 + 0.02 * (n - 1.0));
        let mut sweep = sweep(&[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0], 0.0, cores);
        sweep.over = "server-shards".to_owned();
        let open = |host_cores| {
            let mut question = Question::rate(100_000.0);
            question.host_cores = Some(host_cores);
            answer(&sweep, &question).unwrap().open
        };
        // 64 connections were under way at each point.
        let latency = |n: f64| 64.0 / cores(n);
        for (host_cores, expected) in [(8, latency(8.0)), (7, f64::midpoint(latency(6.0), latency(8.0)))] {
            assert!((open(host_cores) / (100_000.0 * expected) - 1.0).abs() < 1e-6, "{host_cores}");
        }
        assert_eq!(open(16), open(12), "what lies beyond the sweep is as at its end");
    }

    #[test]
    fn what_does_not_fit_the_question_is_refused_with_what_to_do() {
        let refused = |sweep: &Sweep, question: &Question, says: [&str; 2]| {
            let why = answer(sweep, question).unwrap_err().to_string();
            assert!(says.iter().all(|part| why.contains(part)), "{why}");
        };
        let mut over_rate = sweep(&NS, 0.0, rate);
        over_rate.over = "rate".to_owned();
        refused(&over_rate, &Question::rate(1000.0), ["rate", "--over connections"]);
        let mut open = sweep(&NS, 0.0, rate);
        open.points[3].run.open = Some(crate::report::result::OpenLoop::default());
        refused(&open, &Question::rate(1000.0), ["open loop", "--rate"]);
        let mut over_cores = sweep(&NS, 0.0, rate);
        over_cores.over = "server-shards".to_owned();
        let mut question = Question::rate(1000.0);
        question.latency = Some(Duration::from_millis(1));
        refused(&over_cores, &question, ["--latency", "connections"]);
        question.latency = None;
        assert!(answer(&over_cores, &question).is_ok());
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!([100.0, 2048.0, 3.5 * 1_048_576.0].map(binary), ["100 B", "2.0 KiB", "3.5 MiB"]);
    }
}
