//! HTTP/2: many event streams on one connection, each of which ends and lags for itself.

use crate::support::{End, Gateway, Http2, Item, Origin, Pair, Windows, one_channel, until_true};

/// No goodbyes one after another.
const NO_DRAIN: &str = "[server]\ndrain = \"0s\"";

/// A number that is padded, so that a test can send many bytes and compare few.
fn data(n: usize, size: usize) -> String {
    format!("{n}-{}", "x".repeat(size))
}

/// Waits until the log has told this many departures for this reason.
async fn left(gateway: &Gateway, n: usize, reason: &str) {
    gateway
        .logged(n, &["a subscriber", &format!("reason=\"{reason}\"")])
        .await;
}

// --- streams ---

#[tokio::test]
async fn an_event_reaches_every_stream_of_a_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let mut subs = Vec::new();
    for _ in 0..10 {
        subs.push(client.subscribe().await);
    }
    origin.send("id: 7\nevent: t\ndata: a\ndata: b\n\n").await;
    for sub in &mut subs {
        let event = sub.expect_event("a\nb").await;
        assert_eq!(
            (event.event_type.as_str(), event.id.as_deref()),
            ("t", Some("7"))
        );
    }
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn the_head_has_the_fields_of_an_event_stream_and_none_of_a_connection() {
    let origin = Origin::start().await;
    let keys = "cors = { origins = [\"https://page.test\"] }";
    let gateway = Gateway::with(keys, &origin).await;
    let client = Http2::connect(&gateway).await;
    let fields = [("origin", "https://page.test")];
    let sub = client.subscribe_with("/events", &fields).await;
    let mut names = sub.head.names();
    names.sort_unstable();
    let expected = [
        "access-control-allow-origin",
        "access-control-expose-headers",
        "cache-control",
        "content-type",
        "date",
        "ssecast-heartbeat-ms",
        "vary",
        "x-accel-buffering",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_stream_begins_with_a_reconnection_time_and_no_chunk() {
    let origin = Origin::start().await;
    let keys = "retry = { min = \"1234ms\", max = \"1234ms\" }\nheartbeat = \"1s\"";
    let gateway = Gateway::with(keys, &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sub = client.subscribe().await;
    assert_eq!(sub.piece().await.expect("the prologue"), b"retry: 1234\n");
    assert_eq!(sub.piece().await.expect("a heartbeat"), b":\n");
}

#[tokio::test]
async fn a_client_resumes_by_its_last_event_id() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let mut first = client.subscribe().await;
    // More than a stream may hold unsent, so that the replay waits for its client.
    for n in 0..100 {
        let data = data(n, 1000);
        origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
        first.expect_event(&data).await;
    }
    let mut resumed = client
        .subscribe_with("/events", &[("last-event-id", "9")])
        .await;
    for n in 10..100 {
        resumed.expect_event(&data(n, 1000)).await;
    }
    origin.send("data: live\n\n").await;
    resumed.expect_event("live").await;
}

#[tokio::test]
async fn a_reset_stream_gives_its_place_back_without_an_event() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("max_subscribers = 2\nheartbeat = \"off\"", &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sibling = client.subscribe().await;
    let sub = client.subscribe().await;
    drop(sub);
    left(&gateway, 1, "client-left").await;
    let mut next = client.subscribe().await;
    origin.send("data: a\n\n").await;
    next.expect_event("a").await;
    sibling.expect_event("a").await;
}

#[tokio::test]
async fn a_connection_that_breaks_gives_all_places_back() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let mut subs = Vec::new();
    for _ in 0..20 {
        subs.push(client.subscribe().await);
    }
    drop(client);
    left(&gateway, 20, "client-left").await;
}

#[tokio::test]
async fn over_tls_streams_live_and_end_as_in_the_clear() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let config = format!(
        "[server]\ndrain = \"0s\"\n[listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {}\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\n",
        pair.table(),
        origin.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let client = Http2::connect_over_tls(&gateway).await;
    let stalled = client.subscribe().await;
    let mut subs = Vec::new();
    for _ in 0..20 {
        subs.push(client.subscribe().await);
    }
    // More than the stalled one's window and buffer.
    for n in 0..20 {
        let data = data(n, 10_000);
        origin.send(format!("data: {data}\n\n")).await;
        for sub in &mut subs {
            sub.expect_event(&data).await;
        }
    }
    drop(stalled);
    left(&gateway, 1, "client-left").await;
    gateway.signal("TERM");
    for sub in &mut subs {
        assert_eq!(sub.expect_end().await, End::Reset);
    }
}

// --- how streams end ---

#[tokio::test]
async fn a_stream_that_should_come_back_is_reset_after_its_last_event() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(NO_DRAIN, &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sub = client.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    gateway.signal("TERM");
    assert_eq!(sub.expect_end().await, End::Reset);
}

#[tokio::test]
async fn a_channel_that_ends_cleanly_ends_its_streams_so() {
    let origin = Origin::start().await;
    let lines = format!("end = \"clean\"\n{NO_DRAIN}");
    let gateway = Gateway::with(&lines, &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sub = client.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    gateway.signal("TERM");
    assert_eq!(sub.expect_end().await, End::Clean);
}

#[tokio::test]
async fn a_channel_that_is_over_ends_its_streams_cleanly_and_is_204_for_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sub = client.subscribe().await;
    let over = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    origin.answer_with(crate::support::Answer::RawAndClose(over));
    origin.stream().await.close();
    assert_eq!(sub.expect_end().await, End::Clean);
    let (head, content) = client.ask("GET", "/events", &[]).await;
    assert_eq!((head.status, content.as_str()), (204, ""));
}

#[tokio::test]
async fn a_drain_tells_each_stream_when_to_return_and_closes_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\ndrain = \"1s\"", &origin).await;
    let mut client = Http2::connect(&gateway).await;
    let mut subs = Vec::new();
    for _ in 0..10 {
        let mut sub = client.subscribe().await;
        assert!(matches!(sub.next_item().await, Item::Retry(_)));
        subs.push(sub);
    }
    gateway.signal("TERM");
    // The connection takes no new stream while it gives the old ones their time.
    let refused = async || client.try_request("GET", "/events", &[]).await.is_err();
    until_true("the connection to be closed for new streams", refused).await;
    for sub in &mut subs {
        let item = sub.next_item().await;
        assert!(matches!(item, Item::Retry(_)), "{item:?}");
        assert_eq!(sub.expect_end().await, End::Reset);
    }
    assert_eq!(client.ended().await, Ok(()));
}

