//! The streams of a connection: hyper's futures for them, and what ends one from our side.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream as _};
use hyper::rt::Executor;
use tokio::time::{Sleep, sleep};

use crate::delivery::{Cut, EventBody};
use crate::http::pace::PaceKeeper;
use crate::http::tunnel;

/// The streams of one connection.
#[derive(Default)]
pub(super) struct Streams {
    open: FuturesUnordered<Stream>,
    spawned: Arc<Mutex<Spawned>>,
}

/// Where the connection leaves new streams.
#[derive(Default)]
struct Spawned {
    /// Those that were opened since the last look.
    streams: Vec<Stream>,
    /// Where the stream that hyper spawns next finds its leash: that of the request that was taken last.
    post: Option<Post>,
}

/// Where an answer leaves what may end its stream.
pub(super) type Post = Arc<Mutex<Option<Leash>>>;

/// hyper's future for a stream.
///
/// Dropping it resets the stream (CANCEL), which hyper itself would do only once the client's window
/// lets it ask the body: never, if the client does not want it to.
struct Stream {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Until its request is answered.
    post: Option<Post>,
    leash: Option<Leash>,
}

/// What ends a stream from our side.
pub(super) struct Leash {
    /// Of an event stream.
    cut: Option<Cut>,
    /// Of an answer that is passed on.
    pace: Option<PaceKeeper>,
    /// When it ends in any case: a refusal.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of a client's side of a tunnel.
    tunnel: Option<tunnel::Leash>,
}

/// Where hyper leaves new streams. They know it, so it must not keep them.
#[derive(Clone)]
pub(super) struct Spawner(Weak<Mutex<Spawned>>);

impl Streams {
    pub(super) fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.spawned))
    }

    /// Lets each stream that was woken go on. There are at most as many as the configuration allows,
    /// so this is a bounded turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = Pin::new(&mut self.open).poll_next(cx) {}
    }

    /// Takes new streams; returns whether there are any.
    pub(super) fn adopt(&mut self) -> bool {
        let mut spawned = self.spawned.lock().unwrap_or_else(PoisonError::into_inner);
        let has_any = !spawned.streams.is_empty();
        self.open.extend(spawned.streams.drain(..));
        has_any
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // The connection is gone otherwise, and with it its streams.
        if let Some(spawned) = self.0.upgrade() {
            let mut spawned = spawned.lock().unwrap_or_else(PoisonError::into_inner);
            let stream = Stream {
                future: Box::pin(stream),
                post: spawned.post.take(),
                leash: None,
            };
            spawned.streams.push(stream);
        }
    }
}

impl Spawner {
    /// Where the stream that hyper spawns next will look for its leash.
    pub(super) fn post(&self) -> Post {
        let post = Post::default();
        if let Some(spawned) = self.0.upgrade() {
            let mut spawned = spawned.lock().unwrap_or_else(PoisonError::into_inner);
            spawned.post = Some(Arc::clone(&post));
        }
        post
    }
}

impl Leash {
    pub(super) fn new(events: &EventBody, deadline: Option<Duration>) -> Self {
        Self {
            cut: Some(events.cut()),
            pace: None,
            tunnel: None,
            deadline: deadline.map(|deadline| Box::pin(sleep(deadline))),
        }
    }

    pub(super) fn of_answer(pace: PaceKeeper) -> Self {
        Self {
            cut: None,
            pace: Some(pace),
            tunnel: None,
            deadline: None,
        }
    }

    pub(super) fn of_tunnel(tunnel: tunnel::Leash) -> Self {
        Self {
            cut: None,
            pace: None,
            tunnel: Some(tunnel),
            deadline: None,
        }
    }

    /// Ready when the stream must end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.as_mut();
        let is_late = deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        if is_late {
            return Poll::Ready(());
        }
        if self.poll_stalled(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(tunnel) = &mut self.tunnel
            && tunnel.poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        match &mut self.cut {
            Some(cut) => cut.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Ready when the client has taken nothing for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.pace {
            Some(pace) => pace.poll_stalled(cx),
            None => Poll::Pending,
        }
    }
}

impl Stream {
    /// Takes the leash that the answer has left, if it has just done so.
    fn take_leash(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self
            .post
            .as_ref()
            .and_then(|post| post.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(leash) = left else {
            return Poll::Pending;
        };
        self.post = None;
        self.leash.insert(leash).poll(cx)
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(leash) = &mut self.leash
            && leash.poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        if self.future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match &mut self.leash {
            // What was given just now must be taken in time, and nothing else may wake this until then.
            Some(leash) => leash.poll_stalled(cx),
            None => self.take_leash(cx),
        }
    }
}
