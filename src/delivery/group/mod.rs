//! The subscribers of one channel on one shard.
//!
//! Those at the head are the crowd: they all want the same bytes, and a *pass* writes one shared
//! slice to each. The others are stragglers: they are written to one by one, when their socket or
//! their turn comes. Which of the two a subscriber is, is a predicate, not a list.
//!
//! Invariant: between passes, a subscriber that is [`Pace::Flowing`] is at or beyond the end of the
//! last pass; so the next pass finds everything that it lacks in [`Wire`].

mod departures;
mod stragglers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::Arrival;
use super::ages::Ages;
use super::budget::Budget;
use super::heartbeat::Heartbeat;
use super::inbox::{GroupKey, Inbox, Mark, SubscriberKey};
use super::pass::{Kind, Pass};
use super::prologue::Prologue;
use super::pulse::Lag;
use super::subscriber::{Pace, Subscriber, Wrote};
use super::tally::Tally;
use super::wire::Wire;
use crate::channel::{Channel, Departure, Replayed};
use crate::config;
use crate::log::{Feed, Position, Wish};

/// The subscribers of one channel on one shard.
pub(super) struct Group {
    channel: Channel,
    /// The channel's settings as this group follows them: a pass asks nobody.
    settings: Arc<config::Channel>,
    feed: Arc<Feed>,
    wire: Wire,
    subscribers: Slab<Subscriber>,
    /// What was delivered and is not counted yet.
    tally: Tally,
    /// The pass that is under way.
    pass: Option<Pass>,
    /// Passes that must follow it, besides one for new events.
    wanted: VecDeque<Kind>,
    /// The end of the last pass over events.
    passed: Position,
    /// The channel has ended: who has everything leaves.
    is_over: bool,
    /// When everybody leaves who has not everything by then.
    dismissal_deadline: Option<Instant>,
    /// How far this shard may be behind before it gives its subscribers up.
    max_behind: usize,
    /// Until when subscribers that lag are disconnected without a warning in the log.
    quiet_until: Option<Instant>,
    /// When the crowd was last written to.
    last_pass_at: Instant,
    /// Whether the shard has this group in its queue.
    pub(super) is_queued: bool,
    /// How long everybody has been there; `None`: nobody minds.
    ages: Option<Box<Ages>>,
    /// When the shard looks at `ages`.
    pub(super) noted_age: Option<Instant>,
    heartbeat: Option<Heartbeat>,
    /// When to look next at those whose sockets take nothing; `None`: there are none.
    look_at: Option<Instant>,
    /// When the shard asks for the next heartbeat. What it has noted for another time was for a
    /// group that had this one's place.
    heartbeat_at: Option<Instant>,
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Done,
    More,
}

/// Whether what was taken from the feed follows what was taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continuity {
    Broken,
    Kept,
}

/// The subscribers that a write made wait for a turn, and those that leave.
#[derive(Debug, Default)]
pub(super) struct Followup {
    pub(super) queued: Vec<usize>,
    /// And when they are gone at the latest.
    pub(super) leaving: Vec<(usize, Instant)>,
    /// When to look at the blocked ones, if somebody must.
    pub(super) look_at: Option<Instant>,
}

/// Time between two warnings about subscribers that lag: when an origin floods, thousands do.
const QUIET: Duration = Duration::from_secs(1);

/// However little a channel keeps, a burst must not end streams before the shard had a turn.
const LEAST_MAX_BEHIND_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that one pass carries, so that a pass over many stays short and the next one carries what
/// came meanwhile.
const PASS_BYTES: u64 = 64 * 1024;

impl Group {
    pub(super) fn new(channel: Channel, inbox: &Arc<Inbox>, key: GroupKey, now: Instant) -> Self {
        let settings = channel.settings();
        let max_behind = max_behind(&settings);
        let mark = Mark {
            inbox: Arc::clone(inbox),
            group: key,
        };
        let (feed, head) = channel.log().attach(Box::new(mark), max_behind);
        let heartbeat = Heartbeat::new(&settings.heartbeat);
        let ages = settings.max_age.map(|max| Box::new(Ages::new(max, now)));
        Self {
            ages,
            noted_age: None,
            channel,
            settings,
            feed,
            wire: Wire::new(head),
            subscribers: Slab::new(),
            tally: Tally::default(),
            pass: None,
            wanted: VecDeque::new(),
            passed: head,
            is_over: false,
            dismissal_deadline: None,
            max_behind,
            quiet_until: None,
            last_pass_at: now,
            is_queued: false,
            heartbeat,
            heartbeat_at: None,
            look_at: None,
        }
    }

