//! What HTTP/2 connections send that is not as it should be, and what they may have at most.

use crate::support::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, NO_ERROR,
    NO_SETTINGS, PREFACE, REFUSED_STREAM, RST_STREAM, SETTINGS, STATUS_200, STATUS_400,
    WINDOW_UPDATE, encode, greeting,
};
use crate::support::{Client, End, Gateway, Http2, Origin, one_channel};

/// A request for `/events`, without a body.
fn request(stream: u32) -> Vec<u8> {
    request_with(END_HEADERS | END_STREAM, stream)
}

/// A request for `/events`, with these flags.
fn request_with(flags: u8, stream: u32) -> Vec<u8> {
    // GET, http, and literals that are indexed nowhere (RFC 7541, appendix A and 6.2.2).
    let mut fields = vec![0x82, 0x86, 0x04, 7];
    fields.extend_from_slice(b"/events");
    fields.extend([0x01, 1, b'a']);
    // accept
    fields.extend([0x0f, 4, 17]);
    fields.extend_from_slice(b"text/event-stream");
    encode((HEADERS, flags, stream), &fields)
}

fn reset(stream: u32) -> Vec<u8> {
    encode((RST_STREAM, 0, stream), &CANCEL.to_be_bytes())
}

/// A connection that has sent its preface and then these bytes.
async fn speak(gateway: &Gateway, bytes: &[u8]) -> Client {
    let mut client = gateway.connect().await;
    client.send([&greeting(), bytes].concat()).await;
    client
}

/// A gateway whose HTTP/2 connections have these settings.
async fn with_http2(settings: &str, origin: &Origin) -> Gateway {
    let server = format!("[server]\nhttp2 = {{ {settings} }}\n");
    Gateway::with_config(&(server + &one_channel(&origin.url(), ""))).await
}

// --- limits ---

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_stay() {
    let origin = Origin::start().await;
    let gateway = with_http2("max_concurrent_streams = 2", &origin).await;
    let requests = [request(1), request(3), request(5)].concat();
    let mut client = speak(&gateway, &requests).await;
    let refused = Frame::next_of(&mut client, RST_STREAM).await;
    assert_eq!((refused.stream, refused.error()), (5, REFUSED_STREAM));
    // A place that is given back can be had.
    client.send([reset(1), request(7)].concat()).await;
    while Frame::next_of(&mut client, HEADERS).await.stream != 7 {}
}

/// A client that keeps its window shut must not keep what the gateway has ended, nor what it refuses.
#[tokio::test]
async fn a_stream_that_may_not_send_is_reset_when_it_ends() {
    // SETTINGS_INITIAL_WINDOW_SIZE = 0 (RFC 9113, 6.5.2).
    let no_window = encode((SETTINGS, 0, 0), &[0, 4, 0, 0, 0, 0]);
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"64KiB\" }\nmax_subscribers = 2";
    let gateway = Gateway::with(keys, &origin).await;
    let mut reader = gateway.subscribe().await;
    let mut client = speak(&gateway, &[no_window, request(1)].concat()).await;
    Frame::next_of(&mut client, HEADERS).await;
    // There is no place for it.
    client.send(request(3)).await;
    let refused = Frame::next_of(&mut client, RST_STREAM).await;
    assert_eq!((refused.stream, refused.error()), (3, CANCEL));
    let data = "x".repeat(1000);
    for _ in 0..200 {
        origin.send(format!("data: {data}\n\n")).await;
        reader.expect_event(&data).await;
    }
    let cut = Frame::next_of(&mut client, RST_STREAM).await;
    assert_eq!((cut.stream, cut.error()), (1, CANCEL));
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_and_no_other() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut standing = gateway.subscribe().await;
    let mut flood = Vec::new();
    for n in 0..5_000 {
        flood.extend(request(2 * n + 1));
        flood.extend(reset(2 * n + 1));
    }
    let mut client = gateway.connect().await;
    // It may be closed in the middle of it.
    let sent = client.try_send([greeting(), flood].concat()).await;
    if sent.is_ok() {
        let goaway = Frame::next_of(&mut client, GOAWAY).await;
        assert_eq!(goaway.error(), ENHANCE_YOUR_CALM, "{goaway:?}");
    }
    origin.send("data: a\n\n").await;
    standing.expect_event("a").await;
    let memory = gateway.resident_bytes();
    assert!(memory < 64 * 1024 * 1024, "{} KiB", memory / 1024);
}

