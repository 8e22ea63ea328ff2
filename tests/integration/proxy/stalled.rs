//! Clients that do not take what they asked for.

use super::{Backend, get, one_proxy};
use crate::support::{Connector, Gateway, Http2, Windows};

/// Much more than the kernel hides.
const CONTENT_BYTES: usize = 64 * 1024 * 1024;

async fn gateway() -> (Backend, Gateway) {
    let backend = Backend::start().await;
    let config = one_proxy(&backend.url(), "idle_timeout = \"300ms\"");
    (backend, Gateway::with_config(&config).await)
}

/// Sends an answer for as long as it is taken; returns how much it was.
async fn send_much(backend: &Backend) -> usize {
    let (mut line, _) = backend.asked().await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {CONTENT_BYTES}\r\n\r\n");
    line.socket.send(head).await;
    let piece = vec![b'x'; 64 * 1024];
    let mut n_sent = 0;
    while n_sent < CONTENT_BYTES && line.socket.try_send(&piece).await.is_ok() {
        n_sent += piece.len();
    }
    n_sent
}

#[tokio::test]
async fn who_takes_nothing_is_cut_and_the_backend_is_told() {
    let (backend, gateway) = gateway().await;
    let mut client = Connector::default()
        .receive_buffer(4096)
        .connect(&gateway)
        .await;
    client.send(get("/large")).await;
    let n_sent = send_much(&backend).await;
    assert!(n_sent < CONTENT_BYTES, "the backend could send all of it");
    gateway
        .logged(1, &["an answer was cut", "answer-not-taken"])
        .await;
    client.head().await;
    assert!(client.rest().await.0.len() < CONTENT_BYTES);
}

#[tokio::test]
async fn a_stream_of_http2_that_is_not_taken_is_reset() {
    let (backend, gateway) = gateway().await;
    let windows = Windows {
        stream: 64 * 1024,
        connection: 1024 * 1024,
    };
    let connection = Http2::with_windows(&gateway, windows).await;
    let asking = connection.try_request("GET", "/large", &[]);
    let (answer, n_sent) = tokio::join!(asking, send_much(&backend));
    assert!(n_sent < CONTENT_BYTES, "the backend could send all of it");
    gateway
        .logged(1, &["an answer was cut", "answer-not-taken"])
        .await;
    let (_, mut client) = answer.unwrap_or_else(|error| panic!("{error}"));
    assert!(client.rest().await.0.len() < CONTENT_BYTES);
    // Others are not touched.
    let asking = connection.ask("GET", "/small", &[]);
    let answering = async { backend.asked().await.0.answer("small").await };
    assert_eq!(tokio::join!(asking, answering).0.1, "small");
}

#[tokio::test]
async fn a_backend_that_is_slow_does_not_cut_a_client_that_waits() {
    let backend = Backend::start().await;
    let config = one_proxy(&backend.url(), "idle_timeout = \"1s\"");
    let gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    client.send(get("/")).await;
    let (mut line, _) = backend.asked().await;
    line.socket
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(400));
    for _ in 0..4 {
        ticks.tick().await;
        line.socket.send("1\r\na\r\n").await;
        assert_eq!(client.chunk().await, Ok(b"a".to_vec()));
    }
}

#[tokio::test]
async fn a_stream_of_http2_that_is_not_taken_any_more_is_reset_too() {
    let (backend, gateway) = gateway().await;
    let connection = Http2::connect(&gateway).await;
    let asking = connection.try_request("GET", "/large", &[]);
    let answering = async {
        let (mut line, _) = backend.asked().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {CONTENT_BYTES}\r\n\r\n");
        line.socket.send(head).await;
        line
    };
    let (answer, mut line) = tokio::join!(asking, answering);
    let (_, unread) = answer.unwrap_or_else(|error| panic!("{error}"));
    // More than the client's window, in one go: the stream is not looked at again for as long as that
    // is shut.
    line.socket.send(vec![b'x'; 1_000_000]).await;
    gateway
        .logged(1, &["an answer was cut", "answer-not-taken"])
        .await;
    line.closed().await;
    drop(unread);
}
