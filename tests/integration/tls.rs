//! Clients over TLS: handshakes, and the stream as it is in the clear.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{
    Answer, Client, Connector, End, Gateway, Item, Origin, Pair, Subscriber, client_config, until,
    within,
};

/// The host of most tests.
const HOST: &str = "gateway.test";

/// A client that the kernel can't hide.
const SMALL: u32 = 4096;

/// A gateway with one channel that speaks TLS.
struct World {
    origin: Origin,
    gateway: Gateway,
    pair: Pair,
    config: Arc<ClientConfig>,
}

impl World {
    async fn start() -> Self {
        Self::with("").await
    }

    /// With these lines after the channel's.
    async fn with(lines: &str) -> Self {
        let origin = Origin::start().await;
        let pair = Pair::new(&[HOST]);
        let config = client_config(&[&pair], &[]);
        let gateway = Gateway::with_config(&secure(&pair.table(), &origin, lines)).await;
        Self {
            origin,
            gateway,
            pair,
            config,
        }
    }

    async fn connect_with(&self, connector: Connector) -> Client {
        let address = self.gateway.address();
        let (client, _) = connector
            .connect_over_tls(address, HOST, &self.config)
            .await;
        client
    }

    async fn connect(&self) -> Client {
        self.connect_with(Connector::default()).await
    }

    async fn subscribe(&self) -> Subscriber {
        self.connect().await.subscribe("/events", "").await
    }

    async fn resume_after(&self, id: &str) -> Subscriber {
        let fields = format!("Last-Event-ID: {id}\r\n");
        self.connect().await.subscribe("/events", &fields).await
    }

    /// A subscriber whose kernel takes little.
    async fn small(&self) -> Subscriber {
        let connector = Connector::default().receive_buffer(SMALL);
        let client = self.connect_with(connector).await;
        client.subscribe("/events", "").await
    }

    /// Sends events, each once `reader` has the one before.
    async fn send(&self, reader: &mut Subscriber, events: std::ops::Range<usize>, size: usize) {
        for n in events {
            let data = data(n, size);
            self.origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
            reader.expect_event(&data).await;
        }
    }
}

/// The configuration of a listener with this value of `tls`, and a channel at `/events`.
fn secure(tls: &str, origin: &Origin, lines: &str) -> String {
    format!(
        "[listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {tls}\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\n{lines}\n",
        origin.url()
    )
}

fn data(n: usize, size: usize) -> String {
    format!("{n}-{}", "x".repeat(size))
}

#[tokio::test]
async fn tls_1_2_and_1_3_carry_the_stream() {
    let world = World::start().await;
    for (version, name) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = client_config(&[&world.pair], &[version]);
        let connector = Connector::default();
        let address = world.gateway.address();
        let (client, facts) = connector.connect_over_tls(address, HOST, &config).await;
        assert_eq!(facts.version, Some(name));
        assert_eq!(facts.alpn.as_deref(), Some(&b"http/1.1"[..]));
        let mut sub = client.subscribe("/events", "").await;
        for n in 0..3 {
            world.origin.send(format!("data: {name:?} {n}\n\n")).await;
            sub.expect_event(&format!("{name:?} {n}")).await;
        }
    }
}

#[tokio::test]
async fn a_ticket_resumes_a_session() {
    let world = World::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // A client keeps its tickets in its configuration.
        let config = client_config(&[&world.pair], &[version]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let connector = Connector::default();
            let address = world.gateway.address();
            let (mut client, facts) = connector.connect_over_tls(address, HOST, &config).await;
            kinds.push(facts.kind);
            // A client has its ticket once it has read.
            let request = format!("GET /nothing HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
            assert_eq!(client.ask(&request).await.0.status, 404);
        }
        let expected = [HandshakeKind::Full, HandshakeKind::Resumed];
        assert_eq!(kinds, expected.map(Some), "{version:?}");
    }
}

/// What is encrypted is not sent: it must go out though nothing follows it.
#[tokio::test]
async fn a_client_that_stalls_for_less_than_64_kib_gets_everything_without_another_event() {
    for kib in [24, 36, 48, 60] {
        let world = World::start().await;
        let mut reader = world.subscribe().await;
        let mut stalled = world.small().await;
        world.send(&mut reader, 0..kib, 1000).await;
        let events = stalled.events_through(&data(kib - 1, 1000)).await;
        assert_eq!(events.len(), kib);
    }
}

