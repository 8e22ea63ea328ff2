//! Reads one source of a view: its history, then what comes.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::Selection;
use super::cursor::{Mark, tag};
use super::sources::Retained;
use crate::log::batch::{Batch, Position};
use crate::log::feed::{Feed, Outlet};
use crate::log::id::Seq;
use crate::log::{Ending, Log};

/// A reader of one source.
#[derive(Debug)]
pub(super) struct Tap {
    /// What it is called in notices.
    pub(super) name: Box<str>,
    pub(super) log: Log,
    /// Which of its events belong to the view.
    pub(super) selection: Selection,
    feed: Arc<Feed>,
    /// What was taken and is not read yet.
    pending: VecDeque<Arc<Batch>>,
    /// Where the first entry ends that is not read yet.
    at: Position,
    /// The last entry that was read.
    pub(super) read: Seq,
    /// Where it goes on, once `pending` is read up to there, if the entries before that are lost.
    hole: Option<(Position, Seq)>,
    /// Where a subscriber is that has everything.
    pub(super) mark: Mark,
    pub(super) ended: Option<Ending>,
}

/// What there is to read next.
pub(super) enum Next {
    /// The source was faster than the reader: what followed is gone.
    Lost,
    /// More entries, and when they were appended. They begin at the position.
    Entries(Arc<Batch>, Position),
}

impl Tap {
    /// A reader of all that is retained and all that comes; and the newest entry that its subscribers
    /// would miss that is not retained.
    pub(super) fn new(
        (name, log): (&str, &Log),
        outlet: Box<dyn Outlet>,
        max_pending_bytes: usize,
        (selection, now): (Selection, Instant),
    ) -> (Self, Seq) {
        let followed = log.follow(outlet, max_pending_bytes, &selection, now);
        let Retained {
            batches,
            start,
            first,
        } = followed.retained;
        let mut tap = Self {
            name: name.into(),
            log: log.clone(),
            selection,
            feed: followed.feed,
            pending: batches.into(),
            at: start,
            read: before(first),
            hole: None,
            mark: Mark::new(tag(name)),
            ended: followed.ended,
        };
        tap.mark.move_to(log.epoch_of(tap.read), tap.read);
        (tap, followed.lost)
    }

    /// Takes what is new.
    pub(super) fn pull(&mut self) {
        let taken = self.feed.take(&mut self.pending);
        self.ended = taken.ended;
        if taken.is_overrun {
            self.reread();
        }
    }

    /// Is overrun beyond so many bytes.
    pub(super) fn set_max_pending_bytes(&self, max: usize) {
        self.feed.set_max_pending_bytes(max);
    }

    /// When the oldest was appended that is not read yet; `None`: everything is read.
    pub(super) fn oldest(&mut self) -> Option<Instant> {
        while self.pending.front().is_some_and(|one| one.end() <= self.at) {
            self.pending.pop_front();
        }
        match (self.pending.front(), self.hole) {
            (Some(batch), _) => Some(batch.appended_at()),
            // Something has been lost, and nothing followed it yet.
            (None, Some(_)) => Some(Instant::now()),
            (None, None) => None,
        }
    }

    /// What comes next, if [`Tap::oldest`] says that there is something.
    pub(super) fn next(&mut self) -> Option<Next> {
        let follows = self
            .pending
            .front()
            .is_some_and(|one| one.start() <= self.at);
        if follows {
            let batch = self.pending.pop_front()?;
            return Some(Next::Entries(batch, self.at));
        }
        let (at, first) = self.hole.take()?;
        self.at = at;
        self.read = before(first);
        self.mark.move_to(self.log.epoch_of(self.read), self.read);
        Some(Next::Lost)
    }

    /// Notes that an entry is read; returns its number.
    pub(super) fn note_read(&mut self, end: Position) -> Seq {
        self.at = end;
        self.read = self.read.next();
        self.read
    }

    /// Reads again in the log what the feed has dropped, as far as that is retained.
    fn reread(&mut self) {
        let mut end = self.at;
        let follows = |batch: &Arc<Batch>| {
            let follows = batch.start() <= end;
            end = end.max(batch.end());
            follows
        };
        let n = self
            .pending
            .iter()
            .map(follows)
            .take_while(|one| *one)
            .count();
        self.pending.truncate(n);
        let end = self
            .pending
            .back()
            .map_or(self.at, |last| last.end().max(self.at));
        let Retained {
            batches,
            start,
            first,
        } = self.log.reread(end);
        self.pending.extend(batches);
        self.hole = (start != end).then_some((start, first));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.log.detach(&self.feed);
    }
}

/// The entry before this one.
fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(1))
}
