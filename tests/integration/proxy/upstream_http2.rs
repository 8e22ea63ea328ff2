//! Upstreams of HTTP/2 that do not do what they should.

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{answered, get, one_proxy};
use crate::support::{ANYWHERE, Admin, Client, Gateway, within};

/// An upstream that accepts connections, and does nothing by itself.
pub(super) struct Upstream(TcpListener);

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await;
        Self(listener.expect("an address for the upstream"))
    }

    pub(super) fn authority(&self) -> String {
        let address = self.0.local_addr();
        address.expect("the address of the upstream").to_string()
    }

    pub(super) async fn accept(&self) -> TcpStream {
        let accepted = within("a connection", self.0.accept(), || "none".to_owned());
        accepted.await.expect("a connection").0
    }
}

/// Answers each request on a connection.
async fn answer_all(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let answer = http::Response::new(());
        respond.send_response(answer, true).expect("an answer");
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_any_more_is_left() {
    let upstream = Upstream::start().await;
    let lines = "upstream_http = \"2\"\nresponse_timeout = \"300ms\"";
    let url = format!("http://{}", upstream.authority());
    let gateway = Gateway::with_config(&one_proxy(&url, lines)).await;
    let mut client = gateway.connect().await;
    client.send(get("/first")).await;
    let stream = upstream.accept().await;
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let asked = within("a request", connection.accept(), || "none".to_owned());
    let (_, mut respond) = asked.await.expect("open").expect("a request");
    let answer = http::Response::new(());
    respond.send_response(answer, true).expect("an answer");
    tokio::select! {
        _ = connection.accept() => panic!("one request was sent"),
        (head, _) = answered(&mut client) => assert_eq!(head.status, 200),
    }
    // From here on it does nothing: as one whose machine has gone without a word.
    client.send(get("/lost")).await;
    assert_eq!(answered(&mut client).await.0.status, 504);
    client.send(get("/next")).await;
    let there = tokio::spawn(answer_all(upstream.accept().await));
    assert_eq!(answered(&mut client).await.0.status, 200);
    there.abort();
    drop(connection);
}

#[tokio::test]
async fn a_slow_answer_costs_the_others_nothing() {
    let upstream = Upstream::start().await;
    let lines = "upstream_http = \"2\"\nresponse_timeout = \"300ms\"";
    let url = format!("http://{}", upstream.authority());
    let gateway = Gateway::with_config(&one_proxy(&url, lines)).await;
    let mut clients = Vec::new();
    for path in ["/slow", "/quick"] {
        let mut client: Client = gateway.connect().await;
        client.send(get(path)).await;
        clients.push(client);
    }
    let stream = upstream.accept().await;
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let (mut held, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let asked = within("a request", connection.accept(), || "none".to_owned());
        let (request, mut respond) = asked.await.expect("open").expect("a request");
        if request.uri().path() == "/quick" {
            let answer = http::Response::new(());
            held.push(respond.send_response(answer, false).expect("an answer"));
        } else {
            // It is never answered.
            slow.push(respond);
        }
    }
    let going_on = tokio::spawn(async move { while connection.accept().await.is_some() {} });
    clients[1].head().await;
    assert_eq!(answered(&mut clients[0]).await.0.status, 504);
    held[0].send_data("x".into(), true).expect("it is open");
    assert_eq!(clients[1].chunk().await, Ok(b"x".to_vec()));
    going_on.abort();
}

#[tokio::test]
async fn who_waits_for_another_to_connect_waits_no_longer_than_for_a_connection() {
    let upstream = Upstream::start().await;
    let lines = "upstream_http = \"2\"\nconnect_timeout = \"500ms\"";
    // It accepts, and says nothing of TLS.
    let url = format!("https://{}", upstream.authority());
    let gateway = Gateway::with_config(&one_proxy(&url, lines)).await;
    let begun = Instant::now();
    let mut clients = Vec::new();
    for number in 0..12 {
        let mut client = gateway.connect().await;
        client.send(get(&format!("/{number}"))).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(answered(client).await.0.status, 504);
    }
    let took = begun.elapsed();
    assert!(took.as_secs() < 3, "the last one waited for {took:?}");
}

#[tokio::test]
async fn an_upstream_that_takes_one_request_at_a_time_gets_all_of_them() {
    let upstream = Upstream::start().await;
    let url = format!("http://{}", upstream.authority());
    let gateway = Gateway::with_config(&one_proxy(&url, "upstream_http = \"2\"")).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut client = gateway.connect().await;
        let head = format!("POST /{number} HTTP/1.1\r\nHost: a.example\r\n");
        client.send(head + "Content-Length: 1\r\n\r\nx").await;
        clients.push(client);
    }
    let first = upstream.accept().await;
    // It does not say at once what it takes.
    first.readable().await.expect("it is open");
    let serving = tokio::spawn(async move {
        let mut next = Some(first);
        loop {
            let stream = match next.take() {
                Some(stream) => stream,
                None => upstream.accept().await,
            };
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(1);
                let shaken = builder.handshake::<_, bytes::Bytes>(stream).await;
                let mut connection = shaken.expect("HTTP/2");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let answer = http::Response::new(());
                    respond.send_response(answer, true).expect("an answer");
                }
            });
        }
    });
    for client in &mut clients {
        assert_eq!(answered(client).await.0.status, 200);
    }
    serving.abort();
}

#[tokio::test]
async fn who_asks_for_a_head_has_not_left() {
    let upstream = Upstream::start().await;
    let url = format!("http://{}", upstream.authority());
    let config = one_proxy(&url, &format!("upstream_http = \"2\"\n{ANYWHERE}"));
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    let mut client = gateway.connect().await;
    client.send(get("/file").replace("GET", "HEAD")).await;
    let stream = upstream.accept().await;
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let asked = within("a request", connection.accept(), || "none".to_owned());
    let (_, mut respond) = asked.await.expect("open").expect("a request");
    // The end comes later, as an empty piece of content.
    let answer = http::Response::new(());
    let mut sending = respond.send_response(answer, false).expect("an answer");
    let going_on = tokio::spawn(async move { while connection.accept().await.is_some() {} });
    assert_eq!(client.head().await.status, 200);
    let answered = "ssecast_proxy_requests_total{proxy=\"web\",status=\"2xx\"}";
    let in_flight = "ssecast_proxy_requests_in_flight{proxy=\"web\"}";
    let metrics = admin.until(&[(answered, 1.0), (in_flight, 0.0)]).await;
    let left = "ssecast_proxy_failures_total{proxy=\"web\",reason=\"client-left\"}";
    assert!(metrics.value(left) < 1.0, "{}", metrics.text);
    // It may be told that nobody waits for this.
    sending.send_data(bytes::Bytes::new(), true).ok();
    going_on.abort();
}
