//! How subscribers of a group leave: because they are too slow, or because they are sent away.
//!
//! Who leaves gets the rest of its event and a goodbye, in its own turn, and has until a deadline for
//! them; so nobody waits for it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Followup, Group};
use crate::channel::Departure;
use crate::config::{End, OnLag};
use crate::delivery::body::Ending;
use crate::delivery::pass::Kind;
use crate::delivery::subscriber::{Leaving, Subscriber};
use crate::delivery::{GOODBYE_GRACE, return_time};

/// How long those who are dismissed may take for what there was when they were.
const DISMISSAL_GRACE: Duration = Duration::from_millis(500);

/// Time between two warnings about subscribers that lag: when an origin floods, thousands do.
const QUIET: Duration = Duration::from_secs(1);

/// How far behind a subscriber may be when memory has run out: what one write carries.
const RELIEF_LAG_BYTES: u64 = 64 * 1024;

impl Group {
    /// Wants every subscriber to leave once it has what there is now, or when that takes too long.
    /// What comes later is not taken: an origin that never pauses would put the goodbye off for ever.
    pub(in crate::delivery) fn dismiss(
        &mut self,
        departure: Departure,
        now: Instant,
        followup: &mut Followup,
    ) {
        self.pull(now, followup);
        self.close();
        self.dismissal_deadline = Some(now + DISMISSAL_GRACE);
        self.want(Kind::Farewell(departure));
    }

    /// Makes a subscriber leave as one of many who leave until `deadline`.
    pub(in crate::delivery) fn part(
        &mut self,
        index: usize,
        (departure, deadline): (Departure, Instant),
        followup: &mut Followup,
    ) {
        let leaving = Leaving {
            departure,
            deadline,
            ending: self.ending(departure),
            retry: Some(return_time(deadline)),
        };
        self.let_go(index, leaving, followup);
    }

    /// Makes those leave for whom much is kept in memory that the log has given up, or would; they
    /// come back by id when there is room.
    pub(in crate::delivery) fn relieve(&mut self, now: Instant, followup: &mut Followup) {
        let is_far_behind =
            |one: &Subscriber| one.needs_wire() && self.wire.lag(one.at()) > RELIEF_LAG_BYTES;
        let far_behind: Vec<usize> = (self.subscribers.iter())
            .filter(|(_, one)| is_far_behind(one))
            .map(|(index, _)| index)
            .collect();
        for index in far_behind {
            self.leave(index, Departure::Lagged, now, followup);
        }
        self.trim();
    }

    /// Ends a subscriber whose goodbye was not taken in time.
    pub(in crate::delivery) fn cut(&mut self, index: usize, now: Instant) {
        let leaving = self.subscribers.get(index).and_then(Subscriber::leaving);
        if let Some(leaving) = leaving
            && leaving.deadline <= now
        {
            self.remove(index, leaving.departure);
        }
    }

    /// Makes a straggler leave if it is too far behind.
    pub(super) fn judge_lag(&mut self, index: usize, now: Instant, followup: &mut Followup) {
        let Some(subscriber) = self.subscribers.get(index) else {
            return;
        };
        let settings = &self.settings;
        // Who still replays is behind by its own wish: as far as the log reaches.
        let allowance = if subscriber.has_caught_up() {
            0
        } else {
            settings.history.bytes
        };
        let limit = settings.lag.limit_bytes.saturating_add(allowance);
        if self.wire.lag(subscriber.at()) <= limit as u64 {
            return;
        }
        match settings.lag.then {
            OnLag::Disconnect => self.leave(index, Departure::Lagged, now, followup),
        }
    }

    /// Makes a subscriber leave at the end of its event.
    pub(super) fn leave(
        &mut self,
        index: usize,
        departure: Departure,
        now: Instant,
        followup: &mut Followup,
    ) {
        let leaving = Leaving {
            departure,
            deadline: now + GOODBYE_GRACE,
            ending: self.ending(departure),
            retry: None,
        };
        self.let_go(index, leaving, followup);
    }

    fn ending(&self, departure: Departure) -> Ending {
        if departure == Departure::Over || self.settings.end == End::Clean {
            Ending::Clean
        } else {
            Ending::Cut
        }
    }

    fn let_go(&mut self, index: usize, leaving: Leaving, followup: &mut Followup) {
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        if subscriber.leave(leaving, &self.wire) {
            followup.queued.push(index);
            followup.leaving.push((index, leaving.deadline));
        }
    }

    pub(super) fn remove(&mut self, index: usize, departure: Departure) {
        let Some(subscriber) = self.subscribers.try_remove(index) else {
            return;
        };
        subscriber.end();
        let (name, reason) = (self.channel.name(), departure.reason());
        self.channel.counters().departures(departure).add(1);
        let now = Instant::now();
        if departure == Departure::Lagged && self.quiet_until.is_none_or(|until| until <= now) {
            self.quiet_until = Some(now + QUIET);
            tracing::warn!(
                channel = name,
                reason,
                "a subscriber was too slow and was disconnected; more within a second are not logged"
            );
        } else {
            tracing::debug!(channel = name, reason, "a subscriber left");
        }
    }
}
