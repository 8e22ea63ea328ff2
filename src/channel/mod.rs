//! Channels: one upstream, one log, any number of subscribers.
//!
//! A [`Channel`] is the handle that the rest of the process holds; its [`Upstream`] is the task that
//! writes. What a channel's subscribers do is not known here, beyond how many they are.

mod alarm;
mod coding;
mod counters;
mod damper;
mod decoded;
mod endpoints;
mod error;
mod exchange;
mod first_answer;
mod handover;
mod instances;
mod intake;
mod presence;
mod reconnect;
mod refusals;
mod request;
mod returning;
mod status;
mod stream;
mod template;
mod upstream;
mod view;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::coding::Undecodable;
#[cfg(any(test, fuzzing))]
pub use self::coding::fuzz_coding;
pub use self::counters::{
    Counters, Departure, Failures, FirstAnswered, Moment, RefusedBy, Replayed,
};
pub use self::error::{UpstreamError, with_causes};
use self::first_answer::FirstAnswer;
use self::handover::Place;
pub use self::handover::{Heirlooms, KeyLeft, Legacy, rules_of};
pub use self::instances::{Instance, Instances};
use self::presence::Presence;
pub use self::reconnect::Backoff;
pub use self::refusals::{Challenges, Refused};
use self::request::Wanted;
pub use self::request::{Dialer, describe};
pub use self::status::{Health, LastFailure, State, Status, UPSTREAM_NOTICE};
pub use self::template::{Berth, Launch, NoSeat, Source, Template, is_seed};
pub use self::upstream::Upstream;
use self::view::Lens;
pub use self::view::{Task, Threads, Views, WantedView};
use crate::config::{self, Key};
use crate::log::{Log, Writer};
use crate::memory::Budget;

/// A handle to a channel.
#[derive(Debug, Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    /// What tells it from the other instances of its template; empty, if it is none.
    key: Arc<Key>,
    log: Log,
    n_subscribers: AtomicUsize,
    /// Whether there ever was one.
    was_entered: AtomicBool,
    presence: Presence,
    status: Mutex<Status>,
    place: Place,
    first_answer: FirstAnswer,
    /// When its last subscriber is gone, once they are leaving.
    closing: OnceLock<Instant>,
    /// What makes it a view; `None`: it is none.
    view: Option<Box<Lens>>,
}

/// What all channels of one table of the configuration have in common: one channel, or the instances
/// of a template.
#[derive(Debug, Clone)]
pub struct Kind {
    shared: Arc<Common>,
}

#[derive(Debug)]
struct Common {
    /// The channel's identity in the configuration; it outlives every change of the settings.
    name: String,
    /// The current settings. The upstream watches them; everybody else asks when it needs them, which
    /// is never per delivered event.
    settings: watch::Sender<Arc<config::Channel>>,
    counters: Counters,
    /// Where clients are seated that want only a part of a channel; none, where nobody has given them a
    /// thread.
    views: OnceLock<Views>,
}

/// A subscriber's place in a channel; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    channel: Arc<Shared>,
}

impl Channel {
    /// A channel without events, and the upstream that will write them. Its log counts to `budget`.
    pub fn new(settings: Arc<config::Channel>, budget: &Budget) -> (Self, Upstream) {
        let (channel, writer) = Self::within(&Kind::new(settings), budget);
        let upstream = Upstream::new(channel.clone(), writer);
        (channel, upstream)
    }

    /// A channel without events, and the writer of its log.
    #[cfg(test)]
    pub(crate) fn with_writer(settings: Arc<config::Channel>) -> (Self, Writer) {
        Self::within(&Kind::new(settings), &Budget::unlimited())
    }

    /// A channel of this kind without events, whose log counts to `budget`, and the log's writer.
    pub(crate) fn within(kind: &Kind, budget: &Budget) -> (Self, Writer) {
        let first_answer = FirstAnswer::not_awaited();
        Self::assemble((kind, Arc::default()), first_answer, budget)
    }

    /// The instance of a template with this key, and the writer of its log.
    fn instance(kind: &Kind, key: Arc<Key>, budget: &Budget) -> (Self, Writer) {
        Self::assemble((kind, key), FirstAnswer::default(), budget)
    }

    fn assemble(
        (kind, key): (&Kind, Arc<Key>),
        first_answer: FirstAnswer,
        budget: &Budget,
    ) -> (Self, Writer) {
        let settings = kind.settings();
        let (log, mut writer) = Log::within(settings.history.clone(), settings.ids, budget);
        writer.set_keying(settings.keying(), Instant::now());
        log.tell_types(settings.tells_types);
        (Self::of_log((kind, key), first_answer, log, None), writer)
    }

