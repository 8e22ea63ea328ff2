//! Upstreams over TLS, by HTTP/1.1 and by HTTP/2.

use std::sync::Arc;

use http::{Method, Response, Version};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{answered, get, one_proxy};
use crate::secure::{Authority, Identity, self_signed};
use crate::support::{
    ANYWHERE, Admin, Backend, Caller, Client, End, Gateway, Speaks, nothing, piece, pieces,
    request, within,
};

const VERSIONS: [(Speaks, &str, Version); 2] = [
    (Speaks::Http1, "1.1", Version::HTTP_11),
    (Speaks::Http2, "2", Version::HTTP_2),
];

/// How an origin speaks TLS that has this certificate.
fn tls((certificate, key): Identity, speaks: Option<Speaks>) -> ServerConfig {
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key);
    let mut config = config.expect("a certificate and its key");
    config.alpn_protocols = match speaks {
        None => Vec::new(),
        Some(Speaks::Http1) => vec![b"http/1.1".to_vec()],
        Some(Speaks::Http2) => vec![b"h2".to_vec()],
    };
    config
}

/// A gateway that trusts an authority, and passes everything on by this version.
async fn gateway(url: &str, version: &str, authority: &Authority) -> Gateway {
    let url = url.replace("http:", "https:");
    let ca = authority.roots();
    let lines = format!(
        "upstream_http = \"{version}\"\nupstream_tls = {{ ca = \"{}\" }}\n{ANYWHERE}",
        ca.display()
    );
    Gateway::with_config(&one_proxy(&url, &lines)).await
}

#[tokio::test]
async fn contents_pass_both_ways_and_one_connection_serves_all() {
    for (speaks, version, http) in VERSIONS {
        let authority = Authority::new("an authority");
        let config = tls(authority.certify(|_| {}), Some(speaks));
        let mut backend = Backend::with_tls(speaks, config).await;
        let gateway = gateway(&backend.url(), version, &authority).await;
        let admin = Admin::of(&gateway).await;
        let mut caller = Caller::connect(&gateway, Speaks::Http1).await;
        for path in ["/first", "/second"] {
            let (client, content) = pieces();
            let answer = tokio::spawn(caller.send(request("POST", path), content));
            client.send("some").await;
            let mut exchange = backend.exchange().await;
            let head = &exchange.request;
            assert_eq!((&head.method, head.version), (&Method::POST, http));
            assert_eq!(head.uri.path(), path);
            if http == Version::HTTP_2 {
                assert_eq!(head.uri.scheme_str(), Some("https"));
            }
            // What the client wants encrypted or not is told apart from how the origin is asked.
            assert_eq!(exchange.field("x-forwarded-proto"), Some("http"));
            let some = exchange.piece().await.expect("a piece");
            assert_eq!(some.expect("bytes"), "some");
            client.send(" more").await;
            let more = exchange.piece().await.expect("a piece");
            assert_eq!(more.expect("bytes"), " more");
            drop(client);
            assert!(exchange.piece().await.is_none(), "it ends");
            let answering = exchange.begin(Response::builder().status(201));
            answering.send("an").await;
            let mut answer = answer.await.expect("no panic").expect("an answer");
            assert_eq!(answer.status(), 201);
            let first = piece(answer.body_mut()).await.expect("a piece");
            assert_eq!(first.expect("bytes"), "an");
            answering.send("swer").await;
            answering.finish();
            let second = piece(answer.body_mut()).await.expect("a piece");
            assert_eq!(second.expect("bytes"), "swer");
            assert!(piece(answer.body_mut()).await.is_none(), "it ends");
        }
        let connects = "ssecast_proxy_upstream_connects_total{proxy=\"web\"}";
        admin.until(&[(connects, 1.0)]).await;
    }
}

