//! How a tunnel begins: the request that offers it, on a connection of its own, and what comes of it.
//!
//! The connection is never one of the pool: it may never come back, and whoever is asked for a tunnel
//! keeps it. What the origin sends after its 101 is the tunnel's already, and is not lost.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::places::{NoPlace, Place};
use super::protocols::{Manners, Offer};
use super::relay::{End, Ends, Relay};
use crate::config::UpstreamHttp;
use crate::memory::Held;
use crate::net::connect::{self, Connection, Protocol};
use crate::net::descriptors::Descriptor;
use crate::proxy::error::Error;
use crate::proxy::exchange::Exchange;
use crate::proxy::feed::{Carrier, Feed};
use crate::proxy::fields::{self, Content};
use crate::proxy::link::BUFFER_BYTES;
use crate::proxy::reach::Reached;
use crate::proxy::upload::Watch;
use crate::proxy::{Asked, Body, Failure, Proxy, Waiting};

/// What an origin answers to an offer.
#[derive(Debug)]
pub enum Opened {
    /// That it does not want to switch: an ordinary answer.
    Answered(Response<Body>),
    /// The head of its 101, and its side of the tunnel.
    Switched(Response<()>, Box<Switch>),
}

/// A tunnel that has an origin, and waits for its client.
#[derive(Debug)]
pub struct Switch {
    origin: Connection,
    /// What the origin has said already.
    early: Bytes,
    manners: Manners,
    place: Place,
    proxy: Arc<Proxy>,
    _descriptor: Descriptor,
}

type Link = http1::Connection<TokioIo<Connection>, Empty<Bytes>>;

impl Proxy {
    /// Passes a request on that offers to switch protocols.
    ///
    /// # Errors
    ///
    /// What the client is told instead. The log has the rest.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the request is cancelled upstream.
    pub async fn open(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        offer: &Offer,
    ) -> Result<Opened, Failure> {
        let begin = Instant::now();
        let waiting = Waiting(Some(&self.counters));
        let outcome = open(self, asked, offer).await;
        waiting.end();
        let outcome = outcome.map_err(|error| self.fail(asked, &error));
        let status = outcome.as_ref().map(|opened| match opened {
            Opened::Answered(response) => response.status(),
            Opened::Switched(response, _) => response.status(),
        });
        self.count(status.map_err(|failure| failure.reason), begin);
        outcome
    }
}

