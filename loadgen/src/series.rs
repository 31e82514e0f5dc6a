//! What happened in each second of a run. Pure: time is an argument.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The length of an interval at first.
const INTERVAL: Duration = Duration::from_secs(1);
/// Intervals that a series keeps. Met: neighbours are joined, and each is twice as long from then on, so that a series
/// never takes more than about ten megabytes.
pub const POINTS_MAX: usize = 900;
/// Longer latencies are recorded as this.
const LATENCY_US_MAX: u64 = 3_600 * 1_000_000;

/// What happened in one interval.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Point {
    /// Handshakes that were started; in an open loop, those that were due.
    pub started: u64,
    /// Handshakes that succeeded.
    pub finished: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Microseconds in total, of those that succeeded; two significant digits, for there are many of these.
    latency: Option<Box<Histogram<u32>>>,
}

impl Point {
    /// The total latency that `quantile` (0 to 1) of those that succeeded do not exceed; `None` when there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let latency = self.latency.as_ref()?;
        Some(Duration::from_micros(latency.value_at_quantile(quantile).min(latency.max())))
    }

    /// The longest total latency.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        self.latency.as_ref().map(|l| Duration::from_micros(l.max()))
    }

    /// Adds what another shard, or a neighbouring interval, has seen.
    pub fn merge(&mut self, other: &Self) {
        self.started += other.started;
        self.finished += other.finished;
        self.failed += other.failed;
        match (&mut self.latency, &other.latency) {
            // It grows as it has to, so nothing can fall outside.
            (Some(mine), Some(theirs)) => drop(mine.add(&**theirs)),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX);
        let histogram = self
            .latency
            .get_or_insert_with(|| Box::new(Histogram::new(2).expect("two digits are a constant in range")));
        // It grows as it has to, and the bound keeps that in range.
        let _ = histogram.record(micros);
    }
}

/// A run in intervals of one second, or of a power of two of seconds when it is long.
#[derive(Clone, Debug)]
pub struct Series {
    interval: Duration,
    points: Vec<Point>,
}

impl Default for Series {
    fn default() -> Self {
        Self { interval: INTERVAL, points: Vec::new() }
    }
}

impl Series {
    /// How long each interval is. The last one may not be over.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// The intervals in their order; the first one begins when counting does. In an open loop what was due in the last
    /// of the counted time may have ended in intervals after it.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// A handshake was started, or was due, `at` this time after counting began.
    pub fn started(&mut self, at: Duration) {
        self.at(at).started += 1;
    }

    /// A handshake succeeded.
    pub fn finished(&mut self, at: Duration, latency: Duration) {
        let point = self.at(at);
        point.finished += 1;
        point.add(latency);
    }

    /// A handshake failed.
    pub fn failed(&mut self, at: Duration) {
        self.at(at).failed += 1;
    }

    /// Adds what another shard has seen in the same time.
    pub fn merge(&mut self, other: &Self) {
        let mut other = std::borrow::Cow::Borrowed(other);
        while self.interval < other.interval {
            self.coarsen();
        }
        while other.interval < self.interval {
            other.to_mut().coarsen();
        }
        if self.points.len() < other.points.len() {
            self.points.resize_with(other.points.len(), Point::default);
        }
        for (mine, theirs) in self.points.iter_mut().zip(&other.points) {
            mine.merge(theirs);
        }
    }

    /// The interval that `at` falls into.
    fn at(&mut self, at: Duration) -> &mut Point {
        let mut index = self.index(at);
        while index >= POINTS_MAX {
            self.coarsen();
            index = self.index(at);
        }
        if index >= self.points.len() {
            self.points.resize_with(index + 1, Point::default);
        }
        &mut self.points[index]
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_secs() / self.interval.as_secs()).unwrap_or(usize::MAX)
    }

    fn coarsen(&mut self) {
        self.interval *= 2;
        let pairs = self.points.chunks(2);
        let joined = |pair: &[Point]| {
            let mut first = pair[0].clone();
            pair[1..].iter().for_each(|second| first.merge(second));
            first
        };
        self.points = pairs.map(joined).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_second_has_its_own_counts_and_latencies() {
        let mut series = Series::default();
        series.started(at(0));
        series.finished(at(999), at(5));
        series.finished(at(2000), at(80));
        series.failed(at(2999));
        let counts: Vec<_> = series.points().iter().map(|p| (p.started, p.finished, p.failed)).collect();
        assert_eq!(counts, [(1, 1, 0), (0, 0, 0), (0, 1, 1)]);
        assert_eq!(series.points()[1].quantile(0.5), None);
        let p50 = series.points()[2].quantile(0.5).unwrap().as_secs_f64();
        assert!((p50 / 0.080 - 1.0).abs() < 0.01, "{p50}");
        assert!(series.points()[0].max().unwrap() < at(6));
    }

    #[test]
    fn a_long_run_has_longer_intervals_and_loses_nothing() {
        let mut series = Series::default();
        for second in 0..5_000 {
            series.started(Duration::from_secs(second));
            series.finished(Duration::from_secs(second), at(1));
        }
        assert!(series.points().len() <= POINTS_MAX, "{}", series.points().len());
        assert_eq!(series.interval(), Duration::from_secs(8));
        assert_eq!(series.points().iter().map(|p| p.finished).sum::<u64>(), 5_000);
        assert!(series.points()[..624].iter().all(|p| p.started == 8));
    }

    #[test]
    fn shards_merge_into_the_longer_interval() {
        let (mut short, mut long) = (Series::default(), Series::default());
        short.finished(at(1_500), at(1));
        long.started(Duration::from_secs(1_500));
        for (mut a, b) in [(short.clone(), &long), (long.clone(), &short)] {
            a.merge(b);
            assert_eq!(a.interval(), Duration::from_secs(2));
            assert_eq!((a.points()[0].finished, a.points()[750].started), (1, 1));
        }
    }
}
