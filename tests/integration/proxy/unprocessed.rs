//! Requests that an upstream of HTTP/2 says it has done nothing about (RFC 9113, 8.7), and upstreams that
//! take none.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::upstream_http2::Upstream;
use super::{answered, get, one_proxy};
use crate::support::frames::{
    DATA, Frame, GOAWAY, HEADERS, NO_SETTINGS, PREFACE, WINDOW_UPDATE, encode,
};
use crate::support::{ANYWHERE, Admin, Client, Gateway};

const LINES: &str = "upstream_http = \"2\"\nresponse_timeout = \"1m\"";

/// What a client is told.
const NOT_TAKEN: &str = "proxy `web`: its upstream takes no requests right now, try again later\n";

async fn world(lines: &str) -> (Upstream, Gateway, Client) {
    let upstream = Upstream::start().await;
    let url = format!("http://{}", upstream.authority());
    let gateway = Gateway::with_config(&one_proxy(&url, lines)).await;
    let client = gateway.connect().await;
    (upstream, gateway, client)
}

fn post(path: &str, content: &str) -> String {
    let length = content.len();
    format!("POST {path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n{content}")
}

/// What an upstream does until the test ends.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers each request on a connection with its own method, path and content, but refuses those whose
/// path it does not take.
fn serve(stream: TcpStream, takes: &'static str) -> Serving {
    Serving(tokio::spawn(async move {
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if request.uri().path().starts_with(takes) {
                tokio::spawn(echo(request, respond));
            } else {
                respond.send_reset(Reason::REFUSED_STREAM);
            }
        }
    }))
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut content) = request.into_parts();
    let mut text = format!("{} {} ", head.method, head.uri.path()).into_bytes();
    while let Some(piece) = content.data().await {
        let piece = piece.expect("content");
        let released = content.flow_control().release_capacity(piece.len());
        released.expect("it was taken");
        text.extend_from_slice(&piece);
    }
    let answer = respond.send_response(http::Response::new(()), false);
    let mut answering = answer.expect("an answer");
    answering.send_data(text.into(), true).expect("room");
}

/// A request that the gateway has sent on a connection that is byte by byte the test's.
async fn asked(upstream: &Upstream) -> Client {
    let mut line = Client::over(upstream.accept().await);
    line.send(NO_SETTINGS).await;
    let preface = line.take(PREFACE.len(), "a preface").await;
    assert_eq!(preface, PREFACE);
    Frame::next_of(&mut line, HEADERS).await;
    line
}

/// `GOAWAY`: no stream was or will be processed, and nothing is wrong (RFC 9113, 6.8).
fn nothing_processed() -> Vec<u8> {
    encode((GOAWAY, 0, 0), &[0; 8])
}

/// `WINDOW_UPDATE`: room for a mebibyte more, on the connection and on its first stream (6.9).
fn room() -> Vec<u8> {
    let more = (1_u32 << 20).to_be_bytes();
    [0, 1]
        .map(|stream| encode((WINDOW_UPDATE, 0, stream), &more))
        .concat()
}

#[tokio::test]
async fn what_goaway_leaves_out_is_sent_again_with_its_content() {
    let (upstream, _gateway, mut client) = world(LINES).await;
    client.send(post("/order", "a book")).await;
    let mut first = asked(&upstream).await;
    first.send(nothing_processed()).await;
    // It need not close the connection at once.
    let _second = serve(upstream.accept().await, "/");
    assert_eq!(answered(&mut client).await.1, "POST /order a book");
    client.send(post("/order", "another")).await;
    assert_eq!(answered(&mut client).await.1, "POST /order another");
}

