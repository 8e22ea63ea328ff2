//! Requests in which one reader sees another request than the next: what reaches the backend is exactly
//! the one that was meant, or nothing.

use super::one_proxy;
use super::recorder::{Fault, Recorder, Seen};
use crate::support::{Client, Gateway};

/// A backend that writes down what it sees, and a gateway in front of it.
pub(super) struct World {
    pub(super) backend: Recorder,
    pub(super) gateway: Gateway,
}

/// What a client and the backend saw of some bytes.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The statuses of the answers.
    pub(super) statuses: Vec<u16>,
    /// The whole requests that reached the backend.
    pub(super) seen: Vec<Seen>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    /// A world whose proxy has these lines in its table; other tables may follow.
    pub(super) async fn with(lines: &str) -> Self {
        let backend = Recorder::start().await;
        let gateway = Gateway::with_config(&one_proxy(backend.url(), lines)).await;
        Self { backend, gateway }
    }

    /// Sends these bytes on a connection of their own, reads what the gateway says until it closes it,
    /// and asks something harmless: whatever reaches the backend has reached it by then.
    pub(super) async fn outcome(&self, bytes: &[u8]) -> Outcome {
        let mut client = self.gateway.connect().await;
        // The gateway may have closed the connection before the last byte.
        let _sent = client.try_send(bytes).await;
        let (answers, _) = client.rest().await;
        let statuses = statuses(&answers);
        Outcome {
            statuses,
            seen: self.seen().await,
        }
    }

    /// What has reached the backend.
    pub(super) async fn seen(&self) -> Vec<Seen> {
        let sentinel = "GET /sentinel HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n";
        let mut client = self.gateway.connect().await;
        client.send(sentinel).await;
        let (answer, _) = client.rest().await;
        assert_eq!(
            statuses(&answer),
            [200],
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let mut seen = self.backend.take();
        let n_before = seen.len();
        seen.retain(|one| one.line() != "GET /sentinel HTTP/1.1");
        assert_eq!(
            seen.len() + 1,
            n_before,
            "one sentinel, untouched: {seen:?}"
        );
        for one in &seen {
            assert!(!matches!(one.fault, Some(Fault::Wrong(_))), "{one:?}");
        }
        // Of a request that was cut off, nobody does anything.
        seen.retain(|one| one.fault.is_none());
        seen
    }

    /// Asserts that nothing of these bytes reaches the backend as a request, and that the client is
    /// refused.
    pub(super) async fn refuses(&self, bytes: &[u8]) {
        let outcome = self.outcome(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert!(outcome.seen.is_empty(), "{shown:?}: {outcome:?}");
        let is_refusal = |status: &u16| matches!(status, 400 | 414 | 431 | 501);
        assert!(
            outcome.statuses.len() <= 1 && outcome.statuses.iter().all(is_refusal),
            "{shown:?}: {outcome:?}"
        );
    }

    /// Asserts that these bytes are one request, which the backend sees and whose answer the client
    /// gets; returns it.
    pub(super) async fn passes(&self, bytes: &[u8]) -> Seen {
        let mut outcome = self.outcome(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert!(
            outcome.seen.len() == 1 && outcome.statuses == [200],
            "{shown:?}: {outcome:?}"
        );
        outcome.seen.remove(0)
    }
}

/// The statuses of answers, of which none has a head in its content.
fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let heads = text.split("HTTP/1.1 ").skip(1);
    let statuses = heads.map(|head| head.get(..3).unwrap_or_default().parse());
    statuses.map(|status| status.expect("a status")).collect()
}

/// A `POST` with these field lines and this content, after which the connection ends.
fn post(fields: &[u8], content: &[u8]) -> Vec<u8> {
    let line: &[u8] = b"POST /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n";
    [line, fields, b"\r\n\r\n", content].concat()
}

/// What somebody would like to have taken for a request of its own.
const SMUGGLED: &[u8] = b"GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n";

// --- lengths ---

#[tokio::test]
async fn a_length_that_is_none_goes_nowhere() {
    let world = World::new().await;
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-length: 05\r\nContent-Length: 40",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 5.0",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5;",
        "Content-Length: \"5\"",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999999999",
    ] {
        world
            .refuses(&post(
                fields.as_bytes(),
                b"helloGET /admin HTTP/1.1\r\n\r\n",
            ))
            .await;
    }
}

