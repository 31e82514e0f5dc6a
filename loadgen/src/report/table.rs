//! The table.

use std::fmt::Write;
use std::time::Duration;

use super::{
    QUANTILES, alpn_name, group_name, grouped, grouped_rate, micros_each, rate, scheme_name, status_name, suite_name,
    version_name,
};
use crate::duration::Human;
use crate::plan::{Plan, Then};
use crate::record::{Latency, Record};
use crate::run::Outcome;

/// The result for a person.
#[must_use]
pub fn table(plan: &Plan, outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, plan, outcome);
    out
}

fn write(out: &mut String, plan: &Plan, outcome: &Outcome) -> std::fmt::Result {
    let record = &outcome.record;
    writeln!(out, "\n{}\n", plan.describe(outcome.address).replacen("measuring", "measured", 1))?;
    writeln!(out, "  handshakes/s   {:>12}", grouped_rate(rate(outcome)))?;
    writeln!(out, "  handshakes     {:>12}   in {}", grouped(record.handshakes()), Human(record.wall))?;
    writeln!(out, "  errors         {:>12}", grouped(record.failures()))?;
    errors(out, record)?;
    if plan.open.is_some() {
        writeln!(out, "  due            {:>12}", grouped(record.due))?;
    }
    if plan.then == Then::Hold {
        writeln!(out, "  held           {:>12}   to the end", grouped(record.held))?;
    }
    for (n, what) in [
        (record.unstarted, "due, but never started: all --connections were busy to the end"),
        (record.waited.count(), "waited for one of the --connections, as their latency says"),
        (record.lost, "connections that the server ended while they were held"),
        (outcome.unfinished, "still under way when the run ended"),
        (record.resets_after, "connections reset by the server after their handshake"),
        (record.left_open, "connections that the server did not close after close_notify"),
    ] {
        if n > 0 {
            writeln!(out, "  note           {:>12}   {what}", grouped(n))?;
        }
    }
    if record.handshakes() > 0 {
        negotiated(out, record)?;
        latencies(out, record)?;
    }
    if let Some(lateness) = outcome.lateness {
        let verdict = if lateness.is_too_much() { "INVALID: the generator was the limit" } else { "valid" };
        let (p99, bound) = (Human(lateness.p99), Human(lateness.bound));
        writeln!(out, "\n  lateness of this generator   p99 {p99}, at most {bound} allowed: {verdict}")?;
    }
    let each = |time: Option<Duration>| time.and_then(|t| micros_each(t, record.handshakes()));
    let cpu = |time| each(time).map_or_else(|| "unknown".to_owned(), |us| format!("{us:.1} µs"));
    writeln!(out, "\n  CPU per handshake   client {}, server {}", cpu(Some(record.client_cpu)), cpu(outcome.server_cpu))
}

fn errors(out: &mut String, record: &Record) -> std::fmt::Result {
    for (class, n) in record.by_error() {
        let example = record.example_of(class).map_or_else(String::new, |e| format!(": {e}"));
        writeln!(out, "                 {:>12}   {}{example}", grouped(n), class.name())?;
    }
    Ok(())
}

fn negotiated(out: &mut String, record: &Record) -> std::fmt::Result {
    let list = |counts: Vec<(String, u64)>| {
        let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
        parts.join(", ")
    };
    let full = record.handshakes() - record.resumed();
    let mut kinds = vec![("full".to_owned(), full), ("resumed".to_owned(), record.resumed())];
    kinds.retain(|(_, n)| *n > 0);
    writeln!(out, "\n  ALPN           {}", list(record.by_alpn().map(|(p, n)| (alpn_name(p), n)).collect()))?;
    writeln!(out, "  TLS version    {}", list(record.by_version().map(|(v, n)| (version_name(v), n)).collect()))?;
    writeln!(out, "  cipher suite   {}", list(record.by_suite().map(|(s, n)| (suite_name(s), n)).collect()))?;
    let groups: Vec<_> = record.by_group().map(|(g, n)| (group_name(g), n)).collect();
    if !groups.is_empty() {
        writeln!(out, "  group          {}", list(groups))?;
    }
    let schemes: Vec<_> = record.by_scheme().map(|(s, n)| (scheme_name(s), n)).collect();
    if !schemes.is_empty() {
        writeln!(out, "  signature      {}", list(schemes))?;
    }
    writeln!(out, "  session        {}", list(kinds))?;
    let statuses: Vec<_> = record.by_status().map(|(s, n)| (status_name(s), n)).collect();
    if !statuses.is_empty() {
        writeln!(out, "  status         {}", list(statuses))?;
    }
    Ok(())
}

fn latencies(out: &mut String, record: &Record) -> std::fmt::Result {
    write!(out, "\n  latency       ")?;
    for name in QUANTILES.iter().map(|(name, _)| *name).chain(["max"]) {
        write!(out, "{name:>11}")?;
    }
    writeln!(out)?;
    let phases = [
        ("tcp_connect", &record.tcp_connect),
        ("tls_handshake", &record.tls_handshake),
        ("first_byte", &record.first_byte),
        ("total", &record.total),
        ("echo", &record.echo),
    ];
    for (name, latency) in phases {
        row(out, name, latency)?;
    }
    if record.sorts().count() > 1 {
        writeln!(out)?;
        for sort in record.sorts() {
            let session = if sort.resumed { "resumed" } else { "full" };
            row(out, &format!("{} {session}", alpn_name(sort.alpn)), &sort.latencies.total)?;
        }
    }
    Ok(())
}

/// The quantiles of one phase; nothing when there was no such phase.
fn row(out: &mut String, name: &str, latency: &Latency) -> std::fmt::Result {
    if latency.count() == 0 {
        return Ok(());
    }
    write!(out, "  {name:<14}")?;
    for value in QUANTILES.iter().map(|(_, q)| latency.quantile(*q)).chain([latency.max()]) {
        write!(out, "{:>11}", Human(value.unwrap_or_default()))?;
    }
    writeln!(out)
}
