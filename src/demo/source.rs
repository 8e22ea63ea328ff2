//! What the demo's origin sends: ticks of an invented market, and what is known about the gateway.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::origin::Streams;
use crate::channel::Channel;

/// An invented market, whose prices wander.
#[derive(Debug)]
struct Market {
    n_ticks: u64,
    prices: [(&'static str, f64); 3],
}

/// What the page shows about the channel of the ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stats {
    /// Subscribers of the gateway.
    clients: usize,
    /// Connections that the origin holds, by its own count.
    upstream_connections: usize,
    /// Events that the gateway has received.
    events: u64,
    /// The state of the gateway's upstream.
    upstream: &'static str,
}

const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the stats are compared with those last sent. The page shall follow a click at once.
const STATS_INTERVAL: Duration = Duration::from_millis(100);

/// After how long unchanged stats are sent again, for those who came since.
const STATS_REPEAT: Duration = Duration::from_secs(1);

/// Where each price wanders about.
const BASE_PRICES: [(&str, f64); 3] = [("copper", 80.0), ("wheat", 100.0), ("coffee", 120.0)];

/// Sends a tick every second.
pub(super) async fn send_ticks(streams: &Streams) -> ! {
    let mut market = Market {
        n_ticks: 0,
        prices: BASE_PRICES,
    };
    // The first one comes when the gateway is there.
    let mut ticks = interval_at(Instant::now() + TICK_INTERVAL, TICK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        market.wander(fastrand::f64);
        let event = event("tick", &market.json(unix_millis()));
        streams.ticks.send(&event);
    }
}

/// Sends the stats of `channel` every second, and as soon as they change.
pub(super) async fn send_stats(streams: &Streams, channel: &Channel) -> ! {
    let mut looks = interval(STATS_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent: Option<(Stats, Instant)> = None;
    loop {
        let now = looks.tick().await;
        let stats = Stats::of(streams, channel);
        if sent.is_some_and(|(last, at)| last == stats && now - at < STATS_REPEAT) {
            continue;
        }
        let event = event("stats", &stats.json(unix_millis()));
        streams.stats.send(&event);
        sent = Some((stats, now));
    }
}

impl Market {
    /// Every price makes a step, on the whole towards where it began.
    fn wander(&mut self, mut random: impl FnMut() -> f64) {
        self.n_ticks += 1;
        for ((_, price), (_, base)) in self.prices.iter_mut().zip(BASE_PRICES) {
            *price += (base - *price) * 0.05 + (random() - 0.5) * base * 0.06;
        }
    }

    fn json(&self, time: u64) -> String {
        let n = self.n_ticks;
        let [copper, wheat, coffee] = self
            .prices
            .map(|(name, price)| format!(r#""{name}":{price:.2}"#));
        format!(r#"{{"n":{n},"prices":{{{copper},{wheat},{coffee}}},"time":{time}}}"#)
    }
}

impl Stats {
    fn of(streams: &Streams, channel: &Channel) -> Self {
        Self {
            clients: channel.n_subscribers(),
            upstream_connections: streams.ticks.n_open(),
            events: channel.counters().events.value(),
            upstream: channel.status().state.name(),
        }
    }

    fn json(&self, time: u64) -> String {
        let Self {
            clients,
            upstream_connections,
            events,
            upstream,
        } = self;
        format!(
            r#"{{"clients":{clients},"upstream_connections":{upstream_connections},"events":{events},"upstream":"{upstream}","time":{time}}}"#
        )
    }
}

/// An event without an id. `data` has one line.
fn event(event_type: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {event_type}\ndata: {data}\n\n"))
}

/// The time as JavaScript counts it.
fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_an_event_of_one_line() {
        let mut market = Market {
            n_ticks: 0,
            prices: BASE_PRICES,
        };
        market.wander(|| 0.5);
        let event = event("tick", &market.json(1_700_000_000_000));
        assert_eq!(
            event,
            "event: tick\ndata: {\"n\":1,\"prices\":{\"copper\":80.00,\"wheat\":100.00,\
             \"coffee\":120.00},\"time\":1700000000000}\n\n"
        );
    }

    #[test]
    fn prices_stay_near_where_they_began() {
        let mut market = Market {
            n_ticks: 0,
            prices: BASE_PRICES,
        };
        for _ in 0..1_000 {
            market.wander(|| 1.0);
        }
        for ((name, price), (_, base)) in market.prices.iter().zip(BASE_PRICES) {
            assert!((price - base).abs() < base, "{name} is at {price}");
        }
    }
}
