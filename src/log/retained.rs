//! What a log retains, as a value that outlives the process: for its successor.
//!
//! Pure data, borrowed from the log or from the bytes that it is read from. Who writes it where, and
//! whether it can be trusted, is not known here; but what is read is checked as if a peer had sent it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::forgotten::ForgottenTypes;
use super::id::{Epoch, Seq};
use super::key::Key;
use super::ring::WireId;
use super::writer::MAX_ID_BYTES;

/// The retained part of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained<'a> {
    /// The epochs, each with the first number that it named, the oldest first.
    pub(super) epochs: Vec<(String, u64)>,
    /// The number of the first event.
    pub(super) first_seq: u64,
    /// What is known of the events before that.
    #[serde(borrow)]
    pub(super) forgotten: ForgottenTypes<'a>,
    /// The event before that, which can be resumed from, too.
    pub(super) evicted: Option<Identity<'a>>,
    /// In order.
    pub(super) batches: Vec<Sheaf<'a>>,
    /// The number of the first event of the present source, if there is one.
    pub(super) source_from: u64,
    /// The newest events of their keys that are older than all that.
    pub(super) latest: Option<Older<'a>>,
}

/// Events that are kept for their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Older<'a> {
    /// What makes the keys, as the configuration says it.
    pub(super) by: String,
    /// Whether keys are missing.
    pub(super) is_partial: bool,
    /// In order.
    #[serde(borrow)]
    pub(super) events: Vec<OfKey<'a>>,
}

/// An event that is kept for its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfKey<'a> {
    pub(super) seq: u64,
    pub(super) key: Key,
    /// How long ago it was appended.
    pub(super) age: Duration,
    #[serde(borrow, with = "serde_bytes")]
    pub(super) block: &'a [u8],
}

/// The events of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sheaf<'a> {
    /// How long ago it was appended.
    pub(super) age: Duration,
    #[serde(borrow)]
    pub(super) events: Vec<Kept<'a>>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept<'a> {
    #[serde(borrow)]
    pub(super) identity: Identity<'a>,
    /// As it is on the wire, without the framing.
    #[serde(borrow, with = "serde_bytes")]
    pub(super) block: &'a [u8],
}

/// What an event is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity<'a> {
    pub(super) wire_id: WireId,
    pub(super) origin_id: Option<&'a str>,
    /// Nobody knows which event with this origin id a subscriber saw.
    pub(super) is_ambiguous: bool,
    /// Some event with this origin id had it on the wire, if not this one.
    pub(super) was_on_wire: bool,
}

/// Why what was read can't be what a log retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    /// An event is not one block of an event stream.
    #[error("an event that is none")]
    Block,
    /// An id is missing, empty or too long.
    #[error("an event id that is none")]
    Id,
    /// Numbers overlap, or are none that a log can have reached.
    #[error("numbers that no log gave")]
    Numbers,
}

/// A number that no log reaches, far from where adding overflows.
const MAX_SEQ: u64 = 1 << 56;

impl Retained<'_> {
    /// How many events there are.
    pub fn n_events(&self) -> usize {
        self.batches.iter().map(|batch| batch.events.len()).sum()
    }

    /// How many events are kept for their keys.
    pub(super) fn n_older(&self) -> u64 {
        let latest = self.latest.as_ref();
        latest.map_or(0, |latest| latest.events.len() as u64)
    }

    /// The number of the event after the last.
    pub(super) fn next_seq(&self) -> Seq {
        Seq(self.first_seq + self.n_events() as u64)
    }

    /// Checks all that a log relies on.
    ///
    /// # Errors
    ///
    /// What is not as a log would have written it.
    pub fn check(&self) -> Result<(), Implausible> {
        if !(1..MAX_SEQ).contains(&self.first_seq) {
            return Err(Implausible::Numbers);
        }
        if !self.forgotten.is_plausible(self.first_seq) {
            return Err(Implausible::Numbers);
        }
        let firsts = self.epochs.iter().map(|(_, first)| *first);
        // None but the first is without numbers.
        let later = firsts.clone().skip(1);
        let is_in_order =
            firsts.clone().take(2).is_sorted() && later.is_sorted_by(|one, next| one < next);
        let last = self.epochs.last().map_or(1, |(_, first)| *first);
        if !is_in_order || last > self.next_seq().0 {
            return Err(Implausible::Numbers);
        }
        if (self.epochs.iter()).any(|(name, _)| Epoch::named(name).is_none()) {
            return Err(Implausible::Id);
        }
        let events = self.batches.iter().flat_map(|batch| &batch.events);
        if let Some(evicted) = &self.evicted {
            evicted.check()?;
        }
        for event in events {
            event.identity.check()?;
            check_block(event.block)?;
        }
        if self.source_from > self.next_seq().0 {
            return Err(Implausible::Numbers);
        }
        let older = self
            .latest
            .as_ref()
            .map_or(&[][..], |latest| &latest.events);
        let is_in_order = older.is_sorted_by(|one, next| one.seq < next.seq);
        if !is_in_order || older.last().is_some_and(|last| last.seq >= self.first_seq) {
            return Err(Implausible::Numbers);
        }
        older.iter().try_for_each(|event| check_block(event.block))
    }
}

fn check_block(block: &[u8]) -> Result<(), Implausible> {
    if block.len() <= 2 || !block.ends_with(b"\n\n") {
        return Err(Implausible::Block);
    }
    Ok(())
}

impl Identity<'_> {
    fn check(&self) -> Result<(), Implausible> {
        let is_id = |id: &str| !id.is_empty() && id.len() <= MAX_ID_BYTES;
        match (self.origin_id, self.wire_id) {
            (Some(id), WireId::Gateway | WireId::Origin) if is_id(id) => Ok(()),
            (None, WireId::Gateway | WireId::None | WireId::Notice) => Ok(()),
            (Some(_), _) | (None, WireId::Origin) => Err(Implausible::Id),
        }
    }
}
