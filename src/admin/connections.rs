//! The connections of the admin listener: few, short, and none of them can take the place of all.
//!
//! A connection is for one request. When there are too many, one that has not asked anything yet ends
//! for the newcomer; so whoever opens connections and says nothing keeps nobody out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::answer;
use super::facts::Facts;
use crate::net::socket::Unbound;

/// Connections of one admin listener at a time.
const MAX_CONNECTIONS: usize = 32;

/// Descriptors that one admin listener may use, so that it works when clients have all others.
pub const DESCRIPTORS: usize = MAX_CONNECTIONS + 2;

/// For the request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// For the whole of a connection: who reads slower than this is no monitoring.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest request head; the least that hyper takes.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    facts: Arc<Facts>,
    tasks: JoinSet<()>,
    /// In the order in which they came.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    task: AbortHandle,
    has_asked: Arc<AtomicBool>,
}

impl Connections {
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        Self {
            facts,
            tasks: JoinSet::new(),
            open: VecDeque::new(),
        }
    }

    /// Serves one more.
    pub(super) fn begin(&mut self, socket: Unbound) {
        self.open.retain(|one| !one.task.is_finished());
        if self.open.len() >= MAX_CONNECTIONS {
            self.make_room();
        }
        let has_asked = Arc::new(AtomicBool::new(false));
        let connection = serve(socket, Arc::clone(&self.facts), Arc::clone(&has_asked));
        let task = self.tasks.spawn(connection);
        self.open.push_back(Open { task, has_asked });
    }

    /// Ready when a connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn one_ends(&mut self) {
        match self.tasks.join_next().await {
            None => pending().await,
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(%error, "an admin connection broke");
            }
            Some(Ok(()) | Err(_)) => {}
        }
    }

    /// Ends the oldest connection that has not asked yet, or else the oldest.
    fn make_room(&mut self) {
        let has_not = |one: &Open| !one.has_asked.load(Ordering::Relaxed);
        let index = self.open.iter().position(has_not).unwrap_or_default();
        if let Some(one) = self.open.remove(index) {
            one.task.abort();
            tracing::debug!("ended an admin connection for another");
        }
    }
}

async fn serve(socket: Unbound, facts: Arc<Facts>, has_asked: Arc<AtomicBool>) {
    let socket = match socket.bind() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "an admin connection could not be registered");
            return;
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let facts = Arc::clone(&facts);
        async move {
            let (method, path) = (request.method(), request.uri().path());
            Ok::<_, Infallible>(answer(&facts, method, path).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        // Some probes close their sending side once they have asked.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}