    /// Follows the channel's settings as they are now. The subscribers stay; what they were sent, and
    /// how far they are, does not change. Returns when to ask for a heartbeat, if that is another time
    /// than before.
    pub(super) fn reconfigure(&mut self, now: Instant, followup: &mut Followup) -> Option<Instant> {
        let settings = self.channel.settings();
        let before = std::mem::replace(&mut self.settings, settings);
        self.max_behind = max_behind(&self.settings);
        self.feed.set_max_pending_bytes(self.max_behind);
        if self.settings.write_timeout != before.write_timeout {
            self.change_write_timeout(now, followup);
        }
        self.follow_max_age(now);
        if self.settings.heartbeat == before.heartbeat {
            return None;
        }
        self.heartbeat = Heartbeat::new(&self.settings.heartbeat);
        self.heartbeat_at = None;
        if self.heartbeat.as_ref().is_some_and(Heartbeat::is_seen) {
            // So that no page waits for heartbeats as they were.
            self.want(Kind::Heartbeat);
        }
        self.heartbeat(now)
    }

    /// Takes what the log has for this shard.
    pub(super) fn pull(&mut self, now: Instant, followup: &mut Followup) -> Continuity {
        let taken = self.wire.pull(&self.feed);
        let is_behind = self.wire.distance(self.passed, now).bytes > self.max_behind as u64;
        let is_broken = taken.is_overrun || is_behind;
        if is_broken {
            // This shard is too slow for this channel: what follows can't be delivered in order.
            let everyone: Vec<usize> = self.places().collect();
            for index in everyone {
                self.let_lag(index, now, followup);
            }
            self.wire.clear();
            self.passed = self.wire.head();
            self.pass = None;
        }
        self.note_end(taken.ended.is_some());
        if is_broken {
            Continuity::Broken
        } else {
            Continuity::Kept
        }
    }

    /// Lets subscribers leave when the channel is over; when it goes on after all, those who are still
    /// there stay.
    fn note_end(&mut self, is_over: bool) {
        const FAREWELL: Kind = Kind::Farewell(Departure::Over);
        match (std::mem::replace(&mut self.is_over, is_over), is_over) {
            (false, true) => self.want(FAREWELL),
            (true, false) => {
                self.wanted.retain(|kind| *kind != FAREWELL);
                let is_under_way = |pass: &Pass| pass.kind() == FAREWELL;
                self.pass = self.pass.take().filter(|pass| !is_under_way(pass));
            }
            (false, false) | (true, true) => {}
        }
    }

    /// Seats a new subscriber and writes what it gets first.
    pub(super) fn admit(
        &mut self,
        arrival: Arrival,
        (inbox, key): (&Arc<Inbox>, GroupKey),
        now: Instant,
        followup: &mut Followup,
    ) {
        let settings = Arc::clone(&self.settings);
        let transport = match arrival.socket.receive() {
            Ok(transport) => transport,
            Err(error) => {
                tracing::warn!(channel = settings.name, %error, "a socket could not be moved");
                return;
            }
        };
        if let Err(error) = transport.prepare(settings.write_timeout) {
            tracing::debug!(channel = settings.name, %error, "a client left before its first event");
            return;
        }
        let start = loop {
            let log = self.channel.log();
            let wish = Wish::of(&settings, arrival.last_event_id.as_deref());
            let start = log.start(wish, now);
            // After `start`, so that there is no seam between what it found and what the feed
            // brings. If the feed's events were dropped just now, there is one.
            if self.pull(now, followup) == Continuity::Kept {
                break start;
            }
        };
        let counters = self.channel.counters();
        counters.arrivals.add(1);
        let replayed = Replayed::from((start.replay, start.follows));
        counters.replays(replayed).add(1);
        if start.replay.reset_reason().is_some() {
            counters.resets.add(1);
        }
        self.wire.reach_back(&start.batches);
        if start.is_partial() {
            counters.gaps.add(1);
        }
        let status = self.channel.status();
        let told = (&start, &status, self.heartbeat.as_ref());
        let prologue = Prologue::new(arrival.head, &settings, told, arrival.framing);
        let entry = self.subscribers.vacant_entry();
        let index = entry.key();
        let bell = inbox.bell(SubscriberKey { group: key, index });
        let mut subscriber = Subscriber::new(transport, bell, arrival.framing, arrival.places);
        subscriber.begin(start.at, prologue, self.channel.log().budget());
        entry.insert(subscriber);
        if let Some(ages) = &mut self.ages {
            ages.add(index, now);
        }
        self.drive(index, now, followup);
    }

