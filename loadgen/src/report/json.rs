//! One JSON object. Fields are added, never changed; a change of meaning raises [`SCHEMA`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{alpn_name, group_name, micros_each, rate, scheme_name, status_name, suite_name, version_name};
use crate::plan::{Plan, Target, Verify};
use crate::record::{Latency, Sort};
use crate::run::{Ending, Outcome};

/// The version of the fields' meaning.
pub const SCHEMA: u32 = 1;

#[derive(Debug, Serialize)]
struct Json {
    schema: u32,
    target: String,
    address: String,
    verified: bool,
    connections: u32,
    shards: u32,
    burst: bool,
    duration_s: f64,
    ended: &'static str,
    handshakes: u64,
    handshakes_per_second: f64,
    /// With those of the warm-up and after the end: what a server's own count has to equal.
    handshakes_all: u64,
    unfinished: u64,
    errors: BTreeMap<String, u64>,
    error_examples: BTreeMap<String, String>,
    negotiated: BTreeMap<String, u64>,
    tls_versions: BTreeMap<String, u64>,
    cipher_suites: BTreeMap<String, u64>,
    groups: BTreeMap<String, u64>,
    signature_schemes: BTreeMap<String, u64>,
    statuses: BTreeMap<String, u64>,
    resumed: u64,
    reset_after_handshake: u64,
    left_open: u64,
    held: u64,
    lost: u64,
    latency_us: Latencies,
    /// The same by protocol and session.
    sorts: Vec<SortOf>,
    /// Null in a closed loop.
    open: Option<OpenLoop>,
    /// False when the generator, and not the server, was the limit.
    valid: bool,
    client_cpu_us_per_handshake: Option<f64>,
    server_cpu_us_per_handshake: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Latencies {
    tcp_connect: Quantiles,
    tls_handshake: Quantiles,
    first_byte: Quantiles,
    total: Quantiles,
    echo: Quantiles,
}

#[derive(Debug, Serialize)]
struct SortOf {
    alpn: String,
    resumed: bool,
    handshakes: u64,
    tcp_connect: Quantiles,
    tls_handshake: Quantiles,
    first_byte: Quantiles,
    total: Quantiles,
}

#[derive(Debug, Serialize)]
struct OpenLoop {
    due: u64,
    unstarted: u64,
    /// Handshakes that had to wait for a free connection, and how long.
    waited: u64,
    waited_us: Quantiles,
    lateness_us: Quantiles,
    lateness_bound_us: Option<f64>,
}

/// In microseconds; null without a single one.
#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
}

impl Quantiles {
    fn of(latency: &Latency) -> Self {
        let micros = |d: Duration| rounded(d.as_nanos() as f64 / 1e3);
        let at = |q| latency.quantile(q).map(micros);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: latency.max().map(micros) }
    }
}

impl SortOf {
    fn new(sort: &Sort<'_>) -> Self {
        Self {
            alpn: alpn_name(sort.alpn),
            resumed: sort.resumed,
            handshakes: sort.latencies.total.count(),
            tcp_connect: Quantiles::of(&sort.latencies.tcp_connect),
            tls_handshake: Quantiles::of(&sort.latencies.tls_handshake),
            first_byte: Quantiles::of(&sort.latencies.first_byte),
            total: Quantiles::of(&sort.latencies.total),
        }
    }
}

