//! Origins that compress their stream: what is flushed is delivered, and what is wrong is bounded.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use zstd_safe::zstd_sys::ZSTD_EndDirective::{self, ZSTD_e_end, ZSTD_e_flush};
use zstd_safe::{CCtx, InBuffer, OutBuffer};

use crate::support::{Answer, Gateway, Origin, OriginConnection, Subscriber, event_stream};

/// Reconnects soon, so that a test of many failures is short.
const SOON: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\n";

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// An origin's encoder, which flushes each piece.
enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(CCtx<'static>),
}

impl Encoder {
    fn of(coding: &str) -> Self {
        match coding {
            "br" => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                4,
                20,
            ))),
            "gzip" => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(6))),
            "zstd" => Self::Zstd(CCtx::create()),
            _ => panic!("a coding: {coding}"),
        }
    }

    fn flush(&mut self, piece: &[u8]) -> Vec<u8> {
        match self {
            Self::Brotli(encoder) => {
                encoder.write_all(piece).expect("memory");
                encoder.flush().expect("memory");
                std::mem::take(encoder.get_mut())
            }
            Self::Gzip(encoder) => {
                encoder.write_all(piece).expect("memory");
                encoder.flush().expect("memory");
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(context) => compress(context, piece, ZSTD_e_flush),
        }
    }

    fn end(self) -> Vec<u8> {
        match self {
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish().expect("memory"),
            Self::Zstd(mut context) => compress(&mut context, b"", ZSTD_e_end),
        }
    }
}

fn compress(context: &mut CCtx<'_>, piece: &[u8], end: ZSTD_EndDirective) -> Vec<u8> {
    let mut output = vec![0; piece.len() + 64 * 1024];
    let mut target = OutBuffer::around(output.as_mut_slice());
    let mut source = InBuffer::around(piece);
    let left = context.compress_stream2(&mut target, &mut source, end);
    assert_eq!((left, source.pos()), (Ok(0), piece.len()));
    let n = target.pos();
    output.truncate(n);
    output
}

fn compressed(coding: &str) -> Answer {
    let fields = format!("Content-Encoding: {coding}\r\nConnection: close\r\n");
    Answer::Raw(event_stream(&fields).into_bytes())
}

async fn clients(gateway: &Gateway) -> Vec<Subscriber> {
    let mut subs = Vec::new();
    for _ in 0..3 {
        subs.push(gateway.subscribe().await);
    }
    subs
}

async fn expect_all(subs: &mut [Subscriber], data: &str) {
    for sub in subs {
        sub.expect_event(data).await;
    }
}

#[tokio::test]
async fn events_come_when_the_origin_flushes_them() {
    for coding in CODINGS {
        for lines in ["", "coalesce = \"5ms\"\n"] {
            let origin = Origin::answering(compressed(coding)).await;
            let gateway = Gateway::with(&format!("{lines}{SOON}"), &origin).await;
            let mut subs = clients(&gateway).await;
            let mut encoder = Encoder::of(coding);
            for n in 1..=20 {
                let data = n.to_string().repeat(n * n);
                let event = format!("id: {n}\ndata: {data}\n\n");
                origin.send(encoder.flush(event.as_bytes())).await;
                expect_all(&mut subs, &data).await;
            }
            // Byte by byte, and as a flood.
            for byte in encoder.flush(b"id: 21\ndata: slow\n\n") {
                origin.send([byte]).await;
            }
            expect_all(&mut subs, "slow").await;
            let flood: String = (0..20_000).map(|n| format!("data: {n}\n\n")).collect();
            origin.send(encoder.flush(flood.as_bytes())).await;
            for sub in &mut subs {
                let events = sub.events_through("19999").await;
                let numbers = events.iter().map(|event| event.data.parse::<u32>());
                assert!(
                    numbers.eq((0..20_000).map(Ok)),
                    "{coding}: in order, each once"
                );
            }
            // The end of the coding and of the stream; the next one begins anew.
            origin.send(encoder.end()).await;
            origin.connection(1).await.close();
            let again = origin.connection(2).await;
            assert_eq!(again.request_field("Last-Event-ID"), Some("21"));
            gateway.logged(1, &["stream-ended"]).await;
            let mut encoder = Encoder::of(coding);
            again.send(encoder.flush(b"id: 22\ndata: again\n\n")).await;
            for sub in &mut subs {
                sub.events_through("again").await;
            }
        }
    }
}

