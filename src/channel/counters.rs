//! What a channel counts. Counting is one relaxed addition per read, pass or departure, never one
//! per delivered event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::UpstreamError;
use crate::config::OnLag;
use crate::count::{Counter, Latency};
use crate::log::{Follows, Replay};
use crate::net::permit::Limit;

/// The counters of a channel.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events of the origin that were appended to the log.
    pub events: Counter,
    /// Bytes of the origin's event stream.
    pub upstream_bytes: Counter,
    /// Upstream connections that opened.
    pub upstream_opened: Counter,
    /// Changes from one of the upstream's URLs to another.
    pub failovers: Counter,
    /// Upstream connections that failed or ended.
    pub failures: Failures,
    /// When the origin sent its last event.
    pub last_event_at: Moment,
    /// Events that an origin repeated after a reconnect and that were dropped.
    pub repeats: Counter,
    /// Gaps that subscribers were told of.
    pub gaps: Counter,
    /// Events that subscribers' sockets took, replayed ones and the gateway's own included.
    pub delivered_events: Counter,
    /// Bytes that subscribers' sockets took, response heads and heartbeats included.
    pub delivered_bytes: Counter,
    /// Those of `delivered_events` that went to a subscriber before it had caught up.
    pub replayed_events: Counter,
    /// How long the others of them took.
    pub latency: Latency,
    /// Subscribers that came.
    pub arrivals: Counter,
    /// Instances that were made because somebody asked for them.
    pub instances: Counter,
    /// Ambiguous ids of instances that are gone; those of the others are in their logs.
    pub ambiguous_ids_gone: Counter,
    /// What the channel had, as JSON, for those who asked for it.
    pub fetches: Counter,
    /// Subscribers that were told that their history is incomplete.
    pub resets: Counter,
    lagged: [Counter; OnLag::ALL.len()],
    lag_missed: [Counter; OnLag::ALL.len()],
    first_answers: [Counter; FirstAnswered::ALL.len()],
    refusals: [Counter; RefusedBy::ALL.len()],
    replays: [Counter; Replayed::ALL.len()],
    departures: [Counter; Departure::ALL.len()],
}

/// A time that only the last of matters.
#[derive(Debug, Default)]
pub struct Moment(AtomicU64);

/// Failures of an upstream by their reasons.
#[derive(Debug, Default)]
pub struct Failures([Counter; UpstreamError::REASONS.len()]);

/// By what a request for a stream was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// `connection_rate`
    ConnectionRate,
    /// `max_connections`
    MaxConnections,
    /// `max_instances`
    MaxInstances,
    /// `max_connections_per_address`
    MaxConnectionsPerAddress,
    /// `max_connections_per_network`
    MaxConnectionsPerNetwork,
    /// `max_subscribers`
    MaxSubscribers,
    /// `max_views`
    MaxViews,
    /// `[server] memory`
    Memory,
    /// The gateway stops, or the channel is removed.
    Stop,
    /// `while_down`
    UpstreamDown,
}

/// What the origin of a new instance said first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAnswered {
    /// Nothing in time, or a failure that may pass: clients got a stream and wait.
    Held,
    /// An event stream, or that it is over.
    Opened,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 410
    Gone,
}

/// What a new subscriber was given of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// The whole history: it had seen nothing.
    All,
    /// All that it had missed.
    Complete,
    /// What `on_gap` says, because what it had missed is not all there any more.
    Expired,
    /// The newest event of each key: it had seen nothing.
    Latest,
    /// Nothing: it had seen nothing.
    Live,
    /// Some of the newest events: it had seen nothing.
    Newest,
    /// What `on_gap` says, because its id is not known.
    Unknown,
}

