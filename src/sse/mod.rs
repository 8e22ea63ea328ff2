//! The event stream format: bytes to events and back.
//!
//! Pure: no I/O, no clock, nothing of the rest of the crate. What is done with an event, and which
//! ID it gets on its way to a subscriber, is decided elsewhere.
//!
//! Spec: HTML Living Standard, 9.2.5 (grammar) and 9.2.6 (interpretation).

mod block;
mod block_reader;
mod boundaries;
mod encoder;
mod event;
mod parser;
#[cfg(test)]
mod test_streams;

pub use block::{DEFAULT_TYPE, after_event_type, event_type_of, split_id};
pub use block_reader::BlockReader;
pub use boundaries::{Boundaries, MarkRemover};
pub use encoder::{HEARTBEAT_COMMENT, encode_cursor, encode_event, encode_retry};
pub use event::Event;
#[cfg(any(test, fuzzing))]
pub use parser::fuzz_parser;
pub use parser::{Item, LimitExceeded, Limits, Parser};
