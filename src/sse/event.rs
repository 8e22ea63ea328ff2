//! One event, as a stream carries it.
//!
//! Only borrows: whoever keeps an event keeps its encoded bytes.

/// An event at its dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event type; `""` is what a browser calls `message`.
    pub event_type: &'a str,
    /// The data: its lines joined by LF.
    ///
    /// From the parser never with a CR, because a CR ends a line.
    pub data: &'a str,
    /// The event's own ID; `Some("")` takes the user agent's last event ID back.
    ///
    /// `None`: the event has none of its own, and the last event ID stays as it was. From the
    /// parser never with a CR, an LF or a NUL.
    pub id: Option<&'a str>,
}
