//! What a subscriber gets before its first event.
//!
//! The reconnection time comes without a blank line, so that no client takes it for an event. No id
//! of ours goes out before a replay: a client that is cut off in the middle of one must resume from
//! where it was.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::wire::Framing;
use crate::channel::{State, UPSTREAM_NOTICE};
use crate::config::{self, CursorOnConnect, Notices};
use crate::log::{Replay, push_chunk};
use crate::sse::{self, Event};

/// Appends what comes between the response head and the first event.
pub(super) fn push_prologue(
    out: &mut Vec<u8>,
    settings: &config::Channel,
    (replay, state): (&Replay, State),
    framing: Framing,
) {
    let mut block = Vec::new();
    sse::encode_retry(&mut block, random_time(&settings.retry));
    if settings.notices == Notices::All && matches!(replay, Replay::Live(_)) {
        // Who replays finds the states in the history, the present one last.
        let data = state.notice();
        let notice = Event {
            event_type: UPSTREAM_NOTICE,
            data: &data,
            id: None,
        };
        sse::encode_event(&mut block, &notice);
    }
    match (replay, replay.reset_reason()) {
        (_, Some(reason)) if settings.notices != Notices::None => {
            // The blank line that ends the notice ends the block of the `retry` field too.
            let data = format!(r#"{{"reason":"{reason}"}}"#);
            let notice = Event {
                event_type: "ssecast.reset",
                data: &data,
                id: None,
            };
            sse::encode_event(&mut block, &notice);
        }
        (Replay::Live(Some(tip)), _) if settings.cursor_on_connect == CursorOnConnect::Send => {
            sse::encode_cursor(&mut block, tip);
        }
        _ => {}
    }
    push_framed(out, &block, framing);
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
