//! What goes on, what stays, and what is refused, head by head.

use std::net::IpAddr;

use http::header::HeaderName;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use proptest::prelude::*;

use super::fuzz::{STRANGER, fuzz_fields, fuzz_path, hop};
use super::{
    Content, Hop, Refused, Unusable, request, request_trailers, response, response_trailers,
};
use crate::config::UpstreamHttp;
use crate::net::peer::PeerAddr;

const PROXY: PeerAddr = PeerAddr::Ip(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

/// A request's head, of text as HTTP/1.1 has it, but for its version.
fn head(text: &str) -> Parts {
    let mut lines = text.lines();
    let (method, target) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("a line");
    let mut request = Request::new(());
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = target.parse().expect("a target");
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field");
        let name: HeaderName = name.parse().expect("a name");
        request
            .headers_mut()
            .append(name, value.trim().parse().expect("a value"));
    }
    request.into_parts().0
}

/// The fields that are sent, in their order, but for those that say whom it is for.
fn sent_by(text: &str, hop: &Hop<'_>) -> Vec<String> {
    let sent = request(&head(text), hop).unwrap_or_else(|refused| panic!("{text}: {refused}"));
    let fields = sent
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    let is_told =
        |field: &String| field.starts_with("x-forwarded-") || field.starts_with("forwarded");
    fields.filter(|field| !is_told(field)).collect()
}

fn sent(text: &str) -> Vec<String> {
    sent_by(text, &hop("plain", STRANGER))
}

/// The value of a field that is sent.
fn told(name: &str, text: &str, hop: &Hop<'_>) -> String {
    let sent = request(&head(text), hop).unwrap_or_else(|refused| panic!("{text}: {refused}"));
    let mut values = sent.headers.get_all(name).iter();
    let value = values
        .next()
        .map(|value| value.to_str().expect("text").to_owned());
    assert_eq!(values.next(), None, "{name} is there once");
    value.unwrap_or_default()
}

fn refused(text: &str) -> Option<Refused> {
    request(&head(text), &hop("plain", STRANGER)).err()
}

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
    let rewritten = super::fuzz::hop("rewritten", STRANGER);
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

fn posted(fields: &str, content: Content) -> Result<Parts, Refused> {
    let hop = Hop {
        content,
        ..hop("plain", STRANGER)
    };
    request(&head(&format!("POST /\nhost: a\n{fields}")), &hop)
}

#[test]
fn a_length_is_said_anew() {
    for (fields, content, length) in [
        ("content-length: 5", Content::Known(5), "5"),
        (
            "content-length: 5\ncontent-length: 5",
            Content::Known(5),
            "5",
        ),
        ("content-length: 5, 5", Content::Known(5), "5"),
        ("content-length: 0", Content::None, "0"),
        ("x: y", Content::None, ""),
        ("transfer-encoding: Chunked", Content::Unknown, ""),
        ("transfer-encoding: chunked", Content::None, ""),
    ] {
        let sent = posted(fields, content).unwrap_or_else(|refused| panic!("{fields}: {refused}"));
        let told = sent
            .headers
            .get("content-length")
            .map(|value| value.to_str().expect("text"));
        assert_eq!(told.unwrap_or_default(), length, "{fields}");
        let is_chunked = content == Content::Unknown;
        assert_eq!(
            sent.headers.contains_key("transfer-encoding"),
            is_chunked,
            "{fields}"
        );
    }
}

#[test]
fn a_length_is_one_number_and_that_of_the_body() {
    for (fields, content, why) in [
        (
            "content-length: 5\ncontent-length: 6",
            Content::Known(5),
            Refused::Length,
        ),
        ("content-length: 5, 6", Content::Known(5), Refused::Length),
        ("content-length: 6", Content::Known(5), Refused::Length),
        ("content-length: +5", Content::Known(5), Refused::Length),
        ("content-length:", Content::None, Refused::Length),
        ("content-length: 0x5", Content::Known(5), Refused::Length),
        ("content-length: 5", Content::None, Refused::Length),
        ("content-length: 5", Content::Unknown, Refused::Length),
        (
            "content-length: 99999999999999999999",
            Content::Unknown,
            Refused::Length,
        ),
        (
            "content-length: 5\ntransfer-encoding: chunked",
            Content::Unknown,
            Refused::Length,
        ),
        (
            "transfer-encoding: gzip, chunked",
            Content::Unknown,
            Refused::Coding,
        ),
        (
            "transfer-encoding: chunked, chunked",
            Content::Unknown,
            Refused::Coding,
        ),
        (
            "transfer-encoding: identity\ntransfer-encoding: chunked",
            Content::Unknown,
            Refused::Coding,
        ),
        (
            "transfer-encoding: xchunked",
            Content::Unknown,
            Refused::Coding,
        ),
        ("transfer-encoding:", Content::None, Refused::Coding),
    ] {
        let refused = posted(fields, content).expect_err(fields);
        assert!(refused == why && refused.closes(), "{fields}: {refused}");
    }
}

