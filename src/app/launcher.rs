//! Where instances on demand live: on each shard in turn; views, where their source does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::AbortHandle;

use crate::channel::{Berth, Dialer, Launch, Task, Threads};
use crate::delivery::ShardHandle;

/// Gives each instance a shard.
#[derive(Debug)]
pub(super) struct Launcher {
    shards: Arc<[ShardHandle]>,
    /// By shard.
    dialers: Arc<[Dialer]>,
    next: AtomicUsize,
}

impl Launcher {
    pub(super) fn new(shards: &Arc<[ShardHandle]>, dialers: &Arc<[Dialer]>) -> Self {
        Self {
            shards: Arc::clone(shards),
            dialers: Arc::clone(dialers),
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
    fn berth(&self) -> Option<Berth> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let home = turn % self.shards.len().max(1);
        Some(Berth {
            home,
            runtime: self.shards.get(home)?.runtime().clone(),
            dialer: self.dialers.get(home)?.clone(),
        })
    }

    fn note_broken(&self, home: usize) {
        tracing::error!(shard = home, "an instance broke");
        if let Some(shard) = self.shards.get(home) {
            shard.note_broken();
        }
    }
}
