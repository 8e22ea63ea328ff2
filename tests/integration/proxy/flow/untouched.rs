//! What HTTP has besides a content from begin to end passes through as it is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::Full;

use super::{PAIRS, World};
use crate::proxy::{get, world};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, RST_STREAM, encode, greeting,
};
use crate::support::{Checker, Pattern, nothing, piece, pieces, request};

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("12ab"));
    trailers
}

#[tokio::test]
async fn trailers_go_both_ways() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let content = Pattern::new(100_000).with_trailers(trailers());
        let head = request("POST", "/file")
            .header("te", "trailers")
            .header("trailer", "x-checksum");
        let answer = tokio::spawn(world.caller.send(head, content));
        let mut exchange = world.backend.exchange().await;
        assert_eq!(exchange.field("te"), Some("trailers"));
        let read = Checker::default().read(&mut exchange.content).await;
        assert_eq!(read.expect("all of it"), Some(trailers()), "of the request");
        let head = Response::builder().header("trailer", "x-checksum");
        exchange.answer(head, Pattern::new(100_000).with_trailers(trailers()));
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let read = Checker::default().read(answer.body_mut()).await;
        assert_eq!(read.expect("all of it"), Some(trailers()), "of the answer");
    }
}

#[tokio::test]
async fn the_answer_to_head_has_the_fields_of_the_content() {
    for pair in PAIRS {
        let mut world = World::new(pair, "heartbeat = \"1s\"").await;
        let answer = tokio::spawn(world.caller.send(request("HEAD", "/file"), nothing()));
        let exchange = world.backend.exchange().await;
        assert_eq!(exchange.request.method, "HEAD");
        let head = Response::builder()
            .header("content-type", "text/event-stream")
            .header("content-length", "1234");
        exchange.answer(head, nothing());
        let mut answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(
            answer.headers()["content-length"],
            "1234",
            "{pair:?}",
            pair = answer.version()
        );
        assert!(piece(answer.body_mut()).await.is_none());
    }
}

#[tokio::test]
async fn ranges_conditions_and_codings_are_between_client_and_origin() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let head = request("GET", "/file")
            .header("range", "bytes=0-1,4-5")
            .header("if-range", "\"v1\"")
            .header("accept-encoding", "br, gzip");
        let answer = tokio::spawn(world.caller.send(head, nothing()));
        let exchange = world.backend.exchange().await;
        assert_eq!(exchange.field("range"), Some("bytes=0-1,4-5"));
        assert_eq!(exchange.field("if-range"), Some("\"v1\""));
        assert_eq!(exchange.field("accept-encoding"), Some("br, gzip"));
        let parts = "--x\r\nContent-Range: bytes 0-1/9\r\n\r\nab\r\n--x--\r\n";
        let head = Response::builder()
            .status(206)
            .header("content-type", "multipart/byteranges; boundary=x")
            .header("content-encoding", "gzip")
            .header("etag", "\"v1\"");
        exchange.answer(head, Full::new(Bytes::from(parts)));
        let mut answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 206);
        let length = parts.len().to_string();
        assert_eq!(answer.headers()["content-length"], length.as_str());
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        assert_eq!(answer.headers()["etag"], "\"v1\"");
        let content = piece(answer.body_mut()).await.expect("a content");
        assert_eq!(content.expect("bytes"), parts);

        let head = request("GET", "/file").header("if-none-match", "\"v1\"");
        let answer = tokio::spawn(world.caller.send(head, nothing()));
        let exchange = world.backend.exchange().await;
        assert_eq!(exchange.field("if-none-match"), Some("\"v1\""));
        let head = Response::builder().status(304).header("etag", "\"v1\"");
        exchange.answer(head, nothing());
        let mut answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 304);
        assert_eq!(answer.headers()["etag"], "\"v1\"");
        assert!(piece(answer.body_mut()).await.is_none());
    }
}

#[tokio::test]
async fn both_sides_may_speak_at_once() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let (client, content) = pieces();
        let answer = tokio::spawn(world.caller.send(request("POST", "/talk"), content));
        client.send("one").await;
        let mut exchange = world.backend.exchange().await;
        assert_eq!(
            exchange.piece().await.expect("a piece").expect("bytes"),
            "one"
        );
        let (answering, mut content) = exchange.begin_and_read(Response::builder());
        answering.send("two").await;
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let two = piece(answer.body_mut()).await.expect("a piece");
        assert_eq!(two.expect("bytes"), "two");
        client.send("three").await;
        let three = piece(&mut content).await.expect("a piece");
        assert_eq!(three.expect("bytes"), "three");
        answering.send("four").await;
        let four = piece(answer.body_mut()).await.expect("a piece");
        assert_eq!(four.expect("bytes"), "four");
        drop(client);
        assert!(
            piece(&mut content).await.is_none(),
            "the end of the request"
        );
        answering.finish();
        assert!(
            piece(answer.body_mut()).await.is_none(),
            "the end of the answer"
        );
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_content_has() {
    let (backend, _gateway, mut client) = world("").await;
    let head = "POST /file HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\nsome";
    client.send(head).await;
    let (mut line, _) = backend.asked().await;
    assert_eq!(line.socket.take(4, "the begin").await, b"some");
    line.answer("enough").await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(client.body(&head).await, b"enough");
    // What is left of the content is nobody's: both connections end.
    line.closed().await;
    client.rest().await;
}

/// Some clients take it for a failure if they are told to stop sending what nobody wants.
#[tokio::test]
async fn who_has_its_answer_by_http2_may_send_its_content_to_the_end() {
    let (backend, gateway, _client) = world("").await;
    let mut client = gateway.connect().await;
    // POST, http, and two literals (RFC 7541, appendix A).
    let head = b"\x83\x86\x04\x05/file\x01\x09a.example";
    let request = encode((HEADERS, END_HEADERS, 1), head);
    client.send([greeting(), request].concat()).await;
    let (mut line, _) = backend.asked().await;
    line.answer("enough").await;
    let mut kinds = Vec::new();
    let mut is_answered = false;
    loop {
        let frame = Frame::next(&mut client).await;
        kinds.push(frame.kind);
        if frame.ends_stream() && !is_answered {
            is_answered = true;
            client.send(encode((DATA, END_STREAM, 1), b"a=1")).await;
            client.send(encode((PING, 0, 0), &[0; 8])).await;
        }
        if frame.kind == PING && is_answered {
            break;
        }
    }
    assert!(!kinds.contains(&RST_STREAM), "{kinds:?}");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_ends_well() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/old")).await;
    let (mut line, _) = backend.asked().await;
    line.socket
        .send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
        .await;
    let head = client.head().await;
    drop(line);
    assert_eq!(client.body(&head).await, b"all of it", "{}", head.text);
    // The client's connection goes on.
    client.send(get("/new")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("new").await;
    assert_eq!(client.head().await.status, 200);
}

#[tokio::test]
async fn a_request_that_has_no_content_has_none_upstream() {
    let (backend, _gateway, mut client) = world("").await;
    let asks = [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "Content-Length: 0\r\n", Some("0")),
    ];
    client.send(get("/first")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("").await;
    client.head().await;
    for (method, fields, expected) in asks {
        let request = format!("{method} /file HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
        client.send(request).await;
        let asked = line.asked().await;
        assert_eq!(asked.field("content-length"), expected, "{}", asked.0);
        assert_eq!(asked.field("transfer-encoding"), None, "{}", asked.0);
        line.answer("").await;
        assert_eq!(client.head().await.status, 200);
    }
}
