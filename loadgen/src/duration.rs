//! Durations as a person writes and reads them.

use std::fmt;
use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurationError {
    /// There is no number in front, or it is negative.
    NoNumber,
    /// A number without a unit.
    NoUnit,
    /// A unit that is none of ours.
    UnknownUnit(String),
    /// More than a year.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("it does not start with a number")?,
            Self::NoUnit => f.write_str("the unit is missing")?,
            Self::UnknownUnit(unit) => write!(f, "`{unit}` is no unit")?,
            Self::TooLong => f.write_str("it is longer than a year")?,
        }
        f.write_str("; write for example 10s, 500ms or 2m")
    }
}

impl std::error::Error for DurationError {}

const YEAR_SECONDS: f64 = 365.0 * 86_400.0;

/// Reads `10s`, `500ms`, `250us`, `1.5s`, `2m`, `1h`, and a bare `0`.
///
/// # Errors
/// The text is none of these.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| DurationError::NoNumber)?;
    let seconds = match unit.trim() {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "" if number == 0.0 => 0.0,
        "" => return Err(DurationError::NoUnit),
        other => return Err(DurationError::UnknownUnit(other.to_owned())),
    };
    if seconds > YEAR_SECONDS {
        return Err(DurationError::TooLong);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| DurationError::NoNumber)
}

/// As [`parse`], but zero is refused.
///
/// # Errors
/// The text is no duration, or it is zero.
pub fn parse_nonzero(text: &str) -> Result<Duration, String> {
    match parse(text) {
        Ok(Duration::ZERO) => Err("it must be longer than 0; write for example 10s, 500ms or 2m".to_owned()),
        Ok(d) => Ok(d),
        Err(e) => Err(e.to_string()),
    }
}

/// A duration in the unit that fits it, with three significant digits.
#[derive(Clone, Copy, Debug)]
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let seconds = self.0.as_secs_f64();
        let (value, unit) = match ns {
            0 => (0.0, "s"),
            1..1_000_000 => (seconds * 1e6, "µs"),
            1_000_000..1_000_000_000 => (seconds * 1e3, "ms"),
            1_000_000_000..120_000_000_000 => (seconds, "s"),
            _ => (seconds / 60.0, "min"),
        };
        let decimals = match value {
            v if v >= 99.95 || v == 0.0 => 0,
            v if v >= 9.995 => 1,
            _ => 2,
        };
        f.pad(&format!("{value:.decimals$} {unit}"))
    }
}

/// A duration as it is written on a command line: `10s`, `1.5s`, `500ms`.
#[derive(Clone, Copy, Debug)]
pub struct Plain(pub Duration);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) && !self.0.is_zero() {
            write!(f, "{}ms", self.0.as_secs_f64() * 1e3)
        } else {
            write!(f, "{}s", self.0.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, ms) in
            [("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000), ("1.5s", 1500), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("250us"), Ok(Duration::from_micros(250)));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "10", "ten", "10 parsecs", "-1s", "1..5s", "s", "9999999999h"] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains("10s, 500ms or 2m"), "{error}");
        }
        assert!(parse_nonzero("0s").is_err());
    }

    #[test]
    fn three_digits_and_a_fitting_unit() {
        let human = |ns| Human(Duration::from_nanos(ns)).to_string();
        assert_eq!(human(0), "0 s");
        assert_eq!(human(930), "0.93 µs");
        assert_eq!(human(84_240), "84.2 µs");
        assert_eq!(human(1_234_000), "1.23 ms");
        assert_eq!(human(999_600_000), "1000 ms");
        assert_eq!(human(3_050_000_000), "3.05 s");
    }
}
