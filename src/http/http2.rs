//! A connection of HTTP/2: all its streams, until it ends.
//!
//! hyper keeps the connection, because streams share it. An accepted subscription gets a response
//! whose body is fed by this thread's shard (`delivery::body`); so what an HTTP/2 subscriber gets, and
//! when, is decided where it is for all others.
//!
//! The streams of a connection are no tasks of their own: hyper's futures for them are polled by the
//! task of the connection. A pass that feeds a hundred streams of one connection wakes one task, which
//! sends it all in one write; and what belongs to the connection ends with it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream as _};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioTimer;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Gateway;
use super::connection::{Io, Peer};
use super::pace::PaceKeeper;
use super::pass::{Passed, pass};
use super::reply::Reply;
use super::service::{Content, Outcome, respond};
use super::subscribe::{REFUSAL_TIMEOUT, Refused, Subscription};
use super::tunnel;
use super::visitor::Visitor;
use crate::config;
use crate::delivery::{Arrival, CAPACITY, Cut, Ending, EventBody, Handover, ShardHandle, body};
use crate::memory::WhatFor;
use crate::net::permit::{Admission, Standing};
use crate::proxy::UPLOAD_WINDOW_BYTES;
use crate::proxy::tunnel::Switch;

/// What we take unread of a request's body, per stream and per connection, where nobody needs to send
/// one.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// The same of a connection where requests are passed on: eight contents that their backend does not
/// take hold up the ninth, and nobody else's.
const CONNECTION_UPLOAD_BYTES: u32 = 8 * UPLOAD_WINDOW_BYTES;

/// Streams that a client may open and reset before we have looked at them, and streams that may end
/// by the client's errors, before the connection is closed (CVE-2023-44487, CVE-2025-8671). Both
/// count what has happened since, so no honest client comes near.
const MAX_PENDING_RESETS: usize = 20;
const MAX_ERROR_RESETS: usize = 256;

/// About what a tunnel takes in memory besides its stream: two directions, and a connection.
const TUNNEL_BYTES: usize = 4 * 1024;

/// How long a client may take to agree that its idle connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a connection until it ends.
pub(super) async fn serve(io: Io, peer: Peer) {
    if let Err(error) = io.inner().get_ref().prepare_for_delivery() {
        tracing::debug!(%error, "a client left before its first request");
        return;
    }
    let gateway = Arc::clone(&peer.gateway);
    // What the last streams are told must go out, too.
    let _lingering = gateway.shards.get(peer.shard).map(ShardHandle::linger);
    let is_refused = peer.permit.admission() != Admission::Admitted;
    let streams = Streams::default();
    let current = Arc::clone(&peer.gateway.current());
    let server = &current.server;
    let idle_timeout = if is_refused {
        server.header_timeout.min(server.http2.idle_timeout)
    } else {
        server.http2.idle_timeout
    };
    let spawner = streams.spawner();
    let requests = Requests {
        passing: Arc::default(),
        peer,
        spawner: spawner.clone(),
    };
    let mut builder = builder(server, spawner);
    if current.routes.has_proxies() {
        builder
            .initial_stream_window_size(UPLOAD_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_UPLOAD_BYTES);
    }
    if current.routes.may_tunnel() {
        // Whoever is told may ask for it on any path, and gets an answer on each (RFC 8441, 3).
        builder.enable_connect_protocol();
    }
    let connection = builder.serve_connection(io, requests);
    // The connection may live for long, and what it was begun with must not.
    drop(current);
    let driver = Driver {
        connection: pin!(connection),
        streams,
        stop: pin!(gateway.stop.begun()),
        timer: pin!(sleep(idle_timeout)),
        idle_timeout,
        is_refused,
        stage: Stage::Idle,
    };
    driver.await;
}

