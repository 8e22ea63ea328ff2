//! The log of a channel: a bounded run of its wire stream, and the ids to find a place in it.
//!
//! **One Writer**: a [`Writer`] encodes events and appends them; there is exactly one per log. Readers
//! are the shards: each has a [`Feed`] that is given every new batch, and asks [`Log::start`] where a
//! new subscriber begins. **Never Wait For A Subscriber**: no reader can hold up the writer.
//!
//! The log knows nothing of sockets, subscribers or HTTP beyond the chunk framing of its bytes.

mod batch;
mod epochs;
mod feed;
mod forgotten;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod id;
mod key;
mod repeats;
mod replay;
mod retained;
mod ring;
mod snapshot;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), expect(dead_code, reason = "the fuzzer needs some of it"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

pub use self::batch::{Batch, Count, GAP_NOTICE, Position, push_chunk};
pub use self::feed::{Feed, Outlet, Taken};
#[cfg(any(test, fuzzing))]
pub use self::fuzz::fuzz_ids;
pub use self::id::{Epoch, Seq, may_be_of_a_gateway};
#[cfg(any(test, fuzzing))]
pub use self::key::fuzz_key;
pub use self::repeats::{Repeats, Verdict};
pub use self::replay::{Follows, Replay, Start, Wish};
pub use self::retained::{Implausible, Retained};
use self::ring::Ring;
pub use self::snapshot::{News, Removals, Snapshot};
#[cfg(any(test, fuzzing))]
pub use self::view::fuzz_cursor;
pub use self::view::{
    MAX_SOURCES, Progress, Recipe, Selection, Tagging, ViewWriter, id_for_origin,
};
use self::view::{Places, Sources};
pub use self::writer::{MAX_ID_BYTES, Writer};
use crate::config::{History, Ids};
use crate::memory::Budget;
use crate::sse;
use crate::sync::{Mutex, MutexGuard};

/// A handle to a log.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// Batches that are taken under the lock at once: some ten microseconds of the writer's time.
const SLICE: usize = 256;

/// How often a history is taken in slices that is evicted meanwhile.
const TRIES: usize = 3;

/// Why no more events will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The origin said that the channel is over: nobody need come back.
    Over,
}

/// Sizes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Retained events.
    pub n_events: usize,
    /// Bytes of the batches in memory.
    pub held_bytes: usize,
    /// How often an id came again with other content.
    pub n_ambiguous: u64,
    /// Keys of which the newest event is known.
    pub n_keys: usize,
    /// Keys that had to be given up, for want of room.
    pub n_keys_given_up: u64,
}

#[derive(Debug)]
struct Shared {
    budget: Budget,
    /// What a view is made of; `None`: this is no view.
    sources: Option<Sources>,
    /// A blocking mutex: no await inside, and the critical sections are short. It is taken once per
    /// appended batch and once per new subscriber, never in a pass.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    feeds: Vec<Arc<Feed>>,
    ended: Option<Ending>,
    /// Of a view: where its entries are from.
    places: Option<Box<Places>>,
}

