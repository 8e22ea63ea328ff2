//! The content of a response: a short one, a document, an event stream of HTTP/2, or what a backend
//! sends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::fetch::DocumentBody;
use super::pace::Paced;
use crate::delivery::{EventBody, Taken, WasCut};
use crate::proxy;

/// The content of a response.
#[derive(Debug)]
pub(super) enum Reply {
    /// Written as it is sent.
    Document(DocumentBody),
    /// Fed by a shard.
    Events(EventBody),
    /// Passed on as it comes.
    Proxied(Paced),
    /// Short, and all there.
    Short(Full<Bytes>),
}

/// Why a response does not end as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Incomplete {
    /// The backend did not say the rest.
    #[error(transparent)]
    BrokeOff(#[from] proxy::BrokeOff),
    /// The shard has cut it.
    #[error(transparent)]
    WasCut(#[from] WasCut),
}

/// A piece of it.
#[derive(Debug)]
pub(super) enum Piece {
    Events(Taken),
    Short(Bytes),
}

impl Reply {
    pub(super) fn short(content: Full<Bytes>) -> Self {
        Self::Short(content)
    }

    pub(super) fn empty() -> Self {
        Self::Short(Full::default())
    }
}

impl Body for Reply {
    type Data = Piece;
    type Error = Incomplete;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Incomplete>>> {
        match self.get_mut() {
            Self::Document(document) => piece(Pin::new(document).poll_frame(cx), Piece::Short),
            Self::Events(events) => piece(Pin::new(events).poll_frame(cx), Piece::Events),
            Self::Proxied(body) => piece(Pin::new(body).poll_frame(cx), Piece::Short),
            Self::Short(content) => {
                let frame = Pin::new(content).poll_frame(cx);
                frame.map(|frame| {
                    let frame = frame?.unwrap_or_else(|never| match never {});
                    Some(Ok(frame.map_data(Piece::Short)))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Document(document) => document.is_end_stream(),
            Self::Events(_) => false,
            Self::Proxied(body) => body.is_end_stream(),
            Self::Short(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Document(document) => document.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::Proxied(body) => body.size_hint(),
            Self::Short(content) => content.size_hint(),
        }
    }
}

type Polled<T, E> = Poll<Option<Result<Frame<T>, E>>>;

/// What a body gave, as a piece of a response.
fn piece<T, E: Into<Incomplete>>(
    frame: Polled<T, E>,
    of: fn(T) -> Piece,
) -> Polled<Piece, Incomplete> {
    frame.map(|frame| {
        let frame = frame?.map(|frame| frame.map_data(of));
        Some(frame.map_err(Into::into))
    })
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Events(bytes) => bytes.remaining(),
            Self::Short(bytes) => bytes.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Events(bytes) => bytes.chunk(),
            Self::Short(bytes) => bytes.chunk(),
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Events(bytes) => bytes.advance(n),
            Self::Short(bytes) => bytes.advance(n),
        }
    }
}
