//! A client of the bare loop: a socket and a position in its channel.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::str;

use mio::net::TcpStream;

/// The head of every answer, and a first chunk like the one that the gateway sends.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\n\
    Transfer-Encoding: chunked\r\n\
    \r\n\
    c\r\nretry: 3000\n\r\n";

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    /// The request, until it is complete.
    request: Vec<u8>,
    /// The channel that it asked for.
    pub(super) channel: Option<usize>,
    /// Its place among the channel's members.
    pub(super) member: usize,
    /// The position up to which it has had the channel.
    pub(super) at: u64,
    /// Whether its socket took less than was due.
    pub(super) is_behind: bool,
}

/// How much of what was due the socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    All,
    Part,
}

impl Client {
    /// A client that has asked for nothing yet.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            request: Vec::new(),
            channel: None,
            member: 0,
            at: 0,
            is_behind: false,
        }
    }

    /// The socket, to register it.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what there is and answers a request that is complete with its head. Returns the channel
    /// when that has just happened.
    ///
    /// # Errors
    ///
    /// When the client has gone, or asked for something else.
    pub(super) fn read(&mut self) -> io::Result<Option<usize>> {
        let mut piece = [0; 2048];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.request.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.channel.is_some() || !self.request.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        self.channel = Some(parse_channel(&self.request).ok_or(ErrorKind::InvalidData)?);
        self.request = Vec::new();
        self.stream.write_all(HEAD)?; // into an empty buffer, so it fits
        Ok(self.channel)
    }

    /// Writes what is due until the socket takes no more.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub(super) fn write(&mut self, mut due: &[u8]) -> io::Result<Written> {
        while !due.is_empty() {
            match self.stream.write(due) {
                Ok(n) => {
                    self.at += n as u64;
                    due = &due[n..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Written::Part),
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }
}

/// Reads `GET /cN …`.
fn parse_channel(request: &[u8]) -> Option<usize> {
    str::from_utf8(request)
        .ok()?
        .strip_prefix("GET /c")?
        .split(' ')
        .next()?
        .parse()
        .ok()
}
