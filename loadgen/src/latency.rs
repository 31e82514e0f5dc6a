//! Latency histograms.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer ones are recorded as this; no deadline of ours comes near it.
const LATENCY_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// Latencies in nanoseconds, three significant digits. One that is never used takes a few kilobytes; one that is
/// grows with its longest entry, to a quarter of a megabyte at most.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are a constant in range"))
    }
}

impl Latency {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // It grows as it has to, and the bound keeps that in range.
        let _ = self.0.record(nanos.clamp(1, LATENCY_NS_MAX));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        // It grows as it has to, so nothing can fall outside.
        let _ = self.0.add(&other.0);
    }

    /// The latency that `quantile` (0 to 1) of all do not exceed; `None` when there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_nanos(self.0.value_at_quantile(quantile).min(self.0.max())))
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_nanos(self.0.max()))
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The histogram itself, in nanoseconds: for a log or a percentile curve.
    #[must_use]
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl From<Histogram<u64>> for Latency {
    /// Takes over a histogram of nanoseconds, such as one read from a log.
    fn from(mut histogram: Histogram<u64>) -> Self {
        histogram.auto(true);
        Self(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(Latency::default().quantile(0.5), None);
        assert_eq!(Latency::default().max(), None);
    }

    #[test]
    fn three_digits_survive_over_nine_orders_of_magnitude_and_more_than_an_hour_is_an_hour() {
        let mut latency = Latency::default();
        for nanos in [1_234, 1_234_000, 1_234_000_000, 1_234_000_000_000] {
            latency.add(Duration::from_nanos(nanos));
            let max = latency.max().unwrap().as_nanos() as f64;
            assert!((max / nanos as f64 - 1.0).abs() < 1e-3, "{max} for {nanos}");
        }
        latency.add(Duration::MAX);
        let max = latency.max().unwrap();
        assert!(max < Duration::from_secs(3_610), "{max:?}");
    }

    #[test]
    fn a_short_histogram_takes_in_a_long_one() {
        let (mut short, mut long) = (Latency::default(), Latency::default());
        short.add(Duration::from_micros(1));
        long.add(Duration::from_secs(100));
        short.merge(&long);
        assert_eq!(short.count(), 2);
        assert!(short.max().unwrap() >= Duration::from_secs(100));
    }
}
