//! One direction of a tunnel: what one side says is what the other hears.
//!
//! It holds nothing while nothing is on its way: bytes are read into a buffer that all tunnels of a
//! thread share, and only what the other side did not take is kept. While there is such a rest,
//! nothing is read; so whoever is slow slows down who talks to it, and nobody else.
//!
//! ```text
//! Open ──▶ Parting ──▶ Listening ──▶ Over
//!   │         │                       ▲
//!   ╰─────────┴─────▶ Ending ─────────╯
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    /// What was said and the other side has not taken.
    rest: Vec<u8>,
    /// How much of it was taken. Invariant: 0 if `rest` is empty, else less than its length.
    n_taken: usize,
    /// Whether the sink may have kept something of what it took to itself.
    is_unflushed: bool,
    /// Where the frames of what was said end; `None`: it has none, or none that we know.
    frames: Option<Frames>,
    stage: Stage,
    /// Bytes passed on since it was asked last.
    n_bytes: u64,
    /// Whether a byte has moved since it was asked last.
    has_moved: bool,
}

/// How a direction has ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The source has said all that it had to say, or what it says is not wanted any more, and the
    /// sink knows.
    Ended,
    /// The connection of the sink broke.
    SinkFailed(io::Error),
    /// The connection of the source broke. What it had said before is with the sink.
    SourceFailed(io::Error),
}

#[derive(Debug)]
enum Stage {
    /// What the source says is passed on.
    Open,
    /// The same, up to the end of a frame, where this is said.
    Parting(Vec<u8>),
    /// The last word is ours. The source is heard out, until it has said its own.
    Listening {
        has_heard: bool,
        /// Whether the sink has answered, and need not be kept.
        may_end: bool,
        has_ended: bool,
    },
    /// The source has ended: the rest is passed on, and then that.
    Ending,
    /// The source has failed: the rest is passed on.
    Failing(io::Error),
    Over(Outcome),
}

/// Bytes that are read at a time; what is kept of one that does not take them is no more than that.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// Bytes that one direction may move before others have their turn.
const TURN_BYTES: usize = 4 * READ_BYTES;

impl Pipe {
    /// Begins with what the source has said already.
    pub(super) fn new(early: Vec<u8>, mut frames: Option<Frames>) -> Self {
        if let Some(frames) = &mut frames {
            frames.follow(&early);
        }
        Self {
            n_bytes: early.len() as u64,
            has_moved: !early.is_empty(),
            rest: early,
            n_taken: 0,
            is_unflushed: false,
            frames,
            stage: Stage::Open,
        }
    }

