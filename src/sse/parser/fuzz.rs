//! What must hold for any bytes, for the fuzzer and for the unit tests.

use super::{Item, LimitExceeded, Limits, Parser};
use crate::sse::encode_event;

/// Checks that no way to cut `data` in two, nor cutting it into bytes, changes what is parsed, and
/// that what is parsed reads the same when it is written again.
///
/// Only the first 256 places to cut are tried, because the work grows with the square of the
/// input. Every push also checks that the buffers keep to the limits.
///
/// # Panics
///
/// If the parser is wrong.
pub fn fuzz_parser(data: &[u8]) {
    let roomy = Limits {
        max_line_bytes: 1 << 20,
        max_event_bytes: 1 << 20,
    };
    let tight = Limits {
        max_line_bytes: 12,
        max_event_bytes: 16,
    };
    for limits in [roomy, tight] {
        let whole = Outcome::of(limits, [data]);
        assert_eq!(Outcome::of(limits, data.chunks(1)), whole, "cut into bytes");
        for at in 0..=data.len().min(256) {
            let (head, tail) = data.split_at(at);
            assert_eq!(Outcome::of(limits, [head, tail]), whole, "cut at {at}");
        }
    }
    let (items, written) = rewritten(roomy, data);
    assert_eq!(rewritten(roomy, &written), (items, written.clone()));
}

/// The events of a stream, as far as it can be parsed, and the same written again.
fn rewritten(limits: Limits, data: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut items = Vec::new();
    let mut written = Vec::new();
    let parsed = Parser::new(limits).push(data, |item| {
        if let Item::Event(event) = item {
            items.push(format!("{event:?}"));
            encode_event(&mut written, &event);
        }
    });
    // What came before a limit counts.
    parsed.unwrap_or_default();
    (items, written)
}

/// All that can be seen of a parser that was pushed a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The items as `Debug` shows them.
    pub(super) items: Vec<String>,
    pub(super) last_event_id: Option<String>,
    pub(super) result: Result<(), LimitExceeded>,
}

impl Outcome {
    /// Pushes `chunks` until they or a limit end, checking the buffers on the way.
    pub(super) fn of<'a>(limits: Limits, chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut parser = Parser::new(limits);
        let mut items = Vec::new();
        let mut result = Ok(());
        for chunk in chunks {
            result = parser.push(chunk, |item| {
                assert_is_sayable(item);
                items.push(format!("{item:?}"));
            });
            if result.is_err() {
                break;
            }
            assert_within(limits, &parser);
        }
        let last_event_id = parser.last_event_id().map(str::to_owned);
        Self {
            items,
            last_event_id,
            result,
        }
    }
}

/// The buffers hold no more than the limits, and have not reserved much more than they hold.
fn assert_within(limits: Limits, parser: &Parser) {
    // A buffer doubles when it grows, and has 8 bytes at first.
    let max_reserved = |limit: usize| limit.saturating_mul(2).max(8);
    let (held, reserved) = parser.lines.held_bytes();
    assert!(held <= limits.max_line_bytes, "{held} bytes of a line");
    assert!(
        reserved <= max_reserved(limits.max_line_bytes),
        "{reserved} bytes for a line"
    );
    let (held, reserved) = parser.block.held_bytes();
    assert!(held <= limits.max_event_bytes, "{held} bytes of an event");
    assert!(
        reserved <= max_reserved(limits.max_event_bytes),
        "{reserved} bytes for an event"
    );
}

/// `Event` promises what its strings are free of.
fn assert_is_sayable(item: Item<'_>) {
    if let Item::Event(event) = item {
        assert!(!event.data.contains('\r'), "CR in data");
        assert!(
            !event.event_type.contains(['\r', '\n']),
            "line end in event type"
        );
        assert!(
            !event.id.is_some_and(|id| id.contains(['\r', '\n', '\0'])),
            "bad byte in ID"
        );
    }
}
