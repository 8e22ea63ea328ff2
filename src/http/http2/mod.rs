//! A connection of HTTP/2: all its streams, until it ends.
//!
//! hyper keeps the connection, because streams share it. An accepted subscription gets a response
//! whose body is fed by this thread's shard (`delivery::body`); so what an HTTP/2 subscriber gets, and
//! when, is decided where it is for all others.
//!
//! The streams of a connection are no tasks of their own: hyper's futures for them are polled by the
//! task of the connection. A pass that feeds a hundred streams of one connection wakes one task, which
//! sends it all in one write; and what belongs to the connection ends with it.

mod requests;
mod streams;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use tokio::time::{Instant, Sleep, sleep};

use self::requests::Requests;
use self::streams::{Spawner, Streams};
use super::connection::{Io, Peer};
use super::subscribe::REFUSAL_TIMEOUT;
use crate::config;
use crate::delivery::{CAPACITY, ShardHandle};
use crate::net::permit::Admission;
use crate::proxy::UPLOAD_WINDOW_BYTES;

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

/// How long a client may take to agree that its idle connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a connection until it ends.
pub(in crate::http) async fn serve(io: Io, peer: Peer) {
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
