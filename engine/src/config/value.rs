//! How values are written: numbers, sizes, times.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::table::{At, Item, Kind, Reader, Topic};
use crate::crypto::TicketOptions;
use crate::limits::SourceRate;

/// A value that is written in one piece.
pub(super) trait Scalar<T> {
    const NAME: &'static str;

    fn expected() -> String;
    fn parse(value: &DeValue<'_>) -> Option<T>;
    fn write(value: &T) -> Option<String>;
}

/// Makes a [`Kind`] of a [`Scalar`].
macro_rules! scalar {
    ($(@[$($generics:tt)*])? $kind:ty => $type:ty) => {
        impl $(<$($generics)*>)? $crate::config::table::Kind<$type> for $kind {
            const NAME: &'static str = <Self as $crate::config::value::Scalar<$type>>::NAME;

            fn read(
                into: &mut $type,
                item: &$crate::config::table::Item<'_>,
                reader: &mut $crate::config::table::Reader<'_>,
            ) {
                match <Self as $crate::config::value::Scalar<$type>>::parse(item.value()) {
                    Some(value) => *into = value,
                    None => reader.misfit(item, <Self as $crate::config::value::Scalar<$type>>::expected()),
                }
            }

            fn show(value: &$type) -> Option<String> {
                <Self as $crate::config::value::Scalar<$type>>::write(value)
            }
        }
    };
}
pub(super) use scalar;

/// What need not be there.
pub(super) struct IfAny<K>(PhantomData<K>);

impl<T: Default, K: Kind<T>> Kind<Option<T>> for IfAny<K> {
    const NAME: &'static str = K::NAME;

    fn read(into: &mut Option<T>, item: &Item<'_>, reader: &mut Reader<'_>) {
        let (mut value, before) = (T::default(), reader.findings.len());
        K::read(&mut value, item, reader);
        if reader.findings.len() == before {
            *into = Some(value);
        }
    }

    fn show(value: &Option<T>) -> Option<String> {
        value.as_ref().and_then(K::show)
    }

    fn topics(value: &Option<T>, path: &str) -> Vec<Topic> {
        let topics = value.as_ref().map_or_else(|| K::topics(&T::default(), path), |value| K::topics(value, path));
        topics.into_iter().map(|topic| Topic { optional: true, ..topic }).collect()
    }
}

/// A value with the place where it stands.
pub(super) struct Located<K>(PhantomData<K>);

impl<T, K: Kind<T>> Kind<(T, At)> for Located<K> {
    const NAME: &'static str = K::NAME;

    fn read(into: &mut (T, At), item: &Item<'_>, reader: &mut Reader<'_>) {
        K::read(&mut into.0, item, reader);
        into.1 = item.at();
    }

    fn show(value: &(T, At)) -> Option<String> {
        K::show(&value.0)
    }
}

/// What has to be there.
pub(super) struct Required<K>(PhantomData<K>);

impl<T: Default, K: Kind<T>> Kind<Option<T>> for Required<K> {
    const NAME: &'static str = K::NAME;
    const REQUIRED: bool = true;

    fn read(into: &mut Option<T>, item: &Item<'_>, reader: &mut Reader<'_>) {
        IfAny::<K>::read(into, item, reader);
    }

