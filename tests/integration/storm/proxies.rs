//! Behind proxies it is the client that counts, as far as the proxy can be trusted.

use std::os::unix::fs::PermissionsExt as _;

use super::{REQUEST, Received, come, config, receive};
use crate::support::{
    ANYWHERE, Admin, Connector, Gateway, Http2, Origin, Pair, Subscriber, trusting_config,
};

const LIMITED: &str =
    "max_connections_per_address = 1\ntrusted_proxies = [\"127.0.0.1\", \"unix:\"]";

/// A request that a proxy passes on with these header fields.
async fn pass_on(
    connector: Connector,
    address: &str,
    fields: &str,
) -> (Received, Option<Subscriber>) {
    let mut client = connector.connect_to(address).await;
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n"));
    client.send(request).await;
    receive(client).await
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_share() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&config(&origin, LIMITED, "")).await;
    let admin = Admin::of(&gateway).await;
    let proxy = Connector::default();
    let address = gateway.address();
    let mut subs = Vec::new();
    for (fields, is_in) in [
        ("X-Forwarded-For: 192.0.2.1", true),
        ("X-Forwarded-For: 192.0.2.1", false),
        ("X-Forwarded-For: 1.1.1.1, 192.0.2.1", false),
        ("Forwarded: for=192.0.2.1", false),
        ("Forwarded: for=\"192.0.2.1:4711\";proto=https", false),
        (
            "Forwarded: for=192.0.2.2\r\nX-Forwarded-For: 192.0.2.1",
            false,
        ),
        ("X-Forwarded-For: 192.0.2.2", true),
        (
            "X-Forwarded-For: 192.0.2.3\r\nX-Forwarded-For: 127.0.0.1",
            true,
        ),
        ("Forwarded: for=\"[2001:db8::1]\"", true),
        ("X-Forwarded-For: 2001:db8::1", false),
        // It does not say for whom: it is the proxy's own business.
        ("X-Forwarded-For: unknown", true),
        ("X-Forwarded-For: unknown", true),
        ("Via: 1.1 proxy", true),
    ] {
        let (received, sub) = pass_on(proxy, address, fields).await;
        assert_eq!(received == Received::In, is_in, "{fields}: {received:?}");
        subs.extend(sub);
    }
    admin
        .until(&[
            ("ssecast_tracked_addresses{of=\"address\"}", 4.0),
            ("ssecast_unattributed_subscriptions_total", 3.0),
        ])
        .await;
    gateway
        .logged(1, &["WARN", "does not say for whom it asks"])
        .await;
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
    drop(subs);
    admin
        .until(&[("ssecast_tracked_addresses{of=\"address\"}", 0.0)])
        .await;
    gateway
        .logged(1, &["a subscriber left", "client=192.0.2.2"])
        .await;
}

#[tokio::test]
async fn what_others_say_is_ignored() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&config(&origin, LIMITED, "")).await;
    let stranger = Connector::default().from([0, 0, 9]);
    let address = gateway.address();
    let (received, _sub) = pass_on(stranger, address, "X-Forwarded-For: 192.0.2.1").await;
    assert_eq!(received, Received::In);
    for n in 2..10 {
        let fields = format!("X-Forwarded-For: 192.0.2.{n}\r\nForwarded: for=192.0.2.{n}");
        let (received, _) = pass_on(stranger, address, &fields).await;
        assert!(matches!(received, Received::Refused(_)), "{received:?}");
    }
    // And the address that it gave is still free.
    let (received, _) = pass_on(Connector::default(), address, "X-Forwarded-For: 192.0.2.1").await;
    assert_eq!(received, Received::In);
}

