//! What a channel counts. Counting is one relaxed addition per read, pass or departure, never one
//! per delivered event.

use std::sync::atomic::{AtomicU64, Ordering};

use super::latency::Latency;

/// The counters of a channel.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events of the origin that were appended to the log.
    pub events: Counter,
    /// Bytes of the origin's event stream.
    pub upstream_bytes: Counter,
    /// Upstream connections that opened.
    pub upstream_opened: Counter,
    /// Upstream connections that failed or ended.
    pub upstream_failed: Counter,
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
    /// Requests that were refused at a limit.
    pub refusals: Counter,
    /// Subscribers that were told that their history is incomplete.
    pub resets: Counter,
    departures: [Counter; Departure::ALL.len()],
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Why a subscriber's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The client closed the connection, or sent what no subscriber sends.
    ClientLeft,
    /// It was further behind than `lag.limit`, or than the log reaches.
    Lagged,
    /// The channel is over.
    Over,
    /// The configuration no longer has the channel.
    Removed,
    /// The gateway stops.
    Stopped,
    /// The socket failed: reset, or silent for too long.
    WriteFailed,
}

impl Counters {
    /// How many subscribers left for this reason.
    pub fn departures(&self, departure: Departure) -> &Counter {
        let [client_left, lagged, over, removed, stopped, write_failed] = &self.departures;
        match departure {
            Departure::ClientLeft => client_left,
            Departure::Lagged => lagged,
            Departure::Over => over,
            Departure::Removed => removed,
            Departure::Stopped => stopped,
            Departure::WriteFailed => write_failed,
        }
    }
}

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Departure {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::ClientLeft,
        Self::Lagged,
        Self::Over,
        Self::Removed,
        Self::Stopped,
        Self::WriteFailed,
    ];

    /// The reason's name, as it is logged.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ClientLeft => "client-left",
            Self::Lagged => "lagged",
            Self::Over => "over",
            Self::Removed => "removed",
            Self::Stopped => "stopped",
            Self::WriteFailed => "write-failed",
        }
    }
}
