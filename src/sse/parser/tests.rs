//! The parser against the vectors, against a plain model, and against itself with other cuts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzz::Outcome;
use super::*;
use crate::sse::test_streams::{any_stream, describe, vectors};

const ROOMY: Limits = Limits {
    max_line_bytes: 1 << 20,
    max_event_bytes: 1 << 20,
};

#[test]
fn vectors_give_their_items() {
    let vectors = vectors();
    for vector in &vectors {
        let mut items = Vec::new();
        let mut parser = Parser::new(ROOMY);
        parser
            .push(&vector.input, |item| items.push(describe(item)))
            .unwrap();
        assert_eq!(items, vector.items, "{}", vector.name);
        let last_event_id = parser.last_event_id().map(|id| format!("{id:?}"));
        assert_eq!(last_event_id, vector.last_event_id, "{}", vector.name);
    }
    assert_eq!(vectors.len(), 87);
}

#[test]
fn vectors_may_be_cut_anywhere() {
    for vector in vectors() {
        fuzz_parser(&vector.input);
    }
}

/// The number of items each push gives.
fn n_items_per_push(pushes: &[&str]) -> Vec<usize> {
    let mut parser = Parser::new(ROOMY);
    let count = |push: &&str| {
        let mut n_items = 0;
        parser.push(push.as_bytes(), |_| n_items += 1).unwrap();
        n_items
    };
    pushes.iter().map(count).collect()
}

#[test]
fn items_do_not_wait_for_the_next_push() {
    assert_eq!(
        n_items_per_push(&["data: 1\n", "\n", "data: 2\n\n"]),
        [0, 1, 1]
    );
    assert_eq!(
        n_items_per_push(&["data: 1\r", "\r", "data: 2\r\r"]),
        [0, 1, 1]
    );
    assert_eq!(
        n_items_per_push(&["data: 1\r\n\r", "\n", "data: 2\r\n\r"]),
        [1, 0, 1]
    );
    assert_eq!(
        n_items_per_push(&["data: 1\r", "", "\n\r", "\ndata: 2\n", "\n"]),
        [0, 0, 1, 0, 1]
    );
    assert_eq!(
        n_items_per_push(&["retry: 1\r", "\nretry: 2", "\n"]),
        [1, 0, 1]
    );
}

fn result_of(limits: Limits, stream: &str) -> Result<(), LimitExceeded> {
    fuzz_parser(stream.as_bytes());
    Outcome::of(limits, [stream.as_bytes()]).result
}

#[test]
fn a_line_may_be_as_long_as_the_limit() {
    let limits = Limits {
        max_line_bytes: 7,
        max_event_bytes: 100,
    };
    let too_long = Err(LimitExceeded::LineTooLong { limit: 7 });
    assert_eq!(result_of(limits, "data: 1\ndata: 2\r\n\n"), Ok(()));
    assert_eq!(result_of(limits, "data: 1\ndata: 23\n\n"), too_long);
    assert_eq!(result_of(limits, ":234567\r:2345678\r"), too_long);
    // Nobody waits for an end that may never come.
    assert_eq!(result_of(limits, "data: 1"), Ok(()));
    assert_eq!(result_of(limits, "data: 12"), too_long);
}

#[test]
fn an_event_may_be_as_large_as_the_limit() {
    let limits = Limits {
        max_line_bytes: 100,
        max_event_bytes: 10,
    };
    let too_large = Err(LimitExceeded::EventTooLarge { limit: 10 });
    assert_eq!(
        result_of(limits, "data: 123456789\n\ndata: 123456789\n\n"),
        Ok(())
    );
    assert_eq!(result_of(limits, "data: 1234567890\n"), too_large);
    assert_eq!(
        result_of(limits, "data: 123\nevent: ab\nid: 4567\n\n"),
        Ok(())
    );
    assert_eq!(
        result_of(limits, "data: 123\nevent: ab\nid: 45678\n\n"),
        too_large
    );
    assert_eq!(
        result_of(limits, "data: 123\nid: 45678\nevent: ab\n\n"),
        too_large
    );
    assert_eq!(
        result_of(limits, "id: 45678\nevent: ab\ndata: 123\n\n"),
        too_large
    );
    // What is replaced does not count, nor do comments, unknown fields and the ID of an event
    // before; that of a block before does.
    assert_eq!(
        result_of(limits, "event: 1234567\nevent: ab\ndata: 1234567\n\n"),
        Ok(())
    );
    assert_eq!(
        result_of(limits, "id: 1234567\nid: 12\ndata: 1234567\n\n"),
        Ok(())
    );
    assert_eq!(
        result_of(limits, ": 1234567890\nfoo: 1234567890\n\n"),
        Ok(())
    );
    assert_eq!(
        result_of(limits, "id: 1234567\ndata\n\ndata: 123456789\n\n"),
        Ok(())
    );
    assert_eq!(result_of(limits, "id: 1234567\n\ndata: 12\n\n"), Ok(()));
    assert_eq!(result_of(limits, "id: 1234567\n\ndata: 123\n\n"), too_large);
    // Decoded bytes count: a replacement character has three.
    let stream = b"data: \xFF\xFF\xFF\n\n";
    assert_eq!(Outcome::of(limits, [&stream[..]]).result, Ok(()));
    let stream = b"data: \xFF\xFF\xFF1\n\n";
    assert_eq!(Outcome::of(limits, [&stream[..]]).result, too_large);
}

