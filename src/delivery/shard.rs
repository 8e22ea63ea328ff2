//! A shard: one thread's share of the subscribers, and the loop that serves them.
//!
//! One task owns all of it, so nothing here is locked or shared. It waits for mail, and works in
//! turns: a turn does a bounded number of writes and then yields to the thread's other tasks
//! (handshakes, requests, upstreams) and to its reactor.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use slab::Slab;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Arrival;
use super::budget::{Budget, Share};
use super::goodbyes::{Goodbyes, Parting, refuse};
use super::group::{Followup, Group, Turn};
use super::inbox::{GroupKey, GroupsByChannel, Inbox, Mail, SubscriberKey};
use super::pulse::{Question, Survey};
use crate::channel::{Channel, Departure};

/// A thread's share of the subscribers.
pub(super) struct Shard {
    inbox: Arc<Inbox>,
    groups: Slab<Group>,
    by_channel: GroupsByChannel,
    /// Groups with a pass to begin or to go on with; they take turns.
    passes: VecDeque<GroupKey>,
    /// Subscribers with a turn of their own.
    queue: VecDeque<SubscriberKey>,
    /// When to look at a group's heartbeat.
    heartbeats: BinaryHeap<Reverse<(Instant, GroupKey)>>,
    /// When to look at a group's subscribers that take nothing.
    looks: BinaryHeap<Reverse<(Instant, GroupKey)>>,
    /// When to look at how old a group's subscribers are: one entry for each group that has any whose
    /// time is limited.
    ages: BTreeSet<(Instant, GroupKey)>,
    /// When to look whether those who leave are gone.
    leaving: BinaryHeap<Reverse<(Instant, SubscriberKey)>>,
    /// Channels whose subscribers leave one after another.
    partings: Vec<Goodbyes>,
    followup: Followup,
    /// Groups that have delivered something in this turn.
    touched: Vec<GroupKey>,
    /// How much of the thread's time the next turn may have.
    share: Share,
    is_stopping: bool,
}

/// Subscribers that have a turn of their own before the next group has one: a quarter of a turn.
const TURN_STRAGGLERS: usize = 32;

/// Goodbyes in a turn.
const TURN_GOODBYES: usize = 128;

/// How long a leaving subscriber may take for the rest of its event.
pub(super) const GOODBYE_GRACE: Duration = Duration::from_secs(1);