#[tokio::test]
async fn slow_clients_get_everything_in_order_and_are_live_again() {
    let world = World::with("heartbeat = \"1s\"\n[server]\nthreads = 2").await;
    let mut reader = world.subscribe().await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(world.small().await);
    }
    // Events of all sizes, so that records and writes end everywhere in them.
    let events: Vec<String> = (0..200).map(|n| data(n, n * n * 7 % 9001)).collect();
    for some in events.chunks(5) {
        let text: String = some
            .iter()
            .map(|data| format!("data: {data}\n\n"))
            .collect();
        world.origin.send(text).await;
        for data in some {
            reader.expect_event(data).await;
        }
    }
    for mut sub in slow {
        for data in &events {
            sub.expect_event(data).await;
        }
        world.origin.send("data: live\n\n").await;
        sub.expect_event("live").await;
        reader.expect_event("live").await;
    }
}

#[tokio::test]
async fn an_event_of_many_records_arrives_whole() {
    let world = World::start().await;
    let mut reader = world.subscribe().await;
    let mut small = world.small().await;
    for n in 0..2 {
        let data = data(n, 900_000);
        world.origin.send(format!("data: {data}\n\n")).await;
        reader.expect_event(&data).await;
        small.expect_event(&data).await;
    }
}

#[tokio::test]
async fn a_client_that_lags_is_cut_and_resumes() {
    let keys = "lag = { limit = \"64KiB\" }\nhistory = { bytes = \"4MiB\" }";
    let world = World::with(keys).await;
    let mut reader = world.subscribe().await;
    let mut stuck = world.small().await;
    world.send(&mut reader, 0..200, 4096).await;
    world.gateway.logged(1, &["WARN", "too slow"]).await;
    let (seen, end) = stuck.events_to_end().await;
    assert!(matches!(end, End::Cut | End::CutInChunk), "{end:?}");
    assert!(stuck.client.was_truncated, "a cut is not said to be an end");
    assert!(
        !seen.is_empty() && seen.len() < 100,
        "{} events",
        seen.len()
    );
    for (n, event) in seen.iter().enumerate() {
        assert_eq!(event.data, data(n, 4096));
    }
    let last = seen.len() - 1;
    let mut resumed = world.resume_after(&last.to_string()).await;
    for n in last + 1..200 {
        resumed.expect_event(&data(n, 4096)).await;
    }
    world.send(&mut reader, 200..201, 10).await;
    resumed.expect_event(&data(200, 10)).await;
}

/// A cut makes clients come back, an end may not; TLS tells them apart too (RFC 8446, 6.1).
#[tokio::test]
async fn only_an_end_that_is_meant_is_said_to_be_one() {
    for (end, expected) in [("cut", End::Cut), ("clean", End::Clean)] {
        let keys = format!("end = \"{end}\"\n[server]\ndrain = \"0s\"");
        let mut world = World::with(&keys).await;
        let mut sub = world.subscribe().await;
        let mut plain = world.connect().await;
        plain.send("GET /events HTTP/1.0\r\n\r\n").await;
        let mut plain = plain.into_subscriber().await;
        world.origin.send("data: a\n\n").await;
        sub.expect_event("a").await;
        plain.expect_event("a").await;
        world.gateway.signal("TERM");
        assert_eq!(sub.expect_end().await, expected);
        sub.client.rest().await;
        assert_eq!(sub.client.was_truncated, expected == End::Cut, "{end}");
        assert_eq!(plain.expect_end().await, End::Cut);
        assert_eq!(plain.client.was_truncated, expected == End::Cut, "{end}");
        assert_eq!(world.gateway.ended().await.code, Some(0));
    }
}

#[tokio::test]
async fn a_channel_that_is_over_ends_its_streams_cleanly_once_all_is_sent() {
    let world = World::with("backoff = { first = \"10ms\", max = \"50ms\" }").await;
    let mut reader = world.subscribe().await;
    let mut stalled = world.small().await;
    world.send(&mut reader, 0..50, 1000).await;
    let gone = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    world.origin.answer_with(Answer::RawAndClose(gone));
    world.origin.stream().await.finish().await;
    assert_eq!(reader.expect_end().await, End::Clean);
    let (events, end) = stalled.events_to_end().await;
    assert_eq!((events.len(), end), (50, End::Clean));
}

