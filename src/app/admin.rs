//! The admin listeners: bound as the configuration says, and served until the process ends.
//!
//! Binding comes first and can fail; [`AdminListeners::apply`] can't.

use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::RunError;
use crate::admin::{Facts, serve};
use crate::config::ListenAddress;
use crate::net::listener::Listener;

/// The admin listeners that answer. Dropping it closes all of them.
#[derive(Debug, Default)]
pub(super) struct AdminListeners {
    /// By the address as it is written.
    running: Vec<(ListenAddress, AbortHandle)>,
    /// Owns the tasks, and what they hold: the listening sockets and the connections.
    tasks: JoinSet<()>,
}

/// An admin listener that nobody answers on yet, by the address as it is written.
#[derive(Debug)]
pub(super) struct BoundAdmin(ListenAddress, Listener);

impl AdminListeners {
    /// Binds those of the addresses that are not bound yet. Must be called inside the runtime that
    /// will serve.
    ///
    /// # Errors
    ///
    /// The first that can't be had; none is bound then.
    pub(super) fn prepare(&self, addresses: &[ListenAddress]) -> Result<Vec<BoundAdmin>, RunError> {
        let is_new = |address: &&ListenAddress| self.running.iter().all(|(old, _)| old != *address);
        addresses
            .iter()
            .filter(is_new)
            .map(|address| {
                let bound = Listener::bind(address).map_err(|cause| RunError::AdminListen {
                    address: address.clone(),
                    cause,
                })?;
                Ok(BoundAdmin(address.clone(), bound))
            })
            .collect()
    }

    /// The addresses that are bound, as they are written.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.running.iter().map(|(address, _)| address)
    }

    /// Answers at these addresses and no others, from now on. `bound` is what was prepared for them.
    pub(super) fn apply(
        &mut self,
        addresses: &[ListenAddress],
        bound: Vec<BoundAdmin>,
        facts: &Arc<Facts>,
    ) {
        // Those that were closed by an earlier reload need no owner any more.
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|(address, task)| {
            let is_kept = addresses.contains(address);
            if !is_kept {
                task.abort();
            }
            is_kept
        });
        for BoundAdmin(address, listener) in bound {
            tracing::info!(address = %listener.address(), "tells metrics and health");
            let task = self.tasks.spawn(serve(listener, Arc::clone(facts)));
            self.running.push((address, task));
        }
    }
}