    /// Lets one subscriber have its own turn: looks whether it is there, and writes what it lacks.
    pub(super) fn drive(&mut self, index: usize, now: Instant, followup: &mut Followup) {
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        if let Err(departure) = subscriber.check_presence() {
            self.remove(index, departure);
            return;
        }
        if subscriber.pace() == Pace::Flowing {
            return;
        }
        self.judge_lag(index, now, followup);
        self.decide(index, now, followup);
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        match subscriber.write_own(&self.wire, &mut self.tally) {
            Wrote::All if self.is_over => self.leave(index, Departure::Over, now, followup),
            Wrote::All => {}
            Wrote::Gone(departure) => self.remove(index, departure),
            Wrote::Some => match subscriber.pace() {
                Pace::Blocked => self.note_blocked(now, followup),
                Pace::Flowing => {}
                Pace::Queued => followup.queued.push(index),
            },
        }
    }

    /// Goes on with the pass, or begins the next one.
    pub(super) fn turn(&mut self, budget: &mut Budget, followup: &mut Followup) -> Turn {
        while !budget.is_spent() {
            let Some(mut pass) = self.pass.take().or_else(|| self.next_pass(budget.now())) else {
                return Turn::Done;
            };
            let turn = self.advance(&mut pass, budget, followup);
            if turn == Turn::More {
                self.pass = Some(pass);
                return Turn::More;
            }
            self.finish(&pass);
        }
        if self.pass.is_some() || self.has_work() {
            Turn::More
        } else {
            Turn::Done
        }
    }

    /// Wants a heartbeat if the crowd has been idle for the interval; returns when to ask again.
    pub(super) fn heartbeat(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.heartbeat.as_ref()?.interval;
        let due = self.last_pass_at + interval;
        if due <= now && self.pass.is_none() && !self.has_work() {
            self.wanted.push_back(Kind::Heartbeat);
        }
        let next = if due > now { due } else { now + interval };
        self.heartbeat_at = Some(next);
        self.heartbeat_at
    }

    pub(super) fn is_heartbeat_due(&self, at: Instant) -> bool {
        self.heartbeat_at == Some(at)
    }

    /// How far its subscribers are behind.
    pub(super) fn survey(&self) -> (usize, Lag) {
        let head = self.wire.head();
        let lags = self
            .subscribers
            .iter()
            .map(|(_, one)| head.saturating_sub(one.at()))
            .filter(|lag| *lag > 0);
        let mut lag = Lag::default();
        for one in lags {
            lag.n_behind += 1;
            lag.max_bytes = lag.max_bytes.max(one);
        }
        (self.channel.identity(), lag)
    }

