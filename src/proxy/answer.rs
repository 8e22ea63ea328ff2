//! The content of an answer on its way to the client.
//!
//! Nothing is buffered: each piece that comes from upstream goes on at once, and the upstream is read
//! when the client's connection takes more. What is looked at on the way is how long the origin is
//! silent; and an event stream gets heartbeats, where that is configured.
//!
//! Dropping it is the cancellation: whoever reads it has lost the client, or ends the exchange.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::fields;
use super::heartbeat::Heartbeat;
use super::patience::Patience;
use super::upload::Watch;

/// The content of an answer.
pub(super) struct Answer<B: Body> {
    incoming: B,
    silence: Silence,
    patience: Patience,
    /// `None`: it gets no comments.
    heartbeat: Option<Box<Heartbeat>>,
    /// What came with the end of the stream.
    end: Option<Box<Frame<Bytes>>>,
    /// Why it breaks off, and for how many looks that is not told yet.
    failure: Option<Box<(AnswerFailure<B::Error>, u8)>>,
    /// The request's content, which may still be on its way.
    upload: Watch,
}

/// How long nothing has come although it was waited for.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// How long it may be; `None`: for ever.
    longest: Option<Duration>,
    /// `None`: something came at the last look.
    since: Option<Instant>,
    /// When a comment was due last in it.
    last_beat: Option<Instant>,
}

/// For so many looks a failure is not told. HTTP libraries throw away what they have not written when
/// a body fails, and what came before should reach the client, at least the head: so they get turns to
/// write it, in which nothing else comes.
const TURNS_BEFORE_FAILURE: u8 = 3;

/// What is to be done about a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Beat,
    GiveUp(Duration),
    /// Nothing, until then; `None`: for ever.
    Wait(Option<Instant>),
}

/// Why the content of an answer did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerFailure<E> {
    /// The upstream connection failed, or what came is not what HTTP allows.
    #[error("the upstream broke off")]
    Broken(#[source] E),
    /// The origin sent nothing for too long.
    #[error("the origin sent nothing for {0:?}")]
    Silent(Duration),
}

impl<B: Body<Data = Bytes>> Answer<B> {
    /// The content of an answer to a request with this content.
    pub(super) fn new(
        incoming: B,
        idle_timeout: Option<Duration>,
        heartbeat: Option<Box<Heartbeat>>,
        upload: Watch,
    ) -> Self {
        Self {
            incoming,
            silence: Silence {
                longest: idle_timeout,
                since: None,
                last_beat: None,
            },
            patience: Patience::default(),
            heartbeat,
            end: None,
            failure: None,
            upload,
        }
    }

    /// What goes on of a piece from upstream; `None`: nothing.
    fn pass(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        self.silence.end();
        if !self.upload.has_ended() {
            self.upload.touch(Instant::now());
        }
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                fields::response_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        };
        let Some(heartbeat) = &mut self.heartbeat else {
            return Some(frame);
        };
        match frame.into_data() {
            Ok(piece) => {
                let piece = heartbeat.pass(&piece);
                (!piece.is_empty()).then(|| Frame::data(piece))
            }
            Err(trailers) => {
                let rest = heartbeat.finish();
                if rest.is_empty() {
                    return Some(trailers);
                }
                self.end = Some(Box::new(trailers));
                Some(Frame::data(rest))
            }
        }
    }

    /// Tells a failure when its time has come.
    fn poll_failure(&mut self, cx: &Context<'_>) -> Poll<Option<AnswerFailure<B::Error>>> {
        if let Some((_, turns)) = self.failure.as_deref_mut()
            && *turns > 0
        {
            *turns -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.failure.take().map(|failure| failure.0))
    }

    /// Waits for the origin, which sends nothing; ready with a comment when one is due, or with how long
    /// it was waited for when that is too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Duration>> {
        loop {
            let interval = self.heartbeat.as_ref().map(|heartbeat| heartbeat.interval);
            // What goes the other way counts, too.
            let other = self.upload.last_seen();
            match self.silence.look(Instant::now(), other, interval) {
                Due::GiveUp(patience) => return Poll::Ready(Err(patience)),
                Due::Wait(None) => return Poll::Pending,
                Due::Wait(Some(until)) => ready!(self.patience.poll_until(until, cx)),
                Due::Beat => {
                    // In the middle of an event there is none: when that ends, the silence has ended.
                    if let Some(comment) = self.heartbeat.as_mut().and_then(|one| one.beat()) {
                        return Poll::Ready(Ok(comment));
                    }
                }
            }
        }
    }
}

