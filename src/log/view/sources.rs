//! The logs that a view reads: where a subscriber is in them that shows an id.

use std::sync::Arc;

use tokio::time::Instant;

use super::Selection;
use super::cursor::{Cursor, Mark, tag};
use crate::log::batch::{Batch, Position};
use crate::log::feed::{Feed, Outlet};
use crate::log::id::{Epoch, Seq};
use crate::log::replay::Replay;
use crate::log::{Ending, Log};

/// The sources of a view, in its order.
#[derive(Debug)]
pub(in crate::log) struct Sources(Box<[Source]>);

#[derive(Debug)]
struct Source {
    tag: u32,
    log: Log,
}

/// What a reader of a log begins with.
pub(super) struct Followed {
    pub(super) feed: Arc<Feed>,
    pub(super) retained: Retained,
    /// The newest event of the selection that is retained no more; 0: none.
    pub(super) lost: Seq,
    pub(super) ended: Option<Ending>,
}

/// A part of a log, up to its head.
pub(super) struct Retained {
    pub(super) batches: Vec<Arc<Batch>>,
    /// Where the first entry begins.
    pub(super) start: Position,
    /// Its number.
    pub(super) first: Seq,
}

impl Sources {
    pub(super) fn new<'a>(sources: impl Iterator<Item = (&'a str, &'a Log)>) -> Self {
        let sources = sources.map(|(name, log)| Source {
            tag: tag(name),
            log: log.clone(),
        });
        Self(sources.collect())
    }

    /// What a subscriber has of each source that shows `id`; `None`: it has not asked for that
    /// source. And the cursor that the id is, without what it says of other sources.
    pub(super) fn resolve(&self, id: &str) -> Result<(Vec<Option<Seq>>, Cursor), Replay> {
        let Some(cursor) = Cursor::parse(id) else {
            let seen = self.resolve_plain(id)?;
            return Ok((vec![Some(seen)], Cursor::default()));
        };
        let marks = self.0.iter().map(|source| cursor.mark(source.tag));
        let marks: Vec<Option<&Mark>> = marks.collect();
        if marks.iter().all(Option::is_none) {
            return self
                .resolve_plain(id)
                .map(|seen| (vec![Some(seen)], Cursor::default()));
        }
        let mut seen = Vec::with_capacity(marks.len());
        for (source, mark) in self.0.iter().zip(&marks) {
            seen.push(match mark {
                Some(mark) => Some(source.log.number_of(mark).ok_or(Replay::Unknown)?),
                None => None,
            });
        }
        let marks = marks.into_iter().flatten().cloned().collect();
        Ok((seen, Cursor { marks }))
    }

    /// An id of the source itself, from a subscriber that has read it without a view; where there are
    /// several sources nobody knows whose it is.
    fn resolve_plain(&self, id: &str) -> Result<Seq, Replay> {
        match &*self.0 {
            [only] => only.log.number_of_id(id),
            _ => Err(Replay::Unknown),
        }
    }

    /// The mark of a source in a cursor.
    pub(super) fn mark_mut<'a>(
        &self,
        source: usize,
        cursor: &'a mut Cursor,
    ) -> Option<&'a mut Mark> {
        let tag = self.0.get(source)?.tag;
        cursor.marks.iter_mut().find(|mark| mark.tag == tag)
    }

    /// What a cursor says of a source.
    pub(super) fn mark<'a>(&self, source: usize, cursor: &'a Cursor) -> Option<&'a Mark> {
        cursor.mark(self.0.get(source)?.tag)
    }
}

impl Log {
    /// Tells event types apart from now on when they are evicted, for views that have only some; or no
    /// longer.
    pub fn tell_types(&self, tells_types: bool) {
        self.lock().ring.tell_types(tells_types);
    }

    /// All that is retained, and what comes after it: there is no seam.
    pub(super) fn follow(
        &self,
        outlet: Box<dyn Outlet>,
        max_pending_bytes: usize,
        selection: &Selection,
        now: Instant,
    ) -> Followed {
        // What is appended between the two is in both, and the reader sees that by its position.
        let (feed, _) = self.attach(outlet, max_pending_bytes);
        let mut state = self.lock();
        state.ring.evict(now);
        let start = state.ring.tail();
        Followed {
            feed,
            retained: Retained {
                batches: state.ring.batches_from(start).cloned().collect(),
                start,
                first: state.ring.first_seq(),
            },
            lost: state.ring.newest_forgotten(selection),
            ended: state.ended,
        }
    }

    /// What is retained from a position on, for a reader that was too slow for its feed.
    pub(super) fn reread(&self, from: Position) -> Retained {
        let state = self.lock();
        let batches: Vec<Arc<Batch>> = state.ring.batches_from(from).cloned().collect();
        // A batch may be in memory that is evicted in part.
        let follows = match batches.first() {
            Some(batch) => batch.start() <= from,
            None => state.ring.head() == from,
        };
        Retained {
            batches,
            start: if follows { from } else { state.ring.tail() },
            first: state.ring.first_seq(),
        }
    }

    /// The epoch of an entry.
    pub(super) fn epoch_of(&self, seq: Seq) -> Epoch {
        self.lock().ring.epoch_of(seq)
    }

    fn number_of(&self, mark: &Mark) -> Option<Seq> {
        let state = self.lock();
        let own_id = mark.own_id.as_deref();
        state.ring.number_of(mark.epoch(), mark.seq(), own_id)
    }

    fn number_of_id(&self, id: &str) -> Result<Seq, Replay> {
        self.lock().ring.number_of_id(id)
    }
}
