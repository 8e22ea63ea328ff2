//! What one subscriber gets besides the wire stream, before it goes on or goes away.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use crate::log::Batch;

/// Pieces of bytes that go out in order.
///
/// What thousands may get at the same moment (the rest of an event, a goodbye) is shared, so that
/// ending their streams costs no memory.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    n_sent: usize,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// Of nobody else: a prologue, the rest of a heartbeat.
    Own(Vec<u8>),
    /// The rest of an event.
    Shared(Arc<Batch>, Range<usize>),
    /// A goodbye.
    Static(&'static [u8]),
}

impl Tail {
    /// Adds bytes at the end.
    pub(super) fn push(&mut self, piece: Piece) {
        if !piece.bytes().is_empty() {
            self.pieces.push_back(piece);
        }
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
    /// given the batch of an event whose rest is sent now.
    pub(super) fn advance(&mut self, n: usize, mut on_event: impl FnMut(&Batch)) -> usize {
        self.n_sent += n;
        while let Some(first) = self.pieces.front() {
            let len = first.bytes().len();
            if self.n_sent < len {
                return 0;
            }
            self.n_sent -= len;
            if let Some(Piece::Shared(batch, _)) = self.pieces.pop_front() {
                on_event(&batch);
            }
        }
        std::mem::take(&mut self.n_sent)
    }

    /// Whether all is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(batch, range) => batch
                .chunked_from(batch.start())
                .get(range.clone())
                .unwrap_or_default(),
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
