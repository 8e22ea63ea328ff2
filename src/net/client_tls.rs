//! How https origins are spoken to: client configurations, made from files and shared.
//!
//! Thousands of channels with the same settings share one [`ClientConfig`], and with it the origin's
//! session tickets. It is made when the first of them connects, and made anew by the first
//! connection after one of its files has changed; so a renewed certificate needs no reload. Files
//! that can't be used then change nothing: the old configuration goes on, and the log says why.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::Instant;

use super::unverified::Unverified;
use crate::config::{ClientIdentity, UpstreamTls, Verification};

/// All client configurations.
#[derive(Debug, Default)]
pub struct ClientTls {
    /// Held while files are looked at, so that after an outage thousands of channels wait for one
    /// who does it. That is done on a thread for it: a disk may be slow, and whoever connects shares
    /// its thread with delivery.
    clients: tokio::sync::Mutex<HashMap<UpstreamTls, Entry>>,
}

/// A client configuration, by the protocol that it offers.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) http1: Arc<ClientConfig>,
    pub(super) http2: Arc<ClientConfig>,
}

/// Why there is no client configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// The certificate and the key can't be used together.
    #[error("`upstream_tls`: {certificate} and {key} can't be used: {cause}")]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        cause: rustls::Error,
    },
    /// The process ends.
    #[error("reading files was interrupted: {0}")]
    Interrupted(tokio::task::JoinError),
    /// The name is none that a certificate can have.
    #[error("`upstream_tls.server_name`: {0:?} is no name that a certificate can have")]
    Name(String),
    /// The platform has no authorities.
    #[error(
        "no certificates of authorities are installed: {0}; install ca-certificates, or name \
             a file by `upstream_tls.ca`"
    )]
    Roots(rustls::Error),
    /// A file can't be read.
    #[error("`upstream_tls.{key}`: {path} can't be read: {cause}")]
    Unreadable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("`upstream_tls.{key}`: {path} {problem}")]
    Unusable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    client: Client,
    /// What it was made of.
    sources: Vec<Option<Stamp>>,
    made_at: Instant,
    /// When its files were looked at last.
    looked_at: Instant,
}

/// Tells one state of a file from another: a file that is written, or replaced by rename or by
/// another target of its symbolic link, has another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// How long the platform's authorities are believed before they are read again: they have no file
/// of their own to look at, and a process runs for years.
const ROOTS_AGE: Duration = Duration::from_secs(60 * 60);

/// How long files are taken for unchanged after a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A configuration that nobody asked for in this time is forgotten when another is made; so that
/// reloads that change settings leave nothing behind.
const KEPT_UNUSED: Duration = Duration::from_secs(60 * 60);

/// No certificate, key or set of authorities is larger; a wrong path may lead to anything.
const MOST_FILE_BYTES: u64 = 16 * 1024 * 1024;

impl ClientTls {
    /// Whether connections can be made with these settings, as far as files say.
    ///
    /// # Errors
    ///
    /// Which file can't be used, and why.
    pub fn check(&self, settings: &UpstreamTls) -> Result<(), ClientTlsError> {
        if let Some(name) = &settings.server_name {
            server_name(name).map_err(|_invalid| ClientTlsError::Name(name.clone()))?;
        }
        // The platform's authorities are needed when something is connected to, not before.
        if settings.ca.is_none() && settings.identity.is_none() {
            return Ok(());
        }
        Entry::make(settings, Instant::now()).map(drop)
    }

    /// The client configuration for these settings.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: who comes next looks at the files again.
    pub(super) async fn client(&self, settings: &UpstreamTls) -> Result<Client, ClientTlsError> {
        // The name is said per connection.
        let settings = UpstreamTls {
            server_name: None,
            ..settings.clone()
        };
        let mut clients = self.clients.lock().await;
        let now = Instant::now();
        let known = clients.get(&settings).cloned();
        if let Some(known) = &known
            && now - known.looked_at < LOOK_INTERVAL
        {
            return Ok(known.client.clone());
        }
        let (settings, looked) = tokio::task::spawn_blocking(move || {
            let looked = Entry::look(known, &settings, now);
            (settings, looked)
        })
        .await
        .map_err(ClientTlsError::Interrupted)?;
        let entry = looked?;
        let client = entry.client.clone();
        clients.retain(|_, entry| now - entry.looked_at <= KEPT_UNUSED);
        clients.insert(settings, entry);
        Ok(client)
    }
}

