//! Tells where an event stream is between two events, without reading them.
//!
//! There a comment may be put in that the origin did not write: no event is torn by it, for a
//! user agent that follows the standard or for one that does not. It holds no byte of the stream, so
//! an event may be of any size.
//!
//! Spec: HTML Living Standard, 9.2.5 (grammar) and 9.2.6 (interpretation).

use memchr::memchr2;

/// The place that a stream has come to.
///
/// ```
/// use ssecast::sse::Boundaries;
///
/// let mut stream = Boundaries::default();
/// assert!(stream.is_between());
/// stream.push(b"data: half of ");
/// assert!(!stream.is_between());
/// stream.push(b"an event\n");
/// assert!(!stream.is_between());
/// stream.push(b"\n: a comment\n");
/// assert!(stream.is_between());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Boundaries {
    block: Block,
    line: Line,
}

/// What has come since the last blank line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Block {
    /// Nothing, or comments.
    #[default]
    Empty,
    /// A field.
    Begun,
}

/// ```text
/// Mark ─▶ Blank ─▶ Field │ Comment ─▶ AfterCr ─▶ Blank
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of a byte order mark, and nothing else since the stream began.
    Mark(u8),
    /// Nothing of a line.
    Blank,
    /// Something that is no comment.
    Field,
    /// A colon, and what followed it.
    Comment,
    /// It ended with a CR, and an LF right behind it would be part of its end.
    AfterCr,
}

impl Default for Line {
    fn default() -> Self {
        Self::Mark(0)
    }
}

impl Boundaries {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            if matches!(self.line, Line::Field | Line::Comment) {
                let end = memchr2(b'\n', b'\r', piece);
                let end = end.and_then(|at| piece.get(at..)?.split_first());
                let Some((&end, rest)) = end else { return };
                self.end_line(end);
                piece = rest;
            } else {
                self.begin_line(byte);
                piece = rest;
            }
        }
    }

    /// Whether nothing of an event has come since the last one, and the next byte begins a line.
    ///
    /// After a CR the answer is no, because it is not known yet whether an LF belongs to it: so a
    /// stream whose lines end with nothing but CR is between events only at its start.
    pub fn is_between(&self) -> bool {
        self.block == Block::Empty && matches!(self.line, Line::Blank | Line::Mark(0 | MARK_LEN))
    }

    /// A byte where no line has begun.
    fn begin_line(&mut self, byte: u8) {
        if let Line::Mark(n) = self.line {
            if BYTE_ORDER_MARK.get(usize::from(n)) == Some(&byte) {
                self.line = Line::Mark(n + 1);
                return;
            }
            if 0 < n && n < MARK_LEN {
                // It was none, so it is the begin of a name.
                self.line = Line::Field;
                self.block = Block::Begun;
                if matches!(byte, b'\r' | b'\n') {
                    self.end_line(byte);
                }
                return;
            }
        }
        match byte {
            b'\n' if self.line == Line::AfterCr => self.line = Line::Blank,
            b'\r' | b'\n' => {
                self.block = Block::Empty;
                self.end_line(byte);
            }
            b':' => self.line = Line::Comment,
            _ => {
                self.line = Line::Field;
                self.block = Block::Begun;
            }
        }
    }

    fn end_line(&mut self, end: u8) {
        self.line = if end == b'\r' {
            Line::AfterCr
        } else {
            Line::Blank
        };
    }
}

/// U+FEFF in UTF-8: no text at the start of a stream, and text anywhere else.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const MARK_LEN: u8 = 3;

/// Takes a byte order mark off the start of a stream that something else was put in front of: there
/// it would be text.
#[derive(Debug, Clone, Copy, Default)]
pub struct MarkRemover {
    /// Bytes of a mark that came and are withheld; `None`: the stream has begun otherwise.
    n_withheld: Option<u8>,
}

impl MarkRemover {
    /// For a stream of which nothing has come.
    pub fn new() -> Self {
        Self {
            n_withheld: Some(0),
        }
    }

    /// Takes the next bytes; returns what was withheld and is no mark, and how many bytes of `piece`
    /// are to be left out.
    pub fn push(&mut self, piece: &[u8]) -> (&'static [u8], usize) {
        let Some(n) = self.n_withheld else {
            return (&[], 0);
        };
        let withheld = usize::from(n);
        let rest = BYTE_ORDER_MARK.get(withheld..).unwrap_or_default();
        let n_same = piece.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if n_same == rest.len() {
            self.n_withheld = None;
            return (&[], n_same);
        }
        if n_same == piece.len() {
            self.n_withheld = u8::try_from(withheld + n_same).ok();
            return (&[], n_same);
        }
        self.n_withheld = None;
        (BYTE_ORDER_MARK.get(..withheld).unwrap_or_default(), 0)
    }

    /// What is withheld when the stream ends.
    pub fn finish(&mut self) -> &'static [u8] {
        let withheld = self.n_withheld.take().map_or(0, usize::from);
        BYTE_ORDER_MARK.get(..withheld).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::test_streams::{any_stream, describe, vectors};
    use crate::sse::{HEARTBEAT_COMMENT, Limits, Parser};

