//! Clients that only shake hands.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use socket2::SockRef;

use super::HOST;
use super::client_config;

/// Longer than any handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shakes hands with a server so many times, one after the other, in full; returns how many failed.
pub(crate) fn shake_hands(server: SocketAddr, certificate: &Path, n: u64) -> u64 {
    let config = client_config(certificate);
    (0..n)
        .filter(|_| shake(server, Arc::clone(&config)).is_err())
        .count() as u64
}

fn shake(server: SocketAddr, config: Arc<ClientConfig>) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Closing resets, so that no port stays in TIME_WAIT.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let name = ServerName::try_from(HOST).unwrap();
    let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    // With its tickets, the server has done all its work.
    while session.tls13_tickets_received() == 0 {
        session.complete_io(&mut stream)?;
    }
    assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
    session.send_close_notify();
    session.complete_io(&mut stream)?;
    Ok(())
}
