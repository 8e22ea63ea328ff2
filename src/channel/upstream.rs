//! The upstream of a channel: the task that holds the one connection to the origin.
//!
//! It connects, reads, and when that fails waits and connects again, until the origin says that the
//! channel is over; and it follows the channel's settings, whatever it is doing. It is the log's **One Writer**, and never waits for a subscriber.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::error::{UpstreamError, with_causes};
use super::exchange::{Body, Drained, Flow};
use super::handover::{Bookmark, source_of};
use super::intake::{Intake, Missed};
use super::reconnect::Backoff;
use super::request::{self, Answer, Dialer, Failure};
use super::{Channel, State, UPSTREAM_NOTICE};
use crate::config::diff::UpstreamChange;
use crate::config::{self, OnNewUrl};
use crate::log::{Ending, MAX_ID_BYTES, Writer};
use crate::memory::{Held, WhatFor};
use crate::sse::{Item, Limits, Parser};

/// The task of a channel's upstream, not yet running.
#[derive(Debug)]
pub struct Upstream {
    channel: Channel,
    /// What it goes by: the channel's settings, as far as it has followed them.
    settings: Arc<config::Channel>,
    changes: watch::Receiver<Arc<config::Channel>>,
    intake: Intake,
    backoff: Backoff,
    /// The last event ID of the origin: the only one that it is ever sent.
    last_event_id: Option<String>,
    /// Failures in a row that may be due to that ID.
    n_fruitless: u32,
    /// Why events may have been missed when the next connection opens; `None`: none was open before.
    missed: Option<Missed>,
    /// The advice that was logged last in this outage.
    advised: Option<&'static str>,
    /// The state that subscribers were told last.
    told: Option<State>,
}

/// How a connection ended that was not a failure.
enum Finished {
    /// Its settings have changed; those that hold now are followed already.
    Changed,
    Over,
}

impl Upstream {
    pub(super) fn new(channel: Channel, writer: Writer) -> Self {
        let mut changes = channel.watch();
        let settings = Arc::clone(&changes.borrow_and_update());
        let intake = Intake::new(channel.clone(), writer, &settings);
        Self {
            channel,
            backoff: Backoff::new(settings.upstream.backoff.clone()),
            settings,
            changes,
            intake,
            last_event_id: None,
            n_fruitless: 0,
            missed: None,
            advised: None,
            told: None,
        }
    }

    /// Goes on where an earlier process was, as after a break of its connection; from another source
    /// nothing can be asked by an id of that one.
    pub(super) fn go_on_from(&mut self, bookmark: Bookmark) {
        let upstream = &self.settings.upstream;
        let is_same = upstream.on_new_url == OnNewUrl::Continue;
        self.missed = Some(if is_same || bookmark.source == source_of(upstream) {
            self.last_event_id.clone_from(&bookmark.last_event_id);
            Missed::NotResumed
        } else {
            Missed::OtherSource
        });
        // As it was until the stream is open: this process may end before that.
        self.channel.shared.place.set(bookmark);
    }

    /// Holds the connection, for ever.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the log keeps what was appended.
    pub async fn run(mut self, dialer: Dialer) -> ! {
        loop {
            self.enter(State::Connecting, None);
            match self.hold_connection(&dialer).await {
                Ok(Finished::Changed) => {}
                Ok(Finished::Over) => self.rest().await,
                Err(failure) => self.wait_after(failure).await,
            }
        }
    }

