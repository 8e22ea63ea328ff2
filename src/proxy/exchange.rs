//! One request: which endpoint it is sent to, on which connection, and when once more.
//!
//! - *Fail-over*: an endpoint that can't be connected to, or that takes no request, is followed by the next
//!   one. Nothing was done.
//! - *Retry*: a connection that was used before may have been closed by the upstream in the moment in
//!   which the request was sent (RFC 9112, 9.3.1). So a request that failed on such a connection is
//!   sent once more, on a new one: if nothing of it was written; or if its method is idempotent, it has
//!   no body, and nothing of an answer was seen. What an upstream of HTTP/2 says that it has not
//!   processed (RFC 9113, 8.7) is sent once more in any case, if its content is still there (`loan`).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::endpoints::Tried;
use super::error::Error;
use super::feed::{Carrier, Feed};
use super::fields::{Content, Hop};
use super::link::{Link, Seen, Timeouts, Unanswered, Waiting};
use super::loan::{Lender, Loan};
use super::patience::Patience;
use super::pool::Pool;
use super::shared::{Shared, StreamPlace};
use super::upload::{Upload, Watch};
use super::{Asked, Proxy, fields};
use crate::config::UpstreamHttp;
use crate::net::connect::Protocol;

/// A request on its way.
pub(super) struct Exchange<'a> {
    proxy: &'a Proxy,
    pool: &'a Arc<Pool>,
    asked: &'a Asked<'a>,
    watch: &'a Watch,
}

/// A connection that a request is sent on.
enum Means {
    Http1(Box<Link>),
    Http2(StreamPlace),
}

/// How often an endpoint gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    /// On a new connection.
    Second,
}

/// What is done about a request that got no answer.
enum Next {
    /// The next endpoint is asked, if there is one.
    Elsewhere(Loan),
    GiveUp,
    /// The same endpoint is asked once more.
    Here(Loan),
}

