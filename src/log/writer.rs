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
    builder: BatchBuilder,
    /// Entries of the events in `builder`; their ends count from its start.
    entries: Vec<Entry>,
    /// What makes the key of an event, if somebody wants to know.
    by: Option<ConflateBy>,
    /// Keys of the events in `builder`.
    keys: Vec<(Seq, Keyed)>,
    /// The number that the next event gets.
    next_seq: Seq,
    /// The head of the log, without what is in `builder`.
    head: Position,
    /// What the log has had up to there.
    count: Count,
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
            builder: BatchBuilder::default(),
            entries: Vec::new(),
            by: None,
            keys: Vec::new(),
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
        if let Some(by) = &self.by {
            self.keys.push((self.next_seq, Keyed::of(event, by)));
        }
        let ours = (wire_id == WireId::Gateway).then(|| self.epoch.id(self.next_seq));
        // An empty id takes the last one back (WHATWG HTML, 9.2.6), which only the origin may do.
        let theirs = origin_id.or(event.id.filter(|id| id.is_empty()));
        self.builder.push(&Event {
            id: ours.as_deref().or(theirs),
            ..*event
        });
        self.note_entry(origin_id.map(Arc::from), wire_id);
    }

    /// Encodes a notice: an event of ours, without an id, so that no cursor moves.
    pub fn push_notice(&mut self, event_type: &str, data: &str) {
        if self.by.is_some()
            && let Some(keyed) = Keyed::of_notice(event_type)
        {
            self.keys.push((self.next_seq, keyed));
        }
        self.builder.push_notice(event_type, data);
        self.note_entry(None, WireId::Notice);
    }

    /// Takes an event that is encoded already, with an id of its own.
    pub(super) fn push_block(&mut self, block: &[u8]) {
        self.builder.push_block(block);
        self.note_entry(None, WireId::None);
    }

    /// Takes a notice that is encoded already.
    pub(super) fn push_notice_block(&mut self, block: &[u8]) {
        self.builder.push_notice_block(block);
        self.note_entry(None, WireId::Notice);
    }

    fn note_entry(&mut self, origin_id: Option<Arc<str>>, wire_id: WireId) {
        let end = self.head + self.builder.len() as u64;
        self.entries.push(Entry {
            end,
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
        self.log.lock().ring.begin_epoch(self.epoch.clone());
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
        let fresh = self.epoch.clone();
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
        self.by = keying.as_ref().map(|keying| keying.by.clone());
        self.log.lock().ring.set_keying(keying);
    }

    /// What our ids begin with.
    #[cfg(any(test, fuzzing))]
    pub(super) fn epoch_text(&self) -> String {
        let id = self.epoch.id(Seq::FIRST);
        id.trim_end_matches("-1").to_owned()
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
        self.builder.len()
    }

    /// Appends what was encoded and tells the shards; returns how many events that were.
    pub fn commit(&mut self, now: Instant) -> usize {
        if self.builder.is_empty() {
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
        let n_events = self.entries.len();
        let mut state = self.log.lock();
        let state = &mut *state;
        if let Some(batch) = &batch {
            let entries = self.entries.drain(..);
            state.ring.append(batch, entries, &mut self.keys, now);
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
        if self.builder.is_empty() {
            return None;
        }
        let start = (self.head, self.count);
        let batch = Arc::new(self.builder.build(start, now, self.log.budget()));
        self.builder.clear();
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
