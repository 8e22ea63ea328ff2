//! Writes events as the bytes of an event stream.
//!
//! What is written reads back as the same event, in any user agent and in our parser. It does not
//! choose what is written: heartbeats, IDs and reconnection times are the caller's.
//!
//! Spec: HTML Living Standard, 9.2.5. Within it, the bytes are those that clients agree on: one
//! space after the colon, none before an empty value, LF as line end, and no blank line but after
//! an event or a cursor, because some clients fire an empty event at every blank line.

use std::time::Duration;

use memchr::{memchr2, memchr3};

use super::event::Event;

/// Keeps a connection busy; clients ignore it.
///
/// Without a blank line, at which some clients would fire an empty event.
pub const HEARTBEAT_COMMENT: &[u8] = b":\n";

/// Appends `event` as one block, with its ID as the last field.
///
/// CR, CRLF and LF in the data all become the end of a data line, so they arrive as LF. An event
/// type with a CR or LF, or an ID with a CR, LF or NUL, cannot be said in the format; such a field
/// is left out whole. (A part of an ID could be the ID of another event. Without its ID, an event
/// may come twice after a reconnect; it is not lost.) The parser gives no such fields.
///
/// ```
/// use ssecast::sse::{Event, encode_event};
///
/// let mut out = Vec::new();
/// encode_event(&mut out, &Event { event_type: "add", data: "a\nb", id: Some("7") });
/// assert_eq!(out, b"event: add\ndata: a\ndata: b\nid: 7\n\n");
/// ```
pub fn encode_event(out: &mut Vec<u8>, event: &Event<'_>) {
    let &Event {
        event_type,
        data,
        id,
    } = event;
    if !event_type.is_empty() && memchr2(b'\n', b'\r', event_type.as_bytes()).is_none() {
        push_field(out, b"event", event_type.as_bytes());
    }
    push_data(out, data.as_bytes());
    if let Some(id) = id
        && is_valid_id(id)
    {
        push_field(out, b"id", id.as_bytes());
    }
    out.push(b'\n');
}

/// Appends a `retry` field that sets the reconnection time, in whole milliseconds.
///
/// Without a blank line, at which some clients would fire an empty event: it is meant to be
/// followed by an event or a comment.
pub fn encode_retry(out: &mut Vec<u8>, time: Duration) {
    push_field(out, b"retry", time.as_millis().to_string().as_bytes());
}

/// Appends a block that sets a browser's last event ID and dispatches nothing.
///
/// Not every client takes it: some fire an empty event, some ignore it. An ID with a CR, LF or NUL
/// cannot be said in the format; nothing is appended then.
pub fn encode_cursor(out: &mut Vec<u8>, id: &str) {
    if is_valid_id(id) {
        push_field(out, b"id", id.as_bytes());
        out.push(b'\n');
    }
}

/// Appends a `data` field for each line of `data`; for no data, an empty one.
fn push_data(out: &mut Vec<u8>, mut data: &[u8]) {
    while let Some((line, end)) =
        memchr2(b'\n', b'\r', data).and_then(|at| data.split_at_checked(at))
    {
        push_field(out, b"data", line);
        data = match end {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => end,
        };
    }
    push_field(out, b"data", data);
}

