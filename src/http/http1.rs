//! A connection of HTTP/1.1, until it ends or is handed over.
//!
//! How a socket is taken out of hyper: the service notes an accepted subscription and returns a
//! future that stays pending. The driver of the connection sees the note and takes the connection
//! apart, which gives the socket back before hyper has written a byte to it. hyper does not document
//! that this works; `tests/integration/handover.rs` would notice if it no longer did.

use std::convert::Infallible;
use std::future::{Future as _, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::closing::close;
use super::connection::{Io, Peer};
use super::head;
use super::pace::PaceKeeper;
use super::pass::{Passed, pass};
use super::preface::Prefixed;
use super::reply::Reply;
use super::service::{Content, Outcome, respond};
use super::subscribe::{REFUSAL_TIMEOUT, Subscription};
use super::tunnel;
use super::visitor::Visitor;
use crate::delivery::{Arrival, Handover, push_framed};
use crate::net::permit::Standing;
use crate::net::socket::Socket;
use crate::proxy::Proxy;
use crate::proxy::tunnel::Switch;

/// What the service leaves for the driver: the end of hyper's part.
enum Note {
    Cut(Vec<u8>),
    Subscribe(Subscription),
    /// Once the answer is written, which is hyper's last.
    Switch(Box<Switch>),
}

/// What requests leave for the driver of their connection.
#[derive(Default)]
struct Left {
    note: Option<Note>,
    /// Held from the first request that is passed on, until all is sent.
    passing: Option<TaskTrackerToken>,
    /// Looks at how the last answer that was passed on is taken.
    pace: Option<PaceKeeper>,
}

/// What becomes of a request, as far as hyper is concerned.
enum Turn {
    Answer(Response<Reply>),
    Leave(Note),
    PassOn(Arc<Proxy>),
}

impl From<Outcome> for Turn {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Answer(answer) => Self::Answer(answer.map(Reply::short)),
            Outcome::Document(document) => Self::Answer(document.map(Reply::Document)),
            Outcome::PassOn(proxy) => Self::PassOn(proxy),
            Outcome::Refuse(refused) => {
                let mut bytes = head::encode(&refused.fields, refused.framing);
                push_framed(&mut bytes, &refused.block, refused.framing);
                Self::Leave(Note::Cut(bytes))
            }
            Outcome::Subscribe(subscription) => Self::Leave(Note::Subscribe(subscription)),
        }
    }
}

/// While a channel has fewer subscribers than this, they all live on the shard of its upstream, so
/// that an event of a small channel wakes one thread. A large one is spread over all shards.
const HOME_SUBSCRIBERS: usize = 64;

/// The answer to a request for a stream that is followed by another.
const MORE_THAN_A_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 49\r\nConnection: close\r\n\r\n\
    nothing may follow a request for an event stream\n";

/// About what a subscriber takes in memory on a plain socket, besides events: its place in its shard,
/// its registration, a short tail. 1.0 to 1.7 KiB were measured.
const SUBSCRIBER_BYTES: usize = 2 * 1024;

/// Serves a connection until it ends or a shard has it.
pub(super) async fn serve(io: Io, peer: Peer) {
    let left = Arc::<Mutex<Left>>::default();
    let service = {
        let (gateway, left) = (Arc::clone(&peer.gateway), Arc::clone(&left));
        let (admission, address) = (peer.permit.admission(), peer.address);
        let (scheme, shard) = (peer.scheme.clone(), peer.shard);
        // Not boxed: hyper has a place for it with the connection, which one request after the other has.
        service_fn(move |request: Request<Incoming>| {
            let (request, body) = Content::split(request);
            let (gateway, left) = (Arc::clone(&gateway), Arc::clone(&left));
            let scheme = scheme.clone();
            async move {
                let visitor = Visitor {
                    gateway: &gateway,
                    admission,
                    address,
                    scheme: &scheme,
                    shard,
                };
                answer(&visitor, (request, body), &left).await
            }
        })
    };
    let current = Arc::clone(&peer.gateway.current());
    let server = &current.server;
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.header_timeout)
        .max_buf_size(server.max_header_bytes)
        .serve_connection(io, service);
    // It may live for long, and what it was begun with must not.
    drop(current);
    let gateway = Arc::clone(&peer.gateway);
    let mut stop = pin!(gateway.stop.begun());
    let mut is_stopping = false;
    let note = poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            // Who waits for another request waits in vain; one that has begun is still answered.
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended before it became a stream");
                return Poll::Ready(None);
            }
            return Poll::Ready(lock(&left).note.take());
        }
        let mut left = lock(&left);
        if let Some(pace) = &mut left.pace
            && pace.poll_stalled(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        match left.note.take_if(|note| !matches!(note, Note::Switch(_))) {
            Some(note) => Poll::Ready(Some(note)),
            None => Poll::Pending,
        }
    })
    .await;
    // All is sent that was to be.
    drop(lock(&left).passing.take());
    let parts = connection.into_parts();
    let stream = parts.io.into_inner();
    match note {
        Some(note) => leave(note, (stream, &parts.read_buf), peer).await,
        None => close(stream.into_inner()).await,
    }
}

