//! Outgoing connections: TCP, or TLS by the platform's roots.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::gather::{Gather, Gathered};

/// How outgoing TLS connections are made. The platform's roots are read when the first one is.
#[derive(Debug, Default)]
pub struct Tls {
    configs: OnceLock<Configs>,
}

#[derive(Debug)]
struct Configs {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// TLS or not.
    pub scheme: Scheme,
    /// A host name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// What is offered by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

/// An outgoing connection: in the clear, or over TLS.
pub type Connection = Either<Stream, Box<TlsStream<Stream>>>;

/// The TCP connection below: woken on its own, or with others.
pub type Stream = Either<TcpStream, Gathered>;

impl Tls {
    fn connector(&self, protocol: Protocol) -> io::Result<TlsConnector> {
        let configs = match self.configs.get() {
            Some(configs) => configs,
            None => {
                // Two at once read the roots twice, which does no harm.
                let configs = Configs::platform()?;
                self.configs.get_or_init(|| configs)
            }
        };
        let config = match protocol {
            Protocol::Http1 => &configs.http1,
            Protocol::Http2 => &configs.http2,
        };
        Ok(TlsConnector::from(Arc::clone(config)))
    }
}

impl Configs {
    fn platform() -> io::Result<Self> {
        let base = ClientConfig::with_platform_verifier().map_err(io::Error::other)?;
        let with_alpn = |protocol: &[u8]| {
            let mut config = base.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Self {
            http1: with_alpn(b"http/1.1"),
            http2: with_alpn(b"h2"),
        })
    }
}

/// Resolves the host, connects to the first address that answers, and shakes hands.
///
/// # Errors
///
/// If the name has no address, no address answers, the platform has no roots, or the handshake
/// fails. Only reaching an address is limited in time, by an equal share of `patience`.
pub async fn open(
    target: &Target,
    protocol: Protocol,
    (tls, gather): (&Tls, Option<&Gather>),
    patience: Duration,
) -> io::Result<Connection> {
    let stream = reach(target, patience).await?;
    stream.set_nodelay(true)?;
    let stream = match gather {
        Some(gather) => Either::Right(gather.adopt(stream)?),
        None => Either::Left(stream),
    };
    if target.scheme == Scheme::Http {
        return Ok(Either::Left(stream));
    }
    let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
    let stream = tls.connector(protocol)?.connect(name, stream).await?;
    if protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other(
            "the origin does not speak HTTP/2 (no h2 by ALPN)",
        ));
    }
    Ok(Either::Right(Box::new(stream)))
}

/// Connects to the first address of the host that answers. One that does not must not use up the
/// time of the others: a host may have an IPv6 address that leads nowhere from here.
async fn reach(target: &Target, patience: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((target.host.as_str(), target.port))
        .await?
        .collect();
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut outcome = Err(io::Error::new(
        io::ErrorKind::NotFound,
        "the host has no address",
    ));
    for address in addresses {
        outcome = timeout(share, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{address} does not answer"),
                ))
            });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
