//! Axes: where a value lies, and which values get a label.

use std::time::Duration;

use crate::duration::Human;

/// How values map onto an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    kind: Kind,
    min: f64,
    max: f64,
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Linear,
    Log,
    /// Equal steps for 90 %, 99 %, 99.9 %: the distance from 100 %, on a log scale.
    Percentile,
}

impl Scale {
    /// From zero to a little above `max`, with plain numbers.
    pub(super) fn from_zero(max: f64) -> Self {
        let step = nice_step(max.max(f64::MIN_POSITIVE) / 5.0);
        let steps = (max / step).ceil().max(1.0);
        let ticks = (0..).map(f64::from).take_while(|i| *i <= steps).map(|i| (i * step, number(i * step, step)));
        Self { kind: Kind::Linear, min: 0.0, max: steps * step, ticks: ticks.collect() }
    }

    /// From 0 to `max` seconds, which is where the axis ends.
    pub(super) fn seconds(max: f64) -> Self {
        let max = max.max(1.0);
        let step = nice_step(max / 8.0).max(1.0);
        let ticks = (0..).map(|i| f64::from(i) * step).take_while(|t| *t <= max * 1.0001).map(|t| (t, number(t, step)));
        Self { kind: Kind::Linear, min: 0.0, max, ticks: ticks.collect() }
    }

    /// From microseconds to microseconds on a log scale, widened to round values (1, 2, 5), with units.
    pub(super) fn latency(min: f64, max: f64) -> Self {
        let round: Vec<f64> = (-1..=10).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10.0_f64.powi(e))).collect();
        let low = round.iter().rposition(|v| *v <= min).unwrap_or(0);
        let high = round.iter().position(|v| *v >= max).unwrap_or(round.len() - 1).max(low + 1).min(round.len() - 1);
        let shown = &round[low.min(high - 1)..=high];
        // Over several decades only their beginnings fit.
        let every = if shown.len() > 9 { |v: f64| v.log10().fract().abs() < 1e-9 } else { |_: f64| true };
        let text = |us: f64| Duration::try_from_secs_f64(us / 1e6).map_or_else(|_| String::new(), short);
        let ticks = shown.iter().filter(|v| every(**v)).map(|v| (*v, text(*v))).collect();
        Self { kind: Kind::Log, min: shown[0], max: shown[shown.len() - 1], ticks }
    }

    /// From the smallest percentile up to as many nines as `count` values can tell.
    pub(super) fn percentiles(count: u64) -> Self {
        let nines = (count.max(10) as f64).log10().ceil().clamp(2.0, 6.0);
        let max = 100.0 - 10.0_f64.powf(2.0 - nines);
        let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
        let ticks = ticks.into_iter().filter(|p| *p <= max + 1e-9).map(|p| (p, format!("{p} %"))).collect();
        Self { kind: Kind::Percentile, min: 0.0, max, ticks }
    }

    /// Where `value` lies, from 0 (at the start of the axis) to 1.
    pub(super) fn at(&self, value: f64) -> f64 {
        let place = |v: f64| match self.kind {
            Kind::Linear => v,
            Kind::Log => v.max(f64::MIN_POSITIVE).log10(),
            Kind::Percentile => -(1.0 - (v / 100.0).min(1.0 - 1e-9)).log10(),
        };
        let (min, max) = (place(self.min), place(self.max));
        ((place(value) - min) / (max - min)).clamp(0.0, 1.0)
    }

    /// The values with a label.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().map(|(value, text)| (*value, text.as_str()))
    }

    /// The last value of the axis.
    pub(super) const fn max(&self) -> f64 {
        self.max
    }
}

/// `5 ms` instead of `5.00 ms`: ticks are round.
fn short(value: Duration) -> String {
    let text = Human(value).to_string();
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// The next of 1, 2, 5, 10, .. that is not below.
fn nice_step(raw: f64) -> f64 {
    let decade = 10.0_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.iter().map(|s| s * decade).find(|s| *s >= raw * 0.999_999).unwrap_or(10.0 * decade)
}

fn number(value: f64, step: f64) -> String {
    if step >= 1.0 { super::super::grouped_rate(value) } else { format!("{value:.*}", if step >= 0.1 { 1 } else { 2 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(labels(&Scale::from_zero(8412.0)), ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
        assert_eq!(labels(&Scale::from_zero(0.0)).len(), 2);
        assert_eq!(labels(&Scale::seconds(10.0)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&Scale::latency(450.0, 12_000.0)),
            ["200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms"]
        );
        assert_eq!(labels(&Scale::latency(3.0, 9e6)), ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!(labels(&Scale::percentiles(5000)), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn values_lie_where_the_scale_says() {
        assert_eq!(Scale::from_zero(10.0).at(5.0), 0.5);
        assert!((Scale::latency(100.0, 10_000.0).at(1000.0) - 0.5).abs() < 1e-9);
        let percentiles = Scale::percentiles(1000);
        assert!((percentiles.at(90.0) / percentiles.at(99.0) - 0.5).abs() < 1e-9);
        assert_eq!(percentiles.at(100.0), 1.0);
        for scale in [Scale::from_zero(f64::MIN_POSITIVE), Scale::latency(0.0, 0.0), Scale::latency(5e12, 9e12)] {
            assert!(scale.at(1.0).is_finite(), "{scale:?}");
        }
    }
}
