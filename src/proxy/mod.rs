//! Requests that are passed through to a backend.
//!
//! A request is passed on by the task of its client's connection, on the thread of that: nothing of it
//! crosses threads. Bodies stream both ways: what one side does not take is not read from the other.
//! Which endpoint is asked, and when once more, is decided in `exchange`; connections are kept in
//! `pool`.

mod answer;
mod counters;
mod dialer;
mod download;
mod endpoints;
mod error;
mod exchange;
mod feed;
pub mod fields;
mod heartbeat;
mod in_flight;
mod link;
mod loan;
mod patience;
mod pool;
mod reach;
mod shared;
mod telling;
#[cfg(test)]
mod test_bodies;
pub mod tunnel;
mod turn;
mod upload;
mod wire;

use std::sync::Arc;

use http::request::Parts;
use http::uri::Scheme;
use http::{Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use self::answer::Answer;
pub use self::counters::Counters;
pub use self::dialer::Dialer;
pub use self::download::{BrokeOff, Download as Body};
use self::error::{Chain, Error};
pub use self::error::{Failure, Reason};
use self::exchange::Exchange;
use self::feed::Feed;
use self::heartbeat::Heartbeat;
use self::in_flight::{InFlight, Requests};
pub use self::patience::Patience;
use self::pool::{Limits, Pool};
use self::telling::Telling;
use self::tunnel::Tunnels;
use self::upload::{Expectation, Upload, Watch};
use crate::config::diff::ProxyChange;
use crate::config::{self, TrustedProxies};
use crate::memory::{Budget, Held, WhatFor};
use crate::net::connect::Target;
use crate::net::peer::PeerAddr;

/// A proxy that runs. A reload that changes it makes another one, which goes on with the counters; what
/// is under way ends as it began.
#[derive(Debug)]
pub struct Proxy {
    settings: Arc<config::Proxy>,
    counters: Arc<Counters>,
    /// Whom to connect to, by endpoint.
    targets: Box<[Target]>,
    dialer: Dialer,
    /// By shard.
    pools: Box<[Arc<Pool>]>,
    requests: Requests,
    telling: Telling,
    tunnels: Tunnels,
}

/// A request that is to be passed on, but for its body.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Its head, as the client sent it.
    pub head: &'a Parts,
    /// Who sent it.
    pub peer: PeerAddr,
    /// Who may speak for others.
    pub trusted: &'a TrustedProxies,
    /// How it came.
    pub scheme: &'a Scheme,
    /// What its content counts to, as far as it waits in memory.
    pub memory: &'a Budget,
    /// The shard whose thread this is.
    pub shard: usize,
}

impl Proxy {
    /// A proxy that begins, on so many shards.
    pub fn new(settings: Arc<config::Proxy>, dialer: Dialer, n_shards: usize) -> Self {
        let (n_endpoints, limits) = (settings.upstreams.len(), limits(&settings));
        let pools = (0..n_shards).map(|_| Arc::new(Pool::new(n_endpoints, limits)));
        Self {
            targets: settings.upstreams.iter().map(dialer::target).collect(),
            pools: pools.collect(),
            settings,
            counters: Arc::default(),
            dialer,
            requests: Requests::default(),
            telling: Telling::default(),
            tunnels: Tunnels::default(),
        }
    }

    /// The proxy that goes on for this one with other settings: with its connections where they are as
    /// good for it, else this one is to be retired when nobody is led to it any more.
    #[must_use]
    pub fn succeeded_by(&self, settings: Arc<config::Proxy>) -> Self {
        let keeps_connections = settings.touches(&self.settings) != ProxyChange::Connections;
        let mut next = Self::new(settings, self.dialer.clone(), self.pools.len());
        if keeps_connections {
            next.pools.clone_from(&self.pools);
            for pool in &next.pools {
                pool.set_limits(limits(&next.settings));
            }
        }
        next.counters = Arc::clone(&self.counters);
        // They are bounded together.
        next.requests = self.requests.clone();
        next.tunnels = self.tunnels.clone();
        next
    }

