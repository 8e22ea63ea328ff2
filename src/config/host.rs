//! The host names that a channel answers to.

use std::net::Ipv6Addr;

use crate::config::findings::Mistake;
use crate::config::reader::FromText;

/// A host as a request names it: lower case, without a port; an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

impl FromText for HostName {
    const EXAMPLE: &'static str = "\"events.example.com\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let refuse = |message: &str, advice: String| Err(Mistake::new(message, advice));
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let rest = rest.split_once('/').map_or(rest, |(host, _)| host);
        let host = without_port(rest);
        let bare = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let right = if is_host(&bare) {
            bare.as_str()
        } else {
            "events.example.com"
        };
        let only = format!("write only the name: `\"{right}\"`");
        if rest.len() != text.len() {
            refuse("a host, not a URL, is needed", only)
        } else if text.contains('*') {
            let advice = "name each host, or leave `host` out to answer to any".to_owned();
            refuse(
                "host names are compared whole; `*` is not supported",
                advice,
            )
        } else if !text.is_ascii() {
            let advice = "write it as it is sent, in its ASCII form: `\"xn--…\"`".to_owned();
            refuse("a host name cannot contain characters beyond ASCII", advice)
        } else if host.len() != text.len() {
            refuse(
                "a host is named without its port; it answers on every port",
                only,
            )
        } else if text.ends_with('.') {
            refuse("a host name is written without a dot at its end", only)
        } else if !is_host(&bare) {
            refuse(
                &format!("`\"{text}\"` is not a host name"),
                format!("write a name like `{}`", Self::EXAMPLE),
            )
        } else {
            Ok(Self(bare))
        }
    }
}

/// Whether this can stand in a `Host` header field (lower case, no port).
pub(super) fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(is_plain)
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_lower_case_and_without_a_port() {
        for (text, host) in [
            ("a.example", Some("a.example")),
            ("A.Example", Some("a.example")),
            ("localhost", Some("localhost")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("under_score.example", Some("under_score.example")),
            ("a.example:8080", None),
            ("a.example:", None),
            ("[::1]:80", None),
            ("::1", None),
            ("https://a.example/", None),
            ("a.example/x", None),
            ("*.example", None),
            ("a.example.", None),
            ("a..example", None),
            ("a example", None),
            ("bücher.example", None),
            ("", None),
        ] {
            let host = host.map(|host| HostName(host.to_owned()));
            assert_eq!(HostName::from_text(text).ok(), host, "{text}");
        }
    }
}
