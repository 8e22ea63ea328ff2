//! Splits an HTTP/1.1 chunked body into its chunks (RFC 9112, section 7.1).
//!
//! Only what the bench's servers write: no chunk extensions, no trailers.

use std::str;

/// The whole chunks at the beginning of some bytes.
#[derive(Debug, Clone)]
pub(crate) struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A whole chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    /// What it carries.
    pub(crate) data: &'a [u8],
    /// Where the next one begins.
    pub(crate) end: usize,
}

/// The bytes are not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Chunks<'a> {
    /// The chunks of bytes that begin with one.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the first chunk begins that is not whole yet.
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Malformed>;

    /// The next chunk that is whole. After a malformed one there is no other.
    fn next(&mut self) -> Option<Self::Item> {
        /// A chunk of more than 16 GiB is nothing that we know.
        const MAX_DIGITS: usize = 8;
        let rest = &self.bytes[self.at..];
        let Some(n_digits) = rest
            .iter()
            .take(MAX_DIGITS + 1)
            .position(|byte| *byte == b'\r')
        else {
            return (rest.len() > MAX_DIGITS).then(|| self.stop());
        };
        let Some(length) = parse_length(&rest[..n_digits]) else {
            return Some(self.stop());
        };
        let begin = n_digits + 2;
        let end = begin + length;
        let whole = rest.get(..end + 2)?;
        if &whole[n_digits..begin] != b"\r\n" || &whole[end..] != b"\r\n" {
            return Some(self.stop());
        }
        self.at += end + 2;
        Some(Ok(Chunk {
            data: &whole[begin..end],
            end: self.at,
        }))
    }
}

impl<'a> Chunks<'a> {
    fn stop(&mut self) -> Result<Chunk<'a>, Malformed> {
        self.at = self.bytes.len();
        Err(Malformed)
    }
}

fn parse_length(digits: &[u8]) -> Option<usize> {
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}
