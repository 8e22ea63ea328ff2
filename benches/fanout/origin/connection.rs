//! One connection to the origin: a request, then an endless event stream.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::str;

use mio::net::TcpStream;

/// The head of every answer.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\n\
    Transfer-Encoding: chunked\r\n\
    \r\n";

/// Group and channel.
pub(super) type Address = (u32, u32);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// What it asked for, once that is known.
    pub(super) address: Option<Address>,
    /// What the socket has not yet taken.
    pending: Vec<u8>,
}

impl Connection {
    /// A connection that has said nothing yet.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            request: Vec::new(),
            address: None,
            pending: Vec::new(),
        }
    }

    /// Reads what there is. Returns the address when the request has just become complete.
    ///
    /// # Errors
    ///
    /// When the peer has gone.
    pub(super) fn read(&mut self) -> io::Result<Option<Address>> {
        let mut piece = [0; 2048];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.request.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.address.is_some() || !self.request.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        self.address = parse_address(&self.request);
        assert!(
            self.address.is_some(),
            "a request that is none of the bench's"
        );
        self.pending.extend_from_slice(HEAD);
        self.flush()?;
        Ok(self.address)
    }

    /// Where to append what is to be sent with the next [`flush`](Self::flush).
    pub(super) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// The socket, to register it.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Writes what the socket takes; the rest waits until it is writable.
    ///
    /// # Errors
    ///
    /// When the peer has gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let outcome = loop {
            if written == self.pending.len() {
                break Ok(());
            }
            match self.stream.write(&self.pending[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..written);
        outcome
    }
}

/// Reads `GET /gG/cN …`.
fn parse_address(request: &[u8]) -> Option<Address> {
    let target = str::from_utf8(request)
        .ok()?
        .strip_prefix("GET /g")?
        .split(' ')
        .next()?;
    let (group, channel) = target.split_once("/c")?;
    Some((group.parse().ok()?, channel.parse().ok()?))
}
