//! What an origin gets of a request.

use super::*;

#[test]
fn an_ordinary_request_goes_on_as_it_is() {
    let text = "GET /a?b=%7e\nhost: a.example:8080\nuser-agent: x\naccept: */*\nx-own: 1\nx-own: 2";
    let hop = hop("plain", STRANGER);
    let parts = request(&head(text), &hop).expect("goes on");
    assert_eq!(
        (parts.uri.to_string(), parts.version),
        ("/a?b=%7e".to_owned(), Version::HTTP_11)
    );
    let expected = [
        "host: a.example:8080",
        "user-agent: x",
        "accept: */*",
        "x-own: 1",
        "x-own: 2",
        "via: 1.1 ssecast",
    ];
    assert_eq!(sent(text), expected);
    assert_eq!(told("x-forwarded-for", text, &hop), "192.0.2.1");
    assert_eq!(told("x-forwarded-host", text, &hop), "a.example:8080");
    assert_eq!(told("x-forwarded-proto", text, &hop), "https");
    assert_eq!(told("x-forwarded-port", text, &hop), "8080");
    assert_eq!(
        told("forwarded", text, &hop),
        "for=192.0.2.1;host=\"a.example:8080\";proto=https"
    );
}

#[test]
fn what_is_of_the_connection_stays() {
    let text = "GET /\nhost: a\nconnection: close, X-Mine\nconnection: x-other\nx-mine: 1\nx-other: 2\n\
                keep-alive: timeout=5\nproxy-connection: keep-alive\nproxy-authorization: Basic x\n\
                upgrade: websocket\nhttp2-settings: AAAA\nte: gzip\nproxy: http://evil\nx-third: 3";
    assert_eq!(sent(text), ["host: a", "x-third: 3", "via: 1.1 ssecast"]);
}

#[test]
fn a_client_takes_nothing_away_that_is_for_the_origin() {
    let text = "POST /\nhost: a\nauthorization: Bearer x\ncookie: s=1\ncontent-type: text/plain\n\
                if-match: \"x\"\nconnection: Authorization, cookie, Content-Type, host, if-match, via, \
                X-Forwarded-For, x-forwarded-host, forwarded, x-gateway, content-length";
    let hop = Hop {
        content: Content::Known(3),
        ..hop("plain", STRANGER)
    };
    let expected = [
        "host: a",
        "authorization: Bearer x",
        "content-type: text/plain",
        "if-match: \"x\"",
        "cookie: s=1",
        "via: 1.1 ssecast",
        "content-length: 3",
    ];
    assert_eq!(sent_by(text, &hop), expected);
    assert_eq!(told("x-forwarded-for", text, &hop), "192.0.2.1");
    let rewritten = fuzz::hop("rewritten", STRANGER);
    let text = "GET /api/u/x-1.json/\nhost: a\nconnection: x-gateway\nx-gateway: mine\nx_gateway: mine\n\
                X-gate_way: y";
    let expected = [
        "host: origin.example:3000",
        "x-gate_way: y",
        "via: 1.1 ssecast",
        "x-gateway: it",
    ];
    assert_eq!(sent_by(text, &rewritten), expected);
}

#[test]
fn trailers_are_announced_and_asked_for() {
    let text = "POST /\nhost: a\nte: gzip, trailers;q=0.5\nconnection: te\n\
                trailer: X-Sum, Content-Length, host\ntrailer: grpc-status, x_forwarded_for";
    let hop = Hop {
        content: Content::Unknown,
        ..hop("plain", STRANGER)
    };
    let expected = [
        "host: a",
        "trailer: X-Sum, grpc-status",
        "te: trailers",
        "connection: te",
        "via: 1.1 ssecast",
        "transfer-encoding: chunked",
    ];
    assert_eq!(sent_by(text, &hop), expected);
    let hop = Hop {
        http: UpstreamHttp::Two,
        ..hop
    };
    let expected = [
        "trailer: X-Sum, grpc-status",
        "te: trailers",
        "via: 1.1 ssecast",
    ];
    assert_eq!(sent_by(text, &hop), expected);
}

#[test]
fn crumbs_of_a_cookie_are_one() {
    let text = "GET /\nhost: a\ncookie: a=1\nx: y\ncookie: b=2; c=3\ncookie: d=4";
    assert_eq!(
        sent(text),
        [
            "host: a",
            "x: y",
            "cookie: a=1; b=2; c=3; d=4",
            "via: 1.1 ssecast"
        ]
    );
}

