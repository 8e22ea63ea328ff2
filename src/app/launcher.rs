//! Where instances on demand live: on each shard in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::AbortHandle;

use crate::channel::{Dialer, Launch, Run};
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

impl Launch for Launcher {
    fn launch(&self, run: Run) -> Option<(usize, AbortHandle)> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let home = turn % self.shards.len().max(1);
        let shard = self.shards.get(home)?;
        let dialer = self.dialers.get(home)?.clone();
        Some((home, shard.spawn_instance(run(dialer))))
    }
}
