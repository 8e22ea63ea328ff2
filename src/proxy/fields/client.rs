//! Whose request it is that a trusted proxy passes on. Pure.
//!
//! Every proxy appends whom it got the request from, so the header field is read from its right end:
//! the last entry is the word of the proxy that we know. As long as the address that it names is a
//! trusted proxy's too, the entry before is believed as well. What is left of that, anybody may have
//! written. So the first entry that is no trusted proxy's is the client; and where an entry names no
//! address (`unknown`, `_hidden`, garbage), the last one that could be trusted is as far as we see.
//!
//! `X-Forwarded-For` goes before `Forwarded`: nearly every proxy appends to the first, and passes the
//! second on as the client wrote it. A proxy that writes only `Forwarded` has to remove the other.
//!
//! Spec: RFC 7239. Deviates: it is split at commas from the right, because the left part may be an
//! attacker's, whose quotation mark that is never closed must not swallow what a proxy appended.
//! `X-Forwarded-For` has no specification; addresses with ports and in brackets are met.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use crate::config::TrustedProxies;
use crate::net::peer::PeerAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Trusted proxies in a row that are believed; there are never so many.
const MOST_HOPS: usize = 64;

/// Who is behind `peer`, as far as it can be trusted.
pub fn client(fields: &HeaderMap, peer: PeerAddr, proxies: &TrustedProxies) -> PeerAddr {
    if fields.contains_key(X_FORWARDED_FOR) {
        let values = values(fields, X_FORWARDED_FOR);
        let entries = values.iter().flat_map(|value| value.rsplit(','));
        follow(entries, |entry| node(entry.trim()), (peer, proxies))
    } else {
        by_forwarded(fields, peer, proxies)
    }
}

/// The same by `Forwarded` alone.
pub(super) fn by_forwarded(
    fields: &HeaderMap,
    peer: PeerAddr,
    proxies: &TrustedProxies,
) -> PeerAddr {
    let values = values(fields, FORWARDED);
    let elements = values.iter().flat_map(|value| RSplit::new(value, b','));
    follow(elements, forwarded_for, (peer, proxies))
}

/// Goes from one to who was before, while all are trusted.
fn follow<'a>(
    entries: impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
    (peer, proxies): (PeerAddr, &TrustedProxies),
) -> PeerAddr {
    let mut client = peer;
    for entry in entries.take(MOST_HOPS) {
        if entry.trim().is_empty() {
            // It is none (RFC 9110, 5.6.1).
            continue;
        }
        match address(entry) {
            Some(address) if client.is_trusted(proxies) => client = PeerAddr::from(address),
            Some(_) | None => break,
        }
    }
    client
}

/// The values of all lines of a field, the last first. Of one that is not UTF-8, the entries that are
/// still name somebody: a client must not be able to hide by what it puts before a proxy's word.
fn values(fields: &HeaderMap, name: HeaderName) -> Vec<Cow<'_, str>> {
    let values = fields.get_all(name).iter().rev();
    values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect()
}

/// The address of a node (RFC 7239, 6): with or without a port, which may be hidden.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse().ok().map(IpAddr::V6).filter(|_| has_port);
    }
    let (address, port) = text.split_once(':')?;
    address
        .parse()
        .ok()
        .map(IpAddr::V4)
        .filter(|_| is_port(port))
}

fn is_port(text: &str) -> bool {
    let hidden = text.strip_prefix('_').unwrap_or(text);
    !hidden.is_empty()
        && hidden
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whom an element of `Forwarded` names.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in RSplit::new(element, b';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value.trim()).is_some() {
            // Each parameter once (RFC 7239, 4).
            return None;
        }
    }
    node(&unquoted(found?)?)
}

/// A token, or what a quoted string says (RFC 9110, 5.6.4).
fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut said = String::new();
    let mut chars = rest.strip_suffix('"')?.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => said.push(chars.next()?),
            '"' => return None,
            _ => said.push(c),
        }
    }
    Some(said)
}

/// The parts of a text between separators that stand outside of quoted strings, the last first.
struct RSplit<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> RSplit<'a> {
    fn new(text: &'a str, separator: u8) -> Self {
        Self {
            rest: Some(text),
            separator,
        }
    }
}

