//! Views of channels: channels whose log is made of other channels' logs.
//!
//! Whoever asks for the same events of the same channels shares one view: it is made by the first, is
//! one task, and ends a moment after the last has left. Its clients count in the
//! channel whose path they asked for, by the limits of that one, and keep it alive: the source itself,
//! or, of a view of several channels, one that stands for their bundle.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::{Channel, Instance, Instances, RefusedBy, Seat, State, Status};
use crate::config;
use crate::log::{Outlet, Progress, Recipe, Selection, Tagging, ViewWriter};
use crate::memory::{Budget, Held, WhatFor};

/// The views of one table of the configuration.
#[derive(Debug, Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    instances: Instances<Arc<Key>>,
    /// What their logs count to.
    budget: Budget,
    threads: Arc<dyn Threads>,
    linger: Duration,
}

/// What tells a view from others of its table.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    /// By identity. A view holds its sources, so that none of them becomes another meanwhile.
    sources: Box<[usize]>,
    selection: Selection,
    tagging: bool,
}

/// What somebody wants to see.
#[derive(Debug)]
pub struct WantedView<'a> {
    /// In which channel its clients count. The view has its settings.
    pub counted_in: &'a Channel,
    /// Of which channels, by their names, in an order that does not depend on who asks.
    pub sources: &'a [(&'a str, Channel)],
    /// Which of their events.
    pub selection: Selection,
    /// How the events tell which channel they are of.
    pub tagging: Tagging,
    /// The shard of the sources, or one of them.
    pub home: usize,
}

/// Where views live.
pub trait Threads: std::fmt::Debug + Send + Sync {
    /// Runs the task of a view on a shard; `None`: there is none any more.
    fn spawn(&self, shard: usize, task: Task) -> Option<AbortHandle>;
}

/// The life of a view.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What makes a channel a view.
#[derive(Debug)]
pub(super) struct Lens {
    sources: Box<[Channel]>,
    /// Where who is seated in the view is seated, too.
    pub(super) counted_in: Channel,
    bell: Bell,
}

/// Wakes the task of a view.
#[derive(Debug, Clone)]
struct Bell {
    rope: Arc<Rope>,
}

#[derive(Debug)]
struct Rope {
    wanted: Notify,
    /// How often somebody has asked to be told when everything is read.
    asked: AtomicU64,
    /// How many of them were told: what the sources had when they asked is in the view.
    answered: watch::Sender<u64>,
}

/// How long a view outlives its last client. Clients that were cut come back within seconds, and what a
/// view knows it can learn anew; so this saves only work.
const LINGER: Duration = Duration::from_secs(10);

/// How long a client waits for the view to have all that it may have seen. It is a wake-up of the
/// view's task; who waits longer is told that its place is not known.
const PATIENCE: Duration = Duration::from_secs(2);

impl Key {
    /// About what it takes in memory.
    fn footprint(&self) -> usize {
        let types = self.selection.types().unwrap_or_default().iter();
        let types: usize = types.map(|name| name.len() + size_of_val(name)).sum();
        size_of::<Self>() + size_of_val(&*self.sources) + types
    }
}

impl Views {
    /// No views as yet.
    pub fn new(budget: &Budget, threads: Arc<dyn Threads>) -> Self {
        Self::lingering(budget, threads, LINGER)
    }

