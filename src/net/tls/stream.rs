//! A connection over TLS: a socket and a session.
//!
//! **`Ok(n)` means encrypted, not sent.** What the socket did not take stays here, at most one
//! record of it: [`TlsStream::try_write_vectored`] takes nothing more before that is out. Whoever
//! must know when it is, asks [`TlsStream::wants_flush`].

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::{RECORD_BYTES, Session};
use crate::memory::Held;
use crate::net::socket::{Socket, Unbound};

/// A connection over TLS whose handshake is done.
#[derive(Debug)]
pub struct TlsStream {
    /// Invariant: in the clear.
    socket: Socket,
    session: Session,
    held: Held,
}

/// A connection over TLS that is registered nowhere, and may cross threads.
#[derive(Debug)]
pub struct UnboundTls {
    socket: Unbound,
    session: Session,
    held: Held,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer speaks a protocol of text, such as HTTP: it can be told so on its socket.
    #[error("the client does not speak TLS")]
    InTheClear(Socket),
    /// The connection ended, or what came is not TLS, or there is no version, cipher or protocol in
    /// common.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// Buffers that all sessions of a thread share.
struct Scratch {
    /// What is in pieces and goes into one record.
    joined: Vec<u8>,
    cipher: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { joined: Vec::new(), cipher: Vec::new() })
    };
}

/// Bytes taken off a socket at a time.
const READ_BYTES: usize = 4096;

/// A record of a subscriber that is larger than this is none that it may send: `close_notify` and
/// `KeyUpdate` have some dozen bytes.
const MAX_SUBSCRIBER_RECORD: usize = 1024;

/// Bytes of a peer that may come to nothing in one go: more than a record. New keys and records
/// without content cost us more than whoever sends them, and would never let others have their turn.
const MAX_SILENT_BYTES: usize = 32 * 1024;

impl TlsStream {
    /// What one takes of memory while it is idle, as the bench has measured it (an idle client over
    /// TLS, less one in the clear); what it has not sent comes on top.
    pub const IDLE_BYTES: usize = 3_700;

    /// Shakes hands. Who calls limits the time. `held` is resized to what the connection takes.
    ///
    /// # Errors
    ///
    /// If the peer does not, or does not speak TLS.
    pub async fn accept(
        socket: Socket,
        config: Arc<ServerConfig>,
        held: Held,
    ) -> Result<Box<Self>, HandshakeError> {
        let session = Session::new(config).map_err(io::Error::other)?;
        let mut stream = Box::new(Self {
            socket,
            session,
            held,
        });
        let is_tls = std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        if is_tls {
            Ok(stream)
        } else {
            Err(HandshakeError::InTheClear(stream.socket))
        }
    }

