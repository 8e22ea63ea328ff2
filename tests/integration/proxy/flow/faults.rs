//! Origins that break HTTP in the middle of an answer: the client is never told that it has all.

use crate::proxy::{Backend, get, world};
use crate::support::{Client, End, Http2};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What an origin sends after the head of a chunked answer, and what a client gets of it.
const BROKEN: &[(&str, &str, &str)] = &[
    ("no chunk size", "4\r\nsome\r\nnonsense\r\n", "some"),
    ("a negative size", "4\r\nsome\r\n-1\r\n", "some"),
    (
        "a size of too many digits",
        "4\r\nsome\r\n11111111111111111\r\nx",
        "some",
    ),
    ("no line end behind a chunk", "4\r\nsomeXX0\r\n\r\n", "some"),
    ("an end inside a chunk", "8\r\nsome", "some"),
    ("an end between chunks", "4\r\nsome\r\n", "some"),
    ("an end before the last line", "4\r\nsome\r\n0\r\n", "some"),
    (
        "another answer",
        "4\r\nsome\r\nHTTP/1.1 200 OK\r\n\r\n",
        "some",
    ),
];

/// Lets an origin answer with this and close the connection.
async fn break_off(backend: &Backend, answer: &str) {
    let (mut line, _) = backend.asked().await;
    line.socket.send(answer).await;
    line.socket.finish_sending().await;
    line.closed().await;
}

#[tokio::test]
async fn broken_chunks_are_no_end_over_http1() {
    let (backend, gateway, _) = world("").await;
    for (what, chunks, expected) in BROKEN {
        let mut client = gateway.connect().await;
        client.send(get("/broken")).await;
        break_off(&backend, &format!("{CHUNKED}{chunks}")).await;
        client.head().await;
        let (came, end) = chunks_to_end(&mut client).await;
        assert_eq!(came, *expected, "{what}");
        assert_ne!(end, End::Clean, "{what}");
    }
}

#[tokio::test]
async fn broken_chunks_are_no_end_over_http2() {
    let (backend, gateway, _) = world("").await;
    let http2 = Http2::connect(&gateway).await;
    for (what, chunks, expected) in BROKEN {
        let answer = http2.try_request("GET", "/broken", &[]);
        let broken = format!("{CHUNKED}{chunks}");
        let (answer, ()) = tokio::join!(answer, break_off(&backend, &broken));
        let (head, mut client) = answer.expect("an answer");
        assert_eq!(head.status, 200);
        let (came, end) = client.rest().await;
        assert_eq!(String::from_utf8_lossy(&came), *expected, "{what}");
        assert_eq!(end, End::Reset, "{what}");
    }
}

#[tokio::test]
async fn a_length_that_is_not_reached_is_no_end() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(get("/broken")).await;
    break_off(
        &backend,
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome",
    )
    .await;
    let head = client.head().await;
    assert_eq!(head.field("content-length"), Some("10"));
    let (came, _) = client.rest().await;
    assert_eq!(came, b"some");
}

#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway() {
    let (backend, gateway, _) = world("").await;
    for garbage in [
        "nonsense\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken field\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "",
    ] {
        let mut client = gateway.connect().await;
        client.send(get("/broken")).await;
        break_off(&backend, garbage).await;
        let head = client.head().await;
        assert_eq!(head.status, 502, "{garbage:?}: {}", head.text);
    }
}

#[tokio::test]
async fn an_origin_that_stalls_in_an_answer_is_cut() {
    let (backend, _gateway, mut client) = world("idle_timeout = \"200ms\"").await;
    client.send(get("/stalls")).await;
    let (mut line, _) = backend.asked().await;
    line.socket.send(format!("{CHUNKED}4\r\nsome\r\n")).await;
    client.head().await;
    let (came, end) = chunks_to_end(&mut client).await;
    assert_eq!(came, "some");
    assert_ne!(end, End::Clean);
    line.closed().await;
}

#[tokio::test]
async fn more_than_an_answer_is_never_the_next_one() {
    let (backend, gateway, mut client) = world("").await;
    client.send(get("/first")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("first").await;
    line.socket
        .send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"first");
    let mut other = gateway.connect().await;
    other.send(get("/second")).await;
    let (mut second, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /second HTTP/1.1");
    second.answer("second").await;
    let head = other.head().await;
    assert_eq!(other.body(&head).await, b"second");
}

/// The chunks up to the end, and what that was.
async fn chunks_to_end(client: &mut Client) -> (String, End) {
    let mut came = Vec::new();
    loop {
        match client.chunk().await {
            Ok(chunk) => came.extend(chunk),
            Err(end) => return (String::from_utf8_lossy(&came).into_owned(), end),
        }
    }
}
