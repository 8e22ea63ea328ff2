//! Cuts a chunked event stream into lines.
//!
//! Knows the three line ends, the leading byte order mark and the longest line that is allowed. It
//! does not know fields. A line that lies within one chunk is lent from there; only one that
//! the end of a chunk cuts is copied.
//!
//! Spec: HTML Living Standard, 9.2.5 (`stream`, `end-of-line`) and 9.2.6 (line ends).

use std::mem;

use memchr::memchr2;

use super::{LimitExceeded, MAX_KEPT_BYTES};

/// The lines of one stream.
pub(super) struct Lines {
    max_line_bytes: usize,
    /// What has come of a line that the end of a chunk cut.
    ///
    /// Invariant: never longer than `max_line_bytes`.
    partial: Vec<u8>,
    /// Whether `partial` has been completed and lent out, so that the next call must empty it.
    is_partial_lent: bool,
    /// Whether the last byte was a CR. It ended its line; an LF right behind it is part of it.
    is_after_cr: bool,
    /// Whether no line has ended yet: only there, a byte order mark is not text.
    is_first_line: bool,
}

impl Lines {
    pub(super) fn new(max_line_bytes: usize) -> Self {
        Self {
            max_line_bytes,
            partial: Vec::new(),
            is_partial_lent: false,
            is_after_cr: false,
            is_first_line: true,
        }
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes a line off the front of `chunk`, without its end.
    ///
    /// `None`: `chunk` is used up, and the line at its end is remembered. It has to be called until
    /// then before the next chunk.
    #[inline]
    pub(super) fn next_line<'a, 'chunk: 'a>(
        &'a mut self,
        chunk: &mut &'chunk [u8],
    ) -> Result<Option<&'a [u8]>, LimitExceeded> {
        if mem::take(&mut self.is_partial_lent) {
            self.partial.clear();
            self.partial.shrink_to(MAX_KEPT_BYTES);
        }
        if self.is_after_cr && !chunk.is_empty() {
            self.is_after_cr = false;
            *chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        let (line, end) = match split_at_line_end(chunk) {
            Some((line, end, rest)) => {
                *chunk = rest;
                (line, Some(end))
            }
            None => (mem::take(chunk), None),
        };
        if self.partial.len() + line.len() > self.max_line_bytes {
            let limit = self.max_line_bytes;
            return Err(LimitExceeded::LineTooLong { limit });
        }
        let Some(end) = end else {
            self.partial.extend_from_slice(line);
            return Ok(None);
        };
        self.is_after_cr = end == b'\r';
        let line = if self.partial.is_empty() {
            line
        } else {
            self.partial.extend_from_slice(line);
            self.is_partial_lent = true;
            &self.partial
        };
        if mem::take(&mut self.is_first_line) {
            return Ok(Some(line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)));
        }
        Ok(Some(line))
    }

    /// Bytes held of an unfinished line, and bytes reserved.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held_bytes(&self) -> (usize, usize) {
        (self.partial.len(), self.partial.capacity())
    }
}

/// The bytes before the first CR or LF, that byte, and the bytes behind it.
fn split_at_line_end(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (line, rest) = bytes.split_at_checked(memchr2(b'\n', b'\r', bytes)?)?;
    let (end, rest) = rest.split_first()?;
    Some((line, *end, rest))
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
