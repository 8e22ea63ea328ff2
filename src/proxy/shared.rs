//! A connection of HTTP/2 to an endpoint, shared by the requests of a shard.

use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::error::Error;
use super::link::{Seen, Unanswered};
use super::loan::Loan;
use super::wire::{Traffic, Wire};
use crate::net::connect::Connection;
use crate::net::descriptors::Descriptor;

/// A connection that several requests share. It ends when the last of them has, once this is dropped.
#[derive(Debug)]
pub(super) struct Shared {
    line: Arc<Line>,
    /// Since when nobody has used it, as far as that was looked at.
    idle_since: Option<Instant>,
}

/// A request's place on such a connection.
#[derive(Debug)]
pub(super) struct StreamPlace {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    sender: http2::SendRequest<Loan>,
    n_streams: AtomicUsize,
    /// How many the upstream allows.
    max_streams: Arc<AtomicUsize>,
    traffic: Arc<Traffic>,
    /// It gets no more requests.
    is_left: AtomicBool,
    /// Because its upstream allows none; those that were not sent by then were dropped.
    is_let_go: Arc<AtomicBool>,
    /// What drives it.
    _task: AbortOnDropHandle<()>,
}

/// What we take unread of a response, and of all responses of a connection together. The second is as
/// much as all streams may have: one that its client does not read never holds up the others.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Requests on one connection at a time.
const MOST_STREAMS: usize = (CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES) as usize;

impl Shared {
    /// Speaks HTTP/2 on a new connection; gives its first place, too.
    pub(super) async fn begin(
        connection: Connection,
        descriptor: Descriptor,
    ) -> Result<(Self, StreamPlace), Error> {
        let wire = Wire::new(connection, descriptor);
        let traffic = wire.traffic();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            // It refuses those above what it takes, so all but the first wait until it has said how
            // many that is.
            .initial_max_send_streams(1)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(Error::RequestFailed)?;
        let mut connection = Box::pin(connection);
        let max_streams = Arc::new(AtomicUsize::new(MOST_STREAMS));
        let (allowed, received) = (Arc::clone(&max_streams), Arc::clone(&traffic));
        let is_let_go = Arc::new(AtomicBool::new(false));
        let let_go = Arc::clone(&is_let_go);
        let task = tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                received.wake_early(cx.waker());
                let ended = connection.as_mut().poll(cx);
                let most = connection.current_max_send_streams();
                // What the upstream allows it says first of all, and again when it likes.
                if received.n_received() > 0 {
                    allowed.store(most, Ordering::Relaxed);
                }
                if most == 0 && ended.is_pending() {
                    // Who gives it a request would wait until it allows one, and can't take it back. What
                    // is sent is in other hands by now, and goes on.
                    let_go.store(true, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an upstream connection of HTTP/2 ended");
            }
        });
        let line = Arc::new(Line {
            sender,
            n_streams: AtomicUsize::new(1),
            max_streams,
            traffic,
            is_left: AtomicBool::new(false),
            is_let_go,
            _task: AbortOnDropHandle::new(task),
        });
        let place = StreamPlace {
            line: Arc::clone(&line),
        };
        let shared = Self {
            line,
            idle_since: None,
        };
        Ok((shared, place))
    }

    /// Whether it can take requests, as far as it is known.
    pub(super) fn is_open(&self) -> bool {
        !self.line.sender.is_closed() && !self.line.is_left.load(Ordering::Relaxed)
    }

    /// A place on it, if there is room.
    pub(super) fn join(&self) -> Option<StreamPlace> {
        let most = MOST_STREAMS.min(self.line.max_streams.load(Ordering::Relaxed));
        if self.line.n_streams.load(Ordering::Relaxed) >= most {
            return None;
        }
        self.line.n_streams.fetch_add(1, Ordering::Relaxed);
        Some(StreamPlace {
            line: Arc::clone(&self.line),
        })
    }

    /// How long nobody has used it, as far as that was looked at.
    pub(super) fn idle_for(&mut self, now: Instant) -> Duration {
        if self.line.n_streams.load(Ordering::Relaxed) > 0 {
            self.idle_since = None;
            return Duration::ZERO;
        }
        now - *self.idle_since.get_or_insert(now)
    }
}

impl StreamPlace {
    pub(super) fn sender(&self) -> http2::SendRequest<Loan> {
        self.line.sender.clone()
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.line.traffic
    }

    /// Gives its connection no more requests. Those that it has may still be answered.
    pub(super) fn leave(&self) {
        self.line.is_left.store(true, Ordering::Relaxed);
    }
}

impl StreamPlace {
    /// Why there is no answer; `request`: that was not sent.
    pub(super) fn unanswered(
        &self,
        request: Option<Request<Loan>>,
        error: hyper::Error,
    ) -> Unanswered {
        let is_let_go = self.line.is_let_go.load(Ordering::Relaxed);
        if let Some(request) = request {
            let error = if is_let_go {
                Error::NotTaken(error)
            } else {
                Error::RequestFailed(error)
            };
            return Unanswered::Unsent(Box::new(request), error);
        }
        // hyper calls it a fault of its user that what drives the connection is gone.
        let was_dropped = is_let_go && error.is_user();
        if was_dropped || is_about_nothing(&error) {
            // It goes away, or has too much to do.
            self.leave();
            return Unanswered::Unprocessed(Error::NotTaken(error));
        }
        // Of an answer there is nothing before its head.
        Unanswered::Failed(Error::RequestFailed(error), Seen::Nothing)
    }
}

/// Whether it says that the upstream has done nothing about a request (RFC 9113, 8.7). That a connection
/// goes away is an error only of the streams that it leaves out.
fn is_about_nothing(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let is_refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        cause.is_remote() && (cause.is_go_away() || is_refused)
    })
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.line.n_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;
    use tokio_util::either::Either;

    use super::*;
    use crate::net::descriptors::Descriptors;

    /// `SETTINGS`: no stream may be opened (RFC 9113, 6.5.2).
    const NO_STREAMS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0";

    /// Also when that is said while the request waits to be sent.
    #[tokio::test]
    async fn a_request_that_may_not_be_sent_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let stream = stream.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        // Before we have said a word.
        upstream.write_all(NO_STREAMS).await.unwrap();
        stream.readable().await.unwrap();
        let connection: Connection = Either::Left(Either::Left(stream));
        let descriptor = Descriptors::new(1).take().unwrap();
        let (shared, place) = Shared::begin(connection, descriptor).await.unwrap();
        let sent = place
            .sender()
            .try_send_request(Request::new(Loan::default()));
        let answer = timeout(Duration::from_secs(10), sent).await;
        let mut failed = answer.expect("soon").expect_err("no answer");
        let request = failed.take_message();
        let unanswered = place.unanswered(request, failed.into_error());
        assert!(matches!(
            unanswered,
            Unanswered::Unsent(_, Error::NotTaken(_)) | Unanswered::Unprocessed(_)
        ));
        assert!(!shared.is_open() && shared.join().is_none());
    }
}
