//! A template: a channel that has an instance for each key that clients ask for.
//!
//! An instance is made by the first who asks for its key, and it is one task: its upstream, and the
//! wait until nobody is left. What its origin refuses is passed on and remembered for a moment, so that
//! who guesses costs one request each and no upstream that tries again and again.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::alarm::Alarm;
use super::refusals::{REFUSED_FOR, Refused, Remembered};
use super::{
    Channel, Counters, Dialer, Heirlooms, Instance, Instances, Kind, RefusedBy, Seat, Upstream,
    Views,
};
use crate::config::diff::UpstreamChange;
use crate::config::{self, Ids, Key};
use crate::log::{MAX_ID_BYTES, may_be_of_a_gateway};
use crate::memory::{Budget, Held, WhatFor};
use crate::net::descriptors::Descriptor;

/// A handle to a template.
#[derive(Debug, Clone)]
pub struct Template {
    shared: Arc<Shared>,
}

struct Shared {
    kind: Kind,
    instances: Instances<Arc<Key>>,
    /// What origins refused lately. Locked within the lock of `instances`, never the other way round.
    refusals: Mutex<Remembered<Refused>>,
    /// Until when origins are left alone that failed, of instances that are gone. Locked likewise.
    resting: Mutex<Remembered<Instant>>,
    /// What instances of an earlier process left to those with the same key.
    heirlooms: Mutex<Option<Kept>>,
    /// What the logs count to.
    budget: Budget,
    launch: Arc<dyn Launch>,
}

/// Heirlooms, and until when they are kept.
struct Kept {
    heirlooms: Box<dyn Heirlooms>,
    until: Instant,
}

/// What a table of the configuration has come to.
#[derive(Debug, Clone)]
pub enum Source {
    /// A channel that runs, whoever asks.
    Channel(Channel),
    /// A channel on demand.
    Template(Template),
}

/// Who gives instances a thread to live on.
pub trait Launch: Send + Sync {
    /// Where the next instance shall live.
    ///
    /// # Errors
    ///
    /// What there is not enough of.
    fn berth(&self) -> Result<Berth, RefusedBy>;

    /// Told when an instance broke, without which the process can't go on.
    fn note_broken(&self, home: usize);
}

/// A place for an instance to live.
#[derive(Debug)]
pub struct Berth {
    /// The number of the shard.
    pub home: usize,
    /// The shard's thread.
    pub runtime: Handle,
    /// How origins are reached from there.
    pub dialer: Dialer,
    /// The descriptor of its upstream's connection.
    pub descriptor: Descriptor,
}

/// How long clients may take to come back after a restart: they were told when (`retry`), and go on
/// trying.
const RETURN: Duration = Duration::from_secs(60);

/// Why somebody gets no seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSeat {
    /// By a limit.
    Limit(RefusedBy),
    /// The origin has refused this key a moment ago.
    Origin(Refused),
}

impl From<RefusedBy> for NoSeat {
    fn from(by: RefusedBy) -> Self {
        Self::Limit(by)
    }
}

impl Source {
    /// What all its channels have in common.
    pub fn kind(&self) -> &Kind {
        match self {
            Self::Channel(channel) => channel.kind(),
            Self::Template(template) => template.kind(),
        }
    }

    /// The channels that there are right now.
    pub fn channels(&self) -> Vec<Channel> {
        match self {
            Self::Channel(channel) => vec![channel.clone()],
            Self::Template(template) => template.channels(),
        }
    }

    /// The same, and their views.
    pub fn all(&self) -> Vec<Channel> {
        let mut all = self.channels();
        all.extend(self.kind().views().map(Views::channels).unwrap_or_default());
        all
    }

    /// The channel that runs, whoever asks.
    pub fn eager(&self) -> Option<&Channel> {
        match self {
            Self::Channel(channel) => Some(channel),
            Self::Template(_) => None,
        }
    }

    /// The template, if it is one.
    pub fn template(&self) -> Option<&Template> {
        match self {
            Self::Channel(_) => None,
            Self::Template(template) => Some(template),
        }
    }

    /// Takes no more subscribers; those who are there leave until `deadline`.
    pub fn close(&self, deadline: Instant) {
        match self {
            Self::Channel(channel) => channel.close(deadline),
            Self::Template(template) => template.close(deadline),
        }
        if let Some(views) = self.kind().views() {
            views.close(deadline);
        }
    }
}

impl Template {
    /// A template without instances, which will live where `launch` lets them.
    pub fn new(settings: Arc<config::Channel>, budget: &Budget, launch: Arc<dyn Launch>) -> Self {
        Self {
            shared: Arc::new(Shared {
                kind: Kind::new(settings),
                instances: Instances::default(),
                refusals: Mutex::default(),
                resting: Mutex::default(),
                heirlooms: Mutex::default(),
                budget: budget.clone(),
                launch,
            }),
        }
    }

