//! Clients of a soak: they know what they saw last, and look at everything that they get.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::teller::data;
use crate::support::{Client, Connector, Event, Http2, Item, Subscriber, trusting_config};

/// A client that comes again and again.
pub(super) struct Visitor {
    addresses: Arc<[String]>,
    chance: fastrand::Rng,
    /// What it saw last, by path.
    seen: [Option<u64>; PATHS.len()],
    tally: Tally,
}

/// What visitors have seen.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) n_visits: u64,
    pub(super) n_events: u64,
    pub(super) n_resumed: u64,
    /// Told that what they saw is not known any more, where that may be.
    pub(super) n_resets: u64,
    /// Told how many events they missed.
    pub(super) n_gaps: u64,
    pub(super) n_stalled: u64,
    /// Ended by the gateway, where that may be.
    pub(super) n_cut: u64,
}

/// Where it goes: two channels, and instances of a third.
const PATHS: [&str; 6] = [
    "/long",
    "/short",
    "/rooms/a",
    "/rooms/b",
    "/rooms/c%20c",
    "/rooms/d",
];

/// The channel that never changes.
const LONG: usize = 0;

/// A client that the kernel can't hide.
const SMALL: u32 = 4096;

/// What may become of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It reads: nobody ends its stream.
    Reads,
    /// It has stalled, and may be cut for it.
    Stalled,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.n_visits += other.n_visits;
        self.n_events += other.n_events;
        self.n_resumed += other.n_resumed;
        self.n_resets += other.n_resets;
        self.n_gaps += other.n_gaps;
        self.n_stalled += other.n_stalled;
        self.n_cut += other.n_cut;
    }
}

impl Visitor {
    pub(super) fn new(number: u64, addresses: &Arc<[String]>) -> Self {
        Self {
            addresses: Arc::clone(addresses),
            chance: fastrand::Rng::with_seed(number),
            seen: [None; PATHS.len()],
            tally: Tally::default(),
        }
    }

    pub(super) async fn visit_until(mut self, end: Instant) -> Tally {
        while Instant::now() < end {
            self.tally.n_visits += 1;
            match self.chance.u32(0..10) {
                0 => self.ask_half().await,
                1 => self.read_half().await,
                2 => self.stall().await,
                3 => self.leave_at_once().await,
                4 | 5 => self.read_over_tls().await,
                6 | 7 => self.read_over_http2().await,
                _ => self.read_plainly().await,
            }
            let pause = self.chance.u64(0..100);
            sleep(Duration::from_millis(pause)).await;
        }
        self.tally
    }

    /// A channel, its path, and the header fields with which to go on in it.
    fn choose(&mut self) -> (usize, String, String) {
        let channel = self.chance.usize(0..PATHS.len());
        let path = PATHS[channel].to_owned();
        let Some(last) = self.seen[channel].filter(|_| self.chance.u32(0..8) > 0) else {
            self.seen[channel] = None;
            return (channel, path, String::new());
        };
        self.tally.n_resumed += 1;
        if self.chance.bool() {
            (channel, format!("{path}?lastEventId={last}"), String::new())
        } else {
            (channel, path, format!("Last-Event-ID: {last}\r\n"))
        }
    }

    async fn read_plainly(&mut self) {
        let (channel, path, fields) = self.choose();
        let client = Connector::default().connect_to(&self.addresses[0]).await;
        let sub = client.subscribe(&path, &fields).await;
        self.read(sub, channel, Patience::Reads).await;
    }

    async fn read_over_tls(&mut self) {
        let (channel, path, fields) = self.choose();
        let connector = Connector::default();
        let config = trusting_config();
        let connecting = connector.connect_over_tls(&self.addresses[1], "gateway.test", &config);
        let sub = connecting.await.0.subscribe(&path, &fields).await;
        self.read(sub, channel, Patience::Reads).await;
    }

    async fn read_over_http2(&mut self) {
        let (channel, path, fields) = self.choose();
        let connection = Http2::connect_to(&self.addresses[0]).await;
        let id = fields.split_once(": ").map(|(_, id)| id.trim().to_owned());
        let fields: Vec<(&str, &str)> = id.iter().map(|id| ("last-event-id", &**id)).collect();
        let sub = connection.subscribe_with(&path, &fields).await;
        self.read(sub, channel, Patience::Reads).await;
    }

    async fn stall(&mut self) {
        let (channel, path, fields) = self.choose();
        let sub = self.small_client().await.subscribe(&path, &fields).await;
        sleep(Duration::from_millis(self.chance.u64(50..2500))).await;
        self.tally.n_stalled += 1;
        self.read(sub, channel, Patience::Stalled).await;
    }