impl Log {
    /// An empty log and its writer, whose memory nobody counts.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn new(limits: History, ids: Ids) -> (Self, Writer) {
        Self::within(limits, ids, &Budget::unlimited())
    }

    /// An empty log and its writer, which counts to this budget.
    pub fn within(limits: History, ids: Ids, budget: &Budget) -> (Self, Writer) {
        Self::make((limits, ids), budget, None)
    }

    /// The log of a view, and its writer. Its events have ids of their own.
    fn of_view(limits: History, budget: &Budget, view: (Sources, Places)) -> (Self, Writer) {
        Self::make((limits, Ids::Upstream), budget, Some(view))
    }

    fn make(
        (limits, ids): (History, Ids),
        budget: &Budget,
        view: Option<(Sources, Places)>,
    ) -> (Self, Writer) {
        let (sources, places) = view.unzip();
        let epoch = Epoch::fresh();
        let ring = Ring::new(limits, epoch, budget);
        let state = Mutex::new(State {
            ring,
            feeds: Vec::new(),
            ended: None,
            places: places.map(Box::new),
        });
        let log = Self {
            shared: Arc::new(Shared {
                budget: budget.clone(),
                sources,
                state,
            }),
        };
        let writer = Writer::new(log.clone(), ids, epoch);
        (log, writer)
    }

    /// Opens a feed of every batch from now on; returns it and the position of the head.
    pub fn attach(
        &self,
        outlet: Box<dyn Outlet>,
        max_pending_bytes: usize,
    ) -> (Arc<Feed>, Position) {
        let mut state = self.lock();
        let head = state.ring.head();
        let start = (head, state.ring.count());
        let feed = Arc::new(Feed::new(outlet, max_pending_bytes, (start, state.ended)));
        state.feeds.push(Arc::clone(&feed));
        (feed, head)
    }

    /// Closes a feed.
    pub fn detach(&self, feed: &Arc<Feed>) {
        let mut state = self.lock();
        state.feeds.retain(|other| !Arc::ptr_eq(other, feed));
        if state.feeds.is_empty() {
            state.feeds = Vec::new();
        }
    }

    /// Where a subscriber begins, and what it gets before.
    ///
    /// A shard that takes its feed after this call has every batch from there on: there is no seam
    /// between replay and live.
    pub fn start<'a>(&self, wish: impl Into<Wish<'a>>, now: Instant) -> Start {
        self.start_with(&wish.into(), now, |_| None)
    }

    /// The same for somebody who reads what there is, and may come back for what comes later: with the
    /// id to come back with ([`Start::head_id`]).
    pub fn read<'a>(&self, wish: impl Into<Wish<'a>>, now: Instant) -> Start {
        self.start_with(&wish.into(), now, |ring| Some(ring.head_id()))
    }

    /// A long history is taken in slices, so that the writer waits for none of them for long.
    fn start_with(
        &self,
        wish: &Wish<'_>,
        now: Instant,
        head_id: fn(&Ring) -> Option<String>,
    ) -> Start {
        for _ in 0..TRIES {
            let start = self.begin((wish, now), head_id, SLICE);
            if let Some(start) = self.with_older(start) {
                return start;
            }
        }
        self.begin((wish, now), head_id, usize::MAX)
    }

    /// Where somebody begins, with no more than the newest `max_batches` of what there is.
    fn begin(
        &self,
        (wish, now): (&Wish<'_>, Instant),
        head_id: fn(&Ring) -> Option<String>,
        max_batches: usize,
    ) -> Start {
        if let Some(sources) = &self.shared.sources {
            return self.start_in_view(sources, wish, now, max_batches);
        }
        let mut state = self.lock();
        state.ring.evict(now);
        let begin = state.ring.begin(wish, now);
        let batches = newest(state.ring.batches_from(begin.at), max_batches);
        Start {
            head_id: head_id(&state.ring),
            at: begin.at,
            replay: begin.replay,
            follows: begin.follows,
            tip: (state.ring.tip_id()).filter(|_| begin.at == state.ring.head()),
            snapshot: begin.snapshot,
            ahead: Vec::new(),
            batches,
            ended: state.ended,
        }
    }

    /// Adds the batches that it lacks, the newest first. What is evicted meanwhile is missing for who gets
    /// all that there is; `None`: for this one it must not be.
    fn with_older(&self, mut start: Start) -> Option<Start> {
        let mut older = Vec::new();
        let mut from = (start.batches.first()).map_or(start.at, |batch| batch.start());
        while from > start.at {
            let slice = newest(self.lock().ring.batches_between(start.at, from), SLICE);
            let Some(first) = slice.first() else {
                match start.follows {
                    Follows::All | Follows::Newest => start.at = from,
                    Follows::Latest | Follows::Live | Follows::Rest => return None,
                }
                break;
            };
            from = first.start();
            older.push(slice);
        }
        older.reverse();
        older.push(start.batches);
        start.batches = older.concat();
        Some(start)
    }

    /// What is new to a subscriber that has everything up to `position`, which is between events: the
    /// newest event of each key since, those that take one back included. The wire stream goes on at
    /// [`News::at`]; a shard takes its feed after this call, as after [`Log::start`]. `None`: the channel does not know its events by keys.
    pub fn newest_after(&self, position: Position, now: Instant) -> Option<News> {
        let mut state = self.lock();
        state.ring.evict(now);
        let snapshot = state.ring.snapshot(Removals::Told, now)?;
        let mut news = snapshot.after(position);
        news.batches = state.ring.batches_from(news.at).cloned().collect();
        Some(news)
    }

    /// Whether a log that has ended has something left for a subscriber, after which it would not ask
    /// for the same again: events that it can resume from.
    pub fn has_rest<'a>(&self, wish: impl Into<Wish<'a>>, now: Instant) -> bool {
        let start = self.start(wish, now);
        let snapshot = start.snapshot.as_ref().and_then(|one| one.batch());
        let has_news = snapshot.is_some() && start.tip.is_some();
        // A notice has no id.
        let is_early = (start.ahead.iter()).any(|block| sse::split_id(block).1.is_some());
        let state = self.lock();
        // All events of a view have ids, which its ring does not know.
        let is_behind = state.places.is_some() && state.ring.has_event_from(start.at);
        has_news || is_behind || is_early || state.ring.has_id_from(start.at)
    }

    /// Drops what is older than the limit allows, for logs to which nothing is appended.
    pub fn evict(&self, now: Instant) {
        let mut state = self.lock();
        state.ring.evict(now);
        state.ring.rest();
    }

    /// Gives up the oldest of what is retained, as much as is needed to free `n_bytes`; returns how
    /// much that was. What others still read is not free before they have.
    pub fn give_up(&self, n_bytes: usize) -> usize {
        self.lock().ring.give_up(n_bytes, 0)
    }

    /// When the oldest of what is retained was appended; `None` if nothing is.
    pub fn oldest(&self) -> Option<Instant> {
        self.lock().ring.oldest()
    }

    /// Retains so much from now on.
    pub fn set_limits(&self, limits: History, now: Instant) {
        self.lock().ring.set_limits(limits, now);
    }

    /// Hands over what is retained, no more than the newest `max_bytes` of it; the rest is evicted.
    pub fn export<T>(
        &self,
        max_bytes: usize,
        now: Instant,
        take: impl FnOnce(Retained<'_>) -> T,
    ) -> T {
        take(self.lock().ring.export(max_bytes, now))
    }

    /// How large the log is.
    pub fn size(&self) -> Size {
        let state = self.lock();
        Size {
            n_events: state.ring.n_events(),
            held_bytes: state.ring.held_bytes(),
            n_ambiguous: state.ring.n_ambiguous(),
            n_keys: state.ring.n_keys().0,
            n_keys_given_up: state.ring.n_keys().1,
        }
    }

    /// Whether nothing was ever appended.
    pub fn is_untouched(&self) -> bool {
        self.lock().ring.head() == 0
    }

    /// What the log counts to.
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// Feeds that are open.
    #[cfg(test)]
    pub(crate) fn n_feeds(&self) -> usize {
        self.lock().feeds.len()
    }

    /// Distinct origin ids in the index.
    #[cfg(test)]
    fn n_indexed_ids(&self) -> usize {
        self.lock().ring.n_indexed_ids()
    }

    /// Recovers from poison: the state is valid between any two of its statements that can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last of these batches, in order.
fn newest<'a>(
    batches: impl DoubleEndedIterator<Item = &'a Arc<Batch>>,
    max: usize,
) -> Vec<Arc<Batch>> {
    let mut newest: Vec<_> = batches.rev().take(max).cloned().collect();
    newest.reverse();
    newest
}