#[tokio::test]
async fn a_transfer_coding_is_chunked_or_goes_nowhere() {
    let world = World::new().await;
    for fields in [
        &b"Transfer-Encoding: xchunked"[..],
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: chun ked",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: \x0cchunked",
        b"Transfer-Encoding: chunked\x00",
        b"Transfer-Encoding: \xa0chunked",
        b"Transfer-Encoding: \x85chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding\x0b: chunked",
        b"\x00Transfer-Encoding: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"X: y\r\n\tTransfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\x00\r\nTransfer-Encoding: chunked",
        b"X\r\nTransfer-Encoding: chunked",
        b": y\r\nTransfer-Encoding: chunked",
        b"X Y: z\r\nTransfer-Encoding: chunked",
    ] {
        for length in [&b""[..], b"\r\nContent-Length: 5"] {
            let fields = [fields, length].concat();
            world
                .refuses(&post(&fields, &[b"0\r\n\r\n", SMUGGLED].concat()))
                .await;
        }
    }
    let old = b"POST /x HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    world.refuses(&[old, SMUGGLED].concat()).await;
}

#[tokio::test]
async fn a_length_beside_chunks_means_nothing_and_nothing_follows() {
    let world = World::new().await;
    for fields in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\nContent-Length: 6",
        "Content-Length: 44\r\nTransfer-Encoding: Chunked",
    ] {
        // By the chunks it ends before the smuggled one; by the length, within or after it.
        let text = format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n\r\n0\r\n\r\n");
        let seen = world.passes(&[text.as_bytes(), SMUGGLED].concat()).await;
        assert_eq!(
            (seen.line(), &seen.content[..]),
            ("POST /x HTTP/1.1", &b""[..])
        );
        assert!(seen.fields("content-length").len() <= 1, "{seen:?}");
        // And the other way round: it is all content.
        let text = format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n\r\n");
        let size = format!("{:x}\r\n", SMUGGLED.len());
        let bytes = [text.as_bytes(), size.as_bytes(), SMUGGLED, b"\r\n0\r\n\r\n"].concat();
        let seen = world.passes(&bytes).await;
        assert_eq!(seen.content, SMUGGLED, "{seen:?}");
        assert_eq!(seen.fields("transfer-encoding"), ["chunked"]);
    }
}

