//! What a subscriber writes to: a socket of its own, or a stream of an HTTP/2 connection.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::body::{BodyWriter, Ending};
use crate::net::socket::Socket;

/// A subscriber's way to its client. Both kinds take bytes, or say that they would block; so whoever
/// writes need not know which it is.
#[derive(Debug)]
pub(super) enum Transport {
    /// A stream of an HTTP/2 connection
    Http2(BodyWriter),
    /// A connection
    Socket(Socket),
}

impl Transport {
    /// Sets what every subscriber's connection needs.
    pub(super) fn prepare(&self, write_timeout: Option<Duration>) -> io::Result<()> {
        match self {
            // The connection was prepared when it became one.
            Self::Http2(_) => Ok(()),
            Self::Socket(socket) => {
                socket.prepare_for_delivery()?;
                socket.set_write_timeout(write_timeout)
            }
        }
    }

    /// Has the kernel give the connection up when what was sent is not acknowledged for so long. That
    /// of several streams of HTTP/2 is not one channel's: it has its own pings.
    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Http2(_) => Ok(()),
            Self::Socket(socket) => socket.set_write_timeout(timeout),
        }
    }

    /// Whether the kernel ends the connection by itself when its peer takes nothing
    /// ([`Transport::set_write_timeout`]). It sees every byte that the peer acknowledges; writable is a
    /// socket only once tens of kilobytes were, for which a slow network needs minutes.
    pub(super) fn is_watched_by_kernel(&self) -> bool {
        match self {
            Self::Http2(_) => false,
            Self::Socket(socket) => socket.is_tcp(),
        }
    }

    /// Whether, where the kernel does not watch, anything was taken since this was asked last, though
    /// there is no room yet.
    pub(super) fn has_sent(&self) -> bool {
        match self {
            Self::Http2(body) => body.has_sent(),
            // Who is at the other end of a unix socket is near and fast, or stands still.
            Self::Socket(_) => false,
        }
    }

    /// Writes what is taken now.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Http2(body) => body.try_write(std::iter::once(bytes)),
            Self::Socket(socket) => socket.try_write(bytes),
        }
    }

    /// Writes what is taken now of several pieces.
    pub(super) fn try_write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Http2(body) => body.try_write(pieces.iter().map(|piece| &**piece)),
            Self::Socket(socket) => socket.try_write_vectored(pieces),
        }
    }

    /// Sends what was taken and is not sent, as it is over TLS; returns whether all is sent now.
    pub(super) fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            // The connection sends it.
            Self::Http2(_) => Ok(true),
            Self::Socket(socket) => socket.try_flush(),
        }
    }

    /// Whether something was taken that [`Transport::try_flush`] has to send.
    pub(super) fn wants_flush(&self) -> bool {
        match self {
            Self::Http2(_) => false,
            Self::Socket(socket) => socket.wants_flush(),
        }
    }

    /// Says that the end which follows is meant; returns whether all is sent.
    pub(super) fn try_close(&mut self) -> io::Result<bool> {
        match self {
            // How it ends is said by `end`.
            Self::Http2(_) => Ok(true),
            Self::Socket(socket) => socket.try_close(),
        }
    }

    /// Reads what the client sent; none at the end, which on HTTP/2 is all that can come.
    pub(super) fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Http2(_) => Ok(0),
            Self::Socket(socket) => socket.try_read(into),
        }
    }

    /// Asks to be woken when bytes are taken again.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http2(body) => body.poll_room(cx).map(Ok),
            Self::Socket(socket) => socket.poll_write_ready(cx),
        }
    }

    /// Asks to be woken when there is something to read.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http2(body) => body.poll_left(cx).map(Ok),
            Self::Socket(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Asks to be woken when all that was taken is out of our hands: what a socket has taken is the
    /// kernel's, what HTTP/2 has taken may still wait for the client's window.
    pub(super) fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Http2(body) => body.poll_sent(cx),
            Self::Socket(_) => Poll::Ready(()),
        }
    }

    /// Ends the stream; just dropping it cuts it.
    pub(super) fn end(self, ending: Ending) {
        match self {
            Self::Http2(body) => body.end(ending),
            // The framing said so, if anything does.
            Self::Socket(_) => {}
        }
    }
}