impl Silence {
    fn end(&mut self) {
        self.since = None;
        self.last_beat = None;
    }

    /// Nothing has come. `other`: when something went the other way; `interval`: of comments.
    fn look(&mut self, now: Instant, other: Option<Instant>, interval: Option<Duration>) -> Due {
        let since = *self.since.get_or_insert(now);
        let moved = other.map_or(since, |other| other.max(since));
        let give_up_at = self.longest.map(|longest| moved + longest);
        if let (Some(at), Some(longest)) = (give_up_at, self.longest)
            && at <= now
        {
            return Due::GiveUp(longest);
        }
        let beat_at = interval.map(|interval| self.last_beat.unwrap_or(since) + interval);
        if beat_at.is_some_and(|at| at <= now) {
            self.last_beat = Some(now);
            return Due::Beat;
        }
        Due::Wait(match (give_up_at, beat_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        })
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = AnswerFailure<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.failure.is_some() {
            return this.poll_failure(cx).map(|failure| failure.map(Err));
        }
        if let Some(end) = this.end.take() {
            return Poll::Ready(Some(Ok(*end)));
        }
        loop {
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(frame) = this.pass(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let failure = AnswerFailure::Broken(error);
                    this.failure = Some(Box::new((failure, TURNS_BEFORE_FAILURE)));
                    return this.poll_failure(cx).map(|failure| failure.map(Err));
                }
                Poll::Ready(None) => {
                    let heartbeat = this.heartbeat.take();
                    let rest =
                        heartbeat.map_or_else(Bytes::new, |mut heartbeat| heartbeat.finish());
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
                Poll::Pending => {
                    return match ready!(this.poll_silence(cx)) {
                        Ok(comment) => Poll::Ready(Some(Ok(Frame::data(comment)))),
                        Err(patience) => Poll::Ready(Some(Err(AnswerFailure::Silent(patience)))),
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() && self.heartbeat.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.heartbeat {
            Some(_) => SizeHint::default(),
            None => self.incoming.size_hint(),
        }
    }
}

impl<B: Body> Drop for Answer<B> {
    fn drop(&mut self) {
        // An upload whose answer is over has nobody to tell.
        self.upload.abandon();
    }
}

impl<B: Body> fmt::Debug for Answer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("silence", &self.silence)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::proxy::test_bodies::{Failed, Script, Scripted, script, shown};
    use crate::proxy::upload::{Expectation, Limits, Upload};

    const MINUTE: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_secs(15);

    fn no_upload() -> Watch {
        let empty = http_body_util::Empty::<Bytes>::new();
        Upload::new(empty, Limits::default(), Expectation::None).1
    }

    fn answer(heartbeat: Option<Duration>) -> (Script, Answer<Scripted>) {
        let (origin, incoming) = script();
        let heartbeat = heartbeat.map(|interval| Box::new(Heartbeat::new(interval)));
        let download = Answer::new(incoming, None, heartbeat, no_upload());
        (origin, download)
    }

    fn poll(
        download: &mut Answer<Scripted>,
    ) -> Poll<Option<Result<String, AnswerFailure<Failed>>>> {
        let frame = Pin::new(download).poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.map(shown)))
    }

    /// What comes at once; without anything, nothing.
    fn next(download: &mut Answer<Scripted>) -> String {
        match poll(download) {
            Poll::Ready(Some(Ok(text))) => text,
            Poll::Ready(None) => "end".to_owned(),
            Poll::Ready(Some(Err(error))) => error.to_string(),
            Poll::Pending => "nothing".to_owned(),
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn heartbeats_come_in_a_silence_and_do_not_hide_how_long_it_is() {
        let begin = Instant::now();
        let mut silence = Silence {
            longest: Some(MINUTE),
            since: None,
            last_beat: None,
        };
        let mut look = |at| silence.look(begin + seconds(at), None, Some(INTERVAL));
        assert_eq!(look(0), Due::Wait(Some(begin + seconds(15))));
        assert_eq!(look(14), Due::Wait(Some(begin + seconds(15))));
        assert_eq!(look(15), Due::Beat);
        assert_eq!(look(16), Due::Wait(Some(begin + seconds(30))));
        assert_eq!(look(31), Due::Beat);
        assert_eq!(look(46), Due::Beat);
        assert_eq!(look(46), Due::Wait(Some(begin + seconds(60))));
        assert_eq!(look(60), Due::GiveUp(MINUTE));
    }

    #[test]
    fn any_byte_of_the_origin_puts_a_heartbeat_off() {
        let begin = Instant::now();
        let mut silence = Silence {
            longest: None,
            since: None,
            last_beat: None,
        };
        silence.look(begin, None, Some(INTERVAL));
        assert_eq!(
            silence.look(begin + seconds(15), None, Some(INTERVAL)),
            Due::Beat
        );
        silence.end();
        let due = silence.look(begin + seconds(20), None, Some(INTERVAL));
        assert_eq!(due, Due::Wait(Some(begin + seconds(35))));
        silence.end();
        assert_eq!(silence.look(begin, None, None), Due::Wait(None));
    }

    #[test]
    fn an_origin_may_be_silent_while_the_client_sends() {
        let begin = Instant::now();
        let mut silence = Silence {
            longest: Some(MINUTE),
            since: None,
            last_beat: None,
        };
        silence.look(begin, None, None);
        let sent = Some(begin + seconds(50));
        let due = silence.look(begin + seconds(60), sent, None);
        assert_eq!(due, Due::Wait(Some(begin + seconds(110))));
        assert_eq!(
            silence.look(begin + seconds(110), sent, None),
            Due::GiveUp(MINUTE)
        );
    }

    #[tokio::test]
    async fn an_event_that_is_half_written_is_not_torn() {
        let interval = Duration::from_millis(1);
        let (origin, mut stream) = answer(Some(interval));
        origin.data("data: a\nda");
        assert_eq!(next(&mut stream), "data: a\nda");
        // Due several times while the event is waited for.
        let begin = Instant::now();
        let torn = std::future::poll_fn(|cx| {
            if begin.elapsed() > interval * 20 {
                return Poll::Ready(None);
            }
            Pin::new(&mut stream).poll_frame(cx).map(Some)
        });
        assert!(torn.await.is_none(), "a comment in an event");
        origin.data("ta: b\n\n");
        assert_eq!(next(&mut stream), "ta: b\n\n");
        let frame = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_frame(cx)).await;
        assert_eq!(shown(frame.unwrap().unwrap()), ":\n");
        assert!(begin.elapsed() >= interval * 20);
    }

    #[tokio::test]
    async fn a_silent_origin_is_given_up() {
        let (_origin, incoming) = script();
        let patience = Duration::from_millis(5);
        let mut download = Answer::new(incoming, Some(patience), None, no_upload());
        let frame = std::future::poll_fn(|cx| Pin::new(&mut download).poll_frame(cx)).await;
        assert!(matches!(frame, Some(Err(AnswerFailure::Silent(waited))) if waited == patience));
    }

    #[test]
    fn an_answer_that_is_over_ends_the_upload() {
        let (_client, incoming) = script();
        let (_upload, watch) = Upload::new(incoming, Limits::default(), Expectation::None);
        let (origin, incoming) = script();
        let mut download = Answer::new(incoming, None, None, watch.clone());
        drop(origin);
        assert_eq!(next(&mut download), "end");
        assert_eq!(watch.failure(), None);
        drop(download);
        assert!(watch.failure().is_some());
    }

    #[test]
    fn the_end_and_the_trailers_are_the_origins() {
        let (origin, mut stream) = answer(None);
        assert_eq!(next(&mut stream), "nothing");
        origin.data("a");
        origin.trailers();
        assert_eq!(next(&mut stream), "a");
        assert_eq!(next(&mut stream), "trailers");
        drop(origin);
        assert_eq!(next(&mut stream), "end");

        let (origin, mut stream) = answer(None);
        origin.fail();
        for _ in 0..TURNS_BEFORE_FAILURE {
            assert_eq!(next(&mut stream), "nothing");
        }
        assert_eq!(next(&mut stream), "the upstream broke off");
    }

    #[tokio::test]
    async fn half_a_byte_order_mark_behind_a_comment_is_not_lost() {
        let (origin, mut stream) = answer(Some(Duration::from_millis(1)));
        let frame = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_frame(cx)).await;
        assert_eq!(shown(frame.unwrap().unwrap()), ":\n");
        origin.bytes(b"\xEF\xBB");
        origin.trailers();
        assert_eq!(next(&mut stream), String::from_utf8_lossy(b"\xEF\xBB"));
        assert_eq!(next(&mut stream), "trailers");
    }
}
