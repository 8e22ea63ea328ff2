//! What clients notice of an origin that is slow, broken or away: as little as possible.

use crate::support::{Answer, End, Event, Gateway, Item, Origin, Subscriber, event_stream};

/// Quick attempts to reach an origin, short of which none are made.
const QUICK: &str = "backoff = { first = \"10ms\", max = \"50ms\" }";

fn is_gap(event: &Event) -> bool {
    event.event_type == "ssecast.gap" && event.id.is_none()
}

/// Asserts that a subscriber is told that events may be missing, and then gets one.
async fn expect_gap_then(sub: &mut Subscriber, data: &str) {
    let gap = sub.next_event().await;
    assert!(is_gap(&gap), "waited for a gap: {gap:?}");
    assert_eq!(
        gap.data,
        r#"{"missed":"unknown","reason":"upstream-not-resumed"}"#
    );
    sub.expect_event(data).await;
}

#[tokio::test]
async fn a_subscriber_has_its_stream_before_the_origin_has_answered() {
    let origin = Origin::answering(Answer::Nothing).await;
    let gateway = Gateway::start(&origin).await;
    let mut sub = gateway.subscribe().await;
    assert!(matches!(sub.next_item().await, Item::Retry(_)));
    let connection = origin.connection(1).await;
    connection
        .send_raw(event_stream("Connection: close\r\n"))
        .await;
    connection.send_raw("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn many_subscribers_are_one_request_to_the_origin_and_nothing_of_theirs_is_in_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut subs = Vec::new();
    for n in 0..50 {
        let fields = format!("Authorization: Bearer {n}\r\nCookie: a={n}\r\nX-Own: {n}\r\n");
        let client = gateway.connect().await;
        subs.push(
            client
                .subscribe(&format!("/events?user={n}&lastEventId={n}"), &fields)
                .await,
        );
    }
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        let mut event = sub.next_event().await;
        if event.event_type == "ssecast.reset" {
            event = sub.next_event().await;
        }
        assert_eq!(event.data, "a");
    }
    assert_eq!(origin.n_connections(), 1);
    let connection = origin.connection(1).await;
    assert!(
        connection.request().starts_with("GET /events HTTP/1.1\r\n"),
        "{}",
        connection.request()
    );
    let host = origin.address().to_string();
    assert_eq!(connection.request_field("host"), Some(host.as_str()));
    assert_eq!(
        connection.request_field("accept"),
        Some("text/event-stream")
    );
    for name in [
        "authorization",
        "cookie",
        "x-own",
        "last-event-id",
        "connection",
    ] {
        assert_eq!(
            connection.request_field(name),
            None,
            "{name}: {}",
            connection.request()
        );
    }
}

