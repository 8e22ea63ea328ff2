//! Where instances on demand live: on each shard in turn; views, where their source does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::AbortHandle;

use crate::channel::{Berth, Dialer, Launch, RefusedBy, Task, Threads};
use crate::delivery::ShardHandle;
use crate::net::descriptors::Descriptors;

/// Gives each instance a shard.
#[derive(Debug)]
pub(super) struct Launcher {
    shards: Arc<[ShardHandle]>,
    /// By shard.
    dialers: Arc<[Dialer]>,
    /// Of which each takes one for its upstream.
    descriptors: Descriptors,
    next: AtomicUsize,
}

impl Launcher {
    pub(super) fn new(
        shards: &Arc<[ShardHandle]>,
        dialers: &Arc<[Dialer]>,
        descriptors: &Descriptors,
    ) -> Self {
        Self {
            shards: Arc::clone(shards),
            dialers: Arc::clone(dialers),
            descriptors: descriptors.clone(),
            next: AtomicUsize::new(0),
        }
    }
}

impl Threads for Launcher {
    fn spawn(&self, shard: usize, task: Task) -> Option<AbortHandle> {
        let shard = self.shards.get(shard)?;
        Some(shard.spawn_vital(async move {
            task.await;
            Ok(())
        }))
    }
}

impl Launch for Launcher {
    fn berth(&self) -> Result<Berth, RefusedBy> {
        let descriptor = self.descriptors.take().ok_or(RefusedBy::MaxConnections)?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let home = turn % self.shards.len().max(1);
        let place = self.shards.get(home).zip(self.dialers.get(home));
        let (shard, dialer) = place.ok_or(RefusedBy::Stop)?;
        Ok(Berth {
            home,
            runtime: shard.runtime().clone(),
            dialer: dialer.clone(),
            descriptor,
        })
    }

    fn note_broken(&self, home: usize) {
        tracing::error!(shard = home, "an instance broke");
        if let Some(shard) = self.shards.get(home) {
            shard.note_broken();
        }
    }
}
