//! The body of an answer as it comes from the upstream, and the connection that brings it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio_util::task::AbortOnDropHandle;

use super::link::Link;
use super::pool::Pool;
use super::shared::StreamPlace;
use super::turn::Turn;

/// The body of an answer. Once it has ended, its connection can take the next request; if it is
/// dropped before, nothing more of it is wanted, and the upstream is told so at once.
#[derive(Debug)]
pub(super) struct Feed {
    incoming: Incoming,
    carrier: Carrier,
    /// Why it has broken off, until that is told.
    broken: Option<hyper::Error>,
    turn: Turn,
}

/// What brings an answer.
#[derive(Debug)]
pub(super) enum Carrier {
    /// Nothing, any more.
    Gone,
    /// A connection that is driven here, and where it belongs.
    Http1(Box<Link>, Arc<Pool>, usize),
    /// A connection that drives itself: the answer has begun before the request has ended.
    Http1Task(#[expect(dead_code, reason = "its drop ends the task")] AbortOnDropHandle<()>),
    /// A stream of a connection that drives itself.
    Http2(#[expect(dead_code, reason = "its drop gives the place back")] StreamPlace),
}

impl Feed {
    pub(super) fn new(incoming: Incoming, carrier: Carrier) -> Self {
        let mut feed = Self {
            incoming,
            carrier,
            broken: None,
            turn: Turn::default(),
        };
        feed.release_at_end();
        feed
    }

    /// Gives the connection back if the answer has ended.
    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        match std::mem::replace(&mut self.carrier, Carrier::Gone) {
            Carrier::Http1(mut link, pool, place) => {
                // Otherwise it closes. Mostly the look that brought the end has found it ready.
                if link.is_ready() || link.look() {
                    pool.put(place, link);
                }
            }
            Carrier::Gone | Carrier::Http1Task(_) | Carrier::Http2(_) => {}
        }
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        ready!(this.turn.poll_more(cx));
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Carrier::Http1(link, ..) = &mut this.carrier
        {
            link.drive(cx);
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        match frame {
            Poll::Pending => {
                this.turn.end();
                Poll::Pending
            }
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.turn.note(frame.data_ref().map_or(0, Bytes::len));
                if frame.is_trailers() {
                    // Whoever writes to the client does not look for anything behind them.
                    this.release();
                } else {
                    this.release_at_end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // It closes. Whoever writes to the client gives up what is not written yet when it is
                // told, so it gets a chance to write before.
                this.carrier = Carrier::Gone;
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
