//! Where a subscriber of a view begins.

use tokio::time::Instant;

use super::Sources;
use super::cursor::Cursor;
use super::places::Found;
use super::writer::push_id;
use crate::log::id::Seq;
use crate::log::replay::{Follows, Replay, Start, Wish};
use crate::log::ring::Begin;
use crate::log::{Log, State, newest};
use crate::sse;

/// Bytes that one subscriber may get ahead of the wire stream. They are encoded for it alone.
const MOST_BYTES_AHEAD: usize = 256 * 1024;

impl Log {
    /// Where a subscriber of this view begins, with no more than the newest `max_batches`.
    pub(in crate::log) fn start_in_view(
        &self,
        sources: &Sources,
        wish: &Wish<'_>,
        now: Instant,
        max_batches: usize,
    ) -> Start {
        // Before our own lock: the sources have theirs.
        let seen = wish.last_event_id.map(|id| sources.resolve(id));
        let mut state = self.lock();
        state.ring.evict(now);
        let first = state.ring.first_seq();
        if let Some(places) = &mut state.places {
            places.forget(first);
        }
        let found = seen.map(|seen| {
            let (seen, cursor) = seen?;
            let places = state.places.as_ref().ok_or(Replay::Unknown)?;
            let found = places.find(&seen, first)?;
            let ahead = ahead(&state, sources, &found, cursor).ok_or(Replay::Unknown)?;
            Ok((state.ring.start_of(found.start), ahead))
        });
        let (begin, ahead) = match found {
            None => (state.ring.begin_with(Replay::Fresh, wish, now), Vec::new()),
            Some(Ok((at, ahead))) => {
                let begin = Begin {
                    at,
                    replay: Replay::Complete,
                    follows: Follows::Rest,
                    snapshot: None,
                };
                (begin, ahead)
            }
            Some(Err(replay)) => (state.ring.begin_with(replay, wish, now), Vec::new()),
        };
        let tip = state.places.as_ref().map(|places| places.tip().to_owned());
        let head_id = tip.filter(|tip| !tip.is_empty());
        let is_at_head = begin.at == state.ring.head();
        Start {
            at: begin.at,
            replay: begin.replay,
            follows: begin.follows,
            tip: head_id.clone().filter(|_| is_at_head),
            head_id,
            snapshot: begin.snapshot,
            ahead,
            batches: newest(state.ring.batches_from(begin.at), max_batches),
            ended: state.ended,
        }
    }
}

/// The blocks that a subscriber gets first, whose cursor this is; `None`: they are too many. Each has
/// an id of its own: that of who has seen just that much.
fn ahead(
    state: &State,
    sources: &Sources,
    found: &Found,
    mut cursor: Cursor,
) -> Option<Vec<Box<[u8]>>> {
    let mut n_bytes = 0;
    let mut blocks = Vec::with_capacity(found.ahead.len());
    for (source, seq) in &found.ahead {
        let (source, seq): (usize, Seq) = (*source, *seq);
        let (_, block) = state.ring.event(seq)?;
        n_bytes += block.len();
        if n_bytes > MOST_BYTES_AHEAD {
            return None;
        }
        let (fields, id) = sse::split_id(block);
        let theirs = id.and_then(|id| Cursor::parse(std::str::from_utf8(id).ok()?));
        let Some(theirs) = theirs else {
            blocks.push(block.into());
            continue;
        };
        let mark = sources.mark(source, &theirs)?.clone();
        *sources.mark_mut(source, &mut cursor)? = mark;
        let mut block = fields.to_vec();
        push_id(&mut block, &cursor.encode());
        blocks.push(block.into());
    }
    Some(blocks)
}
