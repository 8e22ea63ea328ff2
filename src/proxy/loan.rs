//! The content of a request as connections get it: lent, so that it can be sent once more.
//!
//! An upstream of HTTP/2 may say that it has done nothing about a request (RFC 9113, 8.7), also when some
//! of the content is on its way. So what was taken of the client is kept, as long as it is little and there
//! is no answer; and the rest comes back when the connection has let go of it.
//!
//! On HTTP/1.1 nothing like that can be said, and nothing is kept.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::upload::{Upload, UploadFailure};
use crate::memory::{Budget, Held, WhatFor};

/// Whom a content belongs to that is lent. When this is dropped, nothing is kept or comes back any more.
#[derive(Debug)]
pub(super) struct Lender(Arc<Shared>);

/// The content of a request. Dropping it gives it back, if it has a lender.
#[derive(Default)]
pub(super) struct Loan {
    /// What was sent to somebody else before, and comes first.
    again: Bytes,
    upload: Upload,
    lender: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What was taken of the content since its begin; `None`: not all of that is there any more.
    kept: Option<Kept>,
    returned: Option<Upload>,
    /// Of who waits for that.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    held: Held,
}

/// The most that is kept: what may be sent by HTTP/2 before an upstream has said that it takes more.
const MOST_KEPT: usize = 64 * 1024;

/// How long a connection may take to let go of a content that its upstream does not want.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

impl Loan {
    /// A content that does not come back.
    pub(super) fn given(upload: Upload) -> Self {
        Self {
            again: Bytes::new(),
            upload,
            lender: None,
        }
    }
}

impl Lender {
    /// Lends a content, and counts what is kept of it to `memory`.
    pub(super) fn lend(upload: Upload, memory: &Budget) -> (Self, Loan) {
        let kept = memory.has_room().then(|| Kept {
            bytes: Vec::new(),
            held: memory.hold(WhatFor::Http2, 0),
        });
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                kept,
                returned: None,
                waker: None,
            }),
        });
        let loan = Loan {
            again: Bytes::new(),
            upload,
            lender: Some(Arc::clone(&shared)),
        };
        (Self(shared), loan)
    }

    /// Waits until the content comes back; `None`: it does not, or its begin is missing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the content may be lost.
    pub(super) async fn regain(&self) -> Option<Loan> {
        let returned = poll_fn(|cx| self.0.lock().poll_returned(cx));
        let upload = timeout(RETURN_TIMEOUT, returned).await.ok()??;
        let state = self.0.lock();
        let kept = state.kept.as_ref()?;
        Some(Loan {
            again: Bytes::copy_from_slice(&kept.bytes),
            upload,
            lender: Some(Arc::clone(&self.0)),
        })
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.kept = None;
        let upload = state.returned.take();
        drop(state);
        // That may have more to do.
        drop(upload);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a piece, if all that came before is there.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        match frame.data_ref() {
            Some(piece) if kept.bytes.len() + piece.len() <= MOST_KEPT => {
                kept.bytes.extend_from_slice(piece);
                kept.held.resize(kept.bytes.capacity());
            }
            // Trailers come seldom, and never early.
            Some(_) | None => self.kept = None,
        }
    }

    /// `None`: it does not come back.
    fn poll_returned(&mut self, cx: &Context<'_>) -> Poll<Option<Upload>> {
        if self.returned.is_some() || self.kept.is_none() {
            return Poll::Ready(self.returned.take());
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(lender) = &self.lender else { return };
        let mut state = lender.lock();
        // Else nobody can do anything with it.
        if state.kept.is_some() {
            state.returned = Some(std::mem::take(&mut self.upload));
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Body for Loan {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        let this = self.get_mut();
        if !this.again.is_empty() {
            let again = std::mem::take(&mut this.again);
            return Poll::Ready(Some(Ok(Frame::data(again))));
        }
        let frame = ready!(Pin::new(&mut this.upload).poll_frame(cx));
        if let (Some(lender), Some(Ok(frame))) = (&this.lender, &frame) {
            lender.lock().keep(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.upload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut size = self.upload.size_hint();
        let again = u64::try_from(self.again.len()).unwrap_or(u64::MAX);
        if let Some(upper) = size.upper() {
            size.set_upper(upper.saturating_add(again));
        }
        size.set_lower(size.lower().saturating_add(again));
        size
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("again", &self.again.len())
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}
