//! Upstreams over TLS and over HTTP/2.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::support::{Answer, Gateway, Origin, Server, Speaks, one_channel};

/// Reconnects soon, so that a test of several breaks is short.
pub(crate) const SOON: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\n";

/// The variable that stands in for the platform's roots.
pub(crate) const ROOTS: &str = "SSL_CERT_FILE";

/// An authority that the gateway is told to trust.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key.
pub(crate) type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn identity(certificate: &rcgen::Certificate, key: &KeyPair) -> Identity {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (certificate.der().clone(), key)
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params_of(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let directory = tempfile::tempdir().expect("a directory for the roots");
        std::fs::write(directory.path().join("roots.pem"), issuer.pem()).expect("the roots");
        Self { issuer, directory }
    }

    /// The file of its certificate.
    pub(crate) fn roots(&self) -> PathBuf {
        self.directory.path().join("roots.pem")
    }

    pub(crate) fn certify(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params_of_origin();
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer);
        identity(&certificate.expect("a certificate"), &key)
    }

    /// Writes a certificate for a client and its key to files.
    pub(crate) fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = key();
        let certificate = params_of(name).signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a certificate").pem();
        let write = |ending: &str, text: String| {
            let path = self.directory.path().join(format!("{name}.{ending}"));
            std::fs::write(&path, text).expect("a file");
            path
        };
        (write("pem", certificate), write("key", key.serialize_pem()))
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }
}

