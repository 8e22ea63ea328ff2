//! The client's side of a tunnel: what offers one, and the socket or stream that becomes one.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::config;
use crate::memory::{Held, WhatFor};
use crate::net::permit::Permit;
use crate::net::socket::Socket;
use crate::proxy::tunnel::{End, Offer, Switch};

/// What a request offers to switch to.
#[derive(Debug)]
pub(super) enum Wish {
    /// Nothing, or nothing that may be passed on: the request is an ordinary one.
    Ordinary,
    /// This.
    Switch(Offer),
    /// This, by an extended CONNECT (RFC 8441), which is passed on as this request.
    Connect(Offer, Box<Parts>),
    /// Something else, and there is no ordinary request in it.
    Unknown,
}

/// What ends the stream of a tunnel from our side.
#[derive(Debug)]
pub(super) struct Leash {
    /// `None`: the tunnel has ended.
    cut: Option<oneshot::Receiver<()>>,
    /// When the stream of a tunnel that has ended must have ended, too.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Dropped with hyper's end of the stream.
    _is_there: oneshot::Sender<()>,
}

/// A stream of HTTP/2 as a tunnel sees it.
struct Stream {
    io: TokioIo<Upgraded>,
    /// Whether we have said that nothing follows.
    has_ended: Arc<AtomicBool>,
}

/// About what a tunnel takes in memory on plain sockets: two registrations, a task, two directions.
const TUNNEL_BYTES: usize = 4 * 1024;

/// How long a client may take for the last bytes of a tunnel, which hyper has already.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

impl Wish {
    /// What the head of a request says, whose body is `body`.
    pub(super) fn of(proxy: &config::Proxy, head: &Parts, body: &Incoming) -> Self {
        if let Some(protocol) = head.extensions.get::<Protocol>() {
            return match Offer::of_connect(protocol.as_str(), &proxy.upgrade) {
                Some(offer) => Self::Connect(offer, Box::new(without_connect(head))),
                None => Self::Unknown,
            };
        }
        // What follows a request with a body can't be told from it by those who do not switch.
        if !body.is_end_stream() {
            return Self::Ordinary;
        }
        match Offer::of(head.version, &head.headers, &proxy.upgrade) {
            Some(offer) => Self::Switch(offer),
            None => Self::Ordinary,
        }
    }
}

/// The request of HTTP/1.1 that an extended CONNECT stands for (RFC 8441, 5).
fn without_connect(head: &Parts) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::GET;
    parts.uri = head.uri.clone();
    parts.version = head.version;
    parts.headers = head.headers.clone();
    parts
}

/// The answer to an extended CONNECT whose origin has switched.
pub(super) fn connected<B>(mut response: Response<B>) -> Response<B> {
    *response.status_mut() = StatusCode::OK;
    *response.version_mut() = Version::HTTP_2;
    let fields = response.headers_mut();
    fields.remove(UPGRADE);
    // To a key of ours.
    fields.remove(SEC_WEBSOCKET_ACCEPT);
    response
}

/// Relays between an origin and a socket that has left hyper, with what hyper has read of it.
pub(super) fn begin(switch: Box<Switch>, client: (Socket, Vec<u8>), mut permit: Permit) {
    let (mut socket, early) = client;
    if let Err(error) = socket.prepare_for_delivery() {
        tracing::debug!(%error, "a client left before its tunnel began");
        return;
    }
    socket.hear_on();
    // Its buffers for requests are gone.
    permit.charge(0);
    let held = permit.hold(WhatFor::Connections, TUNNEL_BYTES);
    // A task of its own, which need not have room for hyper. It ends with the shard's runtime.
    drop(tokio::spawn(async move {
        let end = switch.relay((socket, early), pending(), held).await;
        tracing::trace!(end = end.name(), "the connection of a tunnel is closed");
        drop(permit);
    }));
}

/// The same for a stream of HTTP/2, which hyper gives once the answer is sent; and what may end it.
pub(super) fn begin_stream(
    switch: Box<Switch>,
    upgrade: OnUpgrade,
    held: Held,
) -> (impl Future<Output = ()> + Send, Leash) {
    let (cut, is_cut) = oneshot::channel();
    let (is_there, is_gone) = oneshot::channel();
    let leash = Leash {
        cut: Some(is_cut),
        deadline: None,
        _is_there: is_there,
    };
    let relaying = async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "a client left before its tunnel began");
                return;
            }
        };
        let has_ended = Arc::new(AtomicBool::new(false));
        let stream = Stream {
            io: TokioIo::new(upgraded),
            has_ended: Arc::clone(&has_ended),
        };
        // hyper reads a reset as an end. What it writes with has ended then, before we have ended it.
        let gone = async move {
            let is_gone: Result<(), _> = is_gone.await;
            if is_gone.is_ok() || has_ended.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        let end = switch.relay((stream, Vec::new()), gone, held).await;
        if end == End::OriginBroke && cut.send(()).is_err() {
            // It has ended already.
        }
    };
    (relaying, leash)
}

impl Leash {
    /// Ready when the stream must be reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(cut) = &mut self.cut {
            if ready!(Pin::new(cut).poll(cx)).is_ok() {
                return Poll::Ready(());
            }
            self.cut = None;
            self.deadline = Some(Box::pin(sleep(LAST_TIMEOUT)));
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_ended.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
