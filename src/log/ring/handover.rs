//! What a ring hands to its successor, and how it begins with what it was handed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Entry, Ring, Slot, WireId};
use crate::log::batch::BatchBuilder;
use crate::log::epochs::Epochs;
use crate::log::forgotten::Kind;
use crate::log::id::{Epoch, Seq};
use crate::log::retained::{Identity, Kept, Retained, Sheaf};

impl Ring {
    /// All that is retained; of that, no more than the newest `max_bytes`: the rest is evicted.
    pub(in crate::log) fn export(&mut self, max_bytes: usize, now: Instant) -> Retained<'_> {
        self.evict(now);
        while self.held_bytes() > max_bytes {
            self.evict_batch();
        }
        self.settle_entries();
        self.shrink_keys(max_bytes);
        let mut entries = self.entries().iter().peekable();
        let batches = self.batches().iter().map(|batch| {
            // The first batch may hold events that are evicted.
            let events = batch
                .payloads_from(batch.start())
                .filter_map(|(block, end)| {
                    let entry = entries.next_if(|entry| entry.end == end)?;
                    let identity = self.identity(entry);
                    Some(Kept { identity, block })
                });
            let events = events.collect();
            Sheaf {
                age: now.saturating_duration_since(batch.appended_at()),
                events,
            }
        });
        Retained {
            batches: batches.collect(),
            epochs: self.epochs.runs().collect(),
            first_seq: self.first_seq.0,
            forgotten: self.forgotten.export(),
            evicted: self.evicted.as_ref().map(|entry| Identity {
                is_ambiguous: self.is_evicted_ambiguous,
                ..self.identity(entry)
            }),
            source_from: self.source_from.0,
            latest: self.latest.as_ref().map(|latest| latest.export(now)),
        }
    }

    fn identity<'a>(&self, entry: &'a Entry) -> Identity<'a> {
        let origin_id = entry.origin_id.as_deref();
        let slot = origin_id.and_then(|id| self.slot(id));
        Identity {
            wire_id: entry.wire_id,
            origin_id,
            is_ambiguous: slot.is_some_and(|slot| slot.is_ambiguous),
            was_on_wire: slot.is_some_and(|slot| slot.was_on_wire),
        }
    }

    /// Begins with what an earlier ring retained, which was checked. The entries that follow are of
    /// the epoch `fresh`.
    pub(in crate::log) fn restore(
        &mut self,
        (retained, age): (&Retained<'_>, Duration),
        fresh: Epoch,
        now: Instant,
    ) {
        debug_assert!(self.head == 0, "the ring is new");
        self.first_seq = Seq(retained.first_seq);
        // The places of what is kept for its key: who stalls in the middle of it goes on after one.
        self.head = retained.n_older();
        self.forgotten.restore(&retained.forgotten);
        self.epochs = Epochs::restored(&retained.epochs, fresh, retained.next_seq());
        if let Some(identity) = &retained.evicted {
            if matches!(identity.wire_id, WireId::Gateway | WireId::Origin) {
                self.tip = retained.first_seq.checked_sub(1).map(Seq);
            }
            self.is_evicted_ambiguous = identity.is_ambiguous;
            self.evicted = Some(Entry::new(self.head, identity));
        }
        let mut builder = BatchBuilder::default();
        for sheaf in retained.batches.iter().filter(|one| !one.events.is_empty()) {
            let entries = sheaf.events.iter().map(|event| {
                if event.identity.wire_id == WireId::Notice {
                    builder.push_notice_block(event.block);
                } else {
                    builder.push_block(event.block);
                }
                Entry::new(self.head + builder.len() as u64, &event.identity)
            });
            let entries: Vec<Entry> = entries.collect();
            // Linux's monotonic clock has times before the boot.
            let appended_at = now
                .checked_sub(sheaf.age.saturating_add(age))
                .unwrap_or(now);
            let batch = builder.build((self.head, self.count), appended_at, &self.budget);
            builder.clear();
            self.push(&Arc::new(batch), entries.into_iter());
            for event in &sheaf.events {
                self.note_identity(&event.identity);
            }
        }
        self.source_from = Seq(retained.source_from.max(Seq::FIRST.0));
        self.take_over(retained.latest.as_ref(), (now, age));
        self.index_retained();
        self.evict(now);
        if self.budget.is_exceeded() {
            self.give_up(self.held_bytes(), 1);
        }
    }

    /// What was known of an id, and is not seen from the events that are left.
    fn note_identity(&mut self, identity: &Identity<'_>) {
        let slot = identity.origin_id.and_then(|id| self.slot_mut(id));
        if let Some(Slot {
            is_ambiguous,
            was_on_wire,
            ..
        }) = slot
        {
            *is_ambiguous |= identity.is_ambiguous;
            *was_on_wire |= identity.was_on_wire;
        }
    }
}

impl Entry {
    fn new(end: u64, identity: &Identity<'_>) -> Self {
        Self {
            end,
            origin_id: identity.origin_id.map(Arc::from),
            wire_id: identity.wire_id,
            kind: Kind::ANY,
        }
    }
}
