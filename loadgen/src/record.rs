//! What a run has measured: counts and latency histograms that merge without loss.

use std::time::Duration;

use hdrhistogram::Histogram;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};

use crate::failure::{ErrorClass, Failure};

/// Longer ones are recorded as this; no deadline of ours comes near it.
const LATENCY_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// Latencies in nanoseconds, three significant digits.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants in range");
        Self(histogram)
    }
}

impl Latency {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can fall outside.
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
}

/// How long the phases of one handshake took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the start of the connection until it was up.
    pub tcp_connect: Duration,
    /// From the ClientHello until the handshake was complete for the client.
    pub tls_handshake: Duration,
}

/// What one handshake agreed on, small enough to wait for the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// From [`Record::alpn`].
    pub alpn: AlpnId,
    /// The TLS version.
    pub version: Option<ProtocolVersion>,
    /// The cipher suite.
    pub suite: Option<CipherSuite>,
    /// The group of the key exchange; none in a TLS 1.2 resumption.
    pub group: Option<NamedGroup>,
    /// Whether a session was resumed.
    pub resumed: bool,
}

/// Stands for an ALPN protocol ID in one [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlpnId(usize);

/// How many there were of each of a handful of things.
#[derive(Clone, Debug)]
struct Counts<K>(Vec<(K, u64)>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq + Copy> Counts<K> {
    fn add(&mut self, key: K, n: u64) {
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, count)) => *count += n,
            None => self.0.push((key, n)),
        }
    }

    fn merge(&mut self, other: &Self) {
        for (key, n) in &other.0 {
            self.add(*key, *n);
        }
    }
}

/// What was measured, by one shard or by all.
#[derive(Clone, Debug, Default)]
pub struct Record {
    handshakes: u64,
    resumed: u64,
    /// TCP connect.
    pub tcp_connect: Latency,
    /// TLS handshake.
    pub tls_handshake: Latency,
    /// Both together.
    pub total: Latency,
    alpn: Vec<(Option<Box<[u8]>>, u64)>,
    versions: Counts<ProtocolVersion>,
    suites: Counts<CipherSuite>,
    groups: Counts<NamedGroup>,
    errors: Counts<ErrorClass>,
    /// The first detail that came with each class.
    examples: Vec<(ErrorClass, String)>,
    /// Connections that the peer reset after a complete handshake.
    pub resets_after: u64,
    /// Connections that the peer did not close after our close_notify and FIN.
    pub left_open: u64,
    /// The time measured: the longest of the shards'.
    pub wall: Duration,
    /// CPU time of the client's shards meanwhile.
    pub client_cpu: Duration,
}

impl Record {
    /// The name under which to count an ALPN protocol ID; `None` for no ALPN.
    pub fn alpn(&mut self, protocol: Option<&[u8]>) -> AlpnId {
        if let Some(i) = self.alpn.iter().position(|(p, _)| p.as_deref() == protocol) {
            return AlpnId(i);
        }
        self.alpn.push((protocol.map(Box::from), 0));
        AlpnId(self.alpn.len() - 1)
    }

    /// Counts a complete handshake.
    pub fn succeeded(&mut self, phases: Phases, facts: &Facts) {
        self.handshakes += 1;
        self.resumed += u64::from(facts.resumed);
        self.tcp_connect.add(phases.tcp_connect);
        self.tls_handshake.add(phases.tls_handshake);
        self.total.add(phases.tcp_connect + phases.tls_handshake);
        self.alpn[facts.alpn.0].1 += 1;
        if let Some(version) = facts.version {
            self.versions.add(version, 1);
        }
        if let Some(suite) = facts.suite {
            self.suites.add(suite, 1);
        }
        if let Some(group) = facts.group {
            self.groups.add(group, 1);
        }
    }

    /// Counts a failed one.
    pub fn failed(&mut self, failure: Failure) {
        self.errors.add(failure.class, 1);
        if let Some(detail) = failure.detail {
            self.example(failure.class, || detail.into_owned());
        }
    }

    fn example(&mut self, class: ErrorClass, detail: impl FnOnce() -> String) {
        if !self.examples.iter().any(|(c, _)| *c == class) {
            self.examples.push((class, detail()));
        }
    }

