//! Which host a request is for, as far as a proxy may say so to an origin.
//!
//! Spec: RFC 9110, 7.2; RFC 9112, 3.2; RFC 9113, 8.3.1.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};

use super::Refused;
use super::framing::number;

/// The host and the port that a request names; `None`: it names none, as it may.
///
/// # Errors
///
/// If it names two, or what is none.
pub(super) fn of(head: &Parts) -> Result<Option<HeaderValue>, Refused> {
    let mut fields = head.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refused::TwoHosts);
    }
    let target = head.uri.authority().map(http::uri::Authority::as_str);
    let Some(target) = target else {
        return match field {
            Some(host) if is_authority(host.as_bytes()) => Ok(Some(host.clone())),
            Some(_) => Err(Refused::BadHost),
            None if head.version == Version::HTTP_11 => Err(Refused::BadHost),
            None => Ok(None),
        };
    };
    // On HTTP/2 both are the client's word and say the same; the field of HTTP/1.1 means nothing beside
    // a target in absolute-form (RFC 9112, 3.2.2).
    let contradicts = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(target.as_bytes());
    if head.version == Version::HTTP_2 && field.is_some_and(contradicts) {
        return Err(Refused::TwoHosts);
    }
    if !is_authority(target.as_bytes()) {
        return Err(Refused::BadHost);
    }
    HeaderValue::from_str(target)
        .map(Some)
        .map_err(|_impossible| Refused::BadHost)
}

/// Whether this is a host with or without a port: a name of letters, digits, `-`, `_` and `.`, or an
/// address. No user info, and nothing of which somebody might read something else.
fn is_authority(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"[") {
        return is_rest_of_address(rest);
    }
    let mut parts = text.splitn(2, |byte| *byte == b':');
    let mut part = || parts.next().unwrap_or_default();
    let (host, port) = (part(), part());
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !host.is_empty() && host.len() <= 255 && host.iter().all(is_of_name) && is_port(port)
}

/// Whether this may stand behind the bracket that opens an IPv6 address.
fn is_rest_of_address(rest: &[u8]) -> bool {
    let parts = str::from_utf8(rest).ok();
    let parts = parts.and_then(|rest| rest.split_once(']'));
    parts.is_some_and(|(address, rest)| {
        let is_rest = || {
            rest.strip_prefix(':')
                .map(str::as_bytes)
                .is_some_and(is_port)
        };
        address.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || is_rest())
    })
}

/// Whether this may stand behind the colon: nothing, too (RFC 3986, 3.2.3).
fn is_port(text: &[u8]) -> bool {
    text.is_empty() || number(text).is_some_and(|port| port <= u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for right in [
            "a.example",
            "A.example.",
            "localhost:3000",
            "a_b:",
            "127.0.0.1:65535",
            "[::1]",
            "[2001:db8::1]:8080",
        ] {
            assert!(is_authority(right.as_bytes()), "{right}");
        }
        for wrong in [
            "",
            ":80",
            "user@a.example",
            "a.example/x",
            "a b",
            "a.example:65536",
            "a.example:+80",
            "a:b:c",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[v1.x]",
            "a%00b",
            "a,b",
            "a\tb",
            "a;b",
            "caf\u{e9}",
            "a.example#",
            "a.example?x",
            "a\\b",
        ] {
            assert!(!is_authority(wrong.as_bytes()), "{wrong}");
        }
        assert!(!is_authority(&[b'a'; 256]));
    }
}
