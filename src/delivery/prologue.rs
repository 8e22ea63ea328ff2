//! What a subscriber gets before its first event.
//!
//! The reconnection time comes without a blank line, so that no client takes it for an event. No id
//! of ours goes out before a replay: a client that is cut off in the middle of one must resume from
//! where it was.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::heartbeat::Heartbeat;
use super::wire::Framing;
use crate::channel::{Status, UPSTREAM_NOTICE};
use crate::config::{self, CursorOnConnect, Notices};
use crate::log::{Follows, GAP_NOTICE, Snapshot, Start, push_chunk};
use crate::sse::{self, Event};

/// What a subscriber gets before the wire stream.
#[derive(Debug)]
pub(super) struct Prologue {
    /// The response head, and what the client is told.
    pub(super) bytes: Vec<u8>,
    /// The newest event of each key.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// What comes after the snapshot: it would be ahead of it.
    pub(super) cursor: Vec<u8>,
}

impl Prologue {
    /// What goes between the response head and the first event of the wire stream.
    pub(super) fn new(
        mut bytes: Vec<u8>,
        settings: &config::Channel,
        (start, status, heartbeat): (&Start, &Status, Option<&Heartbeat>),
        framing: Framing,
    ) -> Self {
        let (mut block, mut cursor) = (Vec::new(), Vec::new());
        sse::encode_retry(&mut block, random_time(&settings.retry));
        // The blank line that ends an event ends the block of the `retry` field too.
        block.extend_from_slice(heartbeat.map_or(&[], Heartbeat::introduction));
        if settings.notices == Notices::All && !start.has_states() {
            // Who goes on where it was finds in the history what has changed since.
            push_notice(&mut block, UPSTREAM_NOTICE, &status.notice());
        }
        if settings.notices != Notices::None {
            if let Some(reason) = start.replay.reset_reason() {
                let replay = start.follows.word();
                let data = format!(r#"{{"reason":"{reason}","replay":"{replay}"}}"#);
                push_notice(&mut block, "ssecast.reset", &data);
            }
            if start.is_partial() {
                let data = r#"{"missed":"unknown","reason":"keys-given-up"}"#;
                push_notice(&mut block, GAP_NOTICE, data);
            }
        }
        let snapshot = start.snapshot.clone();
        let is_at_tip = matches!(start.follows, Follows::Latest | Follows::Live);
        if settings.cursor_on_connect == CursorOnConnect::Send
            && let Some(tip) = start.tip.as_ref().filter(|_| is_at_tip)
        {
            if snapshot.is_none() {
                sse::encode_cursor(&mut block, tip);
            } else {
                let mut block = Vec::new();
                sse::encode_cursor(&mut block, tip);
                push_framed(&mut cursor, &block, framing);
            }
        }
        push_framed(&mut bytes, &block, framing);
        for block in &start.ahead {
            push_framed(&mut bytes, block, framing);
        }
        Self {
            bytes,
            snapshot,
            cursor,
        }
    }
}

fn push_notice(block: &mut Vec<u8>, event_type: &str, data: &str) {
    let notice = Event {
        event_type,
        data,
        id: None,
    };
    sse::encode_event(block, &notice);
}

/// Appends bytes of the event stream as the framing demands.
pub fn push_framed(out: &mut Vec<u8>, bytes: &[u8], framing: Framing) {
    match framing {
        Framing::Chunked => {
            push_chunk(out, bytes);
        }
        Framing::Plain => out.extend_from_slice(bytes),
    }
}

/// A random time within bounds, so that clients that left together do not return together.
pub fn random_time(bounds: &RangeInclusive<Duration>) -> Duration {
    let (min, max) = (*bounds.start(), *bounds.end());
    min + max.saturating_sub(min).mul_f64(fastrand::f64())
}
