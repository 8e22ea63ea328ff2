//! A snapshot: the newest event of each key at one position, encoded once for all who get it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, Position};

/// The newest event of each key, in the order of the log, as they were when the head was at `at`. Who
/// gets the snapshot and then the wire stream from `at` on misses nothing that is still so.
#[derive(Debug)]
pub struct Snapshot {
    /// Where the wire stream goes on.
    pub at: Position,
    /// The events, as a wire stream of their own that begins at 0; `None`: there are none.
    pub(super) batch: Option<Arc<Batch>>,
    /// Where in the log each event ends, and where in `batch` it begins.
    pub(super) places: Box<[(Position, Position)]>,
    /// The newest event that was forgotten, while it still was the newest of its key, ended here. Who
    /// has seen less lacks it, or does not know that its key is no more.
    pub(super) lossy_until: Position,
    /// Whether keys are missing that were not taken back: there were too many, or too little memory.
    pub is_partial: bool,
    /// When it was made.
    pub(super) made_at: Instant,
}

/// Which snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// Without the events that take a key back: for those who know of no key.
    Omitted,
    /// With them: for those who may know the key.
    Told,
}

/// A part of a snapshot: what is new to one subscriber.
#[derive(Debug, Clone)]
pub struct News {
    /// All there is.
    pub snapshot: Arc<Snapshot>,
    /// Where in its batch begins what is new.
    pub from: Position,
    /// How many events that are.
    pub n_events: usize,
    /// Where the wire stream goes on.
    pub at: Position,
    /// The batches from `at` to the head, in order.
    pub batches: Vec<Arc<Batch>>,
    /// Whether nothing is missing: neither a key nor that one is no more. Who was away for longer than
    /// that is known is told.
    pub is_complete: bool,
}

impl Snapshot {
    /// The events.
    pub fn batch(&self) -> Option<&Arc<Batch>> {
        self.batch.as_ref()
    }

    /// Where in the log the event ends that ends at `at` in the batch of this.
    pub fn end_of(&self, at: Position) -> Position {
        let n_until = self.places.partition_point(|(_, from)| *from < at);
        let last = n_until
            .checked_sub(1)
            .and_then(|last| self.places.get(last));
        last.map_or(0, |(end, _)| *end)
    }

    fn n_bytes(&self) -> Position {
        self.batch.as_ref().map_or(0, |batch| batch.end())
    }

    /// How many events there are.
    pub fn n_events(&self) -> usize {
        self.places.len()
    }

    /// What is new to who has everything up to `position`, which is between events.
    pub(super) fn after(self: &Arc<Self>, position: Position) -> News {
        let first = self.places.partition_point(|(end, _)| *end <= position);
        let new = self.places.get(first..).unwrap_or_default();
        News {
            snapshot: Arc::clone(self),
            from: new.first().map_or(self.n_bytes(), |(_, from)| *from),
            n_events: new.len(),
            at: self.at.max(position),
            batches: Vec::new(),
            is_complete: position >= self.lossy_until,
        }
    }
}

/// The snapshots that a log has made last.
///
/// One serves until the head moves. Thousands who come while an origin floods would make the log
/// encode its state for each of them; so beyond a rate they get one that is a moment old, and the events
/// since.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    made: Vec<(Removals, Arc<Snapshot>)>,
    /// When the current window began, and how many were made in it.
    window: Option<(Instant, u32)>,
}

impl Snapshots {
    /// One that can be given now, to whom the wire stream is retained from `tail` to `head`.
    pub(super) fn usable(
        &self,
        removals: Removals,
        (tail, head): (Position, Position),
        now: Instant,
    ) -> Option<Arc<Snapshot>> {
        let (_, made) = self.made.iter().find(|(kind, _)| *kind == removals)?;
        let is_fresh = made.at == head;
        let is_recent = made.at >= tail && now.saturating_duration_since(made.made_at) < STALE;
        let is_usable = is_fresh || (is_recent && self.is_busy(now));
        is_usable.then(|| Arc::clone(made))
    }

    /// Keeps one for those who come next.
    pub(super) fn keep(&mut self, removals: Removals, snapshot: &Arc<Snapshot>, now: Instant) {
        self.made.retain(|(kind, _)| *kind != removals);
        self.made.push((removals, Arc::clone(snapshot)));
        self.window = match self.window {
            Some((began, n)) if now.saturating_duration_since(began) < WINDOW => {
                Some((began, n + 1))
            }
            Some(_) | None => Some((now, 1)),
        };
    }

    /// Forgets those that nobody has asked for lately.
    pub(super) fn expire(&mut self, now: Instant) {
        if !self.made.is_empty() {
            self.made
                .retain(|(_, made)| now.saturating_duration_since(made.made_at) < KEPT);
        }
    }

    pub(super) fn clear(&mut self) {
        self.made.clear();
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.window.is_some_and(|(began, n)| {
            now.saturating_duration_since(began) < WINDOW && n >= PER_WINDOW
        })
    }
}

/// The rate up to which everybody gets a snapshot of the very moment.
const WINDOW: Duration = Duration::from_secs(1);
const PER_WINDOW: u32 = 100;

/// How old a snapshot may be beyond that rate. The events since come after it.
const STALE: Duration = Duration::from_millis(50);

/// How long a snapshot is kept for another newcomer.
const KEPT: Duration = Duration::from_secs(1);
