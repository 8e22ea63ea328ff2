//! The life of a connection, until it ends or is handed over.
//!
//! How a socket is taken out of hyper: the service notes an accepted subscription and returns a
//! future that stays pending. The driver of the connection sees the note and takes the connection
//! apart, which gives the socket back before hyper has written a byte to it. hyper does not document
//! that this works; `tests/integration/handover.rs` would notice if it no longer did.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::Gateway;
use super::service::{Outcome, Subscription, respond};
use crate::delivery::{Arrival, Handover};
use crate::net::permit::{Admission, Permit};
use crate::net::socket::{Socket, Unbound};

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Seen {
    /// The socket.
    pub socket: Unbound,
    /// Its place among the connections.
    pub permit: Permit,
    /// What it may have.
    pub admission: Admission,
    /// The shard whose thread serves it.
    pub shard: usize,
}

/// What the service leaves for the driver: the end of hyper's part.
enum Note {
    Cut(Vec<u8>),
    Subscribe(Subscription),
}

type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// While a channel has fewer subscribers than this, they all live on the shard of its upstream, so
/// that an event of a small channel wakes one thread. A large one is spread over all shards.
const HOME_SUBSCRIBERS: usize = 64;

/// The answer to a request for a stream that is followed by another.
const MORE_THAN_A_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 49\r\nConnection: close\r\n\r\n\
    nothing may follow a request for an event stream\n";

/// How long a refused client may take for its few bytes.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection on this thread until it ends or a shard has it.
pub async fn serve_connection(gateway: Arc<Gateway>, seen: Seen) {
    let Seen {
        socket,
        permit,
        admission,
        shard,
    } = seen;
    let socket = match socket.bind() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "a new connection could not be registered");
            return;
        }
    };
    let note = Arc::new(Mutex::new(None));
    let service = {
        let (gateway, note) = (Arc::clone(&gateway), Arc::clone(&note));
        service_fn(move |request: Request<Incoming>| -> ResponseFuture {
            let left = match respond(&gateway, admission, &request) {
                Outcome::Answer(answer) => return Box::pin(std::future::ready(Ok(answer))),
                Outcome::Cut(bytes) => Note::Cut(bytes),
                Outcome::Subscribe(subscription) => Note::Subscribe(subscription),
            };
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
            Box::pin(pending())
        })
    };
    let current = Arc::clone(&gateway.current());
    let server = &current.server;
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.header_timeout)
        .max_buf_size(server.max_header_bytes)
        .serve_connection(TokioIo::new(socket), service);
    // It may live for long, and what it was begun with must not.
    drop(current);
    let left = poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended before it became a stream");
            }
            return Poll::Ready(None);
        }
        match note.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(left) => Poll::Ready(Some(left)),
            None => Poll::Pending,
        }
    })
    .await;
    let Some(left) = left else { return };
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    // A subscriber sends nothing after its request: what follows could never be answered. An empty
    // line does no harm (RFC 9112, 2.2).
    let has_more = parts
        .read_buf
        .iter()
        .any(|byte| !matches!(byte, b'\r' | b'\n'));
    let left = if has_more {
        Note::Cut(MORE_THAN_A_REQUEST.to_vec())
    } else {
        left
    };
    match left {
        Note::Cut(bytes) => {
            if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, socket.write_all(&bytes)).await {
                tracing::debug!(%error, "a refused client left before it was told");
            }
        }
        Note::Subscribe(subscription) => {
            hand_over(&gateway, shard, (socket, permit), subscription);
        }
    }
}

/// Gives a connection of this shard to the shard that will serve the subscription.
fn hand_over(
    gateway: &Gateway,
    shard: usize,
    (socket, permit): (Socket, Permit),
    subscription: Subscription,
) {
    let Subscription {
        route,
        seat,
        framing,
        last_event_id,
        head,
    } = subscription;
    let is_small = route.channel.n_subscribers() <= HOME_SUBSCRIBERS;
    let target = if is_small { route.home } else { shard };
    let socket = if target == shard {
        Handover::SameShard(socket)
    } else {
        match socket.unbind() {
            Ok(socket) => Handover::OtherShard(socket),
            Err(error) => {
                tracing::warn!(%error, "a socket could not change its shard");
                return;
            }
        }
    };
    let Some(shard) = gateway.shards.get(target) else {
        return;
    };
    shard.subscribe(Arrival {
        channel: route.channel,
        socket,
        framing,
        last_event_id,
        head,
        places: (seat, permit),
    });
}
