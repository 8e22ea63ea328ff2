//! One downstream connection: requests, their answers, and the hand-over to delivery.
//!
//! hyper reads requests and writes short answers. Once a subscription is accepted, the socket is
//! taken out of hyper and given to a shard; from then on no HTTP library touches it.

mod accept;
mod answer;
mod connection;
mod cors;
mod head;
mod route;
mod service;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

pub use self::connection::{Seen, serve_connection};
pub use self::route::{Page, Routes};
use crate::config;
use crate::delivery::ShardHandle;

/// What all connections share.
#[derive(Debug)]
pub struct Gateway {
    /// Settings of the process.
    pub server: config::Server,
    /// Which channel answers to which request; replaced as a whole.
    pub routes: ArcSwap<Routes>,
    /// Where subscribers are served.
    pub shards: Arc<[ShardHandle]>,
    /// The shard that gets the next connection.
    next_shard: AtomicUsize,
}

impl Gateway {
    /// A gateway to what `routes` lead to.
    pub fn new(server: config::Server, routes: Routes, shards: Arc<[ShardHandle]>) -> Self {
        let routes = ArcSwap::from_pointee(routes);
        Self {
            server,
            routes,
            shards,
            next_shard: AtomicUsize::new(0),
        }
    }

    /// The shard for a new connection: each in turn.
    pub fn next_shard(&self) -> (usize, Option<&ShardHandle>) {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        let index = turn % self.shards.len().max(1);
        (index, self.shards.get(index))
    }
}
