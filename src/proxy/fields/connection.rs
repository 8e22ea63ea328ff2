//! Fields of one connection: what `Connection` names, and what `TE` says (RFC 9110, 7.6.1 and 10.1.4).
//!
//! Who names a field in `Connection` has it taken away by the next proxy. So that nobody takes away
//! what is not of the connection (`Connection: Authorization`, `X-Forwarded-For`, `Content-Type`), of
//! standardised fields only those are that the standard says so of; anything else is believed.

use http::header::{CONNECTION, TE};
use http::{HeaderMap, HeaderValue};

use super::names::{Kind, kind_of_token};

/// Names beyond this are not looked at: nobody has so many.
const MOST_NAMES: usize = 64;

/// What a message's `Connection` fields name, of fields that nothing else is known of.
#[derive(Debug, Default)]
pub(super) struct Nominated<'a>(Vec<&'a str>);

impl<'a> Nominated<'a> {
    pub(super) fn of(fields: &'a HeaderMap) -> Self {
        // Nearly all messages say one thing at most, and that is no name.
        let names = |line: &HeaderValue| !is_option(line.as_bytes());
        if !fields.get_all(CONNECTION).iter().any(names) {
            return Self::default();
        }
        let tokens = tokens(fields, &CONNECTION).filter(|token| !is_option(token.as_bytes()));
        let named = tokens.filter(|token| kind_of_token(token) == Kind::Other);
        Self(named.take(MOST_NAMES).collect())
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

/// Options that are no names of fields.
fn is_option(token: &[u8]) -> bool {
    let options: [&[u8]; 4] = [b"", b"close", b"keep-alive", b"upgrade"];
    options
        .iter()
        .any(|option| token.eq_ignore_ascii_case(option))
}

/// Whether the sender takes trailer fields: all that `TE` can say which a proxy can pass on.
pub(super) fn takes_trailers(fields: &HeaderMap) -> bool {
    tokens(fields, &TE).any(|coding| {
        let coding = coding.split(';').next().unwrap_or_default();
        coding.trim().eq_ignore_ascii_case("trailers")
    })
}

/// The elements of a list (RFC 9110, 5.6.1). What is no text names nothing.
pub(super) fn tokens<'a>(
    fields: &'a HeaderMap,
    name: &http::HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = fields.get_all(name).into_iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}
