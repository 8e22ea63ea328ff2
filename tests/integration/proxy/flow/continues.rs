//! `Expect: 100-continue`: the client sends its content when the origin wants it.
//!
//! Spec: RFC 9110, 10.1.1.

use crate::proxy::world;

const HEAD: &str = "POST /file HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\
    Expect: 100-continue\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn the_client_is_asked_for_its_content_when_the_origin_asks() {
    let (backend, gateway, mut client) = world("").await;
    client.send(HEAD).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.field("expect"), Some("100-continue"));
    line.socket.send(CONTINUE).await;
    assert_eq!(client.take(CONTINUE.len(), "to be asked").await, CONTINUE);
    client.send("some").await;
    assert_eq!(line.socket.take(4, "the content").await, b"some");
    line.socket.send(CREATED).await;
    assert_eq!(client.head().await.status, 201);
    drop(gateway);
}

#[tokio::test]
async fn a_refusal_goes_through_without_the_content() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(HEAD).await;
    let (mut line, _) = backend.asked().await;
    let refusal = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno";
    line.socket.send(refusal).await;
    let head = client.head().await;
    assert_eq!(head.status, 417, "{}", head.text);
    assert_eq!(client.body(&head).await, b"no");
    // The content was never asked for, so nothing of it comes, and neither connection can go on.
    assert_eq!(line.closed().await, b"");
    let (rest, _) = client.rest().await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn an_origin_that_knows_no_expectations_gets_the_content_after_a_while() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(HEAD).await;
    let (mut line, _) = backend.asked().await;
    // It says nothing; about a second later the client is asked by us.
    assert_eq!(client.take(CONTINUE.len(), "to be asked").await, CONTINUE);
    client.send("some").await;
    assert_eq!(line.socket.take(4, "the content").await, b"some");
    line.socket.send(CREATED).await;
    assert_eq!(client.head().await.status, 201);
}

#[tokio::test]
async fn a_client_that_does_not_wait_is_not_told_twice() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(format!("{HEAD}some")).await;
    let (mut line, _) = backend.asked().await;
    line.socket.send(CONTINUE).await;
    assert_eq!(line.socket.take(4, "the content").await, b"some");
    line.socket.send(CREATED).await;
    let mut head = client.head().await;
    if head.status == 100 {
        head = client.head().await;
    }
    assert_eq!(head.status, 201, "{}", head.text);
}

#[tokio::test]
async fn a_limit_is_told_before_the_content_is_asked_for() {
    let (_backend, _gateway, mut client) = world("max_request_bytes = \"3B\"").await;
    client.send(HEAD).await;
    assert_eq!(client.head().await.status, 413);
}

#[tokio::test]
async fn other_interim_answers_are_left_out() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(crate::proxy::get("/page")).await;
    let (mut line, _) = backend.asked().await;
    line.socket
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        .await;
    line.answer("page").await;
    let head = client.head().await;
    assert_eq!(head.status, 200, "{}", head.text);
    assert_eq!(client.body(&head).await, b"page");
}
