//! What one subscriber gets besides the wire stream, before it goes on or goes away.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::lag::Debt;
use super::wire::Framing;
use crate::log::{Batch, Count, News, Position, Snapshot};
use crate::memory::{Budget, Held, WhatFor};

/// Pieces of bytes that go out in order.
///
/// What thousands may get at the same moment (the rest of an event, a goodbye) is shared, so that
/// ending their streams costs no memory.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    n_sent: usize,
    /// What its subscriber lacks, if it is adrift: then the wire stream does not go on after this,
    /// but it is decided what does.
    debt: Option<Debt>,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// The rest of an event, whose batch is not kept for it, or what else is so large that it counts.
    Copy(Box<Copied>),
    /// A snapshot, or what is left of it.
    Events(Box<Events>),
    /// Of nobody else: a prologue, a notice, the rest of a heartbeat.
    Own(Vec<u8>),
    /// The rest of an event.
    Rest(Arc<Batch>, Range<usize>),
    /// A goodbye.
    Static(&'static [u8]),
}

/// Bytes that only one subscriber gets.
#[derive(Debug)]
pub(super) struct Copied {
    bytes: Box<[u8]>,
    /// When their event was appended, if they end one that counts.
    appended_at: Option<Instant>,
    _held: Held,
}

/// What is left of a snapshot: events that are not in their place of the wire stream.
#[derive(Debug)]
pub(super) struct Events {
    batch: Arc<Batch>,
    /// What is left of it begins here.
    at: Position,
    framing: Framing,
    snapshot: Arc<Snapshot>,
    /// Its subscriber has all before this position of the log.
    floor: Position,
}

/// What a tail has put into slices.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) n_slices: usize,
    pub(super) n_bytes: usize,
    /// Nothing is left: what comes next can follow.
    pub(super) is_all: bool,
}

/// How many times as large as what is left of an event its batch may be before it is not kept for it
/// any more. With it, what a subscriber keeps is bounded by its own event; without, the thousand that
/// stall in the same batch share it.
const MAX_SHARE: usize = 4;

/// What a subscriber has of its own without that it counts: a connection does, with a short tail.
const SHORT: usize = 2 * 1024;

impl Tail {
    /// Adds bytes at the end.
    pub(super) fn push(&mut self, piece: Piece) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Adds bytes at the end that may be many.
    pub(super) fn push_own(&mut self, bytes: Vec<u8>, budget: &Budget) {
        if bytes.len() <= SHORT {
            return self.push(Piece::Own(bytes));
        }
        let held = budget.hold(WhatFor::Events, bytes.len());
        self.push(Piece::Copy(Box::new(Copied {
            bytes: bytes.into(),
            appended_at: None,
            _held: held,
        })));
    }

    /// Copies what is left of an event if that is little of what would be kept for it.
    pub(super) fn let_go_of_batches(&mut self, budget: &Budget) {
        for (index, piece) in self.pieces.iter_mut().enumerate() {
            let Piece::Rest(batch, _) = &*piece else {
                continue;
            };
            let n_sent = if index == 0 { self.n_sent } else { 0 };
            let left = piece.bytes().get(n_sent..).unwrap_or_default();
            if left.len().saturating_mul(MAX_SHARE) >= batch.len() {
                continue;
            }
            let copied = Copied {
                bytes: left.into(),
                appended_at: Some(batch.appended_at()),
                _held: budget.hold(WhatFor::Events, left.len()),
            };
            *piece = Piece::Copy(Box::new(copied));
            if index == 0 {
                self.n_sent = 0;
            }
        }
    }

    pub(super) fn set_debt(&mut self, debt: Option<Debt>) {
        self.debt = debt;
    }

    pub(super) fn debt(&self) -> Option<Debt> {
        self.debt
    }

    /// Leaves out what would follow the event that is being sent, so that something else can; returns
    /// where in the log that event ends, and what was left out, if it is an event of a snapshot.
    pub(super) fn end_at_event(&mut self) -> Option<(Position, Count)> {
        let is_snapshot = |piece: &Piece| matches!(piece, Piece::Events(_));
        let index = self.pieces.iter().position(is_snapshot)?;
        // What comes after it is true only of who has all of it.
        let Some(Piece::Events(mut events)) = self.pieces.drain(index..).next() else {
            return None;
        };
        if let Some((rest, end)) = rest_of_event(&events.batch, events.at, events.framing) {
            self.pieces.push_back(rest);
            events.at = end;
        }
        Some((events.end_in_log(), events.left()))
    }