    async fn small_client(&self) -> Client {
        let connector = Connector::default().receive_buffer(SMALL);
        connector.connect_to(&self.addresses[0]).await
    }

    /// Leaves in the middle of what it is sent.
    async fn read_half(&mut self) {
        let n = self.chance.usize(1..2000);
        let connector = if self.chance.bool() {
            Connector::default().resetting()
        } else {
            Connector::default()
        };
        let mut client = connector.connect_to(&self.addresses[0]).await;
        let request = "GET /long HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1\r\n\r\n";
        client.send(request).await;
        client.take_some(n).await;
    }

    /// Leaves in the middle of its request, or with one for a channel that comes and goes.
    async fn ask_half(&mut self) {
        let request = "GET /guest HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
        let n = self.chance.usize(0..=request.len());
        let address = usize::from(self.chance.bool());
        let mut client = Connector::default()
            .connect_to(&self.addresses[address])
            .await;
        // Over TLS this is no handshake, and is refused.
        if client.try_send(&request.as_bytes()[..n]).await.is_ok() {
            sleep(Duration::from_millis(self.chance.u64(0..30))).await;
        }
    }

    async fn leave_at_once(&mut self) {
        let (_, path, fields) = self.choose();
        let client = Connector::default().connect_to(&self.addresses[0]).await;
        drop(client.subscribe(&path, &fields).await);
    }

    /// Reads some events, and looks at each.
    async fn read(&mut self, mut sub: Subscriber, channel: usize, patience: Patience) {
        let n_wanted = self.chance.u32(1..60);
        let mut n_read = 0;
        while n_read < n_wanted {
            match sub.next_item().await {
                Item::Comment(_) | Item::Retry(_) => {}
                Item::End(end) => {
                    // Elsewhere, streams have an age.
                    let may_end = channel != LONG || patience == Patience::Stalled;
                    assert!(may_end, "{end:?}: {}", PATHS[channel]);
                    self.tally.n_cut += 1;
                    return;
                }
                Item::Event(event) if event.event_type == "ssecast.gap" => {
                    assert_ne!(channel, LONG, "nothing is lost there: {event:?}");
                    let said: Value = serde_json::from_str(&event.data).expect("JSON");
                    // Not known where an upstream broke off before its first event.
                    let n_missed = said["missed"].as_u64();
                    assert!(
                        n_missed.is_some() || said["missed"] == "unknown",
                        "{event:?}"
                    );
                    let last = self.seen[channel].zip(n_missed);
                    self.seen[channel] = last.map(|(last, n_missed)| last + n_missed);
                    self.tally.n_gaps += 1;
                }
                Item::Event(event) if event.event_type == "ssecast.reset" => {
                    assert_ne!(channel, LONG, "nothing is lost there: {event:?}");
                    self.seen[channel] = None;
                    self.tally.n_resets += 1;
                }
                Item::Event(event) => {
                    self.seen[channel] = Some(follow(self.seen[channel], &event));
                    n_read += 1;
                    self.tally.n_events += 1;
                }
            }
        }
    }
}

/// The number of an event, which must follow after `last`.
fn follow(last: Option<u64>, event: &Event) -> u64 {
    let id = event.id.as_deref().and_then(|id| id.parse().ok());
    let n = id.unwrap_or_else(|| panic!("no event of the origin: {event:?}"));
    assert_eq!(event.data, data(n));
    if let Some(last) = last {
        assert_eq!(n, last + 1, "what follows {last}");
    }
    n
}

/// A client that stays on the channel that never changes, over one of the transports; returns how many
/// events it got.
pub(super) async fn stand(
    kind: usize,
    addresses: Arc<[String]>,
    mut stopped: watch::Receiver<bool>,
) -> u64 {
    let connector = Connector::default();
    // Kept: its streams end with it.
    let mut _http2 = None;
    let mut sub = match kind {
        0 => {
            let client = connector.connect_to(&addresses[0]).await;
            client.subscribe(PATHS[LONG], "").await
        }
        1 => {
            let config = trusting_config();
            let connecting = connector.connect_over_tls(&addresses[1], "gateway.test", &config);
            connecting.await.0.subscribe(PATHS[LONG], "").await
        }
        _ => {
            let connection = _http2.insert(Http2::connect_to(&addresses[0]).await);
            connection.subscribe_with(PATHS[LONG], &[]).await
        }
    };
    let mut last = None;
    let mut n_events = 0;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return n_events,
            event = sub.next_event() => {
                last = Some(follow(last, &event));
                n_events += 1;
            }
        }
    }
}