    fn lingering(budget: &Budget, threads: Arc<dyn Threads>, linger: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                instances: Instances::default(),
                budget: budget.clone(),
                threads,
                linger,
            }),
        }
    }

    /// Takes a seat in a view, which is made if it is not there, for one who has a seat where the view's
    /// clients count. `holds` are kept as long as the view that is made.
    ///
    /// # Errors
    ///
    /// By what the newcomer is refused.
    pub fn enter(
        &self,
        wanted: &WantedView<'_>,
        seat: Seat,
        holds: Vec<Seat>,
    ) -> Result<(Instance, Seat), RefusedBy> {
        let key = Arc::new(Key {
            sources: (wanted.sources.iter())
                .map(|(_, source)| source.identity())
                .collect(),
            selection: wanted.selection.clone(),
            tagging: wanted.tagging == Tagging::EventType,
        });
        let max = wanted.counted_in.settings().max_views;
        let make = || self.make(&key, wanted, holds);
        let join = |view: &Channel| view.join_instead(seat);
        let entered = self.shared.instances.enter_by(&key, max, make, join);
        entered.map_err(|by| match by {
            RefusedBy::MaxInstances => RefusedBy::MaxViews,
            other => other,
        })
    }

    fn make(
        &self,
        key: &Arc<Key>,
        wanted: &WantedView<'_>,
        holds: Vec<Seat>,
    ) -> Result<Instance, RefusedBy> {
        if !self.shared.budget.has_room() {
            return Err(RefusedBy::Memory);
        }
        let settings = wanted.counted_in.settings();
        let bell = Bell::new();
        let sources: Vec<_> = (wanted.sources.iter())
            .map(|(name, source)| (*name, source.log()))
            .collect();
        let recipe = Recipe {
            sources: &sources,
            selection: wanted.selection.clone(),
            tagging: wanted.tagging,
            notices: settings.notices,
            limits: settings.history.clone(),
            max_pending_bytes: max_pending_bytes(&settings),
        };
        let outlet = || -> Box<dyn Outlet> { Box::new(bell.clone()) };
        let (log, writer) = recipe.make(outlet, &self.shared.budget, Instant::now());
        let sources = wanted.sources.iter().map(|(_, source)| source.clone());
        let lens = Lens {
            sources: sources.collect(),
            counted_in: wanted.counted_in.clone(),
            bell: bell.clone(),
        };
        let channel = Channel::of_view(log, lens);
        let bytes = Instance::BYTES_BUT_KEY + key.footprint();
        let held = self.shared.budget.hold(WhatFor::Instances, bytes);
        let owned = (writer, holds, held);
        let life = self
            .clone()
            .live(Arc::clone(key), channel.clone(), owned, bell);
        let task = self.shared.threads.spawn(wanted.home, Box::pin(life));
        Ok(Instance {
            channel,
            home: wanted.home,
            task: task.ok_or(RefusedBy::Stop)?,
        })
    }

    /// The life of a view: it reads its sources until nobody has been there for a while.
    async fn live(
        self,
        key: Arc<Key>,
        channel: Channel,
        (writer, holds, _held): (ViewWriter, Vec<Seat>, Held),
        bell: Bell,
    ) {
        let Shared {
            instances, linger, ..
        } = &*self.shared;
        let gone = instances.until_left(&key, &channel, |_| *linger);
        tokio::select! {
            never = write(writer, &channel, &bell) => match never {},
            () = gone => drop(holds),
        }
    }

    /// The views that there are.
    pub fn channels(&self) -> Vec<Channel> {
        let all = self.shared.instances.all().into_iter();
        all.map(|(_, channel)| channel).collect()
    }

    /// Gives up those that there are, whose clients are to leave: who asks for the same from now on gets
    /// another view.
    pub fn give_up(&self) -> Vec<Channel> {
        self.shared.instances.take_out()
    }

    /// Bytes that their logs hold.
    pub fn held_bytes(&self) -> usize {
        let channels = self.channels().into_iter();
        channels.map(|view| view.log().size().held_bytes).sum()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shared.instances.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes no more, and lets nobody in. Those who are there leave until `deadline`.
    pub fn close(&self, deadline: Instant) {
        self.shared.instances.close(deadline);
    }

    /// Until when its subscribers leave, if it takes no more.
    pub fn closing(&self) -> Option<Instant> {
        self.shared.instances.closing()
    }

    /// Ends all of them, whoever is there.
    pub fn abort(&self) {
        self.shared.instances.abort();
    }
}

impl Channel {
    /// A seat in this view for one who has a seat where its clients count, which is given back.
    fn join_instead(&self, seat: Seat) -> Result<Seat, RefusedBy> {
        if self.closing().is_some() {
            return Err(RefusedBy::Stop);
        }
        self.shared.take_place();
        drop(seat);
        Ok(Seat {
            channel: Arc::clone(&self.shared),
        })
    }

