//! An upstream connection that knows how many bytes have come and gone.
//!
//! hyper says that a request failed, not whether anything of an answer was there before; and a timeout
//! for silence must know when there was none. So the bytes are counted below it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::connect::Connection;
use crate::net::descriptors::Descriptor;

/// What has gone over a connection. Its own thread writes it, and nobody waits for it.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    n_received: AtomicU64,
    n_sent: AtomicU64,
    /// Of who is told of the first bytes.
    early: AtomicWaker,
}

/// The bytes of which somebody is told that they have come: those of the first words, in more than one
/// piece if need be.
const EARLY_BYTES: u64 = 1024;

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(super) struct Wire {
    connection: Connection,
    traffic: Arc<Traffic>,
    _descriptor: Descriptor,
}

impl Traffic {
    /// Bytes that have come.
    pub(super) fn n_received(&self) -> u64 {
        self.n_received.load(Ordering::Relaxed)
    }

    /// Wakes this task whenever some of the first bytes have come, and whoever reads has looked at them.
    pub(super) fn wake_early(&self, waker: &Waker) {
        self.early.register(waker);
    }

    /// Bytes that the socket has taken.
    pub(super) fn n_sent(&self) -> u64 {
        self.n_sent.load(Ordering::Relaxed)
    }
}

impl Wire {
    pub(super) fn new(connection: Connection, descriptor: Descriptor) -> Self {
        Self {
            connection,
            traffic: Arc::default(),
            _descriptor: descriptor,
        }
    }

    /// What has gone over it, at any time.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    fn note_sent(&self, n_bytes: usize) {
        let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
        self.traffic.n_sent.fetch_add(n_bytes, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(cx, buffer))?;
        let n_bytes = buffer.filled().len().saturating_sub(n_before);
        let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
        let n_received = &self.traffic.n_received;
        if n_received.fetch_add(n_bytes, Ordering::Relaxed) < EARLY_BYTES {
            self.traffic.early.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n_bytes = ready!(Pin::new(&mut self.connection).poll_write(cx, bytes))?;
        self.note_sent(n_bytes);
        Poll::Ready(Ok(n_bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Nearly every request is one slice, for which the kernel has a shorter way.
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        let n_bytes = ready!(Pin::new(&mut self.connection).poll_write_vectored(cx, slices))?;
        self.note_sent(n_bytes);
        Poll::Ready(Ok(n_bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
