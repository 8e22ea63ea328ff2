//! Which protocols a request offers to switch to, and whether an answer switches to one of them. Pure.
//!
//! What may be switched to is configured, because behind a tunnel nobody looks at requests any more.
//! Where nothing of an offer may be passed on, the request goes on as an ordinary one.
//!
//! Spec: RFC 9110, 7.8 (Upgrade) and 7.6.1 (Connection).

use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Version};

use super::key::Key;

/// The protocols that a request offers to switch to, as far as they may be passed on.
#[derive(Debug)]
pub struct Offer {
    /// Invariant: there is one at least. As they were written, in their order.
    protocols: Vec<Box<str>>,
    /// The key of a client that sends none.
    key: Option<Key>,
}

/// How a protocol is said goodbye to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// It is just ended: nobody here knows how it ends.
    None,
    /// With a Close frame.
    WebSocket,
}

/// The protocol that has manners.
const WEBSOCKET: &str = "websocket";

/// What is not passed on, whatever is configured: a connection of HTTP/2 beyond us would carry any
/// number of requests that nobody looks at (RFC 9113 has taken it back, besides).
const NEVER: &[&str] = &["h2c", "h2", "http", "tls"];

impl Offer {
    /// What a request offers of what is allowed; `None`: nothing.
    ///
    /// It must say so in HTTP/1.1, and twice: also by naming the field in `Connection`, without which
    /// a proxy has forgotten to remove it.
    pub fn of(version: Version, fields: &HeaderMap, allowed: &[String]) -> Option<Self> {
        if version != Version::HTTP_11 || !fields.contains_key(UPGRADE) {
            return None;
        }
        if !elements(fields, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        let protocols: Vec<Box<str>> = elements(fields, &UPGRADE)
            .filter(|protocol| may_pass(protocol, allowed))
            .map(Box::from)
            .collect();
        (!protocols.is_empty()).then_some(Self {
            protocols,
            key: None,
        })
    }

    /// What an extended CONNECT asks for (RFC 8441), if it is allowed.
    pub fn of_connect(protocol: &str, allowed: &[String]) -> Option<Self> {
        may_pass(protocol, allowed).then(|| Self {
            protocols: vec![protocol.into()],
            key: is_websocket(protocol).then(Key::random),
        })
    }

    /// Offers the same to the origin.
    pub fn write(&self, fields: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.protocols.join(", ")) {
            fields.insert(UPGRADE, value);
            fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if let Some(key) = &self.key {
            key.write(fields);
        }
    }

    /// What the answer switches to: nothing that was not offered, or `None`.
    pub(super) fn accepted(&self, fields: &HeaderMap) -> Option<Manners> {
        if !self.key.as_ref().is_none_or(|key| key.is_accepted(fields)) {
            return None;
        }
        let mut manners = None;
        for protocol in elements(fields, &UPGRADE) {
            let is_offered = |one: &str| one.eq_ignore_ascii_case(protocol);
            self.protocols.iter().find(|one| is_offered(one))?;
            // Of several layers, the first is the lowest.
            manners.get_or_insert(if is_websocket(protocol) {
                Manners::WebSocket
            } else {
                Manners::None
            });
        }
        manners
    }
}

/// Whether a protocol, with or without a version, is one of those allowed.
fn may_pass(protocol: &str, allowed: &[String]) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    let is = |other: &str| other.eq_ignore_ascii_case(name) || other.eq_ignore_ascii_case(protocol);
    !NEVER.iter().any(|never| is(never)) && allowed.iter().any(|one| is(one))
}

fn is_websocket(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case(WEBSOCKET)
}

/// The elements of a field that is a list, on however many lines (RFC 9110, 5.6.1).
fn elements<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = fields.get_all(name).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        });
        lines.collect()
    }

    fn offered(lines: &[(&'static str, &str)], allowed: &[&str]) -> Option<String> {
        let allowed: Vec<String> = allowed.iter().map(|&one| one.into()).collect();
        let offer = Offer::of(Version::HTTP_11, &fields(lines), &allowed)?;
        let mut written = HeaderMap::new();
        offer.write(&mut written);
        assert_eq!(written[CONNECTION], "upgrade");
        Some(written[UPGRADE].to_str().expect("text").to_owned())
    }

    #[test]
    fn only_what_is_allowed_is_passed_on() {
        let both = |protocols| {
            [
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", protocols),
            ]
        };
        for (protocols, allowed, expected) in [
            ("websocket", &["websocket"][..], Some("websocket")),
            ("WebSocket", &["websocket"], Some("WebSocket")),
            ("websocket", &[], None),
            ("chat/2, websocket , ,", &["websocket"], Some("websocket")),
            (
                "chat/2, websocket",
                &["chat", "websocket"],
                Some("chat/2, websocket"),
            ),
            ("chat/2, chat/1", &["chat/1"], Some("chat/1")),
            ("h2c", &["h2c"], None),
            ("H2C, websocket", &["h2c", "websocket"], Some("websocket")),
            ("TLS/1.2, HTTP/2.0", &["tls", "http", "http/2.0"], None),
            ("websocketx", &["websocket"], None),
            (", ,", &["websocket"], None),
        ] {
            let found = offered(&both(protocols), allowed);
            assert_eq!(found.as_deref(), expected, "{protocols} of {allowed:?}");
        }
    }

    #[test]
    fn an_offer_is_made_twice_and_in_http_1_1() {
        let allowed = ["websocket"];
        assert_eq!(offered(&[("upgrade", "websocket")], &allowed), None);
        assert_eq!(
            offered(
                &[("upgrade", "websocket"), ("connection", "close")],
                &allowed
            ),
            None
        );
        assert_eq!(offered(&[("connection", "upgrade")], &allowed), None);
        let lines = [
            ("connection", "close"),
            ("connection", "UPGRADE"),
            ("upgrade", "other"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(offered(&lines, &allowed).as_deref(), Some("websocket"));
        let allowed = ["websocket".into()];
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert!(Offer::of(version, &fields(&lines), &allowed).is_none());
        }
    }

    #[test]
    fn an_answer_switches_to_what_was_offered_or_to_nothing() {
        let allowed = ["websocket".into(), "chat".into()];
        let lines = [("connection", "upgrade"), ("upgrade", "websocket, chat/2")];
        let offer = Offer::of(Version::HTTP_11, &fields(&lines), &allowed).expect("an offer");
        for (answer, expected) in [
            (&[("upgrade", "WebSocket")][..], Some(Manners::WebSocket)),
            (&[("upgrade", "chat/2")], Some(Manners::None)),
            (&[("upgrade", "chat/1")], None),
            (&[("upgrade", "chat")], None),
            (&[("upgrade", "websocket, other")], None),
            (&[("upgrade", "")], None),
            (&[], None),
        ] {
            assert_eq!(offer.accepted(&fields(answer)), expected, "{answer:?}");
        }
    }

    #[test]
    fn an_extended_connect_asks_for_one() {
        let allowed = ["websocket".into()];
        let offer = Offer::of_connect("websocket", &allowed).expect("an offer");
        let mut asked = HeaderMap::new();
        offer.write(&mut asked);
        assert!(asked.contains_key(http::header::SEC_WEBSOCKET_KEY));
        // The key was not accepted.
        assert_eq!(offer.accepted(&fields(&[("upgrade", "websocket")])), None);
        for other in ["connect-udp", "websocket, h2c", ""] {
            assert!(Offer::of_connect(other, &allowed).is_none(), "{other}");
        }
    }
}
