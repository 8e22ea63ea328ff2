//! How subscribers of a group leave: because they are too slow, or because they are sent away.
//!
//! Who leaves gets the rest of its event and a goodbye, in its own turn, and has until a deadline for
//! them; so nobody waits for it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;

use super::{Followup, Group, QUIET};
use crate::channel::Departure;
use crate::config::End;
use crate::delivery::ages::Ages;
use crate::delivery::body::Ending;
use crate::delivery::pass::Kind;
use crate::delivery::subscriber::{Leaving, Subscriber};
use crate::delivery::{GOODBYE_GRACE, random_time, return_time};

/// How long those who are dismissed may take for what there was when they were.
const DISMISSAL_GRACE: Duration = Duration::from_millis(500);

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

    /// Makes the one leave whose time has come. It comes back by id, at another time than others.
    pub(in crate::delivery) fn let_the_oldest_go(&mut self, now: Instant, followup: &mut Followup) {
        let ages = self.ages.as_mut();
        let Some(index) = ages.and_then(|ages| ages.pop_due(now)) else {
            return;
        };
        let departure = Departure::Aged;
        let leaving = Leaving {
            departure,
            deadline: now + GOODBYE_GRACE,
            ending: self.ending(departure),
            retry: Some(random_time(&self.settings.retry)),
        };
        self.let_go(index, leaving, followup);
    }

    /// When the time of the next subscriber has come.
    pub(in crate::delivery) fn next_age(&self) -> Option<Instant> {
        self.ages.as_ref()?.next_at()
    }

    /// Lets everybody's time begin anew, if it is another than before: whatever it was, they do not
    /// all leave at once.
    pub(super) fn follow_max_age(&mut self, now: Instant) {
        let before = self.ages.as_ref().map(|ages| ages.max_age());
        if before == self.settings.max_age {
            return;
        }
        self.ages = self.settings.max_age.map(|max_age| {
            let mut ages = Box::new(Ages::new(max_age, now));
            for index in self.places() {
                ages.add(index, now);
            }
            ages
        });
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
        if let Some(ages) = &mut self.ages {
            ages.remove(index);
        }
        let client = tracing::enabled!(Level::DEBUG)
            .then(|| Some(subscriber.identity()?.address()))
            .flatten();
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
            let client = client.map(tracing::field::display);
            tracing::debug!(channel = name, reason, client, "a subscriber left");
        }
    }
}