impl Shard {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            groups: Slab::new(),
            by_channel: GroupsByChannel::new(),
            passes: VecDeque::new(),
            queue: VecDeque::new(),
            heartbeats: BinaryHeap::new(),
            looks: BinaryHeap::new(),
            ages: BTreeSet::new(),
            leaving: BinaryHeap::new(),
            partings: Vec::new(),
            followup: Followup::default(),
            touched: Vec::new(),
            share: Share::default(),
            is_stopping: false,
        }
    }

    /// Serves subscribers until it is told to stop and the last one is gone.
    pub(super) async fn run(mut self) {
        let mut mail = Mail::default();
        let mut timer = Box::pin(sleep_until(Instant::now()));
        while !(self.is_stopping && self.groups.is_empty()) {
            if self.has_work() {
                // Takes what there is; a shard with work does not wait.
                poll_fn(|cx| Poll::Ready(self.inbox.poll_take(cx, &mut mail).is_ready())).await;
            } else {
                self.wait(&mut mail, &mut timer).await;
            }
            self.step(&mut mail, Instant::now());
            if self.has_work() {
                self.share.pause(Instant::now());
                // Until the thread has looked at its sockets, and then at the end of the queue.
                yield_now().await;
            }
        }
    }

    /// Reads the mail, looks at what is due, and works for a turn.
    pub(super) fn step(&mut self, mail: &mut Mail, now: Instant) {
        self.read(mail, now);
        self.look_at_timers(now);
        self.take_turn(now);
        self.count();
    }

    /// Waits for mail or the next deadline.
    ///
    /// The timer is kept from one wait to the next and only ever set to an earlier time, because
    /// setting it wakes the reactor. When it fires too early, the shard just looks.
    async fn wait(&self, mail: &mut Mail, timer: &mut Pin<Box<Sleep>>) {
        let next_heartbeat = self.heartbeats.peek().map(|Reverse((at, _))| *at);
        let next_look = self.looks.peek().map(|Reverse((at, _))| *at);
        let next_deadline = self.leaving.peek().map(|Reverse((at, _))| *at);
        let next_goodbye = self.partings.iter().filter_map(Goodbyes::next_at).min();
        let next_aged = self.ages.first().map(|(at, _)| *at);
        let next = [
            next_heartbeat,
            next_look,
            next_deadline,
            next_goodbye,
            next_aged,
        ];
        let next = next.into_iter().flatten().min();
        if let Some(at) = next
            && (at < timer.deadline() || timer.is_elapsed())
        {
            timer.as_mut().reset(at);
        }
        poll_fn(|cx| {
            let is_due = next.is_some() && timer.as_mut().poll(cx).is_ready();
            if is_due || self.inbox.poll_take(cx, mail).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    fn read(&mut self, mail: &mut Mail, now: Instant) {
        for key in mail.dirty.drain(..) {
            let Some(group) = self.groups.get_mut(key) else {
                continue;
            };
            group.pull(now, &mut self.followup);
            self.follow_up(key);
        }
        for key in mail.ready.drain(..) {
            self.queue.push_back(key);
        }
        for arrival in mail.arrivals.drain(..) {
            self.admit(arrival, now);
        }
        self.reconfigure(&mut mail.reconfigured, now);
        for parting in mail.partings.drain(..) {
            self.begin_parting(parting, now);
        }
        for question in mail.questions.drain(..) {
            self.answer(question);
        }
        if mail.wants_relief {
            self.relieve(now);
        }
        if mail.is_stopping && !std::mem::replace(&mut self.is_stopping, true) {
            let keys: Vec<GroupKey> = self.groups.iter().map(|(key, _)| key).collect();
            for key in keys {
                let Some(group) = self.groups.get_mut(key) else {
                    continue;
                };
                group.dismiss(Departure::Stopped, now, &mut self.followup);
                self.follow_up(key);
            }
        }
    }

    /// Lets the groups of these channels follow their new settings.
    fn reconfigure(&mut self, channels: &mut Vec<Channel>, now: Instant) {
        if channels.is_empty() {
            return;
        }
        for channel in channels.drain(..) {
            let key = self.by_channel.get(&channel.identity()).copied();
            let Some((key, group)) = key.and_then(|key| Some((key, self.groups.get_mut(key)?)))
            else {
                continue;
            };
            if let Some(at) = group.reconfigure(now, &mut self.followup) {
                self.heartbeats.push(Reverse((at, key)));
            }
            self.follow_up(key);
        }
        // Of changes, too, only one timer per group is left.
        let groups = &self.groups;
        self.heartbeats.retain(|Reverse((at, key))| {
            let group = groups.get(*key);
            group.is_some_and(|group| group.is_heartbeat_due(*at))
        });
        self.looks.retain(|Reverse((at, key))| {
            let group = groups.get(*key);
            group.is_some_and(|group| group.is_look_due(*at))
        });
    }

    /// Tells what is asked. Who has gone meanwhile needs no answer.
    fn answer(&self, question: Question) {
        match question {
            Question::Beat(answer) => answer.send(()).unwrap_or_default(),
            Question::Survey(answer) => {
                let groups = self.groups.iter().map(|(_, group)| group.survey());
                let survey: Survey = groups.collect();
                answer.send(survey).unwrap_or_default();
            }
        }
    }

    fn relieve(&mut self, now: Instant) {
        let keys: Vec<GroupKey> = self.groups.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(group) = self.groups.get_mut(key) {
                group.relieve(now, &mut self.followup);
            }
            self.follow_up(key);
        }
    }

    fn admit(&mut self, arrival: Arrival, now: Instant) {
        if self.is_stopping {
            return;
        }
        if let Some(deadline) = arrival.channel.closing() {
            refuse(arrival, deadline);
            return;
        }
        let identity = arrival.channel.identity();
        let key = self.by_channel.get(&identity).copied().unwrap_or_else(|| {
            let entry = self.groups.vacant_entry();
            let key = entry.key();
            let group = entry.insert(Group::new(arrival.channel.clone(), &self.inbox, key, now));
            if let Some(at) = group.heartbeat(now) {
                self.heartbeats.push(Reverse((at, key)));
            }
            self.by_channel.insert(identity, key);
            key
        });
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        group.admit(arrival, (&self.inbox, key), now, &mut self.followup);
        self.follow_up(key);
    }

    fn look_at_timers(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.heartbeats.peek().copied()
            && at <= now
        {
            self.heartbeats.pop();
            let group = self.groups.get_mut(key);
            let Some(group) = group.filter(|group| group.is_heartbeat_due(at)) else {
                continue;
            };
            if let Some(at) = group.heartbeat(now) {
                self.heartbeats.push(Reverse((at, key)));
            }
            self.follow_up(key);
        }
        while let Some(Reverse((at, key))) = self.looks.peek().copied()
            && at <= now
        {
            self.looks.pop();
            let group = self.groups.get_mut(key);
            if let Some(group) = group.filter(|group| group.is_look_due(at)) {
                group.look(now, &mut self.followup);
                self.follow_up(key);
            }
        }
        self.say_goodbyes(now);
        self.let_the_old_go(now);
        while let Some(Reverse((at, key))) = self.leaving.peek().copied()
            && at <= now
        {
            self.leaving.pop();
            let Some(group) = self.groups.get_mut(key.group) else {
                continue;
            };
            group.cut(key.index, now);
            self.follow_up(key.group);
        }
    }

    fn begin_parting(&mut self, parting: Parting, now: Instant) {
        let mut keys = Vec::new();
        for channel in &parting.channels {
            let Some(group) = self.by_channel.get(channel).copied() else {
                continue;
            };
            let places = self.groups.get(group).map(Group::places);
            keys.extend(
                places
                    .into_iter()
                    .flatten()
                    .map(|index| SubscriberKey { group, index }),
            );
        }
        self.partings.push(Goodbyes::new(parting, keys, now));
        self.end_partings();
    }

    /// Makes those leave whose slot has come; as many as a turn allows, if many have.
    fn say_goodbyes(&mut self, now: Instant) {
        for number in 0..self.partings.len() {
            for _ in 0..TURN_GOODBYES {
                let Some(goodbyes) = self.partings.get_mut(number) else {
                    return;
                };
                let Some(key) = goodbyes.next_due(now) else {
                    break;
                };
                let how = goodbyes.how(now);
                let group = self.groups.get_mut(key.group);
                // Another channel may have the place of one whose last subscriber has left.
                if let Some(group) = group.filter(|group| goodbyes.is_about(group.channel())) {
                    group.part(key.index, how, &mut self.followup);
                    self.follow_up(key.group);
                }
            }
        }
    }

    /// Makes those leave who have been there for long enough; as many as a turn allows, if many have.
    fn let_the_old_go(&mut self, now: Instant) {
        for _ in 0..TURN_GOODBYES {
            let Some((at, key)) = self.ages.first().copied() else {
                return;
            };
            if at > now {
                return;
            }
            if let Some(group) = self.groups.get_mut(key) {
                group.let_the_oldest_go(now, &mut self.followup);
            }
            self.follow_up(key);
        }
    }

    /// Notes when to look at a group's ages, if that is another time than before.
    fn note_age(&mut self, key: GroupKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        let next = group.next_age();
        if group.noted_age != next {
            let before = std::mem::replace(&mut group.noted_age, next);
            if let Some(at) = before {
                self.ages.remove(&(at, key));
            }
            if let Some(at) = next {
                self.ages.insert((at, key));
            }
        }
    }

    /// Forgets the partings after which nobody is left.
    fn end_partings(&mut self) {
        let is_there = |channel: &usize| self.by_channel.contains_key(channel);
        self.partings
            .retain(|goodbyes| goodbyes.parting.channels.iter().any(is_there));
    }

    /// Works until the turn's budget is spent or nothing is left: some of the queue and one group,
    /// alternately.
    fn take_turn(&mut self, now: Instant) {
        let mut budget = Budget::new(now, self.share.begin(now));
        while !budget.is_spent() && self.has_work() {
            // As many as were there: those that come again wait for the next round.
            for _ in 0..self.queue.len().min(TURN_STRAGGLERS) {
                let Some(key) = self.queue.pop_front() else {
                    break;
                };
                let Some(group) = self.groups.get_mut(key.group) else {
                    continue;
                };
                group.drive(key.index, now, &mut self.followup);
                budget.spend_write();
                self.follow_up(key.group);
            }
            let Some(key) = self.passes.pop_front() else {
                continue;
            };
            let Some(group) = self.groups.get_mut(key) else {
                continue;
            };
            group.is_queued = false;
            if group.turn(&mut budget, &mut self.followup) == Turn::More {
                group.is_queued = true;
                self.passes.push_back(key);
            }
            self.follow_up(key);
        }
    }

    /// Counts what the turn has delivered.
    fn count(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let now = Instant::now();
        for key in self.touched.drain(..) {
            if let Some(group) = self.groups.get_mut(key) {
                group.count(now);
            }
        }
    }

    /// Notes what a group's work left to do.
    fn follow_up(&mut self, key: GroupKey) {
        if self.touched.last() != Some(&key) {
            self.touched.push(key);
        }
        for index in self.followup.queued.drain(..) {
            self.queue.push_back(SubscriberKey { group: key, index });
        }
        for (index, deadline) in self.followup.leaving.drain(..) {
            let key = SubscriberKey { group: key, index };
            self.leaving.push(Reverse((deadline, key)));
        }
        if let Some(at) = self.followup.look_at.take() {
            self.looks.push(Reverse((at, key)));
        }
        self.note_age(key);
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        if group.is_empty() {
            group.count(Instant::now());
            group.close();
            self.by_channel.remove(&group.channel().identity());
            self.groups.remove(key);
            self.end_partings();
        } else if group.has_work() && !group.is_queued {
            group.is_queued = true;
            self.passes.push_back(key);
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.passes.is_empty() || !self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};
    use crate::delivery::{Framing, Handover};
    use crate::log::Writer;
    use crate::log::testing::event;
    use crate::net::permit::{Permits, Standing};
    use crate::net::socket::Socket;
    use tokio::net::UnixStream;

    fn channel() -> Channel {
        channel_with_writer().0
    }

    fn channel_with_writer() -> (Channel, Writer) {
        let text = "[listen.public]\naddress = \"127.0.0.1:0\"\n\
                    [channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n";
        let config = Config::parse("test.toml", text).expect("a configuration");
        Channel::with_writer(Arc::clone(&config.config.channels[0]))
    }

    fn arrival(channel: &Channel) -> (Arrival, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let permit = Permits::new(1).acquire().expect("a permit");
        let arrival = Arrival {
            channel: channel.clone(),
            socket: Handover::SameShard(Socket::Unix(ours)),
            framing: Framing::Chunked,
            last_event_id: None,
            head: Vec::new(),
            places: (
                channel.join().expect("a seat"),
                Standing::Connection(permit),
            ),
        };
        (arrival, theirs)
    }

    /// Each first subscriber of a channel makes a group, and each group a heartbeat.
    #[tokio::test]
    async fn clients_that_come_and_go_leave_no_heartbeats_behind() {
        let channel = channel();
        let mut shard = Shard::new(Arc::default());
        let now = Instant::now();
        for _ in 0..100 {
            let (arrival, client) = arrival(&channel);
            shard.admit(arrival, now);
            let Some((key, group)) = shard.groups.iter_mut().next() else {
                panic!("a subscriber has a group");
            };
            group.dismiss(Departure::Stopped, now, &mut Followup::default());
            shard.follow_up(key);
            while !shard.groups.is_empty() {
                shard.take_turn(now);
            }
            drop(client);
        }
        let (arrival, _client) = arrival(&channel);
        shard.admit(arrival, now + Duration::from_millis(1));
        shard.look_at_timers(now + Duration::from_secs(60));
        assert_eq!(shard.groups.len(), 1);
        assert_eq!(shard.heartbeats.len(), 1, "one timer per crowd");
    }

    /// Requests that pass through, and handshakes, have turns of their own, and there may be many.
    #[tokio::test]
    async fn subscribers_get_more_done_in_a_turn_when_others_had_the_thread_for_long() {
        const N_CLIENTS: u32 = 300;
        let (channel, mut writer) = channel_with_writer();
        let mut shard = Shard::new(Arc::default());
        let mut clients = Vec::new();
        for _ in 0..N_CLIENTS {
            let (arrival, client) = arrival(&channel);
            shard.admit(arrival, Instant::now());
            clients.push(client);
        }
        let mut n_turns = [0; 2];
        // No turn comes to its end by the clock.
        let mut now = Instant::now() + Duration::from_secs(3600);
        for (others, n_turns) in [0, 4].map(Duration::from_millis).iter().zip(&mut n_turns) {
            while shard.has_work() {
                shard.take_turn(now);
            }
            writer.push(&event(None, "an event"));
            writer.commit(Instant::now());
            for (key, group) in &mut shard.groups {
                group.pull(Instant::now(), &mut shard.followup);
                shard.passes.push_back(key);
            }
            while shard.has_work() {
                *n_turns += 1;
                shard.take_turn(now);
                shard.share.pause(now);
                now += *others;
            }
        }
        // 300 writes: 128 in a turn, and 1024 after four milliseconds.
        assert_eq!(n_turns, [3, 2]);
    }

    #[tokio::test]
    async fn changed_heartbeats_leave_no_timers_behind() {
        let channel = channel();
        let mut shard = Shard::new(Arc::default());
        let now = Instant::now();
        let (arrival, _client) = arrival(&channel);
        shard.admit(arrival, now);
        for seconds in [1, 3600, 2, 3, 3, 60] {
            let mut settings = config::Channel::clone(&channel.settings());
            settings.heartbeat.interval = Some(Duration::from_secs(seconds));
            channel.reconfigure(Arc::new(settings), now);
            shard.reconfigure(&mut vec![channel.clone()], now);
            let at = shard.heartbeats.peek().map(|Reverse((at, _))| *at - now);
            assert_eq!(at, Some(Duration::from_secs(seconds)));
            assert_eq!(shard.heartbeats.len(), 1, "one timer per crowd");
        }
        let mut settings = config::Channel::clone(&channel.settings());
        settings.heartbeat.interval = None;
        channel.reconfigure(Arc::new(settings), now);
        shard.reconfigure(&mut vec![channel], now);
        assert!(shard.heartbeats.is_empty());
    }
}
