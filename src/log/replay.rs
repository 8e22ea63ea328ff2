//! What a subscriber gets before it is live: the decision, as a value.

use std::sync::Arc;

use super::batch::{Batch, Position};

/// Where a new subscriber starts, and why.
#[derive(Debug)]
pub struct Start {
    /// The position of its first byte.
    pub at: Position,
    /// What it was promised.
    pub replay: Replay,
    /// The batches from `at` to the head, in order.
    pub batches: Vec<Arc<Batch>>,
    /// Whether more will come.
    pub ended: Option<super::Ending>,
}

/// What became of a subscriber's wish to resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Its event is known: it gets exactly what followed.
    Complete,
    /// Its event is no longer retained: it gets the whole history and is told so.
    Expired,
    /// It has seen nothing: it starts at the head. The id is the tip's, if events had one.
    Live(Option<String>),
    /// Nobody knows its event, or it is ambiguous: it gets the whole history and is told so.
    Unknown,
}

impl Replay {
    /// The reason in `ssecast.reset`; `None` if there is nothing to tell.
    pub fn reset_reason(&self) -> Option<&'static str> {
        match self {
            Self::Complete | Self::Live(_) => None,
            Self::Expired => Some("expired"),
            Self::Unknown => Some("unknown"),
        }
    }
}
