//! What a subscriber gets before it is live: the decision, as a value.

use std::sync::Arc;

use super::batch::{Batch, Position};
use super::snapshot::Snapshot;
use crate::config::{self, Join, OnGap};

/// What a new subscriber asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The event that it has seen last.
    pub last_event_id: Option<&'a str>,
    /// What it gets if it has seen none.
    pub join: Join,
    /// What it gets if nobody knows what followed that event.
    pub on_gap: OnGap,
}

/// Where a new subscriber starts, and why.
#[derive(Debug)]
pub struct Start {
    /// The position of its first byte, after the snapshot if there is one.
    pub at: Position,
    /// What became of its wish.
    pub replay: Replay,
    /// What it gets of the past.
    pub follows: Follows,
    /// If it starts at the head: the id of the newest event that has one, if it can be resumed from.
    pub tip: Option<String>,
    /// The id to resume from exactly at the head. Only of a view, and of [`crate::log::Log::read`].
    pub head_id: Option<String>,
    /// The newest event of each key, as they were at `at`.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Events that come first: of a view, those that it merged in another order for this subscriber
    /// than for the others. Whole blocks, without framing.
    pub ahead: Vec<Box<[u8]>>,
    /// The batches from `at` to the head, in order.
    pub batches: Vec<Arc<Batch>>,
    /// Whether more will come.
    pub ended: Option<super::Ending>,
}

/// What became of a subscriber's wish to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Its event is known: it gets exactly what followed.
    Complete,
    /// Its event is no longer retained, which it is told.
    Expired,
    /// It has seen nothing.
    Fresh,
    /// Nobody knows its event, or it is ambiguous, which it is told.
    Unknown,
}

/// What a subscriber gets of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The whole history.
    All,
    /// The newest event of each key.
    Latest,
    /// Nothing: it is at the head.
    Live,
    /// Some of the newest events.
    Newest,
    /// What followed its last event.
    Rest,
}

impl<'a> Wish<'a> {
    /// What a channel gives who has seen this event last.
    pub fn of(settings: &config::Channel, last_event_id: Option<&'a str>) -> Self {
        Self {
            last_event_id,
            join: settings.join,
            on_gap: settings.on_gap,
        }
    }
}

/// What a channel gives by default.
impl<'a> From<Option<&'a str>> for Wish<'a> {
    fn from(last_event_id: Option<&'a str>) -> Self {
        Self {
            last_event_id,
            join: Join::Live,
            on_gap: OnGap::All,
        }
    }
}

impl Start {
    /// Whether it gets the notices since it was there, and needs no others.
    pub fn has_states(&self) -> bool {
        self.follows == Follows::Rest
    }

    /// Whether keys are missing in the snapshot, which the subscriber is told.
    pub fn is_partial(&self) -> bool {
        let snapshot = self.snapshot.as_ref();
        snapshot.is_some_and(|snapshot| snapshot.is_partial)
    }
}

impl Replay {
    /// The reason in `ssecast.reset`; `None` if there is nothing to tell.
    pub fn reset_reason(self) -> Option<&'static str> {
        match self {
            Self::Complete | Self::Fresh => None,
            Self::Expired => Some("expired"),
            Self::Unknown => Some("unknown"),
        }
    }
}

impl Follows {
    /// The word for it, as the configuration and notices say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Latest => "latest",
            Self::Live => "live",
            Self::Newest => "newest",
            Self::Rest => "rest",
        }
    }
}