    /// Bytes of a snapshot that is kept for it, if it gets one.
    pub(super) fn snapshot_bytes(&self) -> usize {
        let snapshots = self.pieces.iter().map(|piece| match piece {
            Piece::Events(events) => events.batch.len(),
            Piece::Copy(_) | Piece::Own(_) | Piece::Rest(..) | Piece::Static(_) => 0,
        });
        snapshots.sum()
    }

    /// Fills `slices` with what is left, of a snapshot no more than `max_bytes`.
    pub(super) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>], max_bytes: usize) -> Offered {
        let mut offered = Offered::default();
        let mut slices = slices.iter_mut();
        let mut put = |bytes: &'a [u8]| {
            let slice = slices.next()?;
            *slice = IoSlice::new(bytes);
            offered.n_slices += 1;
            offered.n_bytes += bytes.len();
            Some(offered.n_bytes)
        };
        let mut n_skipped = self.n_sent;
        for piece in &self.pieces {
            let put_all = match piece {
                Piece::Events(events) => events.offer(max_bytes, &mut put),
                Piece::Copy(_) | Piece::Own(_) | Piece::Rest(..) | Piece::Static(_) => {
                    let bytes = piece.bytes().get(n_skipped..).unwrap_or_default();
                    n_skipped = 0;
                    put(bytes).map(|_| ())
                }
            };
            if put_all.is_none() {
                return offered;
            }
        }
        offered.is_all = true;
        offered
    }

    /// Notes that `n` bytes were sent; returns how many of them were not of this tail. `on_events` is
    /// told of events whose last byte is sent now: when they were appended, and how many.
    pub(super) fn advance(&mut self, n: usize, mut on_events: impl FnMut(Instant, u64)) -> usize {
        self.n_sent += n;
        while let Some(first) = self.pieces.front_mut() {
            if let Piece::Events(events) = first {
                let (appended_at, n_events);
                (appended_at, n_events, self.n_sent) = events.advance(self.n_sent);
                on_events(appended_at, n_events);
                if !events.is_empty() {
                    return 0;
                }
                self.pieces.pop_front();
                continue;
            }
            let len = first.bytes().len();
            if self.n_sent < len {
                return 0;
            }
            self.n_sent -= len;
            match self.pieces.pop_front() {
                Some(Piece::Copy(copied)) => {
                    if let Some(appended_at) = copied.appended_at {
                        on_events(appended_at, 1);
                    }
                }
                Some(Piece::Rest(batch, _)) => on_events(batch.appended_at(), 1),
                Some(Piece::Events(_) | Piece::Own(_) | Piece::Static(_)) | None => {}
            }
        }
        std::mem::take(&mut self.n_sent)
    }

    /// Whether there is nothing more to send.
    pub(super) fn is_sent(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.debt.is_none()
    }
}

impl Events {
    /// A snapshot from a position of its batch on; `None` if nothing is there.
    pub(super) fn new(snapshot: &Arc<Snapshot>, at: Position, framing: Framing) -> Option<Self> {
        let batch = snapshot.batch()?;
        (at < batch.end()).then(|| Self {
            batch: Arc::clone(batch),
            at,
            framing,
            snapshot: Arc::clone(snapshot),
            floor: 0,
        })
    }

    /// What is new to a subscriber that has everything before `floor`.
    pub(super) fn of_news(news: &News, floor: Position, framing: Framing) -> Option<Self> {
        let events = Self::new(&news.snapshot, news.from, framing)?;
        Some(Self { floor, ..events })
    }

    /// Where in the log the event ends that it is inside of, or behind.
    fn end_in_log(&self) -> Position {
        self.snapshot.end_of(self.at).max(self.floor)
    }

    /// What is left, but for the event that it is inside of.
    pub(super) fn left(&self) -> Count {
        let count = |at| self.batch.count_at(at);
        count(self.batch.end()).since(count(self.batch.event_end(self.at)))
    }

