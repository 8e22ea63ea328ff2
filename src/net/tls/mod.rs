//! TLS for those who connect to us: certificates, sessions, streams.

mod certificate;
mod session;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use self::certificate::Identity;
pub use self::certificate::{CertificateError, Standing, Validity};
pub use self::stream::{HandshakeError, TlsStream, UnboundTls};
use crate::config::ListenTls;

/// How a listener speaks TLS. Its certificates can be replaced while it does.
pub struct ServerTls {
    /// The listener's name.
    listener: String,
    settings: ListenTls,
    provider: Arc<CryptoProvider>,
    resolver: Arc<Resolver>,
    config: Arc<ServerConfig>,
}

/// What became of looking at the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// They can't be used, and the certificates stay as they were.
    Failed,
    /// New handshakes see new certificates.
    Replaced,
    /// They say what they said.
    Unchanged,
}

/// Chooses the certificate of a handshake.
#[derive(Debug)]
struct Resolver {
    /// Never empty.
    identities: ArcSwap<Vec<Identity>>,
}

/// HTTP/2, as ALPN calls it (RFC 9113, 3.2).
pub const ALPN_HTTP2: &[u8] = b"h2";

/// What is offered (RFC 7301), in the order of our preference.
const PROTOCOLS: &[&[u8]] = &[ALPN_HTTP2, b"http/1.1"];

impl ServerTls {
    /// Reads the certificates of a listener.
    ///
    /// # Errors
    ///
    /// If one of them can't be used.
    pub fn load(listener: &str, settings: &ListenTls) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identities = identities(settings, &provider)?;
        let resolver = Arc::new(Resolver {
            identities: ArcSwap::from_pointee(identities),
        });
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Provider)?
            .with_no_client_auth();
        let mut config =
            config.with_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        // Its keys change every six hours, and a ticket is good for twice that.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(CertificateError::Provider)?;
        Ok(Self {
            listener: listener.to_owned(),
            settings: settings.clone(),
            provider,
            resolver,
            config: Arc::new(config),
        })
    }

    /// Reads the files again. If one can't be used, all stay as they were, and the log says why.
    pub fn reread(&self) -> Reread {
        if self.settings == ListenTls::SelfSigned {
            return Reread::Unchanged;
        }
        let identities = match identities(&self.settings, &self.provider) {
            Ok(identities) => identities,
            Err(error) => {
                let listener = &self.listener;
                tracing::warn!(listener, %error, "can't use a new certificate, keeping the old");
                return Reread::Failed;
            }
        };
        let chains = |identities: &[Identity]| -> Vec<_> {
            let chains = identities.iter().map(|one| one.certified.cert.clone());
            chains.collect()
        };
        // The same chain has the same key, or it would not have been accepted.
        if chains(&identities) == chains(&self.resolver.identities.load()) {
            return Reread::Unchanged;
        }
        self.resolver.identities.store(Arc::new(identities));
        self.announce();
        Reread::Replaced
    }

    /// For new handshakes.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What it was loaded from.
    pub fn settings(&self) -> &ListenTls {
        &self.settings
    }

    /// The files to watch.
    pub fn files(&self) -> Vec<PathBuf> {
        self.settings.files()
    }

    /// When the certificates can be used, in the order of the configuration.
    pub fn validity(&self) -> Vec<Validity> {
        let identities = self.resolver.identities.load();
        let validities = identities.iter().map(|one| one.validity.clone());
        validities.collect()
    }

    /// Tells the log which certificates there are, and when they end.
    pub fn announce(&self) {
        let now = SystemTime::now();
        for identity in self.resolver.identities.load().iter() {
            identity.log(&self.listener, now);
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("listener", &self.listener)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    /// The first certificate that is for the host, and else the first of all; of several, the first
    /// whose key the client can verify.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identities = self.identities.load();
        let can_verify = |identity: &&Identity| {
            let schemes = hello.signature_schemes();
            identity.certified.key.choose_scheme(schemes).is_some()
        };
        let for_host = || {
            let host = hello.server_name();
            let identities = identities.iter();
            identities.filter(move |one| host.is_some_and(|host| one.is_for(host)))
        };
        let chosen = (for_host().find(can_verify))
            .or_else(|| for_host().next())
            .or_else(|| identities.iter().find(can_verify))
            .or_else(|| identities.first());
        chosen.map(|identity| Arc::clone(&identity.certified))
    }
}

fn identities(
    settings: &ListenTls,
    provider: &CryptoProvider,
) -> Result<Vec<Identity>, CertificateError> {
    match settings {
        ListenTls::Files(files) => files
            .iter()
            .map(|files| Identity::load(files, provider))
            .collect(),
        ListenTls::SelfSigned => Ok(vec![Identity::self_signed(provider)?]),
    }
}
