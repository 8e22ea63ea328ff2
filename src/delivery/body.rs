//! The body of an HTTP/2 response: a small buffer between a shard and hyper.
//!
//! An HTTP/2 stream has no socket of its own. Its subscriber writes here as it would to a socket that
//! holds [`CAPACITY`] bytes, and hyper takes from the other end what the client's windows allow. What
//! hyper took counts until it is on the connection, so the bound holds for all that is unsent, and
//! "all is sent" means the same as for a socket.
//!
//! Both ends live on the thread of the connection: the lock is never contended.
//!
//! How a stream ends decides who returns. A clean end is an empty DATA frame with END_STREAM; a cut
//! is RST_STREAM (RFC 9113, 8.1), which forgets what is yet to be sent. So whoever wants its last
//! bytes to arrive waits for them to be sent, and cuts then. The cut itself ([`Cut`]) waits for
//! nobody, and not for a window that the client keeps shut.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use hyper::body::{Body, Frame};

use crate::memory::{Budget, Held, WhatFor};

/// The shard's end. Dropping it cuts the stream.
#[derive(Debug)]
pub struct BodyWriter(Arc<Shared>);

/// hyper's end. When it is dropped, the client has left.
#[derive(Debug)]
pub struct EventBody(Arc<Shared>);

/// Tells when a stream is cut. hyper does not ask the body while the client's window is closed, so
/// whoever drives the stream must know it from here.
#[derive(Debug)]
pub struct Cut(Arc<Shared>);

/// Bytes that hyper has taken.
#[derive(Debug)]
pub struct Taken {
    bytes: Vec<u8>,
    /// Bytes of them that are sent.
    n_sent: usize,
    shared: Arc<Shared>,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is over: nobody need come back.
    Clean,
    /// At once, whatever is unsent.
    Cut,
    /// When all is sent.
    CutOnceSent,
}

/// What ends a body before its end: the stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WasCut;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whether anything was sent since somebody asked.
    has_sent: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Counts the stream, and its buffers once they fill up.
    held: Held,
    /// Written and not taken. Empty vectors hold no memory: an idle stream has no buffer.
    bytes: Vec<u8>,
    /// Taken and not sent.
    n_taken: usize,
    /// Set when the shard's end is through.
    ending: Option<Ending>,
    /// hyper's end is gone.
    is_abandoned: bool,
    /// hyper, if it waits for bytes.
    taker: Option<Waker>,
    /// Who waits for a cut.
    driver: Option<Waker>,
    /// The shard.
    writer: Option<Waker>,
    /// What the shard waits for, besides the client's leaving.
    awaited: Option<Awaited>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Room,
    Sent,
}

/// Bytes that a stream holds unsent before its subscriber has to wait: as many as a socket's
/// (`TCP_NOTSENT_LOWAT`), so that what is slow is the same on both.
pub const CAPACITY: usize = 16 * 1024;

/// Room that is worth waking a subscriber for.
const WORTHWHILE_ROOM: usize = CAPACITY / 2;

/// About what an idle stream takes in memory: here, in hyper, and its place in its shard. 1.2 to 2 KiB
/// were measured.
const STREAM_BYTES: usize = 2 * 1024;

/// Unsent bytes from which on a stream's buffers are counted, as if they were full. What is sent at
/// once is never counted, so delivering a small event costs no account.
const PILED_UP: usize = CAPACITY / 4;

/// A body, and what writes it. Its memory counts to `budget`.
pub fn body(budget: &Budget) -> (BodyWriter, EventBody) {
    let state = State {
        held: budget.hold(WhatFor::Http2, STREAM_BYTES),
        bytes: Vec::new(),
        n_taken: 0,
        ending: None,
        is_abandoned: false,
        taker: None,
        driver: None,
        writer: None,
        awaited: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        has_sent: AtomicBool::new(false),
    });
    (BodyWriter(Arc::clone(&shared)), EventBody(shared))
}

impl BodyWriter {
    /// Writes what there is room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, `BrokenPipe` if the client has left.
    pub fn try_write<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.is_abandoned {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut n_written = 0;
        let mut is_full = false;
        for piece in pieces {
            let n = state.append(piece);
            n_written += n;
            if n < piece.len() {
                is_full = true;
                break;
            }
        }
        if n_written == 0 && is_full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.n_unsent() > PILED_UP {
            state.held.resize(STREAM_BYTES + CAPACITY);
        }
        let taker = state.taker.take();
        drop(state);
        wake(taker);
        Ok(n_written)
    }

    /// Asks to be woken when there is room again.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_for(Awaited::Room, cx)
    }

    /// Asks to be woken when all is sent.
    pub fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_for(Awaited::Sent, cx)
    }

    /// Asks to be woken when the client leaves.
    pub fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.is_abandoned {
            return Poll::Ready(());
        }
        state.register_writer(cx);
        Poll::Pending
    }

    /// Whether a byte was sent since this was asked last. There is room only once many were.
    pub fn has_sent(&self) -> bool {
        self.0.has_sent.swap(false, Ordering::Relaxed)
    }

    /// Ends the stream.
    pub fn end(self, ending: Ending) {
        self.0.end(ending);
    }

    fn poll_for(&self, awaited: Awaited, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.is_abandoned || state.has(awaited) {
            return Poll::Ready(());
        }
        state.awaited = Some(awaited);
        state.register_writer(cx);
        Poll::Pending
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.0.end(Ending::Cut);
    }
}

