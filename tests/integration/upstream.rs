//! The gateway as its origin sees it: what it asks for, and what it makes of the answers.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::support::{
    Answer, Gateway, Item, Origin, Subscriber, event_stream, field, logged_time, one_channel,
};

/// Reconnects soon, so that a test of many failures is short.
const SOON: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\n";

fn raw(head: &str) -> Answer {
    Answer::Raw(head.as_bytes().to_vec())
}

fn redirect(status: u16, location: &str) -> Answer {
    raw(&format!(
        "HTTP/1.1 {status} Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ))
}

fn failure(reason: &str) -> [String; 2] {
    [
        "upstream failed".to_owned(),
        format!(" reason=\"{reason}\""),
    ]
}

/// Waits until so many attempts have failed for this reason; returns what was logged of them.
async fn failed(gateway: &Gateway, n: usize, reason: &str) -> Vec<String> {
    let parts = failure(reason);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    gateway.logged(n, &parts).await
}

/// A client that came before its origin answered well, and gets events when that does.
async fn recovers(origin: &Origin, sub: &mut Subscriber) {
    origin.answer_with(Answer::Chunked);
    let connection = origin.stream().await;
    connection.send("data: well again\n\n").await;
    sub.events_through("well again").await;
}

#[tokio::test]
async fn the_request_is_for_an_event_stream_and_says_who_asks() {
    let origin = Origin::start().await;
    let url = format!("{}/a%20b?x=1&y=%26", origin.url());
    let lines = "upstream_headers = { Authorization = \"Bearer s3cret\", X-Client = \"ssecast\" }\n\
                 access = \"public\"";
    let _gateway = Gateway::with_config(&one_channel(&url, lines)).await;
    let connection = origin.connection(1).await;
    let request = connection.request();
    assert!(
        request.starts_with("GET /events/a%20b?x=1&y=%26 HTTP/1.1\r\n"),
        "{request}"
    );
    let host = origin.address().to_string();
    for (name, value) in [
        ("Host", Some(host.as_str())),
        ("Accept", Some("text/event-stream")),
        ("Cache-Control", Some("no-store")),
        ("Accept-Encoding", Some("identity")),
        ("Authorization", Some("Bearer s3cret")),
        ("X-Client", Some("ssecast")),
        ("Last-Event-ID", None),
        ("Content-Length", None),
        ("Transfer-Encoding", None),
    ] {
        assert_eq!(connection.request_field(name), value, "{name} in {request}");
    }
}

#[tokio::test]
async fn many_clients_are_one_request_that_says_nothing_of_them() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut subs = Vec::new();
    for n in 0..50 {
        let fields = format!(
            "Authorization: Bearer client{n}\r\nCookie: client={n}\r\nX-Client: {n}\r\n\
             Last-Event-ID: client{n}\r\nOrigin: http://client.test\r\nReferer: http://client.test/\r\n"
        );
        let target = format!("/events?client={n}");
        subs.push(gateway.connect().await.subscribe(&target, &fields).await);
    }
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.events_through("a").await;
    }
    assert_eq!(origin.n_connections(), 1);
    let connection = origin.connection(1).await;
    let request = connection.request().to_ascii_lowercase();
    for word in ["client", "cookie", "authorization", "last-event-id"] {
        assert!(!request.contains(word), "{word} in {request}");
    }
}

