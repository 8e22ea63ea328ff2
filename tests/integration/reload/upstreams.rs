//! Upstreams that change.

use crate::reload::{config, subscribe};
use crate::support::{Answer, End, Event, Gateway, Origin, Subscriber};

const QUICK: &str = "backoff = { first = \"10ms\", max = \"50ms\" }";

async fn expect_gap(sub: &mut Subscriber, reason: &str) {
    let gap = sub.next_event().await;
    let data = format!(r#"{{"missed":"unknown","reason":"{reason}"}}"#);
    let expected = Event {
        id: None,
        event_type: "ssecast.gap".to_owned(),
        data,
    };
    assert_eq!(gap, expected);
}

#[tokio::test]
async fn another_upstream_keeps_the_clients_and_the_history_and_begins_an_epoch() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let gateway = Gateway::with_config(&config(&[("a", &old, "")])).await;
    let mut sub = subscribe(&gateway, "a").await;
    old.send("id: 7\ndata: seven\n\ndata: without\n\n").await;
    sub.expect_event("seven").await;
    let ours = sub.expect_event("without").await.id.expect("an id");
    gateway.reload(&config(&[("a", &new, "")]), "applied").await;
    let request = new.stream().await;
    assert_eq!(
        request.request_field("last-event-id"),
        None,
        "that is the old one's"
    );
    old.stream().await.closed().await;
    new.send("id: 1\ndata: one\n\ndata: more\n\n").await;
    expect_gap(&mut sub, "upstream-changed").await;
    sub.expect_event("one").await;
    let epoch = |id: &str| id.rsplit_once('-').expect("an epoch").0.to_owned();
    let next = sub.expect_event("more").await.id.expect("an id");
    assert_ne!(epoch(&ours), epoch(&next));
    // Who saw the old one's last event goes on from there, over the gap.
    let client = gateway.connect().await;
    let mut late = client.subscribe("/a", "Last-Event-ID: 7\r\n").await;
    late.expect_event("without").await;
    expect_gap(&mut late, "upstream-changed").await;
    late.events_through("more").await;
}

#[tokio::test]
async fn the_same_source_elsewhere_is_asked_to_go_on() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let gateway = Gateway::with_config(&config(&[("a", &old, "same_source = true")])).await;
    let mut sub = subscribe(&gateway, "a").await;
    old.send("id: 7\ndata: seven\n\n").await;
    sub.expect_event("seven").await;
    let moved = config(&[("a", &new, "same_source = true")]);
    gateway.reload(&moved, "applied").await;
    let request = new.stream().await;
    assert_eq!(request.request_field("last-event-id"), Some("7"));
    new.send("id: 8\ndata: eight\n\n").await;
    sub.expect_event("eight").await;
}

#[tokio::test]
async fn other_header_fields_are_sent_by_a_new_request_that_goes_on() {
    let origin = Origin::start().await;
    let of = |lines| config(&[("a", &origin, lines)]);
    let gateway = Gateway::with_config(&of("")).await;
    let mut sub = subscribe(&gateway, "a").await;
    origin.send("id: 7\ndata: seven\n\n").await;
    sub.expect_event("seven").await;
    gateway
        .reload(&of("upstream_headers = { X-Client = \"b\" }"), "applied")
        .await;
    let request = origin.connection(2).await;
    assert_eq!(request.request_field("x-client"), Some("b"));
    assert_eq!(request.request_field("last-event-id"), Some("7"));
    request.send("id: 8\ndata: eight\n\n").await;
    sub.expect_event("eight").await;
    origin.connection(1).await.closed().await;
}

#[tokio::test]
async fn events_are_gathered_or_not_from_then_on() {
    let origin = Origin::start().await;
    let of = |lines| config(&[("a", &origin, lines)]);
    let gateway = Gateway::with_config(&of("")).await;
    let mut sub = subscribe(&gateway, "a").await;
    let before = gateway.sockets_per_reactor().len();
    for (n, lines) in ["coalesce = \"5ms\"", "coalesce = \"7ms\"", ""]
        .iter()
        .enumerate()
    {
        gateway.reload(&of(lines), "applied").await;
        let request = origin.connection(n + 2).await;
        request.send(format!("id: {n}\ndata: {n}\n\n")).await;
        sub.events_through(&n.to_string()).await;
    }
    crate::support::until("gathers to end that nobody uses", || {
        let now = gateway.sockets_per_reactor().len();
        if now == before {
            Ok(())
        } else {
            Err(format!("{now} polls instead of {before}"))
        }
    })
    .await;
}

#[tokio::test]
async fn timeouts_are_followed_without_a_new_request() {
    let origin = Origin::start().await;
    let of = |lines: &str| config(&[("a", &origin, &format!("{QUICK}\n{lines}"))]);
    let gateway = Gateway::with_config(&of("")).await;
    let mut sub = subscribe(&gateway, "a").await;
    origin.send("id: 1\ndata: a\n\n").await;
    sub.expect_event("a").await;
    gateway
        .reload(&of("idle_timeout = \"300ms\""), "applied")
        .await;
    // The connection that was open is silent for too long now.
    gateway.logged(1, &["upstream failed", "stalled"]).await;
    origin.connection(2).await;
}

#[tokio::test]
async fn an_upstream_that_connects_or_waits_goes_to_the_new_place_at_once() {
    let (silent, new) = (
        Origin::answering(Answer::Nothing).await,
        Origin::start().await,
    );
    let mut gone = Origin::start().await;
    gone.go_away();
    let slow = "response_timeout = \"60s\"\nbackoff = { first = \"30s\", max = \"60s\" }";
    let gateway = Gateway::with_config(&config(&[("a", &silent, slow)])).await;
    let mut sub = subscribe(&gateway, "a").await;
    let request = silent.connection(1).await;
    gateway
        .reload(&config(&[("a", &gone, slow)]), "applied")
        .await;
    request.closed().await;
    gateway
        .logged(1, &["upstream failed", "connect-failed"])
        .await;
    gateway
        .reload(&config(&[("a", &new, slow)]), "applied")
        .await;
    new.stream().await.send("data: a\n\n").await;
    // None of them was ever open: nothing is missing.
    sub.expect_first_event("a").await;
}

#[tokio::test]
async fn a_channel_that_was_over_begins_again_with_another_upstream() {
    let over = Answer::RawAndClose(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let (old, new) = (Origin::start().await, Origin::start().await);
    let gateway = Gateway::with_config(&config(&[("a", &old, QUICK)])).await;
    let mut sub = subscribe(&gateway, "a").await;
    old.send("id: 1\ndata: a\n\n").await;
    sub.expect_event("a").await;
    old.answer_with(over);
    old.stream().await.close();
    assert_eq!(sub.expect_end().await, End::Clean);
    gateway
        .reload(&config(&[("a", &new, QUICK)]), "applied")
        .await;
    new.stream().await;
    gateway.logged(2, &["upstream open"]).await;
    let client = gateway.connect().await;
    let mut sub = client.subscribe("/a", "Last-Event-ID: 1\r\n").await;
    expect_gap(&mut sub, "upstream-changed").await;
    new.send("id: 2\ndata: b\n\n").await;
    sub.expect_event("b").await;
}
