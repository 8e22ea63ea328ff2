//! The proxies that run, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::config;
use crate::proxy::tunnel::Farewell;
use crate::proxy::{Dialer, Proxy};

/// The proxies that run. What they do is done by the connections of their clients.
#[derive(Debug)]
pub(super) struct Proxies {
    by_name: BTreeMap<String, Arc<Proxy>>,
    /// Those that were removed, some of whose tunnels may still be there.
    leaving: Vec<Arc<Proxy>>,
    dialer: Dialer,
    n_shards: usize,
}

/// How long after the deadline the last tunnel may take, on a busy machine.
const GRACE: Duration = Duration::from_secs(2);

/// Ends the tunnels of these proxies until `deadline`, evenly. Ready when the last is gone.
pub(super) async fn end_tunnels(proxies: Vec<Arc<Proxy>>, why: Farewell, deadline: Instant) {
    for proxy in &proxies {
        proxy.tunnels().part(why, deadline);
    }
    for proxy in &proxies {
        let gone = proxy.tunnels().gone();
        if timeout_at(deadline + GRACE, gone).await.is_err() {
            tracing::warn!(
                proxy = proxy.settings().name,
                "some tunnels were still there when all should have ended"
            );
        }
    }
}

impl Proxies {
    pub(super) fn new(dialer: Dialer, n_shards: usize) -> Self {
        Self {
            by_name: BTreeMap::new(),
            leaving: Vec::new(),
            dialer,
            n_shards,
        }
    }

    /// Begins a proxy.
    pub(super) fn begin(&mut self, settings: &Arc<config::Proxy>) {
        let proxy = Proxy::new(Arc::clone(settings), self.dialer.clone(), self.n_shards);
        self.by_name.insert(settings.name.clone(), Arc::new(proxy));
    }

    /// Lets the proxy of this name do something else; returns the one that is to be retired, if its
    /// connections are of no more use.
    pub(super) fn reconfigure(&mut self, settings: &Arc<config::Proxy>) -> Option<Arc<Proxy>> {
        let old = self.by_name.get(&settings.name)?;
        let new = Arc::new(old.succeeded_by(Arc::clone(settings)));
        let old = self
            .by_name
            .insert(settings.name.clone(), Arc::clone(&new))?;
        (!old.shares_connections(&new)).then_some(old)
    }

    /// Takes a proxy out, which is to be retired.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<Proxy>> {
        let removed = self.by_name.remove(name)?;
        self.leaving.retain(|proxy| proxy.n_tunnels() > 0);
        self.leaving.push(Arc::clone(&removed));
        Some(removed)
    }

    /// The proxies, ordered by name.
    pub(super) fn all(&self) -> Vec<Arc<Proxy>> {
        self.by_name.values().map(Arc::clone).collect()
    }

    /// All that may have tunnels: those that were removed, too.
    pub(super) fn all_with_tunnels(&self) -> Vec<Arc<Proxy>> {
        let all = self.by_name.values().chain(&self.leaving);
        all.map(Arc::clone).collect()
    }
}
