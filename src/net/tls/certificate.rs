//! Certificates with their keys, from PEM files, and what a listener says of them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::config::CertificateFiles;

/// A certificate, its chain and its key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// The hosts that it is for, in lower case; one may begin with `*.`.
    names: Vec<String>,
    pub(super) validity: Validity,
}

/// When a certificate can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// Its file; for a certificate that was made at the start, what it is.
    pub certificate: PathBuf,
    /// Not before it began.
    pub not_before: SystemTime,
    /// Nor after its end.
    pub not_after: SystemTime,
}

/// How a certificate stands today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Clients refuse it already.
    Expired,
    /// They will soon.
    ExpiresSoon,
    /// Nothing is wrong with it.
    Fine,
    /// They refuse it still.
    NotYetValid,
}

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is no certificate.
    #[error("{}: not a certificate: {cause}", file.display())]
    BadCertificate {
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// It is no key.
    #[error("{}: not a key that can be used: {cause}", file.display())]
    BadKey {
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        cause: Error,
    },
    /// It is no PEM.
    #[error("{}: not PEM: {cause}", file.display())]
    BadPem {
        /// Where it is.
        file: PathBuf,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// A key with a passphrase.
    #[error(
        "{}: the key is encrypted; write it without a passphrase (openssl pkey -in … -out …)",
        file.display()
    )]
    EncryptedKey {
        /// Where it is.
        file: PathBuf,
    },
    /// One of another pair.
    #[error("{}: the key is not that of the certificate {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Another kind of PEM.
    #[error("{}: there is no certificate in it (-----BEGIN CERTIFICATE-----)", file.display())]
    NoCertificate {
        /// Where none is.
        file: PathBuf,
    },
    /// Another kind of PEM.
    #[error("{}: there is no private key in it (-----BEGIN PRIVATE KEY-----)", file.display())]
    NoKey {
        /// Where none is.
        file: PathBuf,
    },
    /// The library can't, which no file is to blame for.
    #[error("TLS can't be had: {0}")]
    Provider(Error),
    /// A certificate for development can't be made.
    #[error("can't make a certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// No file, or not ours to read.
    #[error("{}: {cause}{}", file.display(), advice(cause))]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Time before the end of a certificate at which a renewal is overdue: those who renew do it when a
/// third of the life is left, which is a month of the usual three.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// No chain and no key is larger.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

impl Identity {
    /// Reads a pair of files.
    pub(super) fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let chain = chain(&files.certificate)?;
        let key = key(&files.key)?;
        let signing = provider.key_provider.load_private_key(key);
        let signing = signing.map_err(|cause| CertificateError::BadKey {
            file: files.key.clone(),
            cause,
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(CertificateError::KeyMismatch {
                    certificate: files.certificate.clone(),
                    key: files.key.clone(),
                });
            }
            Err(cause) => return Err(bad_certificate(&files.certificate, &cause)),
        }
        Self::of(certified, &files.certificate)
    }

    /// Makes a certificate that no client trusts, for this machine's own names.
    pub(super) fn self_signed(provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names)?;
        let subject = rcgen::DnType::CommonName;
        params
            .distinguished_name
            .push(subject, "ssecast development certificate");
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(24 * 60 * 60)).into();
        params.not_after = (now + SELF_SIGNED_LIFE).into();
        let key = rcgen::KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let file = Path::new("self-signed");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, provider)
            .map_err(|cause| bad_certificate(file, &cause))?;
        Self::of(certified, file)
    }

    fn of(certified: CertifiedKey, file: &Path) -> Result<Self, CertificateError> {
        let no_certificate = || CertificateError::NoCertificate {
            file: file.to_owned(),
        };
        let own = certified.cert.first().ok_or_else(no_certificate)?;
        let (_, parsed) =
            parse_x509_certificate(own).map_err(|cause| bad_certificate(file, &cause))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|cause| bad_certificate(file, &cause))?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            names: names.collect(),
            validity: Validity {
                certificate: file.to_owned(),
                not_before: time(parsed.validity().not_before.timestamp()),
                not_after: time(parsed.validity().not_after.timestamp()),
            },
            certified: Arc::new(certified),
        })
    }

    /// Whether the certificate is for this host (RFC 9525, 6.3).
    pub(super) fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| {
                !label.is_empty() && rest.eq_ignore_ascii_case(parent)
            }),
            None => host.eq_ignore_ascii_case(name),
        })
    }

    /// Says what was loaded, and warns if it is of no use.
    pub(super) fn log(&self, listener: &str, now: SystemTime) {
        let file = self.validity.certificate.display();
        let not_after = httpdate::fmt_http_date(self.validity.not_after);
        let names = self.names.join(" ");
        match self.validity.standing(now) {
            Standing::Fine => {
                tracing::info!(listener, %file, names, not_after, "loaded a certificate");
            }
            Standing::Expired => {
                tracing::warn!(listener, %file, names, not_after, "the certificate has expired");
            }
            Standing::ExpiresSoon => {
                tracing::warn!(listener, %file, names, not_after, "the certificate expires soon");
            }
            Standing::NotYetValid => {
                tracing::warn!(listener, %file, names, "the certificate is not valid yet");
            }
        }
    }
}

impl Validity {
    /// How it stands at this time.
    pub fn standing(&self, now: SystemTime) -> Standing {
        if now > self.not_after {
            Standing::Expired
        } else if now < self.not_before {
            Standing::NotYetValid
        } else if now + SOON > self.not_after {
            Standing::ExpiresSoon
        } else {
            Standing::Fine
        }
    }
}

/// How long a certificate for development is valid: longer than a process is run in development.
const SELF_SIGNED_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|cause| bad_pem(file, cause))?;
    if chain.is_empty() {
        let file = file.to_owned();
        return Err(CertificateError::NoCertificate { file });
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read(path)?;
    let file = path.to_owned();
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) if is_encrypted(&bytes) => {
            drop(key);
            Err(CertificateError::EncryptedKey { file })
        }
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if is_encrypted(&bytes) => {
            Err(CertificateError::EncryptedKey { file })
        }
        Err(pem::Error::NoItemsFound) => Err(CertificateError::NoKey { file }),
        Err(cause) => Err(bad_pem(path, cause)),
    }
}

/// `BEGIN ENCRYPTED PRIVATE KEY` (RFC 5958), or the header of older files (RFC 1421).
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|cause| CertificateError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
    Ok(bytes)
}

fn bad_pem(file: &Path, cause: pem::Error) -> CertificateError {
    CertificateError::BadPem {
        file: file.to_owned(),
        cause,
    }
}

fn bad_certificate(file: &Path, cause: &impl ToString) -> CertificateError {
    CertificateError::BadCertificate {
        file: file.to_owned(),
        cause: cause.to_string(),
    }
}

/// What to do about a file that can't be read.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => {
            "; let the user that runs the gateway read it, and its directories"
        }
        _ => "",
    }
}

fn time(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
