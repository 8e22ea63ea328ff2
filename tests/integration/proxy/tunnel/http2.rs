//! Tunnels of clients of HTTP/2 (RFC 8441), whose origin speaks HTTP/1.1.

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, StatusCode, Version};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Backend, draining, frames, goes_away};
use crate::proxy::{Asked, Line, one_proxy, world};
use crate::support::{DEADLINE, Gateway, within};

struct Client {
    requests: SendRequest<Bytes>,
    _connection: JoinHandle<()>,
}

struct Tunnel {
    line: Line,
    asked: Asked,
    to: SendStream<Bytes>,
    from: RecvStream,
}

impl Client {
    async fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.address())
            .await
            .expect("a connection");
        let shaken = Builder::new()
            .initial_connection_window_size(1 << 20)
            .handshake(stream)
            .await;
        let (requests, connection) = shaken.expect("HTTP/2");
        let connection = tokio::spawn(async move {
            // However it ends.
            if connection.await.is_err() {}
        });
        let mut requests = within("settings", requests.ready(), || "none".to_owned())
            .await
            .expect("HTTP/2");
        // They come with the answer to the first request at the latest.
        let request = Request::builder()
            .uri("http://a.example/first")
            .method(Method::TRACE);
        let (answer, _) = requests
            .send_request(request.body(()).expect("a request"), true)
            .expect("a stream");
        answer.await.expect("an answer");
        Self {
            requests,
            _connection: connection,
        }
    }

    fn connect_to(
        &mut self,
        protocol: &'static str,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://a.example/chat?room=1")
            .version(Version::HTTP_2)
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "talk")
            .extension(Protocol::from_static(protocol))
            .body(())
            .expect("a request");
        self.requests
            .send_request(request, false)
            .expect("a stream")
    }

    async fn tunnel(&mut self, backend: &Backend) -> Tunnel {
        let (answer, to) = self.connect_to("websocket");
        let (mut line, asked) = backend.asked().await;
        let key = asked.field("sec-websocket-key").expect("a key").to_owned();
        let switch = super::SWITCH.replace(
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            &format!("{}\r\nSec-WebSocket-Protocol: talk", accept(&key)),
        );
        line.socket.send(switch).await;
        let answer = within("an answer", answer, || "none".to_owned())
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "talk");
        for absent in [
            "sec-websocket-accept",
            "upgrade",
            "connection",
            "content-length",
        ] {
            assert!(!answer.headers().contains_key(absent), "{absent}");
        }
        Tunnel {
            line,
            asked,
            to,
            from: answer.into_body(),
        }
    }
}

/// By RFC 6455, 4.2.2.
fn accept(key: &str) -> String {
    use base64::Engine as _;
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        joined.as_bytes(),
    );
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// The next bytes of a stream; none at its end.
async fn hear(from: &mut RecvStream, n: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < n {
        let data = within("data", from.data(), || format!("{heard:?}")).await;
        let Some(data) = data else { break };
        let data = data.expect("data");
        from.flow_control()
            .release_capacity(data.len())
            .expect("room");
        heard.extend_from_slice(&data);
    }
    heard
}

#[tokio::test]
async fn a_stream_is_a_tunnel_to_an_origin_of_http_1() {
    let (backend, gateway, _) = world("").await;
    let mut client = Client::connect(&gateway).await;
    let mut tunnel = client.tunnel(&backend).await;
    assert_eq!(tunnel.asked.line(), "GET /chat?room=1 HTTP/1.1");
    assert_eq!(tunnel.asked.field("upgrade"), Some("websocket"));
    assert_eq!(tunnel.asked.field("sec-websocket-version"), Some("13"));
    assert_eq!(tunnel.asked.field("host"), Some("a.example"));
    for n in 0..50 {
        let said = format!("{n:8}");
        tunnel
            .to
            .send_data(Bytes::from(said.clone()), false)
            .expect("a stream");
        assert_eq!(
            tunnel.line.socket.take(8, "what was said").await,
            said.as_bytes()
        );
        tunnel.line.socket.send(&said).await;
        assert_eq!(hear(&mut tunnel.from, 8).await, said.as_bytes());
    }
    // END_STREAM and FIN are the same, in both directions.
    tunnel
        .to
        .send_data(Bytes::from_static(b"last"), true)
        .expect("a stream");
    assert_eq!(tunnel.line.socket.rest().await.0, b"last");
    tunnel.line.socket.send("still heard").await;
    assert_eq!(hear(&mut tunnel.from, 11).await, b"still heard");
    tunnel.line.socket.finish_sending().await;
    assert_eq!(hear(&mut tunnel.from, 1).await, b"");
    assert!(tunnel.from.is_end_stream());
    // The connection is there for the next one.
    let mut next = client.tunnel(&backend).await;
    next.line.socket.send("next").await;
    assert_eq!(hear(&mut next.from, 4).await, b"next");
    next.line.socket.finish_sending().await;
    assert_eq!(hear(&mut next.from, 1).await, b"");
    next.to
        .send_data(Bytes::from_static(b"after the end"), true)
        .expect("a stream");
    assert_eq!(next.line.socket.rest().await.0, b"after the end");
}