#[test]
fn what_came_before_an_excess_is_given() {
    let limits = Limits {
        max_line_bytes: 10,
        max_event_bytes: 10,
    };
    let outcome = Outcome::of(limits, [&b"data: 1\nid: 2\n\nid: 3\ndata: 45678901\n"[..]]);
    assert_eq!(outcome.items.len(), 1);
    assert_eq!(outcome.last_event_id.as_deref(), Some("2"));
    let error = outcome.result.unwrap_err();
    assert_eq!(error.to_string(), "line is longer than 10 bytes");
}

#[test]
fn large_buffers_are_given_back() {
    let mut parser = Parser::new(ROOMY);
    let line = format!("data: {}", "x".repeat(200_000));
    parser.push(line.as_bytes(), |_| ()).unwrap();
    assert!(parser.lines.held_bytes().1 > 200_000);
    parser.push(b"\n", |_| ()).unwrap();
    assert!(parser.lines.held_bytes().1 <= MAX_KEPT_BYTES);
    assert!(parser.block.held_bytes().1 > 200_000);
    parser.push(b"\n", |_| ()).unwrap();
    assert!(parser.block.held_bytes().1 <= MAX_KEPT_BYTES);
}

/// The steps of 9.2.6, word by word over a stream that is decoded and cut into lines at once.
fn model(stream: &[u8]) -> (Vec<String>, Option<String>) {
    let text = String::from_utf8_lossy(stream);
    let text = text
        .strip_prefix('\u{FEFF}')
        .unwrap_or(&text)
        .replace("\r\n", "\n");
    let mut lines: Vec<_> = text.split(['\n', '\r']).collect();
    lines.pop(); // what follows the last line end is no line
    let mut items = Vec::new();
    let (mut data, mut event_type) = (String::new(), String::new());
    let (mut id_buffer, mut last_event_id, mut event_id) = (None, None, None);
    for line in lines {
        if line.is_empty() {
            last_event_id.clone_from(&id_buffer);
            if let Some(data) = data.strip_suffix('\n') {
                let event_type = event_type.as_str();
                let event = Event {
                    event_type,
                    data,
                    id: event_id.take(),
                };
                items.push(format!("{:?}", Item::Event(event)));
            }
            data.clear();
            event_type.clear();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event_type),
            "data" => data += &format!("{value}\n"),
            "id" if !value.contains('\0') => {
                id_buffer = Some(value.to_owned());
                event_id = Some(value);
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() => {
                let time = Duration::from_millis(value.parse().unwrap_or(u64::MAX));
                items.push(format!("{:?}", Item::Retry(time)));
            }
            _ => {}
        }
    }
    (items, last_event_id)
}

/// `stream` cut into pieces of these sizes, in turn.
fn cut<'a>(mut stream: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (head, tail) = stream.split_at((*size).min(stream.len()));
        chunks.push(head);
        stream = tail;
    }
    chunks
}

proptest! {
    #[test]
    fn any_stream_is_read_as_the_standard_says(stream in any_stream()) {
        let outcome = Outcome::of(ROOMY, [&stream[..]]);
        prop_assert_eq!(outcome.result, Ok(()));
        prop_assert_eq!((outcome.items, outcome.last_event_id), model(&stream));
    }

    #[test]
    fn any_chunking_gives_the_same(
        stream in any_stream(),
        sizes in vec(0_usize..20, 1..8).prop_filter("moves", |sizes| sizes.iter().any(|n| *n > 0)),
        max_line_bytes in 0_usize..40,
        max_event_bytes in 0_usize..40,
    ) {
        let chunks = cut(&stream, &sizes);
        for limits in [ROOMY, Limits { max_line_bytes, max_event_bytes }] {
            let whole = Outcome::of(limits, [&stream[..]]);
            prop_assert_eq!(Outcome::of(limits, chunks.iter().copied()), whole);
        }
    }

    #[test]
    fn every_cut_gives_the_same(stream in any_stream()) {
        fuzz_parser(&stream);
    }
}
