//! What tests and the fuzzer need to read a wire stream back.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed helper is a failed test"
)]

use tokio::time::Instant;

use super::{Batch, Log, Outlet, Start, Writer};
use crate::config::{History, Ids};
use crate::sse::{Event, Item, Limits, Parser};

/// An event as a subscriber reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) event_type: String,
    pub(crate) data: String,
    pub(crate) id: Option<String>,
}

/// An outlet that nobody listens to.
pub(crate) struct Silent;

impl Outlet for Silent {
    fn mark_dirty(&self) {}
}

/// A log that keeps everything that a test may put into it.
pub(crate) fn roomy() -> History {
    History {
        events: 1_000_000,
        bytes: 64 * 1024 * 1024,
        age: None,
    }
}

/// A log with a writer, of the default mode.
pub(crate) fn roomy_log() -> (Log, Writer) {
    Log::new(roomy(), Ids::Fill)
}

/// An event without a type.
pub(crate) fn event<'a>(id: Option<&'a str>, data: &'a str) -> Event<'a> {
    Event {
        event_type: "",
        data,
        id,
    }
}

/// Appends events, each a batch of its own.
pub(crate) fn append(writer: &mut Writer, events: &[(Option<&str>, &str)], now: Instant) {
    for (id, data) in events {
        writer.push(&event(*id, data));
        writer.commit(now);
    }
}

/// The wire stream from where a subscriber starts.
pub(crate) fn wire_bytes(start: &Start) -> Vec<u8> {
    let batches = start.batches.iter();
    batches
        .flat_map(|batch| Batch::chunked_from(batch, start.at))
        .copied()
        .collect()
}

/// The events of a wire stream.
pub(crate) fn read_chunked(wire: &[u8]) -> Vec<Read> {
    read(&dechunk(wire))
}

/// The payload of a chunked body that is cut between two chunks.
pub(crate) fn dechunk(mut wire: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while !wire.is_empty() {
        let line = wire
            .windows(2)
            .position(|two| two == b"\r\n")
            .unwrap_or_else(|| panic!("no chunk size in {:?}", String::from_utf8_lossy(wire)));
        let digits = std::str::from_utf8(&wire[..line]).expect("a chunk size is text");
        let size = usize::from_str_radix(digits, 16)
            .unwrap_or_else(|_| panic!("{digits:?} is not a chunk size"));
        let chunk = &wire[line + 2..];
        payload.extend_from_slice(&chunk[..size]);
        assert_eq!(&chunk[size..size + 2], b"\r\n", "a chunk ends with CR LF");
        wire = &chunk[size + 2..];
    }
    payload
}

/// The events of an event stream.
pub(crate) fn read(stream: &[u8]) -> Vec<Read> {
    let mut events = Vec::new();
    let mut parser = Parser::new(Limits {
        max_line_bytes: 1024 * 1024,
        max_event_bytes: 1024 * 1024,
    });
    let parsed = parser.push(stream, |item| match item {
        Item::Event(event) => events.push(Read {
            event_type: event.event_type.to_owned(),
            data: event.data.to_owned(),
            id: event.id.map(str::to_owned),
        }),
        Item::Retry(_) => {}
    });
    parsed.expect("within limits");
    events
}
