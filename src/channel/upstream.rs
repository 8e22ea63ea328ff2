//! The upstream of a channel: the task that holds the one connection to the origin.
//!
//! It connects, reads, and when that fails waits and connects again, until the origin says that the
//! channel is over. It is the log's **One Writer**, and never waits for a subscriber.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::error::{UpstreamError, with_causes};
use super::exchange::{Body, Drained, Flow};
use super::reconnect::Backoff;
use super::request::{self, Answer, Dialer, Failure};
use super::{Channel, State, UPSTREAM_NOTICE};
use crate::config::{self, Notices};
use crate::log::{Ending, MAX_ID_BYTES, Repeats, Verdict, Writer};
use crate::sse::{Event, Item, Limits, Parser};

/// The task of a channel's upstream, not yet running.
#[derive(Debug)]
pub struct Upstream {
    channel: Channel,
    intake: Intake,
    backoff: Backoff,
    /// The last event ID of the origin: the only one that it is ever sent.
    last_event_id: Option<String>,
    /// Failures in a row that may be due to that ID.
    n_fruitless: u32,
    /// Whether a connection was open before, so that events may have been missed since.
    was_open: bool,
    /// The advice that was logged last in this outage.
    advised: Option<&'static str>,
    /// The state that subscribers were told last.
    told: Option<State>,
}

/// Where parsed events go.
#[derive(Debug)]
struct Intake {
    channel: Channel,
    writer: Writer,
    /// While the origin may be repeating what is in the log.
    repeats: Option<Repeats>,
    /// Events in a batch are appended at this many bytes, so that a batch is a small part of the
    /// history.
    batch_bytes: usize,
    n_events: u64,
}

/// How a connection ended that was not a failure.
enum Finished {
    Over,
}

impl Upstream {
    pub(super) fn new(channel: Channel, writer: Writer) -> Self {
        const BATCH_BYTES: usize = 64 * 1024;
        let settings = channel.settings();
        let backoff = Backoff::new(settings.upstream.backoff.clone());
        let batch_bytes = BATCH_BYTES.min(settings.history.bytes / 4);
        let intake = Intake {
            channel: channel.clone(),
            writer,
            repeats: None,
            batch_bytes,
            n_events: 0,
        };
        Self {
            channel,
            intake,
            backoff,
            last_event_id: None,
            n_fruitless: 0,
            was_open: false,
            advised: None,
            told: None,
        }
    }

    /// Holds the connection until the channel is over.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the log keeps what was appended.
    pub async fn run(mut self, dialer: Dialer) {
        let name = self.channel.name().to_owned();
        loop {
            self.enter(State::Connecting, None);
            let Failure { error, url } = match self.hold_connection(&dialer).await {
                Ok(Finished::Over) => break,
                Err(failure) => failure,
            };
            let wait = self.backoff.failed(Instant::now(), fastrand::f64());
            self.channel.counters().failures.add(&error);
            let cause = with_causes(&error);
            let attempt = self.backoff.n_failures();
            // Once is enough.
            let advice = error
                .advice()
                .filter(|advice| self.advised.replace(advice) != Some(advice));
            tracing::warn!(
                channel = name,
                url,
                reason = error.reason(),
                error = cause,
                advice,
                attempt,
                retry_in = ?Duration::from_millis(wait.as_millis().try_into().unwrap_or(u64::MAX)),
                "upstream failed"
            );
            self.doubt_last_event_id(&error);
            self.enter(State::Waiting, Some(cause));
            self.channel.will_try_after(wait);
            sleep(wait).await;
        }
        tracing::info!(channel = name, "the origin says that the channel is over");
        self.intake.writer.end(Ending::Over, Instant::now());
        self.channel.enter(State::Over, None);
    }

