//! Gunther's Universal Scalability Law, fitted to a sweep. Pure.
//!
//! `X(n) = λ n / (1 + σ (n - 1) + κ n (n - 1))`: with `n` connections (or cores) a server does `X(n)` handshakes per
//! second. λ is what one of them alone gets, σ the share of the work that waits for a shared thing (contention), κ
//! what each pair costs to keep in step (coherency). The fit is Levenberg-Marquardt on the logarithms, because noise
//! scales a rate, with σ and κ held at zero or above; its starting values come from the law's transform, which is a
//! quadratic in `n - 1` that linear least squares fits at once.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;
use rmpfit::{MPFitter, MPPar, MPResult};

use crate::stats::percentile;

/// Points that a fit must have: three parameters, and something left over to see how good they are.
pub const POINTS_MIN: usize = 5;
/// Refits for an interval: enough for its ends to be steady in two digits.
const RESAMPLES: usize = 1000;

/// One point of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Connections or cores.
    pub n: f64,
    /// Handshakes per second.
    pub rate: f64,
}

/// The law's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Law {
    /// λ: handshakes per second of one.
    pub lambda: f64,
    /// σ: contention.
    pub sigma: f64,
    /// κ: coherency.
    pub kappa: f64,
}

impl Law {
    /// The rate at `n`.
    #[must_use]
    pub fn rate(&self, n: f64) -> f64 {
        self.lambda * n / (1.0 + self.sigma * (n - 1.0) + self.kappa * n * (n - 1.0))
    }

    /// Where the rate is highest; `None` when it rises for ever.
    #[must_use]
    pub fn peak(&self) -> Option<f64> {
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt().max(1.0))
    }

    /// The least `n` that does `rate`; `None` when no `n` does.
    #[must_use]
    pub fn n_for(&self, rate: f64) -> Option<f64> {
        // rate (1 + σ(n-1) + κ n(n-1)) = λ n, as a n² + b n + c = 0.
        let (a, b, c) = (rate * self.kappa, rate * (self.sigma - self.kappa) - self.lambda, rate * (1.0 - self.sigma));
        let n = if a.abs() < 1e-12 * self.lambda {
            if b >= 0.0 {
                return None;
            }
            -c / b
        } else {
            let under = b * b - 4.0 * a * c;
            if under < 0.0 || b >= 0.0 {
                return None;
            }
            // The smaller root, written so that nothing cancels.
            2.0 * c / (-b + under.sqrt())
        };
        (n.is_finite()).then_some(n.max(1.0))
    }

    /// The largest `n` at which one handshake still takes at most `seconds` on average (Little: `n / X(n)`), or the
    /// peak when that comes first: beyond it latency rises and nothing is gained.
    #[must_use]
    pub fn n_within(&self, seconds: f64) -> Option<f64> {
        // κ n² + (σ - κ) n + (1 - σ) - λ seconds = 0.
        let (a, b, c) = (self.kappa, self.sigma - self.kappa, 1.0 - self.sigma - self.lambda * seconds);
        let n = if a > 0.0 {
            let under = b * b - 4.0 * a * c;
            if under < 0.0 {
                return None;
            }
            (-b + under.sqrt()) / (2.0 * a)
        } else if b > 0.0 {
            -c / b
        } else if c <= 0.0 {
            f64::INFINITY
        } else {
            return None;
        };
        let n = self.peak().map_or(n, |peak| n.min(peak));
        (n >= 1.0).then_some(n)
    }
}

/// A fit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fit {
    /// The best parameters.
    pub law: Law,
    /// The share of the rates' variance that it explains, 1 at best.
    pub r_squared: f64,
    /// The largest distance of a point from the curve, as a share.
    pub worst_residual: f64,
    points: Vec<Point>,
}

/// Why there is no fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FitError {
    /// Fewer than [`POINTS_MIN`] different `n` with a rate above zero.
    TooFewPoints(usize),
    /// The library did not come to an end.
    NoConvergence,
}

impl std::fmt::Display for FitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooFewPoints(n) => write!(
                f,
                "{n} usable points are too few for a curve with three parameters; sweep over {POINTS_MIN} or more, \
                 from 1 until well past the knee"
            ),
            Self::NoConvergence => f.write_str("no curve of this law goes through these points"),
        }
    }
}

impl std::error::Error for FitError {}

