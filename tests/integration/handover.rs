//! From the request to the stream: what the client reads, and how it leaves.

use std::fs;

use crate::support::{Body, Client, Connector, End, Gateway, Item, Origin, until};

const REQUEST: &str =
    "GET /events HTTP/1.1\r\nHost: gateway.test\r\nAccept: text/event-stream\r\n\r\n";

/// Waits until the channel has this many subscribers that left because the client did.
async fn left(gateway: &Gateway, n: usize) {
    gateway
        .logged(n, &["a subscriber left", "reason=\"client-left\""])
        .await;
}

#[tokio::test]
async fn an_event_of_the_origin_reaches_a_subscriber() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"1s\"", &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn the_head_says_that_nobody_may_store_change_or_hold_the_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let sub = gateway.subscribe().await;
    let head = &sub.head;
    assert!(
        head.text.starts_with("HTTP/1.1 200 OK\r\n"),
        "{}",
        head.text
    );
    let mut names = head.names();
    names.sort_unstable();
    let expected = [
        "Cache-Control",
        "Connection",
        "Content-Type",
        "Date",
        "Ssecast-Heartbeat-Ms",
        "Transfer-Encoding",
        "Vary",
        "X-Accel-Buffering",
    ];
    assert_eq!(names, expected);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(head.field(name), Some(value), "{}", head.text);
    }
    let date = head.field("date").expect("a date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[tokio::test]
async fn the_head_and_the_reconnection_time_come_before_any_event() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("retry = { min = \"1234ms\", max = \"1234ms\" }", &origin).await;
    let mut client = gateway.connect().await;
    client.send(REQUEST).await;
    client.head().await;
    // No blank line: some clients would fire an empty event at it.
    let prologue = b"c\r\nretry: 1234\n\r\n";
    assert_eq!(client.take(prologue.len(), "the prologue").await, prologue);
    origin.send("id: 7\nevent: t\ndata: a\ndata: b\n\n").await;
    let expected = "20\r\nevent: t\ndata: a\ndata: b\nid: 7\n\n\r\n";
    let came = client.take(expected.len(), "the event").await;
    assert_eq!(String::from_utf8_lossy(&came), expected);
}

#[tokio::test]
async fn reconnection_times_are_random_within_their_bounds() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("retry = { min = \"1s\", max = \"2s\" }", &origin).await;
    let mut times = std::collections::BTreeSet::new();
    for _ in 0..20 {
        match gateway.subscribe().await.next_item().await {
            Item::Retry(time) => assert!((1000..=2000).contains(&time), "{time}"),
            other => panic!("{other:?} before the reconnection time"),
        }
    }
    for _ in 0..20 {
        if let Item::Retry(time) = gateway.subscribe().await.next_item().await {
            times.insert(time);
        }
    }
    assert!(times.len() > 5, "{times:?}");
}

#[tokio::test]
async fn each_event_is_a_chunk_with_the_id_as_its_last_line() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut sub = gateway.subscribe().await;
    sub.piece().await.expect("the prologue");
    origin
        .send(
            "id: 1\ndata: a\n\n:comment\n\ndata: b\nid: 2\nevent: t\n\nretry: 9\n\nid: 3\ndata\n\n",
        )
        .await;
    for expected in [
        "data: a\nid: 1\n\n",
        "event: t\ndata: b\nid: 2\n\n",
        "data:\nid: 3\n\n",
    ] {
        let chunk = sub.piece().await.expect("an event");
        assert_eq!(String::from_utf8_lossy(&chunk), expected);
    }
    // The origin gave no id: the gateway does.
    origin.send("id\ndata: c\n\n").await;
    let chunk = sub.piece().await.expect("an event");
    let text = String::from_utf8_lossy(&chunk);
    let id = text
        .strip_prefix("data: c\nid: ")
        .and_then(|rest| rest.strip_suffix("\n\n"));
    let id = id.unwrap_or_else(|| panic!("an id of the gateway: {text:?}"));
    assert!(
        id.ends_with("-4") && !id.contains('\n'),
        "epoch-sequence: {id:?}"
    );
}

#[tokio::test]
async fn http_1_0_gets_the_same_events_without_chunks() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    client.send("GET /events HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let mut old = client.into_subscriber().await;
    assert_eq!(old.head.body(), Body::CloseDelimited, "{}", old.head.text);
    assert_eq!(
        old.head.field("connection"),
        Some("close"),
        "{}",
        old.head.text
    );
    let mut new = gateway.subscribe().await;
    let long = "x".repeat(100_000);
    origin
        .send(format!(
            "data: a\n\ndata: b\nid: 1\n\ndata: {long}\n\ndata: end\n\n"
        ))
        .await;
    let expected = new.events_through("end").await;
    assert_eq!(old.events_through("end").await, expected);
    // And a replay, from the middle.
    let mut client = gateway.connect().await;
    client
        .send("GET /events?lastEventId=1 HTTP/1.0\r\n\r\n")
        .await;
    let mut resumed = client.into_subscriber().await;
    assert_eq!(resumed.events_through("end").await, expected[2..]);
}