/// Appends one line; `value` must not contain a line end.
fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(if value.is_empty() { b":" } else { b": " });
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn is_valid_id(id: &str) -> bool {
    memchr3(b'\n', b'\r', b'\0', id.as_bytes()).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::sse::test_streams::{any_stream, vectors};
    use crate::sse::{Item, Limits, Parser};

    fn encoded(event_type: &str, data: &str, id: Option<&str>) -> String {
        let mut out = Vec::new();
        encode_event(
            &mut out,
            &Event {
                event_type,
                data,
                id,
            },
        );
        String::from_utf8(out).unwrap()
    }

    /// Each item of `stream` as `Debug` shows it, and the whole written anew.
    fn parse(stream: &[u8]) -> (Vec<String>, Vec<u8>) {
        let mut parser = Parser::new(Limits {
            max_line_bytes: 1 << 20,
            max_event_bytes: 1 << 20,
        });
        let (mut items, mut out) = (Vec::new(), Vec::new());
        let sink = |item: Item<'_>| {
            items.push(format!("{item:?}"));
            match item {
                Item::Event(event) => encode_event(&mut out, &event),
                Item::Retry(time) => encode_retry(&mut out, time),
            }
        };
        parser.push(stream, sink).unwrap();
        (items, out)
    }

    #[test]
    fn an_event_is_written_in_one_way() {
        assert_eq!(encoded("", "a", None), "data: a\n\n");
        assert_eq!(encoded("", "", None), "data:\n\n");
        assert_eq!(
            encoded("add", " a", Some("7")),
            "event: add\ndata:  a\nid: 7\n\n"
        );
        assert_eq!(encoded("", "a", Some("")), "data: a\nid:\n\n");
        assert_eq!(encoded("", "\n", None), "data:\ndata:\n\n");
        assert_eq!(
            encoded("", "a\n\nb\n", None),
            "data: a\ndata:\ndata: b\ndata:\n\n"
        );
    }

    #[test]
    fn every_line_end_in_data_is_one_line_end() {
        let lines = "data: a\ndata: b\n\n";
        assert_eq!(encoded("", "a\nb", None), lines);
        assert_eq!(encoded("", "a\rb", None), lines);
        assert_eq!(encoded("", "a\r\nb", None), lines);
        assert_eq!(encoded("", "a\n\rb", None), "data: a\ndata:\ndata: b\n\n");
        assert_eq!(encoded("", "a\r", None), "data: a\ndata:\n\n");
        assert_eq!(
            encoded("", "a\r\rid: 1", None),
            "data: a\ndata:\ndata: id: 1\n\n"
        );
    }

    #[test]
    fn fields_that_would_become_more_lines_are_left_out() {
        for bad in ["a\nb", "a\rb", "\n\ndata: b", "a\r\n"] {
            assert_eq!(encoded(bad, "1", Some(bad)), "data: 1\n\n");
        }
        assert_eq!(
            encoded("a\0b", "1", Some("a\0b")),
            "event: a\0b\ndata: 1\n\n"
        );
    }

    #[test]
    fn a_cursor_is_an_id_and_a_blank_line() {
        let encoded = |id| {
            let mut out = Vec::new();
            encode_cursor(&mut out, id);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encoded("7"), "id: 7\n\n");
        assert_eq!(encoded(""), "id:\n\n");
        assert_eq!(["a\nb", "a\rb", "a\0b"].map(encoded), ["", "", ""]);
    }

    #[test]
    fn a_reconnection_time_is_a_line() {
        let mut out = Vec::new();
        encode_retry(&mut out, Duration::from_micros(2_500_900));
        assert_eq!(out, b"retry: 2500\n");
    }

    #[test]
    fn no_item_comes_of_heartbeats_and_cursors() {
        let mut out = HEARTBEAT_COMMENT.to_vec();
        encode_cursor(&mut out, "7");
        assert_eq!(parse(&out).0, [""; 0]);
    }

    #[test]
    fn vectors_are_read_again_from_what_is_written() {
        for vector in vectors() {
            let (items, out) = parse(&vector.input);
            assert_eq!(parse(&out), (items, out), "{}", vector.name);
        }
    }

    proptest! {
        #[test]
        fn what_the_parser_gives_is_read_again(stream in any_stream()) {
            let (items, out) = parse(&stream);
            prop_assert_eq!(parse(&out), (items, out));
        }

        #[test]
        fn events_stay_apart_whatever_is_in_them(
            events in vec((".{0,3}[a\r\n\0]{0,3}", "(.|[:\r\n\0]){0,12}", option::of("[a\r\n\0]{0,4}")), 0..4),
        ) {
            let mut out = Vec::new();
            for (event_type, data, id) in &events {
                encode_event(&mut out, &Event { event_type, data, id: id.as_deref() });
            }
            let mut parsed = Vec::new();
            let mut parser =
                Parser::new(Limits { max_line_bytes: 1 << 20, max_event_bytes: 1 << 20 });
            parser
                .push(&out, |item| {
                    if let Item::Event(event) = item {
                        parsed.push(event.data.to_owned());
                    }
                })
                .unwrap();
            let data: Vec<_> =
                events.iter().map(|event| event.1.replace("\r\n", "\n").replace('\r', "\n")).collect();
            prop_assert_eq!(parsed, data);
        }
    }
}
