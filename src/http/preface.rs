//! Which protocol a connection speaks, by its first bytes.
//!
//! A client that knows that it may speak HTTP/2 begins with a preface that is no request of HTTP/1.1
//! (RFC 9113, 3.4). It is read, never peeked at: a peek returns at once for a short prefix, again and
//! again. What was read goes before the rest, whatever it was.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection whose first bytes are in our hands.
#[derive(Debug)]
pub(super) struct Prefixed<S> {
    stream: S,
    prefix: [u8; PREFACE.len()],
    /// Bytes of the prefix that were read from the connection.
    n_read: usize,
    /// Bytes of them that were given on.
    n_given: usize,
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Reads as much as it takes to tell the protocols apart: of HTTP/1.1 up to the first byte that
    /// differs, and not more than there is at that time.
    ///
    /// The end of the connection tells too: what hyper makes of it is right for HTTP/1.1.
    pub(super) async fn read(stream: S) -> io::Result<(Self, Protocol)> {
        let mut this = Self::new(stream);
        loop {
            let free = this.prefix.get_mut(this.n_read..).unwrap_or_default();
            let n = this.stream.read(free).await?;
            this.n_read += n;
            let is_preface = PREFACE.starts_with(this.left());
            if n == 0 || !is_preface {
                return Ok((this, Protocol::Http1));
            }
            if this.n_read == PREFACE.len() {
                return Ok((this, Protocol::Http2));
            }
        }
    }
}

impl<S> Prefixed<S> {
    /// A connection of which nothing was read.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            prefix: [0; PREFACE.len()],
            n_read: 0,
            n_given: 0,
        }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The connection itself; what is left of the prefix is forgotten.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What was read and not given on.
    pub(super) fn left(&self) -> &[u8] {
        self.prefix
            .get(self.n_given..self.n_read)
            .unwrap_or_default()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.left();
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let given = left.get(..buf.remaining()).unwrap_or(left);
        buf.put_slice(given);
        this.n_given += given.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, duplex};

    /// What a connection that gets these pieces and then ends is taken for, and all that can be read
    /// of it afterwards.
    async fn read(pieces: &[&[u8]]) -> (Protocol, Vec<u8>) {
        let (mut client, ours) = duplex(1);
        let sending = async {
            for piece in pieces {
                client.write_all(piece).await.expect("it is read");
            }
            drop(client);
        };
        let reading = async {
            let (mut stream, protocol) = Prefixed::read(ours).await.expect("no error");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("no error");
            (protocol, all)
        };
        tokio::join!(sending, reading).1
    }

    #[tokio::test]
    async fn nothing_is_lost_wherever_a_connection_stops_being_a_preface() {
        for n_same in 0..PREFACE.len() {
            let mut bytes = PREFACE[..n_same].to_vec();
            assert_eq!(read(&[&bytes]).await, (Protocol::Http1, bytes.clone()));
            bytes.extend_from_slice(b"\0 and more");
            assert_eq!(read(&[&bytes]).await, (Protocol::Http1, bytes.clone()));
        }
    }

    #[tokio::test]
    async fn a_preface_is_http_2_and_goes_on() {
        let (protocol, all) = read(&[PREFACE, b"frames"]).await;
        assert_eq!(protocol, Protocol::Http2);
        assert_eq!(all, [PREFACE.as_slice(), b"frames"].concat());
    }

    #[tokio::test]
    async fn a_request_that_begins_like_a_preface_is_http_1() {
        for request in [
            "POST / HTTP/1.1\r\n\r\n",
            "PRI / HTTP/1.1\r\n\r\n",
            "PRI * HTTP/2.0\r\nHost: a\r\n\r\n",
        ] {
            let (protocol, all) = read(&[request.as_bytes()]).await;
            assert_eq!(protocol, Protocol::Http1, "{request:?}");
            assert_eq!(all, request.as_bytes());
        }
    }
}
