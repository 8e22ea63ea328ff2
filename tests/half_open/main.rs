//! Clients and origins whose network goes away without a word: no packet says that they are gone.
//!
//! Each test has a network of its own, a namespace behind a pair of virtual Ethernet devices, whose
//! link drops; subscribers are curl. It must be run as root, in a namespace where it may make devices:
//! `tests/run half-open` does that.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed helper is a failed test, which prints what it knows"
)]

mod network;
mod proxies;
#[expect(dead_code, unused_imports, reason = "it is that of other tests, too")]
#[path = "../integration/support/mod.rs"]
mod support;

use std::time::Duration;

use tokio::time::Instant;

use self::network::{Curl, Network};
use self::support::{ANYWHERE, Admin, Gateway, Origin, Pair, Subscriber, until_async};

const SUBSCRIBERS: &str = "ssecast_subscribers{channel=\"events\"}";

/// Those who get what comes from now on. Who is only counted among the subscribers may begin later.
const ARRIVALS: &str = "ssecast_connects_total{channel=\"events\"}";

/// A gateway that clients of other networks can reach, with short times.
async fn gateway(origin: &Origin, (listener, channel): (&str, &str), server: &str) -> Gateway {
    let config = format!(
        // What a channel does not say here is as it is by default, and not as in other tests.
        "[server]\n{server}\n[defaults]\n[listen.public]\naddress = \"0.0.0.0:0\"\n{listener}\n{ANYWHERE}\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\n{channel}\n",
        origin.url()
    );
    Gateway::with_config(&config).await
}

const SHORT: &str = "heartbeat = \"1s\"\nwrite_timeout = \"1s\"";

/// A client on this side, which misses nothing.
async fn healthy(gateway: &Gateway, pair: Option<&Pair>) -> Subscriber {
    let address = gateway.address().replace("0.0.0.0", "127.0.0.1");
    let connector = support::Connector::default();
    let client = match pair {
        Some(_) => {
            let config = support::trusting_config();
            let connecting = connector.connect_over_tls(&address, "gateway.test", &config);
            connecting.await.0
        }
        None => connector.connect_to(&address).await,
    };
    client.subscribe("/events", "").await
}

async fn send(origin: &Origin, reader: &mut Subscriber, numbers: std::ops::Range<usize>) {
    for n in numbers {
        origin.send(format!("id: {n}\ndata: {n}\n\n")).await;
        reader.expect_event(&n.to_string()).await;
    }
}

/// Waits until a metric has this value, for longer than other waits may take; returns how long it took.
async fn until_metric(admin: &Admin, (name, value): (&str, f64), longest: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        let there = admin.metrics().await.value(name);
        if (there - value).abs() < f64::EPSILON {
            return begin.elapsed();
        }
        let waited = begin.elapsed();
        assert!(waited < longest, "{name} is {there} after {waited:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn departures(reason: &str) -> String {
    format!("ssecast_disconnects_total{{channel=\"events\",reason=\"{reason}\"}}")
}

/// The link drops under a client that has got some events; it is gone `within`, counted for this
/// reason. Others get everything, and so does the client when its network is back.
async fn link_drops(
    gateway: &Gateway,
    origin: &Origin,
    (options, pair): (&[&str], Option<&Pair>),
    (within, reason): (Duration, &str),
) -> Duration {
    let admin = Admin::of(gateway).await;
    let network = Network::new();
    let mut reader = healthy(gateway, pair).await;
    let client = Curl::start(&network, gateway, options);
    until_metric(&admin, (ARRIVALS, 2.0), Duration::from_secs(10)).await;
    send(origin, &mut reader, 0..5).await;
    client.until_data(&["0", "1", "2", "3", "4"]).await;
    network.drop_link();
    let gone = until_metric(&admin, (SUBSCRIBERS, 1.0), within).await;
    admin.until(&[(&departures(reason), 1.0)]).await;
    // Of what follows it gets nothing, and nobody else is touched.
    send(origin, &mut reader, 5..10).await;
    client.until_data(&["0", "1", "2", "3", "4"]).await;
    network.raise_link();
    let resumed = [options, &["-H", "Last-Event-ID: 4"]].concat();
    let resumed = Curl::start(&network, gateway, &resumed);
    resumed.until_data(&["5", "6", "7", "8", "9"]).await;
    gone
}

#[tokio::test]
async fn a_client_whose_link_drops_is_found_after_heartbeat_and_write_timeout() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, ("", SHORT), "").await;
    let within = Duration::from_secs(5);
    let gone = link_drops(&gateway, &origin, (&[], None), (within, "stalled")).await;
    assert!(gone > Duration::from_millis(900), "too early: {gone:?}");
}

