//! Connecting to an endpoint, or to the first that can be connected to.

use std::sync::Arc;

use tokio::time::Instant;

use super::Proxy;
use super::endpoints::Tried;
use super::error::{Chain, Error};
use super::pool::Pool;
use crate::net::connect::{Connection, Protocol};
use crate::net::descriptors::Descriptor;

/// A new connection to an endpoint, and its place.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) place: usize,
    pub(super) connection: Connection,
    pub(super) descriptor: Descriptor,
}

impl Proxy {
    /// A new connection to the first endpoint that can be connected to, for who has its own use for it.
    ///
    /// # Errors
    ///
    /// Why the last of them can't be.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(super) async fn reach(&self, shard: usize, protocol: Protocol) -> Result<Reached, Error> {
        let pool = self.pools.get(shard).ok_or(Error::NoEndpoint)?;
        let mut tried = Tried::default();
        let mut last = Error::NoEndpoint;
        while let Some(place) = pool.choose(tried, self.settings.connect_timeout) {
            if !tried.is_empty() {
                self.note_failover(place);
            }
            tried.add(place);
            match self.connect(pool, place, protocol).await {
                Ok(reached) => return Ok(reached),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A new connection to an endpoint. Notes how that went.
    pub(super) async fn connect(
        &self,
        pool: &Arc<Pool>,
        place: usize,
        protocol: Protocol,
    ) -> Result<Reached, Error> {
        let target = self.targets.get(place).ok_or(Error::NoEndpoint)?;
        match self
            .dialer
            .connect(&self.settings, (target, protocol))
            .await
        {
            Ok((connection, descriptor)) => {
                pool.worked(place);
                self.counters.connects.add(1);
                Ok(Reached {
                    place,
                    connection,
                    descriptor,
                })
            }
            Err(error) => {
                // That is not its fault.
                if !matches!(error, Error::NoDescriptor(_)) {
                    pool.failed(place);
                    self.tell(place, &error);
                }
                Err(error)
            }
        }
    }

    /// Notes that a request goes to the next endpoint.
    pub(super) fn note_failover(&self, place: usize) {
        self.counters.failovers.add(1);
        let upstream = self.settings.upstreams.get(place).map(ToString::to_string);
        tracing::debug!(proxy = self.settings.name, upstream, "a request fails over");
    }

    /// Notes that a request is sent to the same endpoint once more.
    pub(super) fn note_retry(&self) {
        self.counters.retries.add(1);
        tracing::debug!(proxy = self.settings.name, "a request is sent once more");
    }

    fn tell(&self, place: usize, error: &Error) {
        let Some(withheld) = self.telling.admit(Instant::now()) else {
            return;
        };
        let upstream = self.settings.upstreams.get(place).map(ToString::to_string);
        tracing::warn!(
            proxy = self.settings.name,
            upstream,
            withheld,
            reason = error.reason().name(),
            error = %Chain(error),
            "an upstream can't be connected to"
        );
    }
}