#[tokio::test]
async fn a_subscriber_that_closes_or_says_something_is_gone() {
    let world = World::start().await;
    let closing = world.subscribe().await;
    let mut talking = world.subscribe().await;
    let resetting = world.connect_with(Connector::default().resetting()).await;
    let resetting = resetting.subscribe("/events", "").await;
    let mut closing = closing.client;
    closing.finish_sending().await;
    let parts = ["a subscriber left", "reason=\"client-left\""];
    world.gateway.logged(1, &parts).await;
    talking.client.send("x").await;
    world.gateway.logged(2, &parts).await;
    talking.expect_end().await;
    drop(resetting);
    world.gateway.logged(3, &parts).await;
    closing.rest().await;
}

#[tokio::test]
async fn a_subscriber_may_change_its_keys() {
    let world = World::start().await;
    let stream = TcpStream::connect(world.gateway.address()).await;
    let name = ServerName::try_from(HOST).expect("a name");
    let connector = TlsConnector::from(Arc::clone(&world.config));
    let stream = connector.connect(name, stream.expect("a connection")).await;
    let mut stream = stream.expect("a handshake");
    let request = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    let asked = stream.write_all(request.as_bytes()).await;
    asked.expect("a request");
    let mut read = Vec::new();
    for n in 0..4 {
        // The first thing that comes says that it is subscribed.
        let data = if n == 0 {
            "retry:".to_owned()
        } else {
            let data = format!("data: event {n}");
            world.origin.send(format!("{data}\n\n")).await;
            data
        };
        let reading = async {
            while !String::from_utf8_lossy(&read).contains(&data) {
                let n = stream.read_buf(&mut read).await.expect("an event");
                assert_ne!(n, 0, "the stream goes on");
            }
        };
        within(&data, reading, || "nothing".to_owned()).await;
        // With a demand that the gateway changes its own keys, too (RFC 8446, 4.6.3).
        let (_, session) = stream.get_mut();
        session.refresh_traffic_keys().expect("new keys");
        stream.flush().await.expect("new keys are told");
    }
}

#[tokio::test]
async fn stalled_clients_cost_bounded_memory() {
    const MIB: usize = 1024 * 1024;
    let keys = "lag = { limit = \"256KiB\" }\nhistory = { bytes = \"1MiB\" }";
    let world = World::with(keys).await;
    let mut reader = world.subscribe().await;
    let mut stalled = Vec::new();
    for _ in 0..100 {
        stalled.push(world.small().await);
    }
    let before = world.gateway.resident_bytes();
    let mut most = before;
    for round in 0..16 {
        let events = round * 16..(round + 1) * 16;
        world.send(&mut reader, events, 64 * 1024).await;
        most = most.max(world.gateway.resident_bytes());
    }
    // At most a record each, and the history.
    let grown = most.saturating_sub(before);
    assert!(grown < 12 * MIB, "grew by {} KiB", grown / 1024);
    world.gateway.logged(100, &["reason=\"lagged\""]).await;
}

#[tokio::test]
async fn what_follows_a_request_in_the_same_record_ends_it_too() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let request = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    client.send(format!("{request}{request}")).await;
    assert_eq!(client.head().await.status, 400);
}

