//! The demo's origin: a small HTTP server with two event streams, as a tutorial would write it.
//!
//! Its events have no ids, and it keeps no history: what a client misses is gone. It writes to every
//! open response by itself, which is what a gateway spares it.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The origin's socket: bound, not yet accepting.
#[derive(Debug)]
pub(super) struct Origin {
    listener: TcpListener,
    address: SocketAddr,
}

/// The event streams of the origin.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// `/stats`
    pub(super) stats: EventStream,
    /// `/ticks`
    pub(super) ticks: EventStream,
}

/// An event stream: the responses that are open, each of which gets every event.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    responses: Mutex<Vec<mpsc::Sender<Bytes>>>,
}

/// The body of one response.
#[derive(Debug)]
struct Events(mpsc::Receiver<Bytes>);

/// Events that may wait for one response. A client that is further behind is cut off.
const MAX_WAITING: usize = 64;

/// Wait after an error of accept, so that it never spins.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

impl Origin {
    /// Takes a free port of this machine. Must be called inside a runtime.
    pub(super) fn bind() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            address,
        })
    }

    /// The URL of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Accepts for as long as it is polled; its connections end with it.
    pub(super) async fn serve(self, streams: Arc<Streams>) -> ! {
        let mut connections = JoinSet::new();
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) => {
                    connections.spawn(serve_connection(socket, Arc::clone(&streams)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the demo's origin can't accept");
                    sleep(ERROR_PAUSE).await;
                }
            }
            // Those that have ended.
            while connections.try_join_next().is_some() {}
        }
    }
}

impl EventStream {
    /// Sends an event to every open response.
    pub(super) fn send(&self, event: &Bytes) {
        self.lock()
            .retain(|response| response.try_send(event.clone()).is_ok());
    }

    /// How many responses are open: a body is dropped as soon as its connection ends.
    pub(super) fn n_open(&self) -> usize {
        let responses = self.lock();
        responses.iter().filter(|one| !one.is_closed()).count()
    }

    fn open(&self) -> Events {
        let (events_tx, events_rx) = mpsc::channel(MAX_WAITING);
        self.lock().push(events_tx);
        Events(events_rx)
    }

    /// Recovers from poison: the list is valid between any two of its changes.
    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Bytes>>> {
        self.responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self(events_rx) = &mut *self;
        events_rx
            .poll_recv(cx)
            .map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

async fn serve_connection(socket: TcpStream, streams: Arc<Streams>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.uri().path(), &streams);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the demo's origin failed");
    }
}

fn answer(path: &str, streams: &Streams) -> Response<Events> {
    let stream = match path {
        "/stats" => &streams.stats,
        "/ticks" => &streams.ticks,
        _ => {
            let (_, nothing) = mpsc::channel(1);
            let mut answer = Response::new(Events(nothing));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        }
    };
    let mut answer = Response::new(stream.open());
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_open_responses_and_forgets_the_others() {
        let stream = EventStream::default();
        let (first, second) = (stream.open(), stream.open());
        assert_eq!(stream.n_open(), 2);
        drop(first);
        assert_eq!(stream.n_open(), 1, "as soon as one is closed");
        stream.send(&Bytes::from_static(b"data: a\n\n"));
        assert_eq!(stream.lock().len(), 1);
        drop(second);
        assert_eq!(stream.n_open(), 0);
    }

    #[test]
    fn a_response_that_is_too_far_behind_is_cut_off() {
        let stream = EventStream::default();
        let _behind = stream.open();
        for _ in 0..=MAX_WAITING {
            stream.send(&Bytes::from_static(b"data: a\n\n"));
        }
        assert_eq!(stream.n_open(), 0);
    }
}