fn builder(server: &config::Server, spawner: Spawner) -> http2::Builder<Spawner> {
    let settings = &server.http2;
    let max_header_bytes = u32::try_from(server.max_header_bytes).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(spawner);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(CAPACITY)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(settings.ping_interval)
        .keep_alive_timeout(settings.ping_timeout);
    builder
}

// --- the connection ---

/// Drives a connection and its streams.
struct Driver<'a, S> {
    connection: Pin<&'a mut http2::Connection<Io, Requests, Spawner>>,
    streams: Streams,
    /// Ready when the gateway stops.
    stop: Pin<&'a mut S>,
    /// When an idle connection is closed, and when one that is being closed is cut.
    timer: Pin<&'a mut Sleep>,
    idle_timeout: Duration,
    is_refused: bool,
    stage: Stage,
}

/// ```text
/// Idle ⇄ Busy ──▶ Ending
///   ╰───╮           ⇅
///       ╰───────▶ Closing
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Without a stream: the timer runs.
    Idle,
    /// With streams.
    Busy,
    /// The client was told to open no more streams; those that there are end in their own time.
    Ending,
    /// The same without streams, or with those of a client that is refused: the timer runs.
    Closing,
}

impl<S: Future<Output = ()>> Driver<'_, S> {
    fn close(&mut self, within: Duration, cx: &Context<'_>) {
        self.stage = Stage::Closing;
        self.connection.as_mut().graceful_shutdown();
        self.timer.as_mut().reset(Instant::now() + within);
        cx.waker().wake_by_ref();
    }

    fn note_streams(&mut self, cx: &Context<'_>) {
        if self.streams.adopt() {
            // They have not been polled yet.
            cx.waker().wake_by_ref();
            if self.is_refused && self.stage != Stage::Closing {
                // It has its answer; its place is needed.
                self.close(REFUSAL_TIMEOUT, cx);
            }
        }
        match (self.stage, self.streams.is_empty()) {
            (Stage::Idle, false) => self.stage = Stage::Busy,
            (Stage::Busy, true) => {
                self.stage = Stage::Idle;
                let deadline = Instant::now() + self.idle_timeout;
                self.timer.as_mut().reset(deadline);
            }
            (Stage::Ending, true) => self.close(CLOSE_TIMEOUT, cx),
            // It did not know yet.
            (Stage::Closing, false) if !self.is_refused => self.stage = Stage::Ending,
            (Stage::Idle, true) | (Stage::Busy | Stage::Ending, false) | (Stage::Closing, _) => {}
        }
    }
}

impl<S: Future<Output = ()>> Future for Driver<'_, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Streams first: what they queue goes out with the connection's next write.
        self.streams.poll(cx);
        if let Poll::Ready(ended) = self.connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/2 connection broke");
            }
            return Poll::Ready(());
        }
        let is_open = matches!(self.stage, Stage::Idle | Stage::Busy);
        if is_open && self.stop.as_mut().poll(cx).is_ready() {
            self.stage = Stage::Ending;
            self.connection.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        self.note_streams(cx);
        let is_timed = matches!(self.stage, Stage::Idle | Stage::Closing);
        if is_timed && self.timer.as_mut().poll(cx).is_ready() {
            if self.stage == Stage::Closing {
                return Poll::Ready(());
            }
            self.close(CLOSE_TIMEOUT, cx);
        }
        Poll::Pending
    }
}

// --- its streams ---

/// The streams of one connection.
#[derive(Default)]
struct Streams {
    open: FuturesUnordered<Stream>,
    spawned: Arc<Mutex<Spawned>>,
}

/// Where the connection leaves new streams.
#[derive(Default)]
struct Spawned {
    /// Those that were opened since the last look.
    streams: Vec<Stream>,
    /// Where the stream that hyper spawns next finds its leash: that of the request that was taken last.
    post: Option<Post>,
}

/// Where an answer leaves what may end its stream.
type Post = Arc<Mutex<Option<Leash>>>;

