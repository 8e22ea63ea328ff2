//! Comments in an event stream that passes through, so that a silent one does not look dead to what is
//! between us and its client.
//!
//! Knows where a comment may stand, and not when: that is [`super::answer`]'s business. Nothing is
//! buffered, but up to two bytes of what may be a byte order mark behind a comment that came first.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode, response};

use crate::sse::{Boundaries, HEARTBEAT_COMMENT, MarkRemover};

/// What is known of an event stream that gets comments.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// How long the stream is silent before it gets a comment.
    pub(super) interval: Duration,
    place: Boundaries,
    mark: MarkRemover,
    /// Whether the origin has sent anything.
    has_begun: bool,
}

impl Heartbeat {
    /// The comments of this answer; `None`: it gets none. One that does has no length any more.
    pub(super) fn of(
        interval: Option<Duration>,
        method: &Method,
        head: &mut response::Parts,
    ) -> Option<Box<Self>> {
        let interval = interval?;
        if method == Method::HEAD || !is_plain_event_stream(head.status, &head.headers) {
            return None;
        }
        head.headers.remove(CONTENT_LENGTH);
        Some(Box::new(Self::new(interval)))
    }

    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            place: Boundaries::default(),
            mark: MarkRemover::default(),
            has_begun: false,
        }
    }

    /// What goes on of these bytes of the origin: all of them, as a rule.
    pub(super) fn pass(&mut self, piece: &Bytes) -> Bytes {
        self.place.push(piece);
        self.has_begun |= !piece.is_empty();
        let (before, n_skipped) = self.mark.push(piece);
        if before.is_empty() {
            return piece.slice(n_skipped..);
        }
        let rest = piece.get(n_skipped..).unwrap_or_default();
        Bytes::from([before, rest].concat())
    }

    /// A comment, if one may stand here.
    pub(super) fn beat(&mut self) -> Option<Bytes> {
        if !self.place.is_between() {
            return None;
        }
        if !self.has_begun {
            self.mark = MarkRemover::new();
        }
        Some(Bytes::from_static(HEARTBEAT_COMMENT))
    }

    /// What was withheld, when the origin has ended the stream.
    pub(super) fn finish(&mut self) -> Bytes {
        Bytes::from_static(self.mark.finish())
    }
}

/// Whether a comment can be put into the content: it is an event stream, whole, and nothing is encoded.
fn is_plain_event_stream(status: StatusCode, fields: &HeaderMap) -> bool {
    let is_encoded = fields
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let media_type = fields
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|media_type| media_type.split(';').next());
    status.is_success()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::PARTIAL_CONTENT
        && !is_encoded
        && !fields.contains_key(CONTENT_RANGE)
        && essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn gets_comments(method: &Method, status: u16, fields: &[(&str, &str)]) -> bool {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (mut head, ()) = response.body(()).unwrap().into_parts();
        Heartbeat::of(Some(Duration::from_secs(15)), method, &mut head).is_some()
    }

    #[test]
    fn only_a_whole_event_stream_in_the_clear_gets_comments() {
        let stream = ("content-type", "text/event-stream");
        for (expected, status, fields) in [
            (true, 200, &[stream][..]),
            (
                true,
                200,
                &[("content-type", "Text/Event-Stream ; charset=utf-8")],
            ),
            (true, 200, &[stream, ("content-encoding", "identity")]),
            (false, 200, &[("content-type", "text/event-streams")]),
            (false, 200, &[]),
            (false, 200, &[stream, ("content-encoding", "gzip")]),
            (false, 206, &[stream]),
            (false, 200, &[stream, ("content-range", "bytes 0-1/2")]),
            (false, 404, &[stream]),
            (false, 204, &[stream]),
        ] {
            let found = gets_comments(&Method::POST, status, fields);
            assert_eq!(found, expected, "{status} {fields:?}");
        }
        assert!(!gets_comments(&Method::HEAD, 200, &[stream]));
    }

    #[test]
    fn a_stream_with_comments_has_no_length() {
        let response = Response::builder()
            .header("content-type", "text/event-stream")
            .header("content-length", "10");
        let (mut head, ()) = response.body(()).unwrap().into_parts();
        assert!(Heartbeat::of(None, &Method::GET, &mut head).is_none());
        assert!(head.headers.contains_key(CONTENT_LENGTH));
        let interval = Some(Duration::from_secs(15));
        assert!(Heartbeat::of(interval, &Method::GET, &mut head).is_some());
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn a_byte_order_mark_behind_a_comment_is_left_out() {
        let mut stream = Heartbeat::new(Duration::from_secs(15));
        assert_eq!(stream.beat().unwrap(), ":\n");
        assert_eq!(stream.pass(&Bytes::from_static(b"\xEF\xBB")), "");
        assert_eq!(
            stream.pass(&Bytes::from_static(b"\xBFdata: a\n\n")),
            "data: a\n\n"
        );

        let mut stream = Heartbeat::new(Duration::from_secs(15));
        assert_eq!(
            stream.pass(&Bytes::from_static(b"\xEF\xBB\xBF")),
            &b"\xEF\xBB\xBF"[..]
        );
        assert_eq!(stream.beat().unwrap(), ":\n");
    }
}
