//! What passes through, and how: streaming, on connections that are used again.

use super::{answered, get, one_proxy, world};
use crate::support::{Gateway, Origin};

#[tokio::test]
async fn a_request_and_its_answer_pass_through() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/a/b?c=%20d")).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /a/b?c=%20d HTTP/1.1");
    assert_eq!(asked.field("host"), Some("a.example"));
    line.socket
        .send("HTTP/1.1 418 I'm a teapot\r\nX-Kind: oolong\r\nContent-Length: 3\r\n\r\ntea")
        .await;
    let (head, body) = answered(&mut client).await;
    assert_eq!((head.status, &*body), (418, "tea"));
    assert_eq!(head.field("x-kind"), Some("oolong"));
}

#[tokio::test]
async fn the_root_is_a_part_of_everything() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/")).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET / HTTP/1.1");
    line.answer("home").await;
    assert_eq!(answered(&mut client).await.1, "home");
}

#[tokio::test]
async fn a_body_is_passed_on_as_it_comes() {
    let (backend, _gateway, mut client) = world("").await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.field("content-length"), Some("6"));
    assert_eq!(line.socket.take(3, "the first half").await, b"abc");
    client.send("def").await;
    assert_eq!(line.socket.take(3, "the second half").await, b"def");
    line.answer("").await;
    assert_eq!(answered(&mut client).await.0.status, 200);
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/")).await;
    let (mut line, _) = backend.asked().await;
    line.socket
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 200);
    for piece in ["one", "two"] {
        line.socket.send(format!("3\r\n{piece}\r\n")).await;
        assert_eq!(client.chunk().await, Ok(piece.as_bytes().to_vec()));
    }
    line.socket.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, Err(crate::support::End::Clean));
}

#[tokio::test]
async fn an_upstream_connection_is_used_again() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/1")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("one").await;
    assert_eq!(answered(&mut client).await.1, "one");
    client.send(get("/2")).await;
    assert_eq!(line.asked().await.line(), "GET /2 HTTP/1.1");
    line.answer("two").await;
    assert_eq!(answered(&mut client).await.1, "two");
}

#[tokio::test]
async fn who_leaves_cancels_the_request() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/")).await;
    let (mut line, _) = backend.asked().await;
    drop(client);
    assert_eq!(line.closed().await, b"");
}

#[tokio::test]
async fn a_channel_goes_before_a_proxy_that_says_less() {
    let origin = Origin::start().await;
    let backend = super::Backend::start().await;
    let config = one_proxy(&backend.url(), "")
        + &format!(
            "[channels.events]\npath = \"/events\"\nupstream = \"{}\"\n",
            origin.url()
        );
    let gateway = Gateway::with_config(&config).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    // A method that no channel has.
    let mut client = gateway.connect().await;
    client
        .send("DELETE /events HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "DELETE /events HTTP/1.1");
    line.answer("gone").await;
    assert_eq!(answered(&mut client).await.1, "gone");
}