/// hyper's future for a stream.
///
/// Dropping it resets the stream (CANCEL), which hyper itself would do only once the client's window
/// lets it ask the body: never, if the client does not want it to.
struct Stream {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Until its request is answered.
    post: Option<Post>,
    leash: Option<Leash>,
}

/// What ends a stream from our side.
struct Leash {
    /// Of an event stream.
    cut: Option<Cut>,
    /// Of an answer that is passed on.
    pace: Option<PaceKeeper>,
    /// When it ends in any case: a refusal.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of a client's side of a tunnel.
    tunnel: Option<tunnel::Leash>,
}

/// Where hyper leaves new streams. They know it, so it must not keep them.
#[derive(Clone)]
struct Spawner(Weak<Mutex<Spawned>>);

impl Streams {
    fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.spawned))
    }

    /// Lets each stream that was woken go on. There are at most as many as the configuration allows,
    /// so this is a bounded turn.
    fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = Pin::new(&mut self.open).poll_next(cx) {}
    }

    /// Takes new streams; returns whether there are any.
    fn adopt(&mut self) -> bool {
        let mut spawned = self.spawned.lock().unwrap_or_else(PoisonError::into_inner);
        let has_any = !spawned.streams.is_empty();
        self.open.extend(spawned.streams.drain(..));
        has_any
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // The connection is gone otherwise, and with it its streams.
        if let Some(spawned) = self.0.upgrade() {
            let mut spawned = spawned.lock().unwrap_or_else(PoisonError::into_inner);
            let stream = Stream {
                future: Box::pin(stream),
                post: spawned.post.take(),
                leash: None,
            };
            spawned.streams.push(stream);
        }
    }
}

impl Spawner {
    /// Where the stream that hyper spawns next will look for its leash.
    fn post(&self) -> Post {
        let post = Post::default();
        if let Some(spawned) = self.0.upgrade() {
            let mut spawned = spawned.lock().unwrap_or_else(PoisonError::into_inner);
            spawned.post = Some(Arc::clone(&post));
        }
        post
    }
}

impl Leash {
    fn new(events: &EventBody, deadline: Option<Duration>) -> Self {
        Self {
            cut: Some(events.cut()),
            pace: None,
            tunnel: None,
            deadline: deadline.map(|deadline| Box::pin(sleep(deadline))),
        }
    }

    fn of_answer(pace: PaceKeeper) -> Self {
        Self {
            cut: None,
            pace: Some(pace),
            tunnel: None,
            deadline: None,
        }
    }

    fn of_tunnel(tunnel: tunnel::Leash) -> Self {
        Self {
            cut: None,
            pace: None,
            tunnel: Some(tunnel),
            deadline: None,
        }
    }

    /// Ready when the stream must end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.as_mut();
        let is_late = deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        if is_late {
            return Poll::Ready(());
        }
        if self.poll_stalled(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(tunnel) = &mut self.tunnel
            && tunnel.poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        match &mut self.cut {
            Some(cut) => cut.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Ready when the client has taken nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.pace {
            Some(pace) => pace.poll_stalled(cx),
            None => Poll::Pending,
        }
    }
}

impl Stream {
    /// Takes the leash that the answer has left, if it has just done so.
    fn take_leash(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self
            .post
            .as_ref()
            .and_then(|post| post.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(leash) = left else {
            return Poll::Pending;
        };
        self.post = None;
        self.leash.insert(leash).poll(cx)
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(leash) = &mut self.leash
            && leash.poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        if self.future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match &mut self.leash {
            // What was given just now must be taken in time, and nothing else may wake this until then.
            Some(leash) => leash.poll_stalled(cx),
            None => self.take_leash(cx),
        }
    }
}

// --- its requests ---

/// Answers the requests of one connection.
struct Requests {
    peer: Peer,
    /// Held from the first request that is passed on.
    passing: Arc<OnceLock<TaskTrackerToken>>,
    spawner: Spawner,
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
