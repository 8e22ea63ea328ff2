//! The listeners that are bound, and the loops that accept from them.
//!
//! Binding comes first and can fail; [`Listeners::serve`] can't. So a set of listeners is bound as a
//! whole before the first of them accepts.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::RunError;
use crate::admin;
use crate::config::{self, ListenAddress};
use crate::http::{Gateway, Seen, serve_connection};
use crate::net::listener::Listener;
use crate::net::permit::{Admission, Permits};
use crate::net::tls::ServerTls;

/// The listeners that accept. Dropping it closes all of them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    running: Vec<Running>,
    /// Owns the accept loops, and what they hold: the listening sockets.
    accepting: JoinSet<()>,
}

/// A listening socket that nobody accepts from yet.
#[derive(Debug)]
pub(super) struct Bound {
    listener: Listener,
    name: String,
    /// Of all addresses of the listener; `None`: in the clear.
    tls: Option<Arc<ServerTls>>,
}

/// What every accept loop needs.
#[derive(Debug, Clone)]
pub(super) struct Reception {
    pub(super) gateway: Arc<Gateway>,
    pub(super) permits: Permits,
}

/// One address of one listener that accepts.
#[derive(Debug)]
struct Running {
    name: String,
    /// With the port that the kernel chose.
    address: ListenAddress,
    tls: Option<Arc<ServerTls>>,
}

/// Time between two warnings that clients are refused.
const REFUSALS_QUIET: Duration = Duration::from_secs(10);

impl Bound {
    /// Binds every address of these listeners. Must be called inside the runtime that will accept.
    ///
    /// # Errors
    ///
    /// The first address that can't be had; none is bound then.
    pub(super) fn all(listeners: &[config::Listener]) -> Result<Vec<Self>, RunError> {
        let mut bound = Vec::new();
        for listener in listeners {
            let name = &listener.name;
            let tls = server_tls(listener)?;
            for address in &listener.addresses {
                bound.push(Self::bind(name, address, tls.clone())?);
            }
        }
        Ok(bound)
    }

    fn bind(
        name: &str,
        address: &ListenAddress,
        tls: Option<Arc<ServerTls>>,
    ) -> Result<Self, RunError> {
        let listener = Listener::bind(address).map_err(|cause| RunError::Listen {
            name: name.to_owned(),
            address: address.clone(),
            cause,
        })?;
        Ok(Self {
            listener,
            name: name.to_owned(),
            tls,
        })
    }
}

/// How a listener speaks TLS; `None`: it does not.
fn server_tls(listener: &config::Listener) -> Result<Option<Arc<ServerTls>>, RunError> {
    let Some(settings) = &listener.tls else {
        return Ok(None);
    };
    let tls = ServerTls::load(&listener.name, settings).map_err(|cause| {
        let name = listener.name.clone();
        RunError::Certificate { name, cause }
    })?;
    tls.announce();
    Ok(Some(Arc::new(tls)))
}

impl Listeners {
    /// Accepts from now on.
    pub(super) fn serve(&mut self, bound: Bound, reception: Reception) {
        let address = bound.listener.address().clone();
        let (name, tls) = (bound.name.clone(), bound.tls.clone());
        let scheme = if bound.tls.is_some() { "https" } else { "http" };
        tracing::info!(%address, listener = bound.name, scheme, "listening");
        self.accepting
            .spawn(async move { accept(bound, reception).await });
        self.running.push(Running { name, address, tls });
    }

    /// The addresses that were bound.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.running.iter().map(|running| &running.address)
    }

    /// Who is reached where, for the status.
    pub(super) fn places(&self) -> Vec<admin::Place> {
        let places = self.running.iter().map(|running| admin::Place {
            listener: running.name.clone(),
            address: running.address.to_string(),
            tls: running.tls.clone(),
        });
        places.collect()
    }

    /// Stops accepting and closes the sockets; connections that were accepted go on.
    pub(super) async fn close(&mut self) {
        self.running.clear();
        self.accepting.shutdown().await;
    }
}

/// Accepts for ever; ends when it is aborted.
async fn accept(bound: Bound, reception: Reception) -> ! {
    let Bound { listener, tls, .. } = bound;
    let Reception { gateway, permits } = reception;
    let mut quiet_until = Instant::now();
    loop {
        let socket = listener.accept().await;
        let acquired = permits.acquire();
        let is_refused = !matches!(acquired, Some((_, Admission::Admitted)));
        if is_refused && quiet_until <= Instant::now() {
            quiet_until = Instant::now() + REFUSALS_QUIET;
            tracing::warn!("max_connections or memory is reached: new clients are refused");
        }
        let Some((permit, admission)) = acquired else {
            // Refusing takes a descriptor too, and there is none to spare.
            tracing::debug!("closed a connection beyond the reserve for refusals");
            continue;
        };
        if let (number, Some(shard)) = gateway.next_shard() {
            let seen = Seen {
                socket,
                tls: tls.clone(),
                permit,
                admission,
                shard: number,
            };
            shard.spawn(serve_connection(Arc::clone(&gateway), seen));
        }
    }
}
