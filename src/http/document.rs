//! What a channel has at the moment, as a JSON document: for a page that fetches the state, and then
//! subscribes from exactly there.
//!
//! It is what a subscriber would get before it is live ([`Log::read`](crate::log::Log::read)), and the
//! id to subscribe with. The document is written piece by piece as it is sent, from the batches that
//! the log shares; so an answer costs little memory, however large the history is.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::config::{self, Join};
use crate::log::{Batch, Ending, Follows, Position, Start, Wish};
use crate::sse::{BlockReader, DEFAULT_TYPE, Event};

/// A document on its way: what of it is not written yet.
#[derive(Debug)]
pub(super) struct Document {
    /// What comes next, already written.
    text: Vec<u8>,
    /// Blocks that come before the batches.
    ahead: std::vec::IntoIter<Box<[u8]>>,
    /// Batches whose events come next, each from a position on.
    runs: std::vec::IntoIter<(Arc<Batch>, Position)>,
    current: Option<(Arc<Batch>, Position)>,
    reader: BlockReader,
    has_events: bool,
    is_ended: bool,
}

/// What comes before the events.
#[derive(Debug, Serialize)]
struct Head<'a> {
    last_event_id: Option<&'a str>,
    replay: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    over: bool,
}

#[derive(Debug, Serialize)]
struct Gap {
    missed: &'static str,
    reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    event: &'a str,
    data: &'a str,
}

/// Bytes that are written at once, if no single event is larger.
const PIECE_BYTES: usize = 64 * 1024;

impl Document {
    /// What a channel gives as a document who has seen this event last. A page that has seen nothing
    /// and asks has use for what there is, also where a stream would begin with what comes.
    pub(super) fn wish<'a>(settings: &config::Channel, last_event_id: Option<&'a str>) -> Wish<'a> {
        let wish = Wish::of(settings, last_event_id);
        Wish {
            join: match wish.join {
                Join::Live => Join::All,
                Join::All | Join::Latest | Join::Newest(_) => wish.join,
            },
            ..wish
        }
    }

    /// The document of what there is for a subscriber.
    pub(super) fn new(start: Start) -> Self {
        let head = Head {
            last_event_id: start.head_id.as_deref(),
            replay: start.follows.word(),
            reset: start.replay.reset_reason(),
            gap: start.is_partial().then_some(Gap {
                missed: "unknown",
                reason: "keys-given-up",
            }),
            over: start.ended == Some(Ending::Over),
        };
        let mut text = serde_json::to_vec(&head).unwrap_or_default();
        // The events are its last member.
        text.pop();
        text.extend_from_slice(b",\"events\":[");
        let snapshot = start.snapshot.as_ref().and_then(|one| one.batch());
        let mut runs: Vec<_> = snapshot
            .map(|batch| (Arc::clone(batch), 0))
            .into_iter()
            .collect();
        debug_assert!(start.follows == Follows::Latest || runs.is_empty());
        runs.extend(start.batches.into_iter().map(|batch| (batch, start.at)));
        Self {
            text,
            ahead: start.ahead.into_iter(),
            runs: runs.into_iter(),
            current: None,
            reader: BlockReader::new(),
            has_events: false,
            is_ended: false,
        }
    }

    /// The next piece; `None`: that was all.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        while self.text.len() < PIECE_BYTES && !self.is_ended {
            self.write_more();
        }
        let piece = std::mem::take(&mut self.text);
        (!piece.is_empty()).then(|| piece.into())
    }

    /// Whether all is written.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended && self.text.is_empty()
    }

    /// Writes the next event, or the end.
    fn write_more(&mut self) {
        if let Some(block) = self.ahead.next() {
            return self.write_event(&block);
        }
        let Some((batch, at)) = self.current.take().or_else(|| self.runs.next()) else {
            self.text.extend_from_slice(b"]}\n");
            self.is_ended = true;
            return;
        };
        let next = batch.payloads_from(at).next();
        if let Some((block, end)) = next {
            self.write_event(block);
            self.current = Some((batch, end)).filter(|(batch, end)| *end < batch.end());
        }
    }

    fn write_event(&mut self, block: &[u8]) {
        let (text, has_events) = (&mut self.text, &mut self.has_events);
        let written = self.reader.read(block, |event: &Event<'_>| {
            let line = Line {
                id: event.id.filter(|id| !id.is_empty()),
                event: if event.event_type.is_empty() {
                    DEFAULT_TYPE
                } else {
                    event.event_type
                },
                data: event.data,
            };
            let separator: &[u8] = if *has_events { b",\n" } else { b"\n" };
            text.extend_from_slice(separator);
            // Writing texts to memory can't fail.
            serde_json::to_writer(&mut *text, &line).is_ok()
        });
        debug_assert_eq!(written, Some(true), "a block is an event");
        *has_events = true;
    }
}