#[tokio::test]
async fn streams_that_break_the_rules_end_the_connection_when_they_are_many() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    // An increment of nothing is an error of the stream (RFC 9113, 6.9).
    let mut flood = Vec::new();
    for n in 0..2_000 {
        flood.extend(request(2 * n + 1));
        flood.extend(encode((WINDOW_UPDATE, 0, 2 * n + 1), &[0; 4]));
    }
    let mut client = gateway.connect().await;
    let sent = client.try_send([greeting(), flood].concat()).await;
    if sent.is_ok() {
        let goaway = Frame::next_of(&mut client, GOAWAY).await;
        assert_ne!(goaway.error(), NO_ERROR, "{goaway:?}");
    }
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn header_fields_that_are_too_large_are_refused_and_siblings_stay() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sibling = client.subscribe().await;
    let large = "x".repeat(20_000);
    let fields = [("x-large", large.as_str())];
    match client.try_request("GET", "/events", &fields).await {
        Ok((head, _)) => assert_eq!(head.status, 431),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    origin.send("data: a\n\n").await;
    sibling.expect_event("a").await;
}

#[tokio::test]
async fn a_connection_without_a_stream_is_closed_after_a_while() {
    let origin = Origin::start().await;
    let gateway = with_http2("idle_timeout = \"200ms\"", &origin).await;
    let mut idle = Http2::connect(&gateway).await;
    assert_eq!(idle.ended().await, Ok(()));
    // One with a stream is not: longer than the timeout later it still gets events.
    let mut busy = Http2::connect(&gateway).await;
    let mut sub = busy.subscribe().await;
    let mut other = Http2::connect(&gateway).await;
    assert_eq!(other.ended().await, Ok(()));
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    drop(sub);
    assert_eq!(busy.ended().await, Ok(()));
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_ping_is_given_up() {
    let origin = Origin::start().await;
    let settings = "ping_interval = \"1s\", ping_timeout = \"200ms\"";
    let gateway = with_http2(settings, &origin).await;
    let mut client = speak(&gateway, &request(1)).await;
    let (_, end) = client.rest().await;
    assert!(matches!(end, End::Cut | End::Reset), "{end:?}");
    gateway.logged(1, &["a subscriber left"]).await;
}

#[tokio::test]
async fn a_request_with_a_body_is_refused_and_siblings_stay() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = speak(&gateway, &request(1)).await;
    assert_eq!(
        Frame::next_of(&mut client, HEADERS).await.payload[0],
        STATUS_200
    );
    let body = encode((DATA, 0, 3), &[b'x'; 1000]);
    client
        .send([request_with(END_HEADERS, 3), body].concat())
        .await;
    let refused = Frame::next_of(&mut client, HEADERS).await;
    assert_eq!((refused.stream, refused.payload[0]), (3, STATUS_400));
    while Frame::next_of(&mut client, DATA).await.stream != 3 {}
    origin.send("data: a\n\n").await;
    loop {
        // Its prologue may come first.
        let piece = Frame::next_of(&mut client, DATA).await;
        if piece.stream == 1 && piece.payload.starts_with(b"data: a\n") {
            break;
        }
    }
}

// --- first bytes ---

#[tokio::test]
async fn a_preface_may_come_byte_by_byte() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    for byte in PREFACE.iter().chain(NO_SETTINGS) {
        client.send([*byte]).await;
    }
    client.send(request(1)).await;
    assert_eq!(Frame::next_of(&mut client, HEADERS).await.stream, 1);
}

#[tokio::test]
async fn http_1_requests_that_begin_like_a_preface_are_answered() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for (request, status) in [
        (
            "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            405,
        ),
        ("PRI /events HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            "PUT /other HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            404,
        ),
        ("PRI * HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    ] {
        let mut client = gateway.connect().await;
        for byte in request.bytes() {
            client.send([byte]).await;
        }
        assert_eq!(client.head().await.status, status, "{request:?}");
    }
}

#[tokio::test]
async fn a_preface_that_stops_half_way_is_given_up_in_time() {
    let origin = Origin::start().await;
    let config = format!(
        "[server]\nheader_timeout = \"200ms\"\n{}",
        one_channel(&origin.url(), "")
    );
    let gateway = Gateway::with_config(&config).await;
    for n in [0, 1, 10, PREFACE.len() - 1] {
        let mut client = gateway.connect().await;
        client.send(&PREFACE[..n]).await;
        let (bytes, _) = client.rest().await;
        assert_eq!(bytes, b"", "after {n} bytes");
    }
}

#[tokio::test]
async fn garbage_after_a_preface_ends_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for garbage in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[0; 64]] {
        let mut client = gateway.connect().await;
        client.send([PREFACE, garbage].concat()).await;
        client.rest().await;
    }
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}