/// Why a subscriber's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It was there for `max_age`.
    Aged,
    /// The client closed the connection, or sent what no subscriber sends.
    ClientLeft,
    /// It was further behind than `lag.limit`, or than the log reaches.
    Lagged,
    /// The channel is over.
    Over,
    /// The configuration no longer has the channel.
    Removed,
    /// Its socket took nothing for `write_timeout`, or its peer left unanswered for so long what was
    /// sent.
    Stalled,
    /// The gateway stops.
    Stopped,
    /// The socket failed.
    WriteFailed,
}

impl Counters {
    /// How many subscribers left for this reason.
    pub fn departures(&self, departure: Departure) -> &Counter {
        let [
            aged,
            client_left,
            lagged,
            over,
            removed,
            stalled,
            stopped,
            write_failed,
        ] = &self.departures;
        match departure {
            Departure::Aged => aged,
            Departure::ClientLeft => client_left,
            Departure::Lagged => lagged,
            Departure::Over => over,
            Departure::Removed => removed,
            Departure::Stalled => stalled,
            Departure::Stopped => stopped,
            Departure::WriteFailed => write_failed,
        }
    }
}

impl Counters {
    /// How often a subscriber was too far behind and was dealt with by this policy.
    pub fn lagged(&self, policy: OnLag) -> &Counter {
        Self::of_policy(&self.lagged, policy)
    }

    /// How many events subscribers did not get by this policy.
    pub fn lag_missed(&self, policy: OnLag) -> &Counter {
        Self::of_policy(&self.lag_missed, policy)
    }

    fn of_policy(counters: &[Counter; OnLag::ALL.len()], policy: OnLag) -> &Counter {
        let [conflate, disconnect, skip] = counters;
        match policy {
            OnLag::Conflate => conflate,
            OnLag::Disconnect => disconnect,
            OnLag::Skip => skip,
        }
    }
}

impl Counters {
    /// How many requests were refused by this.
    pub fn refusals(&self, by: RefusedBy) -> &Counter {
        let [
            connection_rate,
            max_connections,
            per_address,
            per_network,
            max_instances,
            max_subscribers,
            max_views,
            memory,
            stopping,
            upstream_down,
        ] = &self.refusals;
        match by {
            RefusedBy::ConnectionRate => connection_rate,
            RefusedBy::MaxConnections => max_connections,
            RefusedBy::MaxInstances => max_instances,
            RefusedBy::MaxConnectionsPerAddress => per_address,
            RefusedBy::MaxConnectionsPerNetwork => per_network,
            RefusedBy::MaxSubscribers => max_subscribers,
            RefusedBy::MaxViews => max_views,
            RefusedBy::Memory => memory,
            RefusedBy::Stop => stopping,
            RefusedBy::UpstreamDown => upstream_down,
        }
    }

    /// How many requests were refused, by whatever.
    pub fn n_refusals(&self) -> u64 {
        self.refusals.iter().map(Counter::value).sum()
    }

    /// How many new instances were told this first.
    pub fn first_answers(&self, answered: FirstAnswered) -> &Counter {
        let [held, opened, unauthorized, forbidden, not_found, gone] = &self.first_answers;
        match answered {
            FirstAnswered::Held => held,
            FirstAnswered::Opened => opened,
            FirstAnswered::Unauthorized => unauthorized,
            FirstAnswered::Forbidden => forbidden,
            FirstAnswered::NotFound => not_found,
            FirstAnswered::Gone => gone,
        }
    }

    /// How many subscribers were given this of the past.
    pub fn replays(&self, replayed: Replayed) -> &Counter {
        let [all, complete, expired, latest, live, newest, unknown] = &self.replays;
        match replayed {
            Replayed::All => all,
            Replayed::Latest => latest,
            Replayed::Newest => newest,
            Replayed::Complete => complete,
            Replayed::Expired => expired,
            Replayed::Live => live,
            Replayed::Unknown => unknown,
        }
    }
}

impl Failures {
    /// Adds a failure.
    pub fn add(&self, error: &UpstreamError) {
        if let Some(counter) = self.counter(error.reason()) {
            counter.add(1);
        }
    }