    /// The places that are taken.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.subscribers.iter().map(|(index, _)| index)
    }

    /// Adds what was delivered to the channel's counters.
    pub(super) fn count(&mut self, now: Instant) {
        self.tally.flush(self.channel.counters(), now);
    }

    /// Closes the feed: no more events come from it.
    pub(super) fn close(&self) {
        self.channel.log().detach(&self.feed);
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        self.pass.is_some() || !self.wanted.is_empty() || self.wire.head() > self.passed
    }

    fn want(&mut self, kind: Kind) {
        if !self.wanted.contains(&kind) {
            self.wanted.push_back(kind);
        }
    }

    /// Events go before what was wanted: a goodbye says that there is nothing more. One that was put
    /// off for too long says only that the client should come back.
    fn next_pass(&mut self, now: Instant) -> Option<Pass> {
        let places = self.subscribers.capacity();
        let is_late = self
            .dismissal_deadline
            .is_some_and(|deadline| deadline <= now);
        let has_time = !is_late || self.wanted.is_empty();
        if self.wire.head() > self.passed && has_time {
            return Some(Pass::over_events(
                &self.wire,
                self.passed,
                PASS_BYTES,
                places,
            ));
        }
        self.wanted
            .pop_front()
            .map(|kind| Pass::of(kind, self.passed, places))
    }

    /// Visits subscribers until the pass is over or the budget is spent.
    fn advance(&mut self, pass: &mut Pass, budget: &mut Budget, followup: &mut Followup) -> Turn {
        let turn = self.visit_places(pass, budget, followup);
        pass.count(&mut self.tally);
        turn
    }

    fn visit_places(
        &mut self,
        pass: &mut Pass,
        budget: &mut Budget,
        followup: &mut Followup,
    ) -> Turn {
        while !budget.is_spent() {
            let Some(index) = pass.next_place() else {
                return Turn::Done;
            };
            match self.visit(index, pass, budget.now(), followup) {
                None => budget.spend_visit(),
                Some(Wrote::Gone(departure)) => {
                    self.remove(index, departure);
                    budget.spend_write();
                }
                Some(Wrote::All | Wrote::Some) => budget.spend_write(),
            }
        }
        Turn::More
    }

    /// Gives one subscriber what the pass is for. `None`: it got nothing.
    fn visit(
        &mut self,
        index: usize,
        pass: &mut Pass,
        now: Instant,
        followup: &mut Followup,
    ) -> Option<Wrote> {
        let subscriber = self.subscribers.get_mut(index)?;
        let is_flowing = subscriber.pace() == Pace::Flowing;
        let wrote = match pass.kind() {
            // Who still lacks events gets them first, and leaves when it has all.
            Kind::Farewell(Departure::Over) if !is_flowing => return None,
            Kind::Farewell(departure) => {
                self.leave(index, departure, now, followup);
                return None;
            }
            Kind::Events | Kind::Heartbeat if !is_flowing => {
                self.judge_lag(index, now, followup);
                return None;
            }
            Kind::Heartbeat if subscriber.at() != pass.to() => return None,
            Kind::Heartbeat => {
                let heartbeat = self.heartbeat.as_ref()?;
                let bytes = heartbeat.bytes(subscriber.framing());
                subscriber.write_heartbeat(bytes, &mut self.tally)
            }
            Kind::Events if subscriber.at() >= pass.to() => return None,
            Kind::Events if subscriber.at() == pass.from() => {
                let (wire, tally) = (&self.wire, &mut self.tally);
                let (bytes, to) = pass.bytes(subscriber.framing(), wire);
                let n_bytes = bytes.len();
                let wrote = subscriber.write_shared((bytes, to), wire, tally);
                if wrote == Wrote::All {
                    pass.note_taken(n_bytes);
                }
                wrote
            }
            Kind::Events => subscriber.write_own(&self.wire, &mut self.tally),
        };
        match (wrote, subscriber.pace()) {
            (Wrote::Some, Pace::Blocked) => self.note_blocked(now, followup),
            (Wrote::Some, Pace::Queued) => followup.queued.push(index),
            _ => {}
        }
        Some(wrote)
    }

    fn finish(&mut self, pass: &Pass) {
        self.last_pass_at = Instant::now();
        if pass.kind() == Kind::Events {
            self.passed = pass.to();
        }
        self.trim();
    }

    /// Forgets what every subscriber has.
    fn trim(&mut self) {
        let behind = self
            .subscribers
            .iter()
            .map(|(_, one)| one)
            .filter(|one| one.needs_wire());
        let floor = behind.map(Subscriber::at).min().unwrap_or(self.passed);
        self.wire.trim(floor.min(self.passed));
    }
}

/// How far a shard may be behind with a channel before it gives its subscribers up.
fn max_behind(settings: &config::Channel) -> usize {
    let kept = settings
        .history
        .bytes
        .saturating_add(settings.lag.limit_bytes);
    // Two of the largest events may be on their way, whatever is kept.
    let largest = settings.upstream.max_event_bytes.saturating_mul(2);
    kept.max(LEAST_MAX_BEHIND_BYTES).saturating_add(largest)
}