#[tokio::test]
async fn what_was_refused_is_sent_again_on_a_new_connection() {
    let (upstream, gateway, mut client) = world(&format!("{LINES}\n{ANYWHERE}")).await;
    let admin = Admin::of(&gateway).await;
    client.send(post("/1/first", "")).await;
    let mut serving = vec![serve(upstream.accept().await, "/1")];
    assert_eq!(answered(&mut client).await.1, "POST /1/first ");
    for (takes, content) in [("/2", ""), ("/3", "a book")] {
        client.send(post(takes, content)).await;
        serving.push(serve(upstream.accept().await, takes));
        assert_eq!(
            answered(&mut client).await.1,
            format!("POST {takes} {content}")
        );
    }
    let retries = "ssecast_proxy_retries_total{proxy=\"web\"}";
    admin.until(&[(retries, 2.0)]).await;
}

#[tokio::test]
async fn a_content_that_has_not_begun_goes_with_the_second_request() {
    let (upstream, _gateway, mut client) = world(LINES).await;
    let content = "x".repeat(70_000) + "a book";
    let length = content.len();
    let head =
        format!("POST /order HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n");
    client.send(head).await;
    let mut first = asked(&upstream).await;
    first.send(nothing_processed()).await;
    let _second = serve(upstream.accept().await, "/");
    client.send(&content).await;
    assert_eq!(
        answered(&mut client).await.1,
        format!("POST /order {content}")
    );
}

#[tokio::test]
async fn a_content_of_which_more_is_gone_than_is_kept_is_not_sent_again() {
    let (upstream, _gateway, mut client) = world(LINES).await;
    let length = 1 << 20;
    let head =
        format!("POST /order HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n");
    client.send(head).await;
    let mut first = asked(&upstream).await;
    // As much as it likes.
    first.send(room()).await;
    client.send("x".repeat(200_000)).await;
    let mut n_taken = 0;
    while n_taken < 200_000 {
        n_taken += Frame::next_of(&mut first, DATA).await.payload.len();
    }
    first.send(nothing_processed()).await;
    let (head, body) = answered(&mut client).await;
    assert_eq!((head.status, &*body), (503, NOT_TAKEN));
    assert!(head.field("retry-after").is_some(), "{head:?}");
}

#[tokio::test]
async fn who_refuses_all_is_asked_twice_and_then_the_next() {
    let (upstream, _gateway, mut client) = world(LINES).await;
    client.send(post("/order", "a book")).await;
    let _first = serve(upstream.accept().await, "/none");
    let _second = serve(upstream.accept().await, "/none");
    let (head, body) = answered(&mut client).await;
    assert_eq!((head.status, &*body), (503, NOT_TAKEN));
    assert!(head.field("retry-after").is_some(), "{head:?}");

    let next = Upstream::start().await;
    let both = format!(
        "http://{}\", \"http://{}",
        upstream.authority(),
        next.authority()
    );
    let config = one_proxy(&both, LINES).replace("upstream = ", "upstream = [");
    let config = config.replace("\"\nupstream_http", "\"]\nupstream_http");
    let gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    client.send(post("/order", "a book")).await;
    let _first = serve(upstream.accept().await, "/none");
    let _second = serve(upstream.accept().await, "/none");
    let _third = serve(next.accept().await, "/");
    assert_eq!(answered(&mut client).await.1, "POST /order a book");
    // It rests.
    client.send(get("/next")).await;
    assert_eq!(answered(&mut client).await.1, "GET /next ");
}

#[tokio::test]
async fn who_allows_no_stream_is_not_waited_for() {
    let (upstream, _gateway, mut client) = world(LINES).await;
    let serving = Serving(tokio::spawn(async move {
        loop {
            let stream = upstream.accept().await;
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(0);
                let shaken = builder.handshake::<_, Bytes>(stream).await;
                let mut connection = shaken.expect("HTTP/2");
                // What comes all the same is refused.
                assert!(!matches!(connection.accept().await, Some(Ok(_))));
            });
        }
    }));
    for path in ["/first", "/second"] {
        client.send(get(path)).await;
        let (head, body) = answered(&mut client).await;
        assert_eq!((head.status, &*body), (503, NOT_TAKEN));
    }
    drop(serving);
}
