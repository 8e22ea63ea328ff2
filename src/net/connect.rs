//! Outgoing connections: TCP, or TLS over it.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::client_tls::{ClientTls, server_name};
use super::gather::{Gather, Gathered};
use super::listener::USER_TIMEOUT;
use crate::config::UpstreamTls;

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

/// What a connection is made with.
#[derive(Debug)]
pub struct Means<'a> {
    /// Where client configurations come from.
    pub tls: &'a ClientTls,
    /// Which of them to use.
    pub settings: &'a UpstreamTls,
    /// With whom the socket shares its wake-ups; `None`: alone.
    pub gather: Option<&'a Gather>,
}

/// An outgoing connection: in the clear, or over TLS.
pub type Connection = Either<Stream, Box<TlsStream<Stream>>>;

/// The TCP connection below: woken on its own, or with others.
pub type Stream = Either<TcpStream, Gathered>;

/// Has the kernel give a connection up whose peer acknowledges nothing of what was sent to it, as it
/// does those of clients: for who does not wait for an answer, and so would not notice.
///
/// # Errors
///
/// If the kernel refuses.
pub fn give_up_when_unheard(connection: &Connection) -> io::Result<()> {
    let stream = match connection {
        Either::Left(stream) => stream,
        Either::Right(tls) => tls.get_ref().0,
    };
    match stream {
        Either::Left(stream) => SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT)),
        // An event stream: its silence is noticed.
        Either::Right(_gathered) => Ok(()),
    }
}

/// Resolves the host, connects to the first address that answers, and shakes hands.
///
/// # Errors
///
/// If the name has no address, no address answers, a file of the TLS settings can't be used, or the
/// handshake fails. Only reaching an address is limited in time, by an equal share of `patience`.
pub async fn open(
    target: &Target,
    protocol: Protocol,
    means: Means<'_>,
    patience: Duration,
) -> io::Result<Connection> {
    let stream = reach(target, patience).await?;
    stream.set_nodelay(true)?;
    let stream = match means.gather {
        Some(gather) => Either::Right(gather.adopt(stream)?),
        None => Either::Left(stream),
    };
    if target.scheme == Scheme::Http {
        return Ok(Either::Left(stream));
    }
    let Means { tls, settings, .. } = means;
    let name = server_name(settings.server_name.as_deref().unwrap_or(&target.host))?;
    let client = tls.client(settings).await.map_err(io::Error::other)?;
    let config = match protocol {
        Protocol::Http1 => client.http1,
        Protocol::Http2 => client.http2,
    };
    let stream = TlsConnector::from(config).connect(name, stream).await?;
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
