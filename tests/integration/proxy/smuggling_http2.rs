//! The same over HTTP/2, where a field can hold anything: frame by frame.

use super::smuggling::World;
use crate::support::Client;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, STATUS_200, encode, greeting,
};

type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ok,
    /// Another status, or the stream or the connection is ended.
    Refused,
}

/// A frame of the one stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    encode((kind, flags, 1), payload)
}

/// Literals that are indexed nowhere (RFC 7541, 6.2.2).
fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len())
                .ok()
                .filter(|length| *length < 0x7f);
            block.push(length.expect("a short text"));
            block.extend_from_slice(text);
        }
    }
    block
}

/// A request of these fields, with a content if there is any, and trailer fields if there are any.
fn request(fields: Fields<'_>, content: &[u8], trailers: Fields<'_>) -> Vec<u8> {
    let has_more = !content.is_empty() || !trailers.is_empty();
    let flags = if has_more {
        END_HEADERS
    } else {
        END_HEADERS | END_STREAM
    };
    let mut bytes = frame(HEADERS, flags, &block(fields));
    if !content.is_empty() {
        let flags = if trailers.is_empty() { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, flags, content));
    }
    if !trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, &block(trailers)));
    }
    bytes
}

/// Sends a request on a connection of its own, and waits for what becomes of it.
async fn ask(world: &World, bytes: &[u8]) -> Answer {
    let mut client: Client = world.gateway.connect().await;
    client.send([&greeting(), bytes].concat()).await;
    let mut answer = None;
    loop {
        let frame = Frame::next(&mut client).await;
        match frame.kind {
            HEADERS if answer.is_none() && frame.payload.contains(&STATUS_200) => {
                answer = Some(Answer::Ok);
            }
            HEADERS if answer.is_none() => return Answer::Refused,
            RST_STREAM | GOAWAY => return Answer::Refused,
            _ => {}
        }
        if frame.ends_stream() {
            return answer.unwrap_or(Answer::Refused);
        }
    }
}

/// Pseudo-header fields of an ordinary request with this method.
fn pseudo(method: &'static [u8]) -> Vec<(&'static [u8], &'static [u8])> {
    vec![
        (b":method", method),
        (b":scheme", b"http"),
        (b":authority", b"a.example"),
        (b":path", b"/x"),
    ]
}

async fn refuses(world: &World, fields: Fields<'_>, content: &[u8], trailers: Fields<'_>) {
    let shown: Vec<_> = fields
        .iter()
        .chain(trailers)
        .map(|(name, value)| {
            (
                name.escape_ascii().to_string(),
                value.escape_ascii().to_string(),
            )
        })
        .collect();
    let answer = ask(world, &request(fields, content, trailers)).await;
    assert_eq!(answer, Answer::Refused, "{shown:?}");
    let seen = world.seen().await;
    assert!(seen.is_empty(), "{shown:?}: {seen:?}");
}