#[tokio::test]
async fn clients_stay_while_the_origin_is_away_and_are_told_what_may_be_missing() {
    let mut origin = Origin::start().await;
    let gateway = Gateway::with(QUICK, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    origin.go_away();
    gateway.logged(3, &["upstream failed"]).await;
    let mut newcomer = gateway.subscribe().await;
    origin.come_back().await;
    origin.connection(2).await.send("data: b\n\n").await;
    expect_gap_then(&mut sub, "b").await;
    expect_gap_then(&mut newcomer, "b").await;
}

#[tokio::test]
async fn who_came_before_the_first_stream_of_the_origin_is_told_that_events_may_be_missing() {
    let mut origin = Origin::start().await;
    origin.go_away();
    let gateway = Gateway::with(&format!("{QUICK}\njoin = \"all\""), &origin).await;
    gateway.logged(1, &["upstream failed"]).await;
    let mut early = gateway.subscribe().await;
    origin.come_back().await;
    origin.connection(1).await.send("data: a\n\n").await;
    let gap = early.next_event().await;
    assert!(is_gap(&gap), "waited for a gap: {gap:?}");
    assert_eq!(
        gap.data,
        r#"{"missed":"unknown","reason":"upstream-opened-late"}"#
    );
    early.expect_event("a").await;
}

#[tokio::test]
async fn an_origin_that_is_late_where_nobody_was_leaves_no_gap() {
    let mut origin = Origin::start().await;
    origin.go_away();
    let gateway = Gateway::with(&format!("{QUICK}\njoin = \"all\""), &origin).await;
    gateway.logged(1, &["upstream failed"]).await;
    origin.come_back().await;
    let connection = origin.connection(1).await;
    gateway.logged(1, &["upstream open"]).await;
    let mut sub = gateway.subscribe().await;
    connection.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn an_origin_that_resumes_by_id_leaves_no_gap() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(QUICK, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: 1\ndata: a\n\nid: 2\ndata: b\n\n").await;
    sub.expect_event("a").await;
    sub.expect_event("b").await;
    origin.answer_with(Answer::Reset);
    origin.connection(1).await.reset();
    origin.connection(3).await;
    origin.answer_with(Answer::CloseDelimited);
    let connection = origin.open_connection().await;
    for number in 2..=origin.n_connections() {
        let attempt = origin.connection(number).await;
        assert_eq!(
            attempt.request_field("last-event-id"),
            Some("2"),
            "{}",
            attempt.request()
        );
    }
    connection.send("id: 3\ndata: c\n\n").await;
    sub.expect_event("c").await;
}

#[tokio::test]
async fn no_answer_of_the_origin_but_204_ends_a_stream() {
    let raw = |text: &str| Answer::RawAndClose(text.as_bytes().to_vec());
    let origin = Origin::start().await;
    let gateway = Gateway::with(QUICK, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.connection(1).await;
    for answer in [
        raw("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
        raw("HTTP/1.1 404 Not Found\r\n\r\nno\n"),
        raw("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
        raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\ndata: not an event\n\n"),
        raw(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: deflate\r\n\r\n",
        ),
        raw("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
        raw("HTTP/1.1 302 Found\r\nLocation: /events\r\nContent-Length: 0\r\n\r\n"),
        raw("no HTTP at all\r\n\r\n"),
        raw(""),
        Answer::Reset,
    ] {
        let before = origin.n_connections();
        let shown = format!("{answer:?}");
        origin.answer_with(answer);
        origin.newest().await.close();
        origin.connection(before + 2).await;
        let mut newcomer = gateway.subscribe().await;
        assert!(
            matches!(newcomer.next_item().await, Item::Retry(_)),
            "{shown}"
        );
    }
    origin.answer_with(Answer::Chunked);
    origin.open_connection().await.send("data: b\n\n").await;
    expect_gap_then(&mut sub, "b").await;
}

#[tokio::test]
async fn an_event_beyond_the_limit_ends_the_upstream_and_not_the_clients() {
    let origin = Origin::start().await;
    let keys = format!("{QUICK}\nmax_event_bytes = \"64KiB\"\nmax_line_bytes = \"64KiB\"");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut sub = gateway.subscribe().await;
    let connection = origin.connection(1).await;
    connection.send("data: a\n\n").await;
    let endless = "x".repeat(70 * 1024);
    connection.send(format!("data: {endless}")).await;
    connection.closed().await;
    let next = origin.connection(2).await;
    next.send("data: b\n\n").await;
    sub.expect_event("a").await;
    expect_gap_then(&mut sub, "b").await;
}

#[tokio::test]
async fn an_event_that_was_cut_off_is_never_delivered() {
    let origin = Origin::answering(Answer::Raw(
        event_stream("Content-Length: 1000\r\n").into_bytes(),
    ))
    .await;
    let keys = format!("{QUICK}\n[server]\ndrain = \"0s\"");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut sub = gateway.subscribe().await;
    let first = origin.connection(1).await;
    first.send_raw("data: a\n\ndata: half").await;
    sub.expect_event("a").await;
    first.close();
    origin.connection(2).await.send_raw("data: b\n\n").await;
    expect_gap_then(&mut sub, "b").await;
    gateway.signal("TERM");
    assert_eq!(sub.expect_end().await, End::Cut);
}
