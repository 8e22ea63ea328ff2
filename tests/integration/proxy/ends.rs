//! A stop and a reload, with requests under way.

use super::{Backend, answered, get, one_proxy, world};
use crate::support::{End, Gateway, Http2};

const WHILE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc";

#[tokio::test]
async fn a_stop_waits_for_answers_that_are_under_way() {
    let (backend, mut gateway, mut client) = world("").await;
    client.send(get("/begun")).await;
    let (mut begun, _) = backend.asked().await;
    begun.socket.send(WHILE).await;
    client.head().await;
    let mut other = gateway.connect().await;
    other.send(get("/waiting")).await;
    let (mut waiting, _) = backend.asked().await;
    let mut idle = gateway.connect().await;
    idle.send(get("/idle")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("idle").await;
    answered(&mut idle).await;
    gateway.signal("TERM");
    gateway.logged(1, &[" stopping "]).await;
    // Who waits for nothing is let go.
    assert_eq!(idle.rest().await.0, b"");
    assert!(gateway.is_running());
    begun.socket.send("def").await;
    assert_eq!(client.rest().await, (b"abcdef".to_vec(), End::Cut));
    waiting.answer("late").await;
    let (head, body) = answered(&mut other).await;
    assert_eq!((head.status, &*body), (200, "late"));
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("are cut"), "{}", ended.log);
}

#[tokio::test]
async fn a_stop_waits_for_streams_of_http2() {
    let (backend, mut gateway, _) = world("").await;
    let connection = Http2::connect(&gateway).await;
    let asking = connection.ask("GET", "/begun", &[]);
    let answering = async {
        let (mut begun, _) = backend.asked().await;
        begun.socket.send(WHILE).await;
        gateway.signal("TERM");
        gateway.logged(1, &[" stopping "]).await;
        begun.socket.send("def").await;
    };
    let ((head, body), ()) = tokio::join!(asking, answering);
    assert_eq!((head.status, &*body), (200, "abcdef"));
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_stop_cuts_what_is_not_done_in_time() {
    let backend = Backend::start().await;
    let config = one_proxy(&backend.url(), "").replace("[server]", "[server]\ndrain = \"300ms\"");
    let mut gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    client.send(get("/begun")).await;
    let (mut begun, _) = backend.asked().await;
    begun.socket.send(WHILE).await;
    client.head().await;
    gateway.signal("TERM");
    assert_eq!(client.rest().await.0, b"abc");
    assert_eq!(begun.closed().await, b"");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.log.contains("are cut"), "{}", ended.log);
}

#[tokio::test]
async fn a_reload_lets_what_is_under_way_end_as_it_began() {
    let (old, gateway, mut client) = world("").await;
    let mut idle = gateway.connect().await;
    idle.send(get("/idle")).await;
    let (mut idle_line, _) = old.asked().await;
    client.send(get("/begun")).await;
    let (mut begun, _) = old.asked().await;
    begun.socket.send(WHILE).await;
    client.head().await;
    idle_line.answer("idle").await;
    answered(&mut idle).await;
    let new = Backend::start().await;
    gateway.reload(&one_proxy(&new.url(), ""), "applied").await;
    assert_eq!(
        idle_line.closed().await,
        b"",
        "no request goes there any more"
    );
    let mut other = gateway.connect().await;
    other.send(get("/next")).await;
    let (mut line, asked) = new.asked().await;
    assert_eq!(asked.line(), "GET /next HTTP/1.1");
    line.answer("next").await;
    assert_eq!(answered(&mut other).await.1, "next");
    begun.socket.send("def").await;
    assert_eq!(client.take(6, "the whole answer").await, b"abcdef");
    assert_eq!(begun.closed().await, b"", "it is not kept");
    // The client's connection follows.
    client.send(get("/after")).await;
    assert_eq!(line.asked().await.line(), "GET /after HTTP/1.1");
}

#[tokio::test]
async fn a_reload_that_does_not_touch_connections_keeps_them() {
    let (backend, gateway, mut client) = world("").await;
    client.send(get("/1")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("one").await;
    answered(&mut client).await;
    let config = one_proxy(&backend.url(), "response_timeout = \"10s\"");
    gateway.reload(&config, "applied").await;
    client.send(get("/2")).await;
    assert_eq!(line.asked().await.line(), "GET /2 HTTP/1.1");
    line.answer("two").await;
    assert_eq!(answered(&mut client).await.1, "two");
}

#[tokio::test]
async fn a_removed_proxy_ends_what_it_began() {
    let (backend, gateway, mut client) = world("").await;
    client.send(get("/begun")).await;
    let (mut begun, _) = backend.asked().await;
    let config = one_proxy(&backend.url(), "")
        .replace("proxies.web", "proxies.other")
        .replace("/{*rest}", "/other/{*rest}");
    gateway.reload(&config, "applied").await;
    begun.answer("done").await;
    assert_eq!(answered(&mut client).await.1, "done");
    client.send(get("/begun")).await;
    assert_eq!(answered(&mut client).await.0.status, 404);
}
