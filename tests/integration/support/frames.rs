//! The frames of HTTP/2, byte by byte, for what no well-behaved client sends.
//!
//! Spec: RFC 9113, 4.1, 6 and 7; of header fields (RFC 7541) only what is a byte.

use super::client::Client;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// SETTINGS without any (6.5).
pub(crate) const NO_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

// Types of frames (6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

// Flags.
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

// Errors (7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

// Header fields of the static table (RFC 7541, appendix A).
pub(crate) const STATUS_200: u8 = 0x80 | 8;
pub(crate) const STATUS_400: u8 = 0x80 | 12;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The next one.
    pub(crate) async fn next(client: &mut Client) -> Self {
        let head = client.take(9, "a frame").await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let length = usize::try_from(length).expect("a small number");
        Self {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: client.take(length, "the payload of a frame").await,
        }
    }

    /// The next one of this type.
    pub(crate) async fn next_of(client: &mut Client, kind: u8) -> Self {
        loop {
            let frame = Self::next(client).await;
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Whether nothing follows it in its stream.
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The error that ends a stream (RST_STREAM), or a connection (GOAWAY).
    pub(crate) fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self.payload[at..at + 4].try_into();
        u32::from_be_bytes(bytes.expect("four bytes"))
    }
}

/// A whole frame: its type, flags and stream, and its payload.
pub(crate) fn encode((kind, flags, stream): (u8, u8, u32), payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a client begins with.
pub(crate) fn greeting() -> Vec<u8> {
    [PREFACE, NO_SETTINGS].concat()
}
