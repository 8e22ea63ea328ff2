//! A connection of HTTP/2 to an endpoint, shared by the requests of a shard.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::error::Error;
use super::upload::Upload;
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
    sender: http2::SendRequest<Upload>,
    n_streams: AtomicUsize,
    /// How many the upstream allows.
    max_streams: Arc<AtomicUsize>,
    traffic: Arc<Traffic>,
    /// Nothing came any more while an answer was waited for: whoever was there may have gone.
    is_silent: AtomicBool,
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
        let wire = Wire::new(connection);
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
        let task = tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                // What the upstream allows it says first of all, and again when it likes.
                if received.n_received() > 0 {
                    allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
                }
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an upstream connection of HTTP/2 ended");
            }
            drop(descriptor);
        });
        let line = Arc::new(Line {
            sender,
            n_streams: AtomicUsize::new(1),
            max_streams,
            traffic,
            is_silent: AtomicBool::new(false),
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
        !self.line.sender.is_closed() && !self.line.is_silent.load(Ordering::Relaxed)
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
    pub(super) fn sender(&self) -> http2::SendRequest<Upload> {
        self.line.sender.clone()
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.line.traffic
    }

    /// Gives its connection no more requests. Those that it has may still be answered.
    pub(super) fn note_silence(&self) {
        self.line.is_silent.store(true, Ordering::Relaxed);
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.line.n_streams.fetch_sub(1, Ordering::Relaxed);
    }
}
