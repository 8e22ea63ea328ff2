//! How much one turn of a shard may do, so that every channel, and every other task of the thread,
//! gets its turn.

use std::time::Duration;

use tokio::time::Instant;

/// What is left of a turn.
#[derive(Debug)]
pub(super) struct Budget {
    /// In units of a visit.
    effort: usize,
    /// When the turn began.
    now: Instant,
}

/// Writes in a turn.
const TURN_WRITES: usize = 128;

/// Time for a turn.
const TURN: Duration = Duration::from_millis(1);

/// What a write costs, in visits to a subscriber that gets nothing.
const WRITE: usize = 16;

/// Effort after which a turn looks at the clock. A look costs a fiftieth of a write; this makes it
/// nothing.
const LOOK: usize = 16 * WRITE;

impl Budget {
    /// A whole turn, from now on.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            effort: TURN_WRITES * WRITE,
            now,
        }
    }

    /// Notes a write.
    pub(super) fn spend_write(&mut self) {
        self.spend(WRITE);
    }

    /// Notes a visit without one.
    pub(super) fn spend_visit(&mut self) {
        self.spend(1);
    }

    /// Whether the turn is over.
    pub(super) fn is_spent(&self) -> bool {
        self.effort == 0
    }

    /// When the turn began.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    fn spend(&mut self, effort: usize) {
        let looks_before = self.effort / LOOK;
        self.effort = self.effort.saturating_sub(effort);
        if self.effort / LOOK != looks_before && self.now.elapsed() >= TURN {
            self.effort = 0;
        }
    }
}
