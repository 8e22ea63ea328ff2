//! How long a message's body is, said anew for each hop: never copied from what a peer wrote.
//!
//! hyper has read the body that is passed on, so how it reads is what counts. It lets pass what this
//! refuses: codings besides `chunked`, whose name would be lost, and (from origins) a length beside it.
//!
//! Spec: RFC 9112, 6; RFC 9113, 8.1.1.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use hyper::body::Body;

use super::Refused;

/// What a request has besides its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    None,
    /// This many bytes.
    Known(u64),
    /// As much as comes.
    Unknown,
}

/// Why an answer can't be passed on: nobody knows where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("the answer has both Content-Length and Transfer-Encoding")]
    BothLengths,
    /// A transfer coding that is not `chunked`.
    #[error("the answer has a transfer coding that is not chunked")]
    Coding,
    /// Lengths that are none, or not the same.
    #[error("the answer has a Content-Length that is none")]
    Length,
}

impl Content {
    /// What a body has.
    pub fn of(body: &impl Body) -> Self {
        if body.is_end_stream() {
            return Self::None;
        }
        body.size_hint().exact().map_or(Self::Unknown, Self::Known)
    }
}

/// Checks that what a request's head says of its body is what was read of it.
pub(super) fn check(fields: &HeaderMap, content: Content) -> Result<(), Refused> {
    let is_chunked = match coding(fields) {
        Coding::Chunked => true,
        Coding::None => false,
        Coding::Other => return Err(Refused::Coding),
    };
    let length = length(fields).map_err(|_contradiction| Refused::Length)?;
    match (length, content) {
        (Some(_), _) if is_chunked => Err(Refused::Length),
        (Some(length), Content::Known(known)) if length != known => Err(Refused::Length),
        (Some(1..), Content::None) | (Some(_), Content::Unknown) => Err(Refused::Length),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Says how long the body of a request is that is sent. An empty one is named where the client did.
pub(super) fn tell(
    fields: &mut HeaderMap,
    client: &HeaderMap,
    content: Content,
    version: http::Version,
) {
    match content {
        Content::None if client.contains_key(CONTENT_LENGTH) => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Content::None => {}
        Content::Known(length) => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        // hyper sends no body with a GET unless it is told to.
        Content::Unknown if version == http::Version::HTTP_11 => {
            fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Content::Unknown => {}
    }
}

/// Checks that the end of an answer's body is known.
pub(super) fn check_answer(fields: &HeaderMap) -> Result<(), Unusable> {
    let has_coding = match coding(fields) {
        Coding::Chunked => true,
        Coding::None => false,
        Coding::Other => return Err(Unusable::Coding),
    };
    if has_coding && fields.contains_key(CONTENT_LENGTH) {
        return Err(Unusable::BothLengths);
    }
    length(fields)
        .map(|_length| ())
        .map_err(|_contradiction| Unusable::Length)
}

/// Lengths that are none, or contradict each other.
pub(super) struct Contradiction;

/// The length that is told, once or more often.
pub(super) fn length(fields: &HeaderMap) -> Result<Option<u64>, Contradiction> {
    let mut found = None;
    for line in fields.get_all(CONTENT_LENGTH) {
        for one in line.as_bytes().split(|byte| *byte == b',') {
            let length = number(one.trim_ascii()).ok_or(Contradiction)?;
            if found.replace(length).is_some_and(|other| other != length) {
                return Err(Contradiction);
            }
        }
    }
    Ok(found)
}

/// A number of digits alone: without a sign, which Rust would read.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

enum Coding {
    Chunked,
    None,
    Other,
}

/// What `Transfer-Encoding` says. `identity` is no coding since RFC 7230.
fn coding(fields: &HeaderMap) -> Coding {
    let mut lines = fields.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Coding::None,
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
        (Some(_), _) => Coding::Other,
    }
}