#[tokio::test]
async fn requests_one_after_another_are_answered_on_one_connection() {
    let world = World::start().await;
    let mut client = world.connect().await;
    for _ in 0..3 {
        let request = format!("GET /nothing HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert_eq!(client.ask(&request).await.0.status, 404);
    }
    let mut sub = client.subscribe("/events", "").await;
    world.origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn a_client_that_is_refused_is_told_so_over_tls() {
    let world = World::with("max_subscribers = 1").await;
    let _first = world.subscribe().await;
    let mut second = world.subscribe().await;
    assert!(matches!(
        second.next_item().await,
        Item::Retry(5000..=30_000)
    ));
    assert_eq!(second.expect_end().await, End::Cut);
}

#[tokio::test]
async fn the_session_follows_its_subscriber_to_another_shard() {
    let world = World::with("[server]\nthreads = 4").await;
    let mut subs = Vec::new();
    for _ in 0..12 {
        subs.push(world.subscribe().await);
    }
    for n in 0..5 {
        world.origin.send(format!("data: {n}\n\n")).await;
        for sub in &mut subs {
            sub.expect_event(&n.to_string()).await;
        }
    }
}

#[tokio::test]
async fn heartbeats_go_over_tls() {
    let world = World::with("heartbeat = \"1s\"").await;
    let mut sub = world.subscribe().await;
    loop {
        match sub.next_item().await {
            Item::Comment(text) => break assert_eq!(text, ""),
            Item::Retry(_) => {}
            other => panic!("waited for a heartbeat; instead: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_closed_in_time_and_delays_nobody() {
    let world = World::with("[server]\nthreads = 1\nhandshake_timeout = \"300ms\"").await;
    let mut silent = Vec::new();
    for start in [
        &b""[..],
        &[22, 3, 1],
        &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
    ] {
        let mut client = Connector::default().connect(&world.gateway).await;
        client.send(start).await;
        silent.push(client);
    }
    let mut sub = world.subscribe().await;
    world.origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    for mut client in silent {
        let (bytes, _) = client.rest().await;
        assert_eq!(bytes, b"", "nothing is said to who says nothing");
    }
    let parts = ["too long for the TLS handshake"];
    world.gateway.logged(3, &parts).await;
}

#[tokio::test]
async fn what_is_not_tls_is_refused_at_once() {
    let mut world = World::start().await;
    let garbage: [&[u8]; 4] = [
        b"\x00\x00\x00\x00\x00\x00",
        b"\x16\x03\x01\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00",
        b"\xff\xfe\xfd\xfc\xfb\xfa",
    ];
    for bytes in garbage {
        let mut client = Connector::default().connect(&world.gateway).await;
        client.send(bytes).await;
        let (answer, _) = client.rest().await;
        // An alert (RFC 8446, 6), or nothing.
        assert!(matches!(answer.first(), None | Some(21)), "{answer:?}");
    }
    let mut client = Connector::default().connect(&world.gateway).await;
    let (head, body) = client.ask("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(head.status, 400);
    assert_eq!(body, "this port speaks TLS: ask with https://\n");
    assert!(world.gateway.is_running());
}

#[tokio::test]
async fn a_client_without_a_protocol_in_common_is_refused() {
    let world = World::start().await;
    let mut config = ClientConfig::clone(&world.config);
    config.alpn_protocols = vec![b"gopher".to_vec()];
    let connector = Connector::default();
    let config = Arc::new(config);
    let connecting = connector.try_connect_over_tls(world.gateway.address(), HOST, &config);
    let Err(error) = connecting.await else {
        panic!("no protocol is in common");
    };
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
}

#[tokio::test]
async fn clients_that_come_and_go_leave_no_descriptors_behind() {
    let world = World::start().await;
    let mut reader = world.subscribe().await;
    world.send(&mut reader, 0..1, 10).await;
    let before = world.gateway.n_descriptors();
    for _ in 0..10 {
        let mut subs = Vec::new();
        for _ in 0..10 {
            subs.push(world.subscribe().await);
        }
        drop(subs);
    }
    until("the descriptors of those who left to be closed", || {
        let n = world.gateway.n_descriptors();
        if n <= before {
            Ok(())
        } else {
            Err(format!("{n} descriptors, {before} before"))
        }
    })
    .await;
}

#[tokio::test]
async fn what_clients_do_wrong_is_no_warning() {
    let origin = Origin::start().await;
    let upstream = origin.url();
    let gateway = Gateway::without_file(&[
        "--upstream",
        &upstream,
        "--listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        "--log",
        "info",
    ])
    .await;
    gateway.logged(1, &["a development certificate"]).await;
    let warnings = || {
        let log = gateway.log();
        let warnings = log.lines().filter(|line| !line.contains(" INFO "));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = warnings();
    for nonsense in [
        // ChangeCipherSpec, before anything to change.
        &b"\x14\x03\x03\x00\x01\x01"[..],
        // A handshake of an unknown type.
        b"\x16\x03\x01\x00\x04\x77\x00\x00\x00",
    ] {
        let mut client = gateway.connect().await;
        client.send(nonsense).await;
        client.rest().await;
    }
    assert_eq!(warnings(), before);
}

#[tokio::test]
async fn a_drain_tells_clients_over_tls_when_to_come_back() {
    let mut world = World::with("[server]\ndrain = \"300ms\"\n").await;
    let mut subs = Vec::new();
    for _ in 0..20 {
        subs.push(world.subscribe().await);
    }
    // Shakes hands and asks for nothing.
    let mut silent = world.connect().await;
    world.origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
    world.gateway.signal("TERM");
    for sub in &mut subs {
        let retry = sub.next_item().await;
        assert!(matches!(retry, Item::Retry(1000..=5400)), "{retry:?}");
        assert_eq!(sub.expect_end().await, End::Cut);
    }
    silent.rest().await;
    assert_eq!(world.gateway.ended().await.code, Some(0));
}
