//! Whether a client takes the answer that it is sent.
//!
//! hyper asks a body for more when it has room for it, and has no clock: a client that reads nothing
//! would have its connection, and the upstream's, for ever. So the body notes when it has given
//! something and was not asked since, and who drives the connection looks at that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::proxy::{self, Patience, Proxy, Reason};

/// How an answer is taken, as its body notes it. Its clones are one.
#[derive(Debug, Clone)]
pub(super) struct Pace(Arc<Mutex<Taking>>);

/// Looks at a [`Pace`].
#[derive(Debug)]
pub(super) struct PaceKeeper {
    pace: Pace,
    /// Most time from what was given to the next question.
    limit: Duration,
    patience: Patience,
    proxy: Arc<Proxy>,
}

#[derive(Debug, Clone, Copy)]
enum Taking {
    /// The client waits for us, or there is no more.
    Asked,
    /// It is cut.
    Cut,
    /// We wait for the client, since then.
    Given(Instant),
}

impl Pace {
    /// For an answer of this proxy; `None`: its client may take as long as it likes.
    pub(super) fn of(proxy: &Arc<Proxy>) -> Option<(Self, PaceKeeper)> {
        let limit = proxy.settings().idle_timeout?;
        let pace = Self(Arc::new(Mutex::new(Taking::Asked)));
        let keeper = PaceKeeper {
            pace: pace.clone(),
            limit,
            patience: Patience::default(),
            proxy: Arc::clone(proxy),
        };
        Some((pace, keeper))
    }

    /// Notes that the client can take more, or that there is no more.
    pub(super) fn asked(&self) {
        *self.lock() = Taking::Asked;
    }

    /// Notes that the client was given something.
    pub(super) fn given(&self) {
        *self.lock() = Taking::Given(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Taking> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PaceKeeper {
    /// Ready when the client has taken nothing for too long; that is counted then.
    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let taking = *self.pace.lock();
            let Taking::Given(since) = taking else {
                return Poll::Pending;
            };
            let due = since + self.limit;
            ready!(self.patience.poll_until(due, cx));
            let mut taking = self.pace.lock();
            if matches!(*taking, Taking::Given(at) if at == since) {
                *taking = Taking::Cut;
                drop(taking);
                self.proxy.note_cut(Reason::AnswerNotTaken);
                return Poll::Ready(());
            }
        }
    }
}

/// The body of an answer that is passed on, and how it is taken.
#[derive(Debug)]
pub(super) struct Paced {
    body: proxy::Body,
    /// `None`: nobody looks.
    pace: Option<Pace>,
}

impl Paced {
    pub(super) fn new(body: proxy::Body, pace: Option<Pace>) -> Self {
        Self { body, pace }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = proxy::BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, proxy::BrokeOff>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(pace) = &self.pace {
            match frame {
                Poll::Ready(Some(Ok(_))) => pace.given(),
                Poll::Pending | Poll::Ready(Some(Err(_)) | None) => pace.asked(),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        let Some(pace) = &self.pace else { return };
        let mut taking = pace.lock();
        match *taking {
            // That is counted.
            Taking::Cut => self.body.note_cut(),
            // All of it was taken, or nobody wants it any more.
            Taking::Asked | Taking::Given(_) => *taking = Taking::Asked,
        }
    }
}
