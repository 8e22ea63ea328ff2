//! The requests of a connection, each answered on its stream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor as _;
use hyper::service::Service;
use hyper::upgrade::{self, OnUpgrade};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::streams::{Leash, Post, Spawner};
use crate::delivery::{Arrival, Ending, EventBody, Handover, body};
use crate::http::Gateway;
use crate::http::connection::Peer;
use crate::http::pass::{Passed, pass};
use crate::http::reply::Reply;
use crate::http::service::{Content, Outcome, respond};
use crate::http::subscribe::{REFUSAL_TIMEOUT, Refused, Subscription};
use crate::http::tunnel;
use crate::http::visitor::Visitor;
use crate::memory::WhatFor;
use crate::net::permit::Standing;
use crate::proxy::tunnel::Switch;

/// About what a tunnel takes in memory besides its stream: two directions, and a connection.
const TUNNEL_BYTES: usize = 4 * 1024;

/// Answers the requests of one connection.
pub(super) struct Requests {
    pub(super) peer: Peer,
    /// Held from the first request that is passed on.
    pub(super) passing: Arc<OnceLock<TaskTrackerToken>>,
    pub(super) spawner: Spawner,
}

/// A response to come. On the heap, and gone when the response is there.
type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, mut request: Request<Incoming>) -> ResponseFuture {
        let upgrade = (request.method() == Method::CONNECT).then(|| upgrade::on(&mut request));
        let (request, body) = Content::split(request);
        let asked = Asked {
            gateway: Arc::clone(&self.peer.gateway),
            shard: self.peer.shard,
            post: self.spawner.post(),
            spawner: self.spawner.clone(),
        };
        let (admission, address) = (self.peer.permit.admission(), self.peer.address);
        let scheme = self.peer.scheme.clone();
        let passing = Arc::clone(&self.passing);
        Box::pin(async move {
            let visitor = Visitor {
                gateway: &asked.gateway,
                admission,
                address,
                scheme: &scheme,
                shard: asked.shard,
            };
            let outcome = respond(&visitor, &request).await;
            let (head, _) = request.into_parts();
            let response = match outcome {
                Outcome::Answer(answer) => answer.map(Reply::short),
                Outcome::Document(document) => document.map(Reply::Document),
                Outcome::PassOn(proxy) => {
                    passing.get_or_init(|| asked.gateway.stop.passing());
                    match pass(&visitor, &proxy, (&head, body)).await {
                        Passed::Answer(response, pace) => {
                            if let Some(pace) = pace {
                                asked.leave(Leash::of_answer(pace));
                            }
                            response
                        }
                        Passed::Switch(response, switch) => {
                            asked.connect(response, switch, upgrade)
                        }
                    }
                }
                Outcome::Refuse(refused) => asked.refuse(refused),
                Outcome::Subscribe(subscription) => asked.subscribe(subscription),
            };
            Ok(fit_for_http2(&head.method, response))
        })
    }
}

/// What is needed to answer one request.
struct Asked {
    gateway: Arc<Gateway>,
    /// The shard whose thread this is.
    shard: usize,
    post: Post,
    spawner: Spawner,
}

impl Asked {
    /// Leaves what may end the stream where that looks for it.
    fn leave(&self, leash: Leash) {
        *self.post.lock().unwrap_or_else(PoisonError::into_inner) = Some(leash);
    }

    fn subscribe(&self, subscription: Subscription) -> Response<Reply> {
        let Subscription {
            channel,
            home: _,
            seat,
            identity,
            framing,
            last_event_id,
            fields,
        } = subscription;
        let (writer, events) = body(&self.gateway.memory);
        // A stream can't leave its connection, so it can't live on the channel's home shard.
        if let Some(shard) = self.gateway.shards.get(self.shard) {
            shard.subscribe(Arrival {
                channel,
                socket: Handover::Http2(writer),
                framing,
                last_event_id,
                head: Vec::new(),
                places: (seat, Standing::Stream(identity)),
            });
        }
        self.event_stream(fields, events, None)
    }

    /// A stream that becomes a tunnel, which goes on as another stream of the connection.
    fn connect(
        &self,
        response: Response<Reply>,
        switch: Box<Switch>,
        upgrade: Option<OnUpgrade>,
    ) -> Response<Reply> {
        if let Some(upgrade) = upgrade {
            let held = self.gateway.memory.hold(WhatFor::Http2, TUNNEL_BYTES);
            let (relaying, leash) = tunnel::begin_stream(switch, upgrade, held);
            self.spawner.execute(relaying);
            // For the one that hyper spawns next, when it has this response: what it writes with.
            let post = self.spawner.post();
            *post.lock().unwrap_or_else(PoisonError::into_inner) = Some(Leash::of_tunnel(leash));
        }
        tunnel::connected(response)
    }

    /// A stream that says when to come back, and is cut.
    fn refuse(&self, refused: Refused) -> Response<Reply> {
        let (writer, events) = body(&self.gateway.memory);
        if writer
            .try_write(std::iter::once(refused.block.as_slice()))
            .is_err()
        {
            // A new body has room for a line, and nobody has abandoned it.
            tracing::debug!("a refused client is not told when to come back");
        }
        writer.end(Ending::CutOnceSent);
        self.event_stream(refused.fields, events, Some(REFUSAL_TIMEOUT))
    }

    fn event_stream(
        &self,
        fields: HeaderMap,
        events: EventBody,
        deadline: Option<Duration>,
    ) -> Response<Reply> {
        self.leave(Leash::new(&events, deadline));
        let mut response = Response::new(Reply::Events(events));
        *response.headers_mut() = fields;
        response
    }
}

/// What is about the connection goes, since HTTP/2 has other means for it (RFC 9113, 8.2.2). The answer to
/// `HEAD` has the fields of the content and not the content (RFC 9110, 9.3.2); on HTTP/2 hyper leaves
/// that to us.
fn fit_for_http2(method: &Method, mut response: Response<Reply>) -> Response<Reply> {
    response.headers_mut().remove(CONNECTION);
    if method != Method::HEAD {
        return response;
    }
    if let (Some(length), false) = (
        response.body().size_hint().exact(),
        response.body().is_end_stream(),
    ) {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response.map(|_| Reply::empty())
}
