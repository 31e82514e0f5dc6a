//! The table.

use std::fmt::Write;
use std::time::Duration;

use super::{QUANTILES, alpn_name, grouped, grouped_rate, micros_each, mixes, rate};
use crate::capacity::binary;
use crate::duration::Human;
use crate::output::written;
use crate::plan::{Plan, Then};
use crate::record::{EarlyData, Latency, Record};
use crate::run::Outcome;

/// The result for a person.
#[must_use]
pub fn table(plan: &Plan, outcome: &Outcome) -> String {
    written(|out| write(out, plan, outcome))
}

/// The line that says what was measured.
#[must_use]
pub fn opening(plan: &Plan, outcome: &Outcome) -> String {
    format!("\n{}\n", plan.describe(outcome.address).replacen("measuring", "measured", 1))
}

/// What the client did otherwise than a plain one would.
#[must_use]
pub fn configuration(plan: &Plan) -> String {
    let names = plan.tricks.names();
    let tricks = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let sources = match plan.sources.len() {
        0 => String::new(),
        1 => format!("\n  from           {}", plan.sources[0]),
        n => format!("\n  from           {n} addresses, {} and on", plan.sources[0]),
    };
    format!("  tricks         {tricks}\n  crypto         {}{sources}", plan.tls.crypto_text())
}

fn write(out: &mut String, plan: &Plan, outcome: &Outcome) -> std::fmt::Result {
    let record = &outcome.record;
    writeln!(out, "{}", opening(plan, outcome))?;
    writeln!(out, "{}\n", configuration(plan))?;
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
    let offered = record.early_data(EarlyData::Accepted) + record.early_data(EarlyData::Rejected);
    if plan.tls.early_data > 0.0 && record.resumed() > 0 && offered == 0 {
        writeln!(out, "  note                         no session of this server allows early data")?;
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
    let (client, server) = (cpu(Some(record.client_cpu)), cpu(outcome.server_cpu));
    writeln!(out, "\n  CPU per handshake   client {client}, server {server}")?;
    if let Some(batch) = record.batch {
        let mean = if batch.batches == 0 { 0.0 } else { batch.lanes as f64 / batch.batches as f64 };
        let (lanes, misses, refills) = (grouped(batch.lanes), grouped(batch.misses), grouped(batch.refills));
        writeln!(
            out,
            "  key exchanges       {lanes} computed, {mean:.1} of 8 at a time; {misses} missed; {refills} refills"
        )?;
    }
    server_use(out, outcome)
}

/// What else the server used; nothing when nobody knows.
fn server_use(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let handshakes = outcome.record.handshakes();
    let Some(used) = outcome.server_used.filter(|_| handshakes > 0) else { return Ok(()) };
    let micros = |time| micros_each(time, handshakes).unwrap_or_default();
    writeln!(out, "  server, of that     user {:.1} µs, system {:.1} µs", micros(used.user), micros(used.system))?;
    if let Some((waited, preempted)) = used.switches {
        let each = |n: u64| n as f64 / handshakes as f64;
        let (waited, preempted) = (each(waited), each(preempted));
        writeln!(out, "  server's switches   {waited:.2} waiting and {preempted:.2} preempted per handshake")?;
    }
    if let Some((before, after)) = used.resident {
        writeln!(out, "  server memory       {} resident, {} at the end", binary(before as f64), binary(after as f64))?;
    }
    Ok(())
}

fn errors(out: &mut String, record: &Record) -> std::fmt::Result {
    for (class, n) in record.by_error() {
        let example = record.example_of(class).map_or_else(String::new, |e| format!(": {e}"));
        writeln!(out, "                 {:>12}   {}{example}", grouped(n), class.name())?;
    }
    Ok(())
}

fn negotiated(out: &mut String, record: &Record) -> std::fmt::Result {
    writeln!(out)?;
    for (what, counts) in mixes(record) {
        let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
        writeln!(out, "  {what:<14} {}", parts.join(", "))?;
    }
    Ok(())
}

fn latencies(out: &mut String, record: &Record) -> std::fmt::Result {
    let phases = [
        ("tcp_connect", &record.tcp_connect),
        ("tls_handshake", &record.tls_handshake),
        ("first_byte", &record.first_byte),
        ("total", &record.total),
        ("echo", &record.echo),
    ];
    let sorts: Vec<_> = record.sorts().map(|s| (format!("{} {}", alpn_name(s.alpn), s.session_name()), s)).collect();
    let width = sorts.iter().map(|(name, _)| name.len()).fold(14, usize::max);
    write!(out, "\n  {:<width$}", "latency")?;
    for name in QUANTILES.iter().map(|(name, _)| *name).chain(["max"]) {
        write!(out, "{name:>11}")?;
    }
    writeln!(out)?;
    for (name, latency) in phases {
        row(out, name, width, latency)?;
    }
    if sorts.len() > 1 {
        writeln!(out)?;
        for (name, sort) in &sorts {
            row(out, name, width, &sort.latencies.total)?;
        }
    }
    Ok(())
}

/// The quantiles of one phase; nothing when there was no such phase.
fn row(out: &mut String, name: &str, width: usize, latency: &Latency) -> std::fmt::Result {
    if latency.count() == 0 {
        return Ok(());
    }
    write!(out, "  {name:<width$}")?;
    for value in QUANTILES.iter().map(|(_, q)| latency.quantile(*q)).chain([latency.max()]) {
        write!(out, "{:>11}", Human(value.unwrap_or_default()))?;
    }
    writeln!(out)
}