impl<'a> Iterator for RSplit<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let mut is_quoted = false;
        for (at, byte) in rest.bytes().enumerate().rev() {
            if byte == b'"' {
                let before = rest.as_bytes().get(..at).unwrap_or_default();
                let n_escapes = before
                    .iter()
                    .rev()
                    .take_while(|byte| **byte == b'\\')
                    .count();
                // An escaped one is inside.
                is_quoted = !is_quoted || n_escapes % 2 == 1;
            } else if byte == self.separator && !is_quoted {
                // Both are ASCII, so nothing is cut in two.
                let (before, part) = rest.split_at_checked(at)?;
                self.rest = Some(before);
                return part.get(1..);
            }
        }
        self.rest = None;
        Some(rest)
    }
}

/// Reads any bytes as both header fields; asserts that an untrusted peer is what it is, and that the
/// word of a trusted one is the last.
///
/// # Panics
///
/// If that is not so.
#[cfg(any(test, fuzzing))]
pub fn fuzz_forwarded(data: &[u8]) {
    use http::HeaderValue;

    let proxies = crate::config::Config::parse(
        "fuzz.toml",
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"unix:\"]\n\
         [listen.public]\naddress = \"127.0.0.1:80\"\n\
         [channels.events]\npath = \"/\"\nupstream = \"http://127.0.0.1:1/\"\n",
    );
    let proxies = proxies.map(|loaded| loaded.config.server.trusted_proxies);
    let proxies = proxies.unwrap_or_default();
    assert!(!proxies.is_empty(), "the configuration is right");
    let named = IpAddr::from([192, 0, 2, 1]);
    for (name, entry) in [
        (X_FORWARDED_FOR, ", 192.0.2.1"),
        (FORWARDED, ", for=192.0.2.1"),
    ] {
        let mut fields = HeaderMap::new();
        let Ok(value) = HeaderValue::from_bytes(data) else {
            return;
        };
        fields.append(&name, value);
        let stranger = PeerAddr::from(IpAddr::from([198, 51, 100, 1]));
        assert_eq!(client(&fields, stranger, &proxies), stranger);
        let _anybody = client(&fields, PeerAddr::Unix, &proxies);
        let Ok(value) = HeaderValue::from_bytes(&[data, entry.as_bytes()].concat()) else {
            return;
        };
        fields.insert(&name, value);
        assert_eq!(client(&fields, PeerAddr::Unix, &proxies), named.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::{any, prop, proptest};

    fn proxies() -> TrustedProxies {
        let text = "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\", \"unix:\"]\n\
                    [listen.public]\naddress = \"127.0.0.1:80\"\n\
                    [channels.events]\npath = \"/\"\nupstream = \"http://127.0.0.1:1/\"\n";
        let loaded = crate::config::Config::parse("test.toml", text).expect("right");
        loaded.config.server.trusted_proxies
    }

    /// Whom a trusted proxy speaks for with these field lines.
    fn behind(lines: &[(&str, &str)]) -> String {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a name");
            fields.append(name, value.parse().expect("a value"));
        }
        let proxy = PeerAddr::from(IpAddr::from([10, 0, 0, 1]));
        client(&fields, proxy, &proxies()).to_string()
    }

    fn behind_xff(value: &str) -> String {
        behind(&[("x-forwarded-for", value)])
    }

    fn behind_forwarded(value: &str) -> String {
        behind(&[("forwarded", value)])
    }

    #[test]
    fn the_right_end_is_believed_and_what_a_client_wrote_is_not() {
        assert_eq!(behind(&[]), "10.0.0.1", "nobody is named");
        assert_eq!(behind_xff("192.0.2.1"), "192.0.2.1");
        assert_eq!(behind_xff("1.1.1.1, 192.0.2.1"), "192.0.2.1");
        assert_eq!(
            behind_xff("1.1.1.1, 192.0.2.1, 10.0.0.2, 10.0.0.3"),
            "192.0.2.1"
        );
        assert_eq!(
            behind_xff("10.0.0.9,10.0.0.8"),
            "10.0.0.9",
            "all are trusted"
        );
        assert_eq!(behind_forwarded("for=1.1.1.1, for=192.0.2.1"), "192.0.2.1");
        assert_eq!(
            behind_forwarded("for=192.0.2.1;proto=https;by=10.0.0.1,for=10.0.0.2"),
            "192.0.2.1"
        );
    }

    #[test]
    fn an_untrusted_peer_speaks_for_nobody_but_itself() {
        let mut fields = HeaderMap::new();
        fields.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        fields.append("forwarded", HeaderValue::from_static("for=192.0.2.1"));
        for address in [[11, 0, 0, 1], [127, 0, 0, 1]] {
            let peer = PeerAddr::from(IpAddr::from(address));
            assert_eq!(client(&fields, peer, &proxies()), peer);
        }
        let socket = client(&fields, PeerAddr::Unix, &proxies());
        assert_eq!(socket.to_string(), "192.0.2.1");
        assert_eq!(
            client(&fields, PeerAddr::Unix, &TrustedProxies::default()),
            PeerAddr::Unix
        );
    }

    #[test]
    fn field_lines_are_one_list() {
        let lines = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.2"),
        ];
        assert_eq!(behind(&lines), "192.0.2.1");
        assert_eq!(behind(&lines[..2]), "192.0.2.1");
        let lines = [
            ("forwarded", "for=192.0.2.1"),
            ("forwarded", "for=10.0.0.2, "),
        ];
        assert_eq!(behind(&lines), "192.0.2.1");
    }

    #[test]
    fn where_both_are_the_one_that_proxies_append_to_counts() {
        let both = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(behind(&both), "192.0.2.1");
        let empty = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "")];
        assert_eq!(behind(&empty), "10.0.0.1");
    }

    #[test]
    fn addresses_are_read_in_every_form_that_is_met() {
        for (entry, address) in [
            ("192.0.2.1:50000", "192.0.2.1"),
            ("2001:dead::1", "2001:dead::1"),
            ("[2001:dead::1]", "2001:dead::1"),
            ("[2001:dead::1]:443", "2001:dead::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1\t", "192.0.2.1"),
            (", 192.0.2.1,,", "192.0.2.1"),
        ] {
            assert_eq!(behind_xff(entry), address, "{entry}");
        }
        for (element, address) in [
            ("For=\"[2001:dead::1]:4711\"", "2001:dead::1"),
            ("for=\"[2001:dead::1]\"", "2001:dead::1"),
            ("for=\"192.0.2.1:_port\"", "192.0.2.1"),
            ("for=\"192.0.2.\\1\"", "192.0.2.1"),
            ("proto=http ; FOR=192.0.2.1 ; host=\"a;b,c\"", "192.0.2.1"),
            ("host=\"a\\\"b,c\";for=192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(behind_forwarded(element), address, "{element}");
        }
    }

    #[test]
    fn what_names_nobody_ends_the_chain_at_the_last_that_could_be_trusted() {
        for entry in [
            "unknown",
            "_hidden",
            "garbage",
            "192.0.2",
            "192.0.2.1:",
            "192.0.2.1 x",
            "[::1",
            "\u{7f}",
        ] {
            let value = format!("192.0.2.1, {entry}, 10.0.0.7");
            let mut fields = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                fields.append("x-forwarded-for", value);
                let proxy = PeerAddr::from(IpAddr::from([10, 0, 0, 1]));
                let last = client(&fields, proxy, &proxies()).to_string();
                assert!(last == "10.0.0.7" || entry == "\u{7f}", "{entry}: {last}");
            }
        }
        for element in [
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:80\"",
            "for=[2001:dead::1",
            "for=192.0.2.1;for=192.0.2.2",
            "for",
            "proto=http",
            "for=\"192.0.2.1",
        ] {
            let value = format!("for=192.0.2.9, {element}, for=10.0.0.7");
            assert_eq!(behind_forwarded(&value), "10.0.0.7", "{element}");
        }
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_swallows_nothing() {
        for forged in [
            "for=\"1.1.1.1",
            "for=\"1.1.1.1\\",
            "\"",
            "for=1.1.1.1;host=\"",
            "\\\"",
        ] {
            let value = format!("{forged}, for=192.0.2.1");
            assert_eq!(behind_forwarded(&value), "192.0.2.1", "{forged}");
        }
    }

    #[test]
    fn a_huge_field_is_read_as_far_as_there_may_be_proxies() {
        let value = ["10.0.0.2,"; 5000].concat() + "10.0.0.3";
        assert_eq!(behind_xff(&value), "10.0.0.2");
        let mut lines = vec![("x-forwarded-for", "192.0.2.1")];
        lines.extend([("x-forwarded-for", "10.0.0.2"); 100]);
        assert_eq!(behind(&lines), "10.0.0.2");
    }

    proptest! {
        #[test]
        fn whatever_a_client_writes_the_proxy_has_the_last_word(
            data in prop::collection::vec(any::<u8>(), 0..60),
            text in "[ -~]{0,60}",
        ) {
            fuzz_forwarded(&data);
            fuzz_forwarded(text.as_bytes());
        }
    }
}
