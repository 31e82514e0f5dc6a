//! Things of which some are chosen more often than others.

/// A choice among a few things, or many, each with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted<T> {
    items: Vec<T>,
    /// The share of each item and all before it, from 0 to 1.
    shares: Vec<f64>,
}

impl<T> Weighted<T> {
    /// No choice at all.
    #[must_use]
    pub fn one(item: T) -> Self {
        Self { items: vec![item], shares: vec![1.0] }
    }

    /// A choice among `items` by weight; `None` when there is none with a weight above 0.
    #[must_use]
    pub fn new(items: Vec<(T, f64)>) -> Option<Self> {
        let total: f64 = items.iter().map(|(_, weight)| weight.max(0.0)).sum();
        if !total.is_finite() || total <= 0.0 {
            return None;
        }
        let mut before = 0.0;
        let items: Vec<_> = items.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        let shares = items.iter().map(|(_, weight)| {
            before += weight / total;
            before
        });
        Some(Self { shares: shares.collect(), items: items.into_iter().map(|(item, _)| item).collect() })
    }

    /// What there is to choose from, without what has no weight.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The same choice among other things.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Weighted<U> {
        Weighted { items: self.items.iter().map(f).collect(), shares: self.shares.clone() }
    }

    /// The index of the item that a `uniform` number from 0 to 1 chooses.
    #[must_use]
    pub fn pick(&self, uniform: f64) -> usize {
        self.shares.partition_point(|share| *share <= uniform).min(self.items.len() - 1)
    }

    /// Whether there is more than one.
    #[must_use]
    pub fn is_a_choice(&self) -> bool {
        self.items.len() > 1
    }

    /// Each item with its share of all.
    pub fn shares(&self) -> impl Iterator<Item = (&T, f64)> {
        let before = std::iter::once(0.0).chain(self.shares.iter().copied());
        self.items.iter().zip(self.shares.iter().zip(before)).map(|(item, (share, before))| (item, share - before))
    }
}

/// Reads `a=70;b=30`, `a;b` or `a`, where a missing weight is 1.
///
/// # Errors
/// One of them is not what `item` wants, or no weight is above 0.
pub fn parse<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Weighted<T>, String> {
    let weighted = |text: &str| {
        let (text, weight) = match text.rsplit_once('=') {
            Some((before, weight)) => {
                let weight: f64 = weight.trim().parse().map_err(|_| format!("`{weight}` is no weight"))?;
                if !(0.0..=1e9).contains(&weight) {
                    return Err(format!("`{weight}` is no weight from 0 to 1e9"));
                }
                (before, weight)
            }
            None => (text, 1.0),
        };
        Ok((item(text.trim())?, weight))
    };
    let items = text.split(';').map(weighted).collect::<Result<_, _>>()?;
    Weighted::new(items).ok_or_else(|| "some weight must be above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Weighted<String>, String> {
        parse(text, |t| if t.is_empty() { Err("empty".to_owned()) } else { Ok(t.to_owned()) })
    }

    #[test]
    fn shares_follow_the_weights() {
        let mix = names("a=70; b=30 ;c=0").unwrap();
        assert_eq!(mix.items(), ["a", "b"]);
        assert_eq!([0.0, 0.69, 0.71, 0.999_999_9, 1.0].map(|u| mix.pick(u)), [0, 0, 1, 1, 1]);
        let even = names("a;b;c;d").unwrap();
        assert_eq!([0.1, 0.3, 0.6, 0.9].map(|u| even.pick(u)), [0, 1, 2, 3]);
        assert!(even.shares().all(|(_, share)| (share - 0.25).abs() < 1e-9));
        assert!(!names("a").unwrap().is_a_choice());
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for bad in ["", "a;;b", "a=x", "a=-1", "a=0", "a=0;b=0", "=5", "a=NaN", "a=inf"] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }
}
