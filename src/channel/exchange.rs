//! One request on one connection, and its body: the connection is driven by whoever reads.
//!
//! hyper splits a client connection into a sender, a body and a future that moves bytes between the
//! two and the socket. All of them live in one task here, so that a read costs one wake-up.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::damper::Damper;
use crate::net::connect::{Connection, Protocol};

/// The body of a response, and the connection that brings it.
pub(super) struct Body {
    incoming: Incoming,
    /// `None` once it has finished.
    connection: Option<ConnectionFuture>,
    damper: Arc<Damper>,
    /// Of the damper.
    waker: Waker,
}

/// What a reading of the body came to.
#[derive(Debug)]
pub(super) enum Drained {
    /// All that was readable was read; the task is woken when there is more.
    Dry,
    /// The origin ended it.
    Ended,
    /// The connection failed.
    Failed(hyper::Error),
    /// As much was read as one turn allows, or as was wanted; the task is **not** woken.
    Full,
}

/// Whether to go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Yes.
    Continue,
    /// No: what comes is not wanted any more.
    Stop,
}

type ConnectionFuture = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;
type ResponseFuture = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// Bytes read in one turn. More are left to the next, so that a flood from one origin can't keep
/// its thread from delivering.
pub(super) const TURN_BYTES: usize = 256 * 1024;

/// Sends a request on a connection of its own and waits for the response head.
///
/// # Errors
///
/// If the connection breaks, or what comes is not HTTP.
pub(super) async fn send(
    connection: Connection,
    protocol: Protocol,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<Response<Body>> {
    let io = TokioIo::new(connection);
    let (mut connection, mut response): (ConnectionFuture, ResponseFuture) = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = http1::handshake(io).await?;
            (
                Box::pin(connection),
                Box::pin(async move { sender.send_request(request).await }),
            )
        }
        Protocol::Http2 => {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(io)
                .await?;
            (
                Box::pin(connection),
                Box::pin(async move { sender.send_request(request).await }),
            )
        }
    };
    let mut has_finished = false;
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response);
        }
        if !has_finished && let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            has_finished = true;
            ended?;
        }
        response.as_mut().poll(cx)
    })
    .await?;
    let connection = (!has_finished).then_some(connection);
    let damper = Damper::new();
    let waker = Waker::from(Arc::clone(&damper));
    Ok(response.map(|incoming| Body {
        incoming,
        connection,
        damper,
        waker,
    }))
}

impl Body {
    /// Reads all that is readable, giving each piece to `sink`, until that says stop. Returns how
    /// many bytes there were, and how it ended.
    pub(super) fn drain(
        &mut self,
        cx: &Context<'_>,
        mut sink: impl FnMut(&[u8]) -> Flow,
    ) -> (usize, Drained) {
        self.damper.begin(cx.waker());
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let mut n_bytes = 0;
        let mut was_idle = false;
        loop {
            self.damper.look();
            self.drive(cx);
            let n_before = n_bytes;
            if let Poll::Ready(drained) = self.poll_pieces(cx, &mut n_bytes, &mut sink) {
                return (n_bytes, drained);
            }
            // After a piece there is room for more: the connection may read on.
            let is_idle = n_bytes == n_before;
            if is_idle && self.damper.finish() {
                return (n_bytes, Drained::Dry);
            }
            if is_idle && was_idle {
                // Something wakes without bringing anything: the runtime wants this task to yield.
                return (n_bytes, Drained::Full);
            }
            was_idle = is_idle;
        }
    }

    /// Takes the pieces that the connection has brought. Pending when there are no more.
    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        n_bytes: &mut usize,
        sink: &mut impl FnMut(&[u8]) -> Flow,
    ) -> Poll<Drained> {
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else {
                        continue;
                    };
                    *n_bytes += data.len();
                    if sink(data) == Flow::Stop || *n_bytes >= TURN_BYTES {
                        return Poll::Ready(Drained::Full);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Drained::Failed(error)),
                None => return Poll::Ready(Drained::Ended),
            }
        }
    }

    /// Lets the connection move what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            // An error reaches the body too, which reports it.
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended");
            }
            self.connection = None;
        }
    }
}
