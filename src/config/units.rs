//! Durations and sizes: a whole number and a unit, in a string.
//!
//! Fractions are refused with the whole number that means the same. Sizes have binary units only,
//! because `kB` and `MB` mean two things.

use std::time::Duration;

use crate::config::findings::Mistake;
use crate::config::reader::FromText;

/// Timers take any duration up to this, and nobody means more.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Units of time in milliseconds, longest first.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size in bytes, largest first.
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes(pub(super) usize);

impl Bytes {
    pub(super) const fn kib(n: usize) -> Self {
        Self(n << 10)
    }

    pub(super) const fn mib(n: usize) -> Self {
        Self(n << 20)
    }
}

impl FromText for Duration {
    const EXAMPLE: &'static str = "\"15s\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let meant = |unit: &str| {
            Some(match unit.to_lowercase().as_str() {
                "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => 1,
                "" | "s" | "sec" | "secs" | "second" | "seconds" => 1000,
                "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
                "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
                "d" | "day" | "days" => 24 * 3_600_000,
                _ => return None,
            })
        };
        let kind = Kind {
            what: "duration",
            units: "`ms`, `s`, `m` and `h`",
            table: &TIMES,
            zero: "s",
        };
        let millis = kind.parse(text, Self::EXAMPLE, meant)?;
        let duration = Self::from_millis(millis);
        if duration > LONGEST {
            return Err(Mistake::new(
                format!("`\"{text}\"` is longer than a year"),
                format!("write at most `\"{}\"`", show_duration(LONGEST)),
            ));
        }
        Ok(duration)
    }
}

impl FromText for Bytes {
    const EXAMPLE: &'static str = "\"64KiB\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let meant = |unit: &str| {
            Some(match unit.to_lowercase().as_str() {
                "" | "b" | "byte" | "bytes" => 1,
                "k" | "kb" | "ki" | "kib" => 1 << 10,
                "m" | "mb" | "mi" | "mib" => 1 << 20,
                "g" | "gb" | "gi" | "gib" => 1 << 30,
                _ => return None,
            })
        };
        let kind = Kind {
            what: "size",
            units: "`B`, `KiB`, `MiB` and `GiB`",
            table: &SIZES,
            zero: "B",
        };
        let bytes = kind.parse(text, Self::EXAMPLE, meant)?;
        usize::try_from(bytes)
            .map(Self)
            .map_err(|_too_large| kind.too_large(text))
    }
}

/// A duration as a file writes it. What is not a whole number of milliseconds is rounded down.
pub fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &TIMES,
        "s",
    )
}

/// A size as a file writes it.
pub fn show_bytes(bytes: usize) -> String {
    show(u64::try_from(bytes).unwrap_or(u64::MAX), &SIZES, "B")
}

/// What durations and sizes have in common.
struct Kind {
    what: &'static str,
    units: &'static str,
    table: &'static [(&'static str, u64)],
    /// The unit of nothing.
    zero: &'static str,
}

impl Kind {
    /// `meant` knows the units that people write instead of ours.
    fn parse(
        &self,
        text: &str,
        example: &str,
        meant: impl Fn(&str) -> Option<u64>,
    ) -> Result<u64, Mistake> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at_checked(end).unwrap_or_default();
        let known = self.table.iter().find(|(name, _)| *name == unit);
        if let (Some((_, factor)), false) = (known, digits.is_empty()) {
            let number = digits
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(*factor));
            return number.ok_or_else(|| self.too_large(text));
        }
        let Self {
            what,
            units,
            table,
            zero,
        } = self;
        let message = if unit.is_empty() && !digits.is_empty() {
            format!("`{digits}` has no unit")
        } else {
            format!("`\"{text}\"` is not a {what}")
        };
        let advice = match Self::amount(text, meant) {
            Some(amount) => format!(
                "write `\"{}\"`; the units are {units}",
                show(amount, table, zero)
            ),
            None => format!("write a whole number and a unit ({units}), like `{example}`"),
        };
        Err(Mistake::new(message, advice))
    }

    /// What a text probably says that is not written as we want it: `1.5s`, `15 sec`, `1m30s`.
    fn amount(text: &str, meant: impl Fn(&str) -> Option<u64>) -> Option<u64> {
        let mut sum: u64 = 0;
        let mut rest = text.trim();
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
            let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
            let (number, tail) = rest.split_at_checked(end)?;
            let tail = tail.trim_start();
            let end = tail
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at_checked(end)?;
            sum = sum.checked_add(scaled(number, meant(unit)?)?)?;
            rest = tail.trim_start();
        }
        Some(sum)
    }

    fn too_large(&self, text: &str) -> Mistake {
        let Self { what, units, .. } = self;
        let message = format!("`\"{text}\"` is too large for a {what}");
        Mistake::new(
            message,
            format!("write a smaller number; the units are {units}"),
        )
    }
}