// --- slow streams ---

#[tokio::test]
async fn streams_that_stop_reading_delay_no_sibling() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let mut stalled = Vec::new();
    let mut readers = Vec::new();
    for n in 0..200 {
        let sub = client.subscribe().await;
        if n % 10 == 0 {
            stalled.push(sub);
        } else {
            readers.push(sub);
        }
    }
    // In the end a stalled stream has been sent four times what its window and ours hold.
    for n in 0..40 {
        let data = data(n, 10_000);
        origin.send(format!("data: {data}\n\n")).await;
        for reader in &mut readers {
            reader.expect_event(&data).await;
        }
    }
    // Within `lag.limit`, those missed nothing either.
    for sub in &mut stalled {
        for n in 0..40 {
            sub.expect_event(&data(n, 10_000)).await;
        }
    }
}

#[tokio::test]
async fn stalled_streams_cost_bounded_memory() {
    const MIB: usize = 1024 * 1024;
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"512KiB\" }\nhistory = { bytes = \"1MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let windows = Windows {
        stream: 1024,
        ..Windows::default()
    };
    let client = Http2::with_windows(&gateway, windows).await;
    let mut reader = gateway.subscribe().await;
    let mut stalled = Vec::new();
    for _ in 0..100 {
        stalled.push(client.subscribe().await);
    }
    let before = gateway.resident_bytes();
    for n in 0..40 {
        let data = data(n, 10_000);
        origin.send(format!("data: {data}\n\n")).await;
        reader.expect_event(&data).await;
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    // 16 KiB each, and what the log and the sockets hold.
    assert!(grown < 8 * MIB, "{} KiB more", grown / 1024);
}

