//! What must hold of whatever a client sends, for the fuzzer and for the unit tests.

#![expect(clippy::panic, reason = "what is no configuration is a failed test")]

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use http::header::{CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Version, request};
use percent_encoding::percent_decode_str;

use super::names::{Kind, Spelling, kind_of};
use super::{Content, Hop, forwarded, request_trailers, response_trailers};
use crate::config::{self, Config};
use crate::net::peer::PeerAddr;

/// A gateway's configuration, with proxies of all kinds.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = r#"
        [server]
        trusted_proxies = ["10.0.0.0/8", "unix:"]
        [listen.public]
        address = "127.0.0.1:80"
        [proxies.plain]
        path = "/{*rest}"
        upstream = "http://origin.example:3000"
        [proxies.rewritten]
        path = "/api/{user}/x-{id}.json/{*rest}"
        upstream = "http://origin.example:3000/v2/{*rest}/{id}/u.{user}"
        upstream_headers = { X-Gateway = "it" }
        upstream_host = "upstream"
        [proxies.two]
        path = "/two/{*rest}"
        upstream = "http://origin.example:3000"
        upstream_http = "2"
    "#;
    let loaded = Config::parse("fuzz.toml", text);
    loaded.unwrap_or_else(|error| panic!("{error}")).config
});

/// The proxy of this name.
///
/// # Panics
///
/// If there is none.
pub(super) fn proxy(name: &str) -> &'static Arc<config::Proxy> {
    let found = CONFIG.proxies.iter().find(|proxy| proxy.name == name);
    found.unwrap_or_else(|| panic!("{name} is configured"))
}

/// A hop through that proxy, for somebody.
///
/// # Panics
///
/// If there is no such proxy.
pub(super) fn hop(name: &str, peer: PeerAddr) -> Hop<'static> {
    let proxy = proxy(name);
    Hop {
        proxy,
        upstream: proxy
            .upstreams
            .first()
            .unwrap_or_else(|| panic!("{name} has one")),
        http: proxy.http,
        peer,
        trusted: &CONFIG.server.trusted_proxies,
        scheme: &Scheme::HTTPS,
        content: Content::None,
    }
}

/// Somebody whom nobody knows.
pub(super) const STRANGER: PeerAddr =
    PeerAddr::Ip(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

/// Reads lines as a request's target and its fields; asserts that of a stranger's request nothing
/// reaches an origin but what the origin may take for ours, or for the stranger's own.
///
/// # Panics
///
/// If something else does.
pub fn fuzz_fields(data: &[u8]) {
    let Some((&choices, data)) = data.split_first() else {
        return;
    };
    let Some(head) = head(choices, data) else {
        return;
    };
    let content = match choices >> 4 & 3 {
        0 => Content::None,
        1 => Content::Unknown,
        _ => Content::Known(5),
    };
    for name in ["plain", "rewritten", "two"] {
        let hop = Hop {
            content,
            ..hop(name, STRANGER)
        };
        if let Ok(sent) = super::request(&head, &hop) {
            assert_sent(&sent, &head, &hop);
        }
        // Whatever a trusted proxy passes on.
        let trusting = Hop {
            peer: PeerAddr::Unix,
            ..hop
        };
        let _sent = super::request(&head, &trusting);
        let mut trailers = head.headers.clone();
        request_trailers(&mut trailers, hop.proxy);
        for name in trailers.keys() {
            let is_set = name == "x-gateway" && hop.proxy.name == "rewritten";
            assert!(super::names::may_trail(name) && !is_set, "{name}");
        }
        response_trailers(&mut trailers);
    }
    let (mut answer, ()) = http::Response::new(()).into_parts();
    answer.headers = head.headers;
    if super::response(&mut answer, &head.method).is_ok() {
        let fields = &answer.headers;
        assert!(!fields.contains_key(TRANSFER_ENCODING), "{fields:?}");
        let has_length = fields.contains_key(CONTENT_LENGTH);
        assert!(!has_length || head.method == Method::HEAD, "{fields:?}");
    }
}

fn head(choices: u8, data: &[u8]) -> Option<request::Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut request = Request::new(());
    *request.uri_mut() = str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    *request.method_mut() = match choices & 3 {
        0 => Method::GET,
        1 => Method::POST,
        2 => Method::HEAD,
        _ => Method::OPTIONS,
    };
    *request.version_mut() = match choices >> 2 & 3 {
        0 => Version::HTTP_10,
        1 => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(at)?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request.into_parts().0)
}

