//! What an origin is told of the client: `Forwarded` (RFC 7239) and `X-Forwarded-*`.
//!
//! What a stranger says of itself is removed, whatever it is called. To what a trusted proxy says, whom
//! we got the request from is appended. But nearly every proxy appends to `X-Forwarded-For` only, and
//! passes `Forwarded` on as a client wrote it; so that is believed only where both name the same
//! client, and else made anew from what is known.

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
        if let Some(value) = value {
            fields.append(FORWARDED, value);
        }
    }
}

/// What is believed of what came before.
struct Chain<'a> {
    /// Whether who asks is believed.
    is_trusted: bool,
    /// The fields whose `X-Forwarded-For` is appended to.
    x: Option<&'a HeaderMap>,
    /// The fields whose `Forwarded` is appended to.
    forwarded: Option<&'a HeaderMap>,
    /// Whom a trusted proxy asks for.
    client: Option<IpAddr>,
}

impl<'a> Chain<'a> {
    fn of(said: &'a HeaderMap, hop: &Hop<'_>) -> Self {
        if !hop.peer.is_trusted(hop.trusted) {
            return Self {
                is_trusted: false,
                x: None,
                forwarded: None,
                client: None,
            };
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
            is_trusted: true,
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
    if let Some(value) = value {
        fields.append(X_FORWARDED_FOR, value);
    }
    // A trusted proxy's word is there already; of anybody else there is nothing.
    let is_said = |fields: &HeaderMap, name| chain.is_trusted && fields.contains_key(name);
    if !is_said(fields, X_FORWARDED_PROTO) {
        fields.append(
            X_FORWARDED_PROTO,
            HeaderValue::from_static(name(hop.scheme)),
        );
    }
    let Some(host) = host else { return };
    if !is_said(fields, X_FORWARDED_HOST) {
        fields.append(X_FORWARDED_HOST, host.clone());
    }
    if !is_said(fields, X_FORWARDED_PORT) {
        let told = |name| fields.get(name).and_then(|value| value.to_str().ok());
        let port = match told(X_FORWARDED_HOST).and_then(port_of) {
            Some(port) => HeaderValue::from(port),
            None if told(X_FORWARDED_PROTO) == Some("https") => HeaderValue::from_static("443"),
            None => HeaderValue::from_static("80"),
        };
        fields.append(X_FORWARDED_PORT, port);
    }
}

/// The port of an authority, where it has one.
fn port_of(authority: &str) -> Option<u16> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_in_address = host.starts_with('[') && !host.ends_with(']');
    port.parse().ok().filter(|_| !is_in_address)
}

/// Our own element of `Forwarded`.
fn element(peer: Option<&HeaderValue>, host: Option<&HeaderValue>, scheme: &Scheme) -> HeaderValue {
    let address = peer.and_then(|peer| peer.to_str().ok());
    let address = address.unwrap_or("unknown");
    let (open, close) = match address.contains(':') {
        true => ("\"[", "]\""),
        false => ("", ""),
    };
    let host = host.and_then(|host| host.to_str().ok());
    let (says_host, host) = host.map_or(("", ""), |host| (";host=", host));
    // Of all that a host may be (`authority`), only these are not part of a token (RFC 9110, 5.6.2).
    let quote = if host.contains([':', '[']) { "\"" } else { "" };
    let element = [
        "for=",
        open,
        address,
        close,
        says_host,
        quote,
        host,
        quote,
        ";proto=",
        name(scheme),
    ];
    HeaderValue::from_maybe_shared(Bytes::from(element.concat()))
        .unwrap_or(HeaderValue::from_static("for=unknown"))
}

fn name(scheme: &Scheme) -> &'static str {
    if *scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    }
}

/// An address as a value. Nearly every request has one, so it is not formatted as anything may be.
fn value(address: IpAddr) -> Option<HeaderValue> {
    let text = match address {
        IpAddr::V4(address) => {
            let mut text = String::with_capacity("255.255.255.255".len());
            for (n, octet) in address.octets().into_iter().enumerate() {
                if n > 0 {
                    text.push('.');
                }
                if octet >= 100 {
                    text.push(char::from(b'0' + octet / 100));
                }
                if octet >= 10 {
                    text.push(char::from(b'0' + octet / 10 % 10));
                }
                text.push(char::from(b'0' + octet % 10));
            }
            text
        }
        IpAddr::V6(address) => address.to_string(),
    };
    HeaderValue::from_str(&text).ok()
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
