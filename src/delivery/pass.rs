//! A pass: one visit to every subscriber of a group, in an order that begins elsewhere each time.

use std::sync::Arc;

use tokio::time::Instant;

use super::tally::Tally;
use super::wire::{Framing, Wire};
use crate::channel::Departure;
use crate::log::{Batch, Position};

/// A pass that is under way. It is interrupted after every slice of work, and goes on.
#[derive(Debug)]
pub(super) struct Pass {
    kind: Kind,
    /// Where those are who get the shared bytes.
    from: Position,
    /// Where they are afterwards.
    to: Position,
    bytes: Bytes,
    /// The same without chunk framing; made when the first subscriber wants it.
    plain: Option<Vec<u8>>,
    /// Subscribers that took all the shared bytes since they were last counted, and the bytes.
    n_taken: u64,
    n_taken_bytes: u64,
    /// The place to visit next.
    next: usize,
    /// Places still to visit.
    n_left: usize,
    /// All places.
    n_places: usize,
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To write events.
    Events,
    /// To end every stream.
    Farewell(Departure),
    /// To write a heartbeat to those who have everything.
    Heartbeat,
}

/// The bytes that the crowd shares.
#[derive(Debug)]
enum Bytes {
    /// Of several batches, with their events by when they were appended.
    Joined(Vec<u8>, Vec<(Instant, u64)>),
    None,
    One(Arc<Batch>),
}

impl Pass {
    /// A pass over the events after `from`, as many as fit into `max_bytes`.
    pub(super) fn over_events(
        wire: &Wire,
        from: Position,
        max_bytes: u64,
        n_places: usize,
    ) -> Self {
        let mut pass = Self::of(Kind::Events, from, n_places);
        let mut window = wire.window(from, max_bytes);
        let Some(first) = window.next() else {
            return pass;
        };
        pass.to = first.end();
        pass.bytes = Bytes::One(Arc::clone(first));
        for batch in window {
            pass.to = batch.end();
            // Small batches are copied together once, so that each client costs one plain write.
            match &mut pass.bytes {
                Bytes::Joined(bytes, _) => bytes.extend_from_slice(batch.chunked_from(from)),
                bytes => {
                    let both = [first.chunked_from(from), batch.chunked_from(from)];
                    *bytes = Bytes::Joined(both.concat(), Vec::new());
                }
            }
        }
        if let Bytes::Joined(_, events) = &mut pass.bytes {
            events.extend(wire.events_between(from, pass.to));
        }
        pass
    }

    /// A pass that moves nobody.
    pub(super) fn of(kind: Kind, at: Position, n_places: usize) -> Self {
        Self {
            kind,
            from: at,
            to: at,
            bytes: Bytes::None,
            plain: None,
            n_taken: 0,
            n_taken_bytes: 0,
            // Nobody is always last.
            next: if n_places == 0 {
                0
            } else {
                fastrand::usize(..n_places)
            },
            n_left: n_places,
            n_places,
        }
    }

    /// The next place to visit.
    pub(super) fn next_place(&mut self) -> Option<usize> {
        self.n_left = self.n_left.checked_sub(1)?;
        let place = self.next;
        self.next = if place + 1 == self.n_places {
            0
        } else {
            place + 1
        };
        Some(place)
    }

    /// Notes that a subscriber took all the shared bytes.
    pub(super) fn note_taken(&mut self, n_bytes: usize) {
        self.n_taken += 1;
        self.n_taken_bytes += n_bytes as u64;
    }

    /// Counts what was taken.
    pub(super) fn count(&mut self, tally: &mut Tally) {
        let n_taken = std::mem::take(&mut self.n_taken);
        if n_taken == 0 {
            return;
        }
        tally.note_bytes(std::mem::take(&mut self.n_taken_bytes));
        match &self.bytes {
            Bytes::Joined(_, events) => {
                for (appended_at, n) in events {
                    tally.note_live(*appended_at, n * n_taken);
                }
            }
            Bytes::None => {}
            Bytes::One(batch) => {
                let n = batch.n_events_between(self.from, self.to);
                tally.note_live(batch.appended_at(), n * n_taken);
            }
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn from(&self) -> Position {
        self.from
    }

    pub(super) fn to(&self) -> Position {
        self.to
    }

    /// The bytes between `from` and `to`, and `to`.
    pub(super) fn bytes(&mut self, framing: Framing, wire: &Wire) -> (&[u8], Position) {
        let bytes = match (framing, &self.bytes) {
            (Framing::Plain, _) => self
                .plain
                .get_or_insert_with(|| wire.payloads(self.from, self.to)),
            (Framing::Chunked, Bytes::Joined(bytes, _)) => bytes.as_slice(),
            (Framing::Chunked, Bytes::None) => &[],
            (Framing::Chunked, Bytes::One(batch)) => batch.chunked_from(self.from),
        };
        (bytes, self.to)
    }
}
