//! How much one turn of a shard may do, so that every channel, and every other task of the thread,
//! gets its turn, and so do the shard's own subscribers.
//!
//! The thread's other tasks have a turn each between two of the shard's. A thousand of them, requests
//! that pass through or handshakes, take so long that subscribers would have a tenth of the thread.
//! So a turn in the middle of something lasts in proportion to how long the others had.

use std::time::Duration;

use tokio::time::Instant;

/// What is left of a turn.
#[derive(Debug)]
pub(super) struct Budget {
    /// In units of a visit.
    effort: usize,
    /// When the turn began.
    now: Instant,
    /// How long it may be.
    time: Duration,
}

/// How long the next turn may be.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// When the last turn ended; `None` where it left nothing to do.
    ended_at: Option<Instant>,
}

/// Time for a turn, if nothing else wants any.
const TURN: Duration = Duration::from_millis(1);

/// Time for a turn, whatever others had: no request waits longer for its own.
const LONGEST_TURN: Duration = Duration::from_millis(16);

/// Of the time since something was begun, two thirds are for what was begun. With half of it a pass
/// would take twice as long as on a thread of its own, and longer with what it costs to begin one.
const TIMES_THE_OTHERS: u32 = 2;

/// Writes in a turn of [`TURN`].
const TURN_WRITES: usize = 128;

/// What a write costs, in visits to a subscriber that gets nothing.
const WRITE: usize = 16;

/// Effort after which a turn looks at the clock. A look costs a fiftieth of a write; this makes it
/// nothing.
const LOOK: usize = 16 * WRITE;

impl Budget {
    /// A whole turn of so much time, from now on.
    pub(super) fn new(now: Instant, time: Duration) -> Self {
        // In proportion: a write of the kind that is counted takes some microseconds.
        let writes = TURN_WRITES as u128 * time.as_micros() / TURN.as_micros();
        Self {
            effort: usize::try_from(writes).map_or(usize::MAX, |n| n.saturating_mul(WRITE)),
            now,
            time,
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
        if self.effort / LOOK != looks_before && self.now.elapsed() >= self.time {
            self.effort = 0;
        }
    }
}

impl Share {
    /// Begins a turn; returns how long it may be.
    pub(super) fn begin(&mut self, now: Instant) -> Duration {
        let others = self
            .ended_at
            .take()
            .map(|at| now.saturating_duration_since(at));
        let time = others.unwrap_or_default() * TIMES_THE_OTHERS;
        time.clamp(TURN, LONGEST_TURN)
    }

    /// Ends a turn that has left something to do.
    pub(super) fn pause(&mut self, now: Instant) {
        self.ended_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_twice_as_long_as_the_others_had_within_bounds() {
        let now = Instant::now();
        let mut share = Share::default();
        assert_eq!(share.begin(now), TURN, "there was none before");
        let after = |share: &mut Share, others: Duration| {
            share.pause(now);
            share.begin(now + others)
        };
        assert_eq!(after(&mut share, Duration::ZERO), TURN);
        let three = Duration::from_millis(3);
        assert_eq!(after(&mut share, three), 2 * three);
        assert_eq!(after(&mut share, Duration::from_secs(1)), LONGEST_TURN);
        // A wait for something to do is not time that others had.
        assert_eq!(share.begin(now + three), TURN);
    }

    #[test]
    fn writes_are_in_proportion_to_the_time() {
        for (millis, n_writes) in [(1, TURN_WRITES), (3, 3 * TURN_WRITES)] {
            // It never comes to an end by the clock.
            let begin = Instant::now() + Duration::from_secs(3600);
            let mut budget = Budget::new(begin, Duration::from_millis(millis));
            let mut n = 0;
            while !budget.is_spent() {
                budget.spend_write();
                n += 1;
            }
            assert_eq!(n, n_writes);
        }
    }
}
