//! The upstream of a channel: the task that holds the one connection to the origin.
//!
//! It connects, reads, and when that fails waits and connects again, until the origin says that the
//! channel is over; and it follows the channel's settings, whatever it is doing. It is the log's **One Writer**, and never waits for a subscriber.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::alarm::Alarm;
use super::decoded::DecodedBody;
use super::endpoints::{Endpoints, Failed, Next};
use super::error::{UpstreamError, with_causes};
use super::handover::{Bookmark, source_of};
use super::intake::{Intake, Missed};
use super::request::{self, Answer, Dialer, Failure, Line, header_value};
use super::returning::Trial;
use super::stream::Stream;
use super::{Channel, State};
use crate::config::diff::UpstreamChange;
use crate::config::{self, OnNewUrl, OnStatus};
use crate::log::{Ending, Writer};
use crate::sse::Parser;

/// The task of a channel's upstream, not yet running.
#[derive(Debug)]
pub struct Upstream {
    channel: Channel,
    /// What it goes by: the channel's settings, as far as it has followed them.
    settings: Arc<config::Channel>,
    changes: watch::Receiver<Arc<config::Channel>>,
    intake: Intake,
    endpoints: Endpoints,
    /// The last event ID of the origin: the only one that it is ever sent.
    last_event_id: Option<String>,
    /// When the first attempt may be; `None`: at once.
    resting_until: Option<Instant>,
    /// Failures in a row that may be due to that ID.
    n_fruitless: u32,
    /// Why events may have been missed when the next connection opens; `None`: none was open before.
    missed: Option<Missed>,
    /// When the first attempt was due.
    begun_at: Instant,
    /// Whether an attempt has failed.
    has_failed: bool,
    /// The advice that was logged last in this row of failures.
    advised: Option<&'static str>,
}

/// How a connection ended that was not a failure.
enum Finished {
    /// Its settings have changed; those that hold now are followed already.
    Changed,
    Over,
    /// A better endpoint, this one, is well again.
    Return(usize),
}

/// What comes next.
enum Then {
    Connect,
    /// An attempt at that time.
    Pause(Instant),
    /// Nothing, until a change says so much.
    Rest(UpstreamChange),
}

/// How long an origin may ask to be left alone by `Retry-After`. Clients wait for it.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// After how long an open stream that brings nothing ends an outage all the same.
const PROBATION: Duration = Duration::from_secs(5);

impl Upstream {
    pub(super) fn new(channel: Channel, writer: Writer) -> Self {
        let mut changes = channel.watch();
        let settings = Arc::clone(&changes.borrow_and_update());
        let intake = Intake::new(channel.clone(), writer, &settings);
        Self {
            channel,
            endpoints: endpoints(&settings),
            settings,
            changes,
            intake,
            last_event_id: None,
            resting_until: None,
            n_fruitless: 0,
            missed: None,
            begun_at: Instant::now(),
            has_failed: false,
            advised: None,
        }
    }

    /// Goes on where an earlier process was, as after a break of its connection; from another source
    /// nothing can be asked by an id of that one.
    pub(super) fn go_on_from(&mut self, bookmark: Bookmark) {
        let upstream = &self.settings.upstream;
        let is_same = upstream.on_new_url == OnNewUrl::Continue;
        let mut places = 0..upstream.urls.len();
        let is_known = places.any(|place| source_of(upstream, place) == bookmark.source);
        self.missed = Some(if is_same || is_known {
            self.last_event_id.clone_from(&bookmark.last_event_id);
            Missed::NotResumed
        } else {
            // What that one said last is no state of this one.
            self.intake.writer.begin_epoch(Instant::now());
            Missed::OtherSource
        });
        // As it was until the stream is open: this process may end before that.
        self.channel.shared.place.set(bookmark);
    }

    /// Begins after an event that a client has seen: what the origin sends first follows it.
    pub(super) fn go_on_after(&mut self, id: &str) {
        self.intake.writer.begin_after(id);
        self.last_event_id = Some(id.to_owned());
        self.missed = Some(Missed::NotResumed);
    }

    /// Asks nobody until then: an instance before this one has failed.
    pub(super) fn rest_until(&mut self, until: Instant) {
        self.resting_until = Some(until);
    }

