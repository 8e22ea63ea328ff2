//! What an origin is told of the client: `Forwarded` (RFC 7239) and `X-Forwarded-*`.
//!
//! What a stranger says of itself is removed, whatever it is called. To what a trusted proxy says, whom
//! we got the request from is appended. But nearly every proxy appends to `X-Forwarded-For` only, and
//! passes `Forwarded` on as a client wrote it; so that is believed only where both name the same
//! client, and else made anew from what is known.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{FORWARDED, HeaderName};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};

use super::{Hop, client, joined};
use crate::config::ForwardedFields;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether such a field of the client's goes on as it is: what is not made here, if a trusted proxy
/// says it.
pub(super) fn goes_on(name: &HeaderName, hop: &Hop<'_>) -> bool {
    let is_made = *name == FORWARDED || *name == X_FORWARDED_FOR;
    !is_made && has_x(hop) && hop.peer.is_trusted(hop.trusted)
}

/// Tells in `fields` for whom the request is, which came with the fields `said` and for this host.
pub(super) fn tell(
    fields: &mut HeaderMap,
    said: &HeaderMap,
    host: Option<&HeaderValue>,
    hop: &Hop<'_>,
) {
    let chain = Chain::of(said, hop);
    let peer = hop.peer.ip().and_then(value);
    if has_x(hop) {
        tell_x(fields, &chain, (peer.as_ref(), host), hop);
    }
    if matches!(
        hop.proxy.forwarded,
        ForwardedFields::Both | ForwardedFields::Rfc7239
    ) {
        let own = element(peer.as_ref(), host, hop.scheme);
        let value = match (chain.forwarded, chain.client) {
            (Some(before), _) => joined(before, &FORWARDED, b", ", Some(&own)),
            (None, Some(client)) => text(&format!("for={}, ", node(client)), &own),
            (None, None) => Some(own),
        };
        fields.extend(value.map(|value| (FORWARDED, value)));
    }
}

/// What is believed of what came before.
struct Chain<'a> {
    /// The fields whose `X-Forwarded-For` is appended to.
    x: Option<&'a HeaderMap>,
    /// The fields whose `Forwarded` is appended to.
    forwarded: Option<&'a HeaderMap>,
    /// Whom a trusted proxy asks for.
    client: Option<IpAddr>,
}

impl<'a> Chain<'a> {
    fn of(said: &'a HeaderMap, hop: &Hop<'_>) -> Self {
        let nothing = Self {
            x: None,
            forwarded: None,
            client: None,
        };
        if !hop.peer.is_trusted(hop.trusted) {
            return nothing;
        }
        let (has_x, has_forwarded) = (
            said.contains_key(X_FORWARDED_FOR),
            said.contains_key(FORWARDED),
        );
        let client = client::client(said, hop.peer, hop.trusted);
        let agrees = has_forwarded
            && is_whole(said)
            && (!has_x || client == client::by_forwarded(said, hop.peer, hop.trusted));
        Self {
            x: has_x.then_some(said),
            forwarded: agrees.then_some(said),
            client: client.ip().filter(|_| client != hop.peer),
        }
    }
}

fn tell_x(
    fields: &mut HeaderMap,
    chain: &Chain<'_>,
    (peer, host): (Option<&HeaderValue>, Option<&HeaderValue>),
    hop: &Hop<'_>,
) {
    let value = match (chain.x, chain.client.and_then(value)) {
        (Some(before), _) => joined(before, &X_FORWARDED_FOR, b", ", peer),
        (None, Some(client)) => match peer {
            Some(peer) => text(&format!("{}, ", client.to_str().unwrap_or_default()), peer),
            None => Some(client),
        },
        (None, None) => peer.cloned(),
    };
    fields.extend(value.map(|value| (X_FORWARDED_FOR, value)));
    let scheme = if *hop.scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    };
    // A trusted proxy's word is there already.
    let proto = fields.entry(X_FORWARDED_PROTO);
    let is_https = *proto.or_insert(HeaderValue::from_static(scheme)) == "https";
    let Some(host) = host else { return };
    let told = fields
        .entry(X_FORWARDED_HOST)
        .or_insert_with(|| host.clone());
    let port = match told.to_str().ok().and_then(port_of) {
        Some(port) => HeaderValue::from(port),
        None => HeaderValue::from_static(if is_https { "443" } else { "80" }),
    };
    fields.entry(X_FORWARDED_PORT).or_insert(port);
}

/// The port of an authority, where it has one.
fn port_of(authority: &str) -> Option<u16> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_in_address = host.starts_with('[') && !host.ends_with(']');
    port.parse().ok().filter(|_| !is_in_address)
}

/// Our own element of `Forwarded`.
fn element(peer: Option<&HeaderValue>, host: Option<&HeaderValue>, scheme: &Scheme) -> HeaderValue {
    let host = host.map(HeaderValue::to_str).and_then(Result::ok);
    // Nearly every request has one of these: what is written piece by piece is allocated at once.
    let mut element = String::with_capacity(80 + host.map_or(0, str::len));
    element.push_str("for=");
    match peer.map(HeaderValue::to_str) {
        Some(Ok(address)) if address.contains(':') => {
            element.extend(["\"[", address, "]\""]);
        }
        Some(Ok(address)) => element.push_str(address),
        Some(Err(_)) | None => element.push_str("unknown"),
    }
    if let Some(host) = host {
        // Of all that a host may be (`authority`), only these are not part of a token (RFC 9110, 5.6.2).
        let quote = if host.contains([':', '[']) { "\"" } else { "" };
        element.extend([";host=", quote, host, quote]);
    }
    element.push_str(";proto=");
    element.push_str(if *scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    });
    HeaderValue::from_maybe_shared(Bytes::from(element))
        .unwrap_or(HeaderValue::from_static("for=unknown"))
}

/// An address as a value.
fn value(address: IpAddr) -> Option<HeaderValue> {
    let mut text = String::with_capacity(48);
    write!(text, "{address}").ok()?;
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// An address as a node (RFC 7239, 6).
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// A text and a value behind it.
fn text(before: &str, value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&[before.as_bytes(), value.as_bytes()].concat()).ok()
}

/// Whether what is appended to these lines will not stand within a quoted string.
fn is_whole(fields: &HeaderMap) -> bool {
    let mut is_quoted = false;
    for line in fields.get_all(FORWARDED) {
        let mut bytes = line.as_bytes().iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => is_quoted = !is_quoted,
                b'\\' if is_quoted && bytes.next().is_none() => return false,
                _ => {}
            }
        }
        if is_quoted {
            return false;
        }
    }
    true
}

fn has_x(hop: &Hop<'_>) -> bool {
    matches!(
        hop.proxy.forwarded,
        ForwardedFields::Both | ForwardedFields::XForwarded
    )
}
