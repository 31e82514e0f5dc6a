//! The report as one HTML page: charts are inline SVG, nothing is loaded from anywhere, no script runs. Everything that
//! comes from outside (names, error texts, the command line) is escaped.

mod chart;
mod scale;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use chart::{Chart, Line};
use scale::Scale;

use super::result::{Quantiles, ServerUse};
use super::{RunResult, grouped, grouped_rate, phases};
use crate::capacity::binary;
use crate::metric::{Metric, micros};
use crate::record::Record;
use crate::series::Series;

const STYLE: &str = include_str!("style.css");

/// What a page shows of one run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Round<'a> {
    /// Its figures.
    pub result: &'a RunResult,
    /// What they were read off.
    pub record: &'a Record,
    /// Each second of it.
    pub series: &'a Series,
}

impl<'a> Round<'a> {
    /// Of a run that has ended.
    #[must_use]
    pub const fn new(result: &'a RunResult, record: &'a Record, series: &'a Series) -> Self {
        Self { result, record, series }
    }
}

/// The page of one run, or of several rounds. `opening` says what was measured, `notes` what a reader must know before
/// the figures.
#[must_use]
pub fn page(opening: &str, rounds: &[Round<'_>], notes: &[String]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, opening, rounds, notes);
    out
}

fn write_page(out: &mut String, opening: &str, rounds: &[Round<'_>], notes: &[String]) -> std::fmt::Result {
    let Some(first) = rounds.first().map(|r| r.result) else { return Ok(()) };
    let target = if first.target == "embedded" { "the built-in engine" } else { first.target.as_str() };
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(out, "<title>handfast-load: {}</title>\n<style>{STYLE}</style></head><body><main>", escape(target))?;
    writeln!(out, "<h1>TLS handshakes with {}</h1>\n<p class=\"sub\">{}</p>", escape(target), escape(opening.trim()))?;
    for note in notes {
        writeln!(out, "<p class=\"note\">{}</p>", escape(note))?;
    }
    let mut all = Record::default();
    rounds.iter().for_each(|r| all.merge(r.record));
    tiles(out, rounds)?;
    over_time(out, rounds)?;
    curve(out, &all)?;
    latencies(out, &all)?;
    if rounds.len() > 1 {
        each_round(out, rounds)?;
    }
    errors(out, &all)?;
    mix(out, &all)?;
    writeln!(out, "<h2>Where it was measured</h2>\n<table class=\"facts\">")?;
    let tricks = if first.tricks.is_empty() { "none".to_owned() } else { first.tricks.join(", ") };
    let sources = match first.sources {
        0 => "chosen by the system".to_owned(),
        n => n.to_string(),
    };
    for (name, text) in [
        ("Command", &*first.command),
        ("Client's tricks", &tricks),
        ("Client's crypto", &first.crypto),
        ("Source addresses", &sources),
        ("Machine", &first.machine),
        ("Written by", VERSION),
    ] {
        writeln!(out, "<tr><th>{name}</th><td><code>{}</code></td></tr>", escape(text))?;
    }
    if let Some(server) = &first.server {
        writeln!(out, "<tr><th>Server</th><td>{}</td></tr>", escape(&server_facts(server)))?;
    }
    writeln!(out, "</table></main></body></html>")
}

/// What the server used besides its CPU time as a whole.
fn server_facts(server: &ServerUse) -> String {
    let mut facts = Vec::new();
    if let (Some(user), Some(system)) = (server.cpu_user_us_per_handshake, server.cpu_system_us_per_handshake) {
        facts.push(format!("CPU per handshake: {} in user mode, {} in system mode", micros(user), micros(system)));
    }
    let switches = (server.switches_voluntary_per_handshake, server.switches_involuntary_per_handshake);
    if let (Some(waited), Some(preempted)) = switches {
        facts.push(format!("context switches per handshake: {waited:.2} waiting, {preempted:.2} preempted"));
    }
    if let (Some(before), Some(after)) = (server.resident_bytes_before, server.resident_bytes_after) {
        facts.push(format!("memory: {} resident, {} at the end", binary(before as f64), binary(after as f64)));
    }
    facts.join("; ")
}

const VERSION: &str = concat!("handfast-load ", env!("CARGO_PKG_VERSION"));

/// Text for an element or for an attribute in quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The figures that a reader looks for first.
fn tiles(out: &mut String, rounds: &[Round<'_>]) -> std::fmt::Result {
    writeln!(out, "<div class=\"tiles\">")?;
    for metric in Metric::ALL {
        let values: Vec<f64> = rounds.iter().filter_map(|r| metric.of(r.result)).collect();
        let Some(middle) = crate::stats::median(&values) else { continue };
        let each = if matches!(metric, Metric::ClientCpu | Metric::ServerCpu) { " per handshake" } else { "" };
        let text = metric.text(middle);
        writeln!(out, "<div class=\"tile\"><b>{}</b><span>{}{each}</span></div>", escape(&text), metric.heading())?;
    }
    let failures: u64 = rounds.iter().map(|r| r.result.failures()).sum();
    let handshakes: u64 = rounds.iter().map(|r| r.result.handshakes).sum();
    writeln!(out, "<div class=\"tile\"><b>{}</b><span>handshakes</span></div>", grouped(handshakes))?;
    let bad = if failures > 0 { " bad" } else { "" };
    writeln!(out, "<div class=\"tile{bad}\"><b>{}</b><span>errors</span></div>", grouped(failures))?;
    writeln!(out, "</div>")?;
    if rounds.len() > 1 {
        writeln!(out, "<p class=\"sub\">Medians of {} rounds.</p>", rounds.len())?;
    }
    Ok(())
}

/// Rounds follow each other on the axis of time, with a gap between them.
fn over_time(out: &mut String, rounds: &[Round<'_>]) -> std::fmt::Result {
    let names = ["p50", "p99", "max"];
    let mut rates = [Vec::new(), Vec::new()];
    let mut latencies = [Vec::new(), Vec::new(), Vec::new()];
    let mut offset = 0.0;
    for round in rounds {
        let series = round.series;
        let step = series.interval().as_secs_f64();
        let wall = round.record.wall.as_secs_f64();
        for (i, point) in series.points().iter().enumerate() {
            let begin = i as f64 * step;
            // The last interval is cut off by the end of the run; less than a tenth of one says nothing.
            let length = (wall - begin).min(step);
            if length < step / 10.0 {
                continue;
            }
            let at = offset + begin + length / 2.0;
            rates[0].push((at, Some(point.finished as f64 / length)));
            rates[1].push((at, Some(point.failed as f64 / length)));
            let us = |d: Option<Duration>| d.map(|d| d.as_secs_f64() * 1e6);
            for (line, value) in latencies.iter_mut().zip([point.quantile(0.5), point.quantile(0.99), point.max()]) {
                line.push((at, us(value)));
            }
        }
        offset += wall.max(step);
        rates.iter_mut().chain(&mut latencies).for_each(|line| line.push((offset, None)));
    }
    let highest =
        |lines: &[Vec<(f64, Option<f64>)>]| lines.iter().flatten().filter_map(|(_, y)| *y).fold(0.0, f64::max);
    let [done, failed] = rates;
    let failures = highest(std::slice::from_ref(&failed)) > 0.0;
    let mut lines = vec![Line { name: "complete".to_owned(), color: 0, points: done }];
    if failures {
        lines.push(Line { name: "failed".to_owned(), color: 3, points: failed });
    }
    let max = lines.iter().map(|l| highest(std::slice::from_ref(&l.points))).fold(0.0, f64::max);
    let x_label = "time since counting began (s)";
    let rate = Chart {
        title: "Rate over time",
        x_label,
        y_label: "handshakes per second",
        x: Scale::seconds(offset),
        y: Scale::from_zero(max),
        lines,
        text: |at, rate| format!("{}/s at {at:.1} s", grouped_rate(rate)),
    };
    out.push_str(&rate.svg());
    let values = || latencies.iter().flatten().filter_map(|(_, y)| *y);
    if values().next().is_none() {
        return Ok(());
    }
    let y = Scale::latency(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let lines = names.iter().zip(latencies).enumerate();
    let lines = lines.map(|(i, (name, points))| Line { name: (*name).to_owned(), color: i, points }).collect();
    let latency = Chart {
        title: "Latency over time",
        x_label,
        y_label: "total latency (log scale)",
        x: Scale::seconds(offset),
        y,
        lines,
        text: |at, us| format!("{} at {at:.1} s", micros(us)),
    };
    out.push_str(&latency.svg());
    Ok(())
}

/// Steps of the percentile curve for each halving of what is left to 100 %.
const CURVE_STEPS: i32 = 8;

fn curve(out: &mut String, record: &Record) -> std::fmt::Result {
    let phases: Vec<_> = phases(record).into_iter().filter(|(name, _)| !name.contains(':')).collect();
    let x = Scale::percentiles(record.handshakes());
    let percentiles: Vec<f64> = (0..)
        .map(|i| 100.0 * (1.0 - 0.5_f64.powf(f64::from(i) / f64::from(CURVE_STEPS))))
        .take_while(|p| *p < x.max())
        .chain([x.max()])
        .collect();
    let lines: Vec<Line> = phases
        .iter()
        .enumerate()
        .map(|(i, (name, latency))| {
            let at = |p: &f64| (*p, latency.quantile(p / 100.0).map(|d| d.as_secs_f64() * 1e6));
            Line { name: name.clone(), color: i, points: percentiles.iter().map(at).collect() }
        })
        .collect();
    let values = || lines.iter().flat_map(|l| &l.points).filter_map(|(_, y)| *y);
    if values().next().is_none() {
        return Ok(());
    }
    let y = Scale::latency(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let chart = Chart {
        title: "Latency by percentile",
        x_label: "share of handshakes that took no longer (distance from 100 % on a log scale)",
        y_label: "latency (log scale)",
        x,
        y,
        lines,
        text: |percentile, us| format!("{} at {percentile:.3} %", micros(us)),
    };
    out.push_str(&chart.svg());
    Ok(())
}

fn latencies(out: &mut String, record: &Record) -> std::fmt::Result {
    writeln!(out, "<h2>Latency</h2>\n<table><tr><th>phase</th><th class=\"n\">handshakes</th>")?;
    for name in ["p50", "p90", "p99", "p99.9", "max"] {
        write!(out, "<th class=\"n\">{name}</th>")?;
    }
    writeln!(out, "</tr>")?;
    for (name, latency) in phases(record) {
        write!(out, "<tr><td>{}</td><td class=\"n\">{}</td>", escape(&name), grouped(latency.count()))?;
        let q = Quantiles::of(latency);
        for value in [q.p50, q.p90, q.p99, q.p999, q.max] {
            write!(out, "<td class=\"n\">{}</td>", escape(&value.map_or_else(|| "-".to_owned(), micros)))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")
}

fn each_round(out: &mut String, rounds: &[Round<'_>]) -> std::fmt::Result {
    writeln!(out, "<h2>Rounds</h2>\n<table><tr><th>round</th><th class=\"n\">errors</th>")?;
    for metric in Metric::ALL {
        write!(out, "<th class=\"n\">{}</th>", metric.heading())?;
    }
    writeln!(out, "</tr>")?;
    for (i, round) in rounds.iter().enumerate() {
        write!(out, "<tr><td>{}</td><td class=\"n\">{}</td>", i + 1, grouped(round.result.failures()))?;
        for metric in Metric::ALL {
            let value = metric.of(round.result).map_or_else(|| "-".to_owned(), |v| metric.text(v));
            write!(out, "<td class=\"n\">{}</td>", escape(&value))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")
}

fn errors(out: &mut String, record: &Record) -> std::fmt::Result {
    writeln!(out, "<h2>Errors</h2>")?;
    let errors = record.by_error();
    if errors.is_empty() {
        return writeln!(out, "<p>None.</p>");
    }
    let all = (record.failures() + record.handshakes()) as f64;
    writeln!(
        out,
        "<table><tr><th>class</th><th class=\"n\">times</th><th class=\"n\">share</th><th>first one</th></tr>"
    )?;
    for (class, n) in errors {
        let example = record.example_of(class).unwrap_or_default();
        let share = n as f64 / all * 100.0;
        let (name, example) = (escape(&class.name()), escape(example));
        writeln!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{share:.3} %</td><td>{example}</td></tr>",
            grouped(n)
        )?;
    }
    writeln!(out, "</table>")
}

/// What was negotiated, with a bar for each share.
fn mix(out: &mut String, record: &Record) -> std::fmt::Result {
    let all = record.handshakes();
    if all == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>What was negotiated</h2>\n<table><tr><th></th><th></th><th class=\"n\">handshakes</th><th class=\"n\">share</th><th class=\"wide\"></th></tr>"
    )?;
    for (what, counts) in super::mixes(record) {
        let counts: BTreeMap<_, _> = counts.into_iter().filter(|(_, n)| *n > 0).collect();
        for (i, (name, n)) in counts.iter().enumerate() {
            let heading = if i == 0 { what } else { "" };
            let share = *n as f64 / all as f64 * 100.0;
            writeln!(
                out,
                "<tr><th>{heading}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{share:.1} %</td>\
                 <td><svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\"><rect class=\"c0\" width=\"{share:.2}\" height=\"10\"/></svg></td></tr>",
                escape(name),
                grouped(*n)
            )?;
        }
    }
    writeln!(out, "</table>")
}

#[cfg(test)]
mod tests {
    use rustls::ProtocolVersion;

    use super::*;
    use crate::failure::{ErrorClass, Failure};
    use crate::record::{Facts, Phases};

    fn measured() -> (RunResult, Record, Series) {
        let (mut record, mut series) = (Record::default(), Series::default());
        for i in 0..1000_u64 {
            let alpn = record.alpn(if i % 3 == 0 { Some(b"h2") } else { Some(b"<script>") });
            let phases = Phases { tls_handshake: Duration::from_micros(500 + i), ..Phases::default() };
            let version = Some(ProtocolVersion::TLSv1_3);
            let facts =
                Facts { alpn, version, suite: None, group: None, scheme: None, resumed: false, early_data: None };
            record.succeeded(phases, &facts);
            series.finished(Duration::from_millis(10 * i), phases.total());
        }
        record.failed(Failure { class: ErrorClass::Reset, detail: Some("a \"quoted\" <b>reason</b>".into()) });
        record.wall = Duration::from_secs(10);
        let mut result = RunResult { target: "a.example:443".to_owned(), handshakes: 1000, ..RunResult::default() };
        result.command = "handfast-load 'x<y>&z'".to_owned();
        (result, record, series)
    }

    fn shown(rounds: usize) -> String {
        let (result, record, series) = measured();
        let rounds = vec![Round::new(&result, &record, &series); rounds];
        page("measured <a.example>", &rounds, &["invalid: <late>".to_owned()])
    }

    #[test]
    fn a_page_has_every_part_and_loads_nothing() {
        let page = shown(1);
        for part in [
            "Rate over time",
            "Latency over time",
            "Latency by percentile",
            "What was negotiated",
            "Errors",
            "Where it was measured",
            "prefers-color-scheme: dark",
            "handshakes per second",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg viewBox=\"0 0 900").count(), 3);
        for outside in ["http://", "https://", "src=", "href=", "<link", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let page = shown(1);
        for text in ["<b>reason", "<a.example>", "<late>", "'x<y>&z'"] {
            assert!(!page.contains(text), "{text}");
        }
        assert!(page.contains("a &quot;quoted&quot; &lt;b&gt;reason&lt;/b&gt;"));
        assert_eq!(escape("\u{0}'"), "\u{fffd}&#39;");
    }

    #[test]
    fn tags_are_closed_and_numbers_are_numbers() {
        let page = shown(3);
        for tag in ["table", "tr", "td", "svg", "figure", "main", "div", "p", "h2"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
        assert!(page.contains("<h2>Rounds</h2>"));
    }

    #[test]
    fn a_run_without_a_handshake_still_has_a_page() {
        let (result, record, series) = (RunResult::default(), Record::default(), Series::default());
        let page = page("nothing", &[Round::new(&result, &record, &series)], &[]);
        assert!(page.contains("Rate over time") && !page.contains("NaN"), "{page}");
        assert!(!page.contains("Latency by percentile"));
    }
}
