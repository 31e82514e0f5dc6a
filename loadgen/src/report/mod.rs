//! The result: a table for a person, JSON for a program.

pub mod html;
pub mod result;
mod rounds;
pub mod stored;
pub mod sweep;
mod table;

pub use result::{RunResult, SCHEMA};
pub use rounds::Rounds;
pub use table::{configuration, opening, table};

use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme};

use crate::duration::Human;
use crate::plan::Plan;
use crate::record::{EarlyData, Latency, Record};
use crate::run::{Ending, Lateness, Outcome};
use crate::source;

/// The quantiles of a report, with the name of each in the table.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A JSON report, with a line end.
#[must_use]
pub fn line<T: serde::Serialize>(report: &T) -> String {
    // Nothing in a report can fail: its keys are strings, and a number that is not finite becomes null.
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    text
}

/// What has to be said on stderr besides the figures; nothing after a good run.
#[must_use]
pub fn complaint(outcome: &Outcome) -> Option<String> {
    let worst = || {
        let Some((class, n)) = outcome.record.by_error().first().copied() else {
            return match outcome.unfinished {
                0 => String::new(),
                n => format!("; {} still under way at the end", grouped(n)),
            };
        };
        let detail = outcome.record.example_of(class).map_or_else(String::new, |e| format!(" ({e})"));
        let hint = match class.hint() {
            "" => String::new(),
            hint => format!(": {hint}"),
        };
        format!("; {} times {}{detail}{hint}", grouped(n), class.name())
    };
    let address = outcome.address;
    if outcome.handshakes_all == 0 {
        return Some(format!("no handshake with {address} succeeded{}", worst()));
    }
    match outcome.ending {
        Ending::GaveUp => Some(format!("gave up: no handshake with {address} succeeded any more{}", worst())),
        Ending::TargetLost => Some(format!("{address} was lost before the end{}", worst())),
        _ if outcome.record.handshakes() == 0 => {
            Some(format!("no handshake with {address} succeeded in the time that counts{}", worst()))
        }
        _ => late(outcome).or_else(|| exhausted(outcome)),
    }
}

/// What has to be said of the client's local ports; nothing when there were enough of them.
#[must_use]
pub fn crowding(plan: &Plan, outcome: &Outcome) -> Option<String> {
    let told = || source::crowded(rate(outcome), plan.sources.len(), source::ports());
    (outcome.address.ip().is_loopback() && !plan.quiet).then(told)?
}

/// Says what this machine ran out of.
fn exhausted(outcome: &Outcome) -> Option<String> {
    let (class, n) = outcome.record.by_error().into_iter().find(|(class, _)| class.is_ours())?;
    let (n, name, hint) = (grouped(n), class.name(), class.hint());
    Some(format!("invalid: this machine, not the server, was the limit; {n} times {name}: {hint}"))
}

/// Says why an open loop's figures tell of the generator.
fn late(outcome: &Outcome) -> Option<String> {
    let lateness = outcome.lateness.filter(Lateness::is_too_much)?;
    Some(format!(
        "invalid: the generator, not the server, was the limit: it started one handshake in a hundred {} late or more, \
         and {} is the bound; give it more --shards and cores of its own, ask for a lower rate, or allow more with \
         --max-lateness",
        Human(lateness.p99),
        Human(lateness.bound)
    ))
}

fn version_name(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The name in the IANA registry of cipher suites.
pub(crate) fn suite_name(suite: CipherSuite) -> String {
    let name = format!("{suite:?}");
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

/// The name in the IANA registry of signature schemes.
pub(crate) fn scheme_name(scheme: SignatureScheme) -> String {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256".to_owned(),
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384".to_owned(),
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512".to_owned(),
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256".to_owned(),
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384".to_owned(),
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512".to_owned(),
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256".to_owned(),
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384".to_owned(),
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512".to_owned(),
        other => format!("{other:?}").to_ascii_lowercase(),
    }
}

/// The name in the IANA registry of supported groups.
fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::X25519 => "x25519".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A status of HTTP; 0 stands for one that could not be read.
fn status_name(status: u16) -> String {
    if status == 0 { "unreadable".to_owned() } else { status.to_string() }
}

fn alpn_name(protocol: Option<&[u8]>) -> String {
    protocol.map_or_else(|| "none".to_owned(), |p| String::from_utf8_lossy(p).into_owned())
}

/// The phases of a run, and of each protocol and session when there are several, with a name for each.
pub(crate) fn phases(record: &Record) -> Vec<(String, &Latency)> {
    let mut phases = vec![
        ("total".to_owned(), &record.total),
        ("tls_handshake".to_owned(), &record.tls_handshake),
        ("tcp_connect".to_owned(), &record.tcp_connect),
        ("first_byte".to_owned(), &record.first_byte),
        ("echo".to_owned(), &record.echo),
    ];
    if record.sorts().count() > 1 {
        for sort in record.sorts() {
            let name = format!("total:{}:{}", alpn_name(sort.alpn), sort.session_name());
            phases.push((name, &sort.latencies.total));
        }
    }
    phases.retain(|(_, latency)| latency.count() > 0);
    phases
}

/// Complete handshakes by what was negotiated.
fn mixes(record: &Record) -> Vec<(&'static str, Vec<(String, u64)>)> {
    let full = record.handshakes() - record.resumed();
    let (accepted, rejected) = (record.early_data(EarlyData::Accepted), record.early_data(EarlyData::Rejected));
    let mut mixes = vec![
        ("ALPN", record.by_alpn().map(|(p, n)| (alpn_name(p), n)).collect::<Vec<_>>()),
        ("TLS version", record.by_version().map(|(v, n)| (version_name(v), n)).collect()),
        ("cipher suite", record.by_suite().map(|(s, n)| (suite_name(s), n)).collect()),
        ("group", record.by_group().map(|(g, n)| (group_name(g), n)).collect()),
        ("signature", record.by_scheme().map(|(s, n)| (scheme_name(s), n)).collect()),
        ("session", vec![("full".to_owned(), full), ("resumed".to_owned(), record.resumed())]),
        ("early data", vec![("accepted".to_owned(), accepted), ("rejected".to_owned(), rejected)]),
        ("status", record.by_status().map(|(s, n)| (status_name(s), n)).collect()),
    ];
    for (_, counts) in &mut mixes {
        counts.retain(|(_, n)| *n > 0);
    }
    mixes.retain(|(_, counts)| !counts.is_empty());
    mixes
}

/// Handshakes per second of the counted time.
fn rate(outcome: &Outcome) -> f64 {
    let seconds = outcome.record.wall.as_secs_f64();
    if seconds > 0.0 { outcome.record.handshakes() as f64 / seconds } else { 0.0 }
}

/// A share of `time` for each handshake, in microseconds; `None` without handshakes.
fn micros_each(time: std::time::Duration, handshakes: u64) -> Option<f64> {
    (handshakes > 0).then(|| time.as_secs_f64() * 1e6 / handshakes as f64)
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rate without its decimals, grouped.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "a cast from f64 saturates")]
pub fn grouped_rate(rate: f64) -> String {
    grouped(rate.round().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
