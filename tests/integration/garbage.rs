//! An upstream that answers with garbage: each kind costs one bounded attempt after another, one log
//! line with advice, a counter; and clients notice nothing until it is well again.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::{Instant, interval};

use crate::support::{
    ANYWHERE, Admin, Answer, Event, Gateway, Origin, OriginConnection, event_stream, field,
    logged_time, one_channel,
};

/// Timeouts and waits that make a test of several attempts short, and can be told from no wait at all.
const LINES: &str = "backoff = { first = \"16ms\", max = \"128ms\" }\nresponse_timeout = \"250ms\"\n\
                     idle_timeout = \"250ms\"\nmax_line_bytes = \"64KiB\"\nmax_event_bytes = \"64KiB\"\n\
                     max_redirects = 2\n";

/// How many attempts are watched.
const N_ATTEMPTS: usize = 4;

fn raw(text: &str) -> Answer {
    Answer::RawAndClose(text.as_bytes().to_vec())
}

fn ok(fields: &str, body: &str) -> Answer {
    raw(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"))
}

/// Watches attempts that fail for this reason, with at most `per_attempt` connections each; then the
/// origin is well, and every client gets what it sends, and nothing but gaps before.
async fn costs_bounded_attempts(
    (gateway, origin): (Gateway, &Origin),
    reason: &str,
    per_attempt: usize,
) {
    let what = format!("garbage that is {reason}");
    let admin = Admin::of(&gateway).await;
    let mut subs = Vec::new();
    for _ in 0..3 {
        subs.push(gateway.subscribe().await);
    }
    let reason_field = format!("reason=\"{reason}\"");
    let lines = gateway
        .logged(N_ATTEMPTS, &["upstream failed", &reason_field])
        .await;
    let n_connections = origin.n_connections();
    let n_attempts = gateway.log().matches("upstream failed").count() + 1;
    assert!(
        n_connections <= n_attempts * per_attempt,
        "{what}: {n_connections} connections in {n_attempts} attempts"
    );
    for (n, line) in (1..).zip(&lines) {
        // Each is told once, and each wait is twice the one before, whatever came.
        assert_eq!(
            field(line, "attempt"),
            Some(n.to_string().as_str()),
            "{what}: {line}"
        );
        let whole = Duration::from_millis(16 << (n - 1));
        let wait = logged_time(line, "retry_in");
        assert!(
            wait >= whole / 2 - Duration::from_millis(1) && wait <= whole,
            "{what}: {line}"
        );
        assert_eq!(line.contains("advice="), n == 1, "advice, once: {line}");
    }
    let counter =
        format!("ssecast_upstream_failures_total{{channel=\"events\",reason=\"{reason}\"}}");
    assert!(admin.metrics().await.value(&counter) >= 4.0, "{what}");
    origin.answer_with(Answer::Chunked);
    origin.stream().await.send("id: 1\ndata: well\n\n").await;
    for sub in &mut subs {
        let events = sub.events_through("well").await;
        let others = events
            .iter()
            .filter(|event| event.event_type != "ssecast.gap");
        let others: Vec<&Event> = others.collect();
        assert_eq!(others.len(), 1, "{what}: {others:?}");
    }
}

async fn gateway(url: &str) -> Gateway {
    Gateway::with_config(&one_channel(url, &format!("{LINES}{ANYWHERE}"))).await
}

#[tokio::test]
async fn what_is_no_event_stream_is_a_failure() {
    let html = "Content-Type: text/html\r\nContent-Length: 15\r\n";
    let json = "Content-Type: application/json\r\nContent-Length: 2\r\n";
    let length = "Content-Type: text/event-stream\r\nContent-Length: ";
    let chunked = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
    let packed = "Content-Type: text/event-stream\r\nContent-Encoding: lzma\r\n";
    for (answer, reason) in [
        (ok(html, "<!doctype html>"), "unexpected-media-type"),
        (ok(json, "{}"), "unexpected-media-type"),
        (ok("", "data: x\n\n"), "unexpected-media-type"),
        (ok(packed, "data: x\n\n"), "unexpected-encoding"),
        (ok(&format!("{length}0\r\n"), ""), "stream-ended"),
        (ok(&format!("{length}9\r\n"), "data: x"), "stream-broke"),
        (
            ok(&format!("{length}1\r\nContent-Length: 2\r\n"), "x"),
            "request-failed",
        ),
        (ok(chunked, "no size\r\n"), "stream-broke"),
        (ok(chunked, "fffffffffffffffff\r\n"), "stream-broke"),
        (ok(chunked, "5\r\ndata: too long\r\n"), "stream-broke"),
        (ok(chunked, "0\r\n\r\n"), "stream-ended"),
        (raw(&event_stream("")), "stream-ended"),
        (raw(""), "request-failed"),
        (raw("data: HTTP/0.9\n\n"), "request-failed"),
        (raw("<!doctype html><p>HTTP/0.9"), "request-failed"),
        (raw("\u{15}\u{3}\u{3}\0\u{2}\u{2}F"), "request-failed"),
        (raw("HTTP/1.1 200 OK\r\nX"), "request-failed"),
        (raw("HTTP/3 200 OK\r\n\r\n"), "request-failed"),
        (
            raw("HTTP/1.1 666 Beast\r\nContent-Length: 0\r\n\r\n"),
            "unexpected-status",
        ),
        (
            raw("HTTP/1.1 206 Some\r\nContent-Length: 0\r\n\r\n"),
            "unexpected-status",
        ),
        (
            raw(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20))),
            "request-failed",
        ),
        (Answer::Reset, "request-failed"),
    ] {
        let origin = Origin::answering(answer).await;
        let gateway = gateway(&origin.url()).await;
        costs_bounded_attempts((gateway, &origin), reason, 1).await;
    }
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_a_failure() {
    let redirect = |location: &str| {
        raw(&format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    for (answer, reason, per_attempt) in [
        (redirect("/events"), "too-many-redirects", 3),
        (redirect("file:///etc/passwd"), "unusable-redirect", 1),
        (redirect("ftp://127.0.0.2/events"), "unusable-redirect", 1),
        (
            redirect("data:text/event-stream,data:x"),
            "unusable-redirect",
            1,
        ),
        (redirect("http://"), "unusable-redirect", 1),
        (raw("HTTP/1.1 302 Found\r\n\r\n"), "unusable-redirect", 1),
    ] {
        let origin = Origin::answering(answer).await;
        let gateway = gateway(&origin.url()).await;
        costs_bounded_attempts((gateway, &origin), reason, per_attempt).await;
    }
}

/// A plain origin where TLS is expected.
#[tokio::test]
async fn what_speaks_no_tls_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What an HTTP server says to a handshake; the gateway may have gone.
            let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            if let Err(error) = stream.write_all(answer).await {
                eprintln!("the gateway has gone: {error}");
            }
        }
    });
    let gateway = gateway(&format!("https://{address}/events")).await;
    let failed = ["upstream failed", "reason=\"connect-failed\""];
    let lines = gateway.logged(N_ATTEMPTS, &failed).await;
    for (n, line) in (1..).zip(&lines) {
        assert_eq!(
            field(line, "attempt"),
            Some(n.to_string().as_str()),
            "{line}"
        );
    }
    assert!(
        lines[0].contains("write http:// instead of https://"),
        "{}",
        lines[0]
    );
    answering.abort();
}

