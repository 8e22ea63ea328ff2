//! A downstream connection's socket: TCP or unix.
//!
//! A socket is bound to the reactor of the thread that made it. To cross threads it becomes an
//! [`Unbound`] socket, and is registered again where it arrives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket that is registered with this thread's reactor.
#[derive(Debug)]
pub enum Socket {
    /// TCP
    Tcp(TcpStream),
    /// A unix domain socket
    Unix(UnixStream),
}

/// A socket that is registered nowhere, and may cross threads.
#[derive(Debug)]
pub enum Unbound {
    /// TCP
    Tcp(std::net::TcpStream),
    /// A unix domain socket
    Unix(std::os::unix::net::UnixStream),
}

/// Most bytes that the kernel holds unsent for one subscriber before it says that it would block.
///
/// By default it takes up to 4 MiB, which hides slow clients and fills the machine's memory with
/// what they will never read. Less than this wins nothing, and `SO_SNDBUF` would limit the
/// congestion window of fast, distant clients.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;

impl Unbound {
    /// Registers the socket with this thread's reactor.
    ///
    /// # Errors
    ///
    /// If the socket can't be made non-blocking or the reactor refuses it.
    pub fn bind(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Socket::Tcp)
            }
            Self::Unix(stream) => {
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Socket::Unix)
            }
        }
    }
}

impl Socket {
    /// Takes the socket off this thread's reactor.
    ///
    /// # Errors
    ///
    /// If the reactor can't forget it.
    pub fn unbind(self) -> io::Result<Unbound> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Unbound::Tcp),
            Self::Unix(stream) => stream.into_std().map(Unbound::Unix),
        }
    }

    /// Sets what every subscriber's socket needs: no delay, and little that is unsent.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, which it does when the connection is gone already.
    pub fn prepare_for_delivery(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)
            }
            Self::Unix(_) => Ok(()),
        }
    }

    /// Writes what the socket takes now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Writes what the socket takes now of several pieces.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing.
    pub fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(pieces),
            Self::Unix(stream) => stream.try_write_vectored(pieces),
        }
    }

    /// Reads what is there; costs no system call when nothing is.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(into),
            Self::Unix(stream) => stream.try_read(into),
        }
    }

    /// Asks to be woken when the socket takes bytes again.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Asks to be woken when the peer sent something, or is gone.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
