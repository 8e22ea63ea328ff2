//! Where a newcomer starts, and the newest event of each key that it may start with.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::latest::{Form, Latest};
use super::{Ring, WireId};
use crate::config::{Join, Keying, OnGap};
use crate::log::batch::{BatchBuilder, Count, Position};
use crate::log::id::Seq;
use crate::log::key::Keyed;
use crate::log::replay::{Follows, Replay, Wish};
use crate::log::retained::Older;
use crate::log::snapshot::{Removals, Snapshot};
use crate::sse::{BlockReader, Event};

/// Where somebody starts.
#[derive(Debug)]
pub(in crate::log) struct Begin {
    pub(in crate::log) at: Position,
    pub(in crate::log) replay: Replay,
    pub(in crate::log) follows: Follows,
    pub(in crate::log) snapshot: Option<Arc<Snapshot>>,
}

impl Ring {
    /// Where a subscriber starts, and what that means.
    pub(in crate::log) fn begin(&mut self, wish: &Wish<'_>, now: Instant) -> Begin {
        match wish.last_event_id.map(|id| self.locate(id)) {
            None => self.begin_with(Replay::Fresh, wish, now),
            Some(Ok(at)) => Begin {
                at,
                replay: Replay::Complete,
                follows: Follows::Rest,
                snapshot: None,
            },
            Some(Err(replay)) => self.begin_with(replay, wish, now),
        }
    }

    /// Where a subscriber starts of whom nobody knows what it has seen.
    pub(in crate::log) fn begin_with(
        &mut self,
        replay: Replay,
        wish: &Wish<'_>,
        now: Instant,
    ) -> Begin {
        let join = match (replay, wish.on_gap) {
            (Replay::Complete | Replay::Fresh, _) => wish.join,
            (Replay::Expired | Replay::Unknown, OnGap::All) => Join::All,
            (Replay::Expired | Replay::Unknown, OnGap::Latest) => Join::Latest,
            (Replay::Expired | Replay::Unknown, OnGap::Live) => Join::Live,
        };
        let snapshot = match join {
            Join::Latest => self.snapshot(Removals::Omitted, now),
            Join::All | Join::Live | Join::Newest(_) => None,
        };
        let (at, follows) = match (join, &snapshot) {
            (_, Some(snapshot)) => (snapshot.at, Follows::Latest),
            // Nobody knows the keys: a reload has just asked for them, and the writer has yet to.
            (Join::All | Join::Latest, None) => (self.tail(), Follows::All),
            (Join::Live, None) => (self.head, Follows::Live),
            (Join::Newest(n), None) => (self.before_newest(n), Follows::Newest),
        };
        Begin {
            at,
            replay,
            follows,
            snapshot,
        }
    }

    /// An id to resume from exactly here, behind all that there is: that of the newest event, if it is
    /// as good.
    pub(in crate::log) fn head_id(&self) -> String {
        let newest = Seq(self.next_seq().0.saturating_sub(1));
        let entry = self.retained_or_last_evicted(newest);
        let own_id = entry.and_then(|entry| match entry.wire_id {
            WireId::Gateway => Some(self.epochs.id(newest)),
            WireId::Origin => entry.origin_id.as_deref().map(str::to_owned),
            WireId::None | WireId::Notice => None,
        });
        let is_exact = |id: &String| self.locate(id) == Ok(self.head);
        own_id
            .filter(is_exact)
            .unwrap_or_else(|| self.epochs.place(newest))
    }

    /// The position behind the event with this number.
    pub(super) fn locate_place(&self, seq: Seq) -> Result<Position, Replay> {
        match seq.next().cmp(&self.first_seq) {
            Ordering::Less => Err(Replay::Expired),
            Ordering::Equal => Ok(self.tail()),
            Ordering::Greater => {
                let entry = self.entry(seq);
                entry.map(|entry| entry.end).ok_or(Replay::Unknown)
            }
        }
    }

    /// The position before the newest `n` events of the origin's.
    fn before_newest(&self, n: usize) -> Position {
        let mut left = n;
        let newer = self.entries().iter().rev().take_while(|entry| {
            let is_wanted = left > 0;
            left -= usize::from(is_wanted && entry.wire_id != WireId::Notice);
            is_wanted
        });
        let n_newer = newer.count();
        let before = self.entries().len().checked_sub(n_newer + 1);
        let before = before.and_then(|index| self.entries().get(index));
        before.map_or_else(|| self.tail(), |entry| entry.end)
    }

    /// The newest event of each key; `None` if nobody has wanted to know it so far.
    pub(in crate::log) fn snapshot(
        &mut self,
        removals: Removals,
        now: Instant,
    ) -> Option<Arc<Snapshot>> {
        let latest = self.latest.as_ref()?;
        let retained = (self.tail(), self.head);
        if let Some(made) = latest.snapshots.usable(removals, retained, now) {
            return Some(made);
        }
        let snapshot = Arc::new(self.make_snapshot(latest, removals, now));
        if let Some(latest) = &mut self.latest {
            latest.snapshots.keep(removals, &snapshot, now);
        }
        Some(snapshot)
    }