    /// Whether this one's connections are those of another one, too.
    pub fn shares_connections(&self, other: &Self) -> bool {
        let mut pools = self.pools.iter().zip(&other.pools);
        pools.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// What it was told to do.
    pub fn settings(&self) -> &Arc<config::Proxy> {
        &self.settings
    }

    /// What is counted of it.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests that are under way.
    pub fn n_requests(&self) -> usize {
        self.requests.count()
    }

    /// Notes that an answer was cut after its head, for a reason on the client's side.
    pub fn note_cut(&self, reason: Reason) {
        self.counters.failed(reason);
        let (proxy, reason) = (&self.settings.name, reason.name());
        tracing::debug!(proxy, reason, "an answer was cut");
    }

    /// Tunnels that are open, or about to be.
    pub fn n_tunnels(&self) -> usize {
        self.tunnels.n_open()
    }

    /// Its tunnels.
    pub fn tunnels(&self) -> &Tunnels {
        &self.tunnels
    }

    /// Closes its idle connections, and keeps none any more.
    pub fn retire(&self) {
        for pool in &self.pools {
            pool.retire();
        }
    }

    /// Passes a request on, and gives the answer as soon as its head is there.
    ///
    /// # Errors
    ///
    /// What the client is told instead. The log has the rest.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the request is cancelled upstream.
    pub async fn forward(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        body: Incoming,
    ) -> Result<Response<Body>, Failure> {
        let begin = Instant::now();
        let waiting = Waiting(Some(&self.counters));
        let outcome = self.pass(asked, body).await;
        waiting.end();
        let outcome = outcome.map_err(|error| self.fail(asked, &error));
        let status = outcome.as_ref().map(Response::status);
        self.count(status.map_err(|failure| failure.reason), begin);
        outcome
    }

    /// Counts what a client is answered whose request came at `begin`.
    fn count(&self, outcome: Result<StatusCode, Reason>, begin: Instant) {
        match outcome {
            Ok(status) => {
                self.counters.answered(status);
                self.counters.first_byte.note(begin.elapsed());
            }
            Err(reason) => {
                self.counters.answered(reason.status());
                self.counters.failed(reason);
            }
        }
    }

    async fn pass(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        body: Incoming,
    ) -> Result<Response<Body>, Error> {
        let requests = self.requests.begin(self.settings.max_requests);
        let in_flight = requests.ok_or(Error::AtLimit)?;
        let pool = self.pools.get(asked.shard).ok_or(Error::AtLimit)?;
        let limits = self.content_limits();
        limits.check(&body.size_hint())?;
        let (upload, watch) = Upload::new(body, limits, Expectation::of(asked.head));
        let held = hold(asked, &upload)?;
        let mut upload = upload.of(self, held);
        if asked.head.version == Version::HTTP_2 {
            upload = upload.wasting_its_rest();
        }
        let exchange = Exchange::new(self, pool, (asked, &watch));
        let outcome = exchange.run(upload).await;
        // What the upstream makes of a request that broke off says nothing.
        let response = outcome.map_err(|error| watch.failure().map_or(error, Error::Content))?;
        watch.answered();
        Ok(self.answer(asked, response, (watch, in_flight)))
    }

    /// An answer of the upstream, as it goes to the client.
    fn answer(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        response: Response<Feed>,
        (watch, in_flight): (Watch, InFlight),
    ) -> Response<Body> {
        let (mut head, feed) = response.into_parts();
        let interval = self.settings.heartbeat;
        let heartbeat = Heartbeat::of(interval, &asked.head.method, &mut head);
        let answer = Answer::new(feed, self.settings.idle_timeout, heartbeat, watch);
        let method = &asked.head.method;
        let body = Body::new(answer, method, (Arc::clone(self), in_flight));
        Response::from_parts(head, body)
    }

    fn content_limits(&self) -> upload::Limits {
        let max_bytes = self.settings.max_request_bytes;
        upload::Limits {
            max_bytes: max_bytes.map(|most| u64::try_from(most).unwrap_or(u64::MAX)),
            idle_timeout: self.settings.idle_timeout,
        }
    }

    fn fail(&self, asked: &Asked<'_>, error: &Error) -> Failure {
        let reason = error.reason();
        if let Reason::Refused(refused) = reason {
            // The client's fault, and of no interest to who runs the gateway.
            tracing::debug!(
                proxy = self.settings.name,
                reason = reason.name(),
                peer = %asked.peer,
                error = %refused,
                "a request was refused"
            );
        } else if let Some(withheld) = self.telling.admit(Instant::now()) {
            tracing::warn!(
                withheld,
                proxy = self.settings.name,
                reason = reason.name(),
                method = %asked.head.method,
                path = asked.head.uri.path(),
                peer = %asked.peer,
                error = %Chain(error),
                "a request was not passed on"
            );
        }
        Failure {
            proxy: self.settings.name.clone(),
            reason,
        }
    }
}

fn limits(settings: &config::Proxy) -> Limits {
    Limits {
        max_idle: settings.max_idle_connections,
        keep_alive: settings.keep_alive,
    }
}

/// What is taken unread of one request's content over HTTP/2: 4 MB/s from a client that is 50 ms away.
/// Over HTTP/1.1 nothing is read before there is room for it.
pub const UPLOAD_WINDOW_BYTES: u32 = 256 * 1024;

/// Counts what a client may send before it is read.
fn hold(asked: &Asked<'_>, upload: &Upload) -> Result<Option<Held>, Error> {
    if asked.head.version < Version::HTTP_2 || upload.is_end_stream() {
        return Ok(None);
    }
    if !asked.memory.has_room() {
        return Err(Error::NoMemory);
    }
    let window = u64::from(UPLOAD_WINDOW_BYTES);
    let most = upload.size_hint().upper().unwrap_or(window).min(window);
    let bytes = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(Some(asked.memory.hold(WhatFor::Http2, bytes)))
}

/// A client that waits for an answer: if it is dropped, it has left.
struct Waiting<'a>(Option<&'a Counters>);

impl Waiting<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(counters) = self.0 {
            counters.failed(Reason::ClientLeft);
        }
    }
}
