//! What a run has measured: counts and latency histograms that merge without loss.

use std::time::Duration;

use handfast::crypto::batch::BatchCounters;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme};

use crate::failure::{ErrorClass, Failure};
pub use crate::latency::Latency;
use crate::series::Series;

/// How long the phases of one handshake took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// In an open loop, from the time at which it was due until its connection was started.
    pub delay: Duration,
    /// From the start of the connection until it was up.
    pub tcp_connect: Duration,
    /// From the ClientHello until the handshake was complete for the client.
    pub tls_handshake: Duration,
    /// From then until the first byte of the response, when there was a request.
    pub first_byte: Option<Duration>,
}

impl Phases {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.delay + self.tcp_connect + self.tls_handshake + self.first_byte.unwrap_or_default()
    }
}

/// The latencies of one sort of handshakes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Phased {
    /// TCP connect.
    pub tcp_connect: Latency,
    /// TLS handshake.
    pub tls_handshake: Latency,
    /// First byte of the response.
    pub first_byte: Latency,
    /// All together.
    pub total: Latency,
}

impl Phased {
    fn add(&mut self, phases: &Phases) {
        self.tcp_connect.add(phases.tcp_connect);
        self.tls_handshake.add(phases.tls_handshake);
        if let Some(first_byte) = phases.first_byte {
            self.first_byte.add(first_byte);
        }
        self.total.add(phases.total());
    }

    fn merge(&mut self, other: &Self) {
        self.tcp_connect.merge(&other.tcp_connect);
        self.tls_handshake.merge(&other.tls_handshake);
        self.first_byte.merge(&other.first_byte);
        self.total.merge(&other.total);
    }
}

/// What became of early data that was offered (RFC 8446 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyData {
    /// The server took it.
    Accepted,
    /// It did not; what was in it was sent again after the handshake.
    Rejected,
}

/// What tells the sorts of handshakes apart, and the latencies of one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sort<'a> {
    /// The ALPN protocol ID; `None` for no ALPN.
    pub alpn: Option<&'a [u8]>,
    /// Whether sessions were resumed.
    pub resumed: bool,
    /// What became of early data; `None` where none was offered.
    pub early_data: Option<EarlyData>,
    /// How long they took.
    pub latencies: &'a Phased,
}

impl Sort<'_> {
    /// What its sessions were, in one word.
    #[must_use]
    pub const fn session_name(&self) -> &'static str {
        match (self.resumed, self.early_data) {
            (false, None) => "full",
            (true, None) => "resumed",
            (_, Some(EarlyData::Accepted)) => "early_data",
            (true, Some(EarlyData::Rejected)) => "early_data_rejected",
            (false, Some(EarlyData::Rejected)) => "full_early_data_rejected",
        }
    }
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
    /// The scheme of the server's signature; none in a resumption.
    pub scheme: Option<SignatureScheme>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// What became of early data; `None` when none was offered.
    pub early_data: Option<EarlyData>,
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

    fn add_some(&mut self, key: Option<K>) {
        if let Some(key) = key {
            self.add(key, 1);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (key, n) in &other.0 {
            self.add(*key, *n);
        }
    }
}

/// The protocol, whether a session was resumed, and what became of early data.
type SortKey = (AlpnId, bool, Option<EarlyData>);