/// The name that a certificate must have for this host, which may be an IP address in brackets.
pub(super) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(io::Error::other)
}

impl Entry {
    /// What is known, or what its files say if they have changed. Blocks.
    fn look(
        known: Option<Self>,
        settings: &UpstreamTls,
        now: Instant,
    ) -> Result<Self, ClientTlsError> {
        let Some(mut known) = known else {
            return Self::make(settings, now);
        };
        known.looked_at = now;
        if !known.is_stale(settings, now) {
            return Ok(known);
        }
        match Self::make(settings, now) {
            Ok(anew) => {
                let UpstreamTls { ca, identity, .. } = settings;
                tracing::info!(?ca, ?identity, "read the files of upstream_tls again");
                Ok(anew)
            }
            // The next look tries again.
            Err(error) => {
                tracing::error!(
                    %error,
                    "a changed file of upstream_tls can't be used; what was read before is used on"
                );
                Ok(known)
            }
        }
    }

    /// Reads the files. Blocks.
    fn make(settings: &UpstreamTls, now: Instant) -> Result<Self, ClientTlsError> {
        // Before the files are read: if one changes meanwhile, it is read again.
        let sources = stamps(settings);
        let builder = trusting(settings)?;
        let base = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => identified(builder, identity)?,
        };
        let with_alpn = |protocol: &[u8]| {
            let mut config = base.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let client = Client {
            http1: with_alpn(b"http/1.1"),
            http2: with_alpn(b"h2"),
        };
        Ok(Self {
            client,
            sources,
            made_at: now,
            looked_at: now,
        })
    }

    /// Whether it should be made anew.
    fn is_stale(&self, settings: &UpstreamTls, now: Instant) -> bool {
        let trusts_platform =
            settings.ca.is_none() && settings.verification == Verification::Required;
        (trusts_platform && now - self.made_at > ROOTS_AGE) || self.sources != stamps(settings)
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn stamps(settings: &UpstreamTls) -> Vec<Option<Stamp>> {
    let identity = settings.identity.as_ref();
    let files = [
        settings.ca.as_ref(),
        identity.map(|identity| &identity.certificate),
        identity.map(|identity| &identity.key),
    ];
    files
        .into_iter()
        .flatten()
        .map(|path| Stamp::of(path))
        .collect()
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

/// A client that trusts whom the settings say.
fn trusting(settings: &UpstreamTls) -> Result<Builder, ClientTlsError> {
    let builder = ClientConfig::builder();
    if settings.verification == Verification::Skipped {
        let verifier = Unverified::new(builder.crypto_provider());
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)));
    }
    let Some(path) = &settings.ca else {
        return builder
            .with_platform_verifier()
            .map_err(ClientTlsError::Roots);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots
            .add(certificate)
            .map_err(|error| ClientTlsError::Unusable {
                key: "ca",
                path: path.clone(),
                problem: format!("holds a certificate that can't be trusted: {error}"),
            })?;
    }
    Ok(builder.with_root_certificates(roots))
}

/// A client that can say who it is.
fn identified(builder: Builder, identity: &ClientIdentity) -> Result<ClientConfig, ClientTlsError> {
    let ClientIdentity { certificate, key } = identity;
    let chain = certificates("certificate", certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read("key", key)?).map_err(|error| {
        let problem = format!("holds no private key in PEM form: {error}");
        unusable("key", key, problem)
    })?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|cause| ClientTlsError::Identity {
            certificate: certificate.clone(),
            key: key.clone(),
            cause,
        })
}