#[test]
fn the_host_is_what_the_request_is_for() {
    for (text, host) in [
        ("GET http://b.example/x\nhost: a.example", "b.example"),
        ("GET http://b.example:81\nhost: b.example", "b.example:81"),
        ("GET /\nhost: [::1]:80", "[::1]:80"),
    ] {
        let hop = hop("plain", STRANGER);
        assert_eq!(told("host", text, &hop), host, "{text}");
        assert_eq!(told("x-forwarded-host", text, &hop), host, "{text}");
        let parts = request(&head(text), &hop).expect("goes on");
        assert!(parts.uri.to_string().starts_with('/'), "{}", parts.uri);
    }
    for (text, why) in [
        ("GET /", Refused::BadHost),
        ("GET /\nhost:", Refused::BadHost),
        ("GET /\nhost: a, b", Refused::BadHost),
        ("GET /\nhost: user@a", Refused::BadHost),
        ("GET /\nhost: a/b", Refused::BadHost),
        ("GET /\nhost: a\nhost: a", Refused::TwoHosts),
        ("GET /\nhost: a\nhost: b", Refused::TwoHosts),
        ("GET http://user:pw@b/\nhost: b", Refused::BadHost),
        ("GET http://b/\nhost: a\nhost: b", Refused::TwoHosts),
        ("GET ftp://b/\nhost: b", Refused::BadTarget),
        ("GET b.example\nhost: b.example", Refused::BadTarget),
        ("OPTIONS *\nhost: a", Refused::BadTarget),
        ("TRACE /\nhost: a", Refused::BadTarget),
    ] {
        assert_eq!(refused(text), Some(why), "{text}");
    }
    let mut old = head("GET /");
    old.version = Version::HTTP_10;
    let sent = request(&old, &hop("plain", STRANGER)).expect("goes on");
    assert_eq!(sent.headers["host"], "origin.example:3000");
    assert_eq!(sent.headers["via"], "1.0 ssecast");
    assert!(
        !sent.headers.contains_key("x-forwarded-host"),
        "nobody said it"
    );
}

#[test]
fn http2_asks_by_pseudo_header_fields() {
    let mut asked = head("GET https://a.example/two/x?y\ncookie: a=1\ncookie: b=2\nte: trailers");
    asked.version = Version::HTTP_2;
    let sent = request(&asked, &hop("two", STRANGER)).expect("goes on");
    assert_eq!(sent.uri.to_string(), "http://a.example/two/x?y");
    assert_eq!(
        (sent.version, sent.headers.get("host")),
        (Version::HTTP_2, None)
    );
    assert_eq!(sent.headers["via"], "2 ssecast");
    let sent = request(&asked, &hop("plain", STRANGER)).expect("goes on");
    assert_eq!(
        (sent.uri.to_string(), &sent.headers["host"]),
        ("/two/x?y".to_owned(), &"a.example".parse().expect("a host"))
    );
    // The field beside it has to say the same.
    for (host, is_right) in [("A.example", true), ("b.example", false)] {
        let mut asked = asked.clone();
        asked.headers.insert("host", host.parse().expect("a host"));
        let sent = request(&asked, &hop("two", STRANGER));
        assert_eq!(
            sent.err(),
            (!is_right).then_some(Refused::TwoHosts),
            "{host}"
        );
    }
}

#[test]
fn a_path_goes_on_byte_for_byte_or_into_the_upstreams() {
    let target = |name, text: &str| {
        let parts = request(&head(&format!("GET {text}\nhost: a")), &hop(name, STRANGER));
        parts.map(|parts| parts.uri.to_string())
    };
    for path in [
        "/",
        "/a%2fb/%7e?x=%00&y=../z",
        "//evil/a",
        "/a;b=c",
        "/%E2%82%AC?",
        "/?%zz",
    ] {
        assert_eq!(target("plain", path).as_deref(), Ok(path));
    }
    assert_eq!(target("plain", "http://b.example?x").as_deref(), Ok("/?x"));
    for (path, expected) in [
        (
            "/api/ann/x-7.json/r%2fs/t?q=1",
            Ok("/v2/r%2fs/t/7/u.ann?q=1"),
        ),
        ("/%61pi/a%2Fb/x-%37.json/", Ok("/v2//%37/u.a%2Fb")),
        ("/api/a/x-..json/", Err(Refused::DotSegment)),
        ("/api/a/x-%2e.json/", Err(Refused::DotSegment)),
        ("/api/a/x-1.json/%00", Err(Refused::Nul)),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(target("rewritten", path), expected, "{path}");
    }
}

#[test]
fn a_circle_is_left() {
    let row = |n: usize| {
        let via = vec!["1.1 ssecast"; n].join(", ");
        refused(&format!(
            "GET /\nhost: a\nvia: 1.1 other, {via}\nvia: 1.0 SSECAST (x)"
        ))
    };
    assert_eq!(row(7), None);
    assert_eq!(row(8), Some(Refused::Circle));
    assert_eq!(Refused::Circle.status(), StatusCode::LOOP_DETECTED);
    let text = "GET /\nhost: a\nvia: 1.1 a, 1.1 b\nvia: 2 c";
    assert_eq!(
        sent(text),
        ["host: a", "via: 1.1 a, 1.1 b, 2 c, 1.1 ssecast"]
    );
}

#[test]
fn options_go_as_far_as_they_may() {
    assert_eq!(
        refused("OPTIONS /\nhost: a\nmax-forwards: 0"),
        Some(Refused::LastHop)
    );
    let text = "OPTIONS /\nhost: a\nmax-forwards: 3";
    assert_eq!(
        sent(text),
        ["host: a", "max-forwards: 2", "via: 1.1 ssecast"]
    );
    let text = "GET /\nhost: a\nmax-forwards: 0";
    assert_eq!(
        sent(text),
        ["host: a", "max-forwards: 0", "via: 1.1 ssecast"]
    );
}
