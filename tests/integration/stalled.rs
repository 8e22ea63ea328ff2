//! Clients that take nothing at all: after `write_timeout` they are cut, whatever their policy.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    ANYWHERE, Admin, Connector, Gateway, Http2, Item, Origin, Subscriber, Windows, one_channel,
};

/// A client that the kernel can't hide.
const SMALL: u32 = 4096;

const TIMEOUT: Duration = Duration::from_secs(1);

const STALLED: &str = "ssecast_disconnects_total{channel=\"events\",reason=\"stalled\"}";

async fn gateway(origin: &Origin, lines: &str) -> (Gateway, Admin) {
    let lines = format!("write_timeout = \"1s\"\nheartbeat = \"1s\"\n{lines}\n{ANYWHERE}");
    let gateway = Gateway::with(&lines, origin).await;
    let admin = Admin::of(&gateway).await;
    (gateway, admin)
}

/// Sends more than a kernel takes for a client that does not read, in step with one that does.
async fn fill(origin: &Origin, reader: &mut Subscriber) {
    for n in 0..20 {
        let data = format!("{n}-{}", "x".repeat(10_000));
        origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
        reader.expect_event(&data).await;
    }
}

#[tokio::test]
async fn who_takes_nothing_for_the_write_timeout_is_cut_and_counted() {
    for then in ["disconnect", "skip"] {
        let origin = Origin::start().await;
        // It may lag as far as it likes.
        let lines = format!("lag.then = \"{then}\"");
        let (gateway, admin) = gateway(&origin, &lines).await;
        let mut reader = gateway.subscribe().await;
        let connector = Connector::default().receive_buffer(SMALL);
        let stuck = connector.connect(&gateway).await;
        let stuck = stuck.subscribe("/events", "").await;
        fill(&origin, &mut reader).await;
        let started = Instant::now();
        admin.until(&[(STALLED, 1.0)]).await;
        let waited = started.elapsed();
        assert!(waited > TIMEOUT / 2, "{then}: {waited:?}");
        // Who reads is not touched.
        origin.send("data: b\n\n").await;
        reader.expect_event("b").await;
        drop(stuck);
    }
}

#[tokio::test]
async fn a_stream_of_http_2_that_takes_nothing_is_cut_and_its_connection_goes_on() {
    let origin = Origin::start().await;
    let (gateway, admin) = gateway(&origin, "lag.then = \"skip\"").await;
    let mut reader = gateway.subscribe().await;
    let windows = Windows {
        stream: SMALL,
        ..Windows::default()
    };
    let client = Http2::with_windows(&gateway, windows).await;
    let stuck = client.subscribe().await;
    fill(&origin, &mut reader).await;
    admin.until(&[(STALLED, 1.0)]).await;
    let mut other = client.subscribe().await;
    // Its head comes before it is one of the subscribers; its prologue does not.
    assert!(matches!(other.next_item().await, Item::Retry(_)));
    origin.send("data: b\n\n").await;
    other.expect_event("b").await;
    reader.expect_event("b").await;
    drop(stuck);
}

#[tokio::test]
async fn who_takes_a_little_now_and_then_is_not_cut() {
    let origin = Origin::start().await;
    let (gateway, admin) = gateway(&origin, "").await;
    let mut reader = gateway.subscribe().await;
    let connector = Connector::default().receive_buffer(SMALL);
    let slow = connector.connect(&gateway).await;
    let mut slow = slow.subscribe("/events", "").await;
    // For three times the write timeout it is always behind, and takes some of it.
    let started = Instant::now();
    let mut ticks = tokio::time::interval(TIMEOUT / 20);
    let mut n_sent = 0;
    while started.elapsed() < 3 * TIMEOUT {
        ticks.tick().await;
        let data = format!("{n_sent}-{}", "x".repeat(10_000));
        origin.send(format!("data: {data}\n\n")).await;
        reader.expect_event(&data).await;
        n_sent += 1;
        if n_sent > 10 {
            let data = format!("{}-{}", n_sent - 11, "x".repeat(10_000));
            slow.expect_event(&data).await;
        }
    }
    let stalled = admin.metrics().await.value(STALLED);
    assert!(stalled < 1.0, "{stalled} are cut");
    for n in n_sent - 10..n_sent {
        slow.expect_event(&format!("{n}-{}", "x".repeat(10_000)))
            .await;
    }
}

/// Far more is unsent for it than it takes within the timeout.
#[tokio::test]
async fn a_stream_of_http_2_that_takes_a_little_now_and_then_is_not_cut() {
    let origin = Origin::start().await;
    let timeout = 2 * TIMEOUT;
    let lines = format!("write_timeout = \"2s\"\n{ANYWHERE}");
    let gateway = Gateway::with(&lines, &origin).await;
    let admin = Admin::of(&gateway).await;
    let mut reader = gateway.subscribe().await;
    let windows = Windows {
        stream: 400,
        ..Windows::default()
    };
    let client = Http2::with_windows(&gateway, windows).await;
    let mut slow = client.subscribe().await;
    fill(&origin, &mut reader).await;
    let started = Instant::now();
    let mut ticks = tokio::time::interval(timeout / 10);
    while started.elapsed() < 3 * timeout {
        ticks.tick().await;
        slow.piece().await.expect("a frame");
    }
    let stalled = admin.metrics().await.value(STALLED);
    assert!(stalled < 1.0, "{stalled} are cut");
    // Now it takes nothing at all.
    admin.until(&[(STALLED, 1.0)]).await;
    drop(slow);
}

#[tokio::test]
async fn a_reload_brings_a_write_timeout_to_those_who_are_stalled_already() {
    let origin = Origin::start().await;
    let config = |timeout: &str| {
        let lines = format!("lag.then = \"skip\"\nwrite_timeout = \"{timeout}\"\n{ANYWHERE}");
        one_channel(&origin.url(), &lines)
    };
    let gateway = Gateway::with_config(&config("off")).await;
    let admin = Admin::of(&gateway).await;
    let mut reader = gateway.subscribe().await;
    let connector = Connector::default().receive_buffer(SMALL);
    let stuck = connector.connect(&gateway).await;
    let stuck = stuck.subscribe("/events", "").await;
    fill(&origin, &mut reader).await;
    gateway.reload(&config("1s"), "applied").await;
    admin.until(&[(STALLED, 1.0)]).await;
    drop(stuck);
}

/// A unix socket has no options of TCP: what finds a stalled peer there is the gateway alone.
#[tokio::test]
async fn a_stalled_client_of_a_unix_socket_is_cut() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("http.sock");
    let config = format!(
        "[listen.public]\naddress = [\"127.0.0.1:0\", \"unix:{}\"]\n[channels.events]\npath = \"/events\"\n\
         upstream = \"{}\"\nwrite_timeout = \"1s\"\nlag.then = \"skip\"\n{ANYWHERE}\n",
        path.display(),
        origin.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    let mut reader = gateway.subscribe().await;
    let address = format!("unix:{}", path.display());
    let stuck = Connector::default().connect_to(&address).await;
    let stuck = stuck.subscribe("/events", "").await;
    let subscribers = "ssecast_subscribers{channel=\"events\"}";
    admin.until(&[(subscribers, 2.0)]).await;
    // A unix socket holds more.
    for _ in 0..3 {
        fill(&origin, &mut reader).await;
    }
    admin.until(&[(STALLED, 1.0), (subscribers, 1.0)]).await;
    drop(stuck);
}
