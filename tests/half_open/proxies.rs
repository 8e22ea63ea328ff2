//! What passes through a proxy, when the network of one side goes away in the middle of it.
//!
//! The side that is there must be told, and what the gateway holds for the other given back.

use std::pin::pin;
use std::time::Duration;

use http::Response;
use tokio::net::TcpListener;

use crate::network::Network;
use crate::support::{
    ANYWHERE, Admin, Backend, Caller, Client, Gateway, Http2, Speaks, Windows, nothing, piece,
    request, until_true, within,
};
use crate::until_metric;

const IN_FLIGHT: &str = "ssecast_proxy_requests_in_flight{proxy=\"web\"}";
const TUNNELS: &str = "ssecast_proxy_tunnels{proxy=\"web\"}";

/// The bar for what the kernel finds out: a minute.
const MINUTE: Duration = Duration::from_secs(60);
/// Enough for what the configuration bounds by a second.
const SOON: Duration = Duration::from_secs(6);

/// A gateway that other networks can reach, with a proxy.
async fn gateway(upstream: &str, server: &str, lines: &str) -> (Gateway, Admin) {
    let config = format!(
        "[server]\nthreads = 1\n{server}\n[listen.public]\naddress = \"0.0.0.0:0\"\n{ANYWHERE}\n\
         [proxies.web]\npath = \"/{{*rest}}\"\nupstream = \"{upstream}\"\n{lines}\n"
    );
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    (gateway, admin)
}

fn failures(reason: &str) -> String {
    format!("ssecast_proxy_failures_total{{proxy=\"web\",reason=\"{reason}\"}}")
}

fn tunnels_ended(end: &str) -> String {
    format!("ssecast_proxy_tunnels_ended_total{{proxy=\"web\",end=\"{end}\"}}")
}

/// An origin here, its URL.
async fn origin_here() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.2:0").await;
    let listener = listener.expect("an address for the origin");
    let address = listener.local_addr().expect("an address");
    (listener, format!("http://{address}"))
}

/// The next connection of the gateway to an origin, once it has asked for something.
async fn asked(listener: &TcpListener) -> Client {
    let accepted = within("a connection to the origin", listener.accept(), || {
        "none".to_owned()
    });
    let (stream, _) = accepted.await.expect("a connection");
    let mut line = Client::over(stream);
    line.take_through(b"\r\n\r\n", "the head of a request")
        .await;
    line
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// A client on this side.
async fn connect(gateway: &Gateway) -> Client {
    let address = gateway.address().replace("0.0.0.0", "127.0.0.1");
    crate::support::Connector::default()
        .connect_to(&address)
        .await
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                      Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n";

/// A stream that is silent, but for heartbeats.
#[tokio::test]
async fn a_client_whose_link_drops_is_gone_within_a_minute_and_its_origin_is_told() {
    let (listener, url) = origin_here().await;
    let lines = "heartbeat = \"1s\"\nidle_timeout = \"off\"";
    let (gateway, admin) = gateway(&url, "", lines).await;
    let network = Network::new();
    let mut client = Client::over(network.connect(&gateway));
    client.send(get("/stream")).await;
    let mut line = asked(&listener).await;
    line.send(STREAM).await;
    client.head().await;
    assert_eq!(client.chunk().await, Ok(b"data: a\n\n".to_vec()));
    network.drop_link();
    until_metric(&admin, (IN_FLIGHT, 0.0), MINUTE).await;
    assert_eq!(line.rest().await.0, b"", "the origin is told");
}

#[tokio::test]
async fn over_http_2_it_is_gone_when_it_answers_no_ping() {
    let (listener, url) = origin_here().await;
    let server = "http2 = { ping_interval = \"1s\", ping_timeout = \"1s\" }";
    let (gateway, admin) = gateway(&url, server, "idle_timeout = \"off\"").await;
    let network = Network::new();
    let stream = Box::pin(network.connect(&gateway));
    let http2 = Http2::over(stream, Windows::default()).await;
    let (answer, mut line) = tokio::join!(http2.try_request("GET", "/stream", &[]), async {
        let mut line = asked(&listener).await;
        line.send(STREAM).await;
        line
    });
    let (_, mut client) = answer.expect("an answer");
    assert_eq!(client.take(9, "an event").await, b"data: a\n\n");
    network.drop_link();
    until_metric(&admin, (IN_FLIGHT, 0.0), SOON).await;
    assert_eq!(line.rest().await.0, b"", "the origin is told");
}

#[tokio::test]
async fn a_client_whose_link_drops_in_its_upload_is_given_up() {
    let (listener, url) = origin_here().await;
    let (gateway, admin) = gateway(&url, "", "idle_timeout = \"1s\"").await;
    let network = Network::new();
    let mut client = Client::over(network.connect(&gateway));
    client
        .send("POST /file HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nsome")
        .await;
    let mut line = asked(&listener).await;
    assert_eq!(line.take(4, "what came of it").await, b"some");
    network.drop_link();
    until_metric(&admin, (&failures("client-stalled"), 1.0), SOON).await;
    assert_eq!(line.rest().await.0, b"", "the origin is told");
    admin.until(&[(IN_FLIGHT, 0.0)]).await;
}

/// Lines for an upstream that speaks this.
fn speaking(speaks: Speaks, lines: &str) -> String {
    let version = match speaks {
        Speaks::Http1 => "1.1",
        Speaks::Http2 => "2",
    };
    format!("upstream_http = \"{version}\"\nconnect_timeout = \"1s\"\n{lines}")
}

/// A caller on this side.
async fn caller(gateway: &Gateway) -> Caller {
    let address = gateway.address().replace("0.0.0.0", "127.0.0.1");
    Caller::connect_to(&address, Speaks::Http1).await
}

#[tokio::test]
async fn an_origin_whose_link_drops_in_its_answer_is_given_up_and_found_again() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let network = Network::new();
        let (listener, url) = network.listen();
        let mut backend = Backend::at(listener, speaks);
        let lines = speaking(speaks, "idle_timeout = \"1s\"");
        let (gateway, admin) = gateway(&url, "", &lines).await;
        let mut client = caller(&gateway).await;
        let answer = tokio::spawn(client.send(request("GET", "/stream"), nothing()));
        let answering = backend.exchange().await.begin(Response::builder());
        answering.send("some").await;
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let some = piece(answer.body_mut()).await.expect("a piece");
        assert_eq!(some.expect("bytes"), "some");
        network.drop_link();
        let rest = piece(answer.body_mut()).await;
        assert!(matches!(rest, Some(Err(_))), "a clean end: {rest:?}");
        admin
            .until(&[(&failures("answer-stalled"), 1.0), (IN_FLIGHT, 0.0)])
            .await;
        network.raise_link();
        is_found_again(&gateway, &mut backend).await;
    }
}

