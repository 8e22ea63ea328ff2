//! The fields of requests and answers: what is of one connection, what says whom a request is for, and
//! what nobody but the gateway may say.

use super::recorder::{Recorder, Seen};
use super::smuggling::World;
use super::{answered, one_proxy, world};
use crate::support::{Connector, Gateway, Http2};

/// A request with these field lines, after which the connection ends.
fn get(fields: &str) -> Vec<u8> {
    let fields = fields.replace('\n', "\r\n");
    format!("GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n\r\n")
        .into_bytes()
}

fn names(seen: &Seen) -> Vec<String> {
    let lines = seen.head.split("\r\n").skip(1);
    let names = lines.filter_map(|line| line.split_once(": "));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// What the gateway says of every request.
const TOLD: [&str; 7] = [
    "host",
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "forwarded",
];

#[tokio::test]
async fn what_is_of_one_connection_stays_there() {
    let world = World::new().await;
    let fields = "Connection: X-One, x-two\nX-One: 1\nX-TWO: 2\nKeep-Alive: timeout=9\n\
                  Proxy-Connection: keep-alive\nProxy-Authorization: Basic x\nTE: gzip\n\
                  HTTP2-Settings: AAA\nProxy: http://evil.example\nX-Three: 3";
    let seen = world.passes(&get(fields)).await;
    let mut names = names(&seen);
    names.retain(|name| !TOLD.contains(&name.as_str()));
    assert_eq!(names, ["x-three"], "{seen:?}");
}

#[tokio::test]
async fn what_is_for_the_backend_can_not_be_taken_away() {
    let world = World::with("upstream_headers = { X-Gateway = \"it\" }\n").await;
    let fields = "Connection: Host, Authorization, Cookie, Content-Type, Accept, Via\n\
                  Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Forwarded\n\
                  Connection: X-Gateway, Content-Length, , ;;, \"\nAuthorization: Bearer x\n\
                  Cookie: s=1\nContent-Type: text/plain\nAccept: */*\nX-Gateway: mine\n\
                  X_Gateway: mine\nX-GateWay: mine";
    let seen = world.passes(&get(fields)).await;
    for (name, value) in [
        ("host", "a.example"),
        ("authorization", "Bearer x"),
        ("cookie", "s=1"),
        ("content-type", "text/plain"),
        ("accept", "*/*"),
        ("via", "1.1 ssecast"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=127.0.0.1;host=a.example;proto=http"),
        ("x-gateway", "it"),
    ] {
        assert_eq!(seen.fields(name), [value], "{name}: {seen:?}");
    }
    assert_eq!(seen.fields("x_gateway"), [""; 0]);
}

/// Spellings of what only a trusted proxy may say.
const SPOOFED: &str = "X-Forwarded-For: 6.6.6.6\nx-forwarded-for: 6.6.6.6\nX_Forwarded_For: 6.6.6.6\n\
                       X-Forwarded_For: 6.6.6.6\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil.example\n\
                       X-Forwarded-Port: 666\nX-Forwarded-Prefix: /evil\nX-Forwarded-User: root\n\
                       Forwarded: for=6.6.6.6\nX-Real-IP: 6.6.6.6\nX_Real_IP: 6.6.6.6\n\
                       X-Original-URL: /evil\nTrue-Client-IP: 6.6.6.6";

fn assert_unspoofed(seen: &Seen, proto: &str) {
    assert!(!seen.head.contains("6.6.6"), "{seen:?}");
    assert!(
        !seen.head.contains("evil") && !seen.head.contains("root"),
        "{seen:?}"
    );
    assert_eq!(seen.fields("x-forwarded-for"), ["127.0.0.1"], "{seen:?}");
    assert_eq!(seen.fields("x-forwarded-proto"), [proto], "{seen:?}");
    let forwarded = seen.fields("forwarded");
    assert!(
        forwarded.len() == 1 && forwarded[0].starts_with("for=127.0.0.1;host="),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_stranger_says_nothing_of_whom_it_is_for() {
    let world = World::new().await;
    let seen = world.passes(&get(SPOOFED)).await;
    assert_unspoofed(&seen, "http");
    let client = Http2::connect(&world.gateway).await;
    let lower = SPOOFED.to_ascii_lowercase();
    let fields: Vec<(&str, &str)> = lower
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let (head, _) = client.ask("GET", "/x", &fields).await;
    assert_eq!(head.status, 200);
    let seen = world.seen().await;
    assert_eq!(seen.len(), 1);
    assert_unspoofed(&seen[0], "http");
}

#[tokio::test]
async fn to_what_a_trusted_proxy_says_its_own_address_is_appended() {
    let backend = Recorder::start().await;
    let config = one_proxy(backend.url(), "");
    let trusting = "[server]\ntrusted_proxies = [\"127.0.0.7\"]\n";
    let gateway = Gateway::with_config(&config.replace("[server]\n", trusting)).await;
    let world = World { backend, gateway };
    let ask = async |from: [u8; 3], fields: &str| {
        let mut client = Connector::default()
            .from(from)
            .connect(&world.gateway)
            .await;
        client.send(get(fields)).await;
        client.rest().await;
        let mut seen = world.seen().await;
        assert_eq!(seen.len(), 1, "{fields}");
        seen.remove(0)
    };
    let said = "X-Forwarded-For: 6.6.6.6\nX-Forwarded-For: 192.0.2.9\nX-Forwarded-Proto: https\n\
                X-Forwarded-Host: site.example\nX_Forwarded_For: 7.7.7.7\nForwarded: for=6.6.6.6";
    let seen = ask([0, 0, 7], said).await;
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6, 192.0.2.9, 127.0.0.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "site.example"),
        ("x-forwarded-port", "443"),
        // It has appended to the other only, so this is the client's.
        (
            "forwarded",
            "for=192.0.2.9, for=127.0.0.7;host=a.example;proto=http",
        ),
    ] {
        assert_eq!(seen.fields(name), [value], "{name}: {seen:?}");
    }
    assert!(!seen.head.contains("7.7.7.7"), "{seen:?}");
    let seen = ask([0, 0, 7], "Forwarded: for=\"[2001:db8::1]\";proto=https").await;
    assert_eq!(
        seen.fields("forwarded"),
        ["for=\"[2001:db8::1]\";proto=https, for=127.0.0.7;host=a.example;proto=http"]
    );
    assert_eq!(seen.fields("x-forwarded-for"), ["2001:db8::1, 127.0.0.7"]);
    let seen = ask([0, 0, 8], said).await;
    assert_eq!(seen.fields("x-forwarded-for"), ["127.0.0.8"]);
}

#[tokio::test]
async fn a_backend_is_told_as_much_as_it_is_to_know() {
    for (forwarded, x, rfc7239) in [
        ("both", true, true),
        ("x-forwarded", true, false),
        ("rfc7239", false, true),
        ("none", false, false),
    ] {
        let world = World::with(&format!("forwarded = \"{forwarded}\"\n")).await;
        let seen = world.passes(&get(SPOOFED)).await;
        let has = |name: &str| !seen.fields(name).is_empty();
        let x_names = names(&seen)
            .iter()
            .any(|name| name.starts_with("x-forwarded"));
        assert_eq!(
            (has("x-forwarded-for"), x_names, has("forwarded")),
            (x, x, rfc7239)
        );
        assert!(
            !seen.head.contains("6.6.6") && !seen.head.contains("evil"),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_again() {
    let world = World::new().await;
    let client = Http2::connect(&world.gateway).await;
    let fields = [
        ("cookie", "a=1"),
        ("x", "y"),
        ("cookie", "b=2"),
        ("cookie", "c=3; d=4"),
    ];
    let (head, _) = client.ask("GET", "/x", &fields).await;
    assert_eq!(head.status, 200);
    let seen = world.seen().await;
    assert_eq!(seen[0].fields("cookie"), ["a=1; b=2; c=3; d=4"]);
    let seen = world.passes(&get("Cookie: a=1\nX: y\nCookie: b=2")).await;
    assert_eq!(seen.fields("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn an_answer_says_nothing_of_the_backends_connection() {
    let (backend, _gateway, mut client) = world("").await;
    client.send(super::get("/")).await;
    let (mut line, _) = backend.asked().await;
    line.socket
        .send(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop, Set-Cookie\r\nKeep-Alive: timeout=9\r\n\
             X-Hop: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: origin/1\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nProxy-Authenticate: Basic\r\nVia: 1.1 other\r\n\
             Upgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        )
        .await;
    let (head, body) = answered(&mut client).await;
    assert_eq!(body, "ok");
    let mut names = head.names();
    names.sort_unstable();
    let expected = [
        "content-length",
        "date",
        "server",
        "set-cookie",
        "set-cookie",
        "via",
    ];
    assert_eq!(names, expected, "{}", head.text);
    assert_eq!(head.field("via"), Some("1.1 other, 1.1 ssecast"));
    assert_eq!(head.field("date"), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    assert_eq!(head.field("server"), Some("origin/1"));
}

#[tokio::test]
async fn a_gateway_that_asks_itself_ends_with_an_answer() {
    let backend = Recorder::start().await;
    // It does not know its own address before it listens, so it is told by a reload.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.3:0").expect("a free port");
        listener.local_addr().expect("its address")
    };
    let config = format!(
        "[listen.public]\naddress = \"{address}\"\n\n[proxies.self]\npath = \"/{{*rest}}\"\n\
         upstream = \"http://{address}\"\n\n[proxies.sentinel]\npath = \"/sentinel\"\nupstream = \"{}\"\n",
        backend.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let world = World { backend, gateway };
    let outcome = world.outcome(&get("X: y")).await;
    assert_eq!(outcome.statuses, [508], "{outcome:?}");
    assert!(outcome.seen.is_empty(), "{outcome:?}");
}

#[tokio::test]
async fn options_are_answered_where_they_may_go_no_further() {
    let world = World::new().await;
    let options = |max: &str| {
        format!(
            "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {max}\r\nConnection: close\r\n\r\n"
        )
    };
    let outcome = world.outcome(options("0").as_bytes()).await;
    assert!(
        outcome.seen.is_empty() && outcome.statuses == [204],
        "{outcome:?}"
    );
    let seen = world.passes(options("1").as_bytes()).await;
    assert_eq!(seen.fields("max-forwards"), ["0"]);
}
