//! Views: logs that are made of other logs, by leaving out and by merging.
//!
//! A view is a log like any other for those who read it. Its one writer reads the logs of its
//! sources, first what they retain and then what comes, without a seam; gives on what belongs to it,
//! encoded once for all of its subscribers; and gives it ids that say how far a subscriber is in every
//! source. So a view can end when nobody reads it and be made anew when somebody comes back.
//!
//! The sources know nothing of it: for them it is a shard that takes what is new.

mod cursor;
mod places;
mod selection;
mod sources;
mod start;
mod tap;
#[cfg(test)]
mod tests;
mod writer;

use tokio::time::Instant;

#[cfg(any(test, fuzzing))]
pub use self::cursor::fuzz_cursor;
pub use self::cursor::{MAX_SOURCES, id_for_origin};
pub(super) use self::places::Places;
pub use self::selection::Selection;
pub(super) use self::sources::Sources;
use self::tap::Tap;
pub use self::writer::{Progress, ViewWriter};
use super::{Log, Outlet};
use crate::config::{History, Notices};
use crate::memory::Budget;

/// What a view is made of, and how.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// Its sources, each with a name that tells it from the others: at most [`MAX_SOURCES`].
    pub sources: &'a [(&'a str, &'a Log)],
    /// Which of their events it has, by types as its clients see them.
    pub selection: Selection,
    /// How a subscriber sees which source an event is from.
    pub tagging: Tagging,
    /// Which notices it gives on.
    pub notices: Notices,
    /// What it retains.
    pub limits: History,
    /// What it may leave unread before it is overrun.
    pub max_pending_bytes: usize,
}

/// How a subscriber sees which source an event is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// By the event type: `source:type`.
    EventType,
    /// Not at all.
    None,
}

impl Recipe<'_> {
    /// The view, as yet empty, and its writer. `outlet` is told when a source has something.
    pub fn make(
        self,
        mut outlet: impl FnMut() -> Box<dyn Outlet>,
        budget: &Budget,
        now: Instant,
    ) -> (Log, ViewWriter) {
        let mut taps = Vec::with_capacity(self.sources.len());
        let mut lost = Vec::with_capacity(self.sources.len());
        for source in self.sources {
            let (name, _) = *source;
            let selection = match self.tagging {
                Tagging::EventType => self.selection.within(name),
                Tagging::None => self.selection.clone(),
            };
            let from = (selection, now);
            let (tap, newest) = Tap::new(*source, outlet(), self.max_pending_bytes, from);
            taps.push(tap);
            lost.push(newest);
        }
        let sources = Sources::new(self.sources.iter().copied());
        let places = Places::new(lost.into_iter(), budget);
        let (log, writer) = Log::of_view(self.limits, budget, (sources, places));
        let writer = ViewWriter {
            writer,
            taps,
            tagging: self.tagging,
            notices: self.notices,
            places: Vec::new(),
            newest: now,
            is_over: false,
            n_lost: 0,
            block: Vec::new(),
        };
        (log, writer)
    }
}
