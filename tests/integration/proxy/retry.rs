//! When a request is sent once more, and to whom.

use super::{Backend, Line, answered, get, one_proxy, world};
use crate::support::{Client, Gateway, until_true};

/// A connection that has had a request before.
async fn used(backend: &Backend, client: &mut Client) -> Line {
    client.send(get("/before")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("before").await;
    assert_eq!(answered(client).await.1, "before");
    line
}

/// A backend whose connection has had a request before, and a client that sends this on it. The backend
/// has read the head.
async fn sent_again(request: &str) -> (Backend, Gateway, Client, Line) {
    let (backend, gateway, mut client) = world("").await;
    let mut line = used(&backend, &mut client).await;
    client.send(request).await;
    let asked = line.asked().await;
    assert!(request.starts_with(asked.line()), "{asked:?}");
    (backend, gateway, client, line)
}

/// Asserts that a request was given up, and that the next one that comes is another.
async fn is_not_sent_once_more(backend: &Backend, client: &mut Client) {
    assert_eq!(answered(client).await.0.status, 502);
    client.send(get("/next")).await;
    assert_eq!(backend.asked().await.1.line(), "GET /next HTTP/1.1");
}

#[tokio::test]
async fn a_get_on_a_used_connection_that_closes_is_sent_once_more() {
    let (backend, _gateway, mut client, line) = sent_again(&get("/again")).await;
    drop(line);
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /again HTTP/1.1");
    line.answer("here").await;
    assert_eq!(answered(&mut client).await.1, "here");
}

#[tokio::test]
async fn it_is_sent_once_more_and_not_twice() {
    let (backend, _gateway, mut client, line) = sent_again(&get("/again")).await;
    drop(line);
    drop(backend.asked().await);
    is_not_sent_once_more(&backend, &mut client).await;
}

#[tokio::test]
async fn what_is_not_idempotent_is_not_sent_once_more() {
    let post = "POST /order HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n";
    let (backend, _gateway, mut client, line) = sent_again(post).await;
    drop(line);
    is_not_sent_once_more(&backend, &mut client).await;
}

#[tokio::test]
async fn what_has_a_body_is_not_sent_once_more() {
    let put = "PUT /file HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
    let (backend, _gateway, mut client, mut line) = sent_again(put).await;
    line.socket.take(3, "the body").await;
    drop(line);
    is_not_sent_once_more(&backend, &mut client).await;
}

#[tokio::test]
async fn what_has_been_answered_in_part_is_not_sent_once_more() {
    let (backend, _gateway, mut client, mut line) = sent_again(&get("/again")).await;
    line.socket.send("HTTP/1.1 20").await;
    drop(line);
    is_not_sent_once_more(&backend, &mut client).await;
}

/// An order, and how it is taken.
const ORDER: &str = "POST /order HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";

async fn order_comes(backend: &Backend, client: &mut Client) -> Line {
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "POST /order HTTP/1.1");
    assert_eq!(line.socket.take(3, "the body").await, b"abc");
    line.answer("done").await;
    assert_eq!(answered(client).await.1, "done");
    line
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let (backend, gateway, mut client) = world("").await;
    let line = used(&backend, &mut client).await;
    let n_before = gateway.n_descriptors();
    drop(line);
    // It is noticed without a request.
    until_true("the closed connection to be given up", async || {
        gateway.n_descriptors() < n_before
    })
    .await;
    client.send(ORDER).await;
    order_comes(&backend, &mut client).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let (backend, _gateway, mut client) = world("keep_alive = \"200ms\"").await;
    let mut line = used(&backend, &mut client).await;
    assert_eq!(line.closed().await, b"");
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_are_allowed() {
    let (backend, _gateway, mut client) = world("max_idle_connections = 0").await;
    let mut line = used(&backend, &mut client).await;
    assert_eq!(line.closed().await, b"");
}

#[tokio::test]
async fn who_can_not_be_reached_is_followed_by_the_next() {
    let away = Backend::start().await;
    let away_url = away.url();
    drop(away);
    let backend = Backend::start().await;
    let config = one_proxy(&away_url, "");
    let both = format!("[\"{away_url}\", \"{}\"]", backend.url());
    let config = config.replace(&format!("\"{away_url}\""), &both);
    let gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    client.send(ORDER).await;
    let mut line = order_comes(&backend, &mut client).await;
    // It rests: nobody else tries it meanwhile.
    client.send(get("/next")).await;
    assert_eq!(line.asked().await.line(), "GET /next HTTP/1.1");
    line.answer("next").await;
    assert_eq!(answered(&mut client).await.1, "next");
    let n_tries = gateway.log().matches("can't be connected to").count();
    assert_eq!(n_tries, 1);
    // And is asked again when it is back.
    let back = Backend::at(&away_url).await;
    until_true("the first to be asked again", async || {
        client.send(get("/back")).await;
        tokio::select! {
            (mut line, _) = back.asked() => {
                line.answer("first").await;
            }
            asked = line.asked() => {
                assert_eq!(asked.line(), "GET /back HTTP/1.1");
                line.answer("second").await;
            }
        }
        answered(&mut client).await.1 == "first"
    })
    .await;
}
