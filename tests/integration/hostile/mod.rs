//! What hostile, careless and unlucky clients do, many at a time: what it costs is bounded, and
//! everybody gets what follows what it had, or is told that it does not.

mod clock;
mod crowds;
mod eviction;
mod ids;
mod oversized;

use memchr::{memchr, memmem};

use crate::support::{Client, Gateway};

/// The numbers in what a client has got of an event stream: of whole events only, because the id comes
/// last. Nothing else is looked at, so that thousands can be.
fn numbers_in(bytes: &[u8]) -> Vec<usize> {
    let ids = memmem::find_iter(bytes, ID).filter_map(|at| {
        let rest = &bytes[at + ID.len()..];
        let end = memchr(b'\n', rest)?;
        let id = std::str::from_utf8(&rest[..end]).expect("text");
        Some(id.parse().expect("a number"))
    });
    ids.collect()
}

/// What comes before an id that is not alone.
const ID: &[u8] = b"\nid: ";

/// Asks for `/events`, with these header fields more.
async fn ask(client: &mut Client, fields: &str) {
    let request =
        format!("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n{fields}\r\n");
    client.send(request).await;
}

/// Reads until an event has the number `last` or the stream ends; the numbers of what came.
async fn numbers_through(client: &mut Client, last: usize) -> Vec<usize> {
    let mut bytes = Vec::new();
    let mark = format!("\nid: {last}\n");
    loop {
        let some = client.take_some(usize::MAX).await;
        let n_looked_at = bytes.len().saturating_sub(mark.len());
        bytes.extend_from_slice(&some);
        if some.is_empty() || memmem::find(&bytes[n_looked_at..], mark.as_bytes()).is_some() {
            return numbers_in(&bytes);
        }
    }
}

/// Asserts that the gateway is as ever: it runs, and nothing in it has panicked.
fn assert_sound(gateway: &mut Gateway) {
    assert!(gateway.is_running());
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
