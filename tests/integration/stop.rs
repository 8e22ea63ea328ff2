//! How streams end: the gateway stops, or the channel is over.

use crate::support::{Answer, Connector, End, Ended, Gateway, Origin, within};

/// Quick attempts to reach an origin that has gone.
const QUICK: &str = "backoff = { first = \"10ms\", max = \"50ms\" }";
/// Goodbyes are `drain.rs`'s business: here nobody waits for his.
const NO_DRAIN: &str = "[server]\nthreads = 2\ndrain = \"0s\"";
const GONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Asserts that a gateway ended as it should, and quickly: by its own log, so that a busy machine
/// does not matter.
fn assert_ended_well(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let at = |what: &str| {
        let line = ended.log.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("{what:?} in the log: {}", ended.log));
        let time = line
            .split_once('T')
            .and_then(|(_, rest)| rest.split_once('Z'))
            .expect("a time");
        let mut parts = time
            .0
            .split(':')
            .map(|part| part.parse::<f64>().expect("a number"));
        parts
            .by_ref()
            .take(3)
            .fold(0.0, |seconds, part| seconds * 60.0 + part)
    };
    let day = 24.0 * 3600.0;
    let took = (at(" stopped") - at(" stopping ") + day) % day;
    assert!(took < 2.0, "it took {took} s to stop: {}", ended.log);
    for level in [" WARN ", " ERROR "] {
        assert!(
            !ended.log.contains(level),
            "nothing is wrong with stopping: {}",
            ended.log
        );
    }
}

#[tokio::test]
async fn a_signal_ends_the_process_and_cuts_its_clients_between_events() {
    for signal in ["TERM", "INT"] {
        let origin = Origin::start().await;
        let mut gateway = Gateway::with(NO_DRAIN, &origin).await;
        let mut subs = Vec::new();
        for _ in 0..100 {
            subs.push(gateway.subscribe().await);
        }
        // Connections that are no subscriptions must not hold it up either.
        let mut idle = gateway.connect().await;
        idle.ask("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut half = gateway.connect().await;
        half.send("GET /events HTTP/1.1\r\n").await;
        origin.send("data: a\n\ndata: b\n\n").await;
        for sub in &mut subs {
            sub.expect_event("a").await;
        }
        gateway.signal(signal);
        let ended = gateway.ended().await;
        assert_ended_well(&ended);
        for mut sub in subs {
            sub.expect_event("b").await;
            assert_eq!(sub.expect_end().await, End::Cut, "without the last chunk");
        }
        idle.rest().await;
        half.rest().await;
    }
}

#[tokio::test]
async fn with_end_clean_a_signal_ends_streams_with_the_last_chunk() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&format!("end = \"clean\"\n{NO_DRAIN}"), &origin).await;
    let mut sub = gateway.subscribe().await;
    let mut old = gateway.connect().await;
    old.send("GET /events HTTP/1.0\r\n\r\n").await;
    let mut old = old.into_subscriber().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    old.expect_event("a").await;
    gateway.signal("TERM");
    assert_eq!(sub.expect_end().await, End::Clean);
    assert_eq!(old.expect_end().await, End::Cut);
    assert_ended_well(&gateway.ended().await);
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_stop() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(NO_DRAIN, &origin).await;
    let mut reader = gateway.subscribe().await;
    let connector = Connector::default().receive_buffer(4096);
    let mut stuck = connector
        .connect(&gateway)
        .await
        .subscribe("/events", "")
        .await;
    let data = "x".repeat(900 * 1024);
    origin.send(format!("data: {data}\n\n")).await;
    reader.expect_event(&data).await;
    gateway.signal("TERM");
    assert_eq!(reader.expect_end().await, End::Cut);
    assert_ended_well(&gateway.ended().await);
    // It never got its event whole: it has seen nothing of it.
    assert_eq!(stuck.expect_end().await, End::CutInChunk);
}

#[tokio::test]
async fn a_client_that_reads_gets_the_rest_of_its_event_when_the_gateway_stops() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(NO_DRAIN, &origin).await;
    let mut reader = gateway.subscribe().await;
    // It is in the middle of the event when the gateway stops, and reads on.
    let connector = Connector::default().receive_buffer(32 * 1024);
    let mut slow = connector
        .connect(&gateway)
        .await
        .subscribe("/events", "")
        .await;
    let data = "x".repeat(900 * 1024);
    origin.send(format!("data: {data}\n\ndata: b\n\n")).await;
    reader.expect_event(&data).await;
    reader.expect_event("b").await;
    gateway.signal("TERM");
    slow.expect_event(&data).await;
    let (_, end) = slow.events_to_end().await;
    assert_eq!(end, End::Cut);
    assert_ended_well(&gateway.ended().await);
}

