//! Listening sockets. Accepting can't fail: what goes wrong is logged, waited out and tried again.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::inherited;
use super::peer::PeerAddr;
use super::socket::Unbound;
use crate::config::ListenAddress;

/// A bound listener. A unix socket's path is removed with it, if we have made it.
#[derive(Debug)]
pub struct Listener {
    /// Several, where the address names inherited sockets; never empty.
    sockets: Vec<Kind>,
    /// With the port that the kernel chose, if it was asked to.
    address: ListenAddress,
    /// Until when errors are not logged again.
    quiet_until: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// How long sent data may stay unacknowledged before the kernel gives the connection up; without
/// it, a peer that vanished is kept for a quarter of an hour.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(45);

/// Wait after an error of the process (no descriptors, no memory), so that accepting never spins.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Time between two complaints about such errors.
const ERROR_QUIET: Duration = Duration::from_secs(10);

impl Listener {
    /// Binds and listens. Must be called inside the runtime that will accept.
    ///
    /// # Errors
    ///
    /// As the kernel says: in use, not permitted, not our address. A unix socket's path that
    /// somebody listens on is in use; one that nobody listens on is replaced. If no inherited
    /// socket has the name.
    pub fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => bind_unix(path),
            ListenAddress::Systemd(name) => inherit(name),
        }
    }

    /// The next connection, and who made it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost when the future is dropped.
    pub async fn accept(&self) -> (Unbound, PeerAddr) {
        loop {
            let error = match self.try_accept().await {
                Ok(connection) => return connection,
                Err(error) => error,
            };
            if is_of_connection(&error) {
                continue;
            }
            self.complain(&error);
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }

    /// The connection is taken off this thread's reactor at once: another thread will serve it.
    async fn try_accept(&self) -> io::Result<(Unbound, PeerAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Begins at another socket each time, so that a flooded one does not shut out the others.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Unbound, PeerAddr)>> {
        let first = fastrand::usize(..self.sockets.len());
        let (before, from) = self.sockets.split_at(first);
        for socket in from.iter().chain(before) {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Says that nobody can be accepted, but not ten times a second.
    fn complain(&self, error: &io::Error) {
        let now = Instant::now();
        let quiet_until = self.quiet_until.lock();
        let mut quiet_until = quiet_until.unwrap_or_else(PoisonError::into_inner);
        if quiet_until.is_none_or(|until| until <= now) {
            *quiet_until = Some(now + ERROR_QUIET);
            tracing::error!(address = %self.address, %error, "can't accept, trying again");
        }
    }

    /// The address that was bound.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }
}

impl Kind {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Unbound, PeerAddr)>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                let stream = stream.into_std().map(Unbound::Tcp);
                stream.map(|stream| (stream, PeerAddr::from(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _nameless) = ready!(listener.poll_accept(cx))?;
                let stream = stream.into_std().map(Unbound::Unix);
                stream.map(|stream| (stream, PeerAddr::Unix))
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.address
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "can't remove the unix socket");
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the old process's connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // "[::]:80" beside "0.0.0.0:80" must not clash.
        socket.set_only_v6(true)?;
    }
    // Connections inherit it, those that never become a subscription too.
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let address = ListenAddress::Tcp(socket.local_addr()?.as_socket().unwrap_or(address));
    Ok(Listener {
        sockets: vec![Kind::Tcp(TcpListener::from_std(socket.into())?)],
        address,
        quiet_until: Mutex::default(),
    })
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let socket = Kind::Unix(UnixListener::from_std(socket.into())?);
    Ok(Listener {
        sockets: vec![socket],
        address: ListenAddress::Unix(path.to_owned()),
        quiet_until: Mutex::default(),
    })
}

/// Takes what the process was started with.
fn inherit(name: &str) -> io::Result<Listener> {
    let mut sockets = Vec::new();
    for socket in inherited::named(name)? {
        let local = socket.local_addr()?;
        let local = match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => address.to_string(),
            (None, Some(path)) => format!("unix:{}", path.display()),
            (None, None) => "unix:".to_owned(),
        };
        tracing::info!(name, local, "inherited a socket");
        sockets.push(match socket.domain()? {
            Domain::UNIX => Kind::Unix(UnixListener::from_std(socket.into())?),
            _ => Kind::Tcp(TcpListener::from_std(socket.into())?),
        });
    }
    Ok(Listener {
        sockets,
        address: ListenAddress::Systemd(name.to_owned()),
        quiet_until: Mutex::default(),
    })
}

/// Removes a socket file that a dead process left.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is not a socket",
        ));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        ));
    }
    std::fs::remove_file(path)
}

/// Errors of one connection that was gone before it was accepted (accept(2)).
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
