//! `Via`: the proxies that a message has gone through, of which we are one (RFC 9110, 7.6.3).
//!
//! A request that has gone through gateways of this name too often goes round in a circle: its upstream
//! is, by whatever way, the gateway itself. A few are no circle, since gateways may stand in a row.

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

/// What we call ourselves.
const NAME: &str = "ssecast";

/// Gateways that a request may have gone through. A circle takes a connection for each time round, so
/// it is found before it has taken many.
const MOST_TIMES: usize = 8;

/// Whether a request has been here too often.
pub(super) fn is_circle(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(VIA).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let ours = elements.filter(|element| {
        let mut words = element
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        words
            .nth(1)
            .is_some_and(|word| word.eq_ignore_ascii_case(NAME.as_bytes()))
    });
    ours.count() > MOST_TIMES
}

/// Says in `fields` that a message of this version came to us: after what `before` says.
pub(super) fn append(fields: &mut HeaderMap, before: &HeaderMap, version: Version) {
    let value = with_own(before, version);
    fields.insert(VIA, value);
}

/// The same for who keeps its fields.
pub(super) fn add(fields: &mut HeaderMap, version: Version) {
    let value = with_own(fields, version);
    fields.insert(VIA, value);
}

fn with_own(before: &HeaderMap, version: Version) -> HeaderValue {
    let own: &'static str = match version {
        Version::HTTP_10 => "1.0 ssecast",
        Version::HTTP_2 => "2 ssecast",
        Version::HTTP_3 => "3 ssecast",
        _ => "1.1 ssecast",
    };
    let own = HeaderValue::from_static(own);
    if !before.contains_key(VIA) {
        return own;
    }
    super::joined(before, &VIA, b", ", Some(&own)).unwrap_or(own)
}