    /// Adds what another shard has measured in the same time.
    pub fn merge(&mut self, other: &Self) {
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.tcp_connect.merge(&other.tcp_connect);
        self.tls_handshake.merge(&other.tls_handshake);
        self.total.merge(&other.total);
        for (protocol, n) in &other.alpn {
            let id = self.alpn(protocol.as_deref());
            self.alpn[id.0].1 += n;
        }
        self.versions.merge(&other.versions);
        self.suites.merge(&other.suites);
        self.groups.merge(&other.groups);
        self.errors.merge(&other.errors);
        for (class, detail) in &other.examples {
            self.example(*class, || detail.clone());
        }
        self.resets_after += other.resets_after;
        self.left_open += other.left_open;
        self.wall = self.wall.max(other.wall);
        self.client_cpu += other.client_cpu;
    }

    /// Complete handshakes.
    #[must_use]
    pub const fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// Those of them that resumed a session.
    #[must_use]
    pub const fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Complete handshakes by ALPN protocol ID (`None`: no ALPN), without those that none had.
    pub fn by_alpn(&self) -> impl Iterator<Item = (Option<&[u8]>, u64)> {
        self.alpn.iter().filter(|(_, n)| *n > 0).map(|(p, n)| (p.as_deref(), *n))
    }

    /// Complete handshakes by TLS version.
    pub fn by_version(&self) -> impl Iterator<Item = (ProtocolVersion, u64)> {
        self.versions.0.iter().copied()
    }

    /// Complete handshakes by cipher suite.
    pub fn by_suite(&self) -> impl Iterator<Item = (CipherSuite, u64)> {
        self.suites.0.iter().copied()
    }

    /// Complete handshakes by group.
    pub fn by_group(&self) -> impl Iterator<Item = (NamedGroup, u64)> {
        self.groups.0.iter().copied()
    }

    /// Failed handshakes by class, the most frequent first.
    #[must_use]
    pub fn by_error(&self) -> Vec<(ErrorClass, u64)> {
        let mut errors = self.errors.0.clone();
        errors.sort_by_key(|(class, n)| (std::cmp::Reverse(*n), *class));
        errors
    }

    /// Failed handshakes.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.0.iter().map(|(_, n)| n).sum()
    }

    /// What was said about the first failure of `class`.
    #[must_use]
    pub fn example_of(&self, class: ErrorClass) -> Option<&str> {
        self.examples.iter().find(|(c, _)| *c == class).map(|(_, detail)| detail.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(record: &mut Record, alpn: Option<&[u8]>, resumed: bool) -> Facts {
        let (version, group) = (Some(ProtocolVersion::TLSv1_3), Some(NamedGroup::X25519));
        Facts { alpn: record.alpn(alpn), version, suite: None, group, resumed }
    }

    #[test]
    fn three_digits_survive_and_merging_keeps_all() {
        let (mut a, mut b) = (Record::default(), Record::default());
        for i in 1..=1000_u64 {
            let record = if i % 2 == 0 { &mut a } else { &mut b };
            let f = facts(record, (i % 3 == 0).then_some(b"h2"), i % 4 == 0);
            let phases = Phases { tcp_connect: Duration::from_micros(i), tls_handshake: Duration::from_micros(2 * i) };
            record.succeeded(phases, &f);
        }
        b.failed(Failure::connecting(&std::io::ErrorKind::ConnectionRefused.into()));
        a.merge(&b);
        assert_eq!((a.handshakes(), a.resumed(), a.failures()), (1000, 250, 1));
        let p50 = a.total.quantile(0.5).unwrap().as_secs_f64();
        assert!((p50 / 1500e-6 - 1.0).abs() < 1e-3, "{p50}");
        assert_eq!(a.tls_handshake.count(), 1000);
        assert!(a.tls_handshake.max().unwrap() >= Duration::from_micros(2000));
        let h2 = a.by_alpn().find(|(p, _)| *p == Some(b"h2")).unwrap().1;
        assert_eq!(h2, 333);
        assert_eq!(a.by_error(), [(ErrorClass::ConnectRefused, 1)]);
        assert!(a.example_of(ErrorClass::ConnectRefused).is_some());
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(Latency::default().quantile(0.5), None);
        assert_eq!(Latency::default().max(), None);
    }
}