async fn open(proxy: &Arc<Proxy>, asked: &Asked<'_>, offer: &Offer) -> Result<Opened, Error> {
    let settings = &proxy.settings;
    let in_flight = proxy.requests.begin(settings.max_requests);
    let in_flight = in_flight.ok_or(Error::AtLimit)?;
    let place = proxy.tunnels.enter(settings.max_tunnels);
    let place = place.map_err(|none| match none {
        NoPlace::AtLimit => Error::TunnelsAtLimit,
        NoPlace::Closing => Error::TunnelsClosing,
    })?;
    let pool = proxy.pools.get(asked.shard).ok_or(Error::AtLimit)?;
    let watch = Watch::default();
    let exchange = Exchange::new(proxy, pool, (asked, &watch));
    let Reached {
        place: at,
        connection,
        descriptor,
    } = proxy.reach(asked.shard, Protocol::Http1).await?;
    let mut head = exchange.head(at, Content::None, UpstreamHttp::One)?;
    offer.write(&mut head.headers);
    let request = Request::from_parts(head, Empty::new());
    let answering = ask(connection, request);
    let answered = match settings.header_timeout {
        Some(limit) => timeout(limit, answering).await,
        None => Ok(answering.await),
    };
    let (link, response) = answered.map_err(|_elapsed| Error::ResponseTimedOut)??;
    let (mut head, body) = response.into_parts();
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        fields::response(&mut head, &asked.head.method)?;
        let task = tokio::spawn(async move {
            let _descriptor = descriptor;
            if let Some(link) = link
                && let Err(error) = link.await
            {
                // It reaches the body, too, where it is reported.
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        let carrier = Carrier::Http1Task(AbortOnDropHandle::new(task));
        let response = Response::from_parts(head, Feed::new(body, carrier));
        let response = proxy.answer(asked, response, (watch, in_flight));
        return Ok(Opened::Answered(response));
    }
    let manners = offer
        .accepted(&head.headers)
        .ok_or(Error::SwitchedUnasked)?;
    let protocol = head.headers.get(UPGRADE).cloned();
    fields::response(&mut head, &asked.head.method)?;
    if let Some(protocol) = protocol {
        head.headers.insert(UPGRADE, protocol);
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let parts = link.ok_or(Error::SwitchedUnasked)?.into_parts();
    let origin = parts.io.into_inner();
    if let Err(error) = connect::give_up_when_unheard(&origin) {
        // It has broken already, which the tunnel will see.
        tracing::debug!(%error, "a tunnel's connection to its origin");
    }
    let switch = Switch {
        origin,
        early: parts.read_buf,
        manners,
        place,
        proxy: Arc::clone(proxy),
        _descriptor: descriptor,
    };
    Ok(Opened::Switched(
        Response::from_parts(head, ()),
        Box::new(switch),
    ))
}

/// Sends the request and waits for the head of the answer; the connection comes with it, unless it
/// has ended with it.
async fn ask(
    connection: Connection,
    request: Request<Empty<Bytes>>,
) -> Result<(Option<Link>, Response<Incoming>), Error> {
    let (mut sender, mut link) = http1::Builder::new()
        // Also the most of what an origin says before its client is ready.
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(connection))
        .await
        .map_err(Error::RequestFailed)?;
    let mut response = pin!(sender.send_request(request));
    let mut has_ended = false;
    let response = poll_fn(|cx| {
        // It must not be polled once it has said that it has ended.
        if !has_ended && let Poll::Ready(ended) = Pin::new(&mut link).poll(cx) {
            has_ended = true;
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended");
            }
        }
        response.as_mut().poll(cx)
    })
    .await
    .map_err(Error::RequestFailed)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !has_ended {
        poll_fn(|cx| Pin::new(&mut link).poll(cx))
            .await
            .map_err(Error::RequestFailed)?;
        has_ended = true;
    }
    let is_needed = !has_ended || response.status() == StatusCode::SWITCHING_PROTOCOLS;
    Ok((is_needed.then_some(link), response))
}

impl Switch {
    /// Relays between the origin and a client, who has been told that it may begin, until it is over.
    /// `gone` is ready when the client is, where reading does not tell.
    ///
    /// # Cancel safety
    ///
    /// To drop it is to cut both connections.
    pub async fn relay<C>(
        self,
        client: (C, Vec<u8>),
        gone: impl Future<Output = ()>,
        held: Held,
    ) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            origin,
            early,
            manners,
            place,
            proxy,
            _descriptor,
        } = self;
        let ends = Ends {
            client,
            origin: (origin, early.into()),
        };
        let idle_timeout = proxy.settings.tunnel_idle_timeout;
        let relay = Relay::new(ends, manners, idle_timeout, place, held);
        let mut account = Account {
            // With the connection of a client of HTTP/2 its streams are gone without a word.
            end: End::ClientBroke,
            n_inbound: 0,
            n_outbound: 0,
            proxy: &proxy,
        };
        let end = relay
            .run(gone, |n_inbound, n_outbound| {
                account.note(n_inbound, n_outbound);
            })
            .await;
        account.end = end;
        end
    }
}

/// What is counted of a tunnel, to its end, whatever that is.
struct Account<'a> {
    end: End,
    n_inbound: u64,
    n_outbound: u64,
    proxy: &'a Proxy,
}

impl Account<'_> {
    fn note(&mut self, n_inbound: u64, n_outbound: u64) {
        self.n_inbound += n_inbound;
        self.n_outbound += n_outbound;
        let counters = &self.proxy.counters;
        counters.tunnel_request_bytes.add(n_inbound);
        counters.tunnel_response_bytes.add(n_outbound);
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.proxy.counters.tunnel_ended(self.end);
        tracing::debug!(
            proxy = self.proxy.settings.name,
            end = self.end.name(),
            inbound = self.n_inbound,
            outbound = self.n_outbound,
            "a tunnel ended"
        );
    }
}
