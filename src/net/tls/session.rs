//! A TLS session of a server: records in, records out. It does no I/O.
//!
//! Unlike the buffered session of rustls it keeps no buffer while there is nothing to keep, which
//! halves what an idle client costs; and what is encrypted goes to a buffer that all sessions of a
//! thread share.
//!
//! `received ──process──▶ plain` · `plain text ──encrypt──▶ unsent`, which somebody writes to the
//! socket.
//!
//! Standards: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2).

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

/// A session, and the bytes that are on their way through it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "both sides may close in any order"
)]
pub(super) struct Session {
    connection: UnbufferedServerConnection,
    /// Of the peer, and not processed: a part of a record.
    received: Vec<u8>,
    /// What the peer said and nobody has read yet.
    plain: Vec<u8>,
    /// For the peer: encrypted, and not taken by the socket.
    unsent: Vec<u8>,
    /// How much of `unsent` the socket took.
    n_sent: usize,
    has_peer_closed: bool,
    has_closed: bool,
    /// Whether the peer is heard after our last word, because it may have more to say (RFC 8446, 6.1).
    hears_on: bool,
    /// The peer was told what it did wrong, and the library must not be asked again.
    is_broken: bool,
}

/// The most that one record carries (RFC 8446, 5.1).
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// More of a peer's bytes than any record, or any client's part of a handshake, has.
const MAX_RECEIVED: usize = 64 * 1024;

/// Room for an encrypted alert.
const ALERT_BYTES: usize = 128;

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            received: Vec::new(),
            plain: Vec::new(),
            unsent: Vec::new(),
            n_sent: 0,
            has_peer_closed: false,
            has_closed: false,
            hears_on: false,
            is_broken: false,
        })
    }

    /// Takes bytes of the peer. Even if it fails there may be something to send: why.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.has_closed && !self.hears_on {
            // We have said our last word: what is wrong with this could not be told any more, and
            // the library asserts in builds for development that nobody tries.
            return Ok(());
        }
        self.received.extend_from_slice(bytes);
        self.drive(|_| ())?;
        if self.received.len() > MAX_RECEIVED {
            return Err(invalid("a record without an end"));
        }
        release(&mut self.received);
        Ok(())
    }

    /// Moves what the peer said; 0 if it has said nothing more.
    pub(super) fn read(&mut self, into: &mut [u8]) -> usize {
        let n = into.len().min(self.plain.len());
        for (place, byte) in into.iter_mut().zip(self.plain.drain(..n)) {
            *place = byte;
        }
        release(&mut self.plain);
        n
    }

    /// Encrypts what one record carries at most. What is in `cipher` up to the length that is
    /// returned must be sent next, or given to [`Session::keep`].
    pub(super) fn encrypt(&mut self, plain: &[u8], cipher: &mut Vec<u8>) -> io::Result<usize> {
        if self.has_closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        match self.drive(|traffic| encrypt_into(traffic, plain, cipher))? {
            Some(encrypted) => encrypted.map_err(io::Error::other),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Keeps bytes that the socket did not take.
    pub(super) fn keep(&mut self, cipher: &[u8]) {
        self.unsent.extend_from_slice(cipher);
    }

    /// What the socket should take next.
    pub(super) fn unsent(&self) -> &[u8] {
        self.unsent.get(self.n_sent..).unwrap_or_default()
    }

    /// Notes that the socket took so much of it.
    pub(super) fn note_sent(&mut self, n: usize) {
        self.n_sent += n;
        if self.n_sent >= self.unsent.len() {
            self.n_sent = 0;
            self.unsent.clear();
            release(&mut self.unsent);
        }
    }

    /// Says that nothing follows (`close_notify`).
    pub(super) fn close(&mut self) -> io::Result<()> {
        if self.is_handshaking() || self.has_closed {
            return Ok(());
        }
        let mut alert = [0; ALERT_BYTES];
        let queued = self.drive(|traffic| traffic.queue_close_notify(&mut alert))?;
        if let Some(queued) = queued {
            let n = queued.map_err(io::Error::other)?;
            self.keep(alert.get(..n).unwrap_or_default());
        }
        self.has_closed = true;
        Ok(())
    }

    /// Hears the peer after our last word, too.
    pub(super) fn hear_on(&mut self) {
        self.hears_on = true;
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn has_plain(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Whether the peer said that nothing follows.
    pub(super) fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    /// Whether it can do nothing any more.
    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.is_broken
    }

    /// Whether we said that nothing follows.
    #[cfg(test)]
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Bytes of the peer that wait for the rest of their record.
    pub(super) fn n_received(&self) -> usize {
        self.received.len()
    }

    /// What it holds besides itself.
    pub(super) fn n_buffered_bytes(&self) -> usize {
        self.received.capacity() + self.plain.capacity() + self.unsent.capacity()
    }

    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Processes what was received; if the session can send then, `then` may.
    fn drive<T>(
        &mut self,
        then: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> T,
    ) -> io::Result<Option<T>> {
        if self.is_broken {
            return Err(invalid("the session has failed"));
        }
        let mut then = Some(then);
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut self.received);
            let next = match state {
                Err(error) => {
                    self.take_alert();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        self.plain
                            .extend_from_slice(record.map_err(io::Error::other)?.payload);
                    }
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode_into(&mut data, &mut self.unsent)?;
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It is in `unsent`, and goes before all else.
                    data.done();
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.has_peer_closed = true;
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    ControlFlow::Break(then.take().map(|then| then(&mut traffic)))
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    ControlFlow::Break(None)
                }
                // Early data are not offered, and today there is no other state.
                Ok(_) => return Err(invalid("an unexpected state of the session")),
            };
            self.received.drain(..discard.min(self.received.len()));
            if let ControlFlow::Break(outcome) = next {
                return Ok(outcome);
            }
        }
    }

    /// After an error: what the peer is told of it. Nothing else is processed any more.
    fn take_alert(&mut self) {
        self.is_broken = true;
        self.received = Vec::new();
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.process_tls_records(&mut []).state
            && encode_into(&mut data, &mut self.unsent).is_ok()
        {}
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_handshaking", &self.is_handshaking())
            .field("n_received", &self.received.len())
            .field("n_plain", &self.plain.len())
            .field("n_unsent", &self.unsent().len())
            .field("has_peer_closed", &self.has_peer_closed)
            .field("has_closed", &self.has_closed)
            .finish_non_exhaustive()
    }
}

fn encrypt_into(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    plain: &[u8],
    cipher: &mut Vec<u8>,
) -> Result<usize, EncryptError> {
    loop {
        match traffic.encrypt(plain, cipher) {
            Err(EncryptError::InsufficientSize(size)) if size.required_size > cipher.len() => {
                cipher.resize(size.required_size, 0);
            }
            outcome => return outcome,
        }
    }
}

fn encode_into(
    data: &mut EncodeTlsData<'_, ServerConnectionData>,
    unsent: &mut Vec<u8>,
) -> io::Result<()> {
    let start = unsent.len();
    let encoded = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            unsent.resize(start + size.required_size, 0);
            data.encode(unsent.get_mut(start..).unwrap_or_default())
        }
        outcome => outcome,
    };
    encoded.map(drop).map_err(io::Error::other)
}

/// Keeps no memory for what is not there.
fn release(bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        *bytes = Vec::new();
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