    /// A channel that stands for a bundle: its clients count there, its views have its settings, and
    /// nobody ever writes to it.
    pub fn of_bundle(settings: Arc<config::Channel>, budget: &Budget) -> Self {
        let (channel, _writer) = Self::within(&Kind::new(settings), budget);
        channel.enter(State::Open);
        channel
    }

    /// A view, which is written to by somebody else.
    fn of_view(log: Log, lens: Lens) -> Self {
        let (kind, key) = (lens.counted_in.kind().clone(), Arc::default());
        let first_answer = FirstAnswer::not_awaited();
        Self::of_log((&kind, key), first_answer, log, Some(Box::new(lens)))
    }

    fn of_log(
        (kind, key): (&Kind, Arc<Key>),
        first_answer: FirstAnswer,
        log: Log,
        view: Option<Box<Lens>>,
    ) -> Self {
        let shared = Shared {
            kind: kind.clone(),
            key,
            log,
            n_subscribers: AtomicUsize::new(0),
            was_entered: AtomicBool::new(false),
            presence: Presence::new(Instant::now()),
            status: Mutex::new(Status::new(SystemTime::now())),
            place: Place::default(),
            first_answer,
            closing: OnceLock::new(),
            view,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes no more subscribers; those who are there leave until `deadline`.
    pub fn close(&self, deadline: Instant) {
        self.shared.closing.get_or_init(|| deadline);
    }

    /// Until when its subscribers leave, if it takes no more.
    pub fn closing(&self) -> Option<Instant> {
        let own = self.shared.closing.get().copied();
        own.or_else(|| self.shared.view.as_ref()?.closing())
    }

    /// Takes a place for one more subscriber.
    ///
    /// # Errors
    ///
    /// If `max_subscribers` are there, memory has run out, or it takes no more.
    pub fn join(&self) -> Result<Seat, RefusedBy> {
        if self.closing().is_some() {
            return Err(RefusedBy::Stop);
        }
        if !self.shared.log.budget().has_room() {
            return Err(RefusedBy::Memory);
        }
        let max = self.settings().max_subscribers.unwrap_or(usize::MAX);
        let n_before = self.shared.take_place();
        let seat = Seat {
            channel: Arc::clone(&self.shared),
        };
        // A seat that is over the limit gives its place back as it is dropped.
        if n_before < max {
            Ok(seat)
        } else {
            Err(RefusedBy::MaxSubscribers)
        }
    }

    /// The name of its table, by which a reload knows it again.
    pub fn name(&self) -> &str {
        self.shared.kind.name()
    }

    /// What tells it from the other instances of its template; empty, if it is none.
    pub fn key(&self) -> &Arc<Key> {
        &self.shared.key
    }

    /// Its event stream, from the URL with this place.
    fn wanted<'a>(&'a self, settings: &'a config::Channel, place: usize) -> Wanted<'a> {
        Wanted {
            settings,
            key: &self.shared.key,
            place,
        }
    }

    /// The URL with this place, as it may be shown.
    pub fn shown_url(&self, settings: &config::Channel, place: usize) -> String {
        self.wanted(settings, place).shown()
    }

    /// Waits until it is known how the first who ask are answered; what they are told, if that is a
    /// refusal.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn refused(&self) -> Option<Refused> {
        self.first_answer().await.refusal()?;
        self.shared.first_answer.refused()
    }

    /// Waits until it is known how the first who ask are answered.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    async fn first_answer(&self) -> FirstAnswered {
        self.shared.first_answer.wait().await
    }

    /// What it has in common with others of its table.
    pub fn kind(&self) -> &Kind {
        &self.shared.kind
    }

    /// What the channel is told to do at present. Another call may give something else: who needs
    /// settings that fit together keeps the answer.
    pub fn settings(&self) -> Arc<config::Channel> {
        self.shared.kind.settings()
    }

    /// Tells the channel to do something else from now on. The upstream learns it by itself; the
    /// groups of the shards are told by `Delivery::reconfigure`.
    pub fn reconfigure(&self, settings: Arc<config::Channel>, now: Instant) {
        self.retain(&settings, now);
        self.shared.kind.reconfigure(settings);
        self.look_again();
    }

    /// Retains as much as these settings say.
    fn retain(&self, settings: &config::Channel, now: Instant) {
        self.shared.log.set_limits(settings.history.clone(), now);
        self.shared.log.tell_types(settings.tells_types);
    }

