//! The one who appends to a log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, BatchBuilder, Count, Position};
use super::forgotten::Kind;
use super::id::{Epoch, Seq};
use super::key::Keyed;
use super::repeats::{Repeats, Verdict};
use super::retained::{Implausible, Retained};
use super::ring::{Entry, WireId};
use super::view::Places;
use super::{Ending, Log};
use crate::config::{ConflateBy, Ids, Keying};
use crate::sse::Event;

/// Encodes events and appends them to its log, batch by batch.
#[derive(Debug)]
pub struct Writer {
    log: Log,
    ids: Ids,
    epoch: Epoch,
    /// What is encoded and not yet appended. In a box, because most logs of a gateway with many are idle
    /// most of the time; it is kept for its capacity, until [`Writer::rest`].
    pending: Option<Box<Pending>>,
    /// The keys of events, if somebody wants to know.
    keys: Option<Box<Keys>>,
    /// The number that the next event gets.
    next_seq: Seq,
    /// The head of the log, without what is in `builder`.
    head: Position,
    /// What the log has had up to there.
    count: Count,
}

#[derive(Debug, Default)]
struct Pending {
    builder: BatchBuilder,
    /// Entries of the events in `builder`; their ends count from its start.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Keys {
    /// What makes the key of an event.
    by: ConflateBy,
    /// Those of the events that are pending.
    pending: Vec<(Seq, Keyed)>,
}

/// Longest id that anybody can resume from. What is longer fits into no header field on its way
/// back, and would be memory that `history.bytes` does not bound; it counts as none.
pub const MAX_ID_BYTES: usize = 4 * 1024;

impl Writer {
    /// A writer of an empty log.
    pub(super) fn new(log: Log, ids: Ids, epoch: Epoch) -> Self {
        Self {
            log,
            ids,
            epoch,
            pending: None,
            keys: None,
            next_seq: Seq::FIRST,
            head: 0,
            count: Count::default(),
        }
    }

