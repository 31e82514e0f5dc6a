//! HDR histogram logs: what a run writes with `--hdr`, and what `merge` and other HDR tools read.
//!
//! Entries are compressed V2 histograms in nanoseconds, one per phase and run: the whole latency without a tag, because
//! that is what most tools look at first, the other phases with their name as tag.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::error::{RunError, UsageError};
use crate::record::Latency;

/// The tags' name of what has none.
pub const TOTAL: &str = "total";
/// The largest value in each line is in milliseconds, as other tools write it.
const NANOS_PER_MILLI: f64 = 1e6;

/// One histogram of a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The phase.
    pub phase: String,
    /// When it was measured, by the clock of the machine that did.
    pub start: SystemTime,
    /// For how long.
    pub length: Duration,
    /// The latencies.
    pub latency: Latency,
}

impl Entry {
    /// Something measured.
    #[must_use]
    pub fn new(phase: &str, start: SystemTime, length: Duration, latency: Latency) -> Self {
        Self { phase: phase.to_owned(), start, length, latency }
    }
}

/// A whole log; entries without a latency are left out. `comment` says where it comes from.
///
/// # Errors
/// An entry does not fit the format, which no latency of ours does.
pub fn write(entries: &[Entry], comment: &str) -> Result<Vec<u8>, RunError> {
    let failed = |why: String| RunError::Local { doing: "write the HDR log", source: std::io::Error::other(why) };
    let first = entries.iter().map(|e| e.start).min().unwrap_or(UNIX_EPOCH);
    let (mut out, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    for line in comment.lines() {
        builder.add_comment(line);
    }
    builder.with_start_time(first).with_base_time(first).with_max_value_divisor(NANOS_PER_MILLI);
    let mut log = builder.begin_log_with(&mut out, &mut serializer).map_err(|e| failed(e.to_string()))?;
    for entry in entries.iter().filter(|e| e.latency.count() > 0) {
        let since = entry.start.duration_since(first).unwrap_or_default();
        // A comma or a space would end the tag.
        let name: String = entry.phase.chars().map(|c| if c == ',' || c.is_whitespace() { '_' } else { c }).collect();
        let tag = if name == TOTAL { None } else { Tag::new(&name) };
        log.write_histogram(entry.latency.histogram(), since, entry.length, tag)
            .map_err(|e| failed(format!("{e:?}")))?;
    }
    drop(log);
    Ok(out)
}

/// Reads a log, ours or another tool's with nanoseconds in it.
///
/// # Errors
/// The file cannot be read, or is no such log.
pub fn read(path: &Path) -> Result<Vec<Entry>, UsageError> {
    let bytes = std::fs::read(path).map_err(|source| UsageError::FileUnreadable { path: path.to_owned(), source })?;
    let wrong = |why: String| UsageError::BadLog { path: path.to_owned(), why };
    let (mut entries, mut base) = (Vec::new(), UNIX_EPOCH);
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(&bytes) {
        match entry.map_err(|e| wrong(format!("{e:?}")))? {
            LogEntry::BaseTime(at) | LogEntry::StartTime(at) => base = UNIX_EPOCH + at,
            LogEntry::Interval(interval) => {
                let text = interval.encoded_histogram();
                let raw = BASE64_STANDARD.decode(text).map_err(|e| wrong(e.to_string()))?;
                let histogram: Histogram<u64> =
                    deserializer.deserialize(&mut &raw[..]).map_err(|e| wrong(format!("{e:?}")))?;
                let phase = interval.tag().map_or(Cow::Borrowed(TOTAL), |t| Cow::Owned(t.as_str().to_owned()));
                let start = base + interval.start_timestamp();
                entries.push(Entry::new(&phase, start, interval.duration(), Latency::from(histogram)));
            }
        }
    }
    if entries.is_empty() {
        return Err(wrong("it has no histogram".to_owned()));
    }
    Ok(entries)
}

/// All that were measured of one phase.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Merged {
    /// The phase.
    pub phase: String,
    /// Histograms that went in.
    pub entries: usize,
    /// All latencies.
    pub latency: Latency,
}

/// What several logs say together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Merge {
    /// By phase, the whole latency first.
    pub phases: Vec<Merged>,
    /// From the first start to the last end, by the clocks of the machines that measured.
    pub span: Duration,
}

/// Merges entries without loss: the percentiles are those of one histogram of everything.
#[must_use]
pub fn merge(entries: &[Entry]) -> Merge {
    let mut phases: Vec<Merged> = Vec::new();
    for entry in entries {
        match phases.iter_mut().find(|m| m.phase == entry.phase) {
            Some(merged) => {
                merged.entries += 1;
                merged.latency.merge(&entry.latency);
            }
            None => phases.push(Merged { phase: entry.phase.clone(), entries: 1, latency: entry.latency.clone() }),
        }
    }
    phases.sort_by_key(|m| m.phase != TOTAL);
    let start = entries.iter().map(|e| e.start).min();
    let end = entries.iter().map(|e| e.start + e.length).max();
    let span = start.zip(end).and_then(|(start, end)| end.duration_since(start).ok()).unwrap_or_default();
    Merge { phases, span }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(micros: impl Iterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        micros.for_each(|us| latency.add(Duration::from_micros(us)));
        latency
    }

    #[test]
    fn logs_of_several_runs_merge_into_the_exact_percentiles_of_all() {
        let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let dir = std::env::temp_dir().join(format!("handfast-load-{}-merge", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut entries = Vec::new();
        for (i, share) in [(1..=500_u64), (501..=900), (901..=1000)].into_iter().enumerate() {
            let at = start + Duration::from_secs(i as u64);
            let second = Duration::from_secs(1);
            let log = [
                Entry::new(TOTAL, at, second, latency(share.clone())),
                Entry::new("tcp_connect", at, second, latency(share.map(|us| us / 10 + 1))),
                Entry::new("first_byte", at, second, Latency::default()),
            ];
            let path = dir.join(format!("{i}.hdr"));
            std::fs::write(&path, write(&log, "a test,\nin two lines").unwrap()).unwrap();
            entries.extend(read(&path).unwrap());
        }
        std::fs::remove_dir_all(&dir).unwrap();
        let merged = merge(&entries);
        assert_eq!(merged.span, Duration::from_secs(3));
        let names: Vec<_> = merged.phases.iter().map(|m| (m.phase.as_str(), m.entries, m.latency.count())).collect();
        assert_eq!(names, [(TOTAL, 3, 1000), ("tcp_connect", 3, 1000)]);
        let all = latency(1..=1000);
        for q in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(merged.phases[0].latency.quantile(q), all.quantile(q), "{q}");
        }
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let path = std::env::temp_dir().join(format!("handfast-load-{}-no.hdr", std::process::id()));
        for text in ["", "#only a comment\n", "nonsense\n", "Tag=a,0.1,1.0,2.0,!!!!\n", "0.1,1.0,2.0,AAAA\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(read(&path), Err(UsageError::BadLog { .. })), "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(UsageError::FileUnreadable { .. })));
    }
}