    /// Gives up an ID that the origin does not go on from: it refuses it, or sends the same event
    /// that breaks a limit again and again. Without it the stream goes on, after a gap.
    fn doubt_last_event_id(&mut self, error: &UpstreamError) {
        const FRUITLESS: u32 = 2;
        if self.last_event_id.is_none() || !error.may_be_due_to_id() {
            self.n_fruitless = 0;
            return;
        }
        self.n_fruitless += 1;
        if self.n_fruitless >= FRUITLESS {
            self.n_fruitless = 0;
            self.last_event_id = None;
            let name = self.channel.name();
            tracing::warn!(
                channel = name,
                "the origin does not go on from its last id: trying without"
            );
        }
    }

    /// Notes a state, and tells it to subscribers that want to know. The attempts of an outage are
    /// not told one by one: they would push the events out of the history.
    fn enter(&mut self, state: State, last_error: Option<String>) {
        self.channel.enter(state, last_error);
        let is_same_outage = state == State::Connecting && self.told == Some(State::Waiting);
        if is_same_outage || self.told == Some(state) {
            return;
        }
        self.told = Some(state);
        if self.channel.settings().notices == Notices::All {
            let writer = &mut self.intake.writer;
            writer.push_notice(UPSTREAM_NOTICE, &state.notice());
            self.intake.writer.commit(Instant::now());
        }
    }

    /// One connection, from the attempt to its end.
    async fn hold_connection(&mut self, dialer: &Dialer) -> Result<Finished, Failure> {
        let settings = self.channel.settings();
        let url = settings.upstream.shown_url();
        tracing::debug!(channel = settings.name, %url, "connecting to the origin");
        let last_event_id = self.last_event_id.as_deref().and_then(header_value);
        let answer = request::open(&settings.upstream, dialer, last_event_id.as_ref()).await?;
        let Answer::Events(body) = answer else {
            return Ok(Finished::Over);
        };
        let now = Instant::now();
        self.backoff.opened(now);
        self.advised = None;
        self.channel.counters().upstream_opened.add(1);
        tracing::info!(channel = settings.name, %url, resumed_after = self.last_event_id, "upstream open");
        self.enter(State::Open, None);
        if std::mem::replace(&mut self.was_open, true) {
            match self.last_event_id.as_deref() {
                Some(id) if last_event_id.is_some() => {
                    self.intake.repeats = Some(self.intake.writer.expect_repeats(id, now));
                }
                Some(_) | None => self.intake.tell_gap(now),
            }
        }
        let error = self.read(body, &settings.upstream).await;
        Err(Failure { error, url })
    }

    /// Reads events until the stream fails or ends.
    async fn read(&mut self, body: Body, settings: &config::Upstream) -> UpstreamError {
        let limits = Limits {
            max_line_bytes: settings.max_line_bytes,
            max_event_bytes: settings.max_event_bytes,
        };
        let mut stream = Stream {
            body,
            parser: Parser::new(limits),
            last_byte_at: Instant::now(),
            idle_timeout: settings.idle_timeout,
        };
        let mut idle = pin!(sleep(settings.idle_timeout));
        let (intake, backoff) = (&mut self.intake, &mut self.backoff);
        let error =
            poll_fn(|cx| stream.poll_until_broken(cx, idle.as_mut(), intake, backoff)).await;
        self.intake.repeats = None;
        // An empty ID takes the last one back (WHATWG HTML, 9.2.6).
        if let Some(id) = stream.parser.last_event_id() {
            let id = Some(id).filter(|id| !id.is_empty());
            if self.last_event_id.as_deref() != id {
                self.last_event_id = id.map(str::to_owned);
                self.n_fruitless = 0;
            }
        }
        error
    }
}

/// An open event stream.
struct Stream {
    body: Body,
    parser: Parser,
    last_byte_at: Instant,
    idle_timeout: Duration,
}

