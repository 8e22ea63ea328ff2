//! The channels that run, by name, and the tasks that hold their upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::launcher::Launcher;
use crate::channel::{Channel, Dialer, Source, Template, Upstream, Views};
use crate::config::{self, Connect};
use crate::delivery::ShardHandle;
use crate::http::{Page, Routes};
use crate::memory::Budget;
use crate::net::client_tls::ClientTls;
use crate::net::descriptors::Descriptors;
use crate::net::gathers::Gathers;
use crate::state::Inheritance;

/// The channels that run. They live on the shards' threads, and end with them.
#[derive(Debug)]
pub(super) struct Channels {
    by_name: BTreeMap<String, Running>,
    shards: Arc<[ShardHandle]>,
    /// What their logs count to.
    memory: Budget,
    /// How upstreams reach their origins, by shard.
    dialers: Arc<[Dialer]>,
    /// Who gives instances on demand a shard.
    launcher: Arc<Launcher>,
    /// What the process before left of them.
    inheritance: Inheritance,
}

/// A channel, and who writes it.
#[derive(Debug)]
enum Running {
    /// What stands for a bundle; nobody writes to it.
    Bundle(Channel),
    Channel {
        channel: Channel,
        /// The shard of its upstream.
        home: usize,
        upstream: AbortHandle,
    },
    /// Its instances know who writes them.
    Template(Template),
}

/// A channel that is gone from the configuration, and has yet to end.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) source: Source,
    /// Goes on until the last subscriber has said goodbye; `None`: those of the instances.
    upstream: Option<AbortHandle>,
}

impl Channels {
    pub(super) fn new(
        shards: Arc<[ShardHandle]>,
        tls: &Arc<ClientTls>,
        (memory, descriptors): (Budget, &Descriptors),
    ) -> Self {
        let dialers = shards.iter().map(|shard| {
            let shard = shard.clone();
            Dialer {
                tls: Arc::clone(tls),
                gathers: Gathers::new(move |driver| {
                    shard.spawn_vital(driver.run());
                }),
            }
        });
        let dialers: Arc<[Dialer]> = dialers.collect();
        Self {
            inheritance: Inheritance::default(),
            by_name: BTreeMap::new(),
            launcher: Arc::new(Launcher::new(&shards, &dialers, descriptors)),
            dialers,
            shards,
            memory,
        }
    }

    /// Sets what channels begin with that are begun from now on.
    pub(super) fn set_inheritance(&mut self, inheritance: Inheritance) {
        self.inheritance = inheritance;
    }

    /// Begins a channel, and its upstream, on the shard that has the fewest, if it does not wait for
    /// somebody who asks.
    pub(super) fn begin(&mut self, settings: &Arc<config::Channel>) {
        let running = match settings.connect {
            _ if settings.bundle.is_some() => {
                let channel = Channel::of_bundle(Arc::clone(settings), &self.memory);
                Some(Running::Bundle(channel))
            }
            Connect::Eager => self.begin_eager(settings),
            Connect::OnDemand => Some(Running::Template(self.make_template(settings))),
        };
        if let Some(running) = running {
            let launcher = Arc::<Launcher>::clone(&self.launcher);
            let views = Views::new(&self.memory, launcher);
            running.source().kind().set_views(views);
            self.by_name.insert(settings.name.clone(), running);
        }
    }

    fn begin_eager(&self, settings: &Arc<config::Channel>) -> Option<Running> {
        let home = self.emptiest_shard();
        let shard = self.shards.get(home)?;
        let dialer = self.dialers.get(home)?.clone();
        let (channel, upstream) = self.make(settings);
        let upstream = shard.spawn_vital(async move { match upstream.run(dialer).await {} });
        Some(Running::Channel {
            channel,
            home,
            upstream,
        })
    }

    fn make_template(&self, settings: &Arc<config::Channel>) -> Template {
        let launcher = Arc::clone(&self.launcher);
        let template = Template::new(Arc::clone(settings), &self.memory, launcher);
        if let Some(heirlooms) = self.inheritance.of_instances(settings, &self.memory) {
            template.set_heirlooms(heirlooms, Instant::now());
        }
        template
    }

    /// A channel that goes on where its predecessor was, if it had one.
    fn make(&self, settings: &Arc<config::Channel>) -> (Channel, Upstream) {
        if let Some(left) = self.inheritance.of(&settings.name) {
            match Channel::succeed(Arc::clone(settings), &self.memory, (&left.0, left.1)) {
                Ok(made) => return made,
                Err(error) => {
                    let name = &settings.name;
                    tracing::warn!(channel = name, %error, "the channel's history is not used");
                }
            }
        }
        Channel::new(Arc::clone(settings), &self.memory)
    }