    /// Ready when a view has all that its sources had when this was called: what its client may have
    /// seen elsewhere is there, then. At once, if this is no view.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn caught_up(&self) {
        let Some(lens) = &self.shared.view else {
            return;
        };
        let rope = &lens.bell.rope;
        let asked = rope.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut answered = rope.answered.subscribe();
        rope.wanted.notify_one();
        let read = answered.wait_for(|answered| *answered >= asked);
        if timeout(PATIENCE, read).await.is_err() {
            tracing::warn!(channel = self.name(), "a view is behind its sources");
        }
    }

    /// The channels that a view is made of; none, if this is no view.
    pub fn sources(&self) -> &[Self] {
        self.shared.view.as_ref().map_or(&[], |lens| &lens.sources)
    }
}

impl Lens {
    /// What the upstreams of all sources are doing, taken together: the worst of them, or that all of
    /// them are over.
    pub(super) fn status(&self) -> Option<Status> {
        let statuses = self.sources.iter().map(Channel::status);
        statuses.max_by_key(|status| trouble(status.state))
    }

    /// Until when its subscribers leave, because those of a source do, or of their bundle.
    pub(super) fn closing(&self) -> Option<Instant> {
        let mut all = self.sources.iter().chain([&self.counted_in]);
        all.find_map(Channel::closing)
    }
}

fn trouble(state: State) -> u8 {
    match state {
        State::Over => 0,
        State::Open => 1,
        State::Connecting => 2,
        State::Waiting => 3,
        State::GaveUp => 4,
    }
}

/// Writes a view, for ever.
async fn write(mut writer: ViewWriter, channel: &Channel, bell: &Bell) -> std::convert::Infallible {
    let mut changes = channel.watch();
    loop {
        let asked = bell.rope.asked.load(Ordering::Acquire);
        let progress = writer.advance();
        channel.counters().gaps.add(writer.take_n_lost());
        if progress == Progress::More {
            give_others_a_turn().await;
            continue;
        }
        bell.rope
            .answered
            .send_if_modified(|answered| std::mem::replace(answered, asked) != asked);
        tokio::select! {
            () = bell.rope.wanted.notified() => {}
            Ok(()) = changes.changed() => {
                let settings = channel.settings();
                writer.follow(settings.notices, max_pending_bytes(&settings));
                channel.log().set_limits(settings.history.clone(), Instant::now());
            }
        }
    }
}

/// However little a channel keeps, a burst must not overrun a view before it had a turn.
fn max_pending_bytes(settings: &config::Channel) -> usize {
    const LEAST: usize = 4 * 1024 * 1024;
    let largest = settings.upstream.max_event_bytes.saturating_mul(2);
    settings.history.bytes.max(LEAST).saturating_add(largest)
}

/// **Fair Turns**: to the end of the queue of the thread's tasks.
async fn give_others_a_turn() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Bell {
    fn new() -> Self {
        Self {
            rope: Arc::new(Rope {
                wanted: Notify::new(),
                asked: AtomicU64::new(0),
                answered: watch::Sender::new(0),
            }),
        }
    }
}