/// Fits the law to `points`; those without a rate are left out.
///
/// # Errors
/// Too few points, or no curve.
pub fn fit(points: &[Point]) -> Result<Fit, FitError> {
    let points: Vec<Point> = points.iter().copied().filter(|p| p.n >= 1.0 && p.rate > 0.0).collect();
    let mut different: Vec<f64> = points.iter().map(|p| p.n).collect();
    different.sort_by(f64::total_cmp);
    different.dedup();
    if different.len() < POINTS_MIN {
        return Err(FitError::TooFewPoints(different.len()));
    }
    let law = least_squares(&points).ok_or(FitError::NoConvergence)?;
    let mean = points.iter().map(|p| p.rate).sum::<f64>() / points.len() as f64;
    let total: f64 = points.iter().map(|p| (p.rate - mean).powi(2)).sum();
    let left: f64 = points.iter().map(|p| (p.rate - law.rate(p.n)).powi(2)).sum();
    let residual = |p: &Point| (p.rate / law.rate(p.n) - 1.0).abs();
    let worst_residual = points.iter().map(residual).fold(0.0, f64::max);
    let r_squared = if total > 0.0 { 1.0 - left / total } else { 0.0 };
    Ok(Fit { law, r_squared, worst_residual, points })
}

/// Where something that follows from the law lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Fit {
    /// The laws of resampled sweeps: each point is moved to the curve and off it again by a residual drawn from all
    /// points. The same seed gives the same laws.
    #[must_use]
    pub fn resampled(&self, seed: u64) -> Vec<Law> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let spare = self.points.len() as f64 / (self.points.len() as f64 - 3.0).max(1.0);
        // Three parameters have drawn the curve towards the points; this undoes it.
        let residuals: Vec<f64> =
            self.points.iter().map(|p| (p.rate / self.law.rate(p.n)).ln() * spare.sqrt()).collect();
        let draw = |random: &mut Pcg64Mcg| residuals[random.random_range(0..residuals.len())];
        let laws = (0..RESAMPLES).filter_map(|_| {
            let moved = |p: &Point| Point { n: p.n, rate: self.law.rate(p.n) * draw(&mut random).exp() };
            least_squares(&self.points.iter().map(moved).collect::<Vec<_>>())
        });
        laws.collect()
    }
}

/// The middle 95 % of what `of` makes of the resampled laws; `None` when more than one in twenty gives nothing.
#[must_use]
pub fn bounds(laws: &[Law], of: impl Fn(&Law) -> Option<f64>) -> Option<Bounds> {
    let values: Vec<f64> = laws.iter().filter_map(of).filter(|v| v.is_finite()).collect();
    if values.len() * 20 < laws.len() * 19 {
        return None;
    }
    Some(Bounds { low: percentile(&values, 0.025)?, high: percentile(&values, 0.975)? })
}

struct LogDistance<'a>(&'a [Point]);

impl MPFitter for LogDistance<'_> {
    fn eval(&mut self, params: &[f64], deviates: &mut [f64]) -> MPResult<()> {
        let law = Law { lambda: params[0].exp(), sigma: params[1], kappa: params[2] };
        for (deviate, point) in deviates.iter_mut().zip(self.0) {
            *deviate = (point.rate / law.rate(point.n)).ln();
        }
        Ok(())
    }

    fn number_of_points(&self) -> usize {
        self.0.len()
    }

    fn parameters(&self) -> &[MPPar] {
        const AT_LEAST_ZERO: MPPar = MPPar { limited_low: true, limit_low: 0.0, ..MPPar::new() };
        static ANY: [MPPar; 3] = [MPPar::new(), AT_LEAST_ZERO, AT_LEAST_ZERO];
        &ANY
    }
}

fn least_squares(points: &[Point]) -> Option<Law> {
    let start = transformed(points);
    let mut params = [start.lambda.ln(), start.sigma, start.kappa];
    LogDistance(points).mpfit(&mut params).ok()?;
    let law = Law { lambda: params[0].exp(), sigma: params[1].max(0.0), kappa: params[2].max(0.0) };
    (law.lambda.is_finite() && law.sigma.is_finite() && law.kappa.is_finite()).then_some(law)
}