/// A content that is `hello`, or nothing; and by which field the backend is told how long it is.
const CONTENTS: [(&str, &str, &str); 16] = [
    ("Content-Length: 5", "hello", "content-length: 5"),
    (
        "Content-Length: 5\r\nContent-Length: 5",
        "hello",
        "content-length: 5",
    ),
    ("Content-Length: 0005", "hello", "content-length: 5"),
    ("Content-Length:\t5 ", "hello", "content-length: 5"),
    ("Content-Length: 0", "", "content-length: 0"),
    (
        "Content_Length: 40\r\nContent-Length: 5",
        "hello",
        "content-length: 5",
    ),
    (
        "Transfer_Encoding: chunked\r\nContent-Length: 5",
        "hello",
        "content-length: 5",
    ),
    (
        "X-Transfer-Encoding: chunked\r\nContent-Length: 5",
        "hello",
        "content-length: 5",
    ),
    (
        "Content-Length: 5\r\nConnection: content-length",
        "hello",
        "content-length: 5",
    ),
    (
        CHUNKED,
        "5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    (
        "Transfer-Encoding: CHUNKED",
        "5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    (
        "Transfer-Encoding:\tchunked\t",
        "5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    (
        "tRANSFER-eNCODING:chunked",
        "5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    // Sizes and extensions that are allowed, of which nothing goes on.
    (
        CHUNKED,
        "005;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    (
        CHUNKED,
        "2\r\nhe\r\n3 \r\nllo\r\n000\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    (
        "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
        "5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked",
    ),
];

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[tokio::test]
async fn a_content_is_what_was_meant_and_its_length_is_said_anew() {
    let world = World::new().await;
    for (fields, content, expected) in CONTENTS {
        let seen = world
            .passes(&post(fields.as_bytes(), content.as_bytes()))
            .await;
        let content: &[u8] = if content.is_empty() { b"" } else { b"hello" };
        assert_eq!(seen.content, content, "{fields:?}: {seen:?}");
        let (name, value) = expected.split_once(": ").expect("a field");
        assert_eq!(seen.fields(name), [value], "{fields:?}: {seen:?}");
        let head = seen.head.to_ascii_lowercase();
        assert!(
            !head.contains("_encoding") && !head.contains("content_length"),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_request() {
    let world = World::new().await;
    for content in [
        &b"5\nhello\n0\n\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b";x\r\nhello\r\n0\r\n\r\n",
        b"5;x\nhello\r\n0\r\n\r\n",
        b"5;x\ny\r\nhello\r\n0\r\n\r\n",
        b"5;x\rhello\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\n",
        b"5\r\nhello\r\n0\r\n\rX",
        b"5\r\nhello\r\n0\r\nX: y\nZ\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX\x00: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\n Transfer-Encoding: x\r\n\r\n",
    ] {
        let outcome = world
            .outcome(&post(
                b"Transfer-Encoding: chunked",
                &[content, SMUGGLED].concat(),
            ))
            .await;
        let shown = String::from_utf8_lossy(content);
        assert!(outcome.seen.is_empty(), "{shown:?}: {outcome:?}");
        assert!(!outcome.statuses.contains(&200), "{shown:?}: {outcome:?}");
    }
    let extension = [b"5;", &[b'x'; 20_000][..], b"\r\nhello\r\n0\r\n\r\n"].concat();
    let outcome = world
        .outcome(&post(b"Transfer-Encoding: chunked", &extension))
        .await;
    assert!(outcome.seen.is_empty(), "{outcome:?}");
}

// --- lines ---

#[tokio::test]
async fn lines_are_what_they_are_or_go_nowhere() {
    let world = World::new().await;
    for bytes in [
        &b"GET /x HTTP/1.1\r\nHost: a\rX: y\r\nConnection: close\r\n\r\n"[..],
        b"GET /x\rX HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\rHost: a\r\nConnection: close\r\n\r\n",
        b"GET  /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET\t/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1 \r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x\x00 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/2.0\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"G\x00ET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\n Host: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nX: y\r\n z\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX: \x01\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX: \x7f\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX\xe9: y\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX(: y\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX@y: z\r\nConnection: close\r\n\r\n",
    ] {
        world.refuses(bytes).await;
    }
    // What is allowed to be read is written as it should be.
    for bytes in [
        &b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..],
        b"\n\nGET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: a\nConnection: close\n\n",
        b"GET /x HTTP/1.1\r\nHost: a\nConnection: close\r\n\n",
        b"GET /x HTTP/1.1\r\nHost:a\r\nConnection:close\r\n\r\n",
    ] {
        let seen = world.passes(bytes).await;
        assert_eq!(
            (seen.line(), seen.fields("host")),
            ("GET /x HTTP/1.1", vec!["a"])
        );
        assert!(seen.content.is_empty(), "{seen:?}");
    }
}

#[tokio::test]
async fn requests_in_a_row_are_as_many_as_they_are() {
    let world = World::new().await;
    let first =
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nGET /no HTTP/1.1\r\n\r\n..";
    let second = "POST /2 HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nGET\r\n0\r\n\r\n";
    let third = "GET /3 HTTP/1.1\r\nHost: c\r\nContent-Length: 4\r\n\r\nGET ";
    let last =
        "GET /4 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\nHost: e\r\n\r\n";
    let outcome = world
        .outcome([first, second, third, last].concat().as_bytes())
        .await;
    assert_eq!(outcome.statuses, [200; 4]);
    let seen: Vec<(&str, &str, &[u8])> = outcome
        .seen
        .iter()
        .map(|one| (one.line(), one.fields("host")[0], &one.content[..]))
        .collect();
    assert_eq!(
        seen,
        [
            ("POST /1 HTTP/1.1", "a", &b"GET /no HTTP/1.1\r\n\r\n.."[..]),
            ("POST /2 HTTP/1.1", "b", b"GET"),
            ("GET /3 HTTP/1.1", "c", b"GET "),
            ("GET /4 HTTP/1.1", "d", b""),
        ]
    );
}

#[tokio::test]
async fn what_a_client_does_not_send_of_its_content_nobody_else_completes() {
    let world = World::new().await;
    let mut client: Client = world.gateway.connect().await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello")
        .await;
    drop(client);
    let seen = world.seen().await;
    assert!(seen.is_empty(), "{seen:?}");
    // Also where the client has said that there is no more.
    let mut client = world.gateway.connect().await;
    client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        .await;
    client.finish_sending().await;
    let (answer, _) = client.rest().await;
    assert!(!statuses(&answer).contains(&200), "{answer:?}");
    let seen = world.seen().await;
    assert!(seen.is_empty(), "{seen:?}");
}