#[tokio::test]
async fn an_origin_whose_link_drops_before_its_answer_is_given_up_and_found_again() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let network = Network::new();
        let (listener, url) = network.listen();
        let mut backend = Backend::at(listener, speaks);
        // The connection waits for the next request all that time.
        let lines = speaking(speaks, "response_timeout = \"1s\"\nkeep_alive = \"1m\"");
        let (gateway, admin) = gateway(&url, "", &lines).await;
        is_found_again(&gateway, &mut backend).await;
        network.drop_link();
        let mut client = caller(&gateway).await;
        let answer = client.send(request("GET", "/lost"), nothing()).await;
        assert_eq!(answer.expect("an answer").status(), 504);
        admin
            .until(&[(&failures("response-timeout"), 1.0), (IN_FLIGHT, 0.0)])
            .await;
        network.raise_link();
        is_found_again(&gateway, &mut backend).await;
    }
}

/// Waits until a request is answered by the origin: after its link it takes a moment until packets find
/// their way again.
async fn is_found_again(gateway: &Gateway, backend: &mut Backend) {
    until_true("the origin to be found again", async || {
        let mut client = caller(gateway).await;
        let mut asking = pin!(client.send(request("GET", "/after"), nothing()));
        loop {
            tokio::select! {
                answer = &mut asking => return answer.is_ok_and(|answer| answer.status() == 202),
                // What was sent into the void may arrive late.
                exchange = backend.exchange() => {
                    exchange.answer(Response::builder().status(202), nothing());
                }
            }
        }
    })
    .await;
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Makes a tunnel of a client's connection; returns its other end.
async fn open(client: &mut Client, listener: &TcpListener) -> Client {
    let offer = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.send(offer).await;
    let mut line = asked(listener).await;
    line.send(SWITCH).await;
    assert_eq!(client.head().await.status, 101);
    client.send("ping").await;
    assert_eq!(line.take(4, "what the client says").await, b"ping");
    line.send("pong").await;
    assert_eq!(client.take(4, "what the origin says").await, b"pong");
    line
}

/// Nobody is silent: the origin goes on talking to a client that is not there.
#[tokio::test]
async fn a_tunnel_whose_client_is_gone_ends_within_a_minute_though_its_origin_talks_on() {
    let (listener, url) = origin_here().await;
    let (gateway, admin) = gateway(&url, "", "tunnel_idle_timeout = \"off\"").await;
    let network = Network::new();
    let mut client = Client::over(network.connect(&gateway));
    let mut line = open(&mut client, &listener).await;
    network.drop_link();
    line.send("are you there?").await;
    until_metric(&admin, (TUNNELS, 0.0), MINUTE).await;
    admin.until(&[(&tunnels_ended("client-broke"), 1.0)]).await;
    line.rest().await;
}

/// Nobody is silent: the client goes on talking to an origin that is not there.
#[tokio::test]
async fn a_tunnel_whose_origin_is_gone_ends_within_a_minute_though_its_client_talks_on() {
    let network = Network::new();
    let (listener, url) = network.listen();
    let (gateway, admin) = gateway(&url, "", "tunnel_idle_timeout = \"off\"").await;
    let mut client = connect(&gateway).await;
    let _line = open(&mut client, &listener).await;
    network.drop_link();
    client.send("are you there?").await;
    until_metric(&admin, (TUNNELS, 0.0), MINUTE).await;
    admin.until(&[(&tunnels_ended("origin-broke"), 1.0)]).await;
    client.rest().await;
}

#[tokio::test]
async fn a_tunnel_in_which_nobody_can_say_anything_ends_when_it_is_idle() {
    let network = Network::new();
    let (listener, url) = network.listen();
    let (gateway, admin) = gateway(&url, "", "tunnel_idle_timeout = \"1s\"").await;
    let mut client = connect(&gateway).await;
    let _line = open(&mut client, &listener).await;
    network.drop_link();
    // The farewell takes five seconds at most.
    until_metric(&admin, (TUNNELS, 0.0), 2 * SOON).await;
    admin.until(&[(&tunnels_ended("idle"), 1.0)]).await;
    client.rest().await;
}