#[tokio::test]
async fn one_connection_of_a_proxy_carries_many_clients() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&config(&origin, LIMITED, "")).await;
    let proxy = Http2::connect(&gateway).await;
    let mut subs = Vec::new();
    for n in 1..=20 {
        let client = format!("192.0.2.{n}");
        let fields = [("x-forwarded-for", client.as_str())];
        subs.push(proxy.subscribe_with("/events", &fields).await);
    }
    let fields = [
        ("x-forwarded-for", "192.0.2.7"),
        ("accept", "text/event-stream"),
    ];
    let answer = proxy.try_request("GET", "/events", &fields).await;
    let (head, mut refused) = answer.expect("an answer");
    let (said, _) = refused.rest().await;
    assert_eq!(head.status, 200);
    assert!(said.starts_with(b"retry: "), "{said:?}");
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn a_unix_socket_is_a_proxys_if_it_is_trusted() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("http.sock");
    let address = format!("unix:{}", socket.display());
    let origin = Origin::start().await;
    let text = config(&origin, LIMITED, "").replacen("127.0.0.1:0", &address, 1);
    let gateway = Gateway::with_config(&text).await;
    let mode = std::fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_ne!(mode & 0o600, 0);
    let proxy = Connector::default();
    let (received, _sub) = pass_on(proxy, &address, "X-Forwarded-For: 192.0.2.1").await;
    assert_eq!(received, Received::In);
    let (received, _) = pass_on(proxy, &address, "X-Forwarded-For: 192.0.2.1").await;
    assert!(matches!(received, Received::Refused(_)), "{received:?}");
    let untrusted = text.replace(", \"unix:\"", "");
    gateway.reload(&untrusted, "applied").await;
    for _ in 0..3 {
        let (received, _) = pass_on(proxy, &address, "X-Forwarded-For: 192.0.2.1").await;
        assert_eq!(
            received,
            Received::In,
            "it has no address that could be counted"
        );
    }
}

// --- the PROXY protocol ---

/// Version 2, of a client at 192.0.2.1 and one at 192.0.2.2, with an extension that is skipped.
const V2_1: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x01\x0a\0\0\x01\x80\0\0\x50\x04\0\x01\0";
const V2_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x02\x0a\0\0\x01\x80\0\0\x50";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const V1_3: &[u8] = b"PROXY TCP4 192.0.2.3 10.0.0.1 32768 80\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

fn speaking_proxy(origin: &Origin, listen: &str) -> String {
    let listen = format!("address = \"127.0.0.1:0\"\nproxy_protocol = true\n{listen}\n[admin]");
    config(origin, &format!("header_timeout = \"1s\"\n{LIMITED}"), "").replacen(
        "address = \"127.0.0.1:0\"\n[admin]",
        &listen,
        1,
    )
}

fn errors(reason: &str) -> String {
    format!("ssecast_proxy_protocol_errors_total{{reason=\"{reason}\"}}")
}

#[tokio::test]
async fn the_proxy_protocol_says_who_a_connection_is() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&speaking_proxy(&origin, "")).await;
    let proxy = Connector::default();
    let mut subs = Vec::new();
    for (header, is_in) in [
        (V2_1, true),
        (V2_1, false),
        (V2_2, true),
        (V1_3, true),
        (V1_3, false),
        (V2_LOCAL, true),
        (V2_LOCAL, true),
        (V1_UNKNOWN, true),
    ] {
        let client = proxy.begin_with(header).connect(&gateway).await;
        let (received, sub) = come(client).await;
        assert_eq!(received == Received::In, is_in, "{header:?}: {received:?}");
        subs.extend(sub);
    }
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
    // HTTP/2 begins after it as ever.
    let client = Http2::by(proxy.begin_with(V2_LOCAL), &gateway).await;
    let mut sub = client.subscribe().await;
    origin.send("data: b\n\n").await;
    sub.expect_event("b").await;
    drop(subs);
    gateway
        .logged(1, &["a subscriber left", "client=192.0.2.3"])
        .await;
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte_and_with_what_follows() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&speaking_proxy(&origin, "")).await;
    for header in [V2_2, V1_3] {
        let mut client = gateway.connect().await;
        for byte in header.iter().chain(REQUEST.as_bytes()) {
            client.send([*byte]).await;
        }
        let (received, sub) = receive(client).await;
        assert_eq!(received, Received::In);
        origin.send("data: a\n\n").await;
        sub.expect("it is in").expect_event("a").await;
    }
    gateway.logged(2, &["a subscriber left"]).await;
    let mut client = gateway.connect().await;
    client.send([V2_2, REQUEST.as_bytes()].concat()).await;
    assert_eq!(receive(client).await.0, Received::In);
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let gateway =
        Gateway::with_config(&speaking_proxy(&origin, &format!("tls = {}", pair.table()))).await;
    let proxy = Connector::default().begin_with(V2_1);
    let config = trusting_config();
    let connecting = proxy.connect_over_tls(gateway.address(), "gateway.test", &config);
    let (client, _) = connecting.await;
    let mut sub = client.subscribe("/events", "").await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    let connecting = proxy.connect_over_tls(gateway.address(), "gateway.test", &config);
    let (client, _) = connecting.await;
    let (received, _) = come(client).await;
    assert!(matches!(received, Received::Refused(_)), "{received:?}");
}

