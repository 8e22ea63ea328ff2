//! The channels that run, by name, and the tasks that hold their upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::channel::{Channel, Dialer, Upstream};
use crate::config;
use crate::delivery::ShardHandle;
use crate::http::{Page, Routes};
use crate::memory::Budget;
use crate::net::client_tls::ClientTls;
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
    dialers: Vec<Dialer>,
    /// What the process before left of them.
    inheritance: Inheritance,
}

/// A channel, and who writes it.
#[derive(Debug)]
struct Running {
    channel: Channel,
    /// The shard of its upstream.
    home: usize,
    upstream: AbortHandle,
}

/// A channel that is gone from the configuration, and has yet to end.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) channel: Channel,
    /// Goes on until the last subscriber has said goodbye.
    pub(super) upstream: AbortHandle,
}

impl Channels {
    pub(super) fn new(shards: Arc<[ShardHandle]>, tls: &Arc<ClientTls>, memory: Budget) -> Self {
        let dialers = shards.iter().map(|shard| {
            let shard = shard.clone();
            Dialer {
                tls: Arc::clone(tls),
                gathers: Gathers::new(move |driver| {
                    shard.spawn_vital(driver.run());
                }),
            }
        });
        Self {
            inheritance: Inheritance::default(),
            by_name: BTreeMap::new(),
            dialers: dialers.collect(),
            shards,
            memory,
        }
    }

    /// Sets what channels begin with that are begun from now on.
    pub(super) fn set_inheritance(&mut self, inheritance: Inheritance) {
        self.inheritance = inheritance;
    }

    /// Begins a channel and its upstream, on the shard that has the fewest.
    pub(super) fn begin(&mut self, settings: &Arc<config::Channel>) {
        let home = self.emptiest_shard();
        let (Some(shard), Some(dialer)) = (self.shards.get(home), self.dialers.get(home)) else {
            return;
        };
        let (channel, upstream) = self.make(settings);
        let dialer = dialer.clone();
        let upstream = shard.spawn_vital(async move { upstream.run(dialer).await });
        let running = Running {
            channel,
            home,
            upstream,
        };
        self.by_name.insert(settings.name.clone(), running);
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

    /// Lets the channel of this name do something else; returns it, so that the shards can be told.
    pub(super) fn reconfigure(
        &self,
        settings: &Arc<config::Channel>,
        now: Instant,
    ) -> Option<Channel> {
        let running = self.by_name.get(&settings.name)?;
        running.channel.reconfigure(Arc::clone(settings), now);
        Some(running.channel.clone())
    }

    /// Takes a channel out. It goes on until whoever has it now ends it.
    pub(super) fn remove(&mut self, name: &str) -> Option<Retired> {
        let Running {
            channel, upstream, ..
        } = self.by_name.remove(name)?;
        Some(Retired { channel, upstream })
    }

    /// The channels, ordered by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.by_name.values().map(|running| &running.channel)
    }

    /// Where requests lead, with the channels' present settings.
    pub(super) fn routes(&self, pages: &[(&'static str, Page)]) -> Routes {
        let mut routes = Routes::default();
        for running in self.by_name.values() {
            routes.add_channel(running.channel.clone(), running.home);
        }
        for (path, page) in pages {
            routes.add_page(path, *page);
        }
        routes
    }

    fn emptiest_shard(&self) -> usize {
        let mut n_channels = vec![0_usize; self.shards.len()];
        for running in self.by_name.values() {
            if let Some(n) = n_channels.get_mut(running.home) {
                *n += 1;
            }
        }
        let numbered = n_channels.into_iter().enumerate();
        let emptiest = numbered.min_by_key(|(_, n)| *n);
        emptiest.map_or(0, |(home, _)| home)
    }
}