impl Outlet for Bell {
    fn mark_dirty(&self) {
        self.rope.wanted.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;
    use tokio::task::yield_now;

    use super::*;
    use crate::config::Config;
    use crate::log::Writer;
    use crate::log::testing::{append, read_chunked, wire_bytes};

    #[derive(Debug)]
    struct Here(Handle);

    impl Threads for Here {
        fn spawn(&self, _: usize, task: Task) -> Option<AbortHandle> {
            Some(self.0.spawn(task).abort_handle())
        }
    }

    struct World {
        views: Views,
        source: Channel,
        writer: Writer,
    }

    impl World {
        fn new(linger: Duration) -> Self {
            let text = "[listen.public]\naddress = \"127.0.0.1:0\"\n[channels.events]\n\
                        path = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n\
                        max_subscribers = 3\nselect_events = true\nmax_views = 2\n";
            let config = Config::parse("test.toml", text).expect("a configuration");
            let (source, writer) = Channel::with_writer(Arc::clone(&config.config.channels[0]));
            let threads = Arc::new(Here(Handle::current()));
            Self {
                views: Views::lingering(&Budget::unlimited(), threads, linger),
                source,
                writer,
            }
        }

        fn enter(&self, event_type: &str) -> Result<(Channel, Seat), RefusedBy> {
            let wanted = WantedView {
                counted_in: &self.source,
                sources: &[("events", self.source.clone())],
                selection: Selection::of([event_type.to_owned()]),
                tagging: Tagging::None,
                home: 0,
            };
            let entered = self.views.enter(&wanted, self.source.join()?, Vec::new());
            entered.map(|(instance, seat)| (instance.channel, seat))
        }

        async fn until_none_is_left(&self) {
            let gone = async {
                while !self.views.is_empty() {
                    yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), gone)
                .await
                .expect("views end");
        }
    }

    #[tokio::test]
    async fn who_wants_the_same_shares_a_view_and_counts_in_its_source() {
        let world = World::new(Duration::ZERO);
        let (first, one) = world.enter("a").expect("a seat");
        let (second, two) = world.enter("a").expect("a seat");
        let (other, three) = world.enter("b").expect("a seat");
        assert_eq!(first.identity(), second.identity());
        assert_ne!(first.identity(), other.identity());
        assert_eq!(
            (first.n_subscribers(), world.source.n_subscribers()),
            (2, 3)
        );
        assert_eq!(world.enter("a").err(), Some(RefusedBy::MaxSubscribers));
        assert_eq!(world.source.join().err(), Some(RefusedBy::MaxSubscribers));
        assert_eq!(
            (first.n_subscribers(), world.source.n_subscribers()),
            (2, 3)
        );
        drop(one);
        assert_eq!(world.enter("c").err(), Some(RefusedBy::MaxViews));
        assert_eq!(
            (first.n_subscribers(), world.source.n_subscribers()),
            (1, 2)
        );
        drop(three);
        assert_eq!(
            (first.n_subscribers(), world.source.n_subscribers()),
            (1, 1)
        );
        drop(two);
        world.until_none_is_left().await;
        assert_eq!(world.source.n_subscribers(), 0);
    }

    #[tokio::test]
    async fn a_view_that_is_given_up_ends_once_it_is_left_and_is_in_nobodys_way() {
        let world = World::new(Duration::ZERO);
        let (old, one) = world.enter("a").expect("a seat");
        assert_eq!(world.views.give_up().len(), 1);
        old.close(Instant::now());
        let (new, two) = world.enter("a").expect("a seat");
        assert_ne!(old.identity(), new.identity());
        assert_eq!(world.source.log().n_feeds(), 2);
        drop(one);
        let gone = async {
            while world.source.log().n_feeds() > 1 {
                yield_now().await;
            }
        };
        let gone = timeout(Duration::from_secs(10), gone).await;
        gone.expect("the view that was given up ends");
        assert_eq!((world.views.len(), new.n_subscribers()), (1, 1));
        drop(two);
        world.until_none_is_left().await;
    }

    #[tokio::test]
    async fn a_view_has_what_was_there_and_what_comes() {
        let mut world = World::new(Duration::ZERO);
        append(&mut world.writer, &[(None, "old")], Instant::now());
        let (view, _seat) = world.enter("").expect("a seat");
        view.caught_up().await;
        append(&mut world.writer, &[(Some("7"), "new")], Instant::now());
        view.caught_up().await;
        // A made-up id gets everything.
        let start = view.log().start(Some("?"), Instant::now());
        let events = read_chunked(&wire_bytes(&start));
        let data: Vec<&str> = events.iter().map(|one| one.data.as_str()).collect();
        assert_eq!(data, ["old", "new"]);
    }

    /// The last one leaves, and the first comes back, thousands of times and in the same moment.
    #[tokio::test]
    async fn nothing_is_left_of_views_that_nobody_reads() {
        let mut world = World::new(Duration::ZERO);
        let mut last_id = None::<String>;
        for n in 0..5000_u32 {
            let (view, seat) = world.enter("").expect("a seat");
            view.caught_up().await;
            append(&mut world.writer, &[(None, &n.to_string())], Instant::now());
            view.caught_up().await;
            if let Some(id) = last_id {
                let start = view.log().start(Some(id.as_str()), Instant::now());
                let events = read_chunked(&wire_bytes(&start));
                assert_eq!(events.len(), 1, "exactly what followed");
                assert_eq!(events[0].data, n.to_string());
                last_id = events[0].id.clone();
            } else {
                last_id = view.log().start(None, Instant::now()).tip;
            }
            drop(seat);
            if n % 3 == 0 {
                world.until_none_is_left().await;
            }
        }
        world.until_none_is_left().await;
        assert_eq!(world.source.n_subscribers(), 0);
        assert_eq!(world.source.log().n_feeds(), 0);
    }
}