    fn show(_: &Option<T>) -> Option<String> {
        None
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Scalar<bool> for Flag {
    const NAME: &'static str = "true or false";

    fn expected() -> String {
        "true or false".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<bool> {
        value.as_bool()
    }

    fn write(value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}
scalar!(Flag => bool);

/// A number within bounds, both included.
pub(super) struct Number<const MIN: u64, const MAX: u64>;

/// Any number from 1.
pub(super) type Positive = Number<1, { u32::MAX as u64 }>;
/// Any number.
pub(super) type Count = Number<0, { u32::MAX as u64 }>;

macro_rules! number {
    ($($type:ty),+) => { $(
        impl<const MIN: u64, const MAX: u64> Scalar<$type> for Number<MIN, MAX> {
            const NAME: &'static str = "number";

            fn expected() -> String {
                bounds("a number", MIN, MAX, &u64::to_string)
            }

            fn parse(value: &DeValue<'_>) -> Option<$type> {
                within(integer(value)?, MIN, MAX)?.try_into().ok()
            }

            fn write(value: &$type) -> Option<String> {
                Some(value.to_string())
            }
        }
        scalar!(@[const MIN: u64, const MAX: u64] Number<MIN, MAX> => $type);

        impl<const MIN: u64, const MAX: u64> Scalar<$type> for Size<MIN, MAX> {
            const NAME: &'static str = "size";

            fn expected() -> String {
                bounds("a size such as \"64KiB\", \"1MiB\" or a number of bytes", MIN, MAX, &size_text)
            }

            fn parse(value: &DeValue<'_>) -> Option<$type> {
                let bytes = match value {
                    DeValue::String(text) => parse_size(text)?,
                    _ => integer(value)?,
                };
                within(bytes, MIN, MAX)?.try_into().ok()
            }

            fn write(value: &$type) -> Option<String> {
                Some(size_literal(u64::try_from(*value).unwrap_or(u64::MAX)))
            }
        }
        scalar!(@[const MIN: u64, const MAX: u64] Size<MIN, MAX> => $type);
    )+ };
}

/// A number of bytes within bounds, both included.
pub(super) struct Size<const MIN: u64, const MAX: u64>;

/// Any size but zero.
pub(super) type Bytes = Size<1, { i64::MAX as u64 }>;

number!(usize, u32, u8);

/// A number from 1, or `"off"`.
pub(super) struct NumberOrOff;

fn non_zero(value: &DeValue<'_>) -> Option<NonZeroU32> {
    NonZeroU32::new(integer(value)?.try_into().ok()?)
}

impl Scalar<Option<NonZeroU32>> for NumberOrOff {
    const NAME: &'static str = "number or \"off\"";

    fn expected() -> String {
        "a number, at least 1, or \"off\"".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Option<NonZeroU32>> {
        if value.as_str() == Some(OFF) { Some(None) } else { non_zero(value).map(Some) }
    }

    fn write(value: &Option<NonZeroU32>) -> Option<String> {
        Some(value.map_or_else(|| format!("\"{OFF}\""), |n| n.to_string()))
    }
}
scalar!(NumberOrOff => Option<NonZeroU32>);

/// How fast one source may connect, or `"off"`.
pub(super) struct Rate;

impl Scalar<Option<SourceRate>> for Rate {
    const NAME: &'static str = "rate or \"off\"";

    fn expected() -> String {
        "a rate such as { per_second = 10, burst = 50 }, or \"off\"".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Option<SourceRate>> {
        if value.as_str() == Some(OFF) {
            return Some(None);
        }
        let table = value.as_table().filter(|table| table.len() == 2)?;
        let number = |name: &str| non_zero(table.get(name)?.get_ref());
        Some(Some(SourceRate { per_second: number("per_second")?, burst: number("burst")? }))
    }

    fn write(value: &Option<SourceRate>) -> Option<String> {
        Some(match value {
            Some(rate) => format!("{{ per_second = {}, burst = {} }}", rate.per_second, rate.burst),
            None => format!("\"{OFF}\""),
        })
    }
}
scalar!(Rate => Option<SourceRate>);

pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str().trim_start_matches('+'), integer.radix()).ok()
}

const fn within(n: u64, min: u64, max: u64) -> Option<u64> {
    if min <= n && n <= max { Some(n) } else { None }
}

fn bounds(what: &str, min: u64, max: u64, show: &dyn Fn(&u64) -> String) -> String {
    match (min, max < u64::from(u32::MAX)) {
        (0, false) => what.to_owned(),
        (_, false) => format!("{what}, at least {}", show(&min)),
        (_, true) => format!("{what}, from {} to {}", show(&min), show(&max)),
    }
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = SIZES.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*unit)
}

fn size_text(bytes: &u64) -> String {
    let (name, unit) = SIZES.iter().find(|(_, unit)| bytes.is_multiple_of(*unit)).unwrap_or(&SIZES[3]);
    format!("{}{name}", bytes / unit)
}

fn size_literal(bytes: u64) -> String {
    if bytes > 0 && bytes.is_multiple_of(1024) { format!("\"{}\"", size_text(&bytes)) } else { bytes.to_string() }
}

const TIMES: [(&str, f64); 5] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads a time as the configuration and the command line have it: a number and a unit, such as `10s`, `500ms`, `2m` or
/// `1.5h`. `None` for anything else.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let unit = TIMES.iter().find(|(name, _)| *name == unit)?.1;
    Duration::try_from_secs_f64(number.trim_end().parse::<f64>().ok()? * unit).ok()
}

fn duration_literal(duration: Duration) -> String {
    let micros = duration.as_micros();
    let units = [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];
    let (name, unit) =
        units.into_iter().find(|(_, unit)| micros > 0 && micros.is_multiple_of(*unit)).unwrap_or(("s", 1_000_000));
    format!("\"{}{name}\"", micros / unit)
}

/// A time over zero.
pub(super) struct Time;

const TIME: &str = "a time over zero, such as \"10s\", \"500ms\" or \"2m\"";

fn time(value: &DeValue<'_>) -> Option<Duration> {
    parse_duration(value.as_str()?).filter(|d| !d.is_zero())
}

impl Scalar<Duration> for Time {
    const NAME: &'static str = "time";

    fn expected() -> String {
        TIME.to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Duration> {
        time(value)
    }

    fn write(value: &Duration) -> Option<String> {
        Some(duration_literal(*value))
    }
}
scalar!(Time => Duration);

/// How long a session ticket may live.
pub(super) struct Lifetime;

impl Scalar<Duration> for Lifetime {
    const NAME: &'static str = "time";

    fn expected() -> String {
        "a time from 1 second to 7 days, such as \"6h\"".to_owned()
    }

    fn parse(value: &DeValue<'_>) -> Option<Duration> {
        time(value).filter(|asked| TicketOptions::nearest_lifetime(*asked) == *asked)
    }

    fn write(value: &Duration) -> Option<String> {
        Some(duration_literal(*value))
    }
}
scalar!(Lifetime => Duration);

/// A time over zero, or `"off"`.
pub(super) struct TimeOrOff;

pub(super) const OFF: &str = "off";

impl Scalar<Option<Duration>> for TimeOrOff {
    const NAME: &'static str = "time or \"off\"";

    fn expected() -> String {
        format!("{TIME}, or \"off\"")
    }

    fn parse(value: &DeValue<'_>) -> Option<Option<Duration>> {
        if value.as_str() == Some(OFF) { Some(None) } else { time(value).map(Some) }
    }

    fn write(value: &Option<Duration>) -> Option<String> {
        Some(value.map_or_else(|| format!("\"{OFF}\""), duration_literal))
    }
}
scalar!(TimeOrOff => Option<Duration>);

/// The same where no time is written as the longest.
impl Scalar<Duration> for TimeOrOff {
    const NAME: &'static str = "time or \"off\"";

    fn expected() -> String {
        <Self as Scalar<Option<Duration>>>::expected()
    }

    fn parse(value: &DeValue<'_>) -> Option<Duration> {
        <Self as Scalar<Option<Duration>>>::parse(value).map(|time| time.unwrap_or(Duration::MAX))
    }

    fn write(value: &Duration) -> Option<String> {
        <Self as Scalar<Option<Duration>>>::write(&Some(*value).filter(|d| *d < Duration::MAX))
    }
}
scalar!(TimeOrOff => Duration);
