//! The content of a response: a short one, a document, or an event stream of HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::fetch::DocumentBody;
use crate::delivery::{EventBody, Taken, WasCut};

/// The content of a response.
#[derive(Debug)]
pub(super) enum Reply {
    /// Written as it is sent.
    Document(DocumentBody),
    /// Fed by a shard.
    Events(EventBody),
    /// Short, and all there.
    Short(Full<Bytes>),
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
    type Error = WasCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, WasCut>>> {
        let frame = match self.get_mut() {
            Self::Events(events) => Pin::new(events).poll_frame(cx),
            Self::Document(document) => {
                let frame = Pin::new(document).poll_frame(cx);
                return frame.map(|frame| Some(frame?.map(|frame| frame.map_data(Piece::Short))));
            }
            Self::Short(content) => {
                let frame = Pin::new(content).poll_frame(cx);
                return frame.map(|frame| {
                    let frame = frame?.unwrap_or_else(|never| match never {});
                    Some(Ok(frame.map_data(Piece::Short)))
                });
            }
        };
        frame.map(|frame| Some(frame?.map(|frame| frame.map_data(Piece::Events))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Document(document) => document.is_end_stream(),
            Self::Events(_) => false,
            Self::Short(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Document(document) => document.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::Short(content) => content.size_hint(),
        }
    }
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
