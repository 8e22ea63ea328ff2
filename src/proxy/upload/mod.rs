//! The content of a request on its way to the origin.
//!
//! Nothing is buffered: the client's connection is read when the origin's takes more. What is looked at
//! on the way is how much it is, whether the client goes on sending, and, if it asked for it
//! (`Expect: 100-continue`), whether the origin wants it at all.
//!
//! HTTP libraries tell a failed content in many ways, or not at all; so why it failed is left where the
//! exchange finds it, in a [`Watch`]. A request without content has none, and costs nothing.
//!
//! Spec: RFC 9110, 10.1.1 (`Expect`), 15.5.9 (408), 15.5.14 (413).

#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http::{Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::Proxy;
use super::fields;
use super::patience::Patience;
use super::turn::Turn;
use crate::memory::Held;

/// The content of a request.
///
/// An error ends the exchange: nothing tells an origin that a message with a known length, or on
/// HTTP/1.1 any, is incomplete but the end of its connection.
pub(super) struct Upload<B = Incoming> {
    /// `None`: there is no content.
    content: Option<(B, Arc<Shared>)>,
    limits: Limits,
    /// For whom it is counted, and whose the header fields are that trailers must not set.
    proxy: Option<Arc<Proxy>>,
    /// What it may take of memory, unread.
    held: Option<Held>,
    /// What becomes of the rest, if it is dropped before its end; `None`: it is dropped, too.
    waste: Option<fn(B)>,
    /// Until the client is given up, or asked for the content in any case.
    patience: Patience,
    turn: Turn,
}

/// What a content may be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Its bytes; `None`: any number.
    pub(super) max_bytes: Option<u64>,
    /// How long its client may send nothing while the origin waits; `None`: for ever.
    pub(super) idle_timeout: Option<Duration>,
}

impl Limits {
    /// Whether a content of this size may come at all.
    pub(super) fn check(&self, size: &SizeHint) -> Result<(), UploadFailure> {
        match self.max_bytes {
            Some(max_bytes) if size.lower() > max_bytes => Err(UploadFailure::TooLarge(max_bytes)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether the client waits to be asked for the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    /// It sends it anyway.
    None,
    /// `Expect: 100-continue`
    Continue,
}

impl Expectation {
    /// What the head of a request says.
    pub(super) fn of(head: &Parts) -> Self {
        let field = head.headers.get(EXPECT);
        let expects =
            field.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        // Whoever sent an older version does not wait (RFC 9110, 10.1.1).
        if expects && head.version >= Version::HTTP_11 {
            Self::Continue
        } else {
            Self::None
        }
    }
}

/// Looks at an [`Upload`] that somebody else reads.
#[derive(Clone, Default)]
pub(super) struct Watch(Option<Arc<Shared>>);

/// Why a content did not reach its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadFailure {
    /// The exchange is over without it.
    #[error("the content is not wanted any more")]
    Abandoned,
    /// The client's connection failed, or what it sent is not what HTTP allows.
    #[error("the client broke off, or sent what is not HTTP")]
    Broken,
    /// The client sent nothing for too long.
    #[error("the client sent nothing for {0:?}")]
    Silent(Duration),
    /// It is larger than it may be.
    #[error("the content is larger than {0} bytes")]
    TooLarge(u64),
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// Whether anything of it was taken from the client.
    has_begun: bool,
    n_bytes: u64,
    /// When a byte of the exchange was seen last, in either direction; what it waits for in `Held` is
    /// counted from here, too.
    last: Instant,
    failure: Option<UploadFailure>,
    /// Of the task that reads the content.
    waker: Option<Waker>,
}

/// ```text
/// Held ─▶ Client ⇄ Origin ─▶ Ended
///   ╰───▶ Unwanted
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client waits to be asked for it, and the origin has not done so.
    Held,
    /// The origin waits for the client.
    Client,
    /// The client waits for the origin.
    Origin,
    /// There is no more.
    Ended,
    /// The origin has answered without having asked for it.
    Unwanted,
}

/// How long an origin may take to ask for a content whose client waits for that. Origins that know
/// nothing of expectations never ask (RFC 9110, 10.1.1), and over HTTP/2 we would not hear it.
const PATIENCE: Duration = Duration::from_secs(1);

impl<B: Body<Data = Bytes>> Upload<B> {
    /// The content of a request, and what looks at it.
    pub(super) fn new(incoming: B, limits: Limits, expectation: Expectation) -> (Self, Watch) {
        if incoming.is_end_stream() {
            return (Self::default(), Watch::default());
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stage: match expectation {
                    Expectation::Continue => Stage::Held,
                    Expectation::None => Stage::Origin,
                },
                has_begun: false,
                n_bytes: 0,
                last: Instant::now(),
                failure: None,
                waker: None,
            }),
        });
        let watch = Watch(Some(Arc::clone(&shared)));
        let upload = Self {
            content: Some((incoming, shared)),
            limits,
            proxy: None,
            held: None,
            waste: None,
            patience: Patience::default(),
            turn: Turn::default(),
        };
        (upload, watch)
    }

    /// It is counted for this proxy, whose fields its trailers do not set; and it may hold this.
    pub(super) fn of(mut self, proxy: &Arc<Proxy>, held: Option<Held>) -> Self {
        self.proxy = self.content.is_some().then(|| Arc::clone(proxy));
        self.held = held;
        self
    }
}

