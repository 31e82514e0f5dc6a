//! A service level objective: what a server has to keep to at a rate, as `p99<20ms,errors<0.1%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::duration::{self, Human, Plain};

/// One thing that is read off a run and has a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Term {
    /// Of a hundred handshakes, so many take less than the limit. Latency is that from the scheduled start to the end.
    Latency { percentile: f64, below: Duration },
    /// Failed handshakes of all, as a share.
    Errors { below: f64 },
}

/// Everything that has to hold at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo(Vec<Term>);

/// What a run reads, for a [`Slo`] to judge.
pub trait Readings {
    /// The latency that `percentile` (0 to 100) of all handshakes do not exceed; `None` without a handshake.
    fn latency(&self, percentile: f64) -> Option<Duration>;

    /// Failed handshakes of all that ended, as a share.
    fn error_share(&self) -> f64;
}

/// What was not kept.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Miss {
    /// No handshake succeeded.
    NoHandshake,
    /// A percentile is too high.
    Latency {
        /// Which one.
        percentile: f64,
        /// What it is.
        is: Duration,
        /// What it has to be below.
        below: Duration,
    },
    /// Too many fail.
    Errors {
        /// The share that failed.
        is: f64,
        /// What it has to be below.
        below: f64,
    },
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHandshake => f.write_str("no handshake succeeded"),
            Self::Latency { percentile, is, below } => {
                write!(f, "p{percentile} {} is not below {}", Human(*is), Plain(*below))
            }
            Self::Errors { is, below } => write!(f, "errors {:.3} % are not below {} %", is * 100.0, below * 100.0),
        }
    }
}

impl Slo {
    /// Whether a run keeps to it; the first thing that it does not keep otherwise.
    ///
    /// # Errors
    /// What was missed.
    pub fn check(&self, run: &impl Readings) -> Result<(), Miss> {
        for term in &self.0 {
            match *term {
                Term::Latency { percentile, below } => {
                    let is = run.latency(percentile).ok_or(Miss::NoHandshake)?;
                    if is >= below {
                        return Err(Miss::Latency { percentile, is, below });
                    }
                }
                Term::Errors { below } => {
                    let is = run.error_share();
                    if is >= below {
                        return Err(Miss::Errors { is, below });
                    }
                }
            }
        }
        run.latency(50.0).map(|_| ()).ok_or(Miss::NoHandshake)
    }

    /// The tightest limit on a latency, with its percentile.
    #[must_use]
    pub fn latency(&self) -> Option<(f64, Duration)> {
        let latencies = self.0.iter().filter_map(|term| match term {
            Term::Latency { percentile, below } => Some((*percentile, *below)),
            Term::Errors { .. } => None,
        });
        latencies.min_by_key(|(_, below)| *below)
    }
}

const EXAMPLE: &str = "write for example p99<20ms,errors<0.1%";

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let terms = text.split(',').map(|term| read(term.trim())).collect::<Result<Vec<_>, _>>()?;
        let name = |t: &Term| match t {
            Term::Latency { percentile, .. } => percentile.to_bits(),
            Term::Errors { .. } => u64::MAX,
        };
        for (i, term) in terms.iter().enumerate() {
            if terms[..i].iter().any(|t| name(t) == name(term)) {
                return Err(format!("the same thing has two limits; {EXAMPLE}"));
            }
        }
        Ok(Self(terms))
    }
}

fn read(term: &str) -> Result<Term, String> {
    let (what, limit) = term.split_once('<').ok_or_else(|| format!("`{term}` has no `<`; {EXAMPLE}"))?;
    let (what, limit) = (what.trim(), limit.trim());
    if what == "errors" {
        let share = limit.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok()).map(|percent| percent / 100.0);
        return match share {
            Some(below) if below > 0.0 && below <= 1.0 => Ok(Term::Errors { below }),
            _ => Err(format!("`{limit}` is no share from 0% (excluded) to 100%; {EXAMPLE}")),
        };
    }
    let percentile = match what {
        "max" => Some(100.0),
        // `p999` is how p99.9 is written where a point cannot be.
        "p999" => Some(99.9),
        _ => what.strip_prefix('p').and_then(|n| n.parse::<f64>().ok()).filter(|p| *p > 0.0 && *p <= 100.0),
    };
    let Some(percentile) = percentile else {
        return Err(format!("`{what}` is neither a percentile (p50, p99, p99.9, max) nor `errors`; {EXAMPLE}"));
    };
    let below = duration::parse_nonzero(limit).map_err(|why| format!("`{limit}`: {why}"))?;
    Ok(Term::Latency { percentile, below })
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            match term {
                Term::Latency { percentile, below } => write!(f, "p{percentile}<{}", Plain(*below))?,
                Term::Errors { below } => write!(f, "errors<{}%", below * 100.0)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run(Option<Duration>, f64);

    impl Readings for Run {
        fn latency(&self, _: f64) -> Option<Duration> {
            self.0
        }

        fn error_share(&self) -> f64 {
            self.1
        }
    }

    #[test]
    fn objectives_are_read_and_written() {
        for text in ["p99<20ms,errors<0.1%", "p99.9<1s", "errors<100%", "p50<1ms,p99<10ms"] {
            assert_eq!(text.parse::<Slo>().unwrap().to_string(), text);
        }
        assert_eq!("p999 < 1s".parse::<Slo>().unwrap().to_string(), "p99.9<1s");
        assert_eq!("max<1s".parse::<Slo>().unwrap().to_string(), "p100<1s");
        for bad in ["", "p99", "p99<20", "p0<1s", "p101<1s", "q9<1s", "errors<1", "errors<0%", "p99<1s,p99<2s"] {
            let why = bad.parse::<Slo>().unwrap_err();
            assert!(why.contains("for example"), "{bad}: {why}");
        }
    }

    #[test]
    fn a_run_keeps_to_all_terms_or_is_told_which_it_missed() {
        let slo: Slo = "p99<20ms,errors<0.1%".parse().unwrap();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(slo.check(&Run(ms(19), 0.0005)), Ok(()));
        assert!(matches!(slo.check(&Run(ms(20), 0.0)), Err(Miss::Latency { .. })));
        assert!(matches!(slo.check(&Run(ms(1), 0.001)), Err(Miss::Errors { .. })));
        assert_eq!(slo.check(&Run(None, 0.0)), Err(Miss::NoHandshake));
        assert_eq!(slo.latency(), Some((99.0, Duration::from_millis(20))));
        let miss = slo.check(&Run(ms(35), 0.0)).unwrap_err().to_string();
        assert_eq!(miss, "p99 35.0 ms is not below 20ms");
        assert_eq!("errors<1%".parse::<Slo>().unwrap().check(&Run(None, 0.0)), Err(Miss::NoHandshake));
    }
}
