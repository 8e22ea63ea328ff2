//! What is asked of the backend for a tunnel, and what the client gets if there is none.

use super::{SWITCH, offer, open, tunnel};
use crate::proxy::{answered, get, world};
use crate::support::End;

#[tokio::test]
async fn a_tunnel_carries_all_that_both_sides_say_from_the_first_byte() {
    let (backend, _gateway, mut client) = world("").await;
    // Neither waits until it may speak.
    client.send(offer("/chat?room=1") + "said early").await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /chat?room=1 HTTP/1.1");
    assert_eq!(asked.field("upgrade"), Some("websocket"));
    assert_eq!(asked.field("connection"), Some("upgrade"));
    let key = Some("dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(asked.field("sec-websocket-key"), key);
    line.socket
        .send(SWITCH.to_owned() + "answered at once")
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 101, "{}", head.text);
    assert_eq!(head.field("upgrade"), Some("websocket"), "{}", head.text);
    let connection = head.field("connection").unwrap_or_default();
    assert!(connection.eq_ignore_ascii_case("upgrade"), "{}", head.text);
    let accept = Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(head.field("sec-websocket-accept"), accept);
    assert_eq!(
        client.take(16, "the first bytes").await,
        b"answered at once"
    );
    assert_eq!(line.socket.take(10, "early bytes").await, b"said early");
    for n in 0..100 {
        let said = format!("{n:8}");
        client.send(&said).await;
        assert_eq!(line.socket.take(8, "what was said").await, said.as_bytes());
        line.socket.send(&said).await;
        assert_eq!(client.take(8, "what was said").await, said.as_bytes());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_switch_is_an_ordinary_one() {
    let (backend, _gateway, mut client) = world("").await;
    for status in ["426 Upgrade Required", "200 OK"] {
        client.send(offer("/chat")).await;
        let (mut line, _) = backend.asked().await;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        line.socket.send(answer).await;
        let (head, body) = answered(&mut client).await;
        assert!(head.text.contains(status), "{}", head.text);
        assert_eq!(body, "no");
    }
    // And its connection goes on.
    client.send(get("/")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("yes").await;
    assert_eq!(answered(&mut client).await.1, "yes");
}

#[tokio::test]
async fn an_answer_to_an_offer_may_have_as_large_a_head_as_any_other() {
    let (backend, _gateway, mut client) = world("").await;
    let large = "a".repeat(40_000);
    for request in [get("/"), offer("/chat")] {
        client.send(request).await;
        let (mut line, _) = backend.asked().await;
        let answer = format!("HTTP/1.1 401 No\r\nX-Large: {large}\r\nContent-Length: 2\r\n\r\nno");
        line.socket.send(answer).await;
        let (head, body) = answered(&mut client).await;
        assert_eq!(head.status, 401, "{body}");
        assert_eq!(head.field("x-large"), Some(large.as_str()));
    }
}

#[tokio::test]
async fn what_may_not_be_switched_to_is_not_offered() {
    let (backend, _gateway, mut client) = world("upgrade = [\"chat\"]").await;
    client.send(offer("/")).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.field("upgrade"), None, "{}", asked.0);
    assert_eq!(asked.field("connection"), None, "{}", asked.0);
    line.answer("ordinary").await;
    assert_eq!(answered(&mut client).await.1, "ordinary");
    let h2c = offer("/").replace("websocket\r\n", "h2c, chat/2\r\n");
    client.send(h2c).await;
    let (_line, asked) = backend.asked().await;
    assert_eq!(asked.field("upgrade"), Some("chat/2"), "{}", asked.0);
}

#[tokio::test]
async fn a_switch_that_was_not_offered_is_a_502() {
    for (request, answer) in [
        (get("/"), SWITCH.to_owned()),
        (
            offer("/"),
            SWITCH.replace("Upgrade: websocket", "Upgrade: chat"),
        ),
        (offer("/"), SWITCH.replace("Upgrade: websocket\r\n", "")),
    ] {
        let (backend, _gateway, mut client) = world("").await;
        client.send(&request).await;
        let (mut line, _) = backend.asked().await;
        line.socket.send(&answer).await;
        let (head, body) = answered(&mut client).await;
        assert_eq!(head.status, 502, "{request}{answer}{body}");
        line.closed().await;
    }
}

#[tokio::test]
async fn there_are_no_more_tunnels_than_the_configuration_allows() {
    let (backend, gateway, client, line) = tunnel("max_tunnels = 1").await;
    let mut second = gateway.connect().await;
    second.send(offer("/chat")).await;
    let (head, body) = answered(&mut second).await;
    assert_eq!(head.status, 503, "{body}");
    assert!(head.field("retry-after").is_some(), "{}", head.text);
    assert!(body.contains("tunnels"), "{body}");
    // An ordinary request is another matter.
    second.send(get("/")).await;
    let (mut ordinary, _) = backend.asked().await;
    ordinary.answer("yes").await;
    assert_eq!(answered(&mut second).await.1, "yes");
    // Its end gives the place back.
    drop((client, line));
    crate::support::until_true("a place for a tunnel", async || {
        let mut client = gateway.connect().await;
        client.send(offer("/chat")).await;
        tokio::select! {
            head = client.head() => head.status == 101,
            (mut line, _) = backend.asked() => {
                line.socket.send(SWITCH).await;
                client.head().await.status == 101
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_says_nothing_is_a_504_and_one_that_leaves_a_502() {
    let (backend, _gateway, mut client) = world("response_timeout = \"200ms\"").await;
    client.send(offer("/chat")).await;
    let (mut line, _) = backend.asked().await;
    assert_eq!(answered(&mut client).await.0.status, 504);
    line.closed().await;
    client.send(offer("/chat")).await;
    let (line, _) = backend.asked().await;
    drop(line);
    assert_eq!(answered(&mut client).await.0.status, 502);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_switch_takes_its_request_with_it() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(offer("/chat")).await;
    let (mut line, _) = backend.asked().await;
    drop(client);
    assert_eq!(line.closed().await, b"");
}

#[tokio::test]
async fn tunnels_follow_the_order_of_the_upstreams() {
    let gone = "http://127.0.0.2:1";
    let backend = super::Backend::start().await;
    let config = super::super::one_proxy(gone, "").replace(
        &format!("\"{gone}\""),
        &format!("[\"{gone}\", \"{}\"]", backend.url()),
    );
    let gateway = crate::support::Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    let mut line = open(&mut client, &backend).await;
    line.socket.send("here").await;
    assert_eq!(client.take(4, "what was said").await, b"here");
    line.socket.finish_sending().await;
    assert_eq!(client.rest().await, (vec![], End::Cut));
}

#[tokio::test]
async fn a_switch_has_no_content_whatever_it_says() {
    for field in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
        let (backend, _gateway, mut client) = world("").await;
        client.send(offer("/chat")).await;
        let (mut line, _) = backend.asked().await;
        let end = format!("\r\n{field}\r\n\r\n0\r\n\r\n");
        line.socket.send(SWITCH.replace("\r\n\r\n", &end)).await;
        let head = client.head().await;
        assert_eq!(head.status, 101, "{}", head.text);
        for absent in ["content-length", "transfer-encoding"] {
            assert_eq!(head.field(absent), None, "{}", head.text);
        }
        let first = client.take(5, "the first bytes").await;
        assert_eq!(first, b"0\r\n\r\n", "{field}");
        client.send("and on").await;
        assert_eq!(line.socket.take(6, "what was said").await, b"and on");
    }
}
