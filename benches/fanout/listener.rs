//! A listening socket of the bench's own servers.

use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

/// Connections that may wait to be accepted: as many as Linux allows by default.
///
/// With fewer, a storm of connections would measure the second after which TCP knocks again.
const BACKLOG: i32 = 4096;

/// Listens on an address, without blocking.
pub(crate) fn bind(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(BACKLOG).unwrap();
    TcpListener::from_std(socket.into())
}