    /// Ready when the handshake is done and all of it is sent; `false`: the peer speaks no TLS.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(true));
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut bytes))?;
            match bytes.filled() {
                [] => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                // No record begins like that (RFC 8446, 5.1).
                [b'A'..=b'Z', ..] if self.session.n_received() == 0 => {
                    return Poll::Ready(Ok(false));
                }
                filled => self.receive(filled)?,
            }
        }
    }

    /// Takes the connection off this thread's reactor.
    ///
    /// # Errors
    ///
    /// If the reactor can't forget it.
    pub fn unbind(self) -> io::Result<UnboundTls> {
        Ok(UnboundTls {
            socket: self.socket.unbind()?,
            session: self.session,
            held: self.held,
        })
    }

    /// Encrypts pieces, as few records as they fit into, until the socket stops; returns how many of
    /// their bytes were taken.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket has not even taken what was encrypted before.
    pub fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        SCRATCH.with_borrow_mut(|Scratch { joined, cipher }| {
            let mut n_taken = 0;
            loop {
                let plain = next_record(pieces, n_taken, joined);
                if plain.is_empty() {
                    return Ok(n_taken);
                }
                let n_cipher = self.session.encrypt(plain, cipher)?;
                n_taken += plain.len();
                if !self.try_send(cipher.get(..n_cipher).unwrap_or_default())? {
                    return Ok(n_taken);
                }
            }
        })
    }

    /// Sends what was encrypted; returns whether all of it is sent now.
    ///
    /// # Errors
    ///
    /// As the socket says, but not `WouldBlock`.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        while self.wants_flush() {
            match self.socket.try_write(self.session.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.session.note_sent(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.count();
        Ok(true)
    }

    /// Whether something was encrypted and is not sent.
    pub fn wants_flush(&self) -> bool {
        !self.session.unsent().is_empty()
    }

    /// Says that nothing follows, once what was encrypted before is sent. Without it, the end of the
    /// connection is a cut, as the peer can tell (RFC 8446, 6.1).
    ///
    /// # Errors
    ///
    /// As the socket says, but not `WouldBlock`.
    pub fn try_close(&mut self) -> io::Result<bool> {
        self.session.close()?;
        self.try_flush()
    }

    /// Reads what a subscriber says, which is nothing but records without content; 0 at the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it says nothing; if it says what is no TLS, or too much.
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut n_silent = 0;
        loop {
            let n = self.session.read(into);
            if n > 0 || self.session.has_peer_closed() {
                return Ok(n);
            }
            let mut bytes = [0; MAX_SUBSCRIBER_RECORD];
            match self.socket.try_read(&mut bytes)? {
                0 => return Ok(0),
                n => {
                    n_silent += n;
                    self.receive(bytes.get(..n).unwrap_or_default())?;
                }
            }
            if self.session.n_received() > MAX_SUBSCRIBER_RECORD || n_silent > MAX_SILENT_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// Whether [`TlsStream::try_read`] has something to say without the socket.
    pub fn has_read(&self) -> bool {
        self.session.has_plain() || self.session.has_peer_closed()
    }

    /// Hears the peer also after it was told that nothing follows.
    pub fn hear_on(&mut self) {
        self.session.hear_on();
    }

    /// The protocol that was agreed upon (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn()
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Gives the session bytes of the peer. If they are wrong, the peer is told, if its socket takes
    /// that at once.
    fn receive(&mut self, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.session.receive(bytes);
        if outcome.is_err()
            && let Err(error) = self.try_flush()
        {
            tracing::debug!(%error, "a client left before it was told what was wrong");
        }
        self.count();
        outcome
    }

    /// Counts what the connection takes; costs nothing while that stays the same.
    fn count(&mut self) {
        let bytes = Self::IDLE_BYTES + self.session.n_buffered_bytes();
        if bytes != self.held.bytes() {
            self.held.resize(bytes);
        }
    }

    /// Sends, and keeps what the socket does not take; returns whether it took all.
    fn try_send(&mut self, cipher: &[u8]) -> io::Result<bool> {
        if self.wants_flush() {
            // What the session itself had to say goes first.
            self.session.keep(cipher);
            return self.try_flush();
        }
        let n = match self.socket.try_write(cipher) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            outcome => outcome?,
        };
        let rest = cipher.get(n..).unwrap_or_default();
        self.session.keep(rest);
        self.count();
        Ok(rest.is_empty())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.wants_flush() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, self.session.unsent()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.session.note_sent(n),
            }
        }
        self.count();
        Poll::Ready(Ok(()))
    }
}

impl UnboundTls {
    /// Registers the connection with this thread's reactor.
    ///
    /// # Errors
    ///
    /// If the reactor refuses it.
    pub fn bind(self) -> io::Result<TlsStream> {
        Ok(TlsStream {
            socket: self.socket.bind()?,
            session: self.session,
            held: self.held,
        })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut n_silent = 0;
        while !this.has_read() {
            if n_silent > MAX_SILENT_BYTES {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut bytes))?;
            match bytes.filled() {
                [] => return Poll::Ready(Ok(())),
                filled => {
                    n_silent += filled.len();
                    this.receive(filled)?;
                }
            }
        }
        let n = this.session.read(buf.initialize_unfilled());
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        // With nothing unsent, it takes at least one record.
        Poll::Ready(this.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.close()?;
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// What goes into the next record of `pieces`, of which `n_taken` bytes are out.
fn next_record<'a>(pieces: &'a [IoSlice<'_>], n_taken: usize, joined: &'a mut Vec<u8>) -> &'a [u8] {
    let mut n_skipped = n_taken;
    let mut rest = pieces
        .iter()
        .map(|piece| &**piece)
        .filter_map(|piece: &[u8]| {
            let part = piece.get(n_skipped.min(piece.len())..).unwrap_or_default();
            n_skipped -= piece.len() - part.len();
            (!part.is_empty()).then_some(part)
        });
    let first = rest.next().unwrap_or_default();
    let (Some(second), true) = (rest.next(), first.len() < RECORD_BYTES) else {
        return first.get(..RECORD_BYTES).unwrap_or(first);
    };
    joined.clear();
    for part in [first, second].into_iter().chain(rest) {
        let room = RECORD_BYTES - joined.len();
        joined.extend_from_slice(part.get(..room).unwrap_or(part));
        if joined.len() == RECORD_BYTES {
            break;
        }
    }
    joined
}
