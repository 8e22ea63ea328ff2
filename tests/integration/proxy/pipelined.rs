//! Requests that are sent before the answer to the one before has come.

use super::{Backend, get, one_proxy};
use crate::support::{Connector, Gateway};

/// More than the sockets on the way hold.
const N_BYTES: usize = 24 << 20;

#[tokio::test]
async fn a_subscription_behind_a_large_answer_takes_nothing_of_it_away() {
    let backend = Backend::start().await;
    let config = one_proxy(&backend.url(), "")
        + "[channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.2:1/\"\n";
    let gateway = Gateway::with_config(&config).await;
    let connector = Connector::default().receive_buffer(16 * 1024);
    let mut client = connector.connect(&gateway).await;
    let stream = "GET /events HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n";
    client.send(get("/large") + stream).await;
    let (mut line, _) = backend.asked().await;
    let sending = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {N_BYTES}\r\n\r\n");
        line.socket.send(head).await;
        line.socket.send(vec![b'x'; N_BYTES]).await;
        line
    });
    client.head().await;
    let mut n_left = N_BYTES;
    while n_left > 0 {
        let piece = client.take_some(n_left.min(16 * 1024)).await;
        assert!(
            piece.iter().all(|byte| *byte == b'x'),
            "something else came {n_left} bytes before the end"
        );
        n_left -= piece.len();
    }
    client.into_subscriber().await;
    drop(sending.await);
}
