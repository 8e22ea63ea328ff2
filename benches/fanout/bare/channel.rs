//! A channel of the bare loop: an upstream connection and the bytes that some client still needs.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream as BlockingStream;

use mio::net::TcpStream;
use slab::Slab;

use super::client::Client;
use crate::load::chunks::Chunks;

/// Bytes that may lie in a log before it is worth a look at who needs them: few enough to stay in
/// the processor's cache, enough to make the look at every client's position rare.
const WORTH_A_LOOK: usize = 64 * 1024;

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    upstream: TcpStream,
    /// The origin's response head, until it is complete.
    head: Option<Vec<u8>>,
    pub(super) log: Log,
    /// Keys of its clients.
    pub(super) members: Vec<usize>,
}

impl Channel {
    /// Connects to the origin and asks for a channel.
    pub(super) fn connect(origin: SocketAddr, group: u32, number: u32) -> Self {
        let mut upstream = BlockingStream::connect(origin).expect("the origin does not listen");
        write!(
            upstream,
            "GET /g{group}/c{number} HTTP/1.1\r\nHost: {origin}\r\n\r\n"
        )
        .unwrap();
        upstream.set_nonblocking(true).unwrap();
        Self {
            upstream: TcpStream::from_std(upstream),
            head: Some(Vec::new()),
            log: Log::default(),
            members: Vec::new(),
        }
    }

    /// The socket, to register it.
    pub(super) fn upstream(&mut self) -> &mut TcpStream {
        &mut self.upstream
    }

    /// Takes what the upstream has. Returns the positions after each event that became whole.
    ///
    /// # Errors
    ///
    /// When the origin has gone.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> io::Result<Vec<u64>> {
        loop {
            match self.upstream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.take(&scratch[..n]);
                    if n < scratch.len() {
                        break; // what comes after this is announced anew
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.log.chunk_ends())
    }

    /// Lets everything up to a position go out.
    pub(super) fn release(&mut self, limit: u64) {
        self.log.limit = limit;
    }

    /// Adds a client, which gets what comes from now on.
    pub(super) fn join(&mut self, key: usize, client: &mut Client) {
        client.at = self.log.limit;
        client.member = self.members.len();
        self.members.push(key);
    }

    /// Drops the bytes that every client has had.
    pub(super) fn forget_delivered(&mut self, clients: &Slab<Client>) {
        if self.log.bytes.len() < self.log.next_look.max(WORTH_A_LOOK) {
            return;
        }
        let needed = self.members.iter().map(|key| clients[*key].at).min();
        self.log
            .forget(needed.unwrap_or(self.log.limit).min(self.log.limit));
    }

    fn take(&mut self, piece: &[u8]) {
        let Some(mut head) = self.head.take() else {
            self.log.bytes.extend_from_slice(piece);
            return;
        };
        head.extend_from_slice(piece);
        match head.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => self.log.bytes.extend_from_slice(&head[end + 4..]),
            None => self.head = Some(head),
        }
    }
}

/// The bytes of a channel from the first that somebody needs.
#[derive(Debug, Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    /// The position of the first of the bytes.
    start: u64,
    /// The position up to which bytes may go out: the end of an event.
    limit: u64,
    /// How many bytes there must be before the next look at who needs them, if that is more than
    /// `WORTH_A_LOOK`.
    next_look: usize,
}

impl Log {
    /// What a client at a position is due.
    pub(super) fn due(&self, at: u64) -> &[u8] {
        &self.bytes[self.offset(at)..self.offset(self.limit)]
    }

    /// The positions after the whole chunks beyond the limit.
    fn chunk_ends(&self) -> Vec<u64> {
        Chunks::new(&self.bytes[self.offset(self.limit)..])
            .map(|chunk| self.limit + chunk.expect("a malformed chunk of the origin").end as u64)
            .collect()
    }

    fn forget(&mut self, needed: u64) {
        self.bytes.drain(..self.offset(needed));
        self.start = needed;
        // Twice what is left, so that a client far behind doesn't cause a look at every event.
        self.next_look = 2 * self.bytes.len();
    }

    fn offset(&self, position: u64) -> usize {
        (position - self.start) as usize
    }
}
