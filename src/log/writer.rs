//! The one who appends to a log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{BatchBuilder, Position};
use super::id::{Epoch, Seq};
use super::ring::{Entry, WireId, decimal};
use super::{Ending, Log, is_repeat};
use crate::config::Ids;
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
    /// The number that the next event gets.
    next_seq: Seq,
    /// The head of the log, without what is in `builder`.
    head: Position,
}

/// The leading run of events that an origin repeats after a reconnect.
///
/// While the run lasts, events that repeat the log by id **and** bytes, in order, are dropped. The
/// first event that does not, or a pause, ends it for good, so that an origin that restarts and
/// counts from 1 again loses nothing.
#[derive(Debug)]
pub struct Repeats {
    /// What the next event must repeat; `None` before the first event.
    next: Option<Seq>,
    /// The first event that was not in the log when the connection began.
    end: Seq,
    /// The origin's last id before the connection broke.
    last_id: Option<String>,
    /// When the last repeat came.
    last_at: Instant,
    /// Whether the event just before the break had an id of the origin.
    was_last_identified: bool,
}

/// What an event means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It repeats the log: drop it.
    Repeat,
    /// It is new and follows what the log has, as far as anyone can tell.
    Resumed,
    /// It is new, and events before it were missed.
    Missed,
    /// It is new, and whether events were missed is left to the next one.
    Undecided,
}

/// A repeating origin sends its history at once. One that pauses this long between two events is
/// counting anew, and its next event is news even if it looks like an old one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Writer {
    /// A writer of an empty log.
    pub(super) fn new(log: Log, ids: Ids, epoch: Epoch) -> Self {
        Self {
            log,
            ids,
            epoch,
            builder: BatchBuilder::default(),
            entries: Vec::new(),
            next_seq: Seq::FIRST,
            head: 0,
        }
    }

    /// Encodes an event of the origin.
    pub fn push(&mut self, event: &Event<'_>) {
        let origin_id = event.id.filter(|id| !id.is_empty());
        let wire_id = match (self.ids, origin_id) {
            (Ids::Fill | Ids::Upstream, Some(_)) => WireId::Origin,
            (Ids::Fill, None) | (Ids::Gateway, _) => WireId::Gateway,
            (Ids::Upstream, None) => WireId::None,
        };
        if wire_id == WireId::Gateway {
            let id = self.epoch.id(self.next_seq);
            self.builder.push(&Event {
                id: Some(&id),
                ..*event
            });
        } else {
            self.builder.push(event);
        }
        self.note_entry(origin_id.map(Arc::from), wire_id);
    }

    /// Encodes a notice: an event of ours, without an id, so that no cursor moves.
    pub fn push_notice(&mut self, event_type: &str, data: &str) {
        self.builder.push(&Event {
            event_type,
            data,
            id: None,
        });
        self.note_entry(None, WireId::None);
    }

    fn note_entry(&mut self, origin_id: Option<Arc<str>>, wire_id: WireId) {
        let end = self.head + self.builder.len() as u64;
        self.entries.push(Entry {
            end,
            origin_id,
            wire_id,
        });
        self.next_seq = self.next_seq.next();
    }

    /// What our ids begin with.
    #[cfg(test)]
    pub(super) fn epoch_text(&self) -> String {
        let id = self.epoch.id(Seq::FIRST).to_string();
        id.trim_end_matches("-1").to_owned()
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
        let batch = Arc::new(self.builder.build(self.head, now));
        self.builder.clear();
        self.head = batch.end();
        let n_events = self.entries.len();
        let mut state = self.log.lock();
        state
            .ring
            .append(Arc::clone(&batch), self.entries.drain(..), now);
        // Under the lock, so that every feed sees the batches in order.
        for feed in &state.feeds {
            feed.push(&batch);
        }
        n_events
    }

    /// Tells that no more events will come. What was encoded is appended first.
    pub fn end(&mut self, ending: Ending, now: Instant) {
        self.commit(now);
        let mut state = self.log.lock();
        state.ended = Some(ending);
        for feed in &state.feeds {
            feed.end(ending);
        }
    }

    /// Begins to watch for repeats on a new connection to the origin, whose last id was `last_id`.
    pub fn expect_repeats(&self, last_id: Option<&str>, now: Instant) -> Repeats {
        let state = self.log.lock();
        let last = state.ring.next_seq().0.checked_sub(1).map(Seq);
        Repeats {
            next: None,
            end: state.ring.next_seq(),
            last_id: last_id.map(str::to_owned),
            last_at: now,
            was_last_identified: last
                .and_then(|seq| state.ring.event(seq))
                .is_some_and(|(entry, _)| entry.origin_id.is_some()),
        }
    }

    /// Judges an event of a new connection. After any verdict but [`Verdict::Repeat`] and
    /// [`Verdict::Undecided`] the run is over, and `repeats` must not be asked again.
    pub fn judge(&self, repeats: &mut Repeats, event: &Event<'_>, now: Instant) -> Verdict {
        let Some(id) = event.id.filter(|id| !id.is_empty()) else {
            return repeats.judge_unidentified();
        };
        let state = self.log.lock();
        let ring = &state.ring;
        let expected = match repeats.next {
            Some(seq) => ring.next_with_origin_id(seq),
            None => ring.find_origin_id(id),
        };
        let has_paused = repeats.next.is_some() && now - repeats.last_at > LONGEST_PAUSE;
        if let Some(seq) = expected.filter(|seq| *seq < repeats.end && !has_paused)
            && is_repeat(ring, seq, event)
        {
            repeats.next = Some(seq.next());
            repeats.last_at = now;
            return Verdict::Repeat;
        }
        let has_reached_end = repeats.next.is_some_and(|seq| {
            ring.next_with_origin_id(seq)
                .is_none_or(|seq| seq >= repeats.end)
        });
        let is_news = !ring.has_seen_origin_id(id) && !repeats.is_before_last(id);
        match repeats.next {
            Some(_) if has_reached_end => Verdict::Resumed,
            None if is_news => Verdict::Resumed,
            _ => Verdict::Missed,
        }
    }
}

impl Repeats {
    /// An event without an id can't be proven a repeat, so it is delivered.
    fn judge_unidentified(&self) -> Verdict {
        if self.next.is_none() && self.was_last_identified {
            Verdict::Missed
        } else {
            Verdict::Undecided
        }
    }

    /// Whether a counting origin gave `id` before its last one.
    fn is_before_last(&self, id: &str) -> bool {
        let last = self.last_id.as_deref().and_then(decimal);
        matches!((decimal(id), last), (Some(id), Some(last)) if id <= last)
    }
}
