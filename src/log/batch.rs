//! Batches: immutable runs of the wire stream, and the builder that encodes them.
//!
//! **Encode Once**: an event is encoded into a batch a single time, with the HTTP/1.1 chunk framing
//! around it (RFC 9112, 7.1), and every subscriber on every shard is served from those bytes. A
//! batch has no gaps: batches in order, end to end, are the wire stream of a log.

use std::ops::Range;

use tokio::time::Instant;

use crate::memory::{Budget, Held, WhatFor};
use crate::sse::{self, Event};

/// A byte position in the wire stream of one log. It only grows.
pub type Position = u64;

/// A run of encoded events, shared by all who deliver it.
#[derive(Debug)]
pub struct Batch {
    /// Position of the first byte.
    start: Position,
    /// The events, each an HTTP/1.1 chunk.
    bytes: Box<[u8]>,
    /// Where each event is in `bytes`, in order; never empty.
    marks: Box<[Mark]>,
    /// Which of `marks` are no events of the origin's, in order.
    notices: Box<[NoticeMark]>,
    /// What the log had before this batch.
    before: Count,
    /// When the batch was appended.
    appended_at: Instant,
    /// Counts the batch as long as anybody has it, evicted from its log or not.
    _held: Held,
}

/// How much a log has had up to a position, evicted or not. Only the difference of two means
/// something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Events of the origin.
    pub n_events: u64,
    /// Notices that events of the origin may be missing, nobody knows how many.
    pub n_gaps: u64,
    /// All notices, these included.
    pub n_notices: u64,
}

impl Count {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            n_events: self.n_events.saturating_sub(earlier.n_events),
            n_gaps: self.n_gaps.saturating_sub(earlier.n_gaps),
            n_notices: self.n_notices.saturating_sub(earlier.n_notices),
        }
    }

    /// Both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            n_events: self.n_events + other.n_events,
            n_gaps: self.n_gaps + other.n_gaps,
            n_notices: self.n_notices + other.n_notices,
        }
    }
}

/// An event of a batch that is a notice.
#[derive(Debug, Clone, Copy)]
struct NoticeMark {
    /// Its place among the marks.
    index: u32,
    is_gap: bool,
}

/// The event type of the notice that events are missing.
pub const GAP_NOTICE: &str = "ssecast.gap";

/// The place of one event in its batch.
///
/// Offsets are 32 bits wide because the largest event that the configuration allows is far smaller.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// First byte of the event itself, after the chunk's size line.
    payload_start: u32,
    /// First byte after the chunk, which ends with CR LF.
    end: u32,
}

impl Batch {
    /// Position of the first byte.
    pub fn start(&self) -> Position {
        self.start
    }

    /// Position after the last byte.
    pub fn end(&self) -> Position {
        self.start + self.bytes.len() as u64
    }

    /// When the batch was appended to its log.
    pub fn appended_at(&self) -> Instant {
        self.appended_at
    }

    /// Bytes of the wire stream in this batch.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A batch holds at least one event.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes from `at` on, chunk framing included; empty if `at` is outside.
    pub fn chunked_from(&self, at: Position) -> &[u8] {
        let offset = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.get(offset..).unwrap_or_default()
    }

    /// The position where the event ends that `at` is inside of; `at` itself if it is between events.
    pub fn event_end(&self, at: Position) -> Position {
        let offset = at.saturating_sub(self.start);
        if offset == 0 {
            return at;
        }
        let next = self
            .marks
            .partition_point(|mark| u64::from(mark.end) < offset);
        self.marks
            .get(next)
            .map_or(at, |mark| self.start + u64::from(mark.end))
    }

    /// What the log has had when a subscriber is at `at`.
    pub fn count_at(&self, at: Position) -> Count {
        let offset = at.saturating_sub(self.start);
        let n_marks = self
            .marks
            .partition_point(|mark| u64::from(mark.end) <= offset);
        let n_notices = self
            .notices
            .partition_point(|notice| (notice.index as usize) < n_marks);
        let notices = self.notices.get(..n_notices).unwrap_or_default();
        let n_gaps = notices.iter().filter(|notice| notice.is_gap).count();
        Count {
            n_events: self.before.n_events + (n_marks - n_notices) as u64,
            n_gaps: self.before.n_gaps + n_gaps as u64,
            n_notices: self.before.n_notices + n_notices as u64,
        }
    }

    /// How many events end after `from`, and not after `to`.
    pub fn n_events_between(&self, from: Position, to: Position) -> u64 {
        let n_until = |at: Position| {
            let offset = at.saturating_sub(self.start);
            if offset >= self.bytes.len() as u64 {
                return self.marks.len();
            }
            self.marks
                .partition_point(|mark| u64::from(mark.end) <= offset)
        };
        n_until(to).saturating_sub(n_until(from)) as u64
    }

    /// Where in this batch the rest of the event is that `at` is inside of, and the position where
    /// it ends; `None` if `at` is between events.
    pub fn rest_of_event(&self, at: Position) -> Option<(Range<usize>, Position)> {
        let end = self.event_end(at);
        let offset = |at: Position| usize::try_from(at.saturating_sub(self.start)).ok();
        (end > at).then_some((offset(at)?..offset(end)?, end))
    }