/// A decimal number times a factor, if that is a whole number.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let parts = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits = format!("{whole}{fraction}")
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)?;
    digits.is_multiple_of(parts).then(|| digits / parts)
}

/// In the largest unit that needs no fraction; `zero`: the unit of nothing.
fn show(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    if amount == 0 {
        return format!("0{zero}");
    }
    let fits = |(_, factor): &&(&str, u64)| amount.is_multiple_of(*factor);
    let (unit, factor) = units.iter().find(fits).copied().unwrap_or((zero, 1));
    format!("{}{unit}", amount / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    #[test]
    fn reads_what_it_should() {
        for (text, millis) in [("0ms", 0), ("0s", 0), ("500ms", 500), ("15s", 15_000)] {
            assert_eq!(
                Duration::from_text(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for (text, seconds) in [("2m", 120), ("1h", 3600), ("8760h", 365 * 24 * 3600)] {
            assert_eq!(
                Duration::from_text(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for (text, bytes) in [("0B", 0), ("1B", 1), ("64KiB", 65_536), ("1GiB", 1 << 30)] {
            assert_eq!(Bytes::from_text(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn says_how_a_duration_is_written() {
        for (text, right) in [
            ("15", "`\"15s\"`"),
            ("0", "`\"0s\"`"),
            ("15 s", "`\"15s\"`"),
            ("1.5s", "`\"1500ms\"`"),
            ("90 sec", "`\"90s\"`"),
            ("1m30s", "`\"90s\"`"),
            ("1 hour", "`\"1h\"`"),
            ("2d", "`\"48h\"`"),
            ("1_000ms", "`\"1s\"`"),
            ("", "like `\"15s\"`"),
            ("-5s", "like `\"15s\"`"),
            ("s", "like `\"15s\"`"),
            ("5x", "like `\"15s\"`"),
            ("8761h", "`\"8760h\"`"),
            ("99999999999999999999s", "smaller"),
        ] {
            let mistake = Duration::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
        }
    }

    #[test]
    fn says_how_a_size_is_written() {
        for (text, right) in [
            ("4194304", "`\"4MiB\"`"),
            ("4MB", "`\"4MiB\"`"),
            ("64kB", "`\"64KiB\"`"),
            ("64k", "`\"64KiB\"`"),
            ("1.5MiB", "`\"1536KiB\"`"),
            ("4 MiB", "`\"4MiB\"`"),
            ("4mib", "`\"4MiB\"`"),
            ("1TiB", "like `\"64KiB\"`"),
            ("99999999999999GiB", "smaller"),
        ] {
            let mistake = Bytes::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0..=365 * 24 * 3_600_000u64, bytes: usize) {
            let duration = Duration::from_millis(millis);
            assert_eq!(Duration::from_text(&show_duration(duration)), Ok(duration));
            assert_eq!(Bytes::from_text(&show_bytes(bytes)), Ok(Bytes(bytes)));
        }

        #[test]
        fn advice_about_any_text_does_not_panic(text in any::<String>(), other in "[0-9._ ]{0,30}[a-zA-Z]{0,4}") {
            for text in [text, other] {
                assert!(Duration::from_text(&text).is_ok_and(|d| d <= LONGEST) || Duration::from_text(&text).is_err());
                assert!(Bytes::from_text(&text).is_ok() || Bytes::from_text(&text).is_err());
            }
        }
    }
}