impl EventBody {
    /// Tells when the stream is cut.
    pub fn cut(&self) -> Cut {
        Cut(Arc::clone(&self.0))
    }
}

impl Cut {
    /// Ready when the stream is to end, whatever is unsent then.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.is_cut() {
            return Poll::Ready(());
        }
        register(&mut state.driver, cx);
        Poll::Pending
    }
}

impl Body for EventBody {
    type Data = Taken;
    type Error = WasCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Taken>, WasCut>>> {
        let mut state = self.0.lock();
        match state.ending {
            _ if state.is_cut() => return Poll::Ready(Some(Err(WasCut))),
            _ if !state.bytes.is_empty() => {
                let bytes = std::mem::take(&mut state.bytes);
                state.n_taken += bytes.len();
                let shared = Arc::clone(&self.0);
                let n_sent = 0;
                let taken = Taken {
                    bytes,
                    n_sent,
                    shared,
                };
                return Poll::Ready(Some(Ok(Frame::data(taken))));
            }
            Some(Ending::Clean) => return Poll::Ready(None),
            Some(Ending::Cut | Ending::CutOnceSent) | None => {}
        }
        register(&mut state.taker, cx);
        Poll::Pending
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_abandoned = true;
        let bytes = std::mem::take(&mut state.bytes);
        let writer = state.writer.take();
        drop(state);
        drop(bytes);
        wake(writer);
    }
}

impl Buf for Taken {
    fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.n_sent)
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.get(self.n_sent..).unwrap_or_default()
    }

    fn advance(&mut self, n: usize) {
        self.n_sent = self.n_sent.saturating_add(n);
        self.shared.has_sent.store(true, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    /// Sent, or forgotten because the stream is reset: either way it takes no room any more.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.n_taken = state.n_taken.saturating_sub(self.bytes.len());
        if state.n_unsent() == 0 {
            state.held.resize(STREAM_BYTES);
        }
        let writer = match state.awaited {
            Some(awaited) if state.has(awaited) => {
                state.awaited = None;
                state.writer.clone()
            }
            _ => None,
        };
        let (taker, driver) = if state.is_cut() {
            (state.taker.take(), state.driver.take())
        } else {
            (None, None)
        };
        drop(state);
        wake(writer);
        wake(taker);
        wake(driver);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only the first ending counts.
    fn end(&self, ending: Ending) {
        let mut state = self.lock();
        state.ending.get_or_insert(ending);
        let (taker, driver) = (state.taker.take(), state.driver.take());
        drop(state);
        wake(taker);
        wake(driver);
    }
}

impl State {
    fn n_unsent(&self) -> usize {
        self.bytes.len() + self.n_taken
    }

    fn is_cut(&self) -> bool {
        match self.ending {
            Some(Ending::Cut) => true,
            Some(Ending::CutOnceSent) => self.n_unsent() == 0,
            Some(Ending::Clean) | None => false,
        }
    }

    fn has(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Room => CAPACITY.saturating_sub(self.n_unsent()) >= WORTHWHILE_ROOM,
            Awaited::Sent => self.n_unsent() == 0,
        }
    }

    /// Appends what there is room for, in a buffer that never grows beyond [`CAPACITY`].
    fn append(&mut self, piece: &[u8]) -> usize {
        let room = CAPACITY.saturating_sub(self.n_unsent());
        let piece = piece.get(..room).unwrap_or(piece);
        let len = self.bytes.len() + piece.len();
        if len > self.bytes.capacity() {
            // The first piece gets what it needs: mostly it is taken before the next one comes.
            let doubled = self.bytes.capacity().saturating_mul(2).min(CAPACITY);
            self.bytes
                .reserve_exact(len.max(doubled) - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        piece.len()
    }

    fn register_writer(&mut self, cx: &Context<'_>) {
        register(&mut self.writer, cx);
    }
}

impl fmt::Display for WasCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was cut")
    }
}

impl std::error::Error for WasCut {}

