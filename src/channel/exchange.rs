//! One request on one connection, and its body: the connection is driven by whoever reads.
//!
//! hyper splits a client connection into a sender, a body and a future that moves bytes between the
//! two and the socket. All of them live in one task here, so that a read costs one wake-up.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::net::connect::{Connection, Protocol};

/// The body of a response, and the connection that brings it.
pub(super) struct Body {
    incoming: Incoming,
    /// `None` once it has finished.
    connection: Option<ConnectionFuture>,
}

/// What a reading of the body came to.
#[derive(Debug)]
pub(super) enum Drained {
    /// The origin ended it.
    Ended,
    /// The connection failed.
    Failed(hyper::Error),
    /// As much as one turn allows was read. There may be more.
    More,
    /// All that was readable was read.
    Open,
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
const TURN_BYTES: usize = 256 * 1024;

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
            (Box::pin(connection), Box::pin(async move { sender.send_request(request).await }))
        }
        Protocol::Http2 => {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(io)
                .await?;
            (Box::pin(connection), Box::pin(async move { sender.send_request(request).await }))
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
    Ok(response.map(|incoming| Body { incoming, connection }))
}

impl Body {
    /// Reads all that is readable, giving each piece to `sink`, until that says stop.
    ///
    /// Ready when anything was read, or the body is over. Returns how many bytes there were.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(&[u8]) -> Flow,
    ) -> Poll<(usize, Drained)> {
        let mut n_bytes = 0;
        // Whether the connection has moved all it could since the last piece.
        let mut is_driven = false;
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    is_driven = false;
                    let Some(data) = frame.data_ref() else { continue };
                    n_bytes += data.len();
                    if sink(data) == Flow::Stop || n_bytes >= TURN_BYTES {
                        return Poll::Ready((n_bytes, Drained::More));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready((n_bytes, Drained::Failed(error)));
                }
                Poll::Ready(None) => return Poll::Ready((n_bytes, Drained::Ended)),
                Poll::Pending if !is_driven => {
                    self.drive(cx);
                    is_driven = true;
                }
                Poll::Pending if n_bytes > 0 => return Poll::Ready((n_bytes, Drained::Open)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Lets the connection move what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            // An error reaches the body too, which reports it.
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended");
            }
            self.connection = None;
        }
    }
}
