//! The body of a request on its way to the upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A body that is passed on as it comes.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// `None`: there is none.
    incoming: Option<(Incoming, Arc<Progress>)>,
}

/// How far a body is, for who waits for the response.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// `None`: there is no body.
    progress: Option<Arc<Progress>>,
}

#[derive(Debug, Default)]
struct Progress {
    has_begun: AtomicBool,
    has_ended: AtomicBool,
}

impl Upload {
    pub(super) fn new(incoming: Incoming) -> (Self, Watch) {
        if incoming.is_end_stream() {
            return (Self::default(), Watch::default());
        }
        let progress = Arc::<Progress>::default();
        let watch = Watch {
            progress: Some(Arc::clone(&progress)),
        };
        let incoming = Some((incoming, progress));
        (Self { incoming }, watch)
    }
}

impl Watch {
    /// Whether there is a body.
    pub(super) fn has_body(&self) -> bool {
        self.progress.is_some()
    }

    /// Whether all of it has been taken; or there is none.
    pub(super) fn has_ended(&self) -> bool {
        let progress = self.progress.as_ref();
        progress.is_none_or(|progress| progress.has_ended.load(Ordering::Relaxed))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((incoming, progress)) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        progress.has_begun.store(true, Ordering::Relaxed);
        if frame.is_none() || incoming.is_end_stream() {
            progress.has_ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some((incoming, _)) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