#[tokio::test]
async fn compression_is_asked_for_where_it_is_wanted() {
    for (lines, asked) in [
        ("", "identity"),
        ("upstream_compression = true\n", "zstd, br, gzip"),
    ] {
        let origin = Origin::start().await;
        let _gateway = Gateway::with(lines, &origin).await;
        let connection = origin.connection(1).await;
        assert_eq!(connection.request_field("Accept-Encoding"), Some(asked));
    }
}

/// Says this on the first connection; asserts that it fails for this reason, and that all is well on
/// the next one, for every client.
async fn fails_once(lines: &str, coding: &str, said: &[u8], reason: &str) -> Gateway {
    let origin = Origin::answering(Answer::Nothing).await;
    let gateway = Gateway::with(&format!("{lines}{SOON}"), &origin).await;
    let mut subs = clients(&gateway).await;
    let first: OriginConnection = origin.connection(1).await;
    let mut encoder = Encoder::of("gzip");
    origin.answer_with(compressed("gzip"));
    let fields = format!("Content-Encoding: {coding}\r\nConnection: close\r\n");
    first.send_raw(event_stream(&fields)).await;
    // The gateway may close before it has read all.
    first.try_send_raw(said).await;
    first.close();
    let reason = format!("reason=\"{reason}\"");
    let line = gateway.logged(1, &["upstream failed", &reason]).await;
    assert!(line[0].contains("advice="), "{line:?}");
    let again = origin.connection(2).await;
    again.send(encoder.flush(b"id: 9\ndata: well\n\n")).await;
    for sub in &mut subs {
        let events = sub.events_through("well").await;
        let others = events.iter().filter(|event| event.data.contains("x"));
        assert_eq!(others.count(), 0, "{events:?}");
    }
    assert_eq!(origin.n_connections(), 2);
    gateway
}

#[tokio::test]
async fn what_is_not_what_its_coding_says_is_one_failure() {
    for coding in CODINGS {
        fails_once("", coding, b"data: x\n\ndata: x\n\n", "undecodable").await;
        let mut encoder = Encoder::of(coding);
        let cut = encoder.flush(b"id: 1\ndata: half an ev");
        fails_once("", coding, &cut, "undecodable").await;
        let mut broken = encoder.flush(&b"id: 1\ndata: x".repeat(50));
        for byte in &mut broken {
            *byte ^= 0x55;
        }
        fails_once("", coding, &broken, "undecodable").await;
    }
    fails_once("", "deflate", b"x", "unexpected-encoding").await;
    fails_once("", "gzip, br", b"x", "unexpected-encoding").await;
}

/// What expands a thousandfold meets the limits of a line like any other stream.
#[tokio::test]
async fn a_bomb_is_one_failure_and_no_memory() {
    for coding in CODINGS {
        let mut encoder = Encoder::of(coding);
        let zeros = vec![b'0'; 8 << 20];
        let bomb = [encoder.flush(b"data: "), encoder.flush(&zeros)].concat();
        assert!(bomb.len() < 256 * 1024, "{} bytes", bomb.len());
        let gateway = fails_once("", coding, &bomb, "limit-exceeded").await;
        let held = gateway.resident_bytes();
        assert!(held < 100 << 20, "{coding}: {held} bytes");
    }
}

/// Lines without an event are no line that is too long; they cost time, which others get, too.
#[tokio::test]
async fn a_flood_of_nothing_delays_nobody() {
    let origin = Origin::answering(compressed("gzip")).await;
    let quiet = Origin::start().await;
    let config = format!(
        "[server]\nthreads = 1\n[listen.public]\naddress = \"127.0.0.1:0\"\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\n\n\
         [channels.quiet]\npath = \"/quiet\"\nupstream = \"{}\"\n",
        origin.url(),
        quiet.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut subs = clients(&gateway).await;
    let mut other = gateway.connect().await.subscribe("/quiet", "").await;
    let mut encoder = Encoder::of("gzip");
    let nothing = encoder.flush(&vec![b'\n'; 3 << 20]);
    origin.send(&nothing).await;
    for n in 0..20 {
        quiet.send(format!("data: {n}\n\n")).await;
        other.expect_event(&n.to_string()).await;
    }
    origin.send(encoder.flush(b"data: after\n\n")).await;
    expect_all(&mut subs, "after").await;
}
