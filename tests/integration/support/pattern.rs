//! Contents of any size that need no memory: what is sent, and whether what comes is that.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

/// A content of so many bytes, of which none is where it could be taken for another.
pub(crate) struct Pattern {
    block: Bytes,
    n_bytes: u64,
    at: u64,
    /// Whether its length is told.
    has_length: bool,
    trailers: Option<HeaderMap>,
    produced: Arc<AtomicU64>,
}

/// Looks at what comes.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    block: Bytes,
    /// Bytes that came.
    pub(crate) n_bytes: u64,
}

/// No divisor of any size at which something is cut.
const BLOCK_BYTES: usize = 65_521;
/// Of a piece.
const PIECE_BYTES: usize = 32 * 1024;

fn block() -> Bytes {
    let mut state = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.take(BLOCK_BYTES).collect()
}

fn place_in_block(at: u64) -> usize {
    let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small number");
    usize::try_from(at % block_bytes).expect("a small number")
}

impl Pattern {
    pub(crate) fn new(n_bytes: u64) -> Self {
        Self {
            block: block(),
            n_bytes,
            at: 0,
            has_length: true,
            trailers: None,
            produced: Arc::default(),
        }
    }

    /// Its length is not told: chunks.
    pub(crate) fn without_length(self) -> Self {
        Self {
            has_length: false,
            ..self
        }
    }

    /// With these behind it.
    pub(crate) fn with_trailers(self, trailers: HeaderMap) -> Self {
        Self {
            has_length: false,
            trailers: Some(trailers),
            ..self
        }
    }

    /// How many bytes of it were asked for, at any time.
    pub(crate) fn produced(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.produced)
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let left = usize::try_from(self.n_bytes - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            let trailers = self.trailers.take();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let begin = place_in_block(self.at);
        let end = BLOCK_BYTES.min(begin + left.min(PIECE_BYTES));
        let piece = self.block.slice(begin..end);
        self.at += u64::try_from(piece.len()).expect("a small number");
        self.produced.store(self.at, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_length && self.at == self.n_bytes
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_length {
            SizeHint::with_exact(self.n_bytes - self.at)
        } else {
            SizeHint::default()
        }
    }
}

impl Checker {
    /// Takes the next bytes, which must be those of a [`Pattern`].
    pub(crate) fn take(&mut self, mut piece: &[u8]) {
        if self.block.is_empty() {
            self.block = block();
        }
        while !piece.is_empty() {
            let expected = &self.block[place_in_block(self.n_bytes)..];
            let n = expected.len().min(piece.len());
            assert!(
                piece[..n] == expected[..n],
                "bytes {}..{} are others",
                self.n_bytes,
                self.n_bytes + u64::try_from(n).expect("a small number")
            );
            self.n_bytes += u64::try_from(n).expect("a small number");
            piece = &piece[n..];
        }
    }

    /// Reads a body of a [`Pattern`] to its end; returns its trailers.
    pub(crate) async fn read<B>(&mut self, body: &mut B) -> Result<Option<HeaderMap>, B::Error>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(piece)) => self.take(&piece),
                Some(Err(other)) => return Ok(other.into_trailers().ok()),
                None => return Ok(None),
            }
        }
    }
}