#[tokio::test]
async fn a_field_that_http1_can_not_carry_goes_nowhere() {
    let world = World::new().await;
    for (name, value) in [
        (&b"x"[..], &b"a\r\nX-Smuggled: y"[..]),
        (b"x", b"a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"x", b"a\nX-Smuggled: y"),
        (b"x", b"a\rX-Smuggled: y"),
        (b"x", b"a\0b"),
        (b"x", b"\x7f"),
        (b"cookie", b"a=1\r\nX-Smuggled: y"),
        (b"x-forwarded-for", b"1.1.1.1\r\nX-Smuggled: y"),
        (b"x\r\nx-smuggled", b"y"),
        (b"x: y\r\nx-smuggled", b"y"),
        (b"x\n", b"y"),
        (b"x\0", b"y"),
        (b"x y", b"z"),
        (b"x:", b"y"),
        (b"", b"y"),
        (b"X", b"y"),
        (b"Transfer-Encoding", b"chunked"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"connection", b"keep-alive"),
        (b"keep-alive", b"timeout=9"),
        (b"proxy-connection", b"keep-alive"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"host", b"b.example"),
        (b":x", b"y"),
        (b":path", b"/y"),
        (b":status", b"200"),
    ] {
        let mut fields = pseudo(b"GET");
        fields.push((name, value));
        refuses(&world, &fields, b"", &[]).await;
    }
}

#[tokio::test]
async fn a_target_that_http1_can_not_carry_goes_nowhere() {
    let world = World::new().await;
    for (name, value) in [
        (&b":path"[..], &b"/x HTTP/1.1\r\nX-Smuggled: y\r\nX:"[..]),
        (b":path", b"/x y"),
        (b":path", b"/x\ty"),
        (b":path", b"/x\0"),
        (b":path", b"/x\ny"),
        (b":path", b""),
        (b":path", b"x"),
        (b":path", b"http://b.example/"),
        (b":path", b"*"),
        (b":path", b"/../x"),
        (b":path", b"/%2e%2e%2fx"),
        (b":method", b"GET /admin HTTP/1.1\r\nX:"),
        (b":method", b"GET /admin"),
        (b":method", b""),
        (b":method", b"TRACE"),
        (b":method", b"CONNECT"),
        (b":authority", b"a\r\nX-Smuggled: y"),
        (b":authority", b"a b"),
        (b":authority", b"a/b"),
        (b":authority", b"user@a"),
        (b":authority", b"a\0"),
        (b":authority", b"a,b"),
        (b":authority", b"a:x"),
        (b":authority", b""),
        (b":scheme", b"http\r\nX-Smuggled: y"),
        (b":scheme", b"http://b.example/x?"),
        (b":scheme", b"ftp"),
        (b":scheme", b""),
    ] {
        let mut fields = pseudo(b"GET");
        for field in &mut fields {
            if field.0 == name {
                field.1 = value;
            }
        }
        refuses(&world, &fields, b"", &[]).await;
    }
    for missing in [&b":method"[..], b":scheme", b":path"] {
        let mut fields = pseudo(b"GET");
        fields.retain(|(name, _)| *name != missing);
        refuses(&world, &fields, b"", &[]).await;
    }
    let mut fields = pseudo(b"GET");
    fields.insert(0, (b"x", b"y"));
    refuses(&world, &fields, b"", &[]).await;
}

#[tokio::test]
async fn a_length_that_is_not_that_of_the_content_goes_nowhere() {
    let world = World::new().await;
    for (lengths, content) in [
        (&[&b"5"[..]][..], &b""[..]),
        (&[b"5"], b"hell"),
        (&[b"5"], b"hello!"),
        (&[b"5", b"6"], b"hello"),
        (&[b"6", b"5"], b"hello"),
        (&[b"5, 5"], b"hello"),
        (&[b"+5"], b"hello"),
        (&[b"-5"], b"hello"),
        (&[b"5 "], b"hello"),
        (&[b"0x5"], b"hello"),
        (&[b""], b"hello"),
        (&[b"99999999999999999999"], b"hello"),
    ] {
        let mut fields = pseudo(b"POST");
        fields.extend(
            lengths
                .iter()
                .map(|length| (&b"content-length"[..], *length)),
        );
        refuses(&world, &fields, content, &[]).await;
    }
    // What has no content is whole when its head is: what follows is none of it.
    let mut fields = pseudo(b"POST");
    fields.push((b"content-length", b"0"));
    let _answer = ask(&world, &request(&fields, b"hello", &[])).await;
    let seen = world.seen().await;
    assert!(seen.iter().all(|one| one.content.is_empty()), "{seen:?}");
}

#[tokio::test]
async fn what_is_right_is_one_request_whatever_it_looks_like() {
    let world = World::new().await;
    let content = b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut with_length = pseudo(b"POST");
    let length = content.len().to_string();
    with_length.push((b"content-length", length.as_bytes()));
    with_length.push((b"host", b"a.example"));
    for (fields, framing) in [
        (&with_length, ("content-length", &*length)),
        (&pseudo(b"POST"), ("transfer-encoding", "chunked")),
        (&pseudo(b"GET"), ("transfer-encoding", "chunked")),
    ] {
        assert_eq!(
            ask(&world, &request(fields, content, &[])).await,
            Answer::Ok
        );
        let seen = world.seen().await;
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].content, content);
        assert_eq!(seen[0].fields(framing.0), [framing.1]);
        assert_eq!(seen[0].fields("host"), ["a.example"]);
    }
}

#[tokio::test]
async fn trailers_that_change_something_do_not_go_on() {
    let world = World::new().await;
    let mut fields = pseudo(b"POST");
    fields.push((b"trailer", b"x-sum, host, x-forwarded-for"));
    let trailers: Fields<'_> = &[
        (b"x-sum", b"7"),
        (b"host", b"evil.example"),
        (b"content-length", b"40"),
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"authorization", b"Bearer evil"),
    ];
    assert_eq!(
        ask(&world, &request(&fields, b"hello", trailers)).await,
        Answer::Ok
    );
    let seen = world.seen().await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        (&seen[0].content[..], &seen[0].trailers[..]),
        (&b"hello"[..], &["x-sum: 7".to_owned()][..])
    );
    for trailers in [
        &[(&b"x-sum"[..], &b"7\r\nX-Smuggled: y"[..])][..],
        &[(b"transfer-encoding", b"chunked")],
        &[(b"connection", b"close")],
    ] {
        refuses(&world, &fields, b"hello", trailers).await;
    }
    // One of a request's beginning is none here.
    let trailers: Fields<'_> = &[(b":path", b"/y")];
    let _answer = ask(&world, &request(&fields, b"hello", trailers)).await;
    for seen in world.seen().await {
        assert_eq!(
            (seen.line(), &seen.trailers[..]),
            ("POST /x HTTP/1.1", &[][..])
        );
    }
}