fn register(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

/// Never under the lock: who is woken may look here.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counter {
        fn n_wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn write(writer: &BodyWriter, bytes: &[u8]) -> io::Result<usize> {
        writer.try_write([bytes].into_iter())
    }

    fn poll(body: &mut EventBody, counter: &Arc<Counter>) -> Poll<Option<Result<Taken, WasCut>>> {
        let waker = Waker::from(Arc::clone(counter));
        let mut cx = Context::from_waker(&waker);
        let frame = Pin::new(body).poll_frame(&mut cx);
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().expect("data"))))
    }

    fn take(body: &mut EventBody, counter: &Arc<Counter>) -> Taken {
        match poll(body, counter) {
            Poll::Ready(Some(Ok(taken))) => taken,
            other => panic!("no data but {other:?}"),
        }
    }

    #[test]
    fn what_is_unsent_is_bounded_wherever_it_is() {
        let (writer, mut body) = body(&Budget::unlimited());
        let counter = Arc::default();
        assert_eq!(write(&writer, &[1; CAPACITY / 2]).ok(), Some(CAPACITY / 2));
        let taken = take(&mut body, &counter);
        assert_eq!(write(&writer, &[2; CAPACITY]).ok(), Some(CAPACITY / 2));
        let error = write(&writer, &[3]).expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(writer.0.lock().bytes.capacity() <= CAPACITY);
        let waker = Waker::from(Arc::clone(&counter));
        let cx = Context::from_waker(&waker);
        assert!(writer.poll_room(&cx).is_pending());
        let n_before = counter.n_wakes();
        drop(taken);
        assert_eq!(counter.n_wakes(), n_before + 1, "there is room again");
        assert!(writer.poll_room(&cx).is_ready());
        assert_eq!(take(&mut body, &counter).chunk(), [2; CAPACITY / 2]);
    }

    #[test]
    fn an_idle_body_has_no_buffer_and_wakes_hyper_once_per_write() {
        let (writer, mut body) = body(&Budget::unlimited());
        let counter = Arc::default();
        assert!(poll(&mut body, &counter).is_pending());
        for n in 1..10 {
            write(&writer, b"a").expect("room");
            write(&writer, b"b").expect("room");
            assert_eq!(counter.n_wakes(), n);
            assert_eq!(take(&mut body, &counter).chunk(), b"ab");
            assert!(poll(&mut body, &counter).is_pending());
        }
        assert_eq!(writer.0.lock().bytes.capacity(), 0);
    }

    #[test]
    fn small_writes_never_make_a_buffer_larger_than_it_may_be() {
        let (writer, _body) = body(&Budget::unlimited());
        let mut n_bytes = 0;
        while let Ok(n) = write(&writer, &[0; 100]) {
            n_bytes += n;
        }
        assert_eq!(n_bytes, CAPACITY);
        assert_eq!(writer.0.lock().bytes.capacity(), CAPACITY);
    }

    #[test]
    fn a_writer_that_is_dropped_cuts_at_once() {
        let (writer, mut body) = body(&Budget::unlimited());
        let counter = Arc::default();
        let cut = body.cut();
        let driver: Arc<Counter> = Arc::default();
        let waker = Waker::from(Arc::clone(&driver));
        let cx = Context::from_waker(&waker);
        assert!(cut.poll(&cx).is_pending());
        assert!(poll(&mut body, &counter).is_pending());
        write(&writer, b"a").expect("room");
        drop(writer);
        assert_eq!(driver.n_wakes(), 1);
        assert!(cut.poll(&cx).is_ready());
        assert!(matches!(
            poll(&mut body, &counter),
            Poll::Ready(Some(Err(WasCut)))
        ));
    }

    #[test]
    fn an_end_comes_after_the_bytes_and_a_late_cut_after_they_are_sent() {
        for ending in [Ending::Clean, Ending::CutOnceSent] {
            let (writer, mut body) = body(&Budget::unlimited());
            let counter = Arc::default();
            write(&writer, b"a").expect("room");
            writer.end(ending);
            let taken = take(&mut body, &counter);
            let end = poll(&mut body, &counter);
            if ending == Ending::Clean {
                assert!(matches!(end, Poll::Ready(None)));
                continue;
            }
            assert!(end.is_pending());
            drop(taken);
            assert_eq!(counter.n_wakes(), 1);
            assert!(matches!(
                poll(&mut body, &counter),
                Poll::Ready(Some(Err(WasCut)))
            ));
        }
    }

    #[test]
    fn a_client_that_leaves_wakes_the_writer_and_frees_the_bytes() {
        let (writer, body) = body(&Budget::unlimited());
        let counter: Arc<Counter> = Arc::default();
        let waker = Waker::from(Arc::clone(&counter));
        let cx = Context::from_waker(&waker);
        write(&writer, &[0; CAPACITY]).expect("room");
        assert!(writer.poll_left(&cx).is_pending());
        drop(body);
        assert_eq!(counter.n_wakes(), 1);
        assert!(writer.poll_left(&cx).is_ready());
        assert_eq!(writer.0.lock().bytes.capacity(), 0);
        let error = write(&writer, b"a").expect_err("nobody reads it");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_piles_up_counts_until_it_is_sent() {
        let budget = Budget::new(1024 * 1024);
        let (writer, mut body) = body(&budget);
        let counter = Arc::default();
        let idle = budget.used();
        write(&writer, &[0; 200]).expect("room");
        assert_eq!(budget.used(), idle, "an event that is sent at once");
        write(&writer, &[0; PILED_UP]).expect("room");
        assert_eq!(budget.used_for(WhatFor::Http2), idle + CAPACITY);
        let taken = take(&mut body, &counter);
        assert_eq!(budget.used(), idle + CAPACITY, "taken is not sent");
        drop(taken);
        assert_eq!(budget.used(), idle);
        write(&writer, &[0; CAPACITY]).expect("room");
        drop((writer, body));
        assert_eq!(budget.used(), 0);
    }
}