impl Upload<Incoming> {
    /// Its rest is read for a while when nobody wants it any more. Over HTTP/2 the client is told to stop
    /// as soon as its content is dropped, and some take that for the failure of a request that has its
    /// answer. (Over HTTP/1.1, the end of the connection takes care of it.)
    pub(super) fn wasting_its_rest(mut self) -> Self {
        self.waste = Some(|rest| {
            // Its connection, and with it the shard's runtime, may be about to end.
            if let Ok(runtime) = Handle::try_current() {
                drop(runtime.spawn(timeout(WASTE_TIME, waste(rest))));
            }
        });
        self
    }
}

impl<B> Drop for Upload<B> {
    fn drop(&mut self) {
        if let (Some((rest, shared)), Some(waste)) = (self.content.take(), self.waste)
            && matches!(shared.lock().stage, Stage::Client | Stage::Origin)
        {
            waste(rest);
        }
    }
}

/// For how long, and how much of a content that nobody wants is read.
const WASTE_TIME: Duration = Duration::from_secs(1);
const WASTE_BYTES: usize = 256 * 1024;

async fn waste(mut rest: Incoming) {
    let mut n_wasted = 0;
    while n_wasted < WASTE_BYTES {
        match rest.frame().await {
            Some(Ok(frame)) => n_wasted += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

/// What goes on of a piece.
fn passed(frame: Frame<Bytes>, proxy: Option<&Proxy>) -> Frame<Bytes> {
    let Some(proxy) = proxy else { return frame };
    match frame.into_trailers() {
        Ok(mut trailers) => {
            fields::request_trailers(&mut trailers, proxy.settings());
            Frame::trailers(trailers)
        }
        Err(frame) => {
            let n_bytes = frame.data_ref().map_or(0, Bytes::len);
            let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
            proxy.counters().request_bytes.add(n_bytes);
            frame
        }
    }
}

/// Waits until the client is asked for the content.
fn poll_permission(shared: &Shared, patience: &mut Patience, cx: &mut Context<'_>) -> Poll<()> {
    let mut state = shared.lock();
    if !matches!(state.stage, Stage::Held | Stage::Unwanted) {
        return Poll::Ready(());
    }
    state.waker = Some(cx.waker().clone());
    if state.stage == Stage::Unwanted {
        return Poll::Pending;
    }
    let due = state.last + PATIENCE;
    drop(state);
    ready!(patience.poll_until(due, cx));
    shared.lock().permit(Instant::now());
    Poll::Ready(())
}

/// Waits for the client, which sends nothing; ready when that has gone on for too long.
fn poll_silence(
    shared: &Shared,
    (patience, idle_timeout): (&mut Patience, Option<Duration>),
    cx: &mut Context<'_>,
) -> Poll<UploadFailure> {
    loop {
        let mut state = shared.lock();
        state.waker = Some(cx.waker().clone());
        let due = state.await_client(Instant::now(), idle_timeout);
        drop(state);
        match due {
            Ok(Some(due)) => ready!(patience.poll_until(due, cx)),
            Ok(None) => return Poll::Pending,
            Err(failure) => return Poll::Ready(failure),
        }
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        let this = self.get_mut();
        let Some((incoming, shared)) = &mut this.content else {
            return Poll::Ready(None);
        };
        if let Some(failure) = shared.lock().failure {
            return Poll::Ready(Some(Err(failure)));
        }
        ready!(poll_permission(shared, &mut this.patience, cx));
        ready!(this.turn.poll_more(cx));
        let outcome = match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let is_last = frame.is_trailers() || incoming.is_end_stream();
                let n_bytes = frame.data_ref().map_or(0, Bytes::len);
                this.turn.note(n_bytes);
                let noted = shared.lock().note(n_bytes, is_last, this.limits.max_bytes);
                noted.map(|()| passed(frame, this.proxy.as_deref()))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "the content of a request broke off");
                Err(UploadFailure::Broken)
            }
            Poll::Ready(None) => {
                shared.lock().stage = Stage::Ended;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                this.turn.end();
                let waiting = (&mut this.patience, this.limits.idle_timeout);
                Err(ready!(poll_silence(shared, waiting, cx)))
            }
        };
        if let Err(failure) = outcome {
            shared.lock().failure = Some(failure);
        }
        Poll::Ready(Some(outcome))
    }

    fn is_end_stream(&self) -> bool {
        let content = self.content.as_ref();
        content.is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Some((incoming, _)) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Watch {
    /// Why the content failed, if it did.
    pub(super) fn failure(&self) -> Option<UploadFailure> {
        self.look(None, |state| state.failure)
    }

    /// Whether anything of it was taken from the client.
    #[cfg(test)]
    fn has_begun(&self) -> bool {
        self.look(false, |state| state.has_begun)
    }

    /// Whether there is any.
    pub(super) fn has_body(&self) -> bool {
        self.0.is_some()
    }

    /// Whether all of it was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.look(true, |state| state.stage == Stage::Ended)
    }

    /// Whether it is the client that is waited for, and not the origin.
    pub(super) fn awaits_client(&self) -> bool {
        self.look(false, |state| {
            matches!(state.stage, Stage::Held | Stage::Client)
        })
    }

    /// When a byte was seen last, in either direction; `None`: there is no content.
    pub(super) fn last_seen(&self) -> Option<Instant> {
        self.look(None, |state| Some(state.last))
    }

    /// Takes note that the other direction moves, so that the client need not.
    pub(super) fn touch(&self, now: Instant) {
        self.look((), |state| {
            // In `Held`, it is counted from the begin.
            if state.stage != Stage::Held {
                state.last = now;
            }
        });
    }

    /// The origin wants the content, or it is read without having been asked for.
    pub(super) fn permit(&self) {
        self.look((), |state| state.permit(Instant::now()));
    }

    /// Lets the client send when the origin says so, where the client waits for that.
    pub(super) fn permit_when_told<B>(&self, request: &mut Request<B>) {
        if self.look(false, |state| state.stage == Stage::Held) {
            let watch = self.clone();
            hyper::ext::on_informational(request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    watch.permit();
                }
            });
        }
    }

    /// The origin has answered: it will not ask any more.
    pub(super) fn answered(&self) {
        self.look((), |state| {
            if state.stage == Stage::Held {
                state.stage = Stage::Unwanted;
            }
        });
    }

    /// The exchange is over: what has not been read is not wanted any more.
    pub(super) fn abandon(&self) {
        self.look((), |state| {
            if state.stage != Stage::Ended && state.failure.is_none() {
                state.failure = Some(UploadFailure::Abandoned);
                state.wake();
            }
        });
    }

    fn look<T>(&self, without: T, look: impl FnOnce(&mut State) -> T) -> T {
        match &self.0 {
            Some(shared) => look(&mut shared.lock()),
            None => without,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of a piece.
    fn note(
        &mut self,
        n_bytes: usize,
        is_last: bool,
        max_bytes: Option<u64>,
    ) -> Result<(), UploadFailure> {
        self.has_begun = true;
        self.last = Instant::now();
        self.stage = if is_last { Stage::Ended } else { Stage::Origin };
        let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
        match max_bytes {
            Some(max_bytes) if self.n_bytes > max_bytes => Err(UploadFailure::TooLarge(max_bytes)),
            Some(_) | None => Ok(()),
        }
    }

    fn permit(&mut self, now: Instant) {
        if self.stage == Stage::Held {
            self.stage = Stage::Origin;
            self.last = now;
            self.wake();
        }
    }

    /// The client has nothing to read from; returns when to look again, and at what.
    fn await_client(
        &mut self,
        now: Instant,
        idle_timeout: Option<Duration>,
    ) -> Result<Option<Instant>, UploadFailure> {
        if self.stage != Stage::Client {
            self.stage = Stage::Client;
            self.last = now;
        }
        let Some(patience) = idle_timeout else {
            return Ok(None);
        };
        // What came the other way counts, too.
        let due = self.last + patience;
        if due <= now {
            return Err(UploadFailure::Silent(patience));
        }
        Ok(Some(due))
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<B> Default for Upload<B> {
    /// None.
    fn default() -> Self {
        Self {
            content: None,
            limits: Limits::default(),
            proxy: None,
            held: None,
            waste: None,
            patience: Patience::default(),
            turn: Turn::default(),
        }
    }
}

impl<B> fmt::Debug for Upload<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.look(None, |state| Some(state.stage));
        f.debug_tuple("Watch").field(&stage).finish()
    }
}
