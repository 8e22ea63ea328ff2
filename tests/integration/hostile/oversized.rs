//! Everything that a peer can make large.

use super::assert_sound;
use crate::support::{Connector, Gateway, Http2, Origin, Windows};

#[tokio::test]
async fn whatever_is_too_large_in_a_request_is_answered_so_and_touches_nobody() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::start(&origin).await;
    let mut standing = gateway.subscribe().await;
    let big = "x".repeat(100_000);
    let many: String = (0..1_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let parameters: String = (0..10_000).map(|n| format!("&p{n}={n}")).collect();
    let get = "GET /events HTTP/1.1\r\nHost: a\r\n";
    for (what, request, expected) in [
        (
            "a path",
            format!("GET /{big} HTTP/1.1\r\nHost: a\r\n\r\n"),
            &[414, 431][..],
        ),
        (
            "a query",
            format!("GET /events?{big} HTTP/1.1\r\nHost: a\r\n\r\n"),
            &[414, 431],
        ),
        (
            "parameters",
            format!("GET /events?a=1{parameters} HTTP/1.1\r\nHost: a\r\n\r\n"),
            &[414, 431],
        ),
        ("a field", format!("{get}X-Big: {big}\r\n\r\n"), &[431]),
        (
            "a field name",
            format!("{get}{big}: 1\r\n\r\n"),
            &[400, 431],
        ),
        ("fields", format!("{get}{many}\r\n"), &[431]),
        (
            "an id",
            format!("{get}Last-Event-ID: {big}\r\n\r\n"),
            &[431],
        ),
        (
            "a host",
            format!("GET /events HTTP/1.1\r\nHost: {big}\r\n\r\n"),
            &[400, 431],
        ),
        (
            "a method",
            format!("{big} /events HTTP/1.1\r\nHost: a\r\n\r\n"),
            &[400, 431],
        ),
        ("a line without an end", big.clone(), &[400, 431]),
        (
            "a body",
            format!("{get}Content-Length: 100000\r\n\r\n{big}"),
            &[400, 413],
        ),
        (
            "an announced body",
            format!("{get}Content-Length: 18446744073709551615\r\n\r\n"),
            &[400, 413, 431],
        ),
        (
            "a chunk",
            format!("{get}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            &[400, 413],
        ),
    ] {
        let mut client = Connector::default().connect(&gateway).await;
        // It may have been answered and closed before all was sent.
        client.try_send(&request).await.ok();
        let (answer, _) = client.rest().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status: Option<u16> = status.and_then(|status| status.parse().ok());
        assert!(
            status.is_some_and(|status| expected.contains(&status)),
            "{what}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
    }
    origin.send("data: a\n\n").await;
    standing.expect_event("a").await;
    assert_eq!(origin.n_connections(), 1);
    assert_sound(&mut gateway);
}

/// A client may open windows as large as it likes: what waits for it is bounded all the same.
#[tokio::test]
async fn windows_of_any_size_get_everything_in_order() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::start(&origin).await;
    let mut subs = Vec::new();
    let mut connections = Vec::new();
    for stream in [1, 100, 65_535, (1 << 31) - 1] {
        let windows = Windows {
            stream,
            connection: (1 << 31) - 1,
        };
        let connection = Http2::with_windows(&gateway, windows).await;
        subs.push(connection.subscribe().await);
        connections.push(connection);
    }
    for n in 0..5 {
        let data = format!("{n} {}", "x".repeat(n * 400));
        origin.send(format!("data: {data}\n\n")).await;
        for sub in &mut subs {
            sub.expect_event(&data).await;
        }
    }
    assert_sound(&mut gateway);
}

/// The largest of everything that is allowed, all at once.
#[tokio::test]
async fn what_is_just_within_the_limits_arrives() {
    let origin = Origin::start().await;
    let keys = "max_line_bytes = \"64KiB\"\nmax_event_bytes = \"256KiB\"";
    let gateway = Gateway::with(keys, &origin).await;
    let mut sub = gateway.subscribe().await;
    let id = "i".repeat(4_096);
    let line = "x".repeat(60_000);
    let lines: String = (0..4).map(|_| format!("data: {line}\n")).collect();
    let event_type = "t".repeat(8_000);
    origin
        .send(format!(
            "id: {id}\nevent: {event_type}\n{lines}\ndata: b\n\n"
        ))
        .await;
    let event = sub.next_event().await;
    assert_eq!(event.event_type, event_type);
    assert_eq!(event.id.as_deref(), Some(&*id));
    assert_eq!(event.data, [&*line; 4].join("\n"));
    sub.expect_event("b").await;
    // The id fits into a request, too.
    gateway.resume_after(&id).await.expect_event("b").await;
}
