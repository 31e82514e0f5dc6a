//! The result of one run as the fields of a JSON object. Fields are added, never changed; a change of meaning raises
//! [`SCHEMA`]. docs/LOADGEN.md has every field.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast::crypto::batch::BatchCounters;
use serde::{Deserialize, Serialize};

use super::{alpn_name, group_name, micros_each, rate, scheme_name, status_name, suite_name, version_name};
use crate::machine;
use crate::plan::{Plan, Verify};
use crate::record::{EarlyData, Latency, Record, Sort};
use crate::run::Outcome;

/// The version of the fields' meaning.
pub const SCHEMA: u32 = 1;

/// One run. What a run could not know is null; what an older version did not write reads as null or zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RunResult {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// `run`.
    pub kind: String,
    /// HOST:PORT, or `embedded`.
    pub target: String,
    /// The address that was connected to.
    pub address: String,
    /// Whether certificates were verified.
    pub verified: bool,
    /// Handshakes under way at a time.
    pub connections: u32,
    /// Client threads.
    pub shards: u32,
    /// Whether the client worked in rounds of all its connections.
    pub burst: bool,
    /// Addresses that the client was told to connect from; 0 when the system chose one.
    pub sources: usize,
    /// Packets and system calls that the client spared, by their names on the command line.
    pub tricks: Vec<String>,
    /// What computed the client's key exchanges: `aws-lc`, or `batch` for several connections together.
    pub crypto: String,
    /// The time that was counted.
    pub duration_s: f64,
    /// `planned`, `interrupted`, `gave_up` or `target_lost`.
    pub ended: String,
    /// Complete handshakes.
    pub handshakes: u64,
    /// The same per second.
    pub handshakes_per_second: f64,
    /// With those of the warm-up and after the end: what a server's own count has to equal.
    pub handshakes_all: u64,
    /// Still under way at the end.
    pub unfinished: u64,
    /// Failed handshakes by class.
    pub errors: BTreeMap<String, u64>,
    /// What was said about the first failure of a class.
    pub error_examples: BTreeMap<String, String>,
    /// Complete handshakes by ALPN protocol ID.
    pub negotiated: BTreeMap<String, u64>,
    /// Complete handshakes by TLS version.
    pub tls_versions: BTreeMap<String, u64>,
    /// Complete handshakes by cipher suite.
    pub cipher_suites: BTreeMap<String, u64>,
    /// Complete handshakes by group.
    pub groups: BTreeMap<String, u64>,
    /// Complete handshakes by the scheme of the server's signature.
    pub signature_schemes: BTreeMap<String, u64>,
    /// Responses by status.
    pub statuses: BTreeMap<String, u64>,
    /// Complete handshakes that resumed a session.
    pub resumed: u64,
    /// What became of early data.
    pub early_data: EarlyDataCounts,
    /// Connections that the server reset after the handshake.
    pub reset_after_handshake: u64,
    /// Connections that the server did not close after close_notify.
    pub left_open: u64,
    /// Connections that were held open at the end.
    pub held: u64,
    /// Connections that the server ended while they were held.
    pub lost: u64,
    /// Latencies of complete handshakes.
    pub latency_us: Latencies,
    /// The same by protocol and session.
    pub sorts: Vec<SortOf>,
    /// What an open loop adds; null in a closed one.
    pub open: Option<OpenLoop>,
    /// False when the generator or its machine, and not the server, was the limit.
    pub valid: bool,
    /// CPU time of the client's threads.
    pub client_cpu_us_per_handshake: Option<f64>,
    /// How the client's key exchanges were computed; null without `--crypto batch`.
    pub batch: Option<BatchCounts>,
    /// CPU time of the server.
    pub server_cpu_us_per_handshake: Option<f64>,
    /// What else the server used, when it runs on this machine.
    pub server: Option<ServerUse>,
    /// The command line.
    pub command: String,
    /// The machine that the client ran on.
    pub machine: String,
}

/// Early data in complete handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EarlyDataCounts {
    /// Handshakes that offered it.
    pub offered: u64,
    /// Those of them in which the server took it.
    pub accepted: u64,
    /// Those in which it did not.
    pub rejected: u64,
}

impl EarlyDataCounts {
    fn of(record: &Record) -> Self {
        let (accepted, rejected) = (record.early_data(EarlyData::Accepted), record.early_data(EarlyData::Rejected));
        Self { offered: accepted + rejected, accepted, rejected }
    }
}

/// How the client's key exchanges were computed, in the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BatchCounts {
    /// Times that some were computed together, or one that was alone.
    pub agreements: u64,
    /// How many were. Divided by `agreements` it is the mean of lanes filled, of 8.
    pub lanes: u64,
    /// Times that eight ephemeral keys were made together.
    pub pool_refills: u64,
    /// Those that found nothing computed ahead.
    pub misses: u64,
}