#[tokio::test]
async fn a_client_that_asks_to_keep_or_close_or_upgrade_the_connection_gets_a_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut subs = Vec::new();
    for fields in [
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "TE: trailers\r\nTrailer: x\r\n",
        "Expect: 100-continue\r\n",
    ] {
        subs.push((fields, gateway.subscribe_with(fields).await));
    }
    origin.send("data: a\n\n").await;
    for (fields, sub) in &mut subs {
        assert_eq!(sub.head.field("connection"), Some("close"), "{fields}");
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn a_request_may_come_in_two_pieces_split_anywhere() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut clients: Vec<(usize, Client)> = Vec::new();
    for split in 1..REQUEST.len() {
        let mut client = gateway.connect().await;
        client.send(REQUEST.split_at(split).0).await;
        clients.push((split, client));
    }
    until("the gateway to read all first pieces", || {
        let (n_connections, n_bytes) = received_and_unread(gateway.address());
        if (n_connections, n_bytes) == (clients.len(), 0) {
            Ok(())
        } else {
            Err(format!(
                "{n_connections} connections with {n_bytes} bytes unread"
            ))
        }
    })
    .await;
    let mut subs = Vec::new();
    for (split, mut client) in clients {
        client.send(REQUEST.split_at(split).1).await;
        subs.push((split, client.into_subscriber().await));
    }
    origin.send("data: a\n\n").await;
    for (split, mut sub) in subs {
        let event = sub.next_event().await;
        assert_eq!(event.data, "a", "split at {split}");
    }
}

/// How many connections the gateway has, and how many bytes it has not read of them.
fn received_and_unread(address: &str) -> (usize, usize) {
    let (_, port) = address.rsplit_once(':').expect("a port");
    let port = format!(":{:04X}", port.parse::<u16>().expect("a port"));
    let table = fs::read_to_string("/proc/net/tcp").expect("the connections of this machine");
    let hex = |text: &str| usize::from_str_radix(text, 16).expect("a hexadecimal number");
    let queues = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_ours = columns[1].ends_with(&port) && columns[3] == "01";
        is_ours.then(|| {
            columns[4]
                .split_once(':')
                .map_or(0, |(_, received)| hex(received))
        })
    });
    queues.fold((0, 0), |(n, unread), bytes| (n + 1, unread + bytes))
}

#[tokio::test]
async fn bytes_after_the_request_are_refused_and_nobody_else_notices() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut bystander = gateway.subscribe().await;
    for trailing in ["x", REQUEST] {
        let mut client = gateway.connect().await;
        client.send(format!("{REQUEST}{trailing}")).await;
        let answer = String::from_utf8_lossy(&client.rest().await.0).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let length = format!("Content-Length: {}", body.len());
        assert!(head.contains(&length), "{answer}");
    }
    // An empty line does no harm (RFC 9112, 2.2).
    let mut client = gateway.connect().await;
    client.send(format!("{REQUEST}\r\n")).await;
    client.into_subscriber().await;
    gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    bystander.expect_event("a").await;
}

#[tokio::test]
async fn a_byte_from_a_subscriber_ends_its_subscription() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut bystander = gateway.subscribe().await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    sub.client.send("x").await;
    assert_eq!(sub.expect_end().await, End::Cut);
    left(&gateway, 1).await;
    bystander.expect_event("a").await;
    origin.send("data: b\n\n").await;
    bystander.expect_event("b").await;
}

#[tokio::test]
async fn half_a_close_ends_a_subscription() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut sub = gateway.subscribe().await;
    sub.client.finish_sending().await;
    assert_eq!(sub.expect_end().await, End::Cut);
    left(&gateway, 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_without_anything_to_send() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"off\"", &origin).await;
    for (n, connector) in [Connector::default(), Connector::default().resetting()]
        .iter()
        .enumerate()
    {
        let sub = connector
            .connect(&gateway)
            .await
            .subscribe("/events", "")
            .await;
        drop(sub);
        left(&gateway, n + 1).await;
    }
}

#[tokio::test]
async fn clients_that_come_and_go_leave_no_descriptor_behind() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nthreads = 2", &origin).await;
    drop(gateway.subscribe().await);
    left(&gateway, 1).await;
    let before = gateway.n_descriptors();
    for round in 0..5 {
        let mut subs = Vec::new();
        for n in 0..100 {
            let mut client = gateway.connect().await;
            match n % 4 {
                0 => client.send("GET /events HTTP/1.1\r\n").await,
                1 => client.send(format!("{REQUEST}x")).await,
                2 => {
                    client
                        .send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
                        .await;
                }
                _ => client.send(REQUEST).await,
            }
            subs.push(client);
        }
        let mut bystander = gateway.subscribe().await;
        origin.send(format!("data: {round}\n\n")).await;
        bystander.expect_event(&round.to_string()).await;
    }
    until("the descriptors of those who left to be closed", || {
        let n = gateway.n_descriptors();
        if n <= before {
            Ok(())
        } else {
            Err(format!("{n} descriptors, {before} before"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_channel_is_served_by_all_shards_and_a_small_one_by_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nthreads = 2", &origin).await;
    let mut subs = Vec::new();
    for _ in 0..40 {
        subs.push(gateway.subscribe().await);
    }
    // Besides its clients, a reactor watches its own wake-up, signals, a listener, an upstream.
    let counts = gateway.sockets_per_reactor();
    assert_eq!(counts.iter().filter(|&&n| n >= 10).count(), 1, "{counts:?}");
    for _ in 0..160 {
        subs.push(gateway.subscribe().await);
    }
    let counts = gateway.sockets_per_reactor();
    assert_eq!(counts.iter().filter(|&&n| n >= 50).count(), 2, "{counts:?}");
    origin.send("data: a\n\ndata: b\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
        sub.expect_event("b").await;
    }
    let n = subs.len();
    drop(subs);
    left(&gateway, n).await;
}
