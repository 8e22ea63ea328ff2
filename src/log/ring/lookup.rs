//! Which event an id is of, and the retained entries by what they carry.
//!
//! By index where subscribers ask, so that an id costs the same however long the history is.

use super::{Entry, Ring, WireId};
use crate::log::batch::Position;
use crate::log::id::{Epoch, Seq};
use crate::log::replay::Replay;

impl Ring {
    /// The position after the event with this id, or why there is none.
    pub(super) fn locate(&self, id: &str) -> Result<Position, Replay> {
        if let Some(slot) = self.slot(id).filter(|slot| slot.was_on_wire) {
            let is_clear = !slot.is_ambiguous && !self.may_be_ours(id);
            let entry = self.entry(slot.seq).filter(|_| is_clear);
            return entry.map(|entry| entry.end).ok_or(Replay::Unknown);
        }
        let evicted = self.evicted.as_ref();
        let evicted = evicted.filter(|entry| entry.wire_id == WireId::Origin);
        if let Some(evicted) = evicted.and_then(|entry| entry.origin_id.as_deref()) {
            if evicted == id {
                let is_clear = !self.is_evicted_ambiguous && !self.may_be_ours(id);
                return is_clear.then(|| self.tail()).ok_or(Replay::Unknown);
            }
            if is_older(id, evicted) {
                return Err(Replay::Expired);
            }
        }
        if let Some(seq) = self.epochs.find_place(id, self.next_seq()) {
            return self.locate_place(seq);
        }
        let seq = self.epochs.find(id, self.next_seq());
        let seq = seq.ok_or(Replay::Unknown)?;
        if seq.next() < self.first_seq {
            return Err(Replay::Expired);
        }
        self.retained_or_last_evicted(seq)
            .filter(|entry| entry.wire_id == WireId::Gateway)
            .map(|entry| entry.end)
            .ok_or(Replay::Unknown)
    }

    /// Whether an event may have had this id from us. An origin that gives it to another makes it
    /// ambiguous, whether by chance or because it has seen ours.
    fn may_be_ours(&self, id: &str) -> bool {
        if self.epochs.find_place(id, self.next_seq()).is_some() {
            return true;
        }
        let seq = self.epochs.find(id, self.next_seq());
        seq.is_some_and(|seq| {
            let entry = self.retained_or_last_evicted(seq);
            entry.is_none_or(|entry| entry.wire_id == WireId::Gateway)
        })
    }

    /// The number of an entry of this epoch, or else of the one event that has this origin id, if a
    /// subscriber that has it has all before it, as far as they are retained.
    pub(in crate::log) fn number_of(
        &self,
        epoch: Epoch,
        seq: Seq,
        origin_id: Option<&str>,
    ) -> Option<Seq> {
        if self.epochs.has_reached(epoch, seq, self.next_seq()) {
            return Some(seq);
        }
        let id = origin_id?;
        if let Some(slot) = self.slot(id) {
            return (slot.n_entries == 1 && !slot.is_ambiguous).then_some(slot.seq);
        }
        let evicted = self.evicted.as_ref()?.origin_id.as_deref();
        let is_evicted = evicted == Some(id) && !self.is_evicted_ambiguous;
        is_evicted.then(|| Seq(self.first_seq.0.saturating_sub(1)))
    }

    /// The number of the entry that a subscriber has seen last that shows this id. The entry need not
    /// be retained.
    pub(in crate::log) fn number_of_id(&self, id: &str) -> Result<Seq, Replay> {
        match self.locate(id) {
            Ok(at) => {
                let n_seen = self.entries().partition_point(|entry| entry.end <= at);
                Ok(Seq((self.first_seq.0 + n_seen as u64).saturating_sub(1)))
            }
            // One of ours, then: an index of all that were ever given.
            Err(Replay::Expired) => {
                let ours = self.epochs.find(id, self.next_seq());
                ours.ok_or(Replay::Expired)
            }
            Err(replay) => Err(replay),
        }
    }

    /// The retained event with this origin id, if there is exactly one.
    pub(in crate::log) fn find_origin_id(&self, id: &str) -> Option<Seq> {
        let slot = self.slot(id)?;
        (slot.n_entries == 1 && !slot.is_ambiguous).then_some(slot.seq)
    }

    /// Whether an id is that of a retained event, or of the last one that was evicted.
    pub(in crate::log) fn has_seen_origin_id(&self, id: &str) -> bool {
        self.slot(id).is_some()
            || self
                .evicted
                .as_ref()
                .is_some_and(|entry| entry.origin_id.as_deref() == Some(id))
    }

    /// The newest entry that has an origin id.
    pub(in crate::log) fn last_with_origin_id(&self) -> Option<Seq> {
        let found = self
            .entries()
            .iter()
            .rposition(|entry| entry.origin_id.is_some())?;
        Some(Seq(self.first_seq.0 + found as u64))
    }

    /// The origin ids of the retained entries, the newest first.
    pub(in crate::log) fn origin_ids_from_newest(&self) -> impl Iterator<Item = &str> {
        let entries = self.entries().iter().rev();
        entries.filter_map(|entry| entry.origin_id.as_deref())
    }

    /// The first retained entry at or after `seq` that has an origin id.
    pub(in crate::log) fn next_with_origin_id(&self, seq: Seq) -> Option<Seq> {
        self.find_from(seq, |entry| entry.origin_id.is_some())
    }

    /// Whether a retained event after `at` has an id on the wire.
    pub(in crate::log) fn has_id_from(&self, at: Position) -> bool {
        let first = self.entries().partition_point(|entry| entry.end <= at);
        let mut rest = self.entries().range(first..);
        rest.any(|entry| matches!(entry.wire_id, WireId::Gateway | WireId::Origin))
    }

    /// Whether anything but notices follows a position.
    pub(in crate::log) fn has_event_from(&self, at: Position) -> bool {
        let first = self.entries().partition_point(|entry| entry.end <= at);
        let mut rest = self.entries().range(first..);
        rest.any(|entry| entry.wire_id != WireId::Notice)
    }

    /// The first retained entry at or after `seq` that is an event of the origin's.
    pub(in crate::log) fn next_of_origin(&self, seq: Seq) -> Option<Seq> {
        self.find_from(seq, |entry| entry.wire_id != WireId::Notice)
    }

    fn find_from(&self, seq: Seq, is_wanted: impl Fn(&Entry) -> bool) -> Option<Seq> {
        let first = seq.max(self.first_seq);
        let from = usize::try_from(first.0 - self.first_seq.0).ok()?;
        let found = self.entries().iter().skip(from).position(is_wanted)?;
        Some(Seq(first.0 + found as u64))
    }

    /// The id of the newest event that has one, if it can be resumed from.
    pub(in crate::log) fn tip_id(&self) -> Option<String> {
        let seq = self.tip?;
        let entry = self.retained_or_last_evicted(seq)?;
        match entry.wire_id {
            WireId::Gateway => Some(self.epochs.id(seq)),
            WireId::Origin => entry.origin_id.as_deref().map(str::to_owned),
            WireId::None | WireId::Notice => None,
        }
    }
}

/// Whether `id` was given before `other`, as far as counting origins go: both are decimal numbers.
fn is_older(id: &str, other: &str) -> bool {
    matches!((decimal(id), decimal(other)), (Some(id), Some(other)) if id < other)
}

/// The value of an id that is a plain decimal number.
pub(in crate::log) fn decimal(id: &str) -> Option<u64> {
    id.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| id.parse().ok())
        .flatten()
}
