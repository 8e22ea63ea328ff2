//! One downstream connection: requests, their answers, and the hand-over to delivery.
//!
//! hyper reads requests and writes short answers. Once a subscription is accepted on HTTP/1.1, the
//! socket is taken out of hyper and given to a shard; from then on no HTTP library touches it. On
//! HTTP/2 the connection stays with hyper, and a shard feeds the body of the response.

mod accept;
mod answer;
mod closing;
mod connection;
mod cors;
mod document;
mod fetch;
mod head;
mod http1;
mod http2;
mod pace;
mod pass;
mod preface;
mod reply;
mod route;
mod selection;
mod service;
mod standing;
mod stop;
mod subscribe;
mod tunnel;
mod visitor;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};

pub use self::connection::{Seen, serve_connection};
pub use self::route::{Page, Routes};
pub use self::selection::{BadQuery, Selected};
pub use self::stop::Stop;
use crate::config;
use crate::delivery::ShardHandle;
use crate::memory::Budget;
use crate::net::addresses::Addresses;
use crate::net::gate::Gate;
use crate::net::proxy_protocol::ProxyErrors;

/// What all connections share.
#[derive(Debug)]
pub struct Gateway {
    /// What requests are answered by; replaced as a whole.
    current: ArcSwap<Current>,
    /// Where subscribers are served.
    pub shards: Arc<[ShardHandle]>,
    /// Whether it stops.
    pub stop: Stop,
    /// What connections count to.
    pub memory: Budget,
    /// Where connections wait for their turn.
    pub gate: Gate<Seen>,
    /// How many come from where.
    pub addresses: Addresses,
    /// What went wrong before connections began.
    pub proxy_errors: ProxyErrors,
    /// Subscriptions by trusted proxies that do not say for whom.
    pub n_unattributed: AtomicU64,
    /// The shard that gets the next connection.
    next_shard: AtomicUsize,
}

/// What requests are answered by. A request sees one of them, from its head to its answer.
#[derive(Debug)]
pub struct Current {
    /// Settings of the process.
    pub server: config::Server,
    /// Which channel answers to which request.
    pub routes: Routes,
}

impl Gateway {
    /// A gateway to what the routes of `current` lead to.
    pub fn new(current: Current, shards: Arc<[ShardHandle]>, memory: Budget) -> Self {
        let addresses = Addresses::default();
        addresses.set_limits(current.server.address_limits);
        Self {
            gate: Gate::new(current.server.connection_rate),
            addresses,
            proxy_errors: ProxyErrors::default(),
            n_unattributed: AtomicU64::new(0),
            current: ArcSwap::from_pointee(current),
            shards,
            stop: Stop::default(),
            memory,
            next_shard: AtomicUsize::new(0),
        }
    }

    /// What requests are answered by at present. For a short look; who keeps it longer takes the
    /// `Arc` out of it.
    pub fn current(&self) -> Guard<Arc<Current>> {
        self.current.load()
    }

    /// Answers requests, and lets connections in, by this from now on.
    pub fn replace(&self, current: Current) {
        self.gate.set_rate(current.server.connection_rate);
        self.addresses.set_limits(current.server.address_limits);
        self.current.store(Arc::new(current));
    }

    /// The shard for a new connection: each in turn.
    pub fn next_shard(&self) -> (usize, Option<&ShardHandle>) {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        let index = turn % self.shards.len().max(1);
        (index, self.shards.get(index))
    }
}
