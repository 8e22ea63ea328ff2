//! What `ssecast explain` says of a request that passes through: what a proxy makes of it.
//!
//! It is the head that would be sent, made by the same code, of which names are shown and no values but
//! those that the gateway makes itself.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{CONTENT_LENGTH, FORWARDED, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, Request, Uri, Version};

use super::Rows;
use crate::config::{Proxy, ProxyUrl, TrustedProxies, UpstreamHost, UpstreamHttp, without_secrets};
use crate::net::peer::PeerAddr;
use crate::proxy::fields::{self, Content, Hop};
use crate::proxy::tunnel::Offer;

/// Whom the client stands in for: an address of documentation (RFC 5737).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The rows that say what becomes of a request, each with its label.
///
/// # Errors
///
/// What the client is answered instead.
pub(super) fn rows(
    proxy: &Proxy,
    trusted: &TrustedProxies,
    (uri, named): (&Uri, &HeaderMap),
) -> Result<Rows, String> {
    let name = &proxy.name;
    let upstream = proxy.upstreams.first();
    let upstream = upstream.ok_or_else(|| format!("the proxy `{name}` has no upstream"))?;
    let came = head(uri, named);
    let offer = Offer::of(Version::HTTP_11, &came.headers, &proxy.upgrade);
    let hop = Hop {
        proxy,
        upstream,
        // Only that has other protocols to switch to.
        http: offer.as_ref().map_or(proxy.http, |_| UpstreamHttp::One),
        peer: PeerAddr::from(CLIENT),
        trusted,
        scheme: uri.scheme().unwrap_or(&Scheme::HTTP),
        content: content(&came.headers),
    };
    let mut sent = fields::request(&came, &hop).map_err(|refused| {
        let status = refused.status().as_u16();
        format!("{status}, at the proxy `{name}`: {refused}")
    })?;
    if let Some(offer) = &offer {
        offer.write(&mut sent.headers);
    }
    let mut rows = vec![
        ("proxy", format!("{name}, `{}`", proxy.path)),
        ("upstream", asked(&sent, &hop)),
        ("host", host(&sent, &came, proxy)),
        ("fields", sent_fields(&sent, &came, proxy)),
        ("withheld", withheld(&sent, &came)),
        ("told", told(&sent)),
        ("switches", switches(proxy, offer.is_some())),
    ];
    if proxy.upstreams.iter().all(ProxyUrl::keeps_path) {
        rows.push(("path", "as the client writes it, byte for byte".to_owned()));
    }
    Ok(rows)
}

/// The request, as a client of HTTP/1.1 sends it.
fn head(uri: &Uri, named: &HeaderMap) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.uri = uri.clone();
    head.headers = named.clone();
    if uri.authority().is_none() && !named.contains_key(HOST) {
        // Nobody has said which host it is for, as only HTTP/1.0 may.
        head.version = Version::HTTP_10;
    }
    head
}

/// What its fields say that follows.
fn content(fields: &HeaderMap) -> Content {
    let length = fields.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        _ if fields.contains_key(TRANSFER_ENCODING) => Content::Unknown,
        Some(length) => Content::Known(length),
        None => Content::None,
    }
}

/// The first of the URLs, as far as it may be shown.
fn asked(sent: &Parts, hop: &Hop<'_>) -> String {
    let target = sent.uri.path_and_query();
    let target = target.map_or("/", http::uri::PathAndQuery::as_str);
    let (scheme, authority) = (hop.upstream.scheme(), hop.upstream.authority());
    let url = format!("{scheme}://{authority}{target}");
    let others = match hop.proxy.upstreams.len() - 1 {
        0 => String::new(),
        n => format!(", or the same at {n} more"),
    };
    let version = match hop.http {
        UpstreamHttp::One => "HTTP/1.1",
        UpstreamHttp::Two => "HTTP/2",
    };
    format!("{}{others}, by {version}", without_secrets(&url))
}

/// The host that the upstream is asked for.
fn host(sent: &Parts, came: &Parts, proxy: &Proxy) -> String {
    let authority = sent.uri.authority().map(ToString::to_string);
    let field = sent.headers.get(HOST);
    let field = field.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let shown = format!("`{}`", field.or(authority).unwrap_or_default());
    let is_set = proxy.headers.iter().any(|(name, _)| *name == HOST);
    match proxy.upstream_host {
        UpstreamHost::Client if is_set => shown,
        UpstreamHost::Client if came.version == Version::HTTP_10 => {
            "the one that the client asks for".to_owned()
        }
        UpstreamHost::Client => format!("{shown}, the one that the client asks for"),
        UpstreamHost::Named(_) | UpstreamHost::Upstream => shown,
    }
}

/// The header fields that go on, and whose they are; without a word, the gateway's.
fn sent_fields(sent: &Parts, came: &Parts, proxy: &Proxy) -> String {
    let names = sent.headers.keys().filter(|name| **name != HOST);
    let shown = names.map(|name| {
        let whose = if proxy.headers.iter().any(|(set, _)| set == name) {
            " (upstream_headers)"
        } else if !came.headers.contains_key(name) {
            ""
        } else if values(sent, name) == values(came, name) {
            " (the client's)"
        } else if values(sent, name).starts_with(&values(came, name)) {
            " (the client's, and ours)"
        } else {
            " (not the client's)"
        };
        format!("{name}{whose}")
    });
    let mut shown: Vec<String> = shown.collect();
    if came.headers.keys().all(|name| *name == HOST) {
        shown.push("and the client's, but those of its connection".to_owned());
    }
    shown.join(", ")
}

/// All that a head says in a field.
fn values(head: &Parts, name: &HeaderName) -> Vec<u8> {
    let values = head.headers.get_all(name).iter();
    let values: Vec<&[u8]> = values.map(http::HeaderValue::as_bytes).collect();
    values.join(&b", "[..])
}

/// The header fields of the client that do not.
fn withheld(sent: &Parts, came: &Parts) -> String {
    let names = came.headers.keys();
    let names = names.filter(|name| **name != HOST && !sent.headers.contains_key(*name));
    let names: Vec<&str> = names.map(HeaderName::as_str).collect();
    names.join(", ")
}

/// What the upstream is told of the client.
fn told(sent: &Parts) -> String {
    let is_told =
        |name: &HeaderName| *name == FORWARDED || name.as_str().starts_with("x-forwarded-");
    let told = sent.headers.iter().filter(|(name, _)| is_told(name));
    let told = told.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        format!("{name} `{value}`")
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        return "nothing of the client".to_owned();
    }
    format!("{}, of a client at {CLIENT}", told.join(", "))
}

fn switches(proxy: &Proxy, is_offered: bool) -> String {
    if proxy.upgrade.is_empty() {
        return "to no other protocol".to_owned();
    }
    let who = if is_offered { "the upstream" } else { "it" };
    let does = if is_offered { "agrees" } else { "asks for it" };
    format!("to {}, if {who} {does}", proxy.upgrade.join(", "))
}