/// Whether a connection has had a request before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    First,
    Again,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        proxy: &'a Proxy,
        pool: &'a Arc<Pool>,
        (asked, watch): (&'a Asked<'a>, &'a Watch),
    ) -> Self {
        Self {
            proxy,
            pool,
            asked,
            watch,
        }
    }

    /// Gets an answer, or the last reason why there is none.
    pub(super) async fn run(&self, upload: Upload) -> Result<Response<Feed>, Error> {
        let mut tried = Tried::default();
        let mut last = Error::NoEndpoint;
        let patience = self.proxy.settings.connect_timeout;
        let framing = Content::of(&upload);
        let (lender, mut content) = self.lend(upload);
        while let Some(place) = self.pool.choose(tried, patience) {
            if !tried.is_empty() {
                self.proxy.note_failover(place);
            }
            tried.add(place);
            let mut turn = Turn::First;
            loop {
                // Nobody is asked for what is refused.
                let head = self.head(place, framing, self.proxy.settings.http)?;
                let (means, before) = match self.means(place, turn).await {
                    Ok(means) => means,
                    Err(error) => {
                        last = error;
                        break;
                    }
                };
                let failed = match self.send((place, head), means, content).await {
                    Ok(response) => return Ok(response),
                    Err(failed) => failed,
                };
                let (error, next) = self.next(failed, (before, turn), lender.as_ref()).await;
                match next {
                    Next::GiveUp => return Err(error),
                    Next::Here(again) => {
                        content = again;
                        turn = Turn::Second;
                        self.proxy.note_retry();
                    }
                    Next::Elsewhere(again) => {
                        content = again;
                        last = error;
                        self.pool.failed(place);
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// The content as connections get it; and who it comes back to, where that can be of use.
    fn lend(&self, upload: Upload) -> (Option<Lender>, Loan) {
        match self.proxy.settings.http {
            UpstreamHttp::Two if self.watch.has_body() => {
                let (lender, loan) = Lender::lend(upload, self.asked.memory);
                (Some(lender), loan)
            }
            UpstreamHttp::One | UpstreamHttp::Two => (None, Loan::given(upload)),
        }
    }

    /// What is done about a request that got no answer.
    async fn next(
        &self,
        failed: Unanswered,
        (before, turn): (Use, Turn),
        lender: Option<&Lender>,
    ) -> (Error, Next) {
        match failed {
            Unanswered::Unsent(request, error) => {
                let next = match (before, &error) {
                    (Use::Again, _) => Next::Here(request.into_body()),
                    (Use::First, Error::NotTaken(_)) => Next::Elsewhere(request.into_body()),
                    (Use::First, _) => Next::GiveUp,
                };
                (error, next)
            }
            Unanswered::Unprocessed(error) => {
                let content = match lender {
                    Some(lender) => lender.regain().await,
                    None => Some(Loan::default()),
                };
                let next = match (content, turn) {
                    (Some(content), Turn::First) => Next::Here(content),
                    (Some(content), Turn::Second) => Next::Elsewhere(content),
                    (None, _) => Next::GiveUp,
                };
                (error, next)
            }
            Unanswered::Failed(error, seen) => {
                let next = if before == Use::Again && self.may_repeat(&error, seen) {
                    Next::Here(Loan::default())
                } else {
                    Next::GiveUp
                };
                (error, next)
            }
        }
    }

    /// Whether a request that failed on a used connection may be sent once more.
    fn may_repeat(&self, error: &Error, seen: Seen) -> bool {
        let is_closed = matches!(error, Error::RequestFailed(_));
        let is_idempotent = self.asked.head.method.is_idempotent();
        is_closed && is_idempotent && seen == Seen::Nothing && !self.watch.has_body()
    }

    /// A connection to an endpoint: one that is there, or a new one.
    async fn means(&self, place: usize, turn: Turn) -> Result<(Means, Use), Error> {
        let there = match (turn, self.proxy.settings.http) {
            (Turn::First, UpstreamHttp::One) => self.pool.take(place).map(Means::Http1),
            (Turn::First, UpstreamHttp::Two) => self.pool.join(place).map(Means::Http2),
            (Turn::Second, _) => None,
        };
        match there {
            Some(means) => Ok((means, Use::Again)),
            // Boxed: requests that need no new one are many, and need not have room for it.
            None => Ok((Box::pin(self.connect(place)).await?, Use::First)),
        }
    }

    /// A new connection to an endpoint.
    async fn connect(&self, place: usize) -> Result<Means, Error> {
        match self.proxy.settings.http {
            UpstreamHttp::One => {
                let reached = self
                    .proxy
                    .connect(self.pool, place, Protocol::Http1)
                    .await?;
                let link = Link::begin(reached.connection, reached.descriptor).await?;
                Ok(Means::Http1(Box::new(link)))
            }
            UpstreamHttp::Two => {
                // Of several requests at a time one connects, and the others join.
                let patience = self.proxy.settings.connect_timeout;
                let turn = timeout(patience, self.pool.connect_turn(place)).await;
                // Each would try in vain what the one before has tried in vain.
                let _turn = turn.map_err(|_elapsed| Error::ConnectTimedOut)?;
                if let Some(stream) = self.pool.join(place) {
                    return Ok(Means::Http2(stream));
                }
                let reached = self
                    .proxy
                    .connect(self.pool, place, Protocol::Http2)
                    .await?;
                let beginning = Shared::begin(reached.connection, reached.descriptor);
                let begun = timeout(self.proxy.settings.connect_timeout, beginning).await;
                let (shared, stream) = begun.map_err(|_elapsed| Error::ConnectTimedOut)??;
                self.pool.share(place, shared);
                Ok(Means::Http2(stream))
            }
        }
    }

    /// The head of the request, as it is sent to an endpoint.
    pub(super) fn head(
        &self,
        place: usize,
        content: Content,
        http: UpstreamHttp,
    ) -> Result<Parts, Error> {
        let settings = &self.proxy.settings;
        let hop = Hop {
            proxy: settings,
            upstream: settings.upstreams.get(place).ok_or(Error::NoEndpoint)?,
            http,
            peer: self.asked.peer,
            trusted: self.asked.trusted,
            scheme: self.asked.scheme,
            content,
        };
        Ok(fields::request(self.asked.head, &hop)?)
    }

    /// The head of an answer, as it goes to the client.
    fn accept(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Unanswered> {
        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // What follows is no HTTP.
            let error = Error::SwitchedUnasked;
            return Err(Unanswered::Failed(error, Seen::Something));
        }
        match fields::response(&mut head, &self.asked.head.method) {
            Ok(()) => Ok(Response::from_parts(head, incoming)),
            // Its connection ends here, with all that may follow on it.
            Err(unusable) => Err(Unanswered::Failed(unusable.into(), Seen::Something)),
        }
    }

    /// Sends the request on a connection, and waits for the head of the answer.
    async fn send(
        &self,
        (place, head): (usize, Parts),
        means: Means,
        content: Loan,
    ) -> Result<Response<Feed>, Unanswered> {
        let mut request = Request::from_parts(head, content);
        self.watch.permit_when_told(&mut request);
        let settings = &self.proxy.settings;
        let timeouts = Timeouts {
            response: settings.header_timeout,
            idle: settings.idle_timeout,
        };
        match means {
            Means::Http1(mut link) => {
                let response = self.accept(link.send(request, (self.watch, timeouts)).await?)?;
                let carrier = if self.watch.has_ended() {
                    Carrier::Http1(link, Arc::clone(self.pool), place)
                } else {
                    // The rest of the request must not wait for who reads the answer.
                    Carrier::Http1Task(AbortOnDropHandle::new(tokio::spawn(link.run())))
                };
                Ok(response.map(|incoming| Feed::new(incoming, carrier)))
            }
            Means::Http2(stream) => {
                // Boxed: those by HTTP/1.1 need not have room for it.
                let sending = Box::pin(self.send_on(&stream, request, timeouts));
                let response = self.accept(sending.await?)?;
                Ok(response.map(|incoming| Feed::new(incoming, Carrier::Http2(stream))))
            }
        }
    }

    async fn send_on(
        &self,
        stream: &StreamPlace,
        request: Request<Loan>,
        timeouts: Timeouts,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut response = pin!(stream.sender().try_send_request(request));
        let traffic = stream.traffic();
        let n_received = traffic.n_received();
        let mut waiting = Waiting::new(self.watch, timeouts, traffic);
        let mut patience = Patience::default();
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            waiting.poll_overdue(&mut patience, cx).map(Err)
        })
        .await;
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut failed)) => {
                let request = failed.take_message();
                Err(stream.unanswered(request, failed.into_error()))
            }
            Err(overdue) => {
                // If it is the connection that is gone, the next request must not wait for it, too.
                if traffic.n_received() == n_received {
                    stream.leave();
                }
                Err(Unanswered::Failed(overdue, Seen::Nothing))
            }
        }
    }
}

impl From<Unanswered> for Error {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Failed(error, _)
            | Unanswered::Unprocessed(error)
            | Unanswered::Unsent(_, error) => error,
        }
    }
}
