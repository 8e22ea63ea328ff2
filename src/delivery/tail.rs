//! What one subscriber gets besides the wire stream, before it goes on or goes away.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::lag::Debt;
use crate::log::Batch;
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
    /// The rest of an event, whose batch is not kept for it.
    Copy(Box<Copied>),
    /// Of nobody else: a prologue, a notice, the rest of a heartbeat.
    Own(Vec<u8>),
    /// The rest of an event.
    Rest(Arc<Batch>, Range<usize>),
    /// A goodbye.
    Static(&'static [u8]),
}

/// Bytes of an event.
#[derive(Debug)]
pub(super) struct Copied {
    bytes: Box<[u8]>,
    appended_at: Instant,
    _held: Held,
}

/// How many times as large as what is left of an event its batch may be before it is not kept for it
/// any more. With it, what a subscriber keeps is bounded by its own event; without, the thousand that
/// stall in the same batch share it.
const MAX_SHARE: usize = 4;

impl Tail {
    /// Adds bytes at the end.
    pub(super) fn push(&mut self, piece: Piece) {
        if !piece.bytes().is_empty() {
            self.pieces.push_back(piece);
        }
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
                appended_at: batch.appended_at(),
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

    /// Fills `slices` with what is left; returns how many there are, and their bytes.
    pub(super) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, usize) {
        let mut n_skipped = self.n_sent;
        let (mut n_slices, mut n_bytes) = (0, 0);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let bytes = piece.bytes().get(n_skipped..).unwrap_or_default();
            n_skipped = 0;
            *slice = IoSlice::new(bytes);
            n_slices += 1;
            n_bytes += bytes.len();
        }
        (n_slices, n_bytes)
    }

    /// Notes that `n` bytes were sent; returns how many of them were not of this tail. `on_event` is
    /// told when the event was appended whose last byte is sent now.
    pub(super) fn advance(&mut self, n: usize, mut on_event: impl FnMut(Instant)) -> usize {
        self.n_sent += n;
        while let Some(first) = self.pieces.front() {
            let len = first.bytes().len();
            if self.n_sent < len {
                return 0;
            }
            self.n_sent -= len;
            match self.pieces.pop_front() {
                Some(Piece::Copy(copied)) => on_event(copied.appended_at),
                Some(Piece::Rest(batch, _)) => on_event(batch.appended_at()),
                Some(Piece::Own(_) | Piece::Static(_)) | None => {}
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

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copy(copied) => &copied.bytes,
            Self::Rest(batch, range) => batch
                .chunked_from(batch.start())
                .get(range.clone())
                .unwrap_or_default(),
            Self::Own(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
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
                let (n_slices, n_bytes) = tail.gather(&mut slices);
                let left: Vec<u8> = slices
                    .iter()
                    .take(n_slices)
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                assert_eq!(left.len(), n_bytes);
                let n = step.min(n_bytes);
                sent.extend_from_slice(&left[..n]);
                assert_eq!(tail.advance(n, |_| {}), 0);
            }
            assert_eq!(sent, whole, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_beyond_the_tail_is_not_its_own() {
        let mut tail = Tail::default();
        tail.push(Piece::Static(b"abc"));
        assert_eq!(tail.advance(5, |_| {}), 2);
        assert!(tail.is_empty());
    }
}
