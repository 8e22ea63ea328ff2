//! Checks what one client received in a window, byte by byte.
//!
//! Every chunk must hold whole lines; every event must be one that the origin sent in the window, on
//! this client's channel, with all its bytes, each exactly once and in order. The reconnection time
//! and comments may come between; anything else is a fault.

use std::collections::BTreeSet;

use super::chunks::Chunks;
use super::faults::Faults;
use crate::event;
use crate::event::Event;

/// What a client must have received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Its channel.
    pub(crate) channel: u32,
    /// The number of the first event.
    pub(crate) first_seq: u64,
    /// How many events.
    pub(crate) n_events: u64,
}

/// Checks the bytes of a body; `on_event` is told each proper event and where its chunk ends.
///
/// The bytes begin at a chunk. Returns the faults, and the place of the first chunk that is not whole.
pub(crate) fn verify(
    bytes: &[u8],
    expected: Expected,
    mut on_event: impl FnMut(Event, usize),
) -> (Faults, usize) {
    let mut verifier = Verifier::new(expected);
    let mut chunks = Chunks::new(bytes);
    for chunk in chunks.by_ref() {
        match chunk {
            Ok(chunk) => verifier.take(chunk.data, |event| on_event(event, chunk.end)),
            Err(_) => verifier.faults.n_corrupt += 1,
        }
    }
    (verifier.finish(), chunks.position())
}

#[derive(Debug)]
struct Verifier<'a> {
    expected: Expected,
    /// The number that should come next.
    next_seq: u64,
    /// Numbers that have been left out so far.
    missing: BTreeSet<u64>,
    faults: Faults,
    /// The fields of the event that has begun.
    fields: Fields<'a>,
}

/// The fields of an event, as far as they have come.
#[derive(Debug, Default)]
struct Fields<'a> {
    data: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    /// A field that no event of the bench has, or one too many.
    is_odd: bool,
}

impl<'a> Verifier<'a> {
    fn new(expected: Expected) -> Self {
        Self {
            expected,
            next_seq: expected.first_seq,
            missing: BTreeSet::new(),
            faults: Faults::default(),
            fields: Fields::default(),
        }
    }

    fn take(&mut self, chunk: &'a [u8], mut on_event: impl FnMut(Event)) {
        let Some(lines) = chunk.strip_suffix(b"\n") else {
            self.faults.n_corrupt += 1; // the last chunk, or a line that is cut in two
            return;
        };
        for line in lines.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    on_event(event);
                }
            } else if let Some(data) = line.strip_prefix(b"data: ") {
                self.fields.is_odd |= self.fields.data.replace(data).is_some();
            } else if let Some(id) = line.strip_prefix(b"id: ") {
                self.fields.is_odd |= self.fields.id.replace(id).is_some();
            } else if !line.starts_with(b"retry: ") && !line.starts_with(b":") {
                self.fields.is_odd = true;
            }
        }
    }

    /// The event that is complete, if it is a proper one at its proper place.
    fn dispatch(&mut self) -> Option<Event> {
        let Fields { data, id, is_odd } = std::mem::take(&mut self.fields);
        if data.is_none() && id.is_none() && !is_odd {
            return None; // a blank line after a comment
        }
        if is_odd {
            self.faults.n_stray += 1; // a notice of the gateway, most likely
            return None;
        }
        let event = data.and_then(Event::parse);
        let Some(event) = event.filter(|event| id.and_then(event::number) == Some(event.seq))
        else {
            self.faults.n_corrupt += 1;
            return None;
        };
        self.place(event).then_some(event)
    }

    /// Whether an event is of this window and comes for the first time.
    fn place(&mut self, event: Event) -> bool {
        let Expected {
            channel,
            first_seq,
            n_events,
        } = self.expected;
        if event.channel != channel || !(first_seq..first_seq + n_events).contains(&event.seq) {
            self.faults.n_stray += 1;
            return false;
        }
        if event.seq >= self.next_seq {
            self.missing.extend(self.next_seq..event.seq);
            self.next_seq = event.seq + 1;
            return true;
        }
        if self.missing.remove(&event.seq) {
            self.faults.n_reordered += 1;
            return true;
        }
        self.faults.n_duplicated += 1;
        false
    }

    fn finish(mut self) -> Faults {
        let end = self.expected.first_seq + self.expected.n_events;
        self.faults.n_missing = self.missing.len() as u64 + (end - self.next_seq);
        self.faults
    }
}
