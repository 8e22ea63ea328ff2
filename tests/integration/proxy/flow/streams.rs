//! Event streams that pass through: each byte at once, and heartbeats between events.

use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::{PAIRS, World};
use crate::proxy::world;
use crate::support::{End, Speaks, nothing, piece, request};

/// Of heartbeats: the shortest there is.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longer than two of them.
const HALF: Duration = Duration::from_millis(2_300);

/// The head of an event stream.
fn event_stream() -> http::response::Builder {
    Response::builder().header("content-type", "text/event-stream")
}

#[tokio::test]
async fn tokens_arrive_one_by_one() {
    const TOKENS: usize = 50;
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let ask = request("POST", "/v1/chat").header("content-type", "application/json");
        let question = http_body_util::Full::new(bytes::Bytes::from_static(b"{\"stream\":true}"));
        let answer = tokio::spawn(world.caller.send(ask, question));
        let mut exchange = world.backend.exchange().await;
        assert_eq!(
            exchange.piece().await.expect("a question").expect("bytes"),
            "{\"stream\":true}"
        );
        let answering = exchange.begin(event_stream());
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let mut times = Vec::new();
        for n in 0..TOKENS {
            let token = format!("data: {{\"token\":{n}}}\n\n");
            let sent = Instant::now();
            answering.send(&token).await;
            let came = piece(answer.body_mut()).await.expect("a token");
            times.push(sent.elapsed());
            assert_eq!(came.expect("bytes"), token);
        }
        times.sort_unstable();
        // The next is sent only when the last has come, so nothing can wait for more to be sent. How
        // long one takes on a busy machine is no claim; that the median is no timer's is.
        assert!(times[TOKENS / 2] < Duration::from_millis(20), "{times:?}");
        answering.finish();
        assert!(piece(answer.body_mut()).await.is_none());
    }
}

#[tokio::test]
async fn a_silent_stream_gets_comments_between_events_only() {
    side_by_side(async |pair| {
        let mut world = World::new(pair, "heartbeat = \"1s\"").await;
        let answer = tokio::spawn(world.caller.send(request("POST", "/ask"), nothing()));
        let exchange = world.backend.exchange().await;
        let answering = exchange.begin(event_stream());
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let mut next = async || {
            let piece = piece(answer.body_mut()).await.expect("a piece");
            String::from_utf8(piece.expect("bytes").to_vec()).expect("text")
        };
        assert_eq!(next().await, ":\n", "before the first event");
        answering.send("data: a\n").await;
        let mut came = next().await;
        while came == ":\n" {
            came = next().await;
        }
        assert_eq!(came, "data: a\n");
        // Half an event, for several heartbeats; what comes next is its other half.
        let begin = Instant::now();
        let half = async {
            tokio::time::sleep(HALF).await;
            answering.send("data: b\n\n").await;
        };
        let (other, ()) = tokio::join!(next(), half);
        assert_eq!(other, "data: b\n\n");
        assert!(begin.elapsed() >= HALF);
        assert_eq!(next().await, ":\n", "after an event");
        assert_eq!(next().await, ":\n", "and again");
    })
    .await;
}

#[tokio::test]
async fn a_stream_with_heartbeats_loses_its_length_and_nothing_else() {
    let (backend, _gateway, mut client) = world("heartbeat = \"1s\"").await;
    client.send(crate::proxy::get("/stream")).await;
    let (mut line, _) = backend.asked().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
        Content-Length: 18\r\nX-Other: yes\r\n\r\n";
    line.socket.send(format!("{head}data: a\n\n")).await;
    let head = client.head().await;
    assert_eq!(head.field("content-length"), None, "{}", head.text);
    assert_eq!(head.field("x-other"), Some("yes"));
    assert_eq!(client.chunk().await.expect("an event"), b"data: a\n\n");
    assert_eq!(client.chunk().await.expect("a comment"), b":\n");
    line.socket.send("data: b\n\n").await;
    let mut chunk = client.chunk().await;
    while chunk.as_deref() == Ok(b":\n") {
        chunk = client.chunk().await;
    }
    assert_eq!(chunk.expect("an event"), b"data: b\n\n");
    assert_eq!(client.chunk().await, Err(End::Clean));
}

#[tokio::test]
async fn nothing_else_gets_heartbeats() {
    let (backend, _gateway, mut client) = world("heartbeat = \"1s\"").await;
    for fields in [
        "Content-Type: text/plain\r\n",
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
    ] {
        client.send(crate::proxy::get("/stream")).await;
        let (mut line, _) = backend.asked().await;
        line.socket
            .send(format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\nConnection: close\r\n\r\nso"
            ))
            .await;
        let head = client.head().await;
        assert_eq!(head.field("content-length"), Some("4"), "{}", head.text);
        assert_eq!(client.take(2, "half").await, b"so");
        tokio::time::sleep(INTERVAL + INTERVAL / 4).await;
        line.socket.send("me").await;
        assert_eq!(client.take(2, "the other half").await, b"me");
    }
}

#[tokio::test]
async fn a_stream_that_is_silent_for_too_long_is_cut() {
    side_by_side(async |pair| {
        let lines = "heartbeat = \"1s\"\nidle_timeout = \"2500ms\"";
        let mut world = World::new(pair, lines).await;
        let answer = tokio::spawn(world.caller.send(request("GET", "/stream"), nothing()));
        let exchange = world.backend.exchange().await;
        let mut answering = exchange.begin(event_stream());
        answering.send("data: a\n\n").await;
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let mut n_comments = 0;
        let failure = loop {
            match piece(answer.body_mut()).await {
                Some(Ok(bytes)) if bytes == ":\n" => n_comments += 1,
                Some(Ok(bytes)) => assert_eq!(bytes, "data: a\n\n"),
                Some(Err(error)) => break error,
                None => panic!("a clean end"),
            }
        };
        assert!(n_comments >= 1, "{n_comments} comments before {failure}");
        answering.gone().await;
    })
    .await;
}

/// What takes a while is done with all pairs at once.
async fn side_by_side(claim: impl AsyncFn((Speaks, Speaks))) {
    let [one, two, three, four] = PAIRS.map(|pair| claim(pair));
    tokio::join!(one, two, three, four);
}