    const ROOMY: Limits = Limits {
        max_line_bytes: 1 << 20,
        max_event_bytes: 1 << 20,
    };

    /// What a stream makes happen.
    fn items(stream: &[u8]) -> (Vec<String>, Option<String>) {
        let mut parser = Parser::new(ROOMY);
        let mut items = Vec::new();
        let parsed = parser.push(stream, |item| items.push(describe(item)));
        parsed.expect("nothing is too large");
        (items, parser.last_event_id().map(str::to_owned))
    }

    /// Where a stream is between events, by its number of bytes.
    fn boundaries(stream: &[u8]) -> Vec<usize> {
        let mut place = Boundaries::default();
        let mut found = Vec::new();
        for at in 0..=stream.len() {
            if place.is_between() {
                found.push(at);
            }
            place.push(&stream[at..stream.len().min(at + 1)]);
        }
        found
    }

    /// The stream with a comment at each of these places, as a proxy that puts it in would send it.
    fn with_comments(stream: &[u8], places: &[usize]) -> Vec<u8> {
        let mut mark = MarkRemover::default();
        let mut sent = Vec::new();
        for at in 0..=stream.len() {
            if places.contains(&at) {
                sent.extend_from_slice(HEARTBEAT_COMMENT);
                if at == 0 {
                    mark = MarkRemover::new();
                }
            }
            let byte = &stream[at..stream.len().min(at + 1)];
            let (before, n_skipped) = mark.push(byte);
            sent.extend_from_slice(before);
            sent.extend_from_slice(&byte[n_skipped..]);
        }
        sent.extend_from_slice(mark.finish());
        sent
    }

    fn assert_harmless(stream: &[u8]) {
        let expected = items(stream);
        let places = boundaries(stream);
        for at in &places {
            let sent = with_comments(stream, &[*at]);
            assert_eq!(items(&sent), expected, "a comment at {at}: {sent:?}");
        }
        let sent = with_comments(stream, &places);
        assert_eq!(items(&sent), expected, "comments at {places:?}: {sent:?}");
    }

    #[test]
    fn a_comment_between_events_changes_none_of_the_vectors() {
        let vectors = vectors();
        assert!(vectors.len() > 50, "{} vectors", vectors.len());
        for vector in vectors {
            assert_harmless(&vector.input);
        }
    }

    proptest! {
        #[test]
        fn a_comment_between_events_changes_nothing(stream in any_stream()) {
            assert_harmless(&stream);
        }

        #[test]
        fn it_is_at_the_same_place_however_the_stream_is_cut(
            stream in any_stream(),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(stream.len())).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let by_bytes = boundaries(&stream);
            let mut place = Boundaries::default();
            let mut from = 0;
            for to in cuts {
                place.push(&stream[from..to]);
                prop_assert_eq!(place.is_between(), by_bytes.contains(&to), "at {}", to);
                from = to;
            }
        }

        #[test]
        fn every_event_ends_at_a_boundary(stream in any_stream()) {
            // A stream whose lines all end with LF is between events after each blank line.
            let stream: Vec<u8> = stream.into_iter().filter(|byte| *byte != b'\r').collect();
            let found = boundaries(&stream);
            let blank = stream.windows(2).enumerate().filter(|(_, two)| *two == b"\n\n");
            for (at, _) in blank {
                prop_assert!(found.contains(&(at + 2)), "after {}", at + 2);
            }
        }

        #[test]
        fn a_mark_is_left_out_and_nothing_else(stream in any_stream(), at in 0_usize..10) {
            let (head, tail) = stream.split_at(at.min(stream.len()));
            let mut mark = MarkRemover::new();
            let mut kept = Vec::new();
            for piece in [head, tail] {
                let (before, n_skipped) = mark.push(piece);
                kept.extend_from_slice(before);
                kept.extend_from_slice(&piece[n_skipped..]);
            }
            kept.extend_from_slice(mark.finish());
            let expected = stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&stream);
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_stream_is_between_events_where_it_should_be() {
        let cases: &[(&[u8], &[usize])] = &[
            (b"", &[0]),
            (b"data: a\n\n", &[0, 9]),
            (b"data: a\r\n\r\ndata", &[0, 11]),
            // The last CR may be half of a line end.
            (b"data: a\r\r", &[0]),
            (b"data: a\r\r\n", &[0, 10]),
            (b"\n\n", &[0, 1, 2]),
            (b": hm\n", &[0, 5]),
            (b"data: a\n: hm\n\n", &[0, 14]),
            // Half an event may begin with its ID, or be nothing but that.
            (b"id: 1\n\n", &[0, 7]),
            (b"retry: 1\n\n", &[0, 10]),
            (b"\xEF\xBB\xBFdata\n\n", &[0, 3, 9]),
            (b"\xEF\xBBdata\n\n", &[0, 8]),
            (b"\xEF\n\n", &[0, 3]),
            // No mark: it comes too late.
            (b"\n\xEF\xBB\xBF\n\n", &[0, 1, 6]),
        ];
        for (stream, expected) in cases {
            let shown = String::from_utf8_lossy(stream);
            assert_eq!(boundaries(stream), *expected, "{shown:?}");
        }
    }
}