    /// The events from `at` on without their chunk framing: for each piece its bytes, and the
    /// position that is reached when they are sent.
    ///
    /// Sending `n` bytes of a piece `(bytes, end)` leads to the position of
    /// [`Batch::after_payload`]; a fully sent piece leads to `end`.
    pub fn payloads_from(&self, at: Position) -> impl Iterator<Item = (&[u8], Position)> {
        let offset = at.saturating_sub(self.start);
        let first = self
            .marks
            .partition_point(|mark| u64::from(mark.end) <= offset);
        self.marks
            .get(first..)
            .unwrap_or_default()
            .iter()
            .map(move |mark| {
                let Range { start, end } = mark.payload();
                let from = start
                    .max(usize::try_from(offset).unwrap_or(usize::MAX))
                    .min(end);
                (
                    self.bytes.get(from..end).unwrap_or_default(),
                    self.start + u64::from(mark.end),
                )
            })
    }

    /// Where a subscriber with chunk framing stands that was at `at` and took `n` more bytes, and how
    /// many of them were not of this batch.
    pub fn advance_chunked(&self, at: Position, n: usize) -> (Position, usize) {
        let left = self.chunked_from(at).len();
        (at + n.min(left) as u64, n.saturating_sub(left))
    }

    /// The same without chunk framing.
    pub fn advance_plain(&self, mut at: Position, n: usize) -> (Position, usize) {
        let mut left = n;
        for (bytes, end) in self.payloads_from(at) {
            if left < bytes.len() {
                return (self.after_payload(at, left), 0);
            }
            left -= bytes.len();
            at = end;
            if left == 0 {
                break;
            }
        }
        (at, left)
    }

    /// Where a subscriber without chunk framing stands that was at `at` and took `n` more bytes of
    /// the event there.
    pub fn after_payload(&self, at: Position, n: usize) -> Position {
        let offset = at.saturating_sub(self.start);
        let first = self
            .marks
            .partition_point(|mark| u64::from(mark.end) <= offset);
        let Some(mark) = self.marks.get(first) else {
            return at;
        };
        let Range { start, end } = mark.payload();
        let reached = start.max(usize::try_from(offset).unwrap_or(usize::MAX)) + n;
        if reached >= end {
            self.start + u64::from(mark.end)
        } else {
            self.start + reached as u64
        }
    }
}

impl Mark {
    fn payload(self) -> Range<usize> {
        // The two bytes are the CR LF behind the chunk's data.
        self.payload_start as usize..(self.end as usize).saturating_sub(2)
    }
}

/// Encodes events into the next batch.
#[derive(Debug, Default)]
pub(super) struct BatchBuilder {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    notices: Vec<NoticeMark>,
    /// The event being encoded; kept for its capacity.
    block: Vec<u8>,
}

impl BatchBuilder {
    /// Encodes one event as one chunk.
    pub(super) fn push(&mut self, event: &Event<'_>) {
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        sse::encode_event(&mut block, event);
        self.push_block(&block);
        self.block = block;
    }

    /// Encodes a notice as one chunk.
    pub(super) fn push_notice(&mut self, event_type: &str, data: &str) {
        let index = narrow(self.marks.len());
        let is_gap = event_type == GAP_NOTICE;
        self.notices.push(NoticeMark { index, is_gap });
        self.push(&Event {
            event_type,
            data,
            id: None,
        });
    }

    /// Takes a notice that is encoded already.
    pub(super) fn push_notice_block(&mut self, block: &[u8]) {
        let index = narrow(self.marks.len());
        let type_line = block.split(|byte| *byte == b'\n').next();
        let event_type = type_line.and_then(|line| line.strip_prefix(b"event: "));
        let is_gap = event_type == Some(GAP_NOTICE.as_bytes());
        self.notices.push(NoticeMark { index, is_gap });
        self.push_block(block);
    }

    /// Takes an event that is encoded already.
    pub(super) fn push_block(&mut self, block: &[u8]) {
        let payload_start = push_chunk(&mut self.bytes, block);
        self.marks.push(Mark {
            payload_start: narrow(payload_start),
            end: narrow(self.bytes.len()),
        });
    }

    /// Bytes encoded so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was pushed since the last batch.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Takes what was pushed as one batch that starts at `start`, where the log has had `before`.
    pub(super) fn build(
        &self,
        (start, before): (Position, Count),
        now: Instant,
        budget: &Budget,
    ) -> Batch {
        let n_bytes = size_of::<Batch>()
            + self.bytes.len()
            + size_of_val(self.marks.as_slice())
            + size_of_val(self.notices.as_slice());
        Batch {
            start,
            before,
            notices: self.notices.as_slice().into(),
            // Exact copies: what the builder keeps is capacity for the next batch.
            bytes: self.bytes.as_slice().into(),
            marks: self.marks.as_slice().into(),
            appended_at: now,
            _held: budget.hold(WhatFor::Events, n_bytes),
        }
    }