/// Sends pieces at short intervals until the gateway has gone.
async fn drip(connection: &OriginConnection, piece: &[u8]) {
    let mut steps = interval(Duration::from_millis(10));
    while connection.is_there() {
        steps.tick().await;
        connection.try_send_raw(piece).await;
    }
}

/// Bytes that never make a whole are bounded by time: of the head, and where the body's framing drips,
/// of silence. Each drip is a whole attempt.
#[tokio::test]
async fn a_drip_that_never_makes_a_whole_is_a_failure() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let framing = event_stream("Transfer-Encoding: chunked\r\n");
    for (answer, piece, reason) in [
        (Answer::Nothing, "H", "response-timed-out"),
        (
            raw_open("HTTP/1.1 200 OK\r\nX: "),
            "x",
            "response-timed-out",
        ),
        (
            raw_open("HTTP/1.1 200 OK\r\n"),
            "X: x\r\n",
            "response-timed-out",
        ),
        (Answer::Nothing, interim, "response-timed-out"),
        (raw_open(&framing), "0", "stalled"),
        (raw_open(&format!("{framing}1;")), "x", "stalled"),
    ] {
        let origin = Origin::answering(answer).await;
        let gateway = gateway(&origin.url()).await;
        let mut sub = gateway.subscribe().await;
        let begin = Instant::now();
        for n in 1..=2 {
            let connection = origin.connection(n).await;
            drip(&connection, piece.as_bytes()).await;
        }
        let what = format!("reason=\"{reason}\"");
        gateway.logged(1, &["upstream failed", &what]).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{piece:?}");
        assert!(origin.n_connections() <= 3);
        origin.answer_with(Answer::Chunked);
        origin.stream().await.send("id: 1\ndata: well\n\n").await;
        sub.events_through("well").await;
    }
}

fn raw_open(text: &str) -> Answer {
    Answer::Raw(text.as_bytes().to_vec())
}

/// Slow is not dead: what brings bytes of the stream is alive, if it takes for ever to make an event.
#[tokio::test]
async fn a_slow_drip_of_an_event_is_alive() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin.url()).await;
    let mut sub = gateway.subscribe().await;
    let text = "id: 1\ndata: slow and steady wins the race, and nobody is cut off for it\n\n";
    let begin = Instant::now();
    let mut steps = interval(Duration::from_millis(25));
    for byte in text.as_bytes() {
        steps.tick().await;
        origin.send([*byte]).await;
    }
    assert!(
        begin.elapsed() > Duration::from_millis(500),
        "longer than idle_timeout"
    );
    sub.events_through("slow and steady wins the race, and nobody is cut off for it")
        .await;
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn lines_and_events_without_end_are_a_failure() {
    let line = format!("{}data: {}", event_stream(""), "x".repeat(70_000));
    let event = format!("{}{}", event_stream(""), "data: xxxxxxxx\n".repeat(10_000));
    for body in [line, event] {
        let origin = Origin::answering(raw_open(&body)).await;
        let gateway = gateway(&origin.url()).await;
        costs_bounded_attempts((gateway, &origin), "limit-exceeded", 1).await;
    }
}

/// An event stream is UTF-8, whatever it says: what is not is replaced, as browsers do, and said.
#[tokio::test]
async fn a_wrong_charset_is_warned_of() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=ISO-8859-1\r\n\r\n";
    let origin = Origin::answering(raw_open(head)).await;
    let gateway = gateway(&origin.url()).await;
    let mut subs = Vec::new();
    for _ in 0..3 {
        subs.push(gateway.subscribe().await);
    }
    origin.send(b"data: caf\xe9\n\ndata: tea\n\n").await;
    for sub in &mut subs {
        sub.expect_event("caf\u{fffd}").await;
        sub.expect_event("tea").await;
    }
    let line = gateway.logged(1, &["WARN", "UTF-8"]).await;
    assert!(line[0].contains("iso-8859-1"), "{line:?}");
}