    /// Encodes an event of the origin.
    pub fn push(&mut self, event: &Event<'_>) {
        let origin_id = event
            .id
            .filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES);
        let wire_id = match (self.ids, origin_id) {
            (Ids::Fill | Ids::Upstream, Some(_)) => WireId::Origin,
            (Ids::Fill, None) | (Ids::Gateway, _) => WireId::Gateway,
            (Ids::Upstream, None) => WireId::None,
        };
        if let Some(Keys { by, pending }) = self.keys.as_deref_mut() {
            pending.push((self.next_seq, Keyed::of(event, by)));
        }
        let ours = (wire_id == WireId::Gateway).then(|| self.epoch.id(self.next_seq));
        // An empty id takes the last one back (WHATWG HTML, 9.2.6), which only the origin may do.
        let theirs = origin_id.or(event.id.filter(|id| id.is_empty()));
        self.pending().builder.push(&Event {
            id: ours.as_deref().or(theirs),
            ..*event
        });
        self.note_entry(origin_id.map(Arc::from), wire_id);
    }

    /// Encodes a notice: an event of ours, without an id, so that no cursor moves.
    pub fn push_notice(&mut self, event_type: &str, data: &str) {
        if let Some(keys) = &mut self.keys
            && let Some(keyed) = Keyed::of_notice(event_type)
        {
            keys.pending.push((self.next_seq, keyed));
        }
        self.pending().builder.push_notice(event_type, data);
        self.note_entry(None, WireId::Notice);
    }

    /// Takes an event that is encoded already, with an id of its own.
    pub(super) fn push_block(&mut self, block: &[u8]) {
        self.pending().builder.push_block(block);
        self.note_entry(None, WireId::None);
    }

    /// Takes a notice that is encoded already.
    pub(super) fn push_notice_block(&mut self, block: &[u8]) {
        self.pending().builder.push_notice_block(block);
        self.note_entry(None, WireId::Notice);
    }

    fn note_entry(&mut self, origin_id: Option<Arc<str>>, wire_id: WireId) {
        let head = self.head;
        let Pending { builder, entries } = self.pending();
        entries.push(Entry {
            end: head + builder.len() as u64,
            origin_id,
            wire_id,
            kind: Kind::ANY,
        });
        self.next_seq = self.next_seq.next();
    }

    /// Begins a new epoch: what follows is no continuation of what is there. The events so far keep
    /// their ids, and can be resumed from as before. What was encoded is appended first.
    pub fn begin_epoch(&mut self, now: Instant) {
        self.commit(now);
        self.epoch = Epoch::fresh();
        self.log.lock().ring.begin_epoch(self.epoch);
    }

    /// Begins a new log with what an earlier one retained `age` ago; the events that follow are of a
    /// new epoch. So no id is given twice, even if two logs begin with the same.
    ///
    /// # Errors
    ///
    /// If no log retained that; the log is empty then.
    pub fn restore(
        &mut self,
        retained: &Retained<'_>,
        age: Duration,
        now: Instant,
    ) -> Result<(), Implausible> {
        retained.check()?;
        let mut state = self.log.lock();
        let fresh = self.epoch;
        state.ring.restore((retained, age), fresh, now);
        self.next_seq = state.ring.next_seq();
        self.head = state.ring.head();
        self.count = state.ring.count();
        Ok(())
    }

    /// Takes for granted that the first event of this log, which has none yet, follows the origin's event
    /// with this id: who has seen that one has missed nothing.
    pub fn begin_after(&mut self, origin_id: &str) {
        self.log.lock().ring.begin_after(origin_id);
    }

    /// Gives the events that follow ids of this kind. Those so far keep theirs.
    pub fn set_ids(&mut self, ids: Ids) {
        self.ids = ids;
    }

    /// Knows the events by their keys from now on, or no longer; those that are retained too.
    pub fn set_keying(&mut self, keying: Option<Keying>, now: Instant) {
        // What is pending is known by the keys before.
        self.commit(now);
        self.keys = keying.as_ref().map(|keying| {
            Box::new(Keys {
                by: keying.by.clone(),
                pending: Vec::new(),
            })
        });
        self.log.lock().ring.set_keying(keying);
    }

    /// What our ids begin with.
    #[cfg(test)]
    pub(super) fn epoch_text(&self) -> String {
        self.epoch.name()
    }

    /// The present epoch.
    #[cfg(any(test, fuzzing))]
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number that the next event gets.
    pub(super) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// The log.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Bytes encoded and not yet appended.
    pub fn pending_bytes(&self) -> usize {
        let pending = self.pending.as_ref();
        pending.map_or(0, |pending| pending.builder.len())
    }

    /// Appends what was encoded, and gives up the memory that it was encoded in: nothing comes for a
    /// while.
    pub fn rest(&mut self, now: Instant) {
        self.commit(now);
        self.pending = None;
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    fn has_pending(&self) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| !pending.builder.is_empty())
    }

    /// Appends what was encoded and tells the shards; returns how many events that were.
    pub fn commit(&mut self, now: Instant) -> usize {
        if !self.has_pending() {
            return 0;
        }
        self.commit_places(now, |_, _| {})
    }

    /// The same, and notes in the same moment where the events of a view are from. `note` is given the
    /// number of the oldest retained event, and is called also if there is nothing to append.
    pub(super) fn commit_places(
        &mut self,
        now: Instant,
        note: impl FnOnce(&mut Places, Seq),
    ) -> usize {
        let batch = self.take_batch(now);
        let mut n_events = 0;
        let mut state = self.log.lock();
        let state = &mut *state;
        if let (Some(batch), Some(pending)) = (&batch, &mut self.pending) {
            n_events = pending.entries.len();
            let keys = self.keys.iter_mut();
            let keys = keys.flat_map(|keys| keys.pending.drain(..));
            state
                .ring
                .append(batch, pending.entries.drain(..), keys, now);
        }
        if let Some(places) = &mut state.places {
            note(places, state.ring.first_seq());
        }
        if let Some(batch) = &batch {
            // Under the lock, so that every feed sees the batches in order.
            for feed in &state.feeds {
                feed.push(batch);
            }
        }
        n_events
    }

    fn take_batch(&mut self, now: Instant) -> Option<Arc<Batch>> {
        let pending = self.pending.as_mut();
        let builder = &mut pending.filter(|one| !one.builder.is_empty())?.builder;
        let start = (self.head, self.count);
        let batch = Arc::new(builder.build(start, now, self.log.budget()));
        builder.clear();
        self.head = batch.end();
        self.count = batch.count_at(self.head);
        Some(batch)
    }

    /// Tells that no more events will come. What was encoded is appended first.
    pub fn end(&mut self, ending: Ending, now: Instant) {
        self.commit(now);
        self.set_ended(Some(ending));
    }

    /// Takes the end back: more events will come.
    pub fn reopen(&mut self) {
        self.set_ended(None);
    }

    fn set_ended(&self, ended: Option<Ending>) {
        let mut state = self.log.lock();
        state.ended = ended;
        for feed in &state.feeds {
            feed.set_ended(ended);
        }
    }

    /// Begins to watch for repeats on a new connection to the origin, whose last id was `last_id`.
    pub fn expect_repeats(&self, last_id: &str, now: Instant) -> Repeats {
        Repeats::new(&self.log.lock().ring, last_id, now)
    }

    /// Judges an event of a new connection. After any verdict but [`Verdict::Repeat`] and
    /// [`Verdict::Undecided`] the run is over, and `repeats` must not be asked again.
    pub fn judge(&self, repeats: &mut Repeats, event: &Event<'_>, now: Instant) -> Verdict {
        repeats.judge(&self.log.lock().ring, event, now)
    }
}