    /// Forgets what was built; keeps a modest capacity.
    pub(super) fn clear(&mut self) {
        const KEPT_BYTES: usize = 4 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.marks.clear();
        self.marks.shrink_to(KEPT_BYTES / size_of::<Mark>());
        self.notices = Vec::new();
        self.block.clear();
        self.block.shrink_to(KEPT_BYTES);
    }
}

/// Appends `payload` as one chunk of the chunked transfer coding (RFC 9112, 7.1); returns where the
/// payload starts in `out`.
pub fn push_chunk(out: &mut Vec<u8>, payload: &[u8]) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let len = payload.len();
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (len >> (digit * 4)) & 0xf;
        out.extend(HEX.get(nibble));
    }
    out.extend_from_slice(b"\r\n");
    let payload_start = out.len();
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    payload_start
}

/// An offset inside a batch. Batches are bounded far below 4 GiB by the limits of the
/// configuration; a wrong mark, never a panic, would be the result if they were not.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut builder = BatchBuilder::default();
        builder.push(&Event {
            event_type: "",
            data: "a",
            id: Some("1"),
        });
        builder.push(&Event {
            event_type: "t",
            data: "bb",
            id: None,
        });
        let before = Count {
            n_events: 7,
            n_gaps: 1,
            n_notices: 3,
        };
        builder.build((100, before), Instant::now(), &Budget::unlimited())
    }

    #[test]
    fn an_event_is_one_chunk() {
        assert_eq!(
            String::from_utf8_lossy(batch().chunked_from(100)),
            "f\r\ndata: a\nid: 1\n\n\r\n13\r\nevent: t\ndata: bb\n\n\r\n"
        );
    }

    #[test]
    fn chunk_sizes_are_plain_hex() {
        for len in [0usize, 1, 15, 16, 255, 256, 4096, 70_000] {
            let mut out = Vec::new();
            let at = push_chunk(&mut out, &vec![b'x'; len]);
            assert_eq!(&out[..at], format!("{len:x}\r\n").as_bytes());
            assert_eq!(out.len(), at + len + 2);
        }
    }

    #[test]
    fn event_end_is_a_boundary_from_anywhere() {
        let batch = batch();
        let first = 100 + 20;
        assert_eq!(batch.event_end(100), 100, "the start is between events");
        for at in 101..=first {
            assert_eq!(batch.event_end(at), first, "at {at}");
        }
        for at in first + 1..=batch.end() {
            assert_eq!(batch.event_end(at), batch.end(), "at {at}");
        }
    }

    #[test]
    fn an_event_counts_where_its_last_byte_is() {
        let batch = batch();
        let first = 100 + 20;
        for at in 100..=batch.end() {
            let n_before = u64::from(at >= first) + u64::from(at == batch.end());
            assert_eq!(batch.n_events_between(100, at), n_before, "at {at}");
            assert_eq!(
                batch.n_events_between(at, u64::MAX),
                2 - n_before,
                "at {at}"
            );
        }
    }

    #[test]
    fn events_and_notices_are_counted_apart_and_go_on_from_batch_to_batch() {
        let mut builder = BatchBuilder::default();
        let event = Event {
            event_type: "",
            data: "a",
            id: None,
        };
        builder.push_notice("ssecast.upstream", "{}");
        builder.push(&event);
        builder.push_notice(GAP_NOTICE, "{}");
        builder.push(&event);
        builder.push_notice_block(b"event: ssecast.gap\ndata: {}\n\n");
        let count = |n_events, n_gaps, n_notices| Count {
            n_events,
            n_gaps,
            n_notices,
        };
        let batch = builder.build((10, count(5, 2, 2)), Instant::now(), &Budget::unlimited());
        let ends: Vec<Position> = batch.payloads_from(10).map(|(_, end)| end).collect();
        let counts: Vec<Count> = ends.iter().map(|end| batch.count_at(*end)).collect();
        let expected = [
            count(5, 2, 3),
            count(6, 2, 3),
            count(6, 3, 4),
            count(7, 3, 4),
            count(7, 4, 5),
        ];
        assert_eq!(counts, expected);
        assert_eq!(batch.count_at(10), count(5, 2, 2));
        assert_eq!(batch.count_at(ends[0] - 1), count(5, 2, 2), "not yet");
        builder.clear();
        builder.push(&event);
        let start = (batch.end(), batch.count_at(batch.end()));
        let next = builder.build(start, Instant::now(), &Budget::unlimited());
        assert_eq!(next.count_at(next.end()), count(8, 4, 5));
    }

    #[test]
    fn payloads_resume_at_every_byte() {
        let batch = batch();
        let whole: Vec<u8> = batch
            .payloads_from(100)
            .flat_map(|(bytes, _)| bytes.iter().copied())
            .collect();
        assert_eq!(whole, b"data: a\nid: 1\n\nevent: t\ndata: bb\n\n");
        // Take the stream one byte at a time, through every position.
        let (mut at, mut taken) = (100, Vec::new());
        while at < batch.end() {
            let (bytes, _) = batch.payloads_from(at).next().expect("more");
            taken.push(bytes[0]);
            at = batch.after_payload(at, 1);
        }
        assert_eq!(taken, whole);
    }
}