impl BatchCounts {
    const fn of(counters: BatchCounters) -> Self {
        let BatchCounters { batches, lanes, refills, misses, .. } = counters;
        Self { agreements: batches, lanes, pool_refills: refills, misses }
    }
}

/// The phases of handshakes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Latencies {
    /// Until TCP was connected.
    pub tcp_connect: Quantiles,
    /// From the ClientHello on.
    pub tls_handshake: Quantiles,
    /// From the complete handshake to the first byte of the response.
    pub first_byte: Quantiles,
    /// All together; in an open loop from the time at which each handshake was due.
    pub total: Quantiles,
    /// From a WebSocket message to its echo.
    pub echo: Quantiles,
}

/// Handshakes of one ALPN protocol, full or resumed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SortOf {
    /// The ALPN protocol ID.
    pub alpn: String,
    /// Whether sessions were resumed.
    pub resumed: bool,
    /// What became of early data: `accepted` or `rejected`; null where none was offered.
    pub early_data: Option<String>,
    /// How many.
    pub handshakes: u64,
    /// Until TCP was connected.
    pub tcp_connect: Quantiles,
    /// From the ClientHello on.
    pub tls_handshake: Quantiles,
    /// To the first byte of the response.
    pub first_byte: Quantiles,
    /// All together.
    pub total: Quantiles,
}

/// What an open loop adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OpenLoop {
    /// Handshakes that had to start.
    pub due: u64,
    /// Those that never were started.
    pub unstarted: u64,
    /// Those that had to wait for a free connection.
    pub waited: u64,
    /// For how long.
    pub waited_us: Quantiles,
    /// How late the generator was.
    pub lateness_us: Quantiles,
    /// How late it may be at its 99th percentile.
    pub lateness_bound_us: Option<f64>,
}

/// What the server used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ServerUse {
    /// CPU time in user mode.
    pub cpu_user_us_per_handshake: Option<f64>,
    /// CPU time in system mode.
    pub cpu_system_us_per_handshake: Option<f64>,
    /// Context switches because a thread had to wait.
    pub switches_voluntary_per_handshake: Option<f64>,
    /// Context switches because a thread's time was up.
    pub switches_involuntary_per_handshake: Option<f64>,
    /// Resident bytes when counting began.
    pub resident_bytes_before: Option<u64>,
    /// Resident bytes when it ended.
    pub resident_bytes_after: Option<u64>,
    /// What they grew by for each connection that was held open.
    pub resident_bytes_per_held_connection: Option<f64>,
}

/// In microseconds; null without a single handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Quantiles {
    /// The median.
    pub p50: Option<f64>,
    /// 90 %.
    pub p90: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// 99.9 %.
    pub p999: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

impl Quantiles {
    /// Of a histogram.
    #[must_use]
    pub fn of(latency: &Latency) -> Self {
        let micros = |d: Duration| rounded(d.as_nanos() as f64 / 1e3);
        let at = |q| latency.quantile(q).map(micros);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: latency.max().map(micros) }
    }
}

impl SortOf {
    fn of(sort: &Sort<'_>) -> Self {
        Self {
            alpn: alpn_name(sort.alpn),
            resumed: sort.resumed,
            early_data: sort.early_data.map(|e| early_data_name(e).to_owned()),
            handshakes: sort.latencies.total.count(),
            tcp_connect: Quantiles::of(&sort.latencies.tcp_connect),
            tls_handshake: Quantiles::of(&sort.latencies.tls_handshake),
            first_byte: Quantiles::of(&sort.latencies.first_byte),
            total: Quantiles::of(&sort.latencies.total),
        }
    }
}

