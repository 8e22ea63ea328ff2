//! Answers whose end is told in two ways, or that nobody asked for: no client gets what was not for it.

use super::{Backend, answered, get, world};
use crate::support::{Client, Gateway};

/// What must never reach anybody.
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil";

/// Asks, and lets the backend send `answer` on a new connection, which the gateway has to close then;
/// returns what the client gets.
async fn closed_after(backend: &Backend, client: &mut Client, answer: &[u8]) -> (u16, String) {
    client.send(get("/x")).await;
    let (mut line, _) = backend.asked().await;
    line.socket.send(answer).await;
    let (head, body) = answered(client).await;
    line.closed().await;
    (head.status, body)
}

#[tokio::test]
async fn an_answer_with_two_ends_is_none() {
    let (backend, _gateway, mut client) = world("").await;
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding : chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: a\rContent-Length: 5",
        "X: a\x00b\r\nContent-Length: 5",
        "X Y: z\r\nContent-Length: 5",
        ": y\r\nContent-Length: 5",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n0\r\n\r\n{EVIL}");
        let (status, body) = closed_after(&backend, &mut client, answer.as_bytes()).await;
        assert_eq!(status, 502, "{fields:?}");
        assert!(!body.contains("evil"), "{fields:?}: {body}");
        assert!(body.contains("proxy `web`"), "{fields:?}: {body}");
    }
    for answer in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
        "evil\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03",
    ] {
        let (status, body) = closed_after(&backend, &mut client, answer.as_bytes()).await;
        assert_eq!((status, body.contains("evil")), (502, false), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_can_be_read_is_written_as_it_should_be() {
    let (backend, _gateway, mut client) = world("").await;
    for answer in [
        "HTTP/1.1 200 OK\nContent-Length: 5\nX-Own: 1\n\nhello",
        "HTTP/1.1 200\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nX-Own:1\r\n\r\nhello",
    ] {
        client.send(get("/x")).await;
        let (mut line, _) = backend.asked().await;
        line.socket.send(answer).await;
        let (head, body) = answered(&mut client).await;
        assert_eq!((head.status, &*body), (200, "hello"), "{answer:?}");
        assert_eq!(head.field("content-length"), Some("5"), "{answer:?}");
        assert_eq!(head.field("x-own"), Some("1"), "{answer:?}");
        assert!(
            !head.text.replace("\r\n", "").contains(['\r', '\n']),
            "{head:?}"
        );
    }
}

/// Asks by `request`, which the backend answers with `answer`, and something that nobody asked for in
/// the same breath. Then another client asks.
async fn surplus_is_for_nobody(request: &str, answer: &str) -> String {
    let (backend, gateway, mut client) = world("").await;
    client.send(request).await;
    let (mut line, _) = backend.asked().await;
    line.socket.send([answer, EVIL].concat()).await;
    let head = client.head().await;
    line.closed().await;
    next_is_untouched(&backend, &gateway).await;
    // Neither does the same client get it.
    client.send(get("/again")).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /again HTTP/1.1", "{answer:?}");
    line.answer("again").await;
    let (_, body) = answered(&mut client).await;
    assert_eq!(body, "again", "{answer:?}");
    head.text
}

async fn next_is_untouched(backend: &Backend, gateway: &Gateway) {
    let mut next = gateway.connect().await;
    next.send(get("/next").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
        .await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /next HTTP/1.1");
    line.socket
        .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext")
        .await;
    let (head, body) = answered(&mut next).await;
    assert_eq!((head.status, &*body), (200, "next"));
}

#[tokio::test]
async fn what_follows_an_answer_is_for_nobody() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let head = surplus_is_for_nobody(&get("/x").replace("GET", "HEAD"), answer).await;
    assert!(head.to_ascii_lowercase().contains("content-length: 5"));
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let head = surplus_is_for_nobody(&get("/x"), answer).await;
        assert!(
            !head.to_ascii_lowercase().contains("transfer-encoding"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn what_follows_a_content_is_for_nobody() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let (backend, gateway, mut client) = world("").await;
        client.send(get("/x")).await;
        let (mut line, _) = backend.asked().await;
        line.socket.send([answer, EVIL].concat()).await;
        assert_eq!(answered(&mut client).await.1, "hello");
        line.closed().await;
        next_is_untouched(&backend, &gateway).await;
    }
}

#[tokio::test]
async fn an_answer_before_a_request_is_for_nobody() {
    let (backend, gateway, mut client) = world("").await;
    client.send(get("/x")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("hello").await;
    assert_eq!(answered(&mut client).await.1, "hello");
    // The connection is idle now, and the answer that comes on it is to no request.
    line.socket.send(EVIL).await;
    next_is_untouched(&backend, &gateway).await;
    line.closed().await;
}

#[tokio::test]
async fn interim_answers_are_not_the_answer_however_many_there_are() {
    let (backend, _gateway, mut client) = world("response_timeout = \"500ms\"\n").await;
    client.send(get("/x")).await;
    let (mut line, _) = backend.asked().await;
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 5\r\nX-Evil: 1\r\n\r\n";
    line.socket.send(hint.repeat(1000)).await;
    line.socket.send("HTTP/1.1 102 Processing\r\n\r\n").await;
    line.answer("hello").await;
    let (head, body) = answered(&mut client).await;
    assert_eq!(
        (head.status, &*body, head.field("x-evil")),
        (200, "hello", None)
    );
    // Who sends nothing else is not waited for for ever.
    client.send(get("/y")).await;
    line.asked().await;
    let flooding =
        tokio::spawn(async move { while line.socket.try_send(hint.repeat(100)).await.is_ok() {} });
    let (head, _) = answered(&mut client).await;
    assert_eq!(head.status, 504);
    flooding
        .await
        .expect("the gateway has closed the connection");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_none() {
    let (backend, _gateway, mut client) = world("").await;
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    for answer in [large, many] {
        client.send(get("/x")).await;
        let (mut line, _) = backend.asked().await;
        // The gateway may have closed the connection before the last byte.
        let _sent = line.socket.try_send(&answer).await;
        let (head, _) = answered(&mut client).await;
        assert_eq!(head.status, 502);
        line.socket.rest().await;
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_answer_without_its_end() {
    for content in [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\r\n0x0\r\n\r\n",
        "5\r\nhello\r\n-1\r\n\r\n",
        "5\r\nhello\r\nFFFFFFFFFFFFFFFFF\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0;x\n\r\n",
        "5\r\nhello\r\n0\r\nX\x00: y\r\n\r\n",
    ] {
        let (backend, _gateway, mut client) = world("").await;
        client.send(get("/x")).await;
        let (mut line, _) = backend.asked().await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        line.socket.send([head, content, EVIL].concat()).await;
        let (rest, _) = client.rest().await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            !rest.contains("evil") && !rest.contains("\r\n0\r\n"),
            "{content:?}: {rest:?}"
        );
        line.socket.rest().await;
    }
}