#[tokio::test]
async fn who_does_not_take_its_data_stops_the_origin_and_no_other_stream() {
    let (backend, gateway, _) = world("").await;
    let mut client = Client::connect(&gateway).await;
    let Tunnel {
        line,
        mut from,
        to: _to,
        ..
    } = client.tunnel(&backend).await;
    let mut other = client.tunnel(&backend).await;
    let big: Vec<u8> = (0..4_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let expected = big.clone();
    let mut socket = line.socket;
    let saying = tokio::spawn(async move {
        socket.send(big).await;
        socket.finish_sending().await;
        socket
    });
    for _ in 0..50 {
        other.line.socket.send("quick").await;
        assert_eq!(hear(&mut other.from, 5).await, b"quick");
    }
    assert!(hear(&mut from, expected.len()).await == expected);
    assert_eq!(hear(&mut from, 1).await, b"");
    drop(saying.await.expect("all was said"));
}

#[tokio::test]
async fn a_reset_of_either_side_reaches_the_other() {
    let (backend, gateway, _) = world("").await;
    let mut client = Client::connect(&gateway).await;
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let mut tunnel = client.tunnel(&backend).await;
        tunnel.to.send_reset(reason);
        tunnel.line.closed().await;
    }
    let Tunnel {
        line, mut from, to, ..
    } = client.tunnel(&backend).await;
    drop(line);
    // A socket that is closed has said its last, politely or not.
    hear(&mut from, 1).await;
    drop(to);
    // A client that goes, with all its streams.
    let mut tunnel = client.tunnel(&backend).await;
    client._connection.abort();
    tunnel.line.closed().await;
}

#[tokio::test]
async fn what_is_not_allowed_or_not_accepted_is_refused() {
    let (backend, gateway, _) = world("").await;
    let mut client = Client::connect(&gateway).await;
    let (answer, _to) = client.connect_to("connect-udp");
    assert_eq!(
        answer.await.expect("an answer").status(),
        StatusCode::NOT_IMPLEMENTED
    );
    // An origin that proves nothing.
    let (answer, _to) = client.connect_to("websocket");
    let (mut line, _) = backend.asked().await;
    line.socket.send(super::SWITCH).await;
    assert_eq!(
        answer.await.expect("an answer").status(),
        StatusCode::BAD_GATEWAY
    );
    line.closed().await;
    // One that does not want to.
    let (answer, _to) = client.connect_to("websocket");
    let (mut line, _) = backend.asked().await;
    line.socket
        .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(hear(&mut answer.into_body(), 3).await, b"no");
}

#[tokio::test]
async fn where_nothing_may_be_switched_to_clients_are_not_told_that_they_may_connect() {
    let backend = Backend::start().await;
    for (lines, may) in [("", true), ("upgrade = []", false)] {
        let gateway = Gateway::with_config(&one_proxy(&backend.url(), lines)).await;
        let client = Client::connect(&gateway).await;
        assert_eq!(client.requests.is_extended_connect_protocol_enabled(), may);
    }
}

#[tokio::test]
async fn a_stop_says_goodbye_on_a_stream_too() {
    let (backend, mut gateway, _) = draining("500ms").await;
    let mut client = Client::connect(&gateway).await;
    let mut tunnel = client.tunnel(&backend).await;
    gateway.signal("TERM");
    let heard = hear(&mut tunnel.from, usize::MAX).await;
    let heard = frames(&heard);
    assert!(heard.len() == 1 && goes_away(&heard[0]), "{heard:?}");
    let heard = frames(&tunnel.line.closed().await);
    assert!(heard.len() == 1 && goes_away(&heard[0]), "{heard:?}");
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_tunnel_that_has_ended_loses_its_stream() {
    let (backend, gateway, _) = world("tunnel_idle_timeout = \"300ms\"").await;
    let mut client = Client::connect(&gateway).await;
    let Tunnel {
        mut line,
        mut from,
        to: _to,
        ..
    } = client.tunnel(&backend).await;
    // More than there is a window for.
    let saying = tokio::spawn(async move { line.socket.try_send(vec![0x82; 8 << 20]).await });
    let reset = async {
        loop {
            match from.data().await {
                Some(Ok(_not_released)) => {}
                Some(Err(error)) => break error,
                None => panic!("not all was said"),
            }
        }
    };
    let error = tokio::time::timeout(DEADLINE * 2, reset).await;
    assert!(error.expect("in time").is_reset());
    saying.abort();
}
