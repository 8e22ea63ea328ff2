//! TLS in the bench: a certificate, and clients that trust it.

mod alone;
mod handshakes;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

pub(crate) use self::alone::AloneArguments;
pub(crate) use self::alone::run;
pub(crate) use self::handshakes::shake_hands;

/// The host that the certificate is for.
pub(crate) const HOST: &str = "localhost";

/// A certificate and its key (ECDSA P-256), in files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// Makes a pair and writes it to a directory.
    pub(crate) fn write_to(directory: &Path) -> Self {
        let params = CertificateParams::new([HOST.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let files = Self {
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

/// A client that trusts a certificate, speaks HTTP/1.1 over TLS 1.3 and resumes no session.
pub(crate) fn client_config(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificate).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