#[tokio::test]
async fn over_tls_too() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let listener = format!("tls = {}", pair.table());
    let gateway = gateway(&origin, (&listener, SHORT), "").await;
    let how = (&["--insecure", "--http1.1"][..], Some(&pair));
    let within = Duration::from_secs(5);
    link_drops(&gateway, &origin, how, (within, "stalled")).await;
}

/// Its connection is found dead by its pings.
#[tokio::test]
async fn over_http_2_too() {
    let origin = Origin::start().await;
    let server = "http2 = { ping_interval = \"1s\", ping_timeout = \"1s\" }";
    let gateway = gateway(&origin, ("", SHORT), server).await;
    let how = (&["--http2-prior-knowledge"][..], None);
    let within = Duration::from_secs(6);
    link_drops(&gateway, &origin, how, (within, "client-left")).await;
}

/// The bar: a minute, with the defaults.
#[tokio::test]
async fn with_the_defaults_a_client_whose_link_drops_is_gone_within_a_minute() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, ("", ""), "").await;
    let within = Duration::from_secs(60);
    let gone = link_drops(&gateway, &origin, (&[], None), (within, "stalled")).await;
    eprintln!("gone after {gone:?}");
}

#[tokio::test]
async fn with_the_defaults_a_connection_of_http_2_is_gone_within_a_minute_too() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, ("", ""), "").await;
    let how = (&["--http2-prior-knowledge"][..], None);
    let within = Duration::from_secs(60);
    let gone = link_drops(&gateway, &origin, how, (within, "client-left")).await;
    eprintln!("gone after {gone:?}");
}

/// Its kernel answers, but nobody reads.
#[tokio::test]
async fn a_client_that_is_frozen_is_found_once_its_buffers_are_full() {
    let origin = Origin::start().await;
    let lines = format!("{SHORT}\nlag.then = \"skip\"");
    let gateway = gateway(&origin, ("", &lines), "").await;
    let admin = Admin::of(&gateway).await;
    let network = Network::new();
    let mut reader = healthy(&gateway, None).await;
    let client = Curl::start(&network, &gateway, &[]);
    until_metric(&admin, (ARRIVALS, 2.0), Duration::from_secs(10)).await;
    client.freeze();
    // More than a kernel takes for somebody, 6 MiB at most.
    let padding = "x".repeat(500_000);
    let mut n_sent = 0;
    let stalled = departures("stalled");
    until_async("the frozen client to be cut", async || {
        if n_sent < 20 {
            let data = format!("{n_sent} {padding}");
            origin.send(format!("id: {n_sent}\ndata: {data}\n\n")).await;
            reader.expect_event(&data).await;
            n_sent += 1;
        }
        let n_stalled = admin.metrics().await.value(&stalled);
        if n_stalled > 0.5 {
            return Ok(());
        }
        Err(format!("it is there after {n_sent} events"))
    })
    .await;
}

/// Its network takes a little in a second: far less within the timeout than there is for it to take.
#[tokio::test]
async fn a_client_of_a_slow_network_is_not_cut_while_bytes_get_through() {
    const DURATION: Duration = Duration::from_secs(12);
    let origin = Origin::start().await;
    let lines = "heartbeat = \"1s\"\nwrite_timeout = \"3s\"\nlag.limit = \"4MiB\"";
    let gateway = gateway(&origin, ("", lines), "").await;
    let admin = Admin::of(&gateway).await;
    let network = Network::new();
    let mut reader = healthy(&gateway, None).await;
    let slow = Curl::start(&network, &gateway, &[]);
    until_metric(&admin, (ARRIVALS, 2.0), Duration::from_secs(10)).await;
    send(&origin, &mut reader, 0..1).await;
    slow.until_data(&["0"]).await;
    network.slow_down("16kbit");
    let padding = "x".repeat(200_000);
    origin.send(format!("id: 1\ndata: {padding}\n\n")).await;
    reader.expect_event(&padding).await;
    let begin = Instant::now();
    while begin.elapsed() < DURATION {
        let subscribers = admin.metrics().await.value(SUBSCRIBERS);
        assert!(subscribers > 1.5, "cut after {:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Bytes did get through; and when none do, it is gone.
    assert!(slow.n_bytes() > 10_000, "{} bytes", slow.n_bytes());
    network.drop_link();
    let gone = until_metric(&admin, (SUBSCRIBERS, 1.0), Duration::from_secs(20)).await;
    eprintln!("gone after {gone:?}");
}