#[tokio::test]
async fn whoever_does_not_speak_it_or_may_not_is_closed_and_counted() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&speaking_proxy(&origin, "")).await;
    let admin = Admin::of(&gateway).await;
    for (bytes, reason) in [
        (REQUEST.as_bytes(), "missing"),
        (b"\x16\x03\x01\x02\0\x01".as_slice(), "missing"),
        (b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n", "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "malformed"),
        (&V2_1[..20], "late"),
        (b"PROXY", "late"),
        (b"", "late"),
    ] {
        let before = admin.metrics().await.value(&errors(reason));
        let mut client = gateway.connect().await;
        client.send(bytes).await;
        client.rest().await;
        admin.until(&[(&errors(reason), before + 1.0)]).await;
    }
    let mut half = gateway.connect().await;
    half.send(&V2_1[..20]).await;
    half.finish_sending().await;
    half.rest().await;
    let stranger = Connector::default().from([0, 0, 9]).begin_with(V2_1);
    if let (received, Some(_)) = come(stranger.connect(&gateway).await).await {
        panic!("a stranger is {received:?}");
    }
    let wanted = [(errors("cut"), 1.0), (errors("untrusted"), 1.0)];
    let wanted = wanted.each_ref().map(|(name, n)| (name.as_str(), *n));
    admin.until(&wanted).await;
}

#[tokio::test]
async fn thousands_of_headers_that_never_end_keep_nobody_out() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&speaking_proxy(&origin, "")).await;
    let admin = Admin::of(&gateway).await;
    let mut slow = Vec::new();
    for _ in 0..1000 {
        slow.push(
            Connector::default()
                .begin_with(b"PROX")
                .connect(&gateway)
                .await,
        );
    }
    let client = Connector::default()
        .begin_with(V2_1)
        .connect(&gateway)
        .await;
    let (received, sub) = come(client).await;
    assert_eq!(received, Received::In);
    origin.send("data: a\n\n").await;
    sub.expect("it is in").expect_event("a").await;
    admin.until(&[(&errors("late"), 1000.0)]).await;
    for client in &mut slow {
        client.rest().await;
    }
}

#[tokio::test]
async fn a_unix_listener_speaks_it_too_and_a_reload_switches_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = format!("unix:{}", directory.path().join("http.sock").display());
    let origin = Origin::start().await;
    let text = format!(
        "[server]\n{LIMITED}\n[listen.public]\naddress = \"{address}\"\nproxy_protocol = true\n{ANYWHERE}\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\n",
        origin.url()
    );
    let gateway = Gateway::with_config(&text).await;
    let proxy = Connector::default();
    let (received, sub) = come(proxy.begin_with(V2_1).connect_to(&address).await).await;
    assert_eq!(received, Received::In);
    let (received, _) = come(proxy.begin_with(V2_1).connect_to(&address).await).await;
    assert!(matches!(received, Received::Refused(_)), "{received:?}");
    let plain = text.replace("proxy_protocol = true\n", "");
    gateway.reload(&plain, "applied").await;
    let (received, other) = come(proxy.connect_to(&address).await).await;
    assert_eq!(received, Received::In);
    origin.send("data: a\n\n").await;
    for mut sub in sub.into_iter().chain(other) {
        sub.expect_event("a").await;
    }
}