fn params_of(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

/// The origin's address is its name.
fn params_of_origin() -> CertificateParams {
    let mut params = params_of("the origin of a test");
    let address: IpAddr = "127.0.0.2".parse().expect("an address");
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    params
}

pub(crate) fn self_signed() -> Identity {
    let key = key();
    let certificate = params_of_origin().self_signed(&key);
    identity(&certificate.expect("a certificate"), &key)
}

async fn gateway(scheme: &str, server: &Server, lines: &str, roots: &Path) -> Gateway {
    let upstream = format!("{scheme}://{}/events", server.address());
    let config = one_channel(&upstream, &format!("{lines}\n{SOON}"));
    Gateway::with_environment(&config, ROOTS, roots).await
}

#[tokio::test]
async fn an_https_origin_is_trusted_by_the_platforms_roots() {
    let authority = Authority::new("an authority");
    for (speaks, lines) in [
        (Speaks::Http1, ""),
        (Speaks::Http1, "coalesce = \"5ms\""),
        (Speaks::Http2, "upstream_http = \"2\""),
        (Speaks::Http2, "upstream_http = \"2\"\ncoalesce = \"5ms\""),
    ] {
        let (certificate, key) = authority.certify(|_| {});
        let server = Server::with_tls(speaks, certificate, key).await;
        let gateway = gateway("https", &server, lines, &authority.roots()).await;
        let mut sub = gateway.subscribe().await;
        for number in 1..4 {
            let stream = server.stream(number).await;
            let asked_after = (number > 1).then(|| (number - 1).to_string());
            assert_eq!(
                stream.request_field("Last-Event-ID"),
                asked_after.as_deref()
            );
            stream
                .send(format!("id: {number}\ndata: {number}\n\n"))
                .await;
            sub.expect_event(&number.to_string()).await;
            stream.cut();
        }
    }
}

#[tokio::test]
async fn an_https_origin_that_is_not_trusted_is_refused() {
    let authority = Authority::new("an authority");
    let stranger = Authority::new("another authority");
    let elsewhere = SanType::DnsName("elsewhere.test".try_into().expect("a name"));
    for (said, (certificate, key)) in [
        ("UnknownIssuer", self_signed()),
        ("UnknownIssuer", stranger.certify(|_| {})),
        (
            "not valid for name",
            authority.certify(|params| params.subject_alt_names = vec![elsewhere]),
        ),
        (
            "expired",
            authority.certify(|params| {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }),
        ),
    ] {
        let server = Server::with_tls(Speaks::Http1, certificate, key).await;
        let mut gateway = gateway("https", &server, "", &authority.roots()).await;
        let sub = gateway.subscribe().await;
        let parts = ["WARN", "upstream failed", "reason=\"connect-failed\""];
        let lines = gateway.logged(2, &parts).await;
        let is_clear = lines[0].contains("invalid peer certificate") && lines[0].contains(said);
        assert!(is_clear, "{said}: {}", lines[0]);
        assert_eq!(server.n_streams(), 0, "nothing is asked of a stranger");
        assert!(gateway.is_running());
        drop(sub);
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    let origin = Origin::answering(Answer::Nothing).await;
    let authority = Authority::new("an authority");
    let upstream = format!("https://{}/events", origin.address());
    let lines = format!("connect_timeout = \"100ms\"\n{SOON}");
    let config = one_channel(&upstream, &lines);
    let roots = authority.roots();
    let gateway = Gateway::with_environment(&config, ROOTS, &roots).await;
    let parts = ["upstream failed", "reason=\"connect-timed-out\""];
    gateway.logged(2, &parts).await;
}

#[tokio::test]
async fn an_https_origin_without_http_2_is_refused_where_that_is_configured() {
    let authority = Authority::new("an authority");
    let (certificate, key) = authority.certify(|_| {});
    let server = Server::with_tls(Speaks::Http1, certificate, key).await;
    let lines = "upstream_http = \"2\"";
    let gateway = gateway("https", &server, lines, &authority.roots()).await;
    let parts = ["upstream failed", "connect-failed", "HTTP/2"];
    gateway.logged(2, &parts).await;
    assert_eq!(server.n_streams(), 0);
}

/// How a stream of HTTP/2 ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// The connection is gone.
    Cut,
    /// `RST_STREAM`
    Failed,
    /// `END_STREAM`
    Finished,
}

#[tokio::test]
async fn http_2_by_prior_knowledge() {
    for coalesce in ["", "coalesce = \"5ms\"\n"] {
        let server = Server::plain(Speaks::Http2).await;
        let lines = format!(
            "upstream_http = \"2\"\n{coalesce}\
             upstream_headers = {{ Authorization = \"Bearer s3cret\" }}\naccess = \"public\""
        );
        let gateway = gateway("http", &server, &lines, Path::new("/dev/null")).await;
        let mut sub = gateway.subscribe().await;
        let endings = [
            ("stream-ended", Ending::Finished),
            ("stream-broke", Ending::Failed),
            ("stream-broke", Ending::Cut),
        ];
        for (n, (reason, ending)) in endings.into_iter().enumerate() {
            let stream = server.stream(n + 1).await;
            let request = &stream.request;
            assert_eq!(request.version(), http::Version::HTTP_2);
            assert_eq!(
                request.uri().to_string(),
                format!("http://{}/events", server.address())
            );
            assert_eq!(stream.request_field("Accept"), Some("text/event-stream"));
            assert_eq!(stream.request_field("Cache-Control"), Some("no-store"));
            assert_eq!(stream.request_field("Authorization"), Some("Bearer s3cret"));
            let asked_after = (n > 0).then(|| n.to_string());
            assert_eq!(
                stream.request_field("Last-Event-ID"),
                asked_after.as_deref()
            );
            let number = n + 1;
            stream
                .send(format!("id: {number}\ndata: {number}\n\nid: cut\ndata: un"))
                .await;
            sub.expect_event(&number.to_string()).await;
            match ending {
                Ending::Cut => stream.cut(),
                Ending::Failed => stream.fail().await,
                Ending::Finished => stream.finish().await,
            }
            gateway.logged(1, &["upstream failed", reason]).await;
        }
        let last = server.stream(4).await;
        last.send("id: 4\ndata: 4\n\n").await;
        sub.expect_event("4").await;
    }
}

/// More than the windows of HTTP/2 hold: what was read is given back.
#[tokio::test]
async fn much_comes_over_one_http_2_stream() {
    const N_EVENTS: usize = 400;
    let server = Server::plain(Speaks::Http2).await;
    let lines = "upstream_http = \"2\"\nhistory.bytes = \"32MiB\"\nlag.limit = \"32MiB\"";
    let gateway = gateway("http", &server, lines, Path::new("/dev/null")).await;
    let mut sub = gateway.subscribe().await;
    let stream = server.stream(1).await;
    let padding = "x".repeat(20_000);
    let sending = async {
        for number in 0..N_EVENTS {
            stream.send(format!("data: {number} {padding}\n\n")).await;
        }
    };
    let reading = async {
        for number in 0..N_EVENTS {
            let event = sub.next_event().await;
            let is_next = event.data == format!("{number} {padding}");
            assert!(is_next, "event {number} is as it was sent");
        }
    };
    tokio::join!(sending, reading);
    assert_eq!(server.n_streams(), 1);
}

#[tokio::test]
async fn a_silent_http_2_stream_is_given_up() {
    let server = Server::plain(Speaks::Http2).await;
    let lines = "upstream_http = \"2\"\nidle_timeout = \"150ms\"";
    let gateway = gateway("http", &server, lines, Path::new("/dev/null")).await;
    server.stream(1).await.send("id: 1\ndata: a\n\n").await;
    let parts = ["upstream failed", "reason=\"stalled\""];
    gateway.logged(1, &parts).await;
    let again = server.stream(2).await;
    assert_eq!(again.request_field("Last-Event-ID"), Some("1"));
}

#[tokio::test]
async fn an_origin_of_the_other_version_is_no_origin() {
    let server = Server::plain(Speaks::Http2).await;
    let one = gateway("http", &server, "", Path::new("/dev/null")).await;
    one.logged(2, &["upstream failed", "request-failed"]).await;
    let server = Server::plain(Speaks::Http1).await;
    let lines = "upstream_http = \"2\"\nresponse_timeout = \"200ms\"";
    let two = gateway("http", &server, lines, Path::new("/dev/null")).await;
    two.logged(2, &["upstream failed"]).await;
    assert_eq!(server.n_streams(), 0);
}
