//! Tunnels: what both ends of one really hear.

mod crowd;
mod ends;
mod goodbye;
mod http2;
mod opening;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{Backend, Line, one_proxy, world};
use crate::support::{Client, Gateway};

/// A request that offers a WebSocket, and whatever follows it.
fn offer(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The answer that switches.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Makes a tunnel of a client's connection; returns its other end.
async fn open(client: &mut Client, backend: &Backend) -> Line {
    client.send(offer("/chat")).await;
    let (mut line, _) = backend.asked().await;
    line.socket.send(SWITCH).await;
    assert_eq!(client.head().await.status, 101);
    line
}

/// A backend, a gateway in front of it whose goodbyes take so long, and a client.
async fn draining(drain: &str) -> (Backend, Gateway, Client) {
    let backend = Backend::start().await;
    let config = config_with_drain(&backend.url(), drain, "");
    let gateway = Gateway::with_config(&config).await;
    let client = gateway.connect().await;
    (backend, gateway, client)
}

/// The configuration of a proxy whose goodbyes take so long.
fn config_with_drain(upstream: &str, drain: &str, lines: &str) -> String {
    let drain = format!("[server]\ndrain = \"{drain}\"");
    one_proxy(upstream, lines).replace("[server]", &drain)
}

/// A tunnel through a gateway with these lines for its proxy.
async fn tunnel(lines: &str) -> (Backend, Gateway, Client, Line) {
    let (backend, gateway, mut client) = world(lines).await;
    let line = open(&mut client, &backend).await;
    (backend, gateway, client, line)
}

/// Reads a head, and nothing that follows it.
async fn take_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
}

/// A binary frame, masked as a client's or not.
fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    frame_of(0x82, payload, mask)
}

fn frame_of(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let length = u16::try_from(payload.len()).expect("a short payload");
    let mut bytes = vec![first];
    if let Ok(length @ 0..126) = u8::try_from(length) {
        bytes.push(bit | length);
    } else {
        bytes.push(bit | 126);
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(mask.iter().flatten());
    let keys = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(keys.iter().cycle()).map(|(b, k)| b ^ k));
    bytes
}

/// A frame: its first byte, and its payload without the mask.
type Frame = (u8, Vec<u8>);

/// The first frame, and what follows it.
fn split_frame(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        short => (usize::from(short), rest),
    };
    let (mask, rest) = if second & 0x80 == 0 {
        (&[0; 4], rest)
    } else {
        rest.split_first_chunk()?
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k);
    Some(((first, payload.collect()), rest))
}

/// All frames of what was heard, which must be whole.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Some((frame, rest)) = split_frame(bytes) else {
            panic!("{} bytes of no whole frame: {bytes:?}", bytes.len());
        };
        all.push(frame);
        bytes = rest;
    }
    all
}

/// Whether it is a Close of somebody who goes away.
fn goes_away((first, payload): &Frame) -> bool {
    *first == 0x88 && payload.starts_with(&1001_u16.to_be_bytes())
}
