//! Parses a WHATWG event stream from byte chunks.
//!
//! The parser is pushed bytes and gives events. It does no I/O, keeps no clock and never fails on
//! bad text: like a browser, it ignores what it does not know and replaces what is not UTF-8.
//! The only errors are limits ([`Limits`]), because an endless line must not fill memory.
//!
//! Two steps, each knowing only the next: `Lines` cuts chunks into lines, `Block` interprets the
//! lines up to a blank one.
//!
//! Spec: HTML Living Standard, 9.2.5 (grammar) and 9.2.6 (interpretation).

mod block;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod lines;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use self::block::Block;
#[cfg(any(test, fuzzing))]
pub use self::fuzz::fuzz_parser;
use self::lines::Lines;
use super::event::Event;

/// Turns the chunks of one event stream into [`Item`]s, however the chunks are cut.
///
/// An item is given as soon as its last byte is there; a CR that ends a push ends its line, too.
/// An event that is unfinished when the stream ends is discarded with the parser.
///
/// ```
/// use ssecast::sse::{Event, Item, Limits, Parser};
///
/// let mut parser = Parser::new(Limits { max_line_bytes: 1024, max_event_bytes: 4096 });
/// let mut n_events = 0;
/// let mut sink = |item: Item<'_>| {
///     let expected = Event { event_type: "", data: "hello", id: Some("7") };
///     assert_eq!(item, Item::Event(expected));
///     n_events += 1;
/// };
/// parser.push(b"id: 7\ndata: hel", &mut sink)?;
/// parser.push(b"lo\n\ndata: unfinished", &mut sink)?;
/// assert_eq!(n_events, 1);
/// assert_eq!(parser.last_event_id(), Some("7"));
/// # Ok::<(), ssecast::sse::LimitExceeded>(())
/// ```
pub struct Parser {
    lines: Lines,
    block: Block,
}

/// What the parser holds at most, in bytes.
///
/// The buffers double when they grow, so up to twice as much may be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line, without its end; a leading byte order mark counts.
    ///
    /// Also enforced while the end of the line is outstanding.
    pub max_line_bytes: usize,
    /// The largest event: its data with an LF after each line, its type and its ID, all decoded.
    pub max_event_bytes: usize,
}

/// What a stream makes happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event was dispatched.
    Event(Event<'a>),
    /// A `retry` field set the reconnection time.
    ///
    /// Comes with the end of its line, without waiting for a blank one. A number of milliseconds
    /// beyond `u64` is taken for `u64::MAX`: so the caller has to bound it, as it must anyway.
    Retry(Duration),
}

/// Why a stream cannot be parsed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// An event outgrew [`Limits::max_event_bytes`].
    #[error("event is larger than {limit} bytes")]
    EventTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A line outgrew [`Limits::max_line_bytes`].
    #[error("line is longer than {limit} bytes")]
    LineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

impl Parser {
    /// A parser at the start of a stream; every connection needs a new one.
    pub fn new(limits: Limits) -> Self {
        Self {
            lines: Lines::new(limits.max_line_bytes),
            block: Block::new(limits.max_event_bytes),
        }
    }

    /// Takes the next bytes of the stream and calls `sink` for every item that they complete.
    ///
    /// # Errors
    ///
    /// A limit was exceeded. The items before it have been given. What follows would be read out
    /// of step, so nothing may be pushed after an error; `last_event_id` stays right.
    pub fn push(
        &mut self,
        mut chunk: &[u8],
        mut sink: impl FnMut(Item<'_>),
    ) -> Result<(), LimitExceeded> {
        while let Some(line) = self.lines.next_line(&mut chunk)? {
            self.block.process_line(line, &mut sink)?;
        }
        Ok(())
    }

    /// The last event ID of the stream: of the last block that had an `id` field and has ended.
    ///
    /// Such a block need not have data. `None`: there was no such block, and what the user agent
    /// had before the stream still holds; `Some("")`: the stream took it back.
    pub fn last_event_id(&self) -> Option<&str> {
        self.block.last_event_id()
    }

    /// Bytes that its buffers take: most of them for what has come of an event.
    pub fn reserved_bytes(&self) -> usize {
        self.lines.reserved_bytes() + self.block.reserved_bytes()
    }
}

/// Without the buffers: they hold what subscribers get to see, not what logs should.
impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser")
            .field("last_event_id", &self.last_event_id())
            .finish_non_exhaustive()
    }
}

/// What a buffer keeps reserved between two uses.
///
/// Events up to this size are parsed without allocation; one that is larger does not tie up its
/// memory for the life of the connection.
const MAX_KEPT_BYTES: usize = 64 * 1024;
