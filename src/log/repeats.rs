//! What an origin says again after a reconnect, and whether it went on where it was asked to.
//!
//! Decides about one event at a time, from what the log retains. Two errors are possible, and they
//! are not alike: an old event that is delivered again is a nuisance, a new one that is dropped is
//! lost. So only what is proven is dropped, and what can't be proven to follow is told.

use std::time::Duration;

use tokio::time::Instant;

use super::id::Seq;
use super::ring::{Ring, WireId, decimal};
use crate::sse::{self, Event};

/// The leading run of events that an origin repeats after a reconnect.
///
/// While the run lasts, events that repeat the log by id **and** bytes, in order, are dropped. The
/// first event that does not, or a pause, ends it for good, so that an origin that restarts and
/// counts from 1 again loses nothing.
#[derive(Debug)]
pub struct Repeats {
    /// Where the run goes on: what was repeated ends here. At first, where an origin goes on that
    /// resumes as it was asked to; `None`: that is not known.
    next: Option<Seq>,
    /// The first event that was not in the log when the connection began.
    end: Seq,
    /// How far the run is.
    progress: Progress,
    /// The origin's last id before the connection broke.
    last_id: String,
    /// Whether the origin's ids have been consecutive numbers.
    counts_by_one: bool,
    /// When the last repeat came; at first, when the connection began.
    last_at: Instant,
}

/// What an event means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It repeats the log: drop it.
    Repeat,
    /// It is new and follows what the log has, as far as anyone can tell.
    Resumed,
    /// It is new, and events before it may have been missed.
    Missed,
    /// It has no id, so it can't be proven a repeat, but it looks like one; whether events were
    /// missed is left to the next.
    Undecided,
}

/// What the run has been so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing came.
    Nothing,
    /// Events without an id, as the log has them after the origin's last id.
    Unidentified,
    /// Events with an id.
    Identified,
}

/// A repeating origin sends its history at once. One that pauses this long before an event is
/// counting anew, and the event is news even if it looks like an old one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Repeats {
    /// Watches a connection that was asked to go on after `last_id`.
    pub(super) fn new(ring: &Ring, last_id: &str, now: Instant) -> Self {
        let resumption = ring.last_with_origin_id().filter(|seq| {
            let entry = ring.event(*seq).map(|(entry, _)| entry);
            entry.is_some_and(|entry| entry.origin_id.as_deref() == Some(last_id))
        });
        Self {
            next: resumption.map(Seq::next),
            end: ring.next_seq(),
            progress: Progress::Nothing,
            last_id: last_id.to_owned(),
            counts_by_one: counts_by_one(ring, last_id),
            last_at: now,
        }
    }

    pub(super) fn judge(&mut self, ring: &Ring, event: &Event<'_>, now: Instant) -> Verdict {
        match event.id.filter(|id| !id.is_empty()) {
            Some(id) => self.judge_identified(ring, id, event, now),
            None => self.judge_unidentified(ring, event),
        }
    }

    fn judge_identified(
        &mut self,
        ring: &Ring,
        id: &str,
        event: &Event<'_>,
        now: Instant,
    ) -> Verdict {
        let next = self.next.filter(|_| self.progress == Progress::Identified);
        let expected = match next {
            Some(seq) => ring.next_with_origin_id(seq),
            None => ring.find_origin_id(id),
        };
        let has_paused = now - self.last_at > LONGEST_PAUSE;
        if let Some(seq) = expected.filter(|seq| *seq < self.end && !has_paused)
            && is_repeat(ring, seq, event)
        {
            self.next = Some(seq.next());
            self.progress = Progress::Identified;
            self.last_at = now;
            return Verdict::Repeat;
        }
        let follows = match next {
            Some(seq) => !self.is_outstanding(ring, seq),
            None => !ring.has_seen_origin_id(id) && !self.is_out_of_step(id),
        };
        if follows {
            Verdict::Resumed
        } else {
            Verdict::Missed
        }
    }

    /// An event without an id is delivered, whatever it looks like. But it tells whether the origin
    /// goes on where it was asked to, and it may be the last that ever comes: no later one would.
    fn judge_unidentified(&mut self, ring: &Ring, event: &Event<'_>) -> Verdict {
        let expected = self.next.and_then(|seq| ring.next_of_origin(seq));
        match expected.filter(|seq| *seq < self.end) {
            Some(seq) if is_repeat(ring, seq, event) => {
                self.next = Some(seq.next());
                if self.progress == Progress::Nothing {
                    self.progress = Progress::Unidentified;
                }
                Verdict::Undecided
            }
            None if self.progress != Progress::Nothing => Verdict::Resumed,
            Some(_) | None => Verdict::Missed,
        }
    }

    /// Whether the log had an event with an id, from `seq` on, that the run has not reached. What
    /// was forgotten meanwhile counts as one.
    fn is_outstanding(&self, ring: &Ring, seq: Seq) -> bool {
        let is_forgotten = seq < ring.first_seq();
        let outstanding = ring.next_with_origin_id(seq);
        seq < self.end && (is_forgotten || outstanding.is_some_and(|seq| seq < self.end))
    }

    /// Whether a counting origin can't go on with `id` after its last one: it gave that before, or
    /// it has left some out. (Honest origins do that, too, that count more than they send here; so
    /// it takes a row of consecutive numbers to think otherwise.)
    fn is_out_of_step(&self, id: &str) -> bool {
        let (Some(id), Some(last)) = (decimal(id), decimal(&self.last_id)) else {
            return false;
        };
        id <= last || (self.counts_by_one && id - last > 1)
    }
}

/// Whether the newest ids of the log are consecutive numbers, `last_id` the last of them.
fn counts_by_one(ring: &Ring, last_id: &str) -> bool {
    const FEWEST: usize = 3;
    const MOST: usize = 8;
    let mut n_seen = 0;
    let mut expected = decimal(last_id);
    for id in ring.origin_ids_from_newest().take(MOST) {
        if expected.is_none() || decimal(id) != expected {
            return false;
        }
        expected = expected.and_then(|number| number.checked_sub(1));
        n_seen += 1;
    }
    n_seen >= FEWEST
}

/// Whether an event, encoded with the id that its twin in the log has on the wire, is its twin.
fn is_repeat(ring: &Ring, seq: Seq, event: &Event<'_>) -> bool {
    let Some((entry, block)) = ring.event(seq) else {
        return false;
    };
    let gateway_id;
    let wire_id = match entry.wire_id {
        WireId::Gateway => {
            gateway_id = ring.own_id(seq);
            Some(gateway_id.as_str())
        }
        WireId::None => event.id,
        WireId::Notice => return false,
        WireId::Origin => entry.origin_id.as_deref(),
    };
    let mut encoded = Vec::with_capacity(block.len());
    sse::encode_event(
        &mut encoded,
        &Event {
            id: wire_id,
            ..*event
        },
    );
    let origin_id = event.id.filter(|id| !id.is_empty());
    entry.origin_id.as_deref() == origin_id && encoded == block
}
