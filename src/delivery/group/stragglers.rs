//! What becomes of subscribers of a group that are too far behind, or take nothing at all.
//!
//! With `disconnect`, who is beyond a limit leaves. Else it is cast adrift (see [`lag`]): nothing of
//! the wire is kept for it, and when its socket takes bytes again it goes on at the head, after what
//! the policy of that moment gives it. **Every Loss Is Told**, if the channel has notices; it is
//! counted in any case.
//!
//! Who takes nothing at all for `write_timeout` is found by the kernel where a subscriber has a TCP
//! connection of its own, and else by looking at the blocked ones a few times within that time: there is
//! no timer per subscriber, and no clock in a pass.

use std::time::Duration;

use tokio::time::Instant;

use super::{Continuity, Followup, Group, QUIET};
use crate::channel::{Departure, UPSTREAM_NOTICE};
use crate::config::{Notices, OnLag};
use crate::delivery::lag::{self, Loss};
use crate::delivery::push_framed;
use crate::delivery::subscriber::{N_LOOKS, Pace, Patience, Subscriber};
use crate::delivery::tail::Events;
use crate::delivery::wire::Framing;
use crate::log::{Count, GAP_NOTICE, News, Position};
use crate::sse::{self, Event};

/// How far behind a subscriber may be when memory has run out: what one write carries.
const RELIEF_LAG_BYTES: u64 = 64 * 1024;

impl Group {
    /// Lets go of a straggler that is too far behind.
    pub(super) fn judge_lag(&mut self, index: usize, now: Instant, followup: &mut Followup) {
        let Some(subscriber) = self.subscribers.get(index) else {
            return;
        };
        if !subscriber.needs_wire() {
            return;
        }
        let behind = self.wire.distance(subscriber.at(), now);
        if lag::is_beyond(&behind, &self.settings, !subscriber.has_caught_up()) {
            self.let_lag(index, now, followup);
        }
    }

    /// Keeps nothing of the wire for a subscriber any more: it leaves, or is cast adrift.
    pub(super) fn let_lag(&mut self, index: usize, now: Instant, followup: &mut Followup) {
        match self.settings.lag.then {
            OnLag::Disconnect => self.disconnect(index, now, followup),
            OnLag::Conflate | OnLag::Skip => {
                let Some(subscriber) = self.subscribers.get_mut(index) else {
                    return;
                };
                let was_flowing = subscriber.pace() == Pace::Flowing;
                subscriber.cast_adrift(&self.wire, self.channel.log().budget());
                if was_flowing {
                    followup.queued.push(index);
                }
            }
        }
    }

    /// Lets go of those for whom much is kept in memory that the log has given up, or would.
    pub(in crate::delivery) fn relieve(&mut self, now: Instant, followup: &mut Followup) {
        let is_far_behind = |one: &Subscriber| {
            let distance = || self.wire.distance(one.at(), now).bytes;
            let keeps = |n_bytes| n_bytes > RELIEF_LAG_BYTES;
            one.needs_wire() && (keeps(one.snapshot_bytes() as u64) || keeps(distance()))
        };
        let far_behind: Vec<usize> = (self.subscribers.iter())
            .filter(|(_, one)| is_far_behind(one))
            .map(|(index, _)| index)
            .collect();
        for index in far_behind {
            self.let_lag(index, now, followup);
        }
        self.trim();
    }

    /// Decides how a subscriber goes on that is adrift, if its socket takes bytes again.
    pub(super) fn decide(&mut self, index: usize, now: Instant, followup: &mut Followup) {
        let subscriber = self.subscribers.get_mut(index);
        let Some(debt) = subscriber.and_then(Subscriber::due_debt) else {
            return;
        };
        let policy = self.settings.lag.then;
        if policy == OnLag::Disconnect {
            // The policy is another than it was when this subscriber was cast adrift.
            self.disconnect(index, now, followup);
            return;
        }
        let Some(framing) = self.subscribers.get(index).map(Subscriber::framing) else {
            return;
        };
        let news = match policy {
            OnLag::Conflate => self.newest_after(debt.at(), now, followup),
            OnLag::Disconnect | OnLag::Skip => None,
        };
        // Whose channel does not know its events by keys skips: a view, or one that a reload has just
        // told to conflate.
        let (reason, at) = match &news {
            Some(news) => ("conflated", news.at),
            None => ("lag", self.wire.head()),
        };
        let newest = news.as_ref();
        let newest = newest.and_then(|news| Events::of_news(news, debt.at(), framing));
        let given = newest.as_ref().map_or(Count::default(), Events::left);
        let mut loss = debt.settle(self.wire.count_at(at), given);
        loss.hides_gap |= news.is_some_and(|news| !news.is_complete);
        self.note_lag(policy, &loss, now);
        let notice = self.loss_notice(&loss, reason, framing);
        if let Some(subscriber) = self.subscribers.get_mut(index) {
            subscriber.go_on(at, notice, newest);
        }
    }