impl Stream {
    /// Reads, parses and appends what is readable. Ready when the stream has broken.
    fn poll_until_broken(
        &mut self,
        cx: &mut Context<'_>,
        idle: Pin<&mut Sleep>,
        intake: &mut Intake,
        backoff: &mut Backoff,
    ) -> Poll<UpstreamError> {
        let now = Instant::now();
        let mut broken = None;
        let parser = &mut self.parser;
        let (n_bytes, drained) = self.body.drain(cx, |piece| {
            let parsed = parser.push(piece, |item| match item {
                Item::Event(event) => intake.receive(&event, now),
                Item::Retry(wish) => backoff.set_origin_wish(wish),
            });
            broken = parsed.err();
            if broken.is_some() {
                Flow::Stop
            } else {
                Flow::Continue
            }
        });
        if n_bytes > 0 {
            self.last_byte_at = now;
            intake.commit(n_bytes, now);
        }
        if let Some(limit) = broken {
            return Poll::Ready(UpstreamError::LimitExceeded(limit));
        }
        match drained {
            Drained::Dry => self.poll_idle(cx, idle, now),
            Drained::Ended => Poll::Ready(UpstreamError::StreamEnded),
            Drained::Failed(error) => Poll::Ready(UpstreamError::StreamBroke(error)),
            Drained::Full => {
                // A flood from this origin must not keep the thread from its other work.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Fails if no byte came for too long. The timer is set again only when it fires, so that a
    /// read does not touch it.
    fn poll_idle(
        &self,
        cx: &mut Context<'_>,
        mut idle: Pin<&mut Sleep>,
        now: Instant,
    ) -> Poll<UpstreamError> {
        while idle.as_mut().poll(cx).is_ready() {
            let deadline = self.last_byte_at + self.idle_timeout;
            if deadline <= now {
                return Poll::Ready(UpstreamError::Stalled);
            }
            idle.set(sleep_until(deadline));
        }
        Poll::Pending
    }
}

impl Intake {
    /// Takes an event of the origin.
    fn receive(&mut self, event: &Event<'_>, now: Instant) {
        if let Some(repeats) = &mut self.repeats {
            match self.writer.judge(repeats, event, now) {
                Verdict::Repeat => {
                    self.channel.counters().repeats.add(1);
                    return;
                }
                Verdict::Undecided => {}
                Verdict::Resumed => self.repeats = None,
                Verdict::Missed => {
                    self.repeats = None;
                    self.tell_gap(now);
                }
            }
        }
        self.writer.push(event);
        self.n_events += 1;
        if self.writer.pending_bytes() >= self.batch_bytes {
            self.writer.commit(now);
        }
    }

    /// **Every Loss Is Told**: events may have been missed, nobody knows how many.
    fn tell_gap(&mut self, now: Instant) {
        let settings = self.channel.settings();
        let is_told = settings.notices != Notices::None;
        tracing::warn!(
            channel = settings.name,
            is_told,
            "the origin could not go on where it was: subscribers may miss events"
        );
        self.channel.counters().gaps.add(1);
        if is_told {
            let data = r#"{"missed":"unknown","reason":"upstream-not-resumed"}"#;
            self.writer.push_notice("ssecast.gap", data);
            self.writer.commit(now);
        }
    }

    /// Appends what one drained read of `n_bytes` brought.
    fn commit(&mut self, n_bytes: usize, now: Instant) {
        self.writer.commit(now);
        let counters = self.channel.counters();
        counters.upstream_bytes.add(n_bytes as u64);
        let n_events = std::mem::take(&mut self.n_events);
        if n_events > 0 {
            counters.events.add(n_events);
            counters.last_event_at.is_now();
        }
    }
}

/// An ID as a header field value; `None` if HTTP can't carry it, so that it can't be resumed from.
fn header_value(id: &str) -> Option<HeaderValue> {
    if id.len() > MAX_ID_BYTES {
        tracing::warn!(
            bytes = id.len(),
            "an event ID that is too long to resume from"
        );
        return None;
    }
    let value = HeaderValue::from_bytes(id.as_bytes());
    value
        .inspect_err(|_| tracing::warn!(id, "an event ID that no header field can carry"))
        .ok()
}