/// The certificates of a PEM file; at least one.
fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let bytes = read(key, path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            let problem = "holds no certificate in PEM form".to_owned();
            Err(unusable(key, path, problem))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(key, path, format!("is no PEM file: {error}"))),
    }
}

fn unusable(key: &'static str, path: &Path, problem: String) -> ClientTlsError {
    ClientTlsError::Unusable {
        key,
        path: path.to_owned(),
        problem,
    }
}

/// Reads a file, and only a file: a pipe would hold up the thread.
fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ClientTlsError> {
    let read = || {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(MOST_FILE_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|cause| ClientTlsError::Unreadable {
        key,
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// A certificate and its key, in PEM form.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([]).expect("no names");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn with_ca(ca: &Path) -> UpstreamTls {
        UpstreamTls {
            ca: Some(ca.to_owned()),
            ..UpstreamTls::default()
        }
    }

    #[tokio::test]
    async fn channels_with_the_same_settings_share_one_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = write(directory.path(), "ca.pem", &pair().0);
        let tls = ClientTls::default();
        let first = tls.client(&with_ca(&ca)).await.expect("a client");
        let named = UpstreamTls {
            server_name: Some("other.example".to_owned()),
            ..with_ca(&ca)
        };
        let second = tls.client(&named).await.expect("a client");
        assert!(Arc::ptr_eq(&first.http1, &second.http1));
        let skipping = UpstreamTls {
            verification: Verification::Skipped,
            ..with_ca(&ca)
        };
        let other = tls.client(&skipping).await.expect("a client");
        assert!(!Arc::ptr_eq(&first.http1, &other.http1));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = write(directory.path(), "ca.pem", &pair().0);
        let now = Instant::now();
        let look = |known: Option<&Entry>| {
            let entry = Entry::look(known.cloned(), &with_ca(&ca), now);
            entry.expect("a client")
        };
        let is_same = |a: &Entry, b: &Entry| Arc::ptr_eq(&a.client.http1, &b.client.http1);
        let first = look(None);
        assert!(is_same(&first, &look(Some(&first))), "nothing has changed");
        let new = write(directory.path(), "new.pem", &pair().0);
        fs::rename(&new, &ca).expect("a renewed file");
        let second = look(Some(&first));
        assert!(!is_same(&first, &second), "the file has changed");
        for broken in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            write(directory.path(), "ca.pem", broken);
            assert!(is_same(&second, &look(Some(&second))), "{broken:?}");
        }
        fs::remove_file(&ca).expect("the file is there");
        assert!(is_same(&second, &look(Some(&second))), "the file is gone");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let tls = ClientTls::default();
        let (certificate, key) = pair();
        let file = |name: &str, text: &str| write(directory.path(), name, text);
        let (certificate, key) = (file("c.pem", &certificate), file("k.pem", &key));
        let (other_key, empty) = (file("other.pem", &pair().1), file("empty.pem", ""));
        let nowhere = directory.path().join("nowhere.pem");
        let said = |settings: &UpstreamTls| match tls.check(settings) {
            Ok(()) => panic!("{settings:?} is right"),
            Err(error) => error.to_string(),
        };
        for (ca, part) in [
            (&nowhere, "nowhere.pem can't be read: No such file"),
            (&directory.path().to_owned(), "it is not a file"),
            (&empty, "holds no certificate"),
            (&key, "holds no certificate"),
        ] {
            let said = said(&with_ca(ca));
            assert!(
                said.contains("`upstream_tls.ca`") && said.contains(part),
                "{said}"
            );
        }
        let with_identity = |certificate: &Path, key: &Path| UpstreamTls {
            identity: Some(ClientIdentity {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            }),
            ..with_ca(certificate)
        };
        assert!(tls.check(&with_identity(&certificate, &key)).is_ok());
        for (certificate, key, part) in [
            (&certificate, &certificate, "`upstream_tls.key`"),
            (&certificate, &nowhere, "`upstream_tls.key`"),
            (&certificate, &other_key, "can't be used"),
        ] {
            let said = said(&with_identity(certificate, key));
            assert!(said.contains(part), "{said}");
        }
    }
}