    /// Gives instances that will be made what those of an earlier process left, as long as those would
    /// have lingered, and a moment at least, in which clients find the way back.
    pub fn set_heirlooms(&self, heirlooms: Box<dyn Heirlooms>, now: Instant) {
        let linger = self.shared.kind.settings().linger.max(RETURN);
        let until = now + linger;
        *self.shared.lock_heirlooms() = Some(Kept { heirlooms, until });
    }

    /// Forgets what nobody has come back for.
    pub fn forget_heirlooms(&self, now: Instant) {
        let mut kept = self.shared.lock_heirlooms();
        if kept.as_ref().is_some_and(|kept| kept.until <= now) {
            *kept = None;
        }
    }

    /// Takes a seat in the instance of a key, which is made if it is not there; its origin is asked for
    /// what follows `seed` then, if that may be an id of the origin's.
    ///
    /// # Errors
    ///
    /// Who does not get a seat has made no instance.
    pub fn enter(&self, key: Key, seed: Option<&str>) -> Result<(Instance, Seat), NoSeat> {
        let shared = &self.shared;
        let key = Arc::new(key);
        let max = shared.kind.settings().max_instances;
        shared.instances.enter(&key, max, || {
            if let Some(refused) = shared.lock_refusals().of(&key, Instant::now()) {
                return Err(NoSeat::Origin(refused));
            }
            if !shared.budget.has_room() {
                return Err(RefusedBy::Memory.into());
            }
            Ok(self.make(&key, seed)?)
        })
    }

    fn make(&self, key: &Arc<Key>, seed: Option<&str>) -> Result<Instance, RefusedBy> {
        let shared = &self.shared;
        let berth = shared.launch.berth()?;
        let (channel, upstream) = shared.inherit(key).unwrap_or_else(|| {
            let (channel, writer) =
                Channel::instance(&shared.kind, Arc::clone(key), &shared.budget);
            let mut upstream = Upstream::new(channel.clone(), writer);
            let ids = shared.kind.settings().ids;
            if let Some(id) = seed.filter(|id| is_seed(id, ids)) {
                upstream.go_on_after(id);
            }
            let now = Instant::now();
            if let Some(until) = shared.lock_resting().of(key, now) {
                upstream.rest_until(until);
            }
            (channel, upstream)
        });
        let Berth {
            home,
            runtime,
            dialer,
            descriptor,
        } = berth;
        let mut life = Life {
            template: self.clone(),
            channel: channel.clone(),
            writing: Some(Box::pin(upstream.run(dialer))),
            home,
            _descriptor: descriptor,
            _held: shared.budget.hold(
                WhatFor::Instances,
                Instance::BYTES_BUT_KEY + key.footprint(),
            ),
        };
        // It ends by itself, or with the runtime, which owns it.
        let task = runtime.spawn(async move { life.run().await });
        self.counters().instances.add(1);
        Ok(Instance {
            channel,
            home,
            task: task.abort_handle(),
        })
    }

    /// What the first who ask are refused with; `None`: they get a stream, after `first_answer` at the
    /// latest.
    async fn first_answer(&self, channel: &Channel) -> Option<Refused> {
        let patience = self.shared.kind.settings().first_answer;
        let answered = match timeout(patience, channel.first_answer()).await {
            Ok(answered) => answered,
            Err(_too_slow) => {
                channel.shared.first_answer.note_silence();
                // It may have come in between.
                channel.first_answer().await
            }
        };
        self.counters().first_answers(answered).add(1);
        channel.shared.first_answer.refused()
    }

    /// What the origin has refused a key with a moment ago.
    pub fn refusal(&self, key: &Key) -> Option<Refused> {
        self.shared.lock_refusals().of(key, Instant::now())
    }

    /// What its instances have in common.
    pub fn kind(&self) -> &Kind {
        &self.shared.kind
    }

    /// The name of its table.
    pub fn name(&self) -> &str {
        self.shared.kind.name()
    }

    /// What was counted of all instances.
    pub fn counters(&self) -> &Counters {
        self.shared.kind.counters()
    }

    /// Its instances, in no order.
    pub fn channels(&self) -> Vec<Channel> {
        let all = self.shared.instances.all().into_iter();
        all.map(|(_, channel)| channel).collect()
    }

    /// How many instances there are.
    pub fn n_instances(&self) -> usize {
        self.shared.instances.len()
    }

    /// Tells all instances to do something else from now on; returns them, so that the shards can be
    /// told.
    pub fn reconfigure(&self, settings: &Arc<config::Channel>, now: Instant) -> Vec<Channel> {
        // First, so that who comes in between is made with them.
        let before = self.shared.kind.settings();
        self.shared.kind.reconfigure(Arc::clone(settings));
        if settings.touches(&before).upstream >= UpstreamChange::Reconnect {
            // What failed before says nothing of what is asked now.
            *self.shared.lock_resting() = Remembered::default();
        }
        let channels = self.channels();
        for channel in &channels {
            channel.retain(settings, now);
            // It may linger for a shorter time.
            channel.look_again();
        }
        channels
    }

    /// Makes no more instances, and lets nobody in.
    pub fn close(&self, deadline: Instant) {
        self.shared.instances.close(deadline);
    }

