//! Bodies that a test writes while they are read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// A body that [`Script`] writes.
#[derive(Debug)]
pub(super) struct Scripted(mpsc::Receiver<Result<Frame<Bytes>, Failed>>);

/// What is written into a [`Scripted`]. It ends with this.
#[derive(Debug)]
pub(super) struct Script(mpsc::Sender<Result<Frame<Bytes>, Failed>>);

/// As the test wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as the test wants it")]
pub(super) struct Failed;

pub(super) fn script() -> (Script, Scripted) {
    let (tx, rx) = mpsc::channel(16);
    (Script(tx), Scripted(rx))
}

/// A piece as text.
pub(super) fn shown(frame: Frame<Bytes>) -> String {
    match frame.into_data() {
        Ok(data) => String::from_utf8_lossy(&data).into_owned(),
        Err(_) => "trailers".to_owned(),
    }
}

impl Script {
    pub(super) fn data(&self, text: &'static str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn bytes(&self, bytes: &'static [u8]) {
        self.put(Ok(Frame::data(Bytes::from_static(bytes))));
    }

    pub(super) fn trailers(&self) {
        self.put(Ok(Frame::trailers(HeaderMap::new())));
    }

    pub(super) fn fail(&self) {
        self.put(Err(Failed));
    }

    fn put(&self, frame: Result<Frame<Bytes>, Failed>) {
        self.0.try_send(frame).expect("there is room, and a reader");
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        self.0.poll_recv(cx)
    }
}