/// With `x = n - 1` and λ taken from the smallest `n`, `λ n / X - 1` is `(σ + κ) x + κ x²`: a line through the origin in
/// two unknowns.
fn transformed(points: &[Point]) -> Law {
    let lambda = points.iter().map(|p| p.rate / p.n).fold(0.0, f64::max);
    let (mut xx, mut xxx, mut xxxx, mut xy, mut xxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for p in points {
        let (x, y) = (p.n - 1.0, lambda * p.n / p.rate - 1.0);
        // Large n would decide alone; what counts is the relative error.
        let weight = (p.rate / (lambda * p.n)).powi(2);
        xx += weight * x * x;
        xxx += weight * x * x * x;
        xxxx += weight * x * x * x * x;
        xy += weight * x * y;
        xxy += weight * x * x * y;
    }
    let determinant = xx * xxxx - xxx * xxx;
    if determinant.abs() <= f64::EPSILON * xx * xxxx {
        return Law { lambda, sigma: 0.0, kappa: 0.0 };
    }
    let both = (xy * xxxx - xxy * xxx) / determinant;
    let kappa = ((xx * xxy - xxx * xy) / determinant).max(0.0);
    Law { lambda, sigma: (both - kappa).clamp(0.0, 1.0), kappa }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::noise::Noise;

    const LAW: Law = Law { lambda: 950.0, sigma: 0.03, kappa: 0.0005 };
    const NS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

    fn sweep(law: &Law, deviation: f64, seed: u64) -> Vec<Point> {
        let mut noise = Noise::seeded(seed);
        NS.iter().map(|n| Point { n: *n, rate: law.rate(*n) * (deviation * noise.normal()).exp() }).collect()
    }

    #[test]
    fn a_law_without_noise_is_found_again() {
        let fit = fit(&sweep(&LAW, 0.0, 0)).unwrap();
        assert!((fit.law.lambda / LAW.lambda - 1.0).abs() < 1e-4, "{fit:?}");
        assert!((fit.law.sigma - LAW.sigma).abs() < 1e-4, "{fit:?}");
        assert!((fit.law.kappa - LAW.kappa).abs() < 1e-6, "{fit:?}");
        assert!(fit.r_squared > 0.9999 && fit.worst_residual < 1e-3);
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        let peak = LAW.rate(LAW.peak().unwrap());
        let held = (0..60).filter(|seed| {
            let fit = fit(&sweep(&LAW, 0.03, *seed)).unwrap();
            let bounds = bounds(&fit.resampled(*seed), |law| Some(law.rate(law.peak()?))).unwrap();
            bounds.low <= peak && peak <= bounds.high
        });
        // 95 % of 60 are 57; eight points are few, so a bootstrap may be a little short of it.
        let held = held.count();
        assert!(held >= 51, "{held} of 60");
    }

    #[test]
    fn the_law_answers_backwards() {
        for rate in [900.0, 5000.0, 12_000.0] {
            let n = LAW.n_for(rate).unwrap();
            assert!((LAW.rate(n) / rate - 1.0).abs() < 1e-9 || n == 1.0, "{rate}: {n}");
        }
        let peak = LAW.rate(LAW.peak().unwrap());
        assert_eq!(LAW.n_for(peak * 1.001), None);
        let n = LAW.n_within(0.003).unwrap();
        assert!((n / LAW.rate(n) - 0.003).abs() < 1e-9);
        assert_eq!(LAW.n_within(0.0001), None);
        assert_eq!(LAW.n_within(10.0), LAW.peak());
        let linear = Law { lambda: 100.0, sigma: 0.0, kappa: 0.0 };
        assert_eq!((linear.n_for(1000.0), linear.peak()), (Some(10.0), None));
        assert_eq!(linear.n_within(0.02), Some(f64::INFINITY));
    }

    #[test]
    fn too_few_points_are_refused() {
        assert_eq!(fit(&sweep(&LAW, 0.0, 0)[..4]), Err(FitError::TooFewPoints(4)));
        assert_eq!(fit(&[Point { n: 4.0, rate: 100.0 }; 20]), Err(FitError::TooFewPoints(1)));
        assert_eq!(fit(&[]), Err(FitError::TooFewPoints(0)));
    }

    #[test]
    fn a_rise_without_an_end_has_no_peak() {
        let linear = Law { lambda: 500.0, sigma: 0.0, kappa: 0.0 };
        let fit = fit(&sweep(&linear, 0.0, 0)).unwrap();
        assert!(fit.law.peak().is_none_or(|n| n > 1000.0), "{fit:?}");
    }
}
