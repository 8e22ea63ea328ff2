//! One subscriber: a socket, all that it received in a window, and when.

use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::io::Errno;
use rustls::ClientConfig;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

use super::LoadArguments;
use super::faults::Faults;
use super::latency::Latencies;
use super::stream::Stream;
use super::verify;
use super::verify::Expected;
use crate::clock;

/// Room for a read beyond what is expected.
const SPARE: usize = 4 * 1024;

/// A subscriber.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    pub(super) channel: u32,
    pub(super) state: State,
    /// What it received, from the first byte of the body on, and then room that is already in
    /// memory: reading must neither clear nor map pages while it is timed.
    buffer: Vec<u8>,
    n_received: usize,
    /// When each read of the window ended.
    arrivals: Vec<Arrival>,
}

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for the connection.
    Connecting,
    /// Waits for the answer.
    Asked,
    /// Has the head of a 200 and the first byte of its body.
    Ready,
    /// Was refused, or closed, or answered with another status.
    Lost,
}

/// The end of a read.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// How many bytes the client had then.
    n_received: usize,
    at: u64,
}

impl Client {
    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// When there is no socket to be had, or the server is known not to listen.
    pub(super) fn connect(
        arguments: &LoadArguments,
        tls: Option<&Arc<ClientConfig>>,
        channel: u64,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(arguments.server), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // Closing resets, so that ten thousand ports don't stay in TIME_WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(size) = arguments.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        match socket.connect(&arguments.server.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => {
                return Err(error);
            }
            _ => {}
        }
        Ok(Self {
            stream: Stream::new(TcpStream::from_std(socket.into()), tls),
            channel: u32::try_from(channel).unwrap(),
            state: State::Connecting,
            buffer: Vec::new(),
            n_received: 0,
            arrivals: Vec::new(),
        })
    }

    /// The socket, to register it.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        self.stream.socket()
    }

    /// Whether it may still become ready.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Asked | State::Connecting)
    }

    /// Sends the request, now that the connection stands or has failed.
    pub(super) fn ask(&mut self) {
        let channel = self.channel;
        let request = format!(
            "GET /c{channel} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        );
        let outcome = self.stream.write_all(request.as_bytes());
        self.state = if outcome.is_ok() {
            State::Asked
        } else {
            State::Lost
        };
    }

    /// Reads until the socket is empty. Returns the number of bytes.
    pub(super) fn read_all(&mut self) -> usize {
        let before = self.n_received;
        loop {
            self.make_room(SPARE);
            let room = self.buffer.len() - self.n_received;
            if self.read(room) < room {
                break; // what comes after this is announced anew
            }
        }
        self.note_arrival(before)
    }

    /// Reads once, at most so many bytes. Returns the number of bytes.
    pub(super) fn read_bite(&mut self, most: usize) -> usize {
        let before = self.n_received;
        self.make_room(most);
        self.read(most);
        self.note_arrival(before)
    }

    /// Begins a window: forgets what came before, and makes room for so many bytes.
    ///
    /// Returns what was wrong before: there may be a prologue, but no event.
    pub(super) fn begin(&mut self, n_bytes: usize) -> Faults {
        let nothing = Expected {
            channel: self.channel,
            first_seq: 0,
            n_events: 0,
        };
        let faults = self.verify(nothing, &mut Latencies::default());
        self.make_room(n_bytes + SPARE);
        faults
    }

    /// Ends a window: checks what it received and forgets it, less a chunk that is not whole yet.
    pub(super) fn verify(&mut self, expected: Expected, latencies: &mut Latencies) -> Faults {
        let mut arrivals = self.arrivals.iter().peekable();
        let received = &self.buffer[..self.n_received];
        let (mut faults, end) = verify::verify(received, expected, |event, end| {
            while arrivals
                .next_if(|arrival| arrival.n_received < end)
                .is_some()
            {}
            latencies.add(arrivals.peek().unwrap().at.saturating_sub(event.sent_at));
        });
        if self.state == State::Lost {
            faults.n_missing = 0; // because of the cut, which is the fault
            faults.n_cut = 1;
        }
        self.buffer.copy_within(end..self.n_received, 0);
        self.n_received -= end;
        self.arrivals.clear();
        faults
    }

    fn make_room(&mut self, least: usize) {
        if self.buffer.len() - self.n_received < least {
            let length = (self.n_received + least).max(2 * self.n_received);
            self.buffer.resize(length, 0);
        }
    }

    /// Reads once; a client that has been closed is lost.
    fn read(&mut self, most: usize) -> usize {
        let room = &mut self.buffer[self.n_received..][..most];
        match self.stream.read(room) {
            Ok(n) if n > 0 => {
                self.n_received += n;
                n
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Ok(_) | Err(_) => {
                self.state = State::Lost;
                0
            }
        }
    }

    fn note_arrival(&mut self, before: usize) -> usize {
        if self.state == State::Asked {
            self.look_for_body();
        } else if self.n_received > before {
            self.arrivals.push(Arrival {
                n_received: self.n_received,
                at: clock::now(),
            });
        }
        self.n_received.saturating_sub(before)
    }

    /// Drops the response head once it and a byte of the body are there.
    fn look_for_body(&mut self) {
        let received = &self.buffer[..self.n_received];
        let head_end = received.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(body) = head_end
            .map(|end| end + 4)
            .filter(|body| *body < self.n_received)
        else {
            return;
        };
        let is_ok = received.starts_with(b"HTTP/1.1 200 ");
        self.state = if is_ok { State::Ready } else { State::Lost };
        self.buffer.copy_within(body..self.n_received, 0);
        self.n_received -= body;
    }
}
