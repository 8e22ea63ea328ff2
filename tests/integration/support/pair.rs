//! A certificate and its key, as files that a gateway reads, and clients that trust it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use tempfile::TempDir;

/// A certificate and its key, in files.
pub(crate) struct Pair {
    directory: TempDir,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Pair {
    /// For these hosts.
    pub(crate) fn new(hosts: &[&str]) -> Self {
        Self::with(hosts, |_| {})
    }

    /// For these hosts, and as `change` wants it.
    pub(crate) fn with(hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let directory = tempfile::tempdir().expect("a directory for a certificate");
        let certificate = write(directory.path(), hosts, change);
        Self {
            directory,
            certificate,
        }
    }

    /// One whose time is over.
    pub(crate) fn expired(hosts: &[&str]) -> Self {
        Self::with(hosts, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    /// Writes another pair into the same files.
    pub(crate) fn renew(&mut self, hosts: &[&str]) {
        self.certificate = write(self.directory.path(), hosts, |_| {});
    }

    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// As a configuration names it.
    pub(crate) fn table(&self) -> String {
        table(&self.certificate_file(), &self.key_file())
    }
}

/// A table `tls` of a listener.
pub(crate) fn table(certificate: &Path, key: &Path) -> String {
    let [certificate, key] = [certificate, key].map(Path::display);
    format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}")
}

/// A client that trusts these pairs, speaks HTTP/1.1 and these versions of TLS; none: all.
pub(crate) fn client_config(
    pairs: &[&Pair],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(pair.certificate.clone()).expect("a root");
    }
    let versions = if versions.is_empty() {
        rustls::DEFAULT_VERSIONS
    } else {
        versions
    };
    let config = ClientConfig::builder_with_protocol_versions(versions);
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A client that believes whoever answers, and looks at the certificate each time: a resumed session
/// shows none.
pub(crate) fn trusting_config() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder().dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(Trusting(provider)));
    let mut config = config.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn write(
    directory: &Path,
    hosts: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateDer<'static> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    for (name, text) in [
        ("certificate.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        // As a deploy hook does it: nobody finds half a file.
        let new = directory.join("new");
        fs::write(&new, text).expect("a file can be written");
        fs::rename(&new, directory.join(name)).expect("a file can be renamed");
    }
    certificate.der().clone()
}
