//! What a proxy does when the gateway itself has nothing left: no descriptor, no memory, no place for
//! another client. The backend never hears of it, and nothing is remembered against it.

use super::{Backend, answered, get, one_proxy};
use crate::support::{ANYWHERE, Admin, Client, Gateway, Head, Http2, until_async, until_true};

const MIB: usize = 1024 * 1024;

/// A backend, and a gateway with these lines in its table `[server]` and in that of its proxy.
async fn world(server: &str, lines: &str) -> (Backend, Gateway, Admin) {
    let backend = Backend::start().await;
    let config = config(&backend.url(), server, lines);
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    (backend, gateway, admin)
}

fn config(upstream: &str, server: &str, lines: &str) -> String {
    let server = format!("[server]\n{server}\n");
    one_proxy(upstream, &format!("{lines}\n{ANYWHERE}")).replace("[server]\n", &server)
}

fn failures(reason: &str) -> String {
    format!("ssecast_proxy_failures_total{{proxy=\"web\",reason=\"{reason}\"}}")
}

/// Asserts that an answer sends the client away for a while, and says this.
fn is_sent_away((head, body): &(Head, String), said: &str) {
    assert_eq!(head.status, 503, "{body}");
    let wait = head.field("retry-after").expect("when to come back");
    let wait: u64 = wait.parse().expect("seconds");
    assert!((5..=30).contains(&wait), "{wait}");
    assert!(body.contains(said), "{body}");
}

#[tokio::test]
async fn without_a_descriptor_for_the_upstream_a_request_is_sent_away_and_the_upstream_not_blamed()
{
    let (first, second) = (Backend::start().await, Backend::start().await);
    let both = format!("[\"{}\", \"{}\"]", first.url(), second.url());
    let config = config(&first.url(), "", "").replace(&format!("\"{}\"", first.url()), &both);
    let gateway = Gateway::with_descriptors(160, &config).await;
    let admin = Admin::of(&gateway).await;
    let mut client = gateway.connect().await;
    // Clients take all that there are.
    let mut idle = Vec::new();
    until_async("a newcomer to be refused", async || {
        idle.push(gateway.connect().await);
        let refused = "ssecast_refused_connections_total{limit=\"max-connections\"}";
        match admin.metrics().await.value(refused) {
            n if n > 0.0 => Ok(()),
            _ => Err(format!("{} are in", idle.len())),
        }
    })
    .await;
    client.send(get("/none")).await;
    let told = answered(&mut client).await;
    is_sent_away(&told, "too many connections are open");
    admin
        .until(&[
            (&failures("no-descriptor"), 1.0),
            (&failures("connect-failed"), 0.0),
        ])
        .await;
    let n_before = gateway.n_descriptors();
    idle.remove(0);
    until_true("the place of who has left to be free", async || {
        gateway.n_descriptors() < n_before
    })
    .await;
    client.send(get("/one")).await;
    let (mut line, asked) = first.asked().await;
    assert_eq!(asked.line(), "GET /one HTTP/1.1");
    line.answer("here").await;
    assert_eq!(answered(&mut client).await.1, "here");
}

#[tokio::test]
async fn that_the_system_has_no_descriptor_is_no_fault_of_the_upstream() {
    let (first, second) = (Backend::start().await, Backend::start().await);
    let both = format!("[\"{}\", \"{}\"]", first.url(), second.url());
    let config = config(&first.url(), "", "").replace(&format!("\"{}\"", first.url()), &both);
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    let mut client = gateway.connect().await;
    // It is accepted.
    let nothing = "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n";
    client.send(nothing).await;
    assert_eq!(answered(&mut client).await.0.status, 404);
    let allowed = gateway.limit_descriptors(3);
    client.send(get("/none")).await;
    let told = answered(&mut client).await;
    gateway.limit_descriptors(allowed);
    is_sent_away(&told, "too many connections are open");
    let lines = ["a request was not passed on", "Too many open files"];
    gateway.logged(1, &lines).await;
    client.send(get("/one")).await;
    // It does not rest.
    let (mut line, asked) = first.asked().await;
    assert_eq!(asked.line(), "GET /one HTTP/1.1");
    line.answer("here").await;
    assert_eq!(answered(&mut client).await.1, "here");
    admin
        .until(&[
            (&failures("no-descriptor"), 1.0),
            (&failures("connect-failed"), 0.0),
        ])
        .await;
}

