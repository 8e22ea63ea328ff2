//! How new batches reach a shard: a feed per log and shard.
//!
//! The writer pushes, the shard takes. The writer never waits: what a shard does not take in time
//! is bounded (`max_pending_bytes`), and beyond that the feed is overrun, which the shard tells its
//! subscribers by ending their streams.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::Ending;
use super::batch::{Batch, Count, Position};
use crate::sync::{Mutex, MutexGuard};

/// Where a feed tells that it has something. Implemented by the shard.
pub trait Outlet: Send + Sync {
    /// Called once when a feed turns from empty to not empty.
    fn mark_dirty(&self);
}

/// The batches that a shard has not taken yet.
pub struct Feed {
    outlet: Box<dyn Outlet>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Arc<Batch>>,
    /// Invariant: the sum of the lengths of `pending`.
    pending_bytes: usize,
    /// Beyond this the feed is overrun.
    max_pending_bytes: usize,
    /// Invariant: the end of the last batch that was pushed, pending or not.
    head: Position,
    /// What the log has had up to there.
    count: Count,
    is_overrun: bool,
    ended: Option<Ending>,
    /// Whether the outlet was told since the last `take`.
    is_marked: bool,
}

/// What happened to a feed besides batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Where the wire stream ends, also if its last batches were dropped.
    pub head: Position,
    /// What the log has had up to there.
    pub count: Count,
    /// Batches were dropped: what is taken is no longer contiguous with what was.
    pub is_overrun: bool,
    /// Whether the log has ended, after the batches that were taken.
    pub ended: Option<Ending>,
}

impl Feed {
    pub(super) fn new(
        outlet: Box<dyn Outlet>,
        max_pending_bytes: usize,
        ((head, count), ended): ((Position, Count), Option<Ending>),
    ) -> Self {
        let state = State {
            max_pending_bytes,
            head,
            count,
            ended,
            ..State::default()
        };
        Self {
            outlet,
            state: Mutex::new(state),
        }
    }

    pub(super) fn push(&self, batch: &Arc<Batch>) {
        let mut state = self.lock();
        state.head = batch.end();
        state.count = batch.count_at(state.head);
        state.pending_bytes += batch.len();
        state.pending.push_back(Arc::clone(batch));
        if state.pending_bytes > state.max_pending_bytes && state.pending.len() > 1 {
            state.pending.clear();
            state.pending_bytes = 0;
            state.is_overrun = true;
        }
        self.mark(state);
    }

    /// Tells whether the log has ended.
    pub(super) fn set_ended(&self, ended: Option<Ending>) {
        let mut state = self.lock();
        state.ended = ended;
        self.mark(state);
    }

    /// Is overrun beyond so many bytes from the next batch on.
    pub fn set_max_pending_bytes(&self, max: usize) {
        self.lock().max_pending_bytes = max;
    }

    /// Moves what is pending to the end of `into`.
    pub fn take(&self, into: &mut VecDeque<Arc<Batch>>) -> Taken {
        let mut state = self.lock();
        state.is_marked = false;
        state.pending_bytes = 0;
        into.extend(state.pending.drain(..));
        Taken {
            head: state.head,
            count: state.count,
            is_overrun: std::mem::take(&mut state.is_overrun),
            ended: state.ended,
        }
    }

    fn mark(&self, mut state: MutexGuard<'_, State>) {
        let was_marked = std::mem::replace(&mut state.is_marked, true);
        // The outlet has a lock of its own.
        drop(state);
        if !was_marked {
            self.outlet.mark_dirty();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("state", &*self.lock())
            .finish_non_exhaustive()
    }
}