    /// The settings, and whether they have changed.
    fn watch(&self) -> watch::Receiver<Arc<config::Channel>> {
        self.shared.kind.shared.settings.subscribe()
    }

    /// The channel's events.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        self.shared.kind.counters()
    }

    /// Subscribers right now.
    pub fn n_subscribers(&self) -> usize {
        self.shared.n_subscribers.load(Ordering::Relaxed)
    }

    /// Whether it ever had a subscriber.
    fn was_entered(&self) -> bool {
        self.shared.was_entered.load(Ordering::Relaxed)
    }

    /// Since when nobody is there; `None`: somebody is.
    fn deserted_since(&self) -> Option<Instant> {
        (self.n_subscribers() == 0).then(|| self.shared.presence.left_at())
    }

    /// Whether its upstream waits after a failure, and its log never had an event: nobody can have seen
    /// anything of it.
    fn has_nothing_to_keep(&self) -> bool {
        self.lock_status().state == State::Waiting && self.shared.log.is_untouched()
    }

    /// Lets the channel's task look again at what it waits for.
    fn look_again(&self) {
        self.shared.presence.wake();
    }

    /// Wakes the channel's task, which calls this before it looks, when the last subscriber has left, or
    /// the settings have changed.
    fn watch_with(&self, cx: &Context<'_>) {
        self.shared.presence.watch_with(cx);
    }

    /// Ready when the settings are others than `seen` saw last. For the channel's task.
    fn poll_changed(
        &self,
        cx: &Context<'_>,
        seen: &watch::Receiver<Arc<config::Channel>>,
    ) -> Poll<()> {
        self.watch_with(cx);
        // The sender is there as long as the channel is.
        if seen.has_changed().is_ok_and(|has_changed| has_changed) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// What the upstream is doing.
    pub fn status(&self) -> Status {
        let of_sources = self.shared.view.as_ref().and_then(|lens| lens.status());
        of_sources.unwrap_or_else(|| self.lock_status().clone())
    }

    /// A number that tells this channel from every other of the process.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    fn enter(&self, state: State) {
        self.lock_status().enter(state);
    }

    /// Notes why the upstream failed.
    fn fail(&self, reason: &'static str, error: String) {
        self.lock_status().fail(reason, error);
    }

    /// Notes that the stream is open and well: an outage is at its end.
    fn recover(&self) {
        self.lock_status().recover();
    }

    /// Notes which of the URLs is asked.
    fn asks(&self, endpoint: usize) {
        if self.lock_status().ask(endpoint) {
            self.counters().failovers.add(1);
        }
    }

    /// Notes that the upstream tries again after this time.
    fn will_try_after(&self, wait: Duration) {
        self.lock_status().next_try = Some(Instant::now() + wait);
    }

    /// Recovers from poison: a status is replaced field by field, and no field depends on another.
    fn lock_status(&self) -> MutexGuard<'_, Status> {
        self.shared
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    /// What channels with these settings have in common.
    pub fn new(settings: Arc<config::Channel>) -> Self {
        Self {
            shared: Arc::new(Common {
                name: settings.name.clone(),
                settings: watch::Sender::new(settings),
                counters: Counters::default(),
                views: OnceLock::new(),
            }),
        }
    }

    /// The name of the table, by which a reload knows it again.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What its channels are told to do at present.
    pub fn settings(&self) -> Arc<config::Channel> {
        Arc::clone(&self.shared.settings.borrow())
    }

    /// What was counted of all of them.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Lets there be views of its channels.
    pub fn set_views(&self, views: Views) {
        self.shared.views.get_or_init(|| views);
    }

    /// Where clients are seated that want only a part of a channel.
    pub fn views(&self) -> Option<&Views> {
        self.shared.views.get()
    }

    fn reconfigure(&self, settings: Arc<config::Channel>) {
        self.shared.settings.send_replace(settings);
    }
}

impl Shared {
    /// Counts a subscriber, also where those of a view count; returns how many there were.
    fn take_place(&self) -> usize {
        let n_before = self.n_subscribers.fetch_add(1, Ordering::Relaxed);
        self.was_entered.store(true, Ordering::Relaxed);
        match &self.view {
            Some(lens) => lens.counted_in.shared.take_place(),
            None => n_before,
        }
    }

    fn give_place_back(&self) {
        if self.n_subscribers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.presence.note_left(Instant::now());
        }
        if let Some(lens) = &self.view {
            lens.counted_in.shared.give_place_back();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.channel.give_place_back();
    }
}
