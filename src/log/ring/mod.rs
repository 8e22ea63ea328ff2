//! The ring: what is retained of the wire stream, and the index of its ids.
//!
//! Pure: the time is an argument. Two ends move: `append` at the head, `evict` at the tail. Events
//! leave one by one when there are too many, and batch by batch when they are too old or too large,
//! because a batch is the unit of memory.
//!
//! ```text
//!   batches   [ b0      ][ b1 ][ b2            ]
//!   entries        e4 e5  e6    e7 e8 e9          (e0…e3 evicted by count, b0 still in memory)
//!              tail ^                           ^ head
//! ```

mod handover;
mod latest;
mod lookup;
mod newcomers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use memchr::memrchr;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(in crate::log) use self::lookup::decimal;
pub(in crate::log) use self::newcomers::Begin;
use crate::config::History;
use crate::log::batch::{Batch, Count, Position};
use crate::log::epochs::Epochs;
use crate::log::forgotten::{Forgotten, Kind};
use crate::log::id::{Epoch, Seq};
use crate::log::key::Keyed;
use crate::log::ring::latest::Latest;
use crate::log::view::Selection;
use crate::memory::{Budget, Held, WhatFor};

/// What the log keeps of an event besides its bytes.
#[derive(Debug, Clone)]
pub(in crate::log) struct Entry {
    /// Position after the event.
    pub(in crate::log) end: Position,
    /// The origin's id, if it gave one that is not empty.
    pub(in crate::log) origin_id: Option<Arc<str>>,
    /// The id that subscribers see.
    pub(in crate::log) wire_id: WireId,
    /// What it counts for when it is evicted; the ring sets it.
    pub(in crate::log) kind: Kind,
}

/// Which id an event carries on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::log) enum WireId {
    /// `epoch-sequence`
    Gateway,
    /// None: an event of an origin that gives none, with `ids = "upstream"`.
    None,
    /// None: a notice, which is no event of the origin's.
    Notice,
    /// The origin's.
    Origin,
}

/// The retained part of a log.
#[derive(Debug)]
pub(in crate::log) struct Ring {
    budget: Budget,
    limits: History,
    epochs: Epochs,
    /// What is retained. In a box, because many logs of a gateway with many retain nothing most of the
    /// time.
    contents: Option<Box<Contents>>,
    /// The number of the oldest entry, or of the next one if there is none.
    first_seq: Seq,
    /// The event before the oldest entry: who has seen it has missed nothing that is gone.
    evicted: Option<Entry>,
    /// Whether its origin id was that of other retained events, so that nobody knows which of them
    /// a subscriber saw.
    is_evicted_ambiguous: bool,
    /// The newest event that has an id on the wire, retained or not.
    tip: Option<Seq>,
    /// Invariant: the end of the last batch that was appended.
    head: Position,
    /// What the log has had up to the head.
    count: Count,
    /// How often an id came again with other content.
    n_ambiguous: u64,
    /// What is still known of evicted events.
    forgotten: Forgotten,
    /// The newest event of each key, where somebody wants it.
    latest: Option<Box<Latest>>,
    /// The first event of the present source.
    source_from: Seq,
    /// Keys that had to go, for want of room.
    n_keys_given_up: u64,
}

/// The batches and entries of a ring.
#[derive(Debug)]
struct Contents {
    /// In order, without gaps.
    batches: VecDeque<Arc<Batch>>,
    /// The retained events, in order. Invariant: all of them lie in `batches`.
    entries: VecDeque<Entry>,
    /// Bytes held by `batches`, chunk framing included.
    ///
    /// Invariant: the sum of their lengths; not above `limits.bytes` when `append` returns, unless
    /// the one remaining batch alone is.
    held_bytes: usize,
    /// Bytes that `entries` and `index` take.
    ///
    /// Invariant: the sum of the footprints of `entries`.
    entry_bytes: usize,
    /// Counts `entry_bytes`.
    held_entries: Held,
    /// Origin ids of the retained events.
    index: HashMap<Arc<str>, Slot>,
}

/// What the index knows of one origin id.
#[derive(Debug)]
struct Slot {
    /// The first retained event with this id.
    seq: Seq,
    /// How many retained events have it.
    n_entries: usize,
    /// Whether "the event with this id" is a guess.
    is_ambiguous: bool,
    /// Whether any event had this id on the wire. If not, no subscriber got it from here.
    was_on_wire: bool,
}

impl Entry {
    /// About what it takes in memory besides its bytes on the wire.
    fn footprint(&self) -> usize {
        // The reference counts, and a place in the index, which is never quite full.
        const ID_BYTES: usize = 16 + 2 * size_of::<(Arc<str>, Slot)>();
        let id = self.origin_id.as_deref();
        size_of::<Self>() + id.map_or(0, |id| id.len() + ID_BYTES)
    }
}