impl OpenLoop {
    fn of(outcome: &Outcome) -> Self {
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

impl ServerUse {
    fn of(outcome: &Outcome) -> Option<Self> {
        let (used, handshakes) = (outcome.server_used?, outcome.record.handshakes());
        let each = |n: u64| (handshakes > 0).then(|| rounded(n as f64 / handshakes as f64));
        Some(Self {
            cpu_user_us_per_handshake: micros_each(used.user, handshakes).map(rounded),
            cpu_system_us_per_handshake: micros_each(used.system, handshakes).map(rounded),
            switches_voluntary_per_handshake: used.switches.and_then(|(waited, _)| each(waited)),
            switches_involuntary_per_handshake: used.switches.and_then(|(_, preempted)| each(preempted)),
            resident_bytes_before: used.resident.map(|(before, _)| before),
            resident_bytes_after: used.resident.map(|(_, after)| after),
            resident_bytes_per_held_connection: used.resident_each(outcome.record.held).map(rounded),
        })
    }
}

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl RunResult {
    /// Of a run that has ended.
    #[must_use]
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let record = &outcome.record;
        let errors = record.by_error();
        let handshakes = record.handshakes();
        let cpu = |time: Option<Duration>| micros_each(time?, handshakes).map(rounded);
        Self {
            schema: SCHEMA,
            kind: "run".to_owned(),
            target: plan.target.to_string(),
            address: outcome.address.to_string(),
            verified: plan.tls.verify != Verify::No,
            connections: plan.connections,
            shards: plan.shards,
            burst: plan.burst,
            sources: plan.sources.len(),
            tricks: plan.tricks.names().into_iter().map(str::to_owned).collect(),
            crypto: plan.tls.crypto_text().to_owned(),
            duration_s: rounded(record.wall.as_secs_f64()),
            ended: outcome.ending.name().to_owned(),
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
            early_data: EarlyDataCounts::of(record),
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
            sorts: record.sorts().map(|sort| SortOf::of(&sort)).collect(),
            open: plan.open.is_some().then(|| OpenLoop::of(outcome)),
            valid: outcome.is_valid(),
            client_cpu_us_per_handshake: cpu(Some(record.client_cpu)),
            batch: record.batch.map(BatchCounts::of),
            server_cpu_us_per_handshake: cpu(outcome.server_cpu),
            server: ServerUse::of(outcome),
            command: machine::command_line(),
            machine: machine::describe(),
        }
    }

    /// Failed handshakes.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Failed handshakes of all that ended, as a share.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        let failed = self.failures();
        let all = failed + self.handshakes;
        if all == 0 { 0.0 } else { failed as f64 / all as f64 }
    }
}

const fn early_data_name(early_data: EarlyData) -> &'static str {
    match early_data {
        EarlyData::Accepted => "accepted",
        EarlyData::Rejected => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rustls::{NamedGroup, ProtocolVersion};

    use super::super::line;
    use super::*;
    use crate::failure::ErrorClass;
    use crate::record::{Facts, Phases};
    use crate::run::Ending;

    fn outcome(record: Record) -> (Plan, Outcome) {
        let plan = Plan::new(crate::Args::try_parse_from(["handfast-load", "[::1]:443"]).unwrap()).unwrap();
        let outcome = Outcome {
            record,
            series: crate::series::Series::default(),
            lateness: None,
            server_used: None,
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
            let facts = Facts { alpn, version, suite: None, group, scheme: None, resumed: false, early_data: None };
            record.succeeded(phases, &facts);
        }
        record.failed(ErrorClass::TlsAlert(40).into());
        record.wall = Duration::from_secs(2);
        record.client_cpu = Duration::from_micros(300);
        let (plan, outcome) = outcome(record);
        let value: serde_json::Value = serde_json::from_str(&line(&RunResult::of(&plan, &outcome))).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["kind"], "run");
        assert_eq!(serde_json::from_value::<RunResult>(value.clone()).unwrap(), RunResult::of(&plan, &outcome));
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
        let value: serde_json::Value = serde_json::from_str(&line(&RunResult::of(&plan, &outcome))).unwrap();
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
        let facts = Facts {
            alpn: record.alpn(None),
            version: None,
            suite: None,
            group: None,
            scheme: None,
            resumed: false,
            early_data: None,
        };
        record.succeeded(phases, &facts);
        record.lateness.add(Duration::from_millis(9));
        let (mut plan, mut outcome) = outcome(record);
        outcome.handshakes_all = 1;
        let args = ["handfast-load", "[::1]:443", "--rate", "10", "--max-lateness", "5ms"];
        plan.open = Plan::new(crate::Args::try_parse_from(args).unwrap()).unwrap().open;
        let (p99, bound) = (Duration::from_millis(9), Duration::from_millis(5));
        outcome.lateness = Some(crate::run::Lateness { p99, bound });
        let result = RunResult::of(&plan, &outcome);
        assert!(!result.valid);
        assert_eq!(result.open.unwrap().lateness_bound_us, Some(5000.0));
        assert_eq!(outcome.exit_status(), 1);
        let complaint = super::super::complaint(&outcome).unwrap();
        assert!(complaint.contains("the generator, not the server, was the limit"), "{complaint}");
    }

    #[test]
    fn a_machine_without_ports_makes_the_run_invalid_and_says_what_to_do() {
        let mut record = Record::default();
        let alpn = record.alpn(None);
        let facts =
            Facts { alpn, version: None, suite: None, group: None, scheme: None, resumed: false, early_data: None };
        record.succeeded(Phases::default(), &facts);
        record.failed(ErrorClass::NoPorts.into());
        let (plan, mut outcome) = outcome(record);
        outcome.handshakes_all = 1;
        assert_eq!((RunResult::of(&plan, &outcome).valid, outcome.exit_status()), (false, 1));
        let complaint = super::super::complaint(&outcome).unwrap();
        assert!(complaint.contains("1 times no_ports") && complaint.contains("--source 127.0.0.0/24"), "{complaint}");
    }
}