    /// How many there were for a reason.
    pub fn of(&self, reason: &str) -> u64 {
        self.counter(reason).map_or(0, Counter::value)
    }

    /// How many there were.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Counter::value).sum()
    }

    fn counter(&self, reason: &str) -> Option<&Counter> {
        let mut known = UpstreamError::REASONS.iter().zip(&self.0);
        known.find_map(|(known, counter)| (*known == reason).then_some(counter))
    }
}

impl Moment {
    /// Notes that it is now.
    pub fn is_now(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// When it was noted last.
    pub fn time(&self) -> Option<SystemTime> {
        let millis = self.0.load(Ordering::Relaxed);
        (millis > 0).then(|| UNIX_EPOCH + Duration::from_millis(millis))
    }
}

impl RefusedBy {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::ConnectionRate,
        Self::MaxConnections,
        Self::MaxConnectionsPerAddress,
        Self::MaxConnectionsPerNetwork,
        Self::MaxInstances,
        Self::MaxSubscribers,
        Self::MaxViews,
        Self::Memory,
        Self::Stop,
        Self::UpstreamDown,
    ];

    /// The name, as it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionRate => "connection-rate",
            Self::MaxConnections => "max-connections",
            Self::MaxInstances => "max-instances",
            Self::MaxConnectionsPerAddress => "max-connections-per-address",
            Self::MaxConnectionsPerNetwork => "max-connections-per-network",
            Self::MaxSubscribers => "max-subscribers",
            Self::MaxViews => "max-views",
            Self::Memory => "memory",
            Self::Stop => "stopping",
            Self::UpstreamDown => "upstream-down",
        }
    }
}

impl From<Limit> for RefusedBy {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Address => Self::MaxConnectionsPerAddress,
            Limit::Connections => Self::MaxConnections,
            Limit::Memory => Self::Memory,
            Limit::Network => Self::MaxConnectionsPerNetwork,
            Limit::Rate => Self::ConnectionRate,
        }
    }
}

impl FirstAnswered {
    /// Every answer.
    pub const ALL: [Self; 6] = [
        Self::Held,
        Self::Opened,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Gone,
    ];

    /// The answer's name, as it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Opened => "opened",
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::NotFound => "404",
            Self::Gone => "410",
        }
    }
}

impl Replayed {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::All,
        Self::Complete,
        Self::Expired,
        Self::Latest,
        Self::Live,
        Self::Newest,
        Self::Unknown,
    ];

    /// The outcome's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Latest => "latest",
            Self::Newest => "newest",
            Self::Complete => "complete",
            Self::Expired => "expired",
            Self::Live => "live",
            Self::Unknown => "unknown",
        }
    }
}

impl From<(Replay, Follows)> for Replayed {
    fn from(given: (Replay, Follows)) -> Self {
        match given {
            (Replay::Complete, _) | (Replay::Fresh, Follows::Rest) => Self::Complete,
            (Replay::Expired, _) => Self::Expired,
            (Replay::Fresh, Follows::All) => Self::All,
            (Replay::Fresh, Follows::Latest) => Self::Latest,
            (Replay::Fresh, Follows::Live) => Self::Live,
            (Replay::Fresh, Follows::Newest) => Self::Newest,
            (Replay::Unknown, _) => Self::Unknown,
        }
    }
}

impl Departure {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Aged,
        Self::ClientLeft,
        Self::Lagged,
        Self::Over,
        Self::Removed,
        Self::Stalled,
        Self::Stopped,
        Self::WriteFailed,
    ];

    /// The reason's name, as it is logged.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Aged => "aged",
            Self::ClientLeft => "client-left",
            Self::Lagged => "lagged",
            Self::Over => "over",
            Self::Removed => "removed",
            Self::Stalled => "stalled",
            Self::Stopped => "stopped",
            Self::WriteFailed => "write-failed",
        }
    }
}