#[tokio::test]
async fn a_stream_that_lags_is_reset_and_can_resume() {
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"64KiB\" }\nhistory = { bytes = \"4MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut reader = client.subscribe().await;
    let mut stuck = client.subscribe().await;
    for n in 0..100 {
        let data = data(n, 4096);
        origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
        reader.expect_event(&data).await;
    }
    left(&gateway, 1, "lagged").await;
    let (seen, end) = stuck.events_to_end().await;
    assert_eq!(end, End::Reset);
    let last = seen.len() - 1;
    assert_eq!(seen[last].data, data(last, 4096));
    let last = last.to_string();
    let mut resumed = client
        .subscribe_with("/events", &[("last-event-id", &last)])
        .await;
    for n in seen.len()..100 {
        resumed.expect_event(&data(n, 4096)).await;
    }
}

// --- short answers ---

#[tokio::test]
async fn short_answers_are_those_of_http_1() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let (json, html) = ([("accept", "application/json")], [("accept", "text/html")]);
    for (method, path, fields, status, content) in [
        ("GET", "/other", &[][..], 404, "nothing is here\n"),
        ("HEAD", "/other", &[], 404, ""),
        ("GET", "/events", &html, 406, "text/event-stream"),
        ("GET", "/events", &json, 200, "\"events\":["),
        ("HEAD", "/events", &json, 200, ""),
        ("HEAD", "/events", &[], 200, ""),
        ("OPTIONS", "/events", &[], 204, ""),
        ("DELETE", "/events", &[], 405, "GET, HEAD, OPTIONS"),
    ] {
        let (head, came) = client.ask(method, path, fields).await;
        assert_eq!(head.status, status, "{method} {path}");
        assert!(came.contains(content), "{method} {path}: {came:?}");
        assert!(
            !content.is_empty() || came.is_empty(),
            "{method} {path}: {came:?}"
        );
        assert_eq!(head.field("connection"), None);
    }
    let (head, _) = client.ask("HEAD", "/other", &[]).await;
    assert_eq!(head.field("content-length"), Some("16"));
    let (head, _) = client.ask("HEAD", "/events", &[]).await;
    assert_eq!(head.field("content-length"), None);
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
}

#[tokio::test]
async fn beyond_the_limit_a_stream_is_told_when_to_come_back_and_reset() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("max_subscribers = 1", &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut standing = client.subscribe().await;
    let mut refused = client.subscribe().await;
    match refused.next_item().await {
        Item::Retry(time) => assert!((5_000..=30_000).contains(&time), "{time}"),
        other => panic!("{other:?} before the reconnection time"),
    }
    assert_eq!(refused.expect_end().await, End::Reset);
    let (head, _) = client.ask("GET", "/events", &[("accept", "*/*")]).await;
    assert_eq!(head.status, 503);
    assert!(head.field("retry-after").is_some(), "{}", head.text);
    origin.send("data: a\n\n").await;
    standing.expect_event("a").await;
}

#[tokio::test]
async fn beyond_max_connections_a_client_is_answered_and_its_connection_ends() {
    let origin = Origin::start().await;
    let config = format!(
        "[server]\nmax_connections = 1\n{}",
        one_channel(&origin.url(), "")
    );
    let gateway = Gateway::with_config(&config).await;
    let mut standing = gateway.subscribe().await;
    let mut client = Http2::connect(&gateway).await;
    let mut refused = client.subscribe().await;
    assert!(matches!(refused.next_item().await, Item::Retry(_)));
    assert_eq!(refused.expect_end().await, End::Reset);
    assert_eq!(client.ended().await, Ok(()));
    origin.send("data: a\n\n").await;
    standing.expect_event("a").await;
}