impl Ring {
    pub(in crate::log) fn new(limits: History, epoch: Epoch, budget: &Budget) -> Self {
        Self {
            limits,
            epochs: Epochs::new(epoch),
            contents: None,
            first_seq: Seq::FIRST,
            evicted: None,
            is_evicted_ambiguous: false,
            tip: None,
            head: 0,
            count: Count::default(),
            budget: budget.clone(),
            n_ambiguous: 0,
            forgotten: Forgotten::new(budget),
            latest: None,
            source_from: Seq::FIRST,
            n_keys_given_up: 0,
        }
    }

    /// Tells event types apart from now on when they are evicted, or no longer.
    pub(in crate::log) fn tell_types(&mut self, tells_types: bool) {
        self.forgotten.tell_types(tells_types);
    }

    /// Appends a batch with its entries, then evicts what the limits demand.
    pub(in crate::log) fn append(
        &mut self,
        batch: &Arc<Batch>,
        entries: impl Iterator<Item = Entry>,
        keys: impl Iterator<Item = (Seq, Keyed)>,
        now: Instant,
    ) {
        let n_bytes = batch.len();
        self.push(batch, entries);
        self.note_keys(keys);
        self.evict(now);
        if self.budget.is_exceeded() {
            // So that appending never makes it worse, until somebody evicts where it hurts least.
            self.give_up(n_bytes, 1);
        }
    }

    fn push(&mut self, batch: &Arc<Batch>, entries: impl Iterator<Item = Entry>) {
        debug_assert_eq!(batch.start(), self.head, "the wire stream has no gaps");
        self.head = batch.end();
        self.count = batch.count_at(self.head);
        let budget = &self.budget;
        let contents = self
            .contents
            .get_or_insert_with(|| Box::new(Contents::new(budget)));
        contents.held_bytes += batch.len();
        contents.batches.push_back(Arc::clone(batch));
        for (mut entry, (block, _)) in entries.zip(batch.payloads_from(batch.start())) {
            entry.kind = match entry.wire_id {
                WireId::Notice => Kind::of_notice(block),
                _ => self.forgotten.note_appended(block),
            };
            self.index_entry(&entry);
            if matches!(entry.wire_id, WireId::Gateway | WireId::Origin) {
                self.tip = Some(self.next_seq());
            }
            if let Some(contents) = &mut self.contents {
                contents.entry_bytes += entry.footprint();
                contents.entries.push_back(entry);
            }
        }
    }

    /// Names the entries that follow after another epoch.
    pub(in crate::log) fn begin_epoch(&mut self, epoch: Epoch) {
        // The entry before the oldest that is retained can be resumed from, too.
        let oldest = Seq(self.first_seq.0.saturating_sub(1));
        self.epochs.begin(epoch, self.next_seq(), oldest);
        self.forget_source();
    }

    /// Takes for granted that the first entry follows the origin's event with this id.
    pub(in crate::log) fn begin_after(&mut self, origin_id: &str) {
        if self.head == 0 && self.evicted.is_none() {
            self.evicted = Some(Entry {
                end: self.head,
                origin_id: Some(Arc::from(origin_id)),
                wire_id: WireId::Origin,
                kind: Kind::ANY,
            });
        }
    }

    /// Retains so much from now on.
    pub(in crate::log) fn set_limits(&mut self, limits: History, now: Instant) {
        self.limits = limits;
        self.evict(now);
    }

    /// Drops what is over the limits; returns whether anything left memory.
    pub(in crate::log) fn evict(&mut self, now: Instant) -> bool {
        while self.n_events() > self.limits.events {
            self.evict_entry();
        }
        let held_before = self.held_bytes();
        while let Some(oldest) = self.batches().front() {
            let is_too_old = self
                .limits
                .age
                .is_some_and(|age| now - oldest.appended_at() > age);
            let is_too_much = self.held_bytes() > self.limits.bytes && self.batches().len() > 1;
            let is_unused = self
                .entries()
                .front()
                .is_none_or(|entry| entry.end > oldest.end());
            if !(is_too_old || is_too_much || is_unused) {
                break;
            }
            self.evict_batch();
        }
        self.settle_entries();
        self.evict_keys();
        if let Some(latest) = &mut self.latest {
            latest.snapshots.expire(now);
        }
        self.held_bytes() < held_before
    }