    /// Until when its subscribers leave, if it takes no more.
    pub fn closing(&self) -> Option<Instant> {
        self.shared.instances.closing()
    }

    /// Ends all instances, whoever is there.
    pub fn abort(&self) {
        self.shared.instances.abort();
    }
}

impl Shared {
    /// Remembers until when the origin of an instance is left alone that goes while its upstream waits.
    fn note_rest(&self, channel: &Channel, now: Instant) {
        if let Some(until) = channel.status().next_try {
            self.lock_resting().note(channel.key(), (until, until), now);
        }
    }

    /// The instance of this key with what its predecessor left, if there was one.
    fn inherit(&self, key: &Arc<Key>) -> Option<(Channel, Upstream)> {
        let mut kept = self.lock_heirlooms();
        let mut made = None;
        kept.as_mut()?.heirlooms.take(key, &mut |legacy, age| {
            let (kind, budget) = ((&self.kind, key), &self.budget);
            match Channel::succeed_instance(kind, budget, (legacy, age)) {
                Ok(instance) => made = Some(instance),
                Err(error) => {
                    let channel = self.kind.name();
                    tracing::warn!(channel, %error, "the history of an instance is not used");
                }
            }
        });
        made
    }

    fn lock_heirlooms(&self) -> MutexGuard<'_, Option<Kept>> {
        let heirlooms = &self.heirlooms;
        heirlooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_resting(&self) -> MutexGuard<'_, Remembered<Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_refusals(&self) -> MutexGuard<'_, Remembered<Refused>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The upstream of an instance at work. Each instance has one as long as it lives, so it is small: what
/// is needed for a connection is in boxes of its own.
type Writing = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// What the task of an instance has. There is one for each, so what is needed for a moment only is in
/// boxes.
struct Life {
    template: Template,
    channel: Channel,
    /// Writes the channel's log; `None`: it has ended.
    writing: Option<Writing>,
    /// The number of the shard.
    home: usize,
    _descriptor: Descriptor,
    _held: Held,
}

impl Life {
    /// Until its origin refuses it, or nobody has been there for a while.
    async fn run(&mut self) {
        if let Some(refused) = Box::pin(self.first_answer()).await {
            self.refuse(refused);
            return;
        }
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            self.poll_writing(cx);
            self.poll_left(cx, &mut alarm)
        })
        .await;
        let n_ambiguous = self.channel.log().size().n_ambiguous;
        let counters = self.template.counters();
        counters.ambiguous_ids_gone.add(n_ambiguous);
    }

    async fn first_answer(&mut self) -> Option<Refused> {
        let (template, channel) = (self.template.clone(), self.channel.clone());
        let mut answer = pin!(template.first_answer(&channel));
        poll_fn(|cx| {
            self.poll_writing(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    fn refuse(&mut self, refused: Refused) {
        let Self {
            template,
            channel,
            writing,
            ..
        } = self;
        let shared = &template.shared;
        shared.instances.remove(channel.key(), channel, || {
            let now = Instant::now();
            let refusal = (refused, now + REFUSED_FOR);
            shared.lock_refusals().note(channel.key(), refusal, now);
            *writing = None;
        });
    }

    fn poll_writing(&mut self, cx: &mut Context<'_>) {
        if let Some(writing) = &mut self.writing {
            match writing.as_mut().poll(cx) {
                Poll::Ready(never) => match never {},
                Poll::Pending => {}
            }
        }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<()> {
        let Self {
            template,
            channel,
            writing,
            ..
        } = self;
        let shared = &template.shared;
        // What has no history and no upstream is nothing that anybody could come back to.
        let linger = |settings: &config::Channel| {
            if channel.has_nothing_to_keep() {
                Duration::ZERO
            } else {
                settings.linger
            }
        };
        let end = || {
            shared.note_rest(channel, Instant::now());
            *writing = None;
        };
        let instance = (channel.key(), &*channel);
        shared
            .instances
            .poll_left(cx, instance, alarm, (linger, end))
    }
}

impl Drop for Life {
    /// Lets nobody wait for an instance that has ended, and tells if it broke.
    fn drop(&mut self) {
        // If it is removed before its origin has answered: who waits is sent away with the others.
        self.channel.shared.first_answer.note_silence();
        if std::thread::panicking() {
            self.template.shared.launch.note_broken(self.home);
        }
    }
}

/// Whether a client's id may be one that the origin gave.
pub fn is_seed(id: &str, ids: Ids) -> bool {
    let has_their_form = !id.is_empty() && id.len() <= MAX_ID_BYTES && !may_be_of_a_gateway(id);
    match ids {
        Ids::Fill => has_their_form,
        Ids::Gateway => false,
        // The origin may be a gateway, but no event has the id of a place.
        Ids::Upstream => {
            let is_place = id.contains('.') && may_be_of_a_gateway(id);
            !id.is_empty() && id.len() <= MAX_ID_BYTES && !is_place
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("kind", &self.kind)
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}
