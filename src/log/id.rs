//! Sequence numbers, and the ids that the gateway makes of them.

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
///
/// It is named by its number in base 36.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch that no earlier process had: the time in milliseconds and 16 random bits.
    pub fn fresh() -> Self {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| {
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            });
        Self((millis << 16) | u64::from(fastrand::u16(..)))
    }

    /// The epoch of this name; `None`: it is none that an epoch has.
    pub(super) fn named(name: &str) -> Option<Self> {
        let number = u64::from_str_radix(name, 36).ok()?;
        // Only the one spelling that we give out.
        (base36(number) == name).then_some(Self(number))
    }

    /// The epoch of this number.
    pub(super) fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// What its ids begin with.
    pub(super) fn name(self) -> String {
        base36(self.0)
    }

    /// The event id of `seq` in this epoch: `epoch-sequence`.
    pub fn id(self, seq: Seq) -> String {
        format!("{}-{}", self.name(), seq.0)
    }

    /// The id of the place behind `seq` in this epoch, whatever id the event there has:
    /// `epoch.sequence`.
    pub fn place(self, seq: Seq) -> String {
        format!("{}.{}", self.name(), seq.0)
    }

    /// The sequence number in an id of this epoch; `None` for any other text.
    pub fn seq_of(self, id: &str) -> Option<Seq> {
        self.number_behind('-', id)
    }

    /// The sequence number in the id of a place in this epoch; `None` for any other text.
    pub fn seq_of_place(self, id: &str) -> Option<Seq> {
        self.number_behind('.', id)
    }

    fn number_behind(self, separator: char, id: &str) -> Option<Seq> {
        let (name, digits) = id.rsplit_once(separator)?;
        if Self::named(name) != Some(self) {
            return None;
        }
        let seq: u64 = digits.parse().ok()?;
        // Only the one spelling that we give out: no `+`, no leading zeros.
        (seq.to_string() == digits).then_some(Seq(seq))
    }
}

/// Whether a gateway, this or another, may have made an id: whether it has the form of ours, and the
/// time that it names is one at which there were any. An origin's id that looks so by chance is only
/// not asked for.
pub fn may_be_of_a_gateway(id: &str) -> bool {
    /// 2024-01-01, in milliseconds.
    const FIRST: u64 = 1_704_067_200_000;
    const CLOCKS_DIFFER: u64 = 24 * 3600 * 1000;
    let Some((epoch, seq)) = id.rsplit_once(['-', '.']) else {
        return false;
    };
    let is_own_spelling = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !epoch.chars().all(is_own_spelling) {
        return false;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(u64::MAX, |now| {
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    });
    let millis = u64::from_str_radix(epoch, 36).map(|number| number >> 16);
    millis.is_ok_and(|millis| (FIRST..now.saturating_add(CLOCKS_DIFFER)).contains(&millis))
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
    fn an_id_of_a_gateway_is_known_by_its_form() {
        assert!(may_be_of_a_gateway(&Epoch::fresh().id(Seq(1))));
        assert!(may_be_of_a_gateway(&Epoch::fresh().id(Seq(123_456))));
        for id in [
            "",
            "1",
            "-",
            "-1",
            "1-",
            "1732480000000-5",
            "0190f3a2-8f1c-7e5b",
            "Abc-1",
            "2024-11-24",
            "zzzzzzzzzzzzzzzz-1",
            "a-b-1",
        ] {
            assert!(!may_be_of_a_gateway(id), "{id}");
        }
    }

    #[test]
    fn an_id_reads_back_as_its_sequence_number() {
        let epoch = Epoch::fresh();
        for n in [1, 9, 10, u64::MAX] {
            assert_eq!(epoch.seq_of(&epoch.id(Seq(n))), Some(Seq(n)));
            assert_eq!(epoch.seq_of_place(&epoch.place(Seq(n))), Some(Seq(n)));
            assert_eq!(epoch.seq_of(&epoch.place(Seq(n))), None);
        }
    }

    #[test]
    fn other_texts_are_not_ours() {
        let epoch = Epoch::named("abc").expect("a name");
        for id in [
            "", "abc", "abc-", "abc-+5", "abc-05", "abc--5", "abd-5", "abc-5 ", "5",
        ] {
            assert_eq!(epoch.seq_of(id), None, "{id:?}");
        }
    }

    #[test]
    fn an_epoch_is_a_number() {
        let epoch = Epoch::fresh();
        assert_eq!(Epoch::of_number(epoch.number()), epoch);
        assert_eq!(Epoch::named(&epoch.name()), Some(epoch));
        for name in ["", "abc-", "A", "+5", "05", "zzzzzzzzzzzzzzzzzzzzz"] {
            assert_eq!(Epoch::named(name), None, "{name:?}");
        }
    }

    #[test]
    fn base36_has_no_padding() {
        assert_eq!(base36(0), "0");
        assert_eq!(base36(35), "z");
        assert_eq!(base36(36), "10");
    }
}