    /// Waits after a failure, or until a change gives hope.
    async fn wait_after(&mut self, failure: Failure) {
        let Failure { error, url } = failure;
        let wait = self.backoff.failed(Instant::now(), fastrand::f64());
        self.channel.counters().failures.add(&error);
        let cause = with_causes(&error);
        let attempt = self.backoff.n_failures();
        // Once is enough.
        let advice = error
            .advice()
            .filter(|advice| self.advised.replace(advice) != Some(advice));
        tracing::warn!(
            channel = self.channel.name(),
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
        let mut until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                Ok(()) = self.changes.changed() => match self.follow() {
                    UpstreamChange::Reconnect | UpstreamChange::OtherSource => return,
                    UpstreamChange::None | UpstreamChange::Follow => {
                        let now = Instant::now();
                        until = until.min(now + *self.settings.upstream.backoff.end());
                        self.channel.will_try_after(until - now);
                    }
                }
            }
        }
    }

    /// Waits, when the channel is over, until it is told to ask again.
    async fn rest(&mut self) {
        let name = self.channel.name();
        tracing::info!(channel = name, "the origin says that the channel is over");
        self.intake.writer.end(Ending::Over, Instant::now());
        self.channel.enter(State::Over, None);
        while self.changes.changed().await.is_ok() {
            if self.follow() >= UpstreamChange::Reconnect {
                break;
            }
        }
        self.told = None;
        self.intake.writer.reopen();
    }

    /// Goes by the channel's settings as they are now. Returns what their change means for the
    /// connection.
    fn follow(&mut self) -> UpstreamChange {
        let settings = Arc::clone(&self.changes.borrow_and_update());
        let before = std::mem::replace(&mut self.settings, settings);
        let change = self.settings.touches(&before).upstream;
        self.intake.follow(&self.settings);
        let bounds = self.settings.upstream.backoff.clone();
        if change < UpstreamChange::Reconnect {
            self.backoff.set_bounds(bounds);
            return change;
        }
        // What failed before says nothing of what is asked now.
        self.backoff = Backoff::new(bounds);
        self.advised = None;
        self.n_fruitless = 0;
        if change == UpstreamChange::OtherSource {
            self.last_event_id = None;
            self.missed = self.missed.map(|_| Missed::OtherSource);
            self.intake.writer.begin_epoch(Instant::now());
        }
        change
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
            self.channel.shared.place.move_to("");
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
        self.intake.tell_all(UPSTREAM_NOTICE, &state.notice());
    }

    /// One connection, from the attempt to its end.
    async fn hold_connection(&mut self, dialer: &Dialer) -> Result<Finished, Failure> {
        let settings = Arc::clone(&self.settings);
        let url = settings.upstream.shown_url();
        tracing::debug!(channel = settings.name, %url, "connecting to the origin");
        let last_event_id = self.last_event_id.as_deref().and_then(header_value);
        let failed = |error| Failure {
            error: UpstreamError::ConnectFailed(error),
            url: url.clone(),
        };
        let line = dialer.line(settings.coalesce).map_err(failed)?;
        let mut answer = pin!(request::open(
            &settings.upstream,
            &line,
            last_event_id.as_ref()
        ));
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer?,
                Ok(()) = self.changes.changed() => {
                    if self.follow() >= UpstreamChange::Reconnect {
                        return Ok(Finished::Changed);
                    }
                }
            }
        };
        let Answer::Events(body) = answer else {
            return Ok(Finished::Over);
        };
        let now = Instant::now();
        self.backoff.opened(now);
        self.advised = None;
        self.channel.counters().upstream_opened.add(1);
        tracing::info!(channel = settings.name, %url, resumed_after = self.last_event_id, "upstream open");
        self.enter(State::Open, None);
        let place = &self.channel.shared.place;
        place.open(source_of(&settings.upstream), self.last_event_id.as_deref());
        if let Some(missed) = self.missed.replace(Missed::NotResumed) {
            match self.last_event_id.as_deref() {
                Some(id) if last_event_id.is_some() => {
                    self.intake.repeats = Some(self.intake.writer.expect_repeats(id, now));
                }
                Some(_) | None => self.intake.tell_gap(missed, now),
            }
        }
        match self.read(body).await {
            Some(error) => Err(Failure { error, url }),
            None => Ok(Finished::Changed),
        }
    }

    /// Reads events until the stream fails or ends; `None`: until another one is wanted.
    async fn read(&mut self, body: Body) -> Option<UpstreamError> {
        let settings = &self.settings.upstream;
        let limits = Limits {
            max_line_bytes: settings.max_line_bytes,
            max_event_bytes: settings.max_event_bytes,
        };
        let mut stream = Stream {
            body,
            parser: Parser::new(limits),
            held: self.channel.log().budget().hold(WhatFor::Events, 0),
            last_byte_at: Instant::now(),
            idle_timeout: settings.idle_timeout,
        };
        let mut idle = pin!(sleep(settings.idle_timeout));
        let broken = loop {
            let (intake, backoff) = (&mut self.intake, &mut self.backoff);
            let broken = poll_fn(|cx| stream.poll_until_broken(cx, idle.as_mut(), intake, backoff));
            tokio::select! {
                // First what is there, then whether to go on.
                biased;
                error = broken => break Some(error),
                Ok(()) = self.changes.changed() => {}
            }
            // What was read is kept before the settings that it was read by.
            self.note_last_event_id(&stream.parser);
            if self.follow() >= UpstreamChange::Reconnect {
                break None;
            }
            stream.idle_timeout = self.settings.upstream.idle_timeout;
            idle.set(sleep_until(stream.last_byte_at + stream.idle_timeout));
        };
        self.intake.repeats = None;
        if broken.is_some() {
            self.note_last_event_id(&stream.parser);
        }
        broken
    }

    /// An empty ID takes the last one back (WHATWG HTML, 9.2.6).
    fn note_last_event_id(&mut self, parser: &Parser) {
        let Some(id) = parser.last_event_id() else {
            return;
        };
        let id = Some(id).filter(|id| !id.is_empty());
        if self.last_event_id.as_deref() != id {
            self.last_event_id = id.map(str::to_owned);
            self.n_fruitless = 0;
        }
    }
}

/// An open event stream.
struct Stream {
    body: Body,
    parser: Parser,
    /// Counts the parser's buffers: an event may be large, and its end may never come.
    held: Held,
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
            self.held.resize(self.parser.reserved_bytes());
            self.last_byte_at = now;
            intake.commit(n_bytes, now);
            if let Some(id) = self.parser.last_event_id() {
                intake.note_last_event_id(id);
            }
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
