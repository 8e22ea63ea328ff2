//! A shard's private index of a log's wire stream.
//!
//! The bytes are shared with the log and the other shards; the index is this shard's own, so
//! delivery needs no lock. It reaches back as far as the slowest subscriber of the shard needs.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use tokio::time::Instant;

use super::lag::Distance;
use super::tail::{Piece, rest_of_event};
use crate::log::{Batch, Count, Feed, Position, Taken};

/// The batches that some subscriber of this shard has yet to get.
#[derive(Debug)]
pub(super) struct Wire {
    /// In order, without gaps.
    batches: VecDeque<Arc<Batch>>,
    /// Invariant: the end of the last batch that was taken from the feed, or dropped by it.
    head: Position,
    /// What the log has had up to `head`.
    count: Count,
    /// What it has had up to where `batches` begin; `None` before anything was taken.
    floor: Option<Count>,
}

/// How events are framed on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each event is a chunk of the chunked transfer coding: HTTP/1.1.
    Chunked,
    /// Events follow each other: HTTP/1.0, where the end of the connection ends the stream, and
    /// HTTP/2, which has frames of its own.
    Plain,
}

/// Pieces in one vectored write: enough that a write of small batches is large.
pub(super) const MAX_PIECES: usize = 64;

impl Wire {
    pub(super) fn new(head: Position) -> Self {
        Self {
            batches: VecDeque::new(),
            head,
            count: Count::default(),
            floor: None,
        }
    }

    /// Where the stream ends, as far as this shard knows.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Takes what is new.
    pub(super) fn pull(&mut self, feed: &Feed) -> Taken {
        let taken = feed.take(&mut self.batches);
        self.head = taken.head;
        self.count = taken.count;
        self.floor.get_or_insert_with(|| {
            let first = self.batches.front();
            first.map_or(taken.count, |batch| batch.count_at(batch.start()))
        });
        taken
    }

    /// Makes room for a subscriber that starts earlier than any other: `batches` are those from its
    /// position on, in order.
    pub(super) fn reach_back(&mut self, batches: &[Arc<Batch>]) {
        let first = self
            .batches
            .front()
            .map_or(self.head, |batch| batch.start());
        for batch in batches.iter().rev().filter(|batch| batch.start() < first) {
            self.batches.push_front(Arc::clone(batch));
        }
    }

    /// Forgets what is before `floor`.
    pub(super) fn trim(&mut self, floor: Position) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.end() <= floor)
        {
            self.floor = self
                .batches
                .pop_front()
                .map(|last| last.count_at(last.end()));
        }
        if self.batches.is_empty() {
            // A burst must not leave its index behind in every quiet channel.
            self.batches.shrink_to(4);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.floor = Some(self.count);
    }

    /// What the log has had up to `at`, which is a subscriber's place.
    pub(super) fn count_at(&self, at: Position) -> Count {
        let next = self.batches.partition_point(|batch| batch.end() <= at);
        let batch = self.batches.get(next).filter(|batch| batch.start() <= at);
        // Between two batches only if some were dropped there.
        let before = || self.batches.get(next.checked_sub(1)?);
        batch
            .or_else(before)
            .map(|batch| batch.count_at(at))
            .or(self.floor)
            .unwrap_or_default()
    }

    /// How far a subscriber at `at` is behind, once it has the event that it is inside of.
    pub(super) fn distance(&self, at: Position, now: Instant) -> Distance {
        let at = self.event_end(at);
        let (Some(newest), Some(next)) = (self.batches.back(), self.from(at).next()) else {
            return Distance::default();
        };
        let n_before = |at: Position| self.count_at(at).n_events;
        Distance {
            bytes: newest.start().saturating_sub(at),
            n_events: n_before(newest.start()).saturating_sub(n_before(at)),
            age: now.saturating_duration_since(next.appended_at()),
        }
    }

    /// Where the event ends that `at` is inside of; `at` itself between events.
    pub(super) fn event_end(&self, at: Position) -> Position {
        self.from(at).next().map_or(at, |batch| batch.event_end(at))
    }

    /// The batches from `from` on, as many as fit into `max_bytes`, but at least one.
    pub(super) fn window(
        &self,
        from: Position,
        max_bytes: u64,
    ) -> impl Iterator<Item = &Arc<Batch>> {
        self.from(from)
            .take_while(move |batch| batch.start() <= from || batch.end() - from <= max_bytes)
    }

    /// The events between two positions that are boundaries, without chunk framing.
    pub(super) fn payloads(&self, from: Position, to: Position) -> Vec<u8> {
        let mut joined = Vec::with_capacity(usize::try_from(to - from).unwrap_or_default());
        for batch in self.from(from).take_while(|batch| batch.start() < to) {
            for (bytes, _) in batch.payloads_from(from) {
                joined.extend_from_slice(bytes);
            }
        }
        joined
    }

    /// Fills `pieces` with what follows `at`, up to `max_bytes`; returns how many pieces there are.
    pub(super) fn gather<'a>(
        &'a self,
        at: Position,
        framing: Framing,
        max_bytes: usize,
        pieces: &mut [IoSlice<'a>],
    ) -> usize {
        let mut left = max_bytes;
        let mut n_pieces = 0;
        let bytes: &mut dyn Iterator<Item = &'a [u8]> = match framing {
            Framing::Chunked => &mut self.from(at).map(|batch| batch.chunked_from(at)),
            Framing::Plain => &mut self
                .from(at)
                .flat_map(|batch| batch.payloads_from(at))
                .map(|(bytes, _)| bytes),
        };
        for (piece, bytes) in pieces.iter_mut().zip(bytes) {
            let bytes = bytes.get(..left).unwrap_or(bytes);
            *piece = IoSlice::new(bytes);
            n_pieces += 1;
            left -= bytes.len();
            if left == 0 {
                break;
            }
        }
        n_pieces
    }

    /// The events that end after `from`, and not after `to`: how many, by when they were appended.
    pub(super) fn events_between(
        &self,
        from: Position,
        to: Position,
    ) -> impl Iterator<Item = (Instant, u64)> {
        self.from(from)
            .take_while(move |batch| batch.start() < to)
            .map(move |batch| (batch.appended_at(), batch.n_events_between(from, to)))
            .filter(|(_, n)| *n > 0)
    }

    /// Where a subscriber at `at` is after its socket took `n_bytes` of what [`Wire::gather`] gave.
    pub(super) fn advance(&self, at: Position, framing: Framing, n_bytes: usize) -> Position {
        if framing == Framing::Chunked {
            return at + n_bytes as u64;
        }
        let (mut at, mut left) = (at, n_bytes);
        for batch in self.from(at) {
            (at, left) = batch.advance_plain(at, left);
            if left == 0 {
                return at;
            }
        }
        at
    }

    /// The rest of the event that `at` is inside of, framed, and where it ends; `None` between
    /// events.
    pub(super) fn rest_of_event(
        &self,
        at: Position,
        framing: Framing,
    ) -> Option<(Piece, Position)> {
        rest_of_event(self.from(at).next()?, at, framing)
    }

    fn from(&self, at: Position) -> impl Iterator<Item = &Arc<Batch>> {
        let first = self.batches.partition_point(|batch| batch.end() <= at);
        self.batches.range(first..)
    }
}
