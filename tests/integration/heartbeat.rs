//! What idle clients get.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Connector, Event, Gateway, Item, Origin, one_channel};

/// The shortest interval that can be configured.
const INTERVAL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_heartbeat_is_a_colon_and_a_line_feed_in_a_chunk() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"1s\"", &origin).await;
    let mut old = gateway.connect().await;
    old.send("GET /events HTTP/1.0\r\n\r\n").await;
    let mut old = old.into_subscriber().await;
    let mut sub = gateway.subscribe().await;
    sub.piece().await.expect("the prologue");
    let bytes = sub.client.take(14, "two heartbeats").await;
    assert_eq!(String::from_utf8_lossy(&bytes), "2\r\n:\n\r\n2\r\n:\n\r\n");
    assert!(matches!(old.next_item().await, Item::Retry(_)));
    assert_eq!(old.next_item().await, Item::Comment(String::new()));
    assert_eq!(old.next_item().await, Item::Comment(String::new()));
}

#[tokio::test]
async fn a_heartbeat_comes_only_when_nothing_else_came_for_the_interval() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"1s\"", &origin).await;
    let mut sub = gateway.subscribe().await;
    sub.next_item().await;
    // For a few intervals, events come more often than heartbeats would.
    let mut ticks = tokio::time::interval(INTERVAL / 10);
    let started = Instant::now();
    let mut last_event_at = Instant::now();
    while started.elapsed() < 2 * INTERVAL {
        ticks.tick().await;
        let idle = last_event_at.elapsed();
        origin.send("data: a\n\n").await;
        match sub.next_item().await {
            Item::Event(_) => last_event_at = Instant::now(),
            // On a machine that is too busy to send in time.
            Item::Comment(_) if idle >= INTERVAL / 2 => {}
            other => panic!("{other:?}, {idle:?} after an event"),
        }
    }
    assert_eq!(sub.next_item().await, Item::Comment(String::new()));
    let idle = last_event_at.elapsed();
    assert!(
        idle >= INTERVAL - Duration::from_millis(50),
        "a heartbeat after {idle:?}"
    );
}

#[tokio::test]
async fn a_heartbeat_can_be_an_event_that_pages_see() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(
        "heartbeat = \"1s\"\nheartbeat_form = \"event:alive\"",
        &origin,
    )
    .await;
    let mut sub = gateway.subscribe().await;
    let heartbeat = Event {
        id: None,
        event_type: "alive".to_owned(),
        data: r#"{"interval_ms":1000}"#.to_owned(),
    };
    // One at once, so that a page knows from the beginning how long silence may last.
    let started = Instant::now();
    assert_eq!(sub.next_event().await, heartbeat);
    for _ in 0..2 {
        assert_eq!(sub.next_event().await, heartbeat);
    }
    let idle = started.elapsed();
    assert!(
        idle >= 2 * INTERVAL - Duration::from_millis(100),
        "two more in {idle:?}"
    );
}

#[tokio::test]
async fn pages_that_are_there_are_told_another_interval_at_once() {
    let origin = Origin::start().await;
    let config = |heartbeat: &str| {
        let keys = format!("heartbeat = \"{heartbeat}\"\nheartbeat_form = \"event:alive\"");
        one_channel(&origin.url(), &keys)
    };
    let gateway = Gateway::with_config(&config("20s")).await;
    let mut sub = gateway.subscribe().await;
    sub.expect_event(r#"{"interval_ms":20000}"#).await;
    gateway.reload(&config("30s"), "applied").await;
    sub.expect_event(r#"{"interval_ms":30000}"#).await;
}

#[tokio::test]
async fn heartbeats_are_not_replayed() {
    const HEARTBEAT: &str = r#"{"interval_ms":1000}"#;
    let origin = Origin::start().await;
    let keys = "heartbeat = \"1s\"\nheartbeat_form = \"event:alive\"";
    let gateway = Gateway::with(keys, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\nid: 1\n\n").await;
    sub.expect_event(HEARTBEAT).await;
    sub.expect_event("a").await;
    sub.expect_event(HEARTBEAT).await;
    origin.send("data: b\nid: 2\n\n").await;
    sub.expect_event("b").await;
    let mut resumed = gateway.resume_after("1").await;
    // Its own first one, and none of those between the events.
    resumed.expect_event(HEARTBEAT).await;
    resumed.expect_event("b").await;
}

#[tokio::test]
async fn heartbeats_go_on_while_the_origin_is_away() {
    let mut origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"1s\"", &origin).await;
    origin.connection(1).await;
    let mut sub = gateway.subscribe().await;
    sub.next_item().await;
    origin.go_away();
    gateway.logged(2, &["upstream failed"]).await;
    let started = Instant::now();
    for _ in 0..2 {
        assert_eq!(sub.next_item().await, Item::Comment(String::new()));
    }
    let idle = started.elapsed();
    assert!(
        idle >= INTERVAL - Duration::from_millis(50),
        "two heartbeats in {idle:?}"
    );
}

#[tokio::test]
async fn a_client_that_is_stuck_in_an_event_gets_no_heartbeat_in_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"1s\"", &origin).await;
    let mut idle = gateway.subscribe().await;
    let connector = Connector::default().receive_buffer(4096);
    let mut stuck = connector
        .connect(&gateway)
        .await
        .subscribe("/events", "")
        .await;
    let mut old = connector.connect(&gateway).await;
    old.send("GET /events HTTP/1.0\r\n\r\n").await;
    let mut old = old.into_subscriber().await;
    // More than the kernel takes for a client that does not read.
    let data = "x".repeat(900 * 1024);
    origin.send(format!("data: {data}\n\n")).await;
    idle.expect_event(&data).await;
    let mut n_heartbeats = 0;
    while n_heartbeats < 2 {
        match idle.next_item().await {
            Item::Comment(_) => n_heartbeats += 1,
            other => panic!("waited for heartbeats; {other:?}"),
        }
    }
    for sub in [&mut stuck, &mut old] {
        sub.expect_event(&data).await;
    }
    origin.send("data: b\n\n").await;
    for sub in [&mut stuck, &mut old] {
        sub.expect_event("b").await;
    }
}

#[tokio::test]
async fn the_head_says_how_often_they_come() {
    let origin = Origin::start().await;
    let keys = "heartbeat = \"20s\"\ncors = { origins = [\"https://page.test\"] }";
    let gateway = Gateway::with(keys, &origin).await;
    let sub = gateway.subscribe().await;
    assert_eq!(sub.head.field("ssecast-heartbeat-ms"), Some("20000"));
    assert_eq!(sub.head.field("access-control-expose-headers"), None);
    let of_page = gateway
        .subscribe_with("Origin: https://page.test\r\n")
        .await;
    let exposed = of_page.head.field("access-control-expose-headers");
    assert_eq!(exposed, Some("Ssecast-Heartbeat-Ms"));
    let silent = Gateway::with("heartbeat = \"off\"", &origin).await;
    let sub = silent.subscribe().await;
    assert_eq!(sub.head.field("ssecast-heartbeat-ms"), None);
}
