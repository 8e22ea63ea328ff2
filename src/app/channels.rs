//! The channels that run, by name, and the tasks that hold their upstreams.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{Channel, Dialer};
use crate::config;
use crate::delivery::ShardHandle;
use crate::http::{Page, Routes};
use crate::memory::Budget;
use crate::net::client_tls::ClientTls;
use crate::net::gather::Gather;

/// The channels that run. They live on the shards' threads, and end with them.
#[derive(Debug)]
pub(super) struct Channels {
    by_name: BTreeMap<String, Running>,
    shards: Arc<[ShardHandle]>,
    tls: Arc<ClientTls>,
    /// What their logs count to.
    memory: Budget,
    /// By shard and window.
    gathers: HashMap<(usize, Duration), Gather>,
}

/// A channel, and who writes it.
#[derive(Debug)]
struct Running {
    channel: Channel,
    /// The shard of its upstream.
    home: usize,
}

impl Channels {
    pub(super) fn new(shards: Arc<[ShardHandle]>, tls: Arc<ClientTls>, memory: Budget) -> Self {
        Self {
            by_name: BTreeMap::new(),
            shards,
            tls,
            memory,
            gathers: HashMap::new(),
        }
    }

    /// Begins a channel and its upstream, on the shard that has the fewest.
    ///
    /// # Errors
    ///
    /// If the system gives no poll for `coalesce`.
    pub(super) fn begin(&mut self, settings: &Arc<config::Channel>) -> io::Result<()> {
        let Some(home) = self.emptiest_shard() else {
            return Ok(());
        };
        let dialer = self.dialer(home, settings.coalesce)?;
        let Some(shard) = self.shards.get(home) else {
            return Ok(());
        };
        let (channel, upstream) = Channel::new(Arc::clone(settings), &self.memory);
        shard.spawn_vital(async move {
            upstream.run(dialer).await;
            Ok(())
        });
        let running = Running { channel, home };
        self.by_name.insert(settings.name.clone(), running);
        Ok(())
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

    fn emptiest_shard(&self) -> Option<usize> {
        let mut n_channels = vec![0_usize; self.shards.len()];
        for running in self.by_name.values() {
            if let Some(n) = n_channels.get_mut(running.home) {
                *n += 1;
            }
        }
        let numbered = n_channels.into_iter().enumerate();
        numbered.min_by_key(|(_, n)| *n).map(|(home, _)| home)
    }

    /// How a channel of this shard reaches its origin.
    fn dialer(&mut self, home: usize, coalesce: Duration) -> io::Result<Dialer> {
        let tls = Arc::clone(&self.tls);
        let Some(shard) = self.shards.get(home).filter(|_| !coalesce.is_zero()) else {
            return Ok(Dialer { tls, gather: None });
        };
        let gather = match self.gathers.entry((home, coalesce)) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let (gather, driver) = Gather::new(coalesce)?;
                shard.spawn_vital(driver.run());
                entry.insert(gather).clone()
            }
        };
        Ok(Dialer {
            tls,
            gather: Some(gather),
        })
    }
}
