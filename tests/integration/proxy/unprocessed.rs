//! Requests that an upstream of HTTP/2 says it has done nothing about (RFC 9113, 8.7), and upstreams that
//! take none.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::upstream_http2::Upstream;
use super::{answered, get, one_proxy};
use crate::support::{ANYWHERE, Admin, Client, Gateway, within};

const LINES: &str = "upstream_http = \"2\"\nresponse_timeout = \"1m\"";

/// The types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// `GOAWAY`: no stream was or will be processed, and nothing is wrong (6.8).
const NOTHING_PROCESSED: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// `SETTINGS`: nothing else than what they are by themselves.
const NO_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// `WINDOW_UPDATE`: room for a mebibyte more, on the connection and on its first stream (6.9).
const ROOM: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\x10\0\0\0\0\x04\x08\0\0\0\0\x01\0\x10\0\0";

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

/// Reads frames of the gateway, after the preface, through the first of this type; returns its length.
async fn read_through(stream: &mut TcpStream, wanted: u8) -> usize {
    let reading = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.expect("a payload");
            if head[3] == wanted {
                return payload.len();
            }
        }
    };
    let none = || format!("none of type {wanted}");
    within("a frame of the gateway", reading, none).await
}

/// A request that the gateway has sent on a connection that is byte by byte the test's.
async fn asked(upstream: &Upstream) -> TcpStream {
    let mut stream = upstream.accept().await;
    stream.write_all(NO_SETTINGS).await.expect("room");
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("a preface");
    read_through(&mut stream, HEADERS).await;
    stream
}

#[tokio::test]
async fn what_goaway_leaves_out_is_sent_again_with_its_content() {
    let (upstream, _gateway, mut client) = world(LINES).await;
    client.send(post("/order", "a book")).await;
    let mut first = asked(&upstream).await;
    first.write_all(NOTHING_PROCESSED).await.expect("room");
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
    first.write_all(NOTHING_PROCESSED).await.expect("room");
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
    first.write_all(ROOM).await.expect("room");
    client.send("x".repeat(200_000)).await;
    let mut n_taken = 0;
    while n_taken < 200_000 {
        n_taken += read_through(&mut first, DATA).await;
    }
    first.write_all(NOTHING_PROCESSED).await.expect("room");
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
