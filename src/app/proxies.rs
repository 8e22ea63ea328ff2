//! The proxies that run, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;
use crate::proxy::{Dialer, Proxy};

/// The proxies that run. What they do is done by the connections of their clients.
#[derive(Debug)]
pub(super) struct Proxies {
    by_name: BTreeMap<String, Arc<Proxy>>,
    dialer: Dialer,
    n_shards: usize,
}

impl Proxies {
    pub(super) fn new(dialer: Dialer, n_shards: usize) -> Self {
        Self {
            by_name: BTreeMap::new(),
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
        self.by_name.remove(name)
    }

    /// The proxies, ordered by name.
    pub(super) fn all(&self) -> Vec<Arc<Proxy>> {
        self.by_name.values().map(Arc::clone).collect()
    }
}