    /// The newest event of each key after `at`, and the wire from where it goes on then.
    fn newest_after(
        &mut self,
        at: Position,
        now: Instant,
        followup: &mut Followup,
    ) -> Option<News> {
        let news = loop {
            let news = self.channel.log().newest_after(at, now)?;
            // As with a newcomer, so that there is no seam.
            if self.pull(now, followup) == Continuity::Kept {
                break news;
            }
        };
        self.wire.reach_back(&news.batches);
        Some(news)
    }

    /// What a subscriber is told of what it will not get.
    fn loss_notice(&self, loss: &Loss, reason: &str, framing: Framing) -> Option<Vec<u8>> {
        let mut block = Vec::new();
        let mut push = |event_type: &str, data: &str| {
            let notice = Event {
                event_type,
                data,
                id: None,
            };
            sse::encode_event(&mut block, &notice);
        };
        if self.settings.notices == Notices::None {
            return None;
        }
        if let Some(data) = loss.notice(reason) {
            push(GAP_NOTICE, &data);
        }
        if self.settings.notices == Notices::All && loss.hides_notice {
            // One of those told a state, maybe the present one.
            push(UPSTREAM_NOTICE, &self.channel.status().notice());
        }
        if block.is_empty() {
            return None;
        }
        let mut framed = Vec::new();
        push_framed(&mut framed, &block, framing);
        Some(framed)
    }

    fn disconnect(&mut self, index: usize, now: Instant, followup: &mut Followup) {
        let counter = self.channel.counters().lagged(OnLag::Disconnect);
        counter.add(1);
        self.leave(index, Departure::Lagged, now, followup);
    }

    fn note_lag(&mut self, policy: OnLag, loss: &Loss, now: Instant) {
        let counters = self.channel.counters();
        counters.lagged(policy).add(1);
        counters.lag_missed(policy).add(loss.n_events);
        let (channel, policy, n_missed) = (self.channel.name(), policy.name(), loss.n_events);
        if loss.notice("").is_none() {
            return;
        }
        if self.quiet_until.is_none_or(|until| until <= now) {
            self.quiet_until = Some(now + QUIET);
            tracing::warn!(
                channel,
                policy,
                n_missed,
                "a subscriber was too slow and did not get all events; more within a second are not logged"
            );
        } else {
            tracing::debug!(
                channel,
                policy,
                n_missed,
                "a subscriber did not get all events"
            );
        }
    }

    /// Notes that a subscriber is blocked: somebody must look whether it stays so.
    pub(super) fn note_blocked(&mut self, now: Instant, followup: &mut Followup) {
        if self.look_at.is_none()
            && let Some(interval) = self.look_interval()
        {
            self.look_at = Some(now + interval);
            followup.look_at = self.look_at;
        }
    }

    /// Looks at the blocked subscribers, and cuts those off that were blocked for `write_timeout`.
    pub(in crate::delivery) fn look(&mut self, now: Instant, followup: &mut Followup) {
        self.look_at = None;
        let mut n_blocked = 0_usize;
        let mut stalled = Vec::new();
        for (index, subscriber) in &mut self.subscribers {
            match subscriber.look() {
                Patience::Needed => n_blocked += 1,
                Patience::NotNeeded => {}
                Patience::Over => stalled.push(index),
            }
        }
        for index in stalled {
            self.remove(index, Departure::Stalled);
        }
        if n_blocked > 0 {
            self.note_blocked(now, followup);
        }
        self.trim();
    }

    pub(in crate::delivery) fn is_look_due(&self, at: Instant) -> bool {
        self.look_at == Some(at)
    }

    /// Follows another `write_timeout`, with those who are blocked now, too.
    pub(super) fn change_write_timeout(&mut self, now: Instant, followup: &mut Followup) {
        let timeout = self.settings.write_timeout;
        for (_, subscriber) in &self.subscribers {
            if let Err(error) = subscriber.set_write_timeout(timeout) {
                // Its next write fails, too.
                tracing::debug!(channel = self.channel.name(), %error, "a client has left");
            }
        }
        self.look_at = None;
        self.note_blocked(now, followup);
    }

    fn look_interval(&self) -> Option<Duration> {
        Some(self.settings.write_timeout? / u32::from(N_LOOKS))
    }
}