#[test]
fn a_stranger_speaks_for_nobody() {
    let text = "GET /\nhost: a\nx-forwarded-for: 1.1.1.1\nX_Forwarded_For: 1.1.1.1\nx-forwarded-proto: ftp\n\
                x-forwarded-host: evil\nx-forwarded-prefix: /x\nforwarded: for=1.1.1.1\nx-real-ip: 1.1.1.1\n\
                x_real_ip: 1.1.1.1\ntrue-client-ip: 1.1.1.1\nx-original-url: /admin\ncontent_length: 7";
    let hop = hop("plain", STRANGER);
    assert_eq!(sent(text), ["host: a", "via: 1.1 ssecast"]);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", ""),
        ("forwarded", "for=192.0.2.1;host=a;proto=https"),
    ] {
        assert_eq!(told(name, text, &hop), value, "{name}");
    }
    let ipv6 = Hop {
        peer: PeerAddr::from("2001:db8::7".parse::<IpAddr>().expect("an address")),
        ..hop
    };
    assert_eq!(told("x-forwarded-for", text, &ipv6), "2001:db8::7");
    assert_eq!(
        told("forwarded", text, &ipv6),
        "for=\"[2001:db8::7]\";host=a;proto=https"
    );
}

#[test]
fn to_a_trusted_proxys_word_ours_is_appended() {
    let trusted = hop("plain", PROXY);
    let text = "GET /\nhost: a\nx-forwarded-for: 1.1.1.1, 192.0.2.9\nx-forwarded-for: 10.0.0.2\n\
                x-forwarded-proto: http\nx-forwarded-host: b.example\nx-real-ip: 192.0.2.9\n\
                x_forwarded_for: 6.6.6.6";
    for (name, value) in [
        ("x-forwarded-for", "1.1.1.1, 192.0.2.9, 10.0.0.2, 10.0.0.1"),
        ("x-forwarded-host", "b.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "80"),
        ("x-real-ip", "192.0.2.9"),
        ("x_forwarded_for", ""),
        (
            "forwarded",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
    ] {
        assert_eq!(told(name, text, &trusted), value, "{name}");
    }
    let text = "GET /\nhost: a\nforwarded: for=\"[2001:db8::1]\";proto=http";
    assert_eq!(
        told("forwarded", text, &trusted),
        "for=\"[2001:db8::1]\";proto=http, for=10.0.0.1;host=a;proto=https"
    );
    assert_eq!(
        told("x-forwarded-for", text, &trusted),
        "2001:db8::1, 10.0.0.1"
    );
    let socket = Hop {
        peer: PeerAddr::Unix,
        ..trusted
    };
    assert_eq!(told("x-forwarded-for", text, &socket), "2001:db8::1");
    assert_eq!(
        told("forwarded", text, &socket),
        "for=\"[2001:db8::1]\";proto=http, for=unknown;host=a;proto=https"
    );
}

#[test]
fn what_a_client_wrote_through_a_trusted_proxy_is_not_its_word() {
    let trusted = hop("plain", PROXY);
    for (forged, value) in [
        // It appended to the one, and let the other through.
        (
            "for=1.1.1.1",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        (
            "for=1.1.1.1, for=10.0.0.3",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        // What we append must not be in somebody's quotes.
        (
            "for=192.0.2.9;by=\"",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        (
            "for=192.0.2.9;by=\"\\",
            "for=192.0.2.9, for=10.0.0.1;host=a;proto=https",
        ),
        // Both say the same: it appended to both.
        (
            "for=192.0.2.9;by=\"\\\"\"",
            "for=192.0.2.9;by=\"\\\"\", for=10.0.0.1;host=a;proto=https",
        ),
    ] {
        let text = format!("GET /\nhost: a\nx-forwarded-for: 192.0.2.9\nforwarded: {forged}");
        assert_eq!(told("forwarded", &text, &trusted), value, "{forged}");
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

fn answered(
    status: u16,
    asked: &Method,
    fields: &[(&'static str, &str)],
) -> Result<Vec<String>, Unusable> {
    let (mut answer, ()) = Response::new(()).into_parts();
    answer.status = StatusCode::from_u16(status).expect("a status");
    answer.version = Version::HTTP_10;
    for (name, value) in fields {
        answer
            .headers
            .append(*name, value.parse().expect("a value"));
    }
    response(&mut answer, asked)?;
    assert_eq!(answer.version, Version::HTTP_11);
    // In which order fields of different names stand means nothing (RFC 9110, 5.3).
    let mut fields: Vec<_> = answer.headers.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    let fields = fields.into_iter();
    let fields = fields.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
    Ok(fields.collect())
}

#[test]
fn an_answer_goes_on_without_what_was_of_the_connection() {
    let fields = [
        ("connection", "close, x-hop, set-cookie, content-type"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-type", "text/html"),
        ("content-length", "5"),
        ("proxy-authenticate", "Basic"),
        ("server", "origin"),
        ("date", "then"),
        ("trailer", "x-sum, content-length"),
        ("via", "1.1 a"),
        ("x_own", "1"),
    ];
    let expected = [
        "content-type: text/html",
        "date: then",
        "server: origin",
        "set-cookie: a=1",
        "set-cookie: b=2",
        "trailer: x-sum",
        "via: 1.1 a, 1.0 ssecast",
        "x_own: 1",
    ];
    assert_eq!(
        answered(200, &Method::GET, &fields).as_deref(),
        Ok(&expected.map(str::to_owned)[..])
    );
}

#[test]
fn an_answer_whose_end_nobody_knows_is_not_believed() {
    for (fields, expected) in [
        (
            &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
            Err(Unusable::BothLengths),
        ),
        (
            &[("transfer-encoding", "gzip, chunked")],
            Err(Unusable::Coding),
        ),
        (&[("transfer-encoding", "gzip")], Err(Unusable::Coding)),
        (
            &[("content-length", "5"), ("content-length", "6")],
            Err(Unusable::Length),
        ),
        (&[("content-length", "-5")], Err(Unusable::Length)),
        (&[("content-length", "5"), ("content-length", "5")], Ok(())),
        (&[("transfer-encoding", "chunked")], Ok(())),
        (&[], Ok(())),
    ] {
        let answered = answered(200, &Method::GET, fields);
        let expected = expected.map(|()| vec!["via: 1.0 ssecast".to_owned()]);
        assert_eq!(answered, expected, "{fields:?}");
    }
}

#[test]
fn an_answer_without_content_has_no_length_but_to_head() {
    for (status, method, length, expected) in [
        (200, Method::HEAD, "5", Some("content-length: 5")),
        (200, Method::HEAD, "x", None),
        (304, Method::GET, "5", None),
        (204, Method::GET, "5", None),
        (204, Method::HEAD, "5", None),
    ] {
        let fields = [("content-length", length), ("transfer-encoding", "chunked")];
        let answered = answered(status, &method, &fields).expect("its end is known");
        let told = answered
            .iter()
            .find(|field| field.starts_with("content-length"));
        assert_eq!(
            told.map(String::as_str),
            expected,
            "{status} {method} {length}"
        );
        assert!(
            !answered
                .iter()
                .any(|field| field.starts_with("transfer-encoding"))
        );
    }
}

#[test]
fn trailers_change_nothing() {
    let trailers = || {
        let names = [
            "grpc-status",
            "content-length",
            "x-forwarded-for",
            "host",
            "x_gateway",
            "x-sum",
        ];
        let fields =
            names.map(|name| (HeaderName::from_static(name), "1".parse().expect("a value")));
        fields.into_iter().collect::<http::HeaderMap>()
    };
    let names = |fields: &http::HeaderMap| {
        let mut names: Vec<String> = fields.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    };
    let mut fields = trailers();
    request_trailers(&mut fields, super::fuzz::proxy("rewritten"));
    assert_eq!(names(&fields), ["grpc-status", "x-sum"]);
    let mut fields = trailers();
    response_trailers(&mut fields);
    assert_eq!(names(&fields), ["grpc-status", "x-sum", "x_gateway"]);
}

/// Names that mean something, and such that only look so.
const NAMES: &str = "(host|connection|content-length|transfer-encoding|te|trailer|x-forwarded-for|\
                     forwarded|x_forwarded_for|x-real-ip|via|cookie|authorization|content-type|upgrade|\
                     keep-alive|proxy|x-gateway|x_gateway|x-own|user-agent|max-forwards|content_length)";

proptest! {
    #[test]
    fn whatever_comes_what_goes_is_ours(
        choices: u8,
        target in "(/[a-z./%2]{0,8}|http://[a-z:@]{1,6}/)",
        fields in prop::collection::vec((NAMES, "([a-z0-9 ,;=\":.-]{0,12}|chunked|a|5|x-own, te)"), 0..8),
    ) {
        let lines = fields.iter().map(|(name, value)| format!("\n{name}: {value}"));
        let text = format!("{}{target}{}", char::from(choices & 0x7f), lines.collect::<String>());
        fuzz_fields(text.as_bytes());
    }

    #[test]
    fn a_path_means_what_it_was_routed_by(
        path in "(/([a/.;%\\\\]|%2[eEfF]|%00|%3[bB]|%5c|\u{e9}){0,12})?(\\?[a%/.]{0,4})?",
        rewritten in "/(api|%61pi)/([a.;%]|%2[eEfF5]){1,5}/x-([a.%]|%2[eEfF5]){1,4}(\\.|%2e)json/([a/.;]|%2[eEfF]){0,8}",
    ) {
        fuzz_path(path.as_bytes());
        fuzz_path(rewritten.as_bytes());
    }
}
