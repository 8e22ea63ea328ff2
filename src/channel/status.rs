//! What the upstream of a channel is doing, and what of that subscribers are told.
//!
//! A state is what the upstream does at present; a [`Health`] is what it means to who waits for
//! events. An outage is one `Down`, however many attempts there are in it: it begins with a failure,
//! and ends when a stream is open and has shown that it is well.

use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use tokio::time::Instant;

/// The event type of the notice that tells the health of the upstream.
pub const UPSTREAM_NOTICE: &str = "ssecast.upstream";

/// What the upstream is doing.
///
/// ```text
///   Connecting ──head is fine──▶ Open ──204──▶ Over
///       ▲  └────────fails──┐      │ fails
///       └──────waited── Waiting ◀─┘      GaveUp: an answer after which nothing is asked
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On the way to a response head.
    Connecting,
    /// Not asking: every URL has given an answer after which it is not asked again.
    GaveUp,
    /// Reading events.
    Open,
    /// The origin said that no more will come.
    Over,
    /// Until the next attempt.
    Waiting,
}

/// What the upstream is to who waits for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// On its way, and nothing has failed.
    Connecting,
    /// It has failed, and events may be missing.
    Down,
    /// Events come when there are some.
    Live,
    /// No more will come.
    Over,
}

/// The upstream's state, and how it came to it.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Which of the URLs is asked, or was last: its place in the list.
    pub endpoint: usize,
    /// Since when it is that one.
    pub endpoint_since: SystemTime,
    /// When the outage began, if there is one.
    pub down_since: Option<SystemTime>,
    /// How it failed last. In a box: most upstreams have never failed.
    pub last_failure: Option<Box<LastFailure>>,
    /// When it tries again, while it waits.
    ///
    /// By the monotonic clock: what waits for it must not wait longer because the wall clock was set.
    pub next_try: Option<Instant>,
}

/// How an upstream failed.
#[derive(Debug, Clone)]
pub struct LastFailure {
    /// Why, in a word.
    pub reason: &'static str,
    /// Why.
    pub error: String,
    /// When.
    pub at: SystemTime,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Connecting,
        Self::GaveUp,
        Self::Open,
        Self::Over,
        Self::Waiting,
    ];

    /// The state's name, as it is logged and told to operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::GaveUp => "gave-up",
            Self::Open => "open",
            Self::Over => "over",
            Self::Waiting => "waiting",
        }
    }
}

impl Status {
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            state: State::Connecting,
            since: now,
            endpoint: 0,
            endpoint_since: now,
            down_since: None,
            last_failure: None,
            next_try: None,
        }
    }

    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        self.since = SystemTime::now();
        self.next_try = None;
        if state == State::Over {
            self.down_since = None;
        }
    }

    pub(super) fn fail(&mut self, reason: &'static str, error: String) {
        let now = SystemTime::now();
        self.down_since.get_or_insert(now);
        self.last_failure = Some(Box::new(LastFailure {
            reason,
            error,
            at: now,
        }));
    }

    pub(super) fn recover(&mut self) {
        self.down_since = None;
    }

    /// Notes which of the URLs is asked; returns whether it is another one.
    pub(super) fn ask(&mut self, endpoint: usize) -> bool {
        let is_other = self.endpoint != endpoint;
        if is_other {
            self.endpoint = endpoint;
            self.endpoint_since = SystemTime::now();
        }
        is_other
    }

    /// What it means to who waits for events.
    pub fn health(&self) -> Health {
        match self.state {
            State::Over => Health::Over,
            _ if self.down_since.is_some() => Health::Down,
            State::Open => Health::Live,
            State::Connecting | State::GaveUp | State::Waiting => Health::Connecting,
        }
    }

    /// The data of the notice that tells it. Of a failure it says the kind, and nothing that an
    /// origin or a configuration has written.
    pub fn notice(&self) -> String {
        let health = self.health();
        let failure = self.last_failure.as_ref();
        let reason = failure.map_or("", |failure| failure.reason);
        let (since, reason) = match (health, self.down_since) {
            (Health::Down, Some(since)) => (since, format!(r#","reason":"{reason}""#)),
            _ => (self.since, String::new()),
        };
        let since = format_rfc3339_millis(since);
        format!(
            r#"{{"state":"{}","since":"{since}"{reason}}}"#,
            health.name()
        )
    }
}

impl Health {
    /// The name, as subscribers are told it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Down => "down",
            Self::Live => "live",
            Self::Over => "over",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_however_many_attempts_there_are_in_it() {
        let mut status = Status::new(SystemTime::UNIX_EPOCH);
        assert_eq!(
            status.notice(),
            r#"{"state":"connecting","since":"1970-01-01T00:00:00.000Z"}"#
        );
        status.fail("connect-failed", "can't connect".to_owned());
        status.enter(State::Waiting);
        let told = status.notice();
        for state in [State::Connecting, State::Open, State::Waiting] {
            status.enter(state);
            assert_eq!(status.notice(), told);
        }
        assert!(
            told.contains(r#""state":"down""#) && told.ends_with(r#""reason":"connect-failed"}"#)
        );
        status.enter(State::Open);
        status.recover();
        assert_eq!(status.health(), Health::Live);
        status.enter(State::Over);
        assert_eq!(status.health(), Health::Over);
    }
}
