//! What a subscriber reads from: a socket, or a session of TLS over it.

use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::tls;

/// A connection that never blocks.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, config: Option<&Arc<ClientConfig>>) -> Self {
        let session = config.map(|config| {
            let name = ServerName::try_from(tls::HOST).unwrap();
            Box::new(ClientConnection::new(Arc::clone(config), name).unwrap())
        });
        Self { socket, session }
    }

    /// The socket, to register it.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }
}

impl Read for Stream {
    /// Reads until `into` is full or the socket is empty.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.socket.read(into);
        };
        let mut n_read = 0;
        loop {
            match session.reader().read(&mut into[n_read..]) {
                Ok(0) => return Ok(n_read), // full, or the end
                Ok(n) => {
                    n_read += n;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match session.read_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && n_read > 0 => {
                    return Ok(n_read);
                }
                outcome => outcome?,
            };
            session.process_new_packets().map_err(io::Error::other)?;
            send(session, &mut self.socket)?;
        }
    }
}

impl Write for Stream {
    /// Over TLS, what is written before the handshake is sent after it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.socket.write(bytes);
        };
        let n = session.writer().write(bytes)?;
        send(session, &mut self.socket)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what there is: it always fits into the socket's buffer.
fn send(session: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(socket)?;
    }
    Ok(())
}
