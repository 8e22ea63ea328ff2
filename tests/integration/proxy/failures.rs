//! What goes wrong upstream: what the client is told, and what the log says.

use super::{Backend, Line, answered, get, one_proxy, world};
use crate::support::{Client, End, Gateway, Head};

/// Asserts that an answer says this and names no address, and that the log has the reason.
async fn is_told(
    (head, body): &(Head, String),
    (status, detail): (u16, &str),
    (gateway, reason): (&Gateway, &str),
) {
    assert_eq!(head.status, status, "{body}");
    assert_eq!(*body, format!("proxy `web`: {detail}\n"));
    assert!(!head.text.contains("127.0.0"), "{head:?}");
    let logged = gateway
        .logged(1, &["a request was not passed on", "proxy=\"web\"", reason])
        .await;
    assert!(logged[0].contains("path=\"/secret\""), "{logged:?}");
}

async fn ask(client: &mut Client) -> (Head, String) {
    client.send(get("/secret?token=hush")).await;
    answered(client).await
}

/// A gateway in front of a backend that lets the test answer the first request.
async fn asked(lines: &str) -> (Backend, Gateway, Client, Line) {
    let (backend, gateway, mut client) = world(lines).await;
    client.send(get("/secret?token=hush")).await;
    let (line, _) = backend.asked().await;
    (backend, gateway, client, line)
}

#[tokio::test]
async fn nobody_is_there() {
    let backend = Backend::start().await;
    let url = backend.url();
    drop(backend);
    let gateway = Gateway::with_config(&one_proxy(&url, "")).await;
    let mut client = gateway.connect().await;
    let told = ask(&mut client).await;
    let reason = (&gateway, "connect-failed");
    is_told(&told, (502, "its upstream can't be reached"), reason).await;
    let upstream = format!("upstream=\"{url}\"");
    gateway
        .logged(
            1,
            &["can't be connected to", &upstream, "Connection refused"],
        )
        .await;
    assert!(
        !gateway.log().contains("hush"),
        "a query may be a credential"
    );
    // The connection goes on.
    assert_eq!(ask(&mut client).await.0.status, 502);
}

#[tokio::test]
async fn a_problem_is_told_as_one_that_wants_it() {
    let backend = Backend::start().await;
    let url = backend.url();
    drop(backend);
    let gateway = Gateway::with_config(&one_proxy(&url, "")).await;
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.example\r\nAccept: application/problem+json\r\n\r\n")
        .await;
    let (head, body) = answered(&mut client).await;
    assert_eq!(head.field("content-type"), Some("application/problem+json"));
    assert_eq!(
        body,
        "{\"title\":\"Bad Gateway\",\"status\":502,\
         \"detail\":\"proxy `web`: its upstream can't be reached\"}\n"
    );
}

#[tokio::test]
async fn nobody_shakes_hands() {
    let backend = Backend::start().await;
    let url = backend.url().replace("http:", "https:");
    let gateway = Gateway::with_config(&one_proxy(&url, "connect_timeout = \"300ms\"")).await;
    let mut client = gateway.connect().await;
    client.send(get("/secret")).await;
    let _silent = backend.accept().await;
    let told = answered(&mut client).await;
    let detail = "connecting to its upstream took too long";
    is_told(&told, (504, detail), (&gateway, "connect-timeout")).await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_apart() {
    let backend = Backend::start().await;
    let url = backend.url().replace("http:", "https:");
    let gateway = Gateway::with_config(&one_proxy(&url, "")).await;
    let mut client = gateway.connect().await;
    client.send(get("/secret")).await;
    let mut line = backend.accept().await;
    line.socket.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let told = answered(&mut client).await;
    let detail = "TLS with its upstream failed";
    is_told(&told, (502, detail), (&gateway, "tls-failed")).await;
}

#[tokio::test]
async fn an_answer_does_not_begin_in_time() {
    let (_backend, gateway, mut client, mut line) = asked("response_timeout = \"300ms\"").await;
    let told = answered(&mut client).await;
    let detail = "its upstream took too long to answer";
    is_told(&told, (504, detail), (&gateway, "response-timeout")).await;
    assert_eq!(line.closed().await, b"", "the request is given up");
}

#[tokio::test]
async fn a_new_connection_is_closed_without_an_answer() {
    let (backend, gateway, mut client, line) = asked("").await;
    drop(line);
    let told = answered(&mut client).await;
    let detail = "its upstream closed the connection without an answer";
    is_told(&told, (502, detail), (&gateway, "closed")).await;
    // It was not asked again: the next one that comes is the next request.
    client.send(get("/next")).await;
    assert_eq!(backend.asked().await.1.line(), "GET /next HTTP/1.1");
}

#[tokio::test]
async fn what_comes_is_not_http() {
    let (_backend, gateway, mut client, mut line) = asked("").await;
    line.socket.send("SSH-2.0-OpenSSH_9.6\r\n").await;
    let told = answered(&mut client).await;
    let detail = "its upstream does not answer by HTTP";
    is_told(&told, (502, detail), (&gateway, "not-http")).await;
}

#[tokio::test]
async fn a_chunked_answer_that_breaks_off_is_cut() {
    let (_backend, gateway, mut client, mut line) = asked("").await;
    line.socket
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    client.head().await;
    assert_eq!(client.chunk().await, Ok(b"abc".to_vec()));
    drop(line);
    let end = client.chunk().await;
    assert!(matches!(end, Err(End::Cut | End::Reset)), "{end:?}");
    gateway
        .logged(1, &["an answer broke off", "answer-broke"])
        .await;
}

#[tokio::test]
async fn an_answer_with_a_length_that_breaks_off_is_cut() {
    let (_backend, _gateway, mut client, mut line) = asked("").await;
    line.socket
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    drop(line);
    client.head().await;
    assert_eq!(client.rest().await.0, b"abc");
}

#[tokio::test]
async fn no_more_requests_than_are_allowed_are_under_way() {
    let (backend, gateway, mut client) = world("max_requests = 1").await;
    client.send(get("/first")).await;
    let (mut line, _) = backend.asked().await;
    let mut other = gateway.connect().await;
    let told = ask(&mut other).await;
    let detail = "too many requests are under way, try again later";
    is_told(&told, (503, detail), (&gateway, "max-requests")).await;
    assert!(told.0.field("retry-after").is_some(), "{:?}", told.0);
    line.answer("one").await;
    assert_eq!(answered(&mut client).await.1, "one");
    other.send(get("/second")).await;
    assert_eq!(line.asked().await.line(), "GET /second HTTP/1.1");
}

#[tokio::test]
async fn requests_about_the_connection_go_nowhere() {
    let (backend, gateway, _) = world("").await;
    for request in [
        "TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
    ] {
        let mut client = gateway.connect().await;
        client.send(request).await;
        let (head, _) = answered(&mut client).await;
        assert_eq!(head.status, 405, "{request}");
        let allowed = head.field("allow").unwrap_or_default();
        assert!(allowed.contains("GET") && !allowed.contains("TRACE"));
    }
    let mut client = gateway.connect().await;
    client.send(get("/next")).await;
    assert_eq!(backend.asked().await.1.line(), "GET /next HTTP/1.1");
}