/// What was measured, by one shard or by all.
#[derive(Clone, Debug, Default)]
pub struct Record {
    handshakes: u64,
    resumed: u64,
    /// TCP connect.
    pub tcp_connect: Latency,
    /// TLS handshake.
    pub tls_handshake: Latency,
    /// From there to the first byte of the response; empty without requests.
    pub first_byte: Latency,
    /// All together; in an open loop from the time at which each handshake was due.
    pub total: Latency,
    /// From a message to its echo; empty without messages.
    pub echo: Latency,
    /// By ALPN protocol and by session: mostly one or two.
    sorts: Vec<(SortKey, Phased)>,
    /// Each second of it.
    pub series: Series,
    alpn: Vec<(Option<Box<[u8]>>, u64)>,
    versions: Counts<ProtocolVersion>,
    suites: Counts<CipherSuite>,
    groups: Counts<NamedGroup>,
    schemes: Counts<SignatureScheme>,
    statuses: Counts<u16>,
    early_data: Counts<EarlyData>,
    errors: Counts<ErrorClass>,
    /// The first detail that came with each class.
    examples: Vec<(ErrorClass, String)>,
    /// Handshakes that an open loop had to start in the time that counts.
    pub due: u64,
    /// Those of them that were never started, because all connections were busy to the end.
    pub unstarted: u64,
    /// How long those that had to wait for one of the connections waited.
    pub waited: Latency,
    /// How late this generator was: from the time at which a handshake was due, or at which a connection came free
    /// for it if that was later, until it was started. Empty in a closed loop.
    pub lateness: Latency,
    /// Connections that were held open when the run ended.
    pub held: u64,
    /// Connections that the peer ended while they were held.
    pub lost: u64,
    /// Connections that the peer reset after a complete handshake.
    pub resets_after: u64,
    /// Connections that the peer did not close after our close_notify and FIN.
    pub left_open: u64,
    /// The time measured: the longest of the shards'.
    pub wall: Duration,
    /// CPU time of the client's shards meanwhile.
    pub client_cpu: Duration,
    /// How often key exchanges were computed together, in the whole run; `None` where all were computed one by one.
    pub batch: Option<BatchCounters>,
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
        if let Some(first_byte) = phases.first_byte {
            self.first_byte.add(first_byte);
        }
        self.total.add(phases.total());
        self.early_data.add_some(facts.early_data);
        self.sort((facts.alpn, facts.resumed, facts.early_data)).add(&phases);
        self.alpn[facts.alpn.0].1 += 1;
        self.versions.add_some(facts.version);
        self.suites.add_some(facts.suite);
        self.groups.add_some(facts.group);
        self.schemes.add_some(facts.scheme);
    }

    fn sort(&mut self, key: SortKey) -> &mut Phased {
        let at = self.sorts.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
            self.sorts.push((key, Phased::default()));
            self.sorts.len() - 1
        });
        &mut self.sorts[at].1
    }

    /// Counts the status of a response.
    pub fn responded(&mut self, status: u16) {
        self.statuses.add(status, 1);
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
        self.first_byte.merge(&other.first_byte);
        self.total.merge(&other.total);
        self.echo.merge(&other.echo);
        for (protocol, n) in &other.alpn {
            let id = self.alpn(protocol.as_deref());
            self.alpn[id.0].1 += n;
        }
        for ((alpn, resumed, early_data), latencies) in &other.sorts {
            let id = self.alpn(other.alpn[alpn.0].0.as_deref());
            self.sort((id, *resumed, *early_data)).merge(latencies);
        }
        self.early_data.merge(&other.early_data);
        self.series.merge(&other.series);
        self.versions.merge(&other.versions);
        self.suites.merge(&other.suites);
        self.groups.merge(&other.groups);
        self.schemes.merge(&other.schemes);
        self.statuses.merge(&other.statuses);
        self.errors.merge(&other.errors);
        for (class, detail) in &other.examples {
            self.example(*class, || detail.clone());
        }
        self.due += other.due;
        self.unstarted += other.unstarted;
        self.waited.merge(&other.waited);
        self.lateness.merge(&other.lateness);
        self.held += other.held;
        self.lost += other.lost;
        self.resets_after += other.resets_after;
        self.left_open += other.left_open;
        self.wall = self.wall.max(other.wall);
        self.client_cpu += other.client_cpu;
        if let Some(other) = other.batch {
            *self.batch.get_or_insert_default() += other;
        }
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

    /// Complete handshakes by the scheme of the server's signature.
    pub fn by_scheme(&self) -> impl Iterator<Item = (SignatureScheme, u64)> {
        self.schemes.0.iter().copied()
    }

    /// Responses by status; 0 stands for one that could not be read.
    pub fn by_status(&self) -> impl Iterator<Item = (u16, u64)> {
        self.statuses.0.iter().copied()
    }

    /// Complete handshakes in which early data was offered and came to this.
    #[must_use]
    pub fn early_data(&self, came_to: EarlyData) -> u64 {
        self.early_data.0.iter().find(|(e, _)| *e == came_to).map_or(0, |(_, n)| *n)
    }

    /// The latencies of complete handshakes by ALPN protocol and by session, in the order of their first.
    pub fn sorts(&self) -> impl Iterator<Item = Sort<'_>> {
        self.sorts.iter().map(|((alpn, resumed, early_data), latencies)| Sort {
            alpn: self.alpn[alpn.0].0.as_deref(),
            resumed: *resumed,
            early_data: *early_data,
            latencies,
        })
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

    /// Failures for which this machine is to blame, and not the server.
    #[must_use]
    pub fn failures_of_ours(&self) -> u64 {
        self.errors.0.iter().filter(|(class, _)| class.is_ours()).map(|(_, n)| n).sum()
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
        let scheme = Some(SignatureScheme::ECDSA_NISTP256_SHA256);
        Facts { alpn: record.alpn(alpn), version, suite: None, group, scheme, resumed, early_data: None }
    }

    #[test]
    fn three_digits_survive_and_merging_keeps_all() {
        let (mut a, mut b) = (Record::default(), Record::default());
        for i in 1..=1000_u64 {
            let record = if i % 2 == 0 { &mut a } else { &mut b };
            let f = facts(record, (i % 3 == 0).then_some(b"h2"), i % 4 == 0);
            let (tcp_connect, tls_handshake) = (Duration::from_micros(i), Duration::from_micros(2 * i));
            let phases = Phases { tcp_connect, tls_handshake, ..Phases::default() };
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
    fn protocols_and_sessions_are_kept_apart_and_found_again_by_name() {
        let (mut a, mut b) = (Record::default(), Record::default());
        let phases = |ms| Phases { tls_handshake: Duration::from_millis(ms), ..Phases::default() };
        let f = facts(&mut a, Some(b"h2"), false);
        a.succeeded(phases(10), &f);
        // The same protocol has another number here.
        for (alpn, resumed, ms) in [(None, false, 1), (Some(&b"h2"[..]), true, 2), (Some(b"h2"), false, 20)] {
            let f = facts(&mut b, alpn, resumed);
            b.succeeded(phases(ms), &f);
        }
        a.merge(&b);
        let found: Vec<_> = a.sorts().map(|s| (s.alpn, s.resumed, s.latencies.total.count())).collect();
        assert_eq!(found, [(Some(&b"h2"[..]), false, 2), (None, false, 1), (Some(b"h2"), true, 1)]);
        assert!(a.sorts().next().unwrap().latencies.total.max().unwrap() >= Duration::from_millis(20));
        assert_eq!(a.by_scheme().collect::<Vec<_>>(), [(SignatureScheme::ECDSA_NISTP256_SHA256, 4)]);
    }

    #[test]
    fn early_data_is_counted_and_its_latencies_are_kept_apart() {
        let (mut a, mut b) = (Record::default(), Record::default());
        let succeed = |record: &mut Record, early_data| {
            let f = Facts { early_data, ..facts(record, None, true) };
            record.succeeded(Phases::default(), &f);
        };
        succeed(&mut a, None);
        succeed(&mut b, Some(EarlyData::Rejected));
        succeed(&mut b, Some(EarlyData::Accepted));
        a.merge(&b);
        assert_eq!((a.early_data(EarlyData::Accepted), a.early_data(EarlyData::Rejected)), (1, 1));
        let names: Vec<_> = a.sorts().map(|s| (s.session_name(), s.latencies.total.count())).collect();
        assert_eq!(names, [("resumed", 1), ("early_data_rejected", 1), ("early_data", 1)]);
    }

    #[test]
    fn the_total_is_all_phases_and_the_delay_before_them() {
        let ms = Duration::from_millis;
        let phases = Phases { delay: ms(200), tcp_connect: ms(1), tls_handshake: ms(2), first_byte: Some(ms(3)) };
        assert_eq!(phases.total(), ms(206));
    }
}
