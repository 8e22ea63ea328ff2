//! Sequence numbers, and the ids that the gateway makes of them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The place of an entry in its log, counted from 1. Never reused, whatever [`Epoch`] follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl Seq {
    /// The first entry of a log.
    pub const FIRST: Self = Self(1);

    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What tells one run of sequence numbers from another, so that a run that begins anew can't be taken
/// for the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// An epoch that no earlier process had: the time in milliseconds and 16 random bits, base 36.
    pub fn fresh() -> Self {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| {
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            });
        Self(base36((millis << 16) | u64::from(fastrand::u16(..))).into())
    }

    /// An epoch that an earlier process had.
    pub(super) fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The epoch of this number.
    pub(super) fn of_number(number: u64) -> Self {
        Self(base36(number).into())
    }

    /// The number that its name writes; `None`: its name is none that [`Epoch::fresh`] gives.
    pub(super) fn number(&self) -> Option<u64> {
        let number = u64::from_str_radix(&self.0, 36).ok()?;
        (*base36(number) == *self.0).then_some(number)
    }

    /// What its ids begin with.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The event id of `seq` in this epoch: `epoch-sequence`.
    pub fn id(&self, seq: Seq) -> String {
        format!("{}-{}", self.0, seq.0)
    }

    /// The sequence number in an id of this epoch; `None` for any other text.
    pub fn seq_of(&self, id: &str) -> Option<Seq> {
        let digits = id.strip_prefix(&*self.0)?.strip_prefix('-')?;
        let seq: u64 = digits.parse().ok()?;
        // Only the one spelling that we give out: no `+`, no leading zeros.
        (seq.to_string() == digits).then_some(Seq(seq))
    }
}

fn base36(mut n: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(n % 36).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        n /= 36;
        if n == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_its_sequence_number() {
        let epoch = Epoch::fresh();
        for n in [1, 9, 10, u64::MAX] {
            assert_eq!(epoch.seq_of(&epoch.id(Seq(n))), Some(Seq(n)));
        }
    }

    #[test]
    fn other_texts_are_not_ours() {
        let epoch = Epoch("abc".into());
        for id in [
            "", "abc", "abc-", "abc-+5", "abc-05", "abc--5", "abd-5", "abc-5 ", "5",
        ] {
            assert_eq!(epoch.seq_of(id), None, "{id:?}");
        }
    }

    #[test]
    fn an_epoch_is_a_number() {
        let epoch = Epoch::fresh();
        assert_eq!(epoch.number().map(Epoch::of_number), Some(epoch));
        for name in ["", "abc-", "A", "+5", "05", "zzzzzzzzzzzzzzzzzzzzz"] {
            assert_eq!(Epoch::named(name).number(), None, "{name:?}");
        }
    }

    #[test]
    fn base36_has_no_padding() {
        assert_eq!(base36(0), "0");
        assert_eq!(base36(35), "z");
        assert_eq!(base36(36), "10");
    }
}