fn assert_sent(sent: &request::Parts, head: &request::Parts, hop: &Hop<'_>) {
    let fields = &sent.headers;
    let only = |name: HeaderName| {
        let values: Vec<&[u8]> = fields
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        values
    };
    let is_one = sent.version == Version::HTTP_11;
    assert_eq!(only(HOST).len(), usize::from(is_one), "{sent:?}");
    assert_eq!(sent.uri.authority().is_some(), !is_one, "{sent:?}");
    // One length, ours.
    let (lengths, codings) = (only(CONTENT_LENGTH), only(TRANSFER_ENCODING));
    match hop.content {
        Content::Known(_) => assert_eq!((&lengths[..], codings.len()), (&[&b"5"[..]][..], 0)),
        Content::Unknown => {
            let expected: &[&[u8]] = if is_one { &[b"chunked"] } else { &[] };
            assert_eq!((lengths.len(), &codings[..]), (0, expected), "{sent:?}");
        }
        Content::None => {
            assert!(
                codings.is_empty() && lengths.iter().all(|length| *length == b"0"),
                "{sent:?}"
            );
        }
    }
    // Whom it is for, once and from us.
    assert_eq!(only(forwarded::X_FORWARDED_FOR), [b"192.0.2.1"], "{sent:?}");
    let told = fields.get_all("forwarded").iter().collect::<Vec<_>>();
    assert!(
        told.len() == 1
            && told
                .iter()
                .all(|value| value.as_bytes().starts_with(b"for=192.0.2.1;")),
        "{sent:?}"
    );
    assert!(
        !fields.contains_key("x-real-ip") && !fields.contains_key("proxy"),
        "{sent:?}"
    );
    for name in fields.keys() {
        let (kind, spelling) = kind_of(name);
        let is_te = *name == TE || name == "connection";
        assert!(kind != Kind::Connection || is_te, "{name} in {sent:?}");
        assert!(
            kind == Kind::Other || spelling == Spelling::Proper,
            "{name} in {sent:?}"
        );
    }
    if let Some(value) = fields.get("connection") {
        assert_eq!(value, "te", "{sent:?}");
    }
    // What is for the origin can't be taken away.
    for name in [
        "authorization",
        "content-type",
        "user-agent",
        "sec-fetch-site",
    ] {
        let count = |fields: &HeaderMap| fields.get_all(name).iter().count();
        assert_eq!(count(fields), count(&head.headers), "{name} in {sent:?}");
    }
    if hop.proxy.name == "rewritten" {
        assert_eq!(
            fields.get("x-gateway").map(HeaderValue::as_bytes),
            Some(&b"it"[..])
        );
        assert!(!fields.contains_key("x_gateway"), "{sent:?}");
    }
}

/// Reads any text as a path and a query; asserts that it is asked for byte for byte, or that what is
/// made of it has each value in its place.
///
/// # Panics
///
/// If it goes elsewhere.
pub fn fuzz_path(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let Ok(target) = text.parse::<http::uri::PathAndQuery>() else {
        return;
    };
    // hyper hands over what is before a fragment.
    let uri = http::Uri::from(target.clone());
    let plain = hop("plain", STRANGER);
    let asked = super::target::of(&uri, &Method::GET, &plain);
    let means_two = means_two(target.path()) || !target.path().starts_with('/');
    match asked {
        Ok(asked) => {
            assert!(!means_two, "{text:?}");
            // An absolute-form may go without a path, an origin-form not (RFC 9112, 3.2.1).
            let root = if text.starts_with('?') { "/" } else { "" };
            assert_eq!(asked.as_str(), format!("{root}{}", target.as_str()));
        }
        Err(refused) => assert!(means_two, "{text:?}: {refused}"),
    }
    let rewritten = hop("rewritten", STRANGER);
    let router = {
        let mut router = config::PathRouter::default();
        let led = router.insert(&[], &rewritten.proxy.path, &());
        assert!(led.is_ok(), "it is a path");
        router
    };
    let Some((_, captured)) = router.find("", target.path()) else {
        return;
    };
    let Ok(asked) = super::target::of(&uri, &Method::GET, &rewritten) else {
        return;
    };
    assert_eq!(asked.query(), target.query(), "{text:?}");
    let normal = config::normalize_path(asked.path());
    let [user, id, rest] = captured.as_slice() else {
        panic!("three variables: {captured:?}");
    };
    assert_eq!(
        normal.as_deref(),
        Some(&*format!("/v2/{rest}/{id}/u.{user}")),
        "{text:?}"
    );
    assert!(!self::means_two(asked.path()), "{asked:?}");
}

/// Whether somebody may read another path in this one.
fn means_two(path: &str) -> bool {
    let mut escapes = path.split('%').skip(1);
    let is_escape = |after: &str| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(is_escape) {
        return true;
    }
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    let is_dots = |segment: &[u8]| {
        let bare = segment.split(|byte| *byte == b';').next();
        matches!(bare, Some(b"." | b".."))
    };
    path.contains("%00") || segments.any(is_dots)
}