    /// Drops the oldest batches, as many as free `n_bytes`, but not the newest `n_kept`; returns how
    /// much was freed.
    pub(in crate::log) fn give_up(&mut self, n_bytes: usize, n_kept: usize) -> usize {
        if let Some(latest) = &mut self.latest {
            latest.snapshots.clear();
        }
        let held = |ring: &Self| {
            let entries = ring.contents.as_ref().map_or(0, |one| one.entry_bytes);
            ring.held_bytes() + entries + ring.latest_bytes()
        };
        let held_before = held(self);
        // What is copied on the way out is not free.
        let freed = |ring: &Self| held_before.saturating_sub(held(ring));
        while self.batches().len() > n_kept && freed(self) < n_bytes {
            self.evict_batch();
        }
        self.settle_entries();
        self.evict_keys();
        let missing = n_bytes.saturating_sub(freed(self));
        self.give_up_keys(missing);
        freed(self)
    }

    /// Drops the oldest batch with its entries.
    fn evict_batch(&mut self) {
        let Some(oldest) = self.batches().front() else {
            return;
        };
        let (end, n_bytes) = (oldest.end(), oldest.len());
        while self.entries().front().is_some_and(|entry| entry.end <= end) {
            self.evict_entry();
        }
        if let Some(contents) = &mut self.contents {
            contents.batches.pop_front();
            contents.held_bytes -= n_bytes;
        }
    }

    /// When the oldest batch was appended; without any, the oldest event that is kept for its key.
    pub(in crate::log) fn oldest(&self) -> Option<Instant> {
        let oldest = self.batches().front().map(|batch| batch.appended_at());
        oldest.or_else(|| self.latest.as_ref()?.oldest())
    }

    fn evict_entry(&mut self) {
        self.keep_newest_of_key();
        let Some(contents) = &mut self.contents else {
            return;
        };
        let Some(entry) = contents.entries.pop_front() else {
            return;
        };
        contents.entry_bytes -= entry.footprint();
        let seq = self.first_seq;
        self.first_seq = seq.next();
        self.is_evicted_ambiguous = false;
        self.forgotten.note_evicted(entry.kind, seq);
        if let Some(id) = &entry.origin_id
            && let Some(slot) = contents.index.get_mut(id)
        {
            slot.n_entries -= 1;
            if slot.n_entries == 0 {
                self.is_evicted_ambiguous = slot.is_ambiguous;
                contents.index.remove(id);
            } else if slot.seq == seq {
                // Later events have this id too; which of them a subscriber saw is not known.
                slot.is_ambiguous = true;
            }
        }
        self.evicted = Some(entry);
    }

    fn index_entry(&mut self, entry: &Entry) {
        let Some(id) = &entry.origin_id else { return };
        let seq = self.next_seq();
        let is_on_wire = entry.wire_id == WireId::Origin;
        let Some(known) = self.slot(id) else {
            let slot = Slot {
                seq,
                n_entries: 1,
                is_ambiguous: false,
                was_on_wire: is_on_wire,
            };
            if let Some(contents) = &mut self.contents {
                contents.index.insert(Arc::clone(id), slot);
            }
            return;
        };
        // The new event is not in `entries` yet: its bytes begin where the last entry ended.
        let start = self
            .entries()
            .back()
            .map_or_else(|| self.tail(), |last| last.end);
        let new = self.payload_between(start, entry.end).map(without_id);
        // An ID whose first event is gone is ambiguous already, and nothing is left to compare.
        let known = self.payload_of(known.seq).map(without_id);
        let is_other = known.is_some() && known != new;
        if let Some(slot) = self.slot_mut(id) {
            slot.n_entries += 1;
            slot.is_ambiguous |= is_other;
            slot.was_on_wire |= is_on_wire;
            self.n_ambiguous += u64::from(is_other);
        }
    }

    /// The newest evicted event that a subscriber with this selection would miss; 0: there is none.
    pub(in crate::log) fn newest_forgotten(&self, selection: &Selection) -> Seq {
        self.forgotten.newest(selection)
    }

    /// The epoch of an entry.
    pub(in crate::log) fn epoch_of(&self, seq: Seq) -> Epoch {
        self.epochs.epoch_of(seq)
    }

    /// Where a retained entry begins; the head for the next one.
    pub(in crate::log) fn start_of(&self, seq: Seq) -> Position {
        let before = seq
            .0
            .checked_sub(1)
            .and_then(|before| self.entry(Seq(before)));
        before.map_or_else(|| self.tail(), |before| before.end)
    }

    /// The batches that hold the wire stream from `at` to the head.
    pub(in crate::log) fn batches_from(
        &self,
        at: Position,
    ) -> impl DoubleEndedIterator<Item = &Arc<Batch>> {
        self.batches_between(at, self.head)
    }

    /// The batches that hold it from `at` to `to`, which is where one of them begins or ends.
    pub(in crate::log) fn batches_between(
        &self,
        at: Position,
        to: Position,
    ) -> impl DoubleEndedIterator<Item = &Arc<Batch>> {
        let n_before = |at| self.batches().partition_point(|batch| batch.end() <= at);
        let (first, end) = (n_before(at), n_before(to));
        self.batches().range(first.min(end)..end)
    }

