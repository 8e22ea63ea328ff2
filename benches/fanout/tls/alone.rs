//! rustls alone: a server that accepts a connection, shakes hands and closes it, one after another.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// The arguments of the role.
#[derive(Debug, Clone, Args)]
pub(crate) struct AloneArguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The certificate.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key.
    #[arg(long)]
    key: PathBuf,
}

/// The role `tls-alone`.
pub(crate) fn run(arguments: &AloneArguments) -> ! {
    let certificate = CertificateDer::from_pem_file(&arguments.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&arguments.key).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).unwrap();
    // As the gateway has it: tickets are made, too.
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind(arguments.listen).unwrap();
    loop {
        let (stream, _) = listener.accept().unwrap();
        if serve(stream, Arc::clone(&config)).is_err() {
            // Whoever looks whether we listen says nothing.
        }
    }
}

/// Shakes hands, and reads until the client goes.
fn serve(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.complete_io(&mut stream)?;
    Ok(())
}
