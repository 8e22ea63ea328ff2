//! Storms: many come at once, or one place sends too many, or none leaves of its own accord. Whatever
//! newcomers do, those who stand get every event.

mod addresses;
mod age;
mod proxies;
mod rate;

use std::time::Duration;

use tokio::time::interval;

use crate::support::{ANYWHERE, Client, Connector, End, Gateway, Item, Origin, Subscriber};

/// The configuration of a channel at `/events`, with these lines of `[server]` and an admin listener.
fn config(origin: &Origin, server: &str, channel: &str) -> String {
    let upstream = origin.url();
    format!(
        "[server]\n{server}\n[listen.public]\naddress = \"127.0.0.1:0\"\n{ANYWHERE}\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n\
         retry = {{ min = \"1s\", max = \"4s\" }}\n{channel}\n"
    )
}

const REQUEST: &str = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";

/// How a newcomer is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    /// The connection is closed without a word.
    Closed,
    In,
    /// It is told when to come back: after so many milliseconds.
    Refused(u64),
}

/// Asks for the stream and looks what comes of it.
async fn come(mut client: Client) -> (Received, Option<Subscriber>) {
    if client.try_send(REQUEST).await.is_err() {
        return (Received::Closed, None);
    }
    receive(client).await
}

/// Looks what comes of a request that was sent.
async fn receive(mut client: Client) -> (Received, Option<Subscriber>) {
    let first = client.take_some(1).await;
    if first.is_empty() {
        return (Received::Closed, None);
    }
    client.put_back(&first);
    let mut sub = client.into_subscriber().await;
    let time = match sub.next_item().await {
        Item::Retry(time) => time,
        other => panic!("waited for a reconnection time; {other:?}"),
    };
    // Who is in is told less, nearly always, and who is refused five seconds at least.
    if time < 5000 {
        return (Received::In, Some(sub));
    }
    assert_eq!(sub.next_item().await, Item::End(End::Cut));
    assert!((5_000..=30_000).contains(&time), "{time}");
    (Received::Refused(time), None)
}

/// Comes from the address 127.x.y.z.
async fn come_from(gateway: &Gateway, numbers: [u8; 3]) -> (Received, Option<Subscriber>) {
    come(Connector::default().from(numbers).connect(gateway).await).await
}

/// Thousands get each of them, and the test has to keep up.
const EVERY: Duration = Duration::from_millis(50);

/// Sends numbered events, every few milliseconds, until it is dropped.
struct Ticking(tokio::task::JoinHandle<()>);

impl Ticking {
    fn begin(origin: &std::sync::Arc<Origin>) -> Self {
        let origin = std::sync::Arc::clone(origin);
        Self(tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            for number in 0_u64.. {
                ticks.tick().await;
                origin
                    .send(format!("id: {number}\ndata: {number}\n\n"))
                    .await;
            }
        }))
    }

    async fn end(self) {
        self.0.abort();
        if self.0.await.is_ok() {}
    }
}

/// Asserts that events are numbered without a gap and without a repetition; returns how many they are.
async fn count_through_end(sub: &mut Subscriber) -> usize {
    let events = sub.events_through("end").await;
    let numbers: Vec<u64> = events[..events.len() - 1]
        .iter()
        .map(|event| {
            event
                .data
                .parse()
                .unwrap_or_else(|_| panic!("a number: {event:?}"))
        })
        .collect();
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "in order, each once");
    }
    numbers.len()
}

/// With each limit reached, thousands come and are refused; those who stand get every event.
#[tokio::test]
async fn thousands_are_refused_by_each_limit_and_nobody_who_stands_misses_an_event() {
    const N_STANDING: usize = 5;
    const N_COMING: usize = 1000;
    for (server, channel, reason) in [
        ("", "max_subscribers = 5", "max-subscribers"),
        ("max_connections = 5", "", "max-connections"),
        (
            "max_connections_per_address = 5",
            "",
            "max-connections-per-address",
        ),
        (
            "max_connections_per_network = { max = 5 }",
            "",
            "max-connections-per-network",
        ),
        (
            "connection_rate = { per_second = 1, burst = 5, queue = 0 }",
            "",
            "connection-rate",
        ),
    ] {
        let origin = std::sync::Arc::new(Origin::start().await);
        let gateway = Gateway::with_config(&config(&origin, server, channel)).await;
        let admin = crate::support::Admin::of(&gateway).await;
        let mut standing = Vec::new();
        for _ in 0..N_STANDING {
            let (received, sub) = come(gateway.connect().await).await;
            assert_eq!(received, Received::In, "{reason}");
            standing.extend(sub);
        }
        let ticking = Ticking::begin(&origin);
        let mut times = std::collections::BTreeSet::new();
        let (mut n_in, mut n_closed) = (0, 0);
        for _ in 0..N_COMING / 50 {
            let comers = (0..50).map(|_| async { come(gateway.connect().await).await.0 });
            for received in futures_util::future::join_all(comers).await {
                match received {
                    Received::In => n_in += 1,
                    Received::Closed => n_closed += 1,
                    Received::Refused(time) => {
                        times.insert(time);
                    }
                }
            }
        }
        ticking.end().await;
        origin.send("data: end\n\n").await;
        let mut counts = Vec::new();
        for sub in &mut standing {
            counts.push(count_through_end(sub).await);
        }
        assert!(
            counts.iter().all(|n| *n == counts[0] && *n > 0),
            "{reason}: {counts:?}"
        );
        // Time goes on, and a rate is one.
        assert!(
            n_in <= if reason == "connection-rate" { 30 } else { 0 },
            "{reason}: {n_in}"
        );
        assert!(
            !times.is_empty(),
            "{reason}: {n_closed} were closed, nobody was told"
        );
        let metrics = admin.metrics().await;
        let name = format!("ssecast_refusals_total{{channel=\"events\",reason=\"{reason}\"}}");
        assert!(metrics.value(&name) >= times.len() as f64, "{reason}");
        if reason != "max-subscribers" {
            let name = format!("ssecast_refused_connections_total{{limit=\"{reason}\"}}");
            let expected = (N_COMING - n_in) as f64;
            let n_refused = metrics.value(&name);
            assert!(
                (n_refused - expected).abs() < 0.5,
                "{reason}: {n_refused}, not {expected}"
            );
        }
    }
}