    /// The id and the encoded block of a retained event.
    pub(in crate::log) fn event(&self, seq: Seq) -> Option<(&Entry, &[u8])> {
        Some((self.entry(seq)?, self.payload_of(seq)?))
    }

    /// The number that the next entry will get.
    pub(in crate::log) fn next_seq(&self) -> Seq {
        Seq(self.first_seq.0 + self.n_events() as u64)
    }

    /// The number of the oldest retained entry, or of the next one if there is none.
    pub(in crate::log) fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// The id of ours that an event has or would have.
    pub(in crate::log) fn own_id(&self, seq: Seq) -> String {
        self.epochs.id(seq)
    }

    pub(in crate::log) fn head(&self) -> Position {
        self.head
    }

    /// What the log has had up to the head.
    pub(in crate::log) fn count(&self) -> Count {
        self.count
    }

    pub(in crate::log) fn held_bytes(&self) -> usize {
        self.contents.as_ref().map_or(0, |one| one.held_bytes)
    }

    pub(in crate::log) fn n_events(&self) -> usize {
        self.entries().len()
    }

    pub(in crate::log) fn n_ambiguous(&self) -> u64 {
        self.n_ambiguous
    }

    /// Distinct origin ids in the index.
    #[cfg(test)]
    pub(in crate::log) fn n_indexed_ids(&self) -> usize {
        self.contents.as_ref().map_or(0, |one| one.index.len())
    }

    /// The position of the oldest retained event; the head if there is none.
    pub(in crate::log) fn tail(&self) -> Position {
        if self.entries().is_empty() {
            return self.head;
        }
        let from_batches = self
            .batches()
            .front()
            .map_or(self.head, |batch| batch.start());
        self.evicted
            .as_ref()
            .map_or(from_batches, |entry| entry.end)
    }

    fn entry(&self, seq: Seq) -> Option<&Entry> {
        let index = usize::try_from(seq.0.checked_sub(self.first_seq.0)?).ok()?;
        self.entries().get(index)
    }

    fn entries(&self) -> &VecDeque<Entry> {
        static NONE: VecDeque<Entry> = VecDeque::new();
        self.contents.as_ref().map_or(&NONE, |one| &one.entries)
    }

    fn batches(&self) -> &VecDeque<Arc<Batch>> {
        static NONE: VecDeque<Arc<Batch>> = VecDeque::new();
        self.contents.as_ref().map_or(&NONE, |one| &one.batches)
    }

    fn slot(&self, origin_id: &str) -> Option<&Slot> {
        self.contents.as_ref()?.index.get(origin_id)
    }

    fn slot_mut(&mut self, origin_id: &str) -> Option<&mut Slot> {
        self.contents.as_mut()?.index.get_mut(origin_id)
    }

    /// Counts what the entries take now.
    fn settle_entries(&mut self) {
        if let Some(contents) = &mut self.contents {
            contents.held_entries.resize(contents.entry_bytes);
        }
    }

    /// Gives back what an empty ring has in reserve, if it is empty: nothing comes for a while.
    pub(in crate::log) fn rest(&mut self) {
        if self.batches().is_empty() {
            self.contents = None;
        }
    }

    fn retained_or_last_evicted(&self, seq: Seq) -> Option<&Entry> {
        if seq.next() == self.first_seq {
            self.evicted.as_ref()
        } else {
            self.entry(seq)
        }
    }

    fn payload_of(&self, seq: Seq) -> Option<&[u8]> {
        let end = self.entry(seq)?.end;
        let start = match seq
            .0
            .checked_sub(1)
            .and_then(|before| self.entry(Seq(before)))
        {
            Some(before) => before.end,
            None => self.tail(),
        };
        self.payload_between(start, end)
    }

    /// The block of the event that starts at `start` and ends at `end`.
    fn payload_between(&self, start: Position, end: Position) -> Option<&[u8]> {
        let batch = self.batches_from(start).next()?;
        batch
            .payloads_from(start)
            .next()
            .and_then(|(bytes, payload_end)| (payload_end == end).then_some(bytes))
    }
}

impl Contents {
    fn new(budget: &Budget) -> Self {
        Self {
            batches: VecDeque::new(),
            entries: VecDeque::new(),
            held_bytes: 0,
            entry_bytes: 0,
            held_entries: budget.hold(WhatFor::Events, 0),
            index: HashMap::new(),
        }
    }
}

/// The lines of a block before its ID, which comes last and may be ours: what the origin said.
fn without_id(block: &[u8]) -> &[u8] {
    let fields = block.strip_suffix(b"\n\n").unwrap_or(block);
    let last = memrchr(b'\n', fields).map_or(0, |end| end + 1);
    match fields.split_at_checked(last) {
        Some((before, last)) if last.starts_with(b"id:") => before,
        _ => fields,
    }
}