#[tokio::test]
async fn a_flood_of_events_does_not_hold_up_the_stop() {
    let origin = Origin::start().await;
    // Nobody is too slow: all that ends a stream here is the stop.
    let keys = "lag = { limit = \"512MiB\" }\nhistory = { bytes = \"512MiB\" }";
    let mut gateway = Gateway::with(&format!("{keys}\n{NO_DRAIN}"), &origin).await;
    let mut subs = Vec::new();
    for _ in 0..200 {
        subs.push(gateway.subscribe().await);
    }
    let connection = origin.connection(1).await;
    let flood = tokio::spawn(async move {
        let events = format!("data: {}\n\n", "x".repeat(100)).repeat(1000);
        loop {
            connection.send(&events).await;
        }
    });
    for sub in &mut subs {
        sub.next_event().await;
    }
    let readings: Vec<_> = subs
        .into_iter()
        .map(|mut sub| tokio::spawn(async move { sub.client.rest().await.1 }))
        .collect();
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    flood.abort();
    assert_ended_well(&ended);
    for reading in readings {
        let end = within("the end of a stream", reading, || "it goes on".to_owned()).await;
        assert_eq!(end.expect("a reader"), End::Cut);
    }
}

#[tokio::test]
async fn when_the_origin_says_204_streams_end_for_good() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(QUICK, &origin).await;
    let mut sub = gateway.subscribe().await;
    let mut old = gateway.connect().await;
    old.send("GET /events HTTP/1.0\r\n\r\n").await;
    let mut old = old.into_subscriber().await;
    let data = "x".repeat(100 * 1024);
    origin
        .send(format!("id: 1\ndata: a\n\nid: 2\ndata: {data}\n\n"))
        .await;
    origin.answer_with(Answer::RawAndClose(GONE.to_vec()));
    origin.send("id: 3\ndata: c\n\n").await;
    origin.connection(1).await.finish().await;
    for sub in [&mut sub, &mut old] {
        let (events, _) = sub.events_to_end().await;
        let seen: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(seen, ["a", &data, "c"]);
    }
    assert_eq!(
        sub.next_item().await,
        crate::support::Item::End(End::Clean),
        "the last chunk"
    );
    gateway.logged(1, &["the channel is over"]).await;
    // Nobody need come back, nor does the gateway.
    for fields in ["Accept: text/event-stream\r\n", "", "Last-Event-ID: 3\r\n"] {
        let mut client = gateway.connect().await;
        let (head, _) = client
            .ask(format!("GET /events HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
            .await;
        assert_eq!(head.status, 204, "{}", head.text);
    }
    assert_eq!(origin.n_connections(), 2);
}

#[tokio::test]
async fn a_slow_client_gets_everything_before_a_channel_is_over() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(QUICK, &origin).await;
    let connector = Connector::default().receive_buffer(8 * 1024);
    let mut slow = connector
        .connect(&gateway)
        .await
        .subscribe("/events", "")
        .await;
    let data = "x".repeat(20 * 1024);
    for n in 0..20 {
        origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
    }
    origin.answer_with(Answer::RawAndClose(GONE.to_vec()));
    origin.connection(1).await.finish().await;
    gateway.logged(1, &["the channel is over"]).await;
    let (events, end) = slow.events_to_end().await;
    assert_eq!((events.len(), end), (20, End::Clean));
}

#[tokio::test]
async fn a_channel_that_is_over_leaves_others_alone() {
    let over = Origin::answering(Answer::RawAndClose(GONE.to_vec())).await;
    let origin = Origin::start().await;
    let gateway = Gateway::with(
        &format!(
            "[channels.over]\npath = \"/over\"\nupstream = \"{}\"",
            over.url()
        ),
        &origin,
    )
    .await;
    let mut sub = gateway.subscribe().await;
    gateway
        .logged(1, &["the channel is over", "channel=\"over\""])
        .await;
    let (head, _) = gateway
        .connect()
        .await
        .ask("GET /over HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(head.status, 204);
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}
