//! Interprets the lines of an event stream, block by block.
//!
//! Holds the buffers of the standard. Does not know where a line came from or how it ended.
//!
//! Decoding is done field by field. That equals a browser's decoding of the whole stream, because
//! line ends, colons and spaces are ASCII, and any ASCII byte ends a broken sequence.
//!
//! Spec: HTML Living Standard, 9.2.6.

use std::mem;
use std::time::Duration;

use memchr::memchr;

use super::{Event, Item, LimitExceeded, MAX_KEPT_BYTES};

/// The fields since the last blank line, and the last event ID.
pub(super) struct Block {
    /// Bounds the sum of `data`, `event_type` and the ID that the next event would carry.
    max_event_bytes: usize,
    /// The data buffer: empty, or the values of the `data` fields with an LF after each.
    data: String,
    event_type: String,
    /// The value of the last `id` field; meant only if `has_id`.
    ///
    /// Not yet in `last_event_id`, because a block that is cut must not move it.
    id: String,
    /// Whether this block has had an `id` field.
    has_id: bool,
    /// The last event ID; `None` until a block with an `id` field has ended.
    last_event_id: Option<String>,
    /// Whether `last_event_id` was set after the last dispatch: then the next event carries it.
    is_last_event_id_new: bool,
}

impl Block {
    pub(super) fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            data: String::new(),
            event_type: String::new(),
            id: String::new(),
            has_id: false,
            last_event_id: None,
            is_last_event_id_new: false,
        }
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        self.data.capacity() + self.event_type.capacity() + self.id.capacity()
    }

    /// Takes a line without its end.
    #[inline]
    pub(super) fn process_line(
        &mut self,
        line: &[u8],
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<(), LimitExceeded> {
        // A comment needs no branch of its own: no field name begins with a colon.
        if line.is_empty() {
            self.dispatch(sink);
        } else if let Some(value) = field_value(line, b"data") {
            self.push_data(value)?;
        } else if let Some(value) = field_value(line, b"id") {
            self.set_id(value)?;
        } else if let Some(value) = field_value(line, b"event") {
            self.set_event_type(value)?;
        } else if let Some(value) = field_value(line, b"retry")
            && let Some(time) = parse_reconnection_time(value)
        {
            sink(Item::Retry(time));
        }
        Ok(())
    }

    fn push_data(&mut self, value: &[u8]) -> Result<(), LimitExceeded> {
        let held = self.data.len() + self.event_type.len() + self.next_id().map_or(0, str::len);
        let room = self.max_event_bytes.checked_sub(held + "\n".len());
        room.and_then(|room| push_decoded(&mut self.data, value, room))
            .ok_or(self.too_large())?;
        self.data.push('\n');
        Ok(())
    }

    fn set_event_type(&mut self, value: &[u8]) -> Result<(), LimitExceeded> {
        let held = self.data.len() + self.next_id().map_or(0, str::len);
        self.event_type.clear();
        let room = self.max_event_bytes.checked_sub(held);
        room.and_then(|room| push_decoded(&mut self.event_type, value, room))
            .ok_or(self.too_large())
    }

    fn set_id(&mut self, value: &[u8]) -> Result<(), LimitExceeded> {
        if memchr(b'\0', value).is_some() {
            return Ok(());
        }
        self.id.clear();
        self.has_id = true;
        let room = self
            .max_event_bytes
            .checked_sub(self.data.len() + self.event_type.len());
        room.and_then(|room| push_decoded(&mut self.id, value, room))
            .ok_or(self.too_large())
    }

    /// Ends the block. Without data there is no event, but its ID counts.
    fn dispatch(&mut self, sink: &mut impl FnMut(Item<'_>)) {
        if mem::take(&mut self.has_id) {
            mem::swap(self.last_event_id.get_or_insert_default(), &mut self.id);
            self.is_last_event_id_new = true;
        }
        if let Some(data) = self.data.strip_suffix('\n') {
            let event_type = &self.event_type;
            sink(Item::Event(Event {
                event_type,
                data,
                id: self.next_id(),
            }));
            self.is_last_event_id_new = false;
            empty(&mut self.data);
        }
        empty(&mut self.event_type);
        empty(&mut self.id);
    }

    pub(super) fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// The ID that the next event carries, as far as is known.
    fn next_id(&self) -> Option<&str> {
        if self.has_id {
            Some(&self.id)
        } else if self.is_last_event_id_new {
            self.last_event_id()
        } else {
            None
        }
    }

    fn too_large(&self) -> LimitExceeded {
        LimitExceeded::EventTooLarge {
            limit: self.max_event_bytes,
        }
    }

    /// Bytes that the next event has so far, and bytes reserved by the largest buffer.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held_bytes(&self) -> (usize, usize) {
        let held = self.data.len() + self.event_type.len() + self.next_id().map_or(0, str::len);
        let last_event_id = self.last_event_id.as_ref().map_or(0, String::capacity);
        let reserved = [&self.data, &self.event_type, &self.id].map(String::capacity);
        (held, reserved.into_iter().fold(last_event_id, usize::max))
    }
}

/// The value of the field in `line`, if its name is `name`.
#[inline]
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// The value of a `retry` field, if it consists of ASCII digits; saturates.
///
/// No digits at all are no number, so they are ignored, too.
fn parse_reconnection_time(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let millis = value.iter().fold(0_u64, |millis, digit| {
        millis
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Some(Duration::from_millis(millis))
}

/// Appends `bytes`, decoded, to `buffer`; `None` if that makes more than `room` bytes.
#[inline]
fn push_decoded(buffer: &mut String, bytes: &[u8], mut room: usize) -> Option<()> {
    if let Ok(text) = str::from_utf8(bytes) {
        room.checked_sub(text.len())?;
        buffer.push_str(text);
        return Some(());
    }
    // As `String::from_utf8_lossy` does it, but without its allocation.
    for chunk in bytes.utf8_chunks() {
        let replacement = if chunk.invalid().is_empty() {
            ""
        } else {
            "\u{FFFD}"
        };
        room = room.checked_sub(chunk.valid().len() + replacement.len())?;
        buffer.push_str(chunk.valid());
        buffer.push_str(replacement);
    }
    Some(())
}

/// Empties `buffer` and gives memory back if it has grown much.
#[inline]
fn empty(buffer: &mut String) {
    buffer.clear();
    buffer.shrink_to(MAX_KEPT_BYTES);
}