    /// Lets the channel of this name do something else; returns it, or its instances, so that the
    /// shards can be told.
    pub(super) fn reconfigure(
        &self,
        settings: &Arc<config::Channel>,
        now: Instant,
    ) -> Vec<Channel> {
        let Some(running) = self.by_name.get(&settings.name) else {
            return Vec::new();
        };
        match running {
            Running::Bundle(channel) | Running::Channel { channel, .. } => {
                channel.reconfigure(Arc::clone(settings), now);
            }
            Running::Template(template) => {
                template.reconfigure(settings, now);
            }
        }
        running.source().all()
    }

    /// Gives up the views of the channel of this name, whose clients are to leave.
    pub(super) fn give_up_views(&self, name: &str) -> Vec<Channel> {
        let running = self.by_name.get(name).map(Running::source);
        let views = running.as_ref().and_then(|source| source.kind().views());
        views.map(Views::give_up).unwrap_or_default()
    }

    /// Takes a channel out. It goes on until whoever has it now ends it.
    pub(super) fn remove(&mut self, name: &str) -> Option<Retired> {
        let running = self.by_name.remove(name)?;
        let source = running.source();
        let upstream = match running {
            Running::Channel { upstream, .. } => Some(upstream),
            Running::Bundle(_) | Running::Template(_) => None,
        };
        Some(Retired { source, upstream })
    }

    /// What runs, ordered by name.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.by_name.values().map(Running::source)
    }

    /// The channels, ordered by name; of those on demand, the instances that there are.
    pub(super) fn all(&self) -> Vec<Channel> {
        self.sources().flat_map(|one| one.channels()).collect()
    }

    /// Forgets what is too old, of logs to which nothing is appended and of what was inherited.
    pub(super) fn evict(&self, now: Instant) {
        for channel in self.sources().flat_map(|one| one.all()) {
            channel.log().evict(now);
        }
        for source in self.sources() {
            if let Some(template) = source.template() {
                template.forget_heirlooms(now);
            }
        }
    }

    /// Where requests lead, with the channels' present settings.
    pub(super) fn routes(&self, pages: &[(&'static str, Page)]) -> Routes {
        let mut routes = Routes::default();
        for running in self.by_name.values() {
            match running {
                Running::Channel { channel, home, .. } => {
                    routes.add_channel(channel.clone(), *home);
                }
                Running::Bundle(channel) => {
                    routes.add_bundle(channel.clone(), self.members(channel));
                }
                Running::Template(template) => routes.add_template(template.clone()),
            }
        }
        for (path, page) in pages {
            routes.add_page(path, *page);
        }
        routes
    }

    /// The channels of a bundle, each with the shard of its upstream.
    fn members(&self, bundle: &Channel) -> BTreeMap<String, (Channel, usize)> {
        let settings = bundle.settings();
        let names = settings.bundle.iter().flat_map(|bundle| &bundle.channels);
        let members = names.filter_map(|name| match self.by_name.get(name)? {
            Running::Channel { channel, home, .. } => {
                Some((name.clone(), (channel.clone(), *home)))
            }
            Running::Bundle(_) | Running::Template(_) => None,
        });
        members.collect()
    }

    /// Views that have one of these channels among others.
    pub(super) fn views_of(&self, channels: &[Channel]) -> Vec<Channel> {
        let ids: Vec<usize> = channels.iter().map(Channel::identity).collect();
        let all = self.sources().flat_map(|source| source.all());
        all.filter(|view| {
            view.sources()
                .iter()
                .any(|one| ids.contains(&one.identity()))
        })
        .collect()
    }

    fn emptiest_shard(&self) -> usize {
        let mut n_channels = vec![0_usize; self.shards.len()];
        for running in self.by_name.values() {
            if let Running::Channel { home, .. } = running
                && let Some(n) = n_channels.get_mut(*home)
            {
                *n += 1;
            }
        }
        let numbered = n_channels.into_iter().enumerate();
        let emptiest = numbered.min_by_key(|(_, n)| *n);
        emptiest.map_or(0, |(home, _)| home)
    }
}

impl Running {
    fn source(&self) -> Source {
        match self {
            Self::Bundle(channel) | Self::Channel { channel, .. } => {
                Source::Channel(channel.clone())
            }
            Self::Template(template) => Source::Template(template.clone()),
        }
    }
}

impl Retired {
    /// Ends what writes it.
    pub(super) fn end(&self) {
        if let Some(upstream) = &self.upstream {
            upstream.abort();
        }
        if let Some(template) = self.source.template() {
            template.abort();
        }
        if let Some(views) = self.source.kind().views() {
            views.abort();
        }
    }
}