/// Idle clients that may take all memory there is.
async fn fill_memory(gateway: &Gateway) -> Vec<Client> {
    const N_IDLE: usize = 16 * MIB / (16 * 1024) + 8;
    let mut idle = Vec::new();
    for _ in 0..N_IDLE {
        idle.push(gateway.connect().await);
    }
    gateway.logged(1, &["ERROR", "no history left"]).await;
    idle
}

#[tokio::test]
async fn without_memory_contents_are_sent_away_until_there_is_some() {
    let server = "memory = \"16MiB\"\nheader_timeout = \"1m\"\nmax_header_bytes = \"16KiB\"";
    let (backend, gateway, admin) = world(server, "").await;
    let http2 = Http2::connect(&gateway).await;
    let mut standing = gateway.connect().await;
    standing.send(get("/before")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("before").await;
    assert_eq!(answered(&mut standing).await.1, "before");
    let idle = fill_memory(&gateway).await;
    // What is held of a content over HTTP/2 is not read yet by anybody.
    let told = http2.post("/content", "xyz").await;
    is_sent_away(&told, "there is no memory for this right now");
    admin.until(&[(&failures("no-memory"), 1.0)]).await;
    // Who comes only now is not admitted at all.
    let mut newcomer = gateway.connect().await;
    newcomer.send(get("/newcomer")).await;
    is_sent_away(&answered(&mut newcomer).await, "");
    // What needs none goes on: a content over HTTP/1.1 stays in the socket.
    let post = "POST /after HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
    standing.send(post).await;
    assert_eq!(line.asked().await.line(), "POST /after HTTP/1.1");
    assert_eq!(line.socket.take(3, "the content").await, b"abc");
    line.answer("after").await;
    assert_eq!(answered(&mut standing).await.1, "after");
    drop(idle);
    gateway.logged(1, &["memory for new clients again"]).await;
    let ((head, content), ()) = tokio::join!(http2.post("/content", "xyz"), async {
        assert_eq!(line.asked().await.line(), "POST /content HTTP/1.1");
        let chunks = line.socket.take_through(b"\r\n0\r\n\r\n", "the content");
        assert_eq!(chunks.await, b"3\r\nxyz\r\n0\r\n\r\n");
        line.answer("taken").await;
    });
    assert_eq!((head.status, &*content), (200, "taken"));
}

#[tokio::test]
async fn who_is_not_admitted_is_sent_away_by_a_proxy_too_and_its_connection_closed() {
    let (backend, gateway, _) = world("max_connections = 1", "").await;
    let mut admitted = gateway.connect().await;
    admitted.send(get("/in")).await;
    let (mut line, _) = backend.asked().await;
    let websocket = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let stream = "GET /stream HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n";
    let post = "POST /out HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n";
    for request in [&get("/out"), post, stream, websocket] {
        let mut client = gateway.connect().await;
        client.send(request).await;
        is_sent_away(&answered(&mut client).await, "");
        // The place for refusals is free for the next one.
        assert_eq!(client.rest().await.0, b"", "{request}");
    }
    let http2 = Http2::connect(&gateway).await;
    is_sent_away(&http2.ask("GET", "/out", &[]).await, "");
    line.answer("in").await;
    assert_eq!(answered(&mut admitted).await.1, "in");
    // Of the others the backend has heard nothing.
    admitted.send(get("/next")).await;
    assert_eq!(line.asked().await.line(), "GET /next HTTP/1.1");
}

/// A channel has the path, and a proxy what the channel can't answer.
#[tokio::test]
async fn who_is_not_admitted_is_not_led_past_a_channel_to_the_proxy() {
    let backend = Backend::start().await;
    let channel = format!(
        "[channels.events]\npath = \"/events\"\nupstream = \"{}\"\nconnect = \"on-demand\"\n",
        backend.url()
    );
    let config = config(&backend.url(), "max_connections = 1", &channel);
    let gateway = Gateway::with_config(&config).await;
    let mut admitted = gateway.connect().await;
    let post = "POST /events HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n";
    admitted.send(post).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "POST /events HTTP/1.1");
    let mut client = gateway.connect().await;
    client.send(post).await;
    is_sent_away(&answered(&mut client).await, "");
    line.answer("in").await;
    assert_eq!(answered(&mut admitted).await.1, "in");
    admitted.send(get("/next")).await;
    assert_eq!(line.asked().await.line(), "GET /next HTTP/1.1");
}