    /// Moves what can be moved, in a bounded turn. It is woken when there is more, until it is over.
    pub(super) fn poll<S, T>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut T,
        space: &mut [u8],
    ) where
        S: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        // What it came to is its outcome.
        match self.poll_turn(cx, source, sink, space) {
            Poll::Ready(()) | Poll::Pending => {}
        }
    }

    fn poll_turn<S, T>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut T,
        space: &mut [u8],
    ) -> Poll<()>
    where
        S: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut n_left = TURN_BYTES;
        loop {
            if self.is_over() {
                return Poll::Ready(());
            }
            self.say_goodbye();
            let sent = match self.poll_send(cx, sink) {
                Poll::Ready(Ok(())) => Poll::Ready(()),
                Poll::Ready(Err(error)) => {
                    self.stage = Stage::Over(Outcome::SinkFailed(error));
                    continue;
                }
                Poll::Pending => Poll::Pending,
            };
            if n_left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match &mut self.stage {
                Stage::Open | Stage::Parting(_) => {
                    ready!(sent);
                    let n = ready!(self.poll_pass(cx, source, sink, space));
                    n_left = n_left.saturating_sub(n);
                }
                Stage::Listening { .. } => {
                    let n = ready!(self.poll_listen(cx, (source, sink), space, sent));
                    n_left = n_left.saturating_sub(n);
                }
                Stage::Ending => {
                    ready!(sent);
                    let outcome = match ready!(Pin::new(&mut *sink).poll_shutdown(cx)) {
                        Ok(()) => Outcome::Ended,
                        Err(error) => Outcome::SinkFailed(error),
                    };
                    self.stage = Stage::Over(outcome);
                }
                Stage::Failing(error) => {
                    ready!(sent);
                    let error = std::mem::replace(error, io::ErrorKind::Other.into());
                    self.stage = Stage::Over(Outcome::SourceFailed(error));
                }
                Stage::Over(_) => return Poll::Ready(()),
            }
        }
    }

    /// Says this at the end of a frame, and passes nothing on afterwards. Where a frame ends is not
    /// known, or the source has said its last word: only that, and no more.
    pub(super) fn part(&mut self, last_word: Vec<u8>) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        self.stage = match &self.frames {
            None => Stage::Ending,
            Some(frames) if frames.has_closed() => Stage::Listening {
                has_heard: true,
                may_end: false,
                has_ended: false,
            },
            Some(frames) if frames.is_over() => Stage::Ending,
            Some(_) => Stage::Parting(last_word),
        };
        self.say_goodbye();
    }

    /// The sink has said its last word, too: it need not be kept. Returns whether that is news.
    pub(super) fn release(&mut self) -> bool {
        match &mut self.stage {
            Stage::Listening { may_end, .. } => !std::mem::replace(may_end, true),
            _ => false,
        }
    }

    /// Whether the source has said its last word.
    pub(super) fn has_heard(&self) -> bool {
        match self.stage {
            Stage::Open | Stage::Parting(_) => false,
            Stage::Listening { has_heard, .. } => has_heard,
            Stage::Ending | Stage::Failing(_) | Stage::Over(_) => true,
        }
    }

    /// Whether a byte has moved since this was asked last.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.stage {
            Stage::Over(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// How many bytes were passed on since this was asked last.
    pub(super) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.n_bytes)
    }

    /// What it holds.
    pub(super) fn n_held(&self) -> usize {
        self.rest.capacity()
    }

    /// If a frame ends here, the last word follows.
    fn say_goodbye(&mut self) {
        let is_at_boundary = self.frames.as_ref().is_some_and(Frames::is_at_boundary);
        if let (Stage::Parting(last_word), true) = (&mut self.stage, is_at_boundary) {
            self.rest.append(last_word);
            self.stage = Stage::Listening {
                has_heard: false,
                may_end: false,
                has_ended: false,
            };
        }
    }

    /// Reads, and gives it to the sink; returns how much it was.
    fn poll_pass<S, T>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut T,
        space: &mut [u8],
    ) -> Poll<usize>
    where
        S: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut said = ReadBuf::new(space);
        if let Err(error) = ready!(Pin::new(source).poll_read(cx, &mut said)) {
            self.stage = Stage::Failing(error);
            return Poll::Ready(0);
        }
        let said = said.filled();
        if said.is_empty() {
            self.stage = Stage::Ending;
            return Poll::Ready(0);
        }
        self.has_moved = true;
        let n_passed = self.follow(said);
        let (passed, unwanted) = said.split_at_checked(n_passed).unwrap_or((said, &[]));
        self.n_bytes += passed.len() as u64;
        let n_taken = match Pin::new(sink).poll_write(cx, passed) {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(error)) => {
                self.stage = Stage::Over(Outcome::SinkFailed(error));
                return Poll::Ready(0);
            }
            Poll::Pending => 0,
        };
        self.is_unflushed = n_taken > 0;
        let kept = passed.get(n_taken..).unwrap_or_default();
        self.rest.extend_from_slice(kept);
        if !unwanted.is_empty() {
            self.say_goodbye();
            self.hear(unwanted);
        }
        Poll::Ready(said.len())
    }

    /// How much of what was said is to be passed on.
    fn follow(&mut self, said: &[u8]) -> usize {
        let Some(frames) = &mut self.frames else {
            return said.len();
        };
        if matches!(self.stage, Stage::Parting(_)) {
            return frames.follow_to_boundary(said).unwrap_or(said.len());
        }
        frames.follow(said);
        said.len()
    }

    /// Notes what is said after our last word: whether it is the last of the source.
    fn hear(&mut self, said: &[u8]) {
        let Some(frames) = &mut self.frames else {
            return;
        };
        frames.follow(said);
        let is_over = frames.is_over();
        if let Stage::Listening { has_heard, .. } = &mut self.stage {
            *has_heard |= is_over;
        }
    }

    /// Hears the source out, and ends the sink when that may be.
    fn poll_listen<S, T>(
        &mut self,
        cx: &mut Context<'_>,
        (source, sink): (&mut S, &mut T),
        space: &mut [u8],
        sent: Poll<()>,
    ) -> Poll<usize>
    where
        S: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let Stage::Listening {
            has_heard,
            may_end,
            has_ended,
        } = &mut self.stage
        else {
            return Poll::Ready(0);
        };
        if sent.is_ready()
            && *may_end
            && !*has_ended
            && let Poll::Ready(ended) = Pin::new(sink).poll_shutdown(cx)
        {
            *has_ended = true;
            if let Err(error) = ended {
                self.stage = Stage::Over(Outcome::SinkFailed(error));
                return Poll::Ready(0);
            }
        }
        if *has_heard && *has_ended {
            self.stage = Stage::Over(Outcome::Ended);
            return Poll::Ready(0);
        }
        if *has_heard {
            return Poll::Pending;
        }
        let mut said = ReadBuf::new(space);
        match ready!(Pin::new(source).poll_read(cx, &mut said)) {
            Ok(()) if said.filled().is_empty() => *has_heard = true,
            Ok(()) => self.hear(said.filled()),
            // It need not be told.
            Err(_) => *has_heard = true,
        }
        Poll::Ready(said.filled().len())
    }

    /// Ready when the sink has all that was said, and has sent it.
    fn poll_send<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut T,
    ) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.rest.get(self.n_taken..) {
            match ready!(Pin::new(&mut *sink).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.n_taken += n,
            }
            self.has_moved = true;
            self.is_unflushed = true;
        }
        self.n_taken = 0;
        if self.rest.capacity() > 0 {
            // Idle tunnels hold nothing.
            self.rest = Vec::new();
        }
        if self.is_unflushed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