    /// Puts what is left, as far as there is room; `None`: not all.
    fn offer<'a>(
        &'a self,
        max_bytes: usize,
        put: &mut impl FnMut(&'a [u8]) -> Option<usize>,
    ) -> Option<()> {
        match self.framing {
            Framing::Chunked => {
                let bytes = self.batch.chunked_from(self.at);
                let first = bytes.get(..max_bytes).unwrap_or(bytes);
                put(first)?;
                (first.len() == bytes.len()).then_some(())
            }
            Framing::Plain => {
                let mut pieces = self.batch.payloads_from(self.at).peekable();
                while let Some((bytes, _)) = pieces.next() {
                    let n_bytes = put(bytes)?;
                    if n_bytes >= max_bytes && pieces.peek().is_some() {
                        return None;
                    }
                }
                Some(())
            }
        }
    }

    /// Moves on by `n` bytes; returns when the events were appended that are sent now, how many they
    /// are, and how many bytes were not of this.
    fn advance(&mut self, n: usize) -> (Instant, u64, usize) {
        let (to, left) = match self.framing {
            Framing::Chunked => self.batch.advance_chunked(self.at, n),
            Framing::Plain => self.batch.advance_plain(self.at, n),
        };
        let n_events = self.batch.n_events_between(self.at, to);
        self.at = to;
        (self.batch.appended_at(), n_events, left)
    }

    fn is_empty(&self) -> bool {
        self.at >= self.batch.end()
    }
}

impl Piece {
    /// The bytes of a piece that is one run of them.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copy(copied) => &copied.bytes,
            // It has framings.
            Self::Events(_) => &[],
            Self::Own(bytes) => bytes,
            Self::Rest(batch, range) => batch
                .chunked_from(batch.start())
                .get(range.clone())
                .unwrap_or_default(),
            Self::Static(bytes) => bytes,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Events(events) => events.is_empty(),
            Self::Copy(_) | Self::Own(_) | Self::Rest(..) | Self::Static(_) => {
                self.bytes().is_empty()
            }
        }
    }
}

/// The rest of the event that `at` is inside of, framed, and where it ends; `None` between events.
pub(super) fn rest_of_event(
    batch: &Arc<Batch>,
    at: Position,
    framing: Framing,
) -> Option<(Piece, Position)> {
    let (range, end) = batch.rest_of_event(at)?;
    let range = match framing {
        Framing::Chunked => range,
        // Without the line end of the chunk.
        Framing::Plain => range.start..range.end.saturating_sub(2),
    };
    Some((Piece::Rest(Arc::clone(batch), range), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_out_in_order_from_any_byte() {
        let whole = b"abcdefgh";
        for step in 1..=whole.len() {
            let mut tail = Tail::default();
            tail.push(Piece::Own(b"abc".to_vec()));
            tail.push(Piece::Static(b""));
            tail.push(Piece::Static(b"def"));
            tail.push(Piece::Own(b"gh".to_vec()));
            let mut sent = Vec::new();
            while !tail.is_empty() {
                let mut slices = [IoSlice::new(&[]); 8];
                let Offered {
                    n_slices, n_bytes, ..
                } = tail.gather(&mut slices, usize::MAX);
                let left: Vec<u8> = slices
                    .iter()
                    .take(n_slices)
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                assert_eq!(left.len(), n_bytes);
                let n = step.min(n_bytes);
                sent.extend_from_slice(&left[..n]);
                assert_eq!(tail.advance(n, |_, _| {}), 0);
            }
            assert_eq!(sent, whole, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_long_counts_until_it_is_sent_and_is_no_event() {
        let budget = Budget::unlimited();
        let mut tail = Tail::default();
        tail.push_own(vec![b'x'; SHORT], &budget);
        assert_eq!(budget.used(), 0);
        tail.push_own(vec![b'y'; 2 * SHORT], &budget);
        assert_eq!(budget.used(), 2 * SHORT);
        let no_event = |_, _| panic!("it is none");
        assert_eq!(tail.advance(3 * SHORT - 1, no_event), 0);
        assert_eq!(budget.used(), 2 * SHORT);
        assert_eq!(tail.advance(1, no_event), 0);
        assert!(tail.is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_beyond_the_tail_is_not_its_own() {
        let mut tail = Tail::default();
        tail.push(Piece::Static(b"abc"));
        assert_eq!(tail.advance(5, |_, _| {}), 2);
        assert!(tail.is_empty());
    }
}
