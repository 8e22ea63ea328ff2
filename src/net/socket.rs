//! A downstream connection's socket: TCP or unix, or one of them under TLS.
//!
//! A socket is bound to the reactor of the thread that made it. To cross threads it becomes an
//! [`Unbound`] socket, and is registered again where it arrives.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::{TlsStream, UnboundTls};

/// A socket that is registered with this thread's reactor.
#[derive(Debug)]
pub enum Socket {
    /// TCP
    Tcp(TcpStream),
    /// TLS, over one of the others
    Tls(Box<TlsStream>),
    /// A unix domain socket
    Unix(UnixStream),
}

/// A socket that is registered nowhere, and may cross threads.
#[derive(Debug)]
pub enum Unbound {
    /// TCP
    Tcp(std::net::TcpStream),
    /// TLS, over one of the others
    Tls(Box<UnboundTls>),
    /// A unix domain socket
    Unix(std::os::unix::net::UnixStream),
}

/// Most bytes that the kernel holds unsent for one subscriber before it says that it would block.
///
/// By default it takes up to 4 MiB, which hides slow clients and fills the machine's memory with
/// what they will never read. Less than this wins nothing, and `SO_SNDBUF` would limit the
/// congestion window of fast, distant clients.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;

/// Up to so many bytes in several pieces, which most answers are, are copied together: that costs less
/// than the kernel's way for several.
const SMALL_BYTES: usize = 1024;

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
            Self::Tls(stream) => stream.bind().map(Box::new).map(Socket::Tls),
            Self::Unix(stream) => {
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Socket::Unix)
            }
        }
    }
}

impl Unbound {
    /// Whether the peer has closed its side and nothing of it is left to read.
    pub fn has_left(&self) -> bool {
        let peeked = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]),
            // It has said enough already.
            Self::Tls(_) => return false,
            Self::Unix(stream) => SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]),
        };
        match peeked {
            Ok(n) => n == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
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
            Self::Tls(stream) => stream.unbind().map(Box::new).map(Unbound::Tls),
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
            Self::Tls(stream) => stream.socket().prepare_for_delivery(),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Has the kernel end the connection when the peer has not acknowledged for so long what was sent,
    /// or kept its window shut (`TCP_USER_TIMEOUT`); `None`: only when it gives up by itself, after a
    /// quarter of an hour, and never while the peer's kernel answers.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        // The kernel takes no longer ones.
        const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
        let longest = timeout.map(|timeout| timeout.min(LONGEST));
        match self {
            Self::Tcp(stream) => SockRef::from(stream).set_tcp_user_timeout(longest),
            Self::Tls(stream) => stream.socket().set_write_timeout(timeout),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Whether it is one of TCP, with or without TLS.
    pub fn is_tcp(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Tls(stream) => stream.socket().is_tcp(),
            Self::Unix(_) => false,
        }
    }

    /// Writes what the socket takes now. Over TLS that means encrypted, and not sent:
    /// [`Socket::wants_flush`] says whether something is left to send.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write_vectored(&[io::IoSlice::new(bytes)]),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Writes what the socket takes now of several pieces.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing.
    pub fn try_write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(pieces),
            Self::Tls(stream) => stream.try_write_vectored(pieces),
            Self::Unix(stream) => stream.try_write_vectored(pieces),
        }
    }

    /// Sends what was written before and is not sent; returns whether all is sent now.
    ///
    /// # Errors
    ///
    /// As the socket says, but not `WouldBlock`.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(true),
            Self::Tls(stream) => stream.try_flush(),
        }
    }

    /// Whether something was written that is not sent.
    pub fn wants_flush(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(stream) => stream.wants_flush(),
        }
    }

    /// Says, where that can be said, that the end which follows is meant; returns whether all is
    /// sent. Without it, the end of a TLS connection is a cut.
    ///
    /// # Errors
    ///
    /// As the socket says, but not `WouldBlock`.
    pub fn try_close(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(true),
            Self::Tls(stream) => stream.try_close(),
        }
    }

    /// Hears the peer also after our side has ended, as a socket in the clear does by itself.
    pub fn hear_on(&mut self) {
        if let Self::Tls(stream) = self {
            stream.hear_on();
        }
    }

    /// The protocol that was agreed upon (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.alpn(),
        }
    }

    /// Reads what is there; costs no system call when nothing is.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there.
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(into),
            Self::Tls(stream) => stream.try_read(into),
            Self::Unix(stream) => stream.try_read(into),
        }
    }

    /// Asks to be woken when the socket takes bytes again.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Tls(stream) => stream.socket().poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Asks to be woken when the peer sent something, or is gone.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) if stream.has_read() => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.socket().poll_read_ready(cx),
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
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
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
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n_bytes: usize = bufs.iter().map(|piece| piece.len()).sum();
        if n_bytes <= SMALL_BYTES {
            let mut space = [0; SMALL_BYTES];
            return self.poll_write(cx, joined(bufs, &mut space));
        }
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Pieces as one, in a space that has room for them.
fn joined<'a>(pieces: &[io::IoSlice<'_>], space: &'a mut [u8]) -> &'a [u8] {
    let mut n_bytes = 0;
    for piece in pieces {
        let end = n_bytes + piece.len();
        if let Some(place) = space.get_mut(n_bytes..end) {
            place.copy_from_slice(piece);
        }
        n_bytes = end;
    }
    space.get(..n_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn pieces_are_written_one_after_another_whatever_their_size() {
        let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
        let mut socket = Socket::Unix(ours);
        for size in [0, 1, SMALL_BYTES / 3, SMALL_BYTES] {
            let pieces = [b'a', b'b', b'c'].map(|byte| vec![byte; size]);
            let slices = [&pieces[0], &pieces[1], &pieces[2]].map(|one| io::IoSlice::new(one));
            let n_written = socket.write_vectored(&slices).await.expect("it is there");
            assert_eq!(n_written, 3 * size);
            let mut read = vec![0; n_written];
            theirs.read_exact(&mut read).await.expect("it is there");
            assert_eq!(read, pieces.concat());
        }
    }

    #[tokio::test]
    async fn the_kernel_holds_little_unsent_and_gives_silent_peers_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        let socket = Socket::Tcp(stream);
        socket.prepare_for_delivery().expect("it is there");
        let timeout = Some(Duration::from_secs(30));
        socket.set_write_timeout(timeout).expect("it is there");
        let Socket::Tcp(stream) = &socket else {
            panic!("it was one");
        };
        let options = SockRef::from(stream);
        assert_eq!(options.tcp_notsent_lowat().ok(), Some(NOTSENT_LOWAT_BYTES));
        assert_eq!(options.tcp_user_timeout().ok(), Some(timeout));
        socket.set_write_timeout(None).expect("it is there");
        assert_eq!(options.tcp_user_timeout().ok(), Some(None));
    }
}