    /// Holds the connection, for ever. Of what it takes, only what is needed without a connection is in
    /// the future itself: an instance on demand may be without one for long.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the log keeps what was appended.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function keeps its arguments twice"
    )]
    pub fn run(mut self, dialer: Dialer) -> impl Future<Output = Infallible> + Send {
        async move {
            self.begun_at = Instant::now();
            if let Some(until) = self.resting_until.take() {
                self.channel.shared.first_answer.note_silence();
                self.channel.enter(State::Waiting);
                self.pause(until).await;
            }
            loop {
                self.channel.enter(State::Connecting);
                self.intake.tell_health();
                let finished = Box::pin(self.hold_connection(&dialer)).await;
                match self.judge_end(finished) {
                    Then::Connect => {}
                    Then::Pause(until) => self.pause(until).await,
                    Then::Rest(least) => self.rest(least).await,
                }
            }
        }
    }

    /// What comes after a connection, or an attempt. Not part of what waits then, so that nothing of a
    /// failure is kept meanwhile.
    fn judge_end(&mut self, finished: Result<Finished, Failure>) -> Then {
        match finished {
            Ok(Finished::Changed) => Then::Connect,
            Ok(Finished::Over) => {
                self.enter_rest(State::Over);
                let name = self.channel.name();
                tracing::info!(channel = name, "the origin says that the channel is over");
                self.intake.writer.end(Ending::Over, Instant::now());
                self.channel.shared.first_answer.note_stream();
                Then::Rest(UpstreamChange::Reconnect)
            }
            Ok(Finished::Return(place)) => {
                self.endpoints.go_back(place);
                Then::Connect
            }
            Err(failure) => {
                let next = self.note_failure(&failure);
                self.has_failed = true;
                let Next::After(wait) = next else {
                    self.enter_rest(State::GaveUp);
                    return Then::Rest(UpstreamChange::Follow);
                };
                self.enter_rest(State::Waiting);
                Then::Pause(Instant::now() + wait)
            }
        }
    }

    fn enter_rest(&mut self, state: State) {
        self.channel.enter(state);
        self.intake.tell_health();
        self.intake.writer.rest(Instant::now());
    }

    /// Tells of a failure; returns what comes after it.
    fn note_failure(&mut self, failure: &Failure) -> Next {
        let now = Instant::now();
        let error = &failure.error;
        let failed = self.judge(error, now);
        let next = self.endpoints.failed(now, fastrand::f64(), failed);
        let is_of_the_seed = self.is_of_the_seed(error);
        if self.channel.shared.first_answer.is_refusal(error) && !is_of_the_seed {
            // Whoever guesses names would fill the log, and the counters of what is wrong.
            let (channel, error) = (self.channel.name(), with_causes(error));
            tracing::debug!(
                channel,
                url = failure.url,
                error,
                "the origin refuses an instance"
            );
        } else {
            self.report(failure, failed, next);
            self.channel.counters().failures.add(error);
        }
        if is_of_the_seed {
            self.give_up_last_event_id();
        } else {
            self.channel.shared.first_answer.note_failure(error);
            self.doubt_last_event_id(error);
        }
        self.channel.fail(error.reason(), with_causes(error));
        next
    }

    /// Asks nobody until then, unless a change gives hope.
    async fn pause(&mut self, until: Instant) {
        let wait = until.saturating_duration_since(Instant::now());
        self.channel.will_try_after(wait);
        // Somebody may only wait for the outcome of this attempt.
        self.channel.look_again();
        let mut alarm = Alarm::at(until);
        poll_fn(|cx| self.poll_pause(cx, &mut alarm)).await;
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<()> {
        while self.channel.poll_changed(cx, &self.changes).is_ready() {
            if self.follow() >= UpstreamChange::Reconnect {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let latest = now + *self.settings.upstream.backoff.end();
            let until = alarm.set_earlier(latest);
            self.channel
                .will_try_after(until.saturating_duration_since(now));
        }
        alarm.poll(cx)
    }

    /// What a failure means for the endpoint.
    fn judge(&self, error: &UpstreamError, now: Instant) -> Failed {
        let upstream = &self.settings.upstream;
        match error {
            UpstreamError::StreamEnded => Failed::Ended,
            UpstreamError::UnexpectedStatus { status, .. }
                if upstream.on_status.of(*status) == OnStatus::GiveUp =>
            {
                Failed::ForGood
            }
            UpstreamError::UnexpectedStatus { retry_after, .. } => {
                Failed::Once(retry_after.map(|wait| now + wait.min(LONGEST_RETRY_AFTER)))
            }
            _ => Failed::Once(None),
        }
    }

    /// Tells the log of a failure: one line, with advice that was not given yet in this outage.
    fn report(&mut self, failure: &Failure, failed: Failed, next: Next) {
        let Failure { error, url } = failure;
        let (channel, attempt) = (self.channel.name(), self.endpoints.backoff().n_failures());
        let (reason, cause) = (error.reason(), with_causes(error));
        let advice = error.advice();
        match next {
            Next::Never => tracing::error!(
                channel,
                url,
                reason,
                error = cause,
                advice,
                "upstream given up, as on_status says: it is not asked again until its settings change"
            ),
            Next::After(wait) => {
                // Once is enough, until a stream has been well for a while.
                if attempt == 1 {
                    self.advised = None;
                }
                let advice = advice.filter(|advice| self.advised.replace(advice) != Some(advice));
                let is_given_up = (failed == Failed::ForGood).then_some(true);
                tracing::warn!(
                    channel,
                    url,
                    reason,
                    error = cause,
                    advice,
                    attempt,
                    is_given_up,
                    retry_in = ?Duration::from_millis(wait.as_millis().try_into().unwrap_or(u64::MAX)),
                    "upstream failed"
                );
            }
        }
    }

    /// Asks nobody, when the channel is over or its upstream is given up, until a change says so much.
    async fn rest(&mut self, least: UpstreamChange) {
        loop {
            changed(&self.channel, &self.changes).await;
            if self.follow() >= least {
                break;
            }
        }
        self.endpoints = endpoints(&self.settings);
        self.intake.writer.reopen();
    }

    /// Goes by the channel's settings as they are now. Returns what their change means for the
    /// connection.
    fn follow(&mut self) -> UpstreamChange {
        let settings = Arc::clone(&self.changes.borrow_and_update());
        let before = std::mem::replace(&mut self.settings, settings);
        let change = self.settings.touches(&before).upstream;
        self.intake.follow(&self.settings);
        let place = self.place_in(&before.upstream);
        if let (UpstreamChange::None | UpstreamChange::Follow, Some(place)) = (change, place) {
            let upstream = &self.settings.upstream;
            if upstream.urls != before.upstream.urls {
                self.endpoints.renumber(upstream.urls.len(), place);
            }
            self.endpoints
                .backoff()
                .set_bounds(upstream.backoff.clone());
            if change == UpstreamChange::Follow {
                self.endpoints.forgive();
            }
            return change;
        }
        // What failed before says nothing of what is asked now.
        self.endpoints = endpoints(&self.settings);
        self.advised = None;
        self.n_fruitless = 0;
        if change == UpstreamChange::OtherSource {
            self.last_event_id = None;
            self.missed = self.missed.map(|_| Missed::OtherSource);
            self.intake.writer.begin_epoch(Instant::now());
        }
        change.max(UpstreamChange::Reconnect)
    }

    /// Where the URL that is asked by `before` stands in the list now.
    fn place_in(&self, before: &config::Upstream) -> Option<usize> {
        let asked = before.urls.get(self.endpoints.current())?;
        let urls = &self.settings.upstream.urls;
        urls.iter().position(|url| url == asked)
    }

    /// Gives up an ID that the origin does not go on from: it refuses it, or sends the same event
    /// that breaks a limit again and again. Without it the stream goes on, after a gap.
    fn doubt_last_event_id(&mut self, error: &UpstreamError) {
        const FRUITLESS: u32 = 2;
        // Other failures say nothing of it: another endpoint may just be away.
        if self.last_event_id.is_none() || !error.may_be_due_to_id() {
            return;
        }
        self.n_fruitless += 1;
        if self.n_fruitless >= FRUITLESS {
            self.give_up_last_event_id();
        }
    }

    /// Whether an origin has said that the id is gone which the first client has brought. That is no
    /// word on the stream, and not meant for the others.
    fn is_of_the_seed(&self, error: &UpstreamError) -> bool {
        let is_gone = matches!(error, UpstreamError::UnexpectedStatus { status, .. }
            if *status == StatusCode::GONE);
        is_gone && self.last_event_id.is_some() && self.channel.shared.first_answer.is_awaited()
    }

    /// Why events may have been missed before the first stream: subscribers are given theirs, and may
    /// fetch a state by it, before the origin has given one. For a moment that is no loss, as long as the
    /// origin may just be about to answer.
    fn missed_before(&self, now: Instant) -> Option<Missed> {
        let is_late =
            self.has_failed || now.duration_since(self.begun_at) > self.settings.first_answer;
        (is_late && self.channel.was_entered()).then_some(Missed::OpenedLate)
    }

    fn give_up_last_event_id(&mut self) {
        self.n_fruitless = 0;
        self.last_event_id = None;
        self.channel.shared.place.move_to("");
        let name = self.channel.name();
        tracing::warn!(
            channel = name,
            "the origin does not go on from its last id: trying without"
        );
    }

    /// One connection, from the attempt to its end.
    async fn hold_connection(&mut self, dialer: &Dialer) -> Result<Finished, Failure> {
        let settings = Arc::clone(&self.settings);
        let place = self.endpoints.current();
        self.channel.asks(place);
        let channel = self.channel.clone();
        let wanted = channel.wanted(&settings, place);
        let url = wanted.shown();
        tracing::debug!(channel = settings.name, %url, "connecting to the origin");
        let last_event_id = self.last_event_id.as_deref().and_then(header_value);
        let failed = |error| Failure {
            error: UpstreamError::ConnectFailed(error),
            url: url.clone(),
        };
        let line = dialer.line(settings.coalesce).map_err(failed)?;
        // In a box, which is gone when the stream is open.
        let mut answer = Box::pin(request::open(wanted, &line, last_event_id.as_ref()));
        let answered = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer?,
                () = changed(&self.channel, &self.changes) => {
                    if self.follow() >= UpstreamChange::Reconnect {
                        return Ok(Finished::Changed);
                    }
                }
            }
        };
        let Answer::Events(body) = answered else {
            return Ok(Finished::Over);
        };
        drop(answer);
        let now = Instant::now();
        self.endpoints.opened(now);
        self.channel.counters().upstream_opened.add(1);
        tracing::info!(channel = settings.name, %url, resumed_after = self.last_event_id, "upstream open");
        self.channel.enter(State::Open);
        self.intake.begin_stream();
        self.channel.shared.first_answer.note_stream();
        let source = source_of(&settings.upstream, place);
        let bookmark = &self.channel.shared.place;
        bookmark.open(source, self.last_event_id.as_deref());
        let missed = self.missed.replace(Missed::NotResumed);
        if let Some(missed) = missed.or_else(|| self.missed_before(now)) {
            match self.last_event_id.as_deref() {
                Some(id) if last_event_id.is_some() => {
                    let repeats = self.intake.writer.expect_repeats(id, now);
                    self.intake.repeats = Some(Box::new(repeats));
                }
                Some(_) | None => self.intake.tell_gap(missed, now),
            }
        }
        let read = self.read(body, &line).await;
        self.intake.repeats = None;
        read.map_err(|error| Failure { error, url })
    }

    /// Reads events until the stream fails or ends, or another one is wanted.
    async fn read(&mut self, body: DecodedBody, line: &Line) -> Result<Finished, UpstreamError> {
        let settings = &self.settings.upstream;
        let mut stream = Stream::new(body, settings, self.channel.log().budget());
        let mut idle = pin!(sleep(settings.idle_timeout));
        let mut trial = self.trial(line);
        let well_at = Instant::now() + PROBATION;
        loop {
            let is_on_probation = self.intake.is_on_probation();
            let (intake, backoff) = (&mut self.intake, self.endpoints.backoff());
            let returned = async {
                match &mut trial {
                    Some(trial) => trial.await,
                    None => std::future::pending().await,
                }
            };
            let broken = poll_fn(|cx| stream.poll_until_broken(cx, idle.as_mut(), intake, backoff));
            tokio::select! {
                // First what is there, then whether to go on.
                biased;
                error = broken => {
                    self.note_last_event_id(&stream.parser);
                    return Err(error);
                }
                () = changed(&self.channel, &self.changes) => {}
                () = sleep_until(well_at), if is_on_probation => {
                    self.intake.note_life();
                    continue;
                }
                place = returned => {
                    self.note_last_event_id(&stream.parser);
                    let url = self.channel.wanted(&self.settings, place).shown();
                    tracing::info!(channel = self.channel.name(), url, "going back: it is well again");
                    return Ok(Finished::Return(place));
                }
            }
            // What was read is kept before the settings that it was read by.
            self.note_last_event_id(&stream.parser);
            if self.follow() >= UpstreamChange::Reconnect {
                return Ok(Finished::Changed);
            }
            stream.idle_timeout = self.settings.upstream.idle_timeout;
            idle.set(sleep_until(stream.last_byte_at + stream.idle_timeout));
            trial = self.trial(line);
        }
    }

    /// The way back to a better endpoint than the present one, if there is any. In a box: few need it.
    fn trial<'a>(
        &self,
        line: &'a Line,
    ) -> Option<Pin<Box<dyn Future<Output = usize> + Send + 'a>>> {
        let least = self.settings.upstream.return_after?;
        let places: Vec<usize> = self.endpoints.better().collect();
        if places.is_empty() {
            return None;
        }
        let trial = Trial {
            channel: self.channel.clone(),
            settings: Arc::clone(&self.settings),
            line,
            places,
            proof: self.endpoints.proof(least),
        };
        Some(Box::pin(trial.run()))
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

/// Ready when there are settings that the upstream has not followed yet.
async fn changed(channel: &Channel, seen: &watch::Receiver<Arc<config::Channel>>) {
    poll_fn(|cx| channel.poll_changed(cx, seen)).await;
}

fn endpoints(settings: &config::Channel) -> Endpoints {
    let upstream = &settings.upstream;
    Endpoints::new(upstream.urls.len(), upstream.backoff.clone())
}