#[tokio::test]
async fn any_spelling_of_the_media_type_will_do() {
    for media_type in [
        "text/event-stream; charset=utf-8",
        "text/event-stream;charset=\"UTF-8\"",
        "Text/Event-Stream",
        "text/event-stream ; x=y",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n\r\n");
        let origin = Origin::answering(raw(&head)).await;
        let gateway = Gateway::start(&origin).await;
        let mut sub = gateway.subscribe().await;
        origin.send("data: a\n\n").await;
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn other_versions_and_framings_of_http_will_do() {
    for head in [
        "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        "HTTP/1.1 200\r\ncontent-type:text/event-stream\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: identity\r\n\r\n",
    ] {
        let origin = Origin::answering(raw(head)).await;
        let gateway = Gateway::start(&origin).await;
        let mut sub = gateway.subscribe().await;
        origin.send("data: a\n\n").await;
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn what_is_no_event_stream_is_refused_and_asked_for_again() {
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>";
    let untyped = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ndata: x\n\n";
    let packed = event_stream("Content-Encoding: deflate\r\nContent-Length: 9\r\n") + "data: x\n\n";
    for (answer, reason, said) in [
        (page, "unexpected-media-type", "text/html"),
        (untyped, "unexpected-media-type", "text/event-stream"),
        (&packed, "unexpected-encoding", "deflate"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "request-failed", ""),
    ] {
        let origin = Origin::answering(raw(answer)).await;
        let gateway = Gateway::with(SOON, &origin).await;
        let mut sub = gateway.subscribe().await;
        let lines = failed(&gateway, 2, reason).await;
        assert!(lines[0].contains(said), "{said} in {lines:?}");
        origin.connection(1).await.closed().await;
        recovers(&origin, &mut sub).await;
    }
}

#[tokio::test]
async fn redirects_are_followed() {
    for status in [301, 302, 303, 307, 308] {
        let target = Origin::start().await;
        let location = format!("http://{}/elsewhere?x#fragment", target.address());
        let origin = Origin::answering(redirect(status, &location)).await;
        let gateway = Gateway::start(&origin).await;
        let mut sub = gateway.subscribe().await;
        let connection = target.connection(1).await;
        assert_eq!(connection.target(), "/elsewhere?x", "{status}");
        let host = target.address().to_string();
        assert_eq!(connection.request_field("Host"), Some(host.as_str()));
        connection.send("data: a\n\n").await;
        sub.expect_event("a").await;
        assert_eq!(origin.n_connections(), 1);
    }
}

/// A temporary target is asked for only after the one that is configured.
#[tokio::test]
async fn after_a_redirected_stream_the_first_url_is_asked_again() {
    let target = Origin::start().await;
    let origin = Origin::answering(redirect(307, &target.url())).await;
    let gateway = Gateway::with(SOON, &origin).await;
    let mut sub = gateway.subscribe().await;
    target.send("id: 7\ndata: a\n\n").await;
    sub.expect_event("a").await;
    target.connection(1).await.finish().await;
    let connection = target.connection(2).await;
    assert_eq!(origin.n_connections(), 2);
    assert_eq!(connection.request_field("Last-Event-ID"), Some("7"));
}

#[tokio::test]
async fn a_relative_location_is_one_of_the_same_origin() {
    for (location, target) in [
        ("/other", "/other"),
        ("other?a=b", "/other?a=b"),
        ("./x/../other", "/other"),
        ("?page=2", "/events?page=2"),
        ("//HOST/other", "/other"),
    ] {
        let origin = Origin::start().await;
        let location = location.replace("HOST", &origin.address().to_string());
        origin.answer_at("/events", redirect(302, &location));
        let gateway = Gateway::start(&origin).await;
        let mut sub = gateway.subscribe().await;
        let connection = origin.connection(2).await;
        assert_eq!(connection.target(), target, "{location}");
        connection.send("data: a\n\n").await;
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let origin = Origin::answering(redirect(302, "/events")).await;
    let lines = format!("max_redirects = 2\n{SOON}");
    let gateway = Gateway::with(&lines, &origin).await;
    let mut sub = gateway.subscribe().await;
    failed(&gateway, 2, "too-many-redirects").await;
    let n_attempts = failed(&gateway, 2, "too-many-redirects").await.len();
    assert!(origin.n_connections() >= 3 * n_attempts);
    recovers(&origin, &mut sub).await;
}

#[tokio::test]
async fn redirects_to_nowhere_are_failures() {
    for answer in [
        raw("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
        redirect(302, ""),
        redirect(302, "ftp://127.0.0.2/events"),
        redirect(302, "http://"),
        redirect(302, "http://[::1/"),
        redirect(302, "javascript:alert(1)"),
    ] {
        let origin = Origin::answering(answer).await;
        let gateway = Gateway::with(SOON, &origin).await;
        let mut sub = gateway.subscribe().await;
        failed(&gateway, 2, "unusable-redirect").await;
        recovers(&origin, &mut sub).await;
    }
}

#[tokio::test]
async fn credentials_go_to_no_other_origin() {
    let lines = "upstream_headers = { Authorization = \"Bearer s3cret\", X-Api-Key = \"s3cret\", \
                 Host = \"inside.test\" }\naccess = \"public\"\n";
    let stranger = Origin::start().await;
    let origin = Origin::start().await;
    origin.answer_at("/events", redirect(302, "/moved"));
    origin.answer_at("/moved", redirect(302, &stranger.url()));
    let gateway = Gateway::with(lines, &origin).await;
    let at_stranger = stranger.connection(1).await;
    assert!(
        !at_stranger.request().contains("s3cret"),
        "{}",
        at_stranger.request()
    );
    let host = stranger.address().to_string();
    assert_eq!(at_stranger.request_field("Host"), Some(host.as_str()));
    for n in [1, 2] {
        let connection = origin.connection(n).await;
        let authorization = connection.request_field("Authorization");
        assert_eq!(authorization, Some("Bearer s3cret"), "connection {n}");
        assert_eq!(connection.request_field("Host"), Some("inside.test"));
    }
    let log = gateway.log();
    assert!(!log.contains("s3cret"), "the log shows no credential");
}

#[tokio::test]
async fn clients_stay_whatever_the_origin_answers() {
    let origin = Origin::answering(Answer::Nothing).await;
    let lines = format!("response_timeout = \"50ms\"\nheartbeat = \"1s\"\n{SOON}");
    let gateway = Gateway::with(&lines, &origin).await;
    let mut sub = gateway.subscribe().await;
    let n_statuses = [
        201, 206, 300, 304, 305, 400, 401, 403, 404, 405, 410, 418, 429, 500, 502, 503, 504, 599,
    ];
    for status in n_statuses {
        let head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"
        );
        origin.answer_with(raw(&head));
        let status = format!("status {status}");
        let parts = ["upstream failed", "unexpected-status", status.as_str()];
        gateway.logged(2, &parts).await;
    }
    assert!(matches!(sub.next_item().await, Item::Retry(_)));
    assert_eq!(sub.next_item().await, Item::Comment(String::new()));
    recovers(&origin, &mut sub).await;
}

#[tokio::test]
async fn an_origin_that_is_away_is_asked_again_until_it_is_back() {
    let mut origin = Origin::start().await;
    let gateway = Gateway::with(SOON, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: before\n\n").await;
    sub.expect_event("before").await;
    origin.go_away();
    failed(&gateway, 3, "connect-failed").await;
    origin.come_back().await;
    origin.connection(2).await.send("data: after\n\n").await;
    sub.events_through("after").await;
}

/// Only a minute without a failure makes an origin a good one again.
#[tokio::test]
async fn an_origin_that_accepts_and_closes_is_asked_more_and_more_rarely() {
    let origin = Origin::answering(Answer::RawAndClose(event_stream("").into_bytes())).await;
    let gateway = Gateway::with("backoff = { first = \"8ms\", max = \"200ms\" }", &origin).await;
    let lines = gateway.logged(8, &["upstream failed"]).await;
    for (n, line) in lines.iter().enumerate() {
        let n = u32::try_from(n).expect("small");
        assert_eq!(
            field(line, "attempt"),
            Some((n + 1).to_string().as_str()),
            "{line}"
        );
        let whole = Duration::from_millis(8).saturating_mul(1 << n);
        let whole = whole.min(Duration::from_millis(200));
        let wait = logged_time(line, "retry_in");
        assert!(wait >= whole / 2 && wait <= whole, "{whole:?}: {line}");
    }
}

#[tokio::test]
async fn an_origin_that_does_not_answer_is_given_up() {
    let origin = Origin::answering(Answer::Nothing).await;
    let lines = format!("response_timeout = \"100ms\"\n{SOON}");
    let gateway = Gateway::with(&lines, &origin).await;
    let mut sub = gateway.subscribe().await;
    failed(&gateway, 2, "response-timed-out").await;
    origin.connection(1).await.closed().await;
    recovers(&origin, &mut sub).await;
}

#[tokio::test]
async fn an_origin_that_resets_is_asked_again() {
    let origin = Origin::answering(Answer::Reset).await;
    let gateway = Gateway::with(SOON, &origin).await;
    let mut sub = gateway.subscribe().await;
    failed(&gateway, 2, "request-failed").await;
    recovers(&origin, &mut sub).await;
}

#[tokio::test]
async fn half_a_head_is_no_answer() {
    let origin = Origin::answering(raw("HTTP/1.1 200 OK\r\nContent-Type: text/ev")).await;
    let lines = format!("response_timeout = \"100ms\"\n{SOON}");
    let gateway = Gateway::with(&lines, &origin).await;
    failed(&gateway, 2, "response-timed-out").await;
    origin.connection(1).await.closed().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1024 * 1024));
    let origin = Origin::answering(Answer::RawAndClose(head.into_bytes())).await;
    let gateway = Gateway::with(SOON, &origin).await;
    let mut sub = gateway.subscribe().await;
    failed(&gateway, 2, "request-failed").await;
    recovers(&origin, &mut sub).await;
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    for coalesce in ["", "coalesce = \"5ms\"\n"] {
        let origin = Origin::start().await;
        let lines = format!("idle_timeout = \"2s\"\n{coalesce}{SOON}");
        let gateway = Gateway::with(&lines, &origin).await;
        let mut sub = gateway.subscribe().await;
        origin.send("id: 1\ndata: a\n\n").await;
        sub.expect_event("a").await;
        failed(&gateway, 1, "stalled").await;
        let again = origin.connection(2).await;
        assert_eq!(again.request_field("Last-Event-ID"), Some("1"));
        origin.connection(1).await.closed().await;
    }
}

#[tokio::test]
async fn comments_keep_a_stream_alive() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("idle_timeout = \"1s\"", &origin).await;
    let mut sub = gateway.subscribe().await;
    let begin = Instant::now();
    // Time itself is the test here: more of it than the timeout, in steps that are much less.
    let mut steps = interval(Duration::from_millis(100));
    while begin.elapsed() < Duration::from_millis(2500) {
        steps.tick().await;
        origin.send(":\n").await;
    }
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again() {
    for answer in [Answer::Chunked, Answer::CloseDelimited] {
        let origin = Origin::answering(answer).await;
        let gateway = Gateway::with(SOON, &origin).await;
        let mut sub = gateway.subscribe().await;
        origin.send("id: 1\ndata: a\n\ndata: unfinished").await;
        origin.connection(1).await.finish().await;
        failed(&gateway, 1, "stream-ended").await;
        origin.connection(2).await.send("id: 2\ndata: b\n\n").await;
        let events = sub.events_through("b").await;
        assert_eq!(events.len(), 2, "{events:?}");
    }
}

/// What came of it would be another event than the origin's.
#[tokio::test]
async fn an_event_that_is_cut_is_not_delivered() {
    for coalesce in ["", "coalesce = \"5ms\"\n"] {
        for is_reset in [false, true] {
            let origin = Origin::start().await;
            let gateway = Gateway::with(&format!("{coalesce}{SOON}"), &origin).await;
            let mut sub = gateway.subscribe().await;
            let first = origin.connection(1).await;
            first.send("id: 1\ndata: a\n\n").await;
            sub.expect_event("a").await;
            first.send("id: 2\ndata: half an ev").await;
            if is_reset {
                first.reset();
            } else {
                first.close();
            }
            failed(&gateway, 1, "stream-broke").await;
            let again = origin.connection(2).await;
            assert_eq!(again.request_field("Last-Event-ID"), Some("1"));
            again.send("id: 2\ndata: a whole event\n\n").await;
            let event = sub.expect_event("a whole event").await;
            assert_eq!(event.id.as_deref(), Some("2"));
        }
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(SOON, &origin).await;
    let mut sub = gateway.subscribe().await;
    let first = origin.connection(1).await;
    first.send("id: 1\ndata: a\n\n").await;
    sub.expect_event("a").await;
    first.send_raw("no size\r\n").await;
    failed(&gateway, 1, "stream-broke").await;
    origin.connection(2).await.send("id: 2\ndata: b\n\n").await;
    sub.expect_event("b").await;
}

#[tokio::test]
async fn what_is_too_large_ends_the_stream_after_the_events_before_it() {
    let line = format!("data: {}", "x".repeat(4000));
    let event = "data: x\n".repeat(2000);
    let id = format!("id: {}\ndata: x\n\n", "x".repeat(4000));
    for large in [line.as_str(), &event, &id] {
        let origin = Origin::start().await;
        let lines = format!("max_line_bytes = \"2KiB\"\nmax_event_bytes = \"3KiB\"\n{SOON}");
        let mut gateway = Gateway::with(&lines, &origin).await;
        let mut sub = gateway.subscribe().await;
        origin
            .send(format!("id: 1\ndata: a\n\nid: 2\ndata: b\n\n{large}"))
            .await;
        sub.expect_event("a").await;
        sub.expect_event("b").await;
        failed(&gateway, 1, "limit-exceeded").await;
        let again = origin.connection(2).await;
        assert_eq!(again.request_field("Last-Event-ID"), Some("2"));
        again.send("id: 3\ndata: c\n\n").await;
        sub.expect_event("c").await;
        assert!(gateway.is_running());
    }
}

#[tokio::test]
async fn the_reconnection_time_is_honoured_within_bounds_and_not_forwarded() {
    for (said, least, most) in [
        ("retry: 200", 100, 200),
        ("retry: 0", 15, 30),
        ("retry: 99999999999999999999", 200, 400),
        ("retry: 10s", 15, 30),
        ("retry:", 15, 30),
    ] {
        let origin = Origin::start().await;
        let lines = "backoff = { first = \"30ms\", max = \"400ms\" }\nretry = { min = \"7s\", max = \"7s\" }";
        let gateway = Gateway::with(lines, &origin).await;
        let mut sub = gateway.subscribe().await;
        assert_eq!(sub.next_item().await, Item::Retry(7000));
        origin.send(format!("{said}\n\n{said}\ndata: a\n\n")).await;
        match sub.next_item().await {
            Item::Event(event) => assert_eq!(event.data, "a"),
            other => panic!("{other:?} after {said:?}"),
        }
        origin.connection(1).await.finish().await;
        let lines = failed(&gateway, 1, "stream-ended").await;
        let wait = logged_time(&lines[0], "retry_in");
        let bounds = Duration::from_millis(least)..=Duration::from_millis(most);
        assert!(bounds.contains(&wait), "{said:?}: {}", lines[0]);
    }
}
