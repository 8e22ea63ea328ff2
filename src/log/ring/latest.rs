//! The newest event of each key.
//!
//! What the ring retains is only referred to. What it evicts while it is still the newest of its key is
//! copied first, so that one event does not keep a whole batch in memory.
//!
//! An event that takes its key back is remembered as long as the ring has it, for those who may know the
//! key; then it is forgotten, and the key with it.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::config::{ConflateBy, Keying};
use crate::log::batch::Position;
use crate::log::id::Seq;
use crate::log::key::{Key, Keyed, Says};
use crate::log::retained::{OfKey, Older};
use crate::log::snapshot::Snapshots;
use crate::memory::{Budget, Held, WhatFor};

/// The newest event of each key, in the order of the log.
#[derive(Debug)]
pub(in crate::log) struct Latest {
    keying: Keying,
    /// Invariant: the values are the keys of `items`, and the other way round.
    seqs: HashMap<Key, Seq>,
    items: BTreeMap<Seq, Item>,
    /// Bytes of the copies, and of their keys. Invariant: not above the limit after [`Latest::evict`].
    kept_bytes: usize,
    /// What all of it takes in memory.
    held_bytes: usize,
    held: Held,
    /// Made of it last.
    pub(super) snapshots: Snapshots,
    /// See [`crate::log::Snapshot`].
    pub(super) lossy_until: Position,
    /// Whether keys are missing that no event took back.
    pub(super) is_partial: bool,
}

/// The newest event of a key.
#[derive(Debug)]
pub(super) struct Item {
    key: Key,
    /// Where it ends in the wire stream.
    pub(super) end: Position,
    pub(super) form: Form,
}

/// Where the event is.
#[derive(Debug)]
pub(super) enum Form {
    /// The ring has it no more.
    Kept {
        block: Box<[u8]>,
        appended_at: Instant,
    },
    /// The ring has it; it takes its key back.
    Removed,
    /// The ring has it.
    Retained,
}

impl Latest {
    pub(in crate::log) fn new(keying: Keying, budget: &Budget) -> Self {
        Self {
            keying,
            seqs: HashMap::new(),
            items: BTreeMap::new(),
            kept_bytes: 0,
            held_bytes: 0,
            held: budget.hold(WhatFor::Events, 0),
            snapshots: Snapshots::default(),
            lossy_until: 0,
            is_partial: false,
        }
    }

    pub(super) fn by(&self) -> &ConflateBy {
        &self.keying.by
    }

    /// Notes a new event.
    pub(super) fn note(&mut self, seq: Seq, end: Position, keyed: Keyed) {
        let Keyed { key, says } = keyed;
        if let Some(before) = self.seqs.insert(key.clone(), seq) {
            self.remove_item(before);
        }
        let form = match says {
            Says::Removed => Form::Removed,
            Says::Value => Form::Retained,
        };
        self.insert(seq, Item { key, end, form });
    }

    /// Takes over an event that an earlier log kept.
    pub(super) fn take_over(
        &mut self,
        (seq, end): (Seq, Position),
        key: &Key,
        block: &[u8],
        appended_at: Instant,
    ) {
        if self.seqs.contains_key(key) {
            return;
        }
        self.seqs.insert(key.clone(), seq);
        let key = key.clone();
        let form = Form::Kept {
            block: block.into(),
            appended_at,
        };
        self.insert(seq, Item { key, end, form });
    }

    /// Keeps an event that the ring is about to forget, if it is the newest of its key.
    pub(super) fn keep(&mut self, seq: Seq, block: Option<&[u8]>, appended_at: Instant) {
        let Some(item) = self.items.get(&seq) else {
            return;
        };
        let (end, is_removal) = (item.end, matches!(item.form, Form::Removed));
        let Some(block) = block.filter(|_| !is_removal) else {
            self.forget(seq);
            self.lossy_until = self.lossy_until.max(end);
            return;
        };
        if let Some(mut item) = self.remove_item(seq) {
            item.form = Form::Kept {
                block: block.into(),
                appended_at,
            };
            self.insert(seq, item);
        }
    }

    /// Gives up what is too much; returns how many keys that were.
    pub(super) fn evict(&mut self) -> u64 {
        self.drop_leading_gap();
        let mut n_given_up = 0;
        while self.items.len() > self.keying.limits.keys
            || self.kept_bytes > self.keying.limits.bytes
        {
            if !self.give_up_oldest() {
                break;
            }
            n_given_up += 1;
        }
        self.settle();
        n_given_up
    }

