//! `upstream_tls`: whom the gateway trusts as an origin, and as whom it introduces itself.

use std::path::Path;
use std::sync::Arc;

use rcgen::SanType;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::secure::{Authority, Identity, ROOTS, SOON, self_signed};
use crate::support::{Gateway, Server, Speaks, one_channel};

/// A gateway that knows no authority but those of its configuration.
async fn gateway(server: &Server, tls: &str) -> Gateway {
    let upstream = format!("https://{}/events", server.address());
    let config = one_channel(&upstream, &format!("upstream_tls = {{ {tls} }}\n{SOON}"));
    Gateway::with_environment(&config, ROOTS, Path::new("/dev/null")).await
}

/// An origin that wants a certificate of this authority.
async fn demanding(speaks: Speaks, authority: &Authority, identity: Identity) -> Server {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).expect("an authority");
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier.expect("a verifier"));
    let (certificate, key) = identity;
    let config = config.with_single_cert(vec![certificate], key);
    Server::with_tls_config(speaks, config.expect("a certificate and its key")).await
}

async fn assert_events_come(gateway: &Gateway, server: &Server) {
    let mut sub = gateway.subscribe().await;
    server.stream(1).await.send("id: 1\ndata: a\n\n").await;
    sub.expect_first_event("a").await;
}

#[tokio::test]
async fn an_authority_of_the_configuration_is_trusted_and_no_other() {
    let authority = Authority::new("an authority");
    let ca = format!("ca = \"{}\"", authority.roots().display());
    for (speaks, version) in [(Speaks::Http1, "1.1"), (Speaks::Http2, "2")] {
        let (certificate, key) = authority.certify(|_| {});
        let server = Server::with_tls(speaks, certificate, key).await;
        let upstream = format!("https://{}/events", server.address());
        let lines = format!("upstream_http = \"{version}\"\nupstream_tls = {{ {ca} }}\n{SOON}");
        let config = one_channel(&upstream, &lines);
        let gateway = Gateway::with_environment(&config, ROOTS, Path::new("/dev/null")).await;
        assert_events_come(&gateway, &server).await;
    }
    // Instead of the platform's authorities, which would vouch for it.
    let platform = Authority::new("the platform's authority");
    let (certificate, key) = platform.certify(|_| {});
    let server = Server::with_tls(Speaks::Http1, certificate, key).await;
    let upstream = format!("https://{}/events", server.address());
    let config = one_channel(&upstream, &format!("upstream_tls = {{ {ca} }}\n{SOON}"));
    let gateway = Gateway::with_environment(&config, ROOTS, &platform.roots()).await;
    let parts = ["upstream failed", "UnknownIssuer", "upstream_tls.ca"];
    gateway.logged(1, &parts).await;
    assert_eq!(server.n_streams(), 0, "nothing is asked of a stranger");
}

#[tokio::test]
async fn an_origin_that_asks_who_the_gateway_is_is_told() {
    let authority = Authority::new("an authority");
    let clients = Authority::new("an authority of clients");
    let ca = format!("ca = \"{}\"", authority.roots().display());
    let identified = |(certificate, key): (std::path::PathBuf, std::path::PathBuf)| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("{ca}, certificate = \"{certificate}\", key = \"{key}\"")
    };
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let server = demanding(speaks, &clients, authority.certify(|_| {})).await;
        let upstream = format!("https://{}/events", server.address());
        let version = if speaks == Speaks::Http1 { "1.1" } else { "2" };
        for (tls, is_welcome) in [
            (ca.clone(), false),
            (identified(authority.client("stranger")), false),
            (identified(clients.client("gateway")), true),
        ] {
            let lines =
                format!("upstream_http = \"{version}\"\nupstream_tls = {{ {tls} }}\n{SOON}");
            let config = one_channel(&upstream, &lines);
            let gateway = Gateway::with_environment(&config, ROOTS, Path::new("/dev/null")).await;
            if is_welcome {
                assert_events_come(&gateway, &server).await;
            } else {
                // In TLS 1.3 it is refused when it has asked already; it may see only the end then.
                gateway.logged(1, &["received fatal alert"]).await;
                if speaks == Speaks::Http1 {
                    gateway.logged(1, &["upstream_tls.certificate"]).await;
                }
                assert_eq!(server.n_streams(), 0);
            }
        }
    }
}

#[tokio::test]
async fn an_origin_may_have_another_name_if_it_is_said() {
    let authority = Authority::new("an authority");
    let ca = format!("ca = \"{}\"", authority.roots().display());
    let name = SanType::DnsName("origin.internal".try_into().expect("a name"));
    let (certificate, key) = authority.certify(|params| params.subject_alt_names = vec![name]);
    let server = Server::with_tls(Speaks::Http1, certificate, key).await;
    let without = gateway(&server, &ca).await;
    let parts = ["not valid for name", "upstream_tls.server_name"];
    without.logged(1, &parts).await;
    let wrong = gateway(&server, &format!("{ca}, server_name = \"other.internal\"")).await;
    wrong.logged(1, &["not valid for name"]).await;
    assert_eq!(server.n_streams(), 0);
    let right = gateway(&server, &format!("{ca}, server_name = \"origin.internal\"")).await;
    assert_events_come(&right, &server).await;
}

#[tokio::test]
async fn verification_can_be_switched_off_and_the_log_says_so() {
    let (certificate, key) = self_signed();
    let server = Server::with_tls(Speaks::Http1, certificate, key).await;
    let gateway = gateway(&server, "dangerously_skip_verification = true").await;
    let parts = ["WARN", "dangerously_skip_verification", "line="];
    gateway.logged(1, &parts).await;
    assert_events_come(&gateway, &server).await;
}

#[tokio::test]
async fn a_renewed_client_certificate_is_used_by_the_next_connection() {
    let authority = Authority::new("an authority");
    let (old, new) = (Authority::new("of old"), Authority::new("of new"));
    let server = demanding(Speaks::Http1, &new, authority.certify(|_| {})).await;
    let (certificate, key) = old.client("gateway");
    let tls = format!(
        "ca = \"{}\", certificate = \"{}\", key = \"{}\"",
        authority.roots().display(),
        certificate.display(),
        key.display()
    );
    let gateway = gateway(&server, &tls).await;
    gateway.logged(1, &["upstream failed"]).await;
    // The key is renewed a moment before the certificate: until both are, the old pair is used.
    let (new_certificate, new_key) = new.client("gateway");
    std::fs::rename(new_key, key).expect("a new key");
    let parts = ["ERROR", "used on", "upstream_tls"];
    gateway.logged(1, &parts).await;
    assert_eq!(server.n_streams(), 0);
    std::fs::rename(new_certificate, certificate).expect("a new certificate");
    assert_events_come(&gateway, &server).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_the_gateway_does_not_start() {
    let lines = "upstream_tls = { ca = \"/nowhere/ca.pem\" }";
    let config = one_channel("https://127.0.0.1:1/events", lines);
    let ended = Gateway::fail_to_start(&config).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    for part in [
        "`events`",
        "`upstream_tls.ca`",
        "/nowhere/ca.pem",
        "No such file",
    ] {
        assert!(ended.log.contains(part), "{part}: {}", ended.log);
    }
}