    fn make_snapshot(&self, latest: &Latest, removals: Removals, now: Instant) -> Snapshot {
        let mut builder = BatchBuilder::default();
        let mut places = Vec::with_capacity(latest.n_keys());
        for (seq, item) in latest.items() {
            let is_for_others = match removals {
                Removals::Omitted => {
                    // Before all that there is, nothing is missing.
                    matches!(item.form, Form::Removed) || (item.is_gap() && places.is_empty())
                }
                Removals::Told => false,
            };
            if is_for_others {
                continue;
            }
            let block = match &item.form {
                Form::Kept { block, .. } => Some(&**block),
                Form::Removed | Form::Retained => self.event(seq).map(|(_, block)| block),
            };
            if let Some(block) = block {
                places.push((item.end, builder.len() as u64));
                if item.is_gap() {
                    builder.push_notice_block(block);
                } else {
                    builder.push_block(block);
                }
            }
        }
        let is_empty = builder.is_empty();
        Snapshot {
            at: self.head,
            batch: (!is_empty)
                .then(|| Arc::new(builder.build((0, Count::default()), now, &self.budget))),
            places: places.into(),
            lossy_until: latest.lossy_until,
            is_partial: latest.is_partial,
            made_at: now,
        }
    }

    /// Notes the keys of new events.
    pub(super) fn note_keys(&mut self, keys: impl Iterator<Item = (Seq, Keyed)>) {
        let Some(mut latest) = self.latest.take() else {
            return;
        };
        for (seq, keyed) in keys {
            if let Some(end) = self.entry(seq).map(|entry| entry.end) {
                latest.note(seq, end, keyed);
            }
        }
        self.latest = Some(latest);
    }

    /// Keeps the oldest entry's event, which is about to be evicted, if it is the newest of its key.
    pub(super) fn keep_newest_of_key(&mut self) {
        let Some(mut latest) = self.latest.take() else {
            return;
        };
        if let Some(batch) = self.batches().front() {
            latest.keep(
                self.first_seq,
                self.payload_of(self.first_seq),
                batch.appended_at(),
            );
        }
        self.latest = Some(latest);
    }

    /// Keeps within the limits of keys.
    pub(super) fn evict_keys(&mut self) {
        if let Some(latest) = &mut self.latest {
            self.n_keys_given_up += latest.evict();
        }
    }

    /// Gives up what is kept for its key only, as much as frees `n_bytes`.
    pub(super) fn give_up_keys(&mut self, n_bytes: usize) {
        if let Some(latest) = &mut self.latest
            && n_bytes > 0
        {
            let (n_given_up, _) = latest.give_up(n_bytes);
            self.n_keys_given_up += n_given_up;
        }
    }

    /// Bytes that are held for the newest events of each key, besides those that are retained.
    pub(super) fn latest_bytes(&self) -> usize {
        self.latest.as_ref().map_or(0, |latest| latest.held_bytes())
    }

    /// What follows is of another source: what the one before said last is no state any more.
    pub(super) fn forget_source(&mut self) {
        self.source_from = self.next_seq();
        if let Some(latest) = &mut self.latest {
            latest.clear(self.head);
        }
    }

    /// Knows events by these keys from now on, those that are retained too.
    pub(in crate::log) fn set_keying(&mut self, keying: Option<Keying>) {
        let Some(keying) = keying else {
            self.latest = None;
            return;
        };
        if let Some(latest) = &mut self.latest
            && *latest.by() == keying.by
        {
            self.n_keys_given_up += latest.set_limits(keying);
            return;
        }
        let mut latest = Box::new(Latest::new(keying, &self.budget));
        // What was before is not known by these keys.
        latest.is_partial = self.source_from < self.first_seq;
        latest.lossy_until = self.tail();
        self.latest = Some(latest);
        self.index_retained();
        self.evict_keys();
    }

    /// Begins with what an earlier log kept, if it knew events by the same keys.
    pub(super) fn take_over(&mut self, older: Option<&Older<'_>>, (now, age): (Instant, Duration)) {
        let Some(latest) = &mut self.latest else {
            return;
        };
        let Some(older) = older.filter(|older| older.by == latest.by().to_string()) else {
            latest.is_partial = self.source_from < self.first_seq;
            return;
        };
        latest.is_partial = older.is_partial;
        for (end, event) in (1..).zip(&older.events) {
            let appended_at = now.checked_sub(event.age.saturating_add(age));
            let appended_at = appended_at.unwrap_or(now);
            latest.take_over((Seq(event.seq), end), &event.key, event.block, appended_at);
        }
    }

    /// Gives up what is kept for its key only, but the newest `max_bytes`.
    pub(super) fn shrink_keys(&mut self, max_bytes: usize) {
        let kept = self.latest.as_ref().map_or(0, |latest| latest.kept_bytes());
        self.give_up_keys(kept.saturating_sub(max_bytes));
    }

    /// Notes the keys of what is retained of the present source.
    pub(super) fn index_retained(&mut self) {
        let Some(mut latest) = self.latest.take() else {
            return;
        };
        let by = latest.by().clone();
        let first = self.source_from.max(self.first_seq);
        let mut reader = BlockReader::new();
        for number in first.0..self.next_seq().0 {
            let seq = Seq(number);
            let Some((entry, block)) = self.event(seq) else {
                continue;
            };
            let (origin_id, is_notice) =
                (entry.origin_id.as_deref(), entry.wire_id == WireId::Notice);
            let keyed = reader.read(block, |event| {
                let event = Event {
                    id: origin_id,
                    ..*event
                };
                if is_notice {
                    Keyed::of_notice(event.event_type)
                } else {
                    Some(Keyed::of(&event, &by))
                }
            });
            if let Some(keyed) = keyed.flatten() {
                latest.note(seq, entry.end, keyed);
            }
        }
        self.latest = Some(latest);
    }

    /// How many keys there are, and how many had to go.
    pub(in crate::log) fn n_keys(&self) -> (usize, u64) {
        let n_keys = self.latest.as_ref().map_or(0, |latest| latest.n_keys());
        (n_keys, self.n_keys_given_up)
    }
}