    /// Gives up what only this has, the oldest first, until `n_bytes` are free; returns how many keys
    /// and bytes that were.
    pub(super) fn give_up(&mut self, n_bytes: usize) -> (u64, usize) {
        let before = self.held_bytes;
        let mut n_given_up = 0;
        while before - self.held_bytes < n_bytes && self.oldest().is_some() {
            self.give_up_oldest();
            n_given_up += 1;
        }
        self.settle();
        (n_given_up, before - self.held_bytes)
    }

    /// Forgets everything: what follows is of another source.
    pub(super) fn clear(&mut self, head: Position) {
        self.seqs = HashMap::new();
        self.items = BTreeMap::new();
        (self.kept_bytes, self.held_bytes) = (0, 0);
        self.snapshots.clear();
        self.lossy_until = head;
        self.is_partial = false;
        self.settle();
    }

    /// What only this has, for the next process.
    pub(super) fn export(&self, now: Instant) -> Older<'_> {
        let events = self.items.iter().filter_map(|(seq, item)| {
            let Form::Kept { block, appended_at } = &item.form else {
                return None;
            };
            Some(OfKey {
                seq: seq.0,
                key: item.key.clone(),
                age: now.saturating_duration_since(*appended_at),
                block,
            })
        });
        Older {
            by: self.keying.by.to_string(),
            is_partial: self.is_partial,
            events: events.collect(),
        }
    }

    /// Bytes of the copies, and of their keys.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    pub(super) fn set_limits(&mut self, keying: Keying) -> u64 {
        self.keying = keying;
        self.snapshots.clear();
        self.evict()
    }

    /// When the oldest event was appended that only this has.
    pub(super) fn oldest(&self) -> Option<Instant> {
        match self.items.values().next()?.form {
            Form::Kept { appended_at, .. } => Some(appended_at),
            Form::Removed | Form::Retained => None,
        }
    }

    /// The events in the order of the log.
    pub(super) fn items(&self) -> impl Iterator<Item = (Seq, &Item)> {
        self.items.iter().map(|(seq, item)| (*seq, item))
    }

    /// How many keys there are.
    pub(super) fn n_keys(&self) -> usize {
        self.items.len()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// That events are missing is of no interest before all that is there, once the ring has forgotten
    /// it too.
    fn drop_leading_gap(&mut self) {
        if let Some((seq, item)) = self.items.first_key_value()
            && item.is_gap()
            && matches!(item.form, Form::Kept { .. })
        {
            let (seq, end) = (*seq, item.end);
            self.forget(seq);
            self.lossy_until = self.lossy_until.max(end);
        }
    }

    /// Returns whether there was one.
    fn give_up_oldest(&mut self) -> bool {
        let Some((seq, item)) = self.items.first_key_value() else {
            return false;
        };
        let (seq, end) = (*seq, item.end);
        self.lossy_until = self.lossy_until.max(end);
        self.is_partial |= !(item.is_gap() || matches!(item.form, Form::Removed));
        self.forget(seq);
        self.drop_leading_gap();
        true
    }

    fn forget(&mut self, seq: Seq) {
        if let Some(item) = self.remove_item(seq) {
            self.seqs.remove(&item.key);
        }
    }

    fn insert(&mut self, seq: Seq, item: Item) {
        self.kept_bytes += item.kept_bytes();
        self.held_bytes += item.footprint();
        self.items.insert(seq, item);
    }

    fn remove_item(&mut self, seq: Seq) -> Option<Item> {
        let item = self.items.remove(&seq)?;
        self.kept_bytes -= item.kept_bytes();
        self.held_bytes -= item.footprint();
        Some(item)
    }

    /// Counts what is held now.
    fn settle(&mut self) {
        if self.items.is_empty() {
            self.seqs.shrink_to_fit();
        }
        self.held.resize(self.held_bytes);
    }
}

impl Item {
    /// Whether it tells that events are missing before it.
    pub(super) fn is_gap(&self) -> bool {
        self.key == Key::Gap
    }

    fn kept_bytes(&self) -> usize {
        match &self.form {
            Form::Kept { block, .. } => block.len() + self.key.len(),
            Form::Removed | Form::Retained => 0,
        }
    }

    /// About what it takes in memory.
    fn footprint(&self) -> usize {
        // The map and the tree are never quite full.
        const PLACES: usize = 2 * (size_of::<(Seq, Item)>() + size_of::<(Key, Seq)>());
        let block = match &self.form {
            Form::Kept { block, .. } => block.len(),
            Form::Removed | Form::Retained => 0,
        };
        PLACES + block + 2 * self.key.len()
    }
}