impl OpenLoop {
    fn new(outcome: &Outcome) -> Self {
        let record = &outcome.record;
        Self {
            due: record.due,
            unstarted: record.unstarted,
            waited: record.waited.count(),
            waited_us: Quantiles::of(&record.waited),
            lateness_us: Quantiles::of(&record.lateness),
            lateness_bound_us: outcome.lateness.map(|l| rounded(l.bound.as_nanos() as f64 / 1e3)),
        }
    }
}

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The result as one JSON object with a line end.
#[must_use]
pub fn json(plan: &Plan, outcome: &Outcome) -> String {
    let record = &outcome.record;
    let errors = record.by_error();
    let handshakes = record.handshakes();
    let cpu = |time: Option<Duration>| micros_each(time?, handshakes).map(rounded);
    let json = Json {
        schema: SCHEMA,
        target: match &plan.target {
            Target::Server(server) => server.to_string(),
            Target::Embedded { .. } => "embedded".to_owned(),
        },
        address: outcome.address.to_string(),
        verified: plan.tls.verify != Verify::No,
        connections: plan.connections,
        shards: plan.shards,
        burst: plan.burst,
        duration_s: rounded(record.wall.as_secs_f64()),
        ended: match outcome.ending {
            Ending::Planned => "planned",
            Ending::Interrupted => "interrupted",
            Ending::GaveUp => "gave_up",
            Ending::TargetLost => "target_lost",
        },
        handshakes,
        handshakes_per_second: rounded(rate(outcome)),
        handshakes_all: outcome.handshakes_all,
        unfinished: outcome.unfinished,
        errors: errors.iter().map(|(class, n)| (class.name().into_owned(), *n)).collect(),
        error_examples: errors
            .iter()
            .filter_map(|(class, _)| Some((class.name().into_owned(), record.example_of(*class)?.to_owned())))
            .collect(),
        negotiated: record.by_alpn().map(|(p, n)| (alpn_name(p), n)).collect(),
        tls_versions: record.by_version().map(|(v, n)| (version_name(v), n)).collect(),
        cipher_suites: record.by_suite().map(|(s, n)| (suite_name(s), n)).collect(),
        groups: record.by_group().map(|(g, n)| (group_name(g), n)).collect(),
        signature_schemes: record.by_scheme().map(|(s, n)| (scheme_name(s), n)).collect(),
        statuses: record.by_status().map(|(s, n)| (status_name(s), n)).collect(),
        resumed: record.resumed(),
        reset_after_handshake: record.resets_after,
        left_open: record.left_open,
        held: record.held,
        lost: record.lost,
        latency_us: Latencies {
            tcp_connect: Quantiles::of(&record.tcp_connect),
            tls_handshake: Quantiles::of(&record.tls_handshake),
            first_byte: Quantiles::of(&record.first_byte),
            total: Quantiles::of(&record.total),
            echo: Quantiles::of(&record.echo),
        },
        sorts: record.sorts().map(|sort| SortOf::new(&sort)).collect(),
        open: plan.open.is_some().then(|| OpenLoop::new(outcome)),
        valid: outcome.is_valid(),
        client_cpu_us_per_handshake: cpu(Some(record.client_cpu)),
        server_cpu_us_per_handshake: cpu(outcome.server_cpu),
    };
    // Nothing in it can fail: its keys are strings, its numbers finite.
    let mut text = serde_json::to_string(&json).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rustls::{NamedGroup, ProtocolVersion};

    use super::*;
    use crate::failure::ErrorClass;
    use crate::record::{Facts, Phases, Record};

    fn outcome(record: Record) -> (Plan, Outcome) {
        let plan = Plan::new(crate::Args::try_parse_from(["handfast-load", "[::1]:443"]).unwrap()).unwrap();
        let outcome = Outcome {
            record,
            series: crate::series::Series::default(),
            lateness: None,
            server_cpu: None,
            address: "[::1]:443".parse().unwrap(),
            ending: Ending::Planned,
            handshakes_all: 0,
            unfinished: 0,
        };
        (plan, outcome)
    }

    #[test]
    fn the_promised_fields_are_there() {
        let mut record = Record::default();
        let (tcp_connect, tls_handshake) = (Duration::from_micros(30), Duration::from_micros(120));
        let phases = Phases { tcp_connect, tls_handshake, ..Phases::default() };
        for alpn in [Some(&b"h2"[..]), Some(b"h2"), None] {
            let (version, group) = (Some(ProtocolVersion::TLSv1_3), Some(NamedGroup::X25519));
            let alpn = record.alpn(alpn);
            let facts = Facts { alpn, version, suite: None, group, scheme: None, resumed: false };
            record.succeeded(phases, &facts);
        }
        record.failed(ErrorClass::TlsAlert(40).into());
        record.wall = Duration::from_secs(2);
        record.client_cpu = Duration::from_micros(300);
        let (plan, outcome) = outcome(record);
        let value: serde_json::Value = serde_json::from_str(&json(&plan, &outcome)).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["target"], "[::1]:443");
        assert_eq!(value["verified"], false);
        assert_eq!(value["handshakes"], 3);
        assert_eq!(value["handshakes_per_second"], 1.5);
        assert_eq!(value["errors"], serde_json::json!({"tls_alert:handshake_failure": 1}));
        assert_eq!(value["negotiated"], serde_json::json!({"h2": 2, "none": 1}));
        assert_eq!(value["tls_versions"], serde_json::json!({"1.3": 3}));
        assert_eq!(value["groups"], serde_json::json!({"x25519": 3}));
        assert_eq!(value["client_cpu_us_per_handshake"], 100.0);
        assert!(value["server_cpu_us_per_handshake"].is_null());
        assert_eq!((&value["valid"], &value["open"]), (&true.into(), &serde_json::Value::Null));
        assert_eq!((&value["sorts"][0]["alpn"], &value["sorts"][1]["handshakes"]), (&"h2".into(), &1.into()));
        assert!(value["latency_us"]["first_byte"]["p50"].is_null());
        for phase in ["tcp_connect", "tls_handshake", "total"] {
            for quantile in ["p50", "p90", "p99", "p999", "max"] {
                assert!(value["latency_us"][phase][quantile].as_f64().unwrap() >= 30.0, "{phase} {quantile}");
            }
        }
    }

    #[test]
    fn without_a_handshake_there_are_nulls_and_no_invented_figures() {
        let (plan, outcome) = outcome(Record::default());
        let value: serde_json::Value = serde_json::from_str(&json(&plan, &outcome)).unwrap();
        assert!(value["latency_us"]["total"]["p99"].is_null());
        assert!(value["client_cpu_us_per_handshake"].is_null());
        assert_eq!(value["handshakes_per_second"], 0.0);
        assert_eq!(outcome.exit_status(), 1);
        assert!(super::super::complaint(&outcome).unwrap().contains("no handshake with [::1]:443 succeeded"));
    }

    #[test]
    fn a_generator_that_was_late_makes_the_run_invalid_and_says_so() {
        let mut record = Record::default();
        let phases = Phases { delay: Duration::from_millis(9), ..Phases::default() };
        let facts =
            Facts { alpn: record.alpn(None), version: None, suite: None, group: None, scheme: None, resumed: false };
        record.succeeded(phases, &facts);
        record.lateness.add(Duration::from_millis(9));
        let (mut plan, mut outcome) = outcome(record);
        outcome.handshakes_all = 1;
        let args = ["handfast-load", "[::1]:443", "--rate", "10", "--max-lateness", "5ms"];
        plan.open = Plan::new(crate::Args::try_parse_from(args).unwrap()).unwrap().open;
        let (p99, bound) = (Duration::from_millis(9), Duration::from_millis(5));
        outcome.lateness = Some(crate::run::Lateness { p99, bound });
        let value: serde_json::Value = serde_json::from_str(&json(&plan, &outcome)).unwrap();
        assert_eq!((&value["valid"], &value["open"]["lateness_bound_us"]), (&false.into(), &5000.0.into()));
        assert_eq!(outcome.exit_status(), 1);
        let complaint = super::super::complaint(&outcome).unwrap();
        assert!(complaint.contains("the generator, not the server, was the limit"), "{complaint}");
    }

    #[test]
    fn a_machine_without_ports_makes_the_run_invalid_and_says_what_to_do() {
        let mut record = Record::default();
        let alpn = record.alpn(None);
        let facts = Facts { alpn, version: None, suite: None, group: None, scheme: None, resumed: false };
        record.succeeded(Phases::default(), &facts);
        record.failed(ErrorClass::NoPorts.into());
        let (plan, mut outcome) = outcome(record);
        outcome.handshakes_all = 1;
        let value: serde_json::Value = serde_json::from_str(&json(&plan, &outcome)).unwrap();
        assert_eq!((&value["valid"], outcome.exit_status()), (&false.into(), 1));
        let complaint = super::super::complaint(&outcome).unwrap();
        assert!(complaint.contains("1 times no_ports") && complaint.contains("--source 127.0.0.0/24"), "{complaint}");
    }
}
