//! How long the first byte of a streamed answer takes: an origin that sends its answers in two parts,
//! and a client that notes when the first is there.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::clock;

/// An origin whose answers begin at once and end a little later. Its threads end with their
/// connections, the listener with the bench.
#[derive(Debug)]
pub(crate) struct Trickle {
    address: SocketAddr,
}

/// A client with a connection.
#[derive(Debug)]
pub(crate) struct Asking {
    connection: TcpStream,
    answer: Vec<u8>,
}

/// The two parts of an answer.
const BEGIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
    Transfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}\n\r\n";
const END: &[u8] = b"8\r\n{\"b\":2}\n\r\n0\r\n\r\n";

/// The time between them: who waits for the end before it passes on the begin is later by this.
const BETWEEN: Duration = Duration::from_millis(3);

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

impl Trickle {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || serve(connection));
            }
        });
        Self { address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Asking {
    /// Connects to a server.
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let connection = TcpStream::connect(server).unwrap();
        connection.set_nodelay(true).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            connection,
            answer: Vec::new(),
        }
    }

    /// Asks once; returns the nanoseconds until the first byte of the content was there.
    pub(crate) fn first_byte(&mut self) -> u64 {
        self.answer.clear();
        let started_at = clock::now();
        self.connection
            .write_all(b"GET /stream HTTP/1.1\r\nHost: bench.example\r\n\r\n")
            .unwrap();
        self.read_until(|answer| {
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
            head.is_some_and(|head| answer.len() > head + 4)
        });
        let time = clock::now() - started_at;
        self.read_until(|answer| answer.ends_with(b"\r\n0\r\n\r\n"));
        let text = String::from_utf8_lossy(&self.answer);
        assert!(
            text.starts_with("HTTP/1.1 200 ")
                && text.contains(r#"{"a":1}"#)
                && text.contains(r#"{"b":2}"#),
            "not the origin's answer: {text}"
        );
        time
    }

    fn read_until(&mut self, is_enough: impl Fn(&[u8]) -> bool) {
        let mut bytes = [0; 4096];
        while !is_enough(&self.answer) {
            let n = self.connection.read(&mut bytes).unwrap();
            assert!(n > 0, "cut: {}", String::from_utf8_lossy(&self.answer));
            self.answer.extend_from_slice(&bytes[..n]);
        }
    }
}

/// Answers what is asked on a connection until that ends.
fn serve(mut connection: TcpStream) {
    if connection.set_nodelay(true).is_err() {
        return;
    }
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match connection.read(&mut bytes) {
            Ok(n) if n > 0 => request.extend_from_slice(&bytes[..n]),
            _ => return,
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        if connection.write_all(BEGIN).is_err() {
            return;
        }
        clock::pause(BETWEEN);
        if connection.write_all(END).is_err() {
            return;
        }
    }
}
