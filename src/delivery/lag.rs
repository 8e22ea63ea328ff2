//! When a subscriber is too far behind, and what it has missed by the time it can go on.
//!
//! Pure: what a subscriber lacks is measured elsewhere, the time is an argument, and nothing here is
//! sent. A subscriber beyond a limit is *adrift*: it has a [`Debt`] instead of a place in the wire
//! stream, so nothing is kept for it but the rest of its own event, however long it stalls. What
//! becomes of it is decided when its socket takes bytes again, by the policy of that moment.
//!
//! ```text
//!   wire stream   … e7 e8 e9 │ e10 … e4999 │ e5000 …
//!                          cast adrift    the head, when it can go on
//!   it gets       … e7 e8 e9   gap(4990)    e5000 …                               skip
//!                 … e7 e8 e9   gap(4980)    the newest of ten keys, e5000 …       conflate
//! ```

use std::time::Duration;

use crate::config;
use crate::log::{Count, Position};

/// How far a subscriber is behind. The newest batch does not count, except for its age: however
/// large it is, nobody can be blamed for not having it yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Distance {
    pub(super) bytes: u64,
    pub(super) n_events: u64,
    /// Of the oldest event that it lacks.
    pub(super) age: Duration,
}

/// What a subscriber lacks that is adrift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debt {
    /// Everything before it has got, or was told that it will not get.
    at: Position,
    /// What it was to get of that all the same: the rest of a snapshot.
    promised: Count,
    /// What the log has had since counts in any case.
    since: Count,
}

/// What a subscriber will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// Events of the origin.
    pub(super) n_events: u64,
    /// Whether there are more, nobody knows how many: a notice that said so is among what it misses.
    pub(super) hides_gap: bool,
    /// Whether any notice is.
    pub(super) hides_notice: bool,
}

/// Whether a subscriber is further behind than its channel allows. One that still replays is behind
/// by its own wish, as far as the log reaches.
pub(super) fn is_beyond(behind: &Distance, settings: &config::Channel, is_replaying: bool) -> bool {
    let (lag, history) = (&settings.lag, &settings.history);
    let and = |limit: usize, allowance: usize| {
        let allowance = if is_replaying { allowance } else { 0 };
        limit.saturating_add(allowance) as u64
    };
    let is_too_old = lag.limit_age.is_some_and(|limit| {
        let allowance = match (is_replaying, history.age) {
            (false, _) => Duration::ZERO,
            (true, Some(age)) => age,
            (true, None) => Duration::MAX,
        };
        behind.age > limit.saturating_add(allowance)
    });
    behind.bytes > and(lag.limit_bytes, history.bytes)
        || (lag.limit_events).is_some_and(|limit| behind.n_events > and(limit, history.events))
        || is_too_old
}

impl Debt {
    /// Of a subscriber that has, or was told that it will not get, everything before `at`, where the
    /// log has had `since`.
    pub(super) fn new(at: Position, since: Count) -> Self {
        Self {
            at,
            promised: Count::default(),
            since,
        }
    }

    /// The same of one that had a part of a snapshot, up to the event that ends at `at`: the rest was
    /// `promised`. The wire stream would have gone on where the log has had `since`.
    pub(super) fn in_snapshot(at: Position, promised: Count, since: Count) -> Self {
        Self {
            at,
            promised,
            since,
        }
    }

    /// It lacks what follows.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// What it misses that is `given` so much of what it lacks, and goes on where the log has had
    /// `head`.
    pub(super) fn settle(&self, head: Count, given: Count) -> Loss {
        let lacking = head.since(self.since).plus(self.promised);
        let missed = lacking.since(given);
        Loss {
            n_events: missed.n_events,
            // One gap in the stream tells of all before it.
            hides_gap: lacking.n_gaps > 0 && given.n_gaps == 0,
            hides_notice: missed.n_notices > 0,
        }
    }
}

impl Loss {
    /// The data of the notice that tells it; `None`: nothing was lost.
    pub(super) fn notice(&self, reason: &str) -> Option<String> {
        let n_events = self.n_events;
        if self.hides_gap {
            // How many the origin has lost before, nobody knows.
            return Some(format!(
                r#"{{"missed":"unknown","at_least":{n_events},"reason":"{reason}"}}"#
            ));
        }
        (n_events > 0).then(|| format!(r#"{{"missed":{n_events},"reason":"{reason}"}}"#))
    }
}