#[tokio::test]
async fn over_http2_requests_at_a_time_share_a_connection_and_end_one_by_one() {
    let authority = Authority::new("an authority");
    let config = tls(authority.certify(|_| {}), Some(Speaks::Http2));
    let mut backend = Backend::with_tls(Speaks::Http2, config).await;
    let gateway = gateway(&backend.url(), "2", &authority).await;
    let admin = Admin::of(&gateway).await;
    let mut leaving = Caller::connect(&gateway, Speaks::Http1).await;
    let first = tokio::spawn(leaving.send(request("GET", "/first"), nothing()));
    let mut left = backend.exchange().await;
    let mut caller = Caller::connect(&gateway, Speaks::Http2).await;
    let second = tokio::spawn(caller.send(request("GET", "/second"), nothing()));
    let other = backend.exchange().await;
    leaving.leave();
    left.gone().await;
    other.answer(Response::builder().status(202), nothing());
    let second = second.await.expect("no panic").expect("an answer");
    assert_eq!(second.status(), 202);
    assert!(first.await.expect("no panic").is_err());
    let connects = "ssecast_proxy_upstream_connects_total{proxy=\"web\"}";
    admin.until(&[(connects, 1.0)]).await;
}

#[tokio::test]
async fn an_upstream_that_agrees_on_no_http2_is_not_asked() {
    let authority = Authority::new("an authority");
    for (speaks, said) in [
        (None, "no h2 by ALPN"),
        (Some(Speaks::Http1), "NoApplicationProtocol"),
    ] {
        let config = tls(authority.certify(|_| {}), speaks);
        let backend = Backend::with_tls(Speaks::Http1, config).await;
        let gateway = gateway(&backend.url(), "2", &authority).await;
        let mut client = gateway.connect().await;
        client.send(get("/secret")).await;
        let (head, body) = answered(&mut client).await;
        assert_eq!(head.status, 502, "{body}");
        let parts = ["WARN", "can't be connected to", said];
        gateway.logged(1, &parts).await;
        assert!(!backend.has_more());
    }
}

#[tokio::test]
async fn a_stranger_is_asked_nothing() {
    for (speaks, version, _) in VERSIONS {
        let authority = Authority::new("an authority");
        let backend = Backend::with_tls(speaks, tls(self_signed(), Some(speaks))).await;
        let gateway = gateway(&backend.url(), version, &authority).await;
        let mut client = gateway.connect().await;
        client.send(get("/secret")).await;
        let (head, body) = answered(&mut client).await;
        assert_eq!(head.status, 502);
        assert_eq!(body, "proxy `web`: TLS with its upstream failed\n");
        gateway.logged(1, &["tls-failed", "UnknownIssuer"]).await;
        assert!(!backend.has_more());
    }
}

/// Somebody in between may close a connection, but can't say that TLS ends (RFC 8446, 6.1).
#[tokio::test]
async fn an_answer_that_ends_where_tls_does_not_is_cut() {
    let authority = Authority::new("an authority");
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(Arc::new(tls(authority.certify(|_| {}), None)));
    let gateway = gateway(&format!("http://{address}"), "1.1", &authority).await;
    for ends_well in [false, true] {
        let mut client = gateway.connect().await;
        client.send(get("/file")).await;
        let accepted = within("a connection", listener.accept(), || "none".to_owned());
        let (stream, _) = accepted.await.expect("a connection");
        let stream = within("TLS", acceptor.accept(stream), || "none".to_owned());
        let mut line = Client::over(stream.await.expect("TLS"));
        line.take_through(b"\r\n\r\n", "a request").await;
        line.send("HTTP/1.1 200 OK\r\n\r\nsome").await;
        if ends_well {
            line.finish_sending().await;
        } else {
            drop(line);
        }
        client.head().await;
        assert_eq!(client.chunk().await, Ok(b"some".to_vec()));
        let end = client.chunk().await.expect_err("the end");
        assert_eq!(end == End::Clean, ends_well, "{end:?}");
    }
}
