//! How far measurements spread.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::median;

/// The least, the middle and the greatest of several measurements, in their unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one; the mean of the two in the middle of an even number.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these measurements; `None` without any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let bound = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
        Some(Self { min: bound(f64::min)?, median: median(values)?, max: bound(f64::max)? })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(f, "{:.digits$} / {:.digits$} / {:.digits$}", self.min, self.median, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_the_sorted_values() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(format!("{:.2}", Spread { min: 1.0, median: 2.0, max: 3.0 }), "1.00 / 2.00 / 3.00");
    }
}