/// What becomes of a connection that hyper has nothing to do with any more; `read` of it was read.
async fn leave(note: Note, (stream, read): (Prefixed<Socket>, &[u8]), peer: Peer) {
    // Of that, this was not given to hyper.
    let rest = [read, stream.left()].concat();
    let socket = stream.into_inner();
    // A subscriber sends nothing after its request: what follows could never be answered. An empty
    // line does no harm (RFC 9112, 2.2).
    let has_more = rest.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
    match note {
        Note::Switch(switch) => tunnel::begin(switch, (socket, rest), peer.permit),
        Note::Cut(_) | Note::Subscribe(_) if has_more => cut(socket, MORE_THAN_A_REQUEST).await,
        Note::Cut(bytes) => cut(socket, &bytes).await,
        Note::Subscribe(subscription) => hand_over(peer, socket, subscription),
    }
}

/// Answers a request, or leaves to the driver what becomes of it.
async fn answer(
    visitor: &Visitor<'_>,
    (request, body): (Request<Content>, Incoming),
    left: &Mutex<Left>,
) -> Result<Response<Reply>, Infallible> {
    let note = match Turn::from(respond(visitor, &request).await) {
        Turn::Answer(response) => return Ok(response),
        Turn::Leave(note) => note,
        Turn::PassOn(proxy) => {
            let (head, _) = request.into_parts();
            let stop = &visitor.gateway.stop;
            lock(left).passing.get_or_insert_with(|| stop.passing());
            return Ok(match pass(visitor, &proxy, (&head, body)).await {
                Passed::Answer(response, pace) => {
                    lock(left).pace = pace;
                    response
                }
                Passed::Switch(response, switch) => {
                    lock(left).note = Some(Note::Switch(switch));
                    response
                }
            });
        }
    };
    lock(left).note = Some(note);
    pending().await
}

fn lock(left: &Mutex<Left>) -> MutexGuard<'_, Left> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends these last bytes.
async fn cut(mut socket: Socket, bytes: &[u8]) {
    let telling = async {
        socket.write_all(bytes).await?;
        socket.flush().await
    };
    match timeout(REFUSAL_TIMEOUT, telling).await {
        Ok(Ok(())) => close(socket).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a refused client left before it was told");
        }
        Err(_elapsed) => tracing::debug!("a refused client did not take what it was told"),
    }
}

/// Gives a connection of this shard to the shard that will serve the subscription.
fn hand_over(mut peer: Peer, socket: Socket, subscription: Subscription) {
    // Its buffers for requests are gone.
    peer.permit.charge(SUBSCRIBER_BYTES);
    let Subscription {
        channel,
        home,
        seat,
        identity,
        framing,
        last_event_id,
        fields,
    } = subscription;
    if let Some(identity) = identity {
        peer.permit.identify(identity);
    }
    let is_small = channel.n_subscribers() <= HOME_SUBSCRIBERS;
    let target = if is_small { home } else { peer.shard };
    let socket = if target == peer.shard {
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
    let Some(shard) = peer.gateway.shards.get(target) else {
        return;
    };
    shard.subscribe(Arrival {
        channel,
        socket,
        framing,
        last_event_id,
        head: head::encode(&fields, framing),
        places: (seat, Standing::Connection(peer.permit)),
    });
}
