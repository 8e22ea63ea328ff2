//! Connecting to the endpoints of a proxy.

use std::io;
use std::sync::Arc;

use http::uri::Scheme as UriScheme;
use rustix::io::Errno;
use tokio::time::timeout;

use super::error::Error;
use crate::config::{self, ProxyUrl};
use crate::net::client_tls::ClientTls;
use crate::net::connect::{self, Connection, Means, Protocol, Scheme, Target};
use crate::net::descriptors::{Descriptor, Descriptors};

/// What connections are made with.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// How https is spoken.
    pub tls: Arc<ClientTls>,
    /// Of which each connection takes one.
    pub descriptors: Descriptors,
}

impl Dialer {
    /// A new connection to an endpoint.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(super) async fn connect(
        &self,
        settings: &config::Proxy,
        (target, protocol): (&Target, Protocol),
    ) -> Result<(Connection, Descriptor), Error> {
        let descriptor = self.descriptors.take();
        let descriptor = descriptor.ok_or(Error::NoDescriptor(None))?;
        let means = Means {
            tls: &self.tls,
            settings: &settings.tls,
            gather: None,
        };
        let patience = settings.connect_timeout;
        let connecting = connect::open(target, protocol, means, patience);
        match timeout(patience, connecting).await {
            Ok(Ok(connection)) => Ok((connection, descriptor)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Error::ConnectTimedOut)
            }
            Ok(Err(error)) if is_about_descriptors(&error) => Err(Error::NoDescriptor(Some(error))),
            Ok(Err(error)) => Err(Error::ConnectFailed(error)),
            Err(_elapsed) => Err(Error::ConnectTimedOut),
        }
    }
}

/// Whether it is the process, or the system, that has no descriptor left.
fn is_about_descriptors(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE))
}

/// Whom to connect to for a URL.
pub(super) fn target(url: &ProxyUrl) -> Target {
    let is_https = *url.scheme() == UriScheme::HTTPS;
    let authority = url.authority();
    let host = authority.host();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Target {
        scheme: if is_https {
            Scheme::Https
        } else {
            Scheme::Http
        },
        host: host.to_owned(),
        port: authority
            .port_u16()
            .unwrap_or(if is_https { 443 } else { 80 }),
    }
}
