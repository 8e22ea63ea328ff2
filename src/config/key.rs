//! The collapse key: what tells one instance of a template from another, and all of a client's request
//! that ever goes upstream.
//!
//! A key is made of the values of the path's variables, of the allowed query parameters and of the
//! allowed header fields. Two requests with the same key are for the same instance. What could change
//! more of the upstream's URL than the place it is put into is refused here.

use std::fmt;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::form_urlencoded::Serializer;

use crate::config::template::{Extent, Variable};

/// What a channel's key is made of; nothing: there is one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// The variables of the path, in their order.
    pub variables: Vec<Variable>,
    /// Query parameters, in the order in which they go upstream (`key.query`).
    pub query: Vec<String>,
    /// Header fields (`key.headers`).
    pub headers: Vec<HeaderName>,
}

/// A key. Its `Debug` shows no header field.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of the variables, decoded; between two of them is a NUL, which is in none. None is empty.
    values: Box<str>,
    /// The parameters, encoded, in the order of the rules.
    query: Box<str>,
    /// The header fields by their places in the rules, each as it came, marked as sensitive.
    fields: Box<[(usize, HeaderValue)]>,
}

/// Why a request has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// `.` or `..`, which origins resolve.
    #[error("{0} is `.` or `..`")]
    Dots(KeyPart),
    /// Nothing where something must be.
    #[error("{0} has an empty part")]
    Empty(KeyPart),
    /// A character that changes what a URL or a log means.
    #[error("{0} has a slash, a backslash or a control character")]
    Forbidden(KeyPart),
    /// More than an origin takes.
    #[error("{0} is longer than {MAX_VALUE_BYTES} bytes")]
    TooLong(KeyPart),
    /// Not UTF-8, or `%` without two hexadecimal digits.
    #[error("{0} is not percent-encoded UTF-8")]
    Undecodable(KeyPart),
}

/// Of what a part of a key is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// A variable of the path.
    Variable(String),
    /// A query parameter.
    Parameter(String),
    /// A header field.
    Field(HeaderName),
}

/// The longest value of a variable or a parameter, and of all header fields together. Origins and
/// proxies take some 8 KiB of a URL, and each instance holds its key.
const MAX_VALUE_BYTES: usize = 1024;

/// Parameters that the gateway itself understands: they say what a client gets of an instance, not
/// which instance it is.
pub(super) const OUR_PARAMETERS: [&str; 4] = ["channel", "event", "last_event_id", "lastEventId"];

impl KeyRules {
    /// Whether all requests have the same key.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.query.is_empty() && self.headers.is_empty()
    }

    /// The key of a request. `captured` has the variables' values as they stand in the path.
    ///
    /// # Errors
    ///
    /// What can't be part of a key.
    pub fn key<'a>(
        &self,
        captured: impl Iterator<Item = &'a str>,
        query: Option<&str>,
        fields: &HeaderMap,
    ) -> Result<Key, KeyError> {
        let values = self.variables.iter().zip(captured);
        let values = values.map(|(variable, raw)| value_of(variable, raw));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        Ok(Key {
            values: joined(values.iter().map(String::as_str)),
            query: self.query(query.unwrap_or_default())?,
            fields: self.fields(fields)?,
        })
    }

    /// The allowed parameters of a query: in the order of the rules, and of one name in the order in
    /// which they came. `?lang` is `?lang=`, and another key than none at all.
    fn query(&self, query: &str) -> Result<Box<str>, KeyError> {
        if self.query.is_empty() || query.is_empty() {
            return Ok(Box::default());
        }
        let mut canonical = Serializer::new(String::new());
        for name in &self.query {
            let part = || KeyPart::Parameter(name.clone());
            let mut n_bytes = 0;
            for pair in query.split('&') {
                let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
                // What can't be read is not a name that is allowed.
                if form_decoded(raw_name).as_deref() != Some(name) {
                    continue;
                }
                let value = form_decoded(raw_value).ok_or_else(|| KeyError::Undecodable(part()))?;
                // One more each: empty ones take place, too.
                n_bytes += value.len() + 1;
                if n_bytes > MAX_VALUE_BYTES + 1 {
                    return Err(KeyError::TooLong(part()));
                }
                // A slash is data here.
                if value.contains(char::is_control) {
                    return Err(KeyError::Forbidden(part()));
                }
                canonical.append_pair(name, &value);
            }
        }
        Ok(canonical.finish().into())
    }

    fn fields(&self, fields: &HeaderMap) -> Result<Box<[(usize, HeaderValue)]>, KeyError> {
        let mut found = Vec::new();
        let mut n_bytes = 0;
        for (place, name) in self.headers.iter().enumerate() {
            let mut lines: Vec<&[u8]> = Vec::new();
            for value in fields.get_all(name) {
                n_bytes += value.len();
                if n_bytes > 4 * MAX_VALUE_BYTES {
                    return Err(KeyError::TooLong(KeyPart::Field(name.clone())));
                }
                lines.push(value.as_bytes());
            }
            // HTTP/2 may split it, and no other protocol may (RFC 9113, 8.2.3).
            let cookie = (*name == COOKIE && lines.len() > 1).then(|| lines.join(&b"; "[..]));
            if let Some(cookie) = &cookie {
                lines = vec![cookie];
            }
            for line in lines {
                // A copy: the original shares the memory of the whole request head.
                let Ok(mut value) = HeaderValue::from_bytes(line) else {
                    continue;
                };
                value.set_sensitive(true);
                found.push((place, value));
            }
        }
        Ok(found.into())
    }

    /// Whether a query parameter of this name is part of the key.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.query.iter().any(|one| one == name)
    }

    /// Whether a query parameter is the gateway's own.
    pub fn is_ours(name: &str) -> bool {
        OUR_PARAMETERS.contains(&name)
    }

    /// The header fields of a key, by name.
    pub fn fields_of<'a>(
        &'a self,
        key: &'a Key,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let fields = key.fields.iter();
        fields.filter_map(|(place, value)| Some((self.headers.get(*place)?, value)))
    }
}

impl Key {
    /// A key that an earlier process had; it has no header fields.
    pub fn restored<'a>(values: impl Iterator<Item = &'a str>, query: &str) -> Self {
        Self {
            values: joined(values),
            query: Box::from(query),
            fields: Box::default(),
        }
    }

    /// The values of the path's variables, decoded.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.split(NUL).filter(|value| !value.is_empty())
    }

    /// The value of the variable with this place.
    pub(super) fn value(&self, place: usize) -> Option<&str> {
        self.values().nth(place)
    }

    /// The query parameters, encoded and in their order; empty: there are none.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// Whether header fields are part of it, which may be credentials.
    pub fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// About what it takes in memory.
    pub fn footprint(&self) -> usize {
        let fields = self.fields.iter();
        let fields: usize = fields
            .map(|(_, value)| value.len() + size_of::<(usize, HeaderValue)>())
            .sum();
        size_of::<Self>() + self.values.len() + self.query.len() + fields
    }
}

const NUL: char = '\0';

fn joined<'a>(values: impl Iterator<Item = &'a str>) -> Box<str> {
    let values: Vec<_> = values.collect();
    values.join("\0").into()
}

fn value_of(variable: &Variable, raw: &str) -> Result<String, KeyError> {
    let part = || KeyPart::Variable(variable.name.clone());
    // Each segment for itself: a slash that is encoded is no end of one.
    let n_segments = match variable.extent {
        Extent::Rest => usize::MAX,
        Extent::Segment => 1,
    };
    let segments = raw.splitn(n_segments, '/');
    let mut value = String::with_capacity(raw.len());
    for (number, segment) in segments.enumerate() {
        let segment = decoded(segment).ok_or_else(|| KeyError::Undecodable(part()))?;
        if number > 0 {
            value.push('/');
        }
        value.push_str(&segment);
        if value.len() > MAX_VALUE_BYTES {
            return Err(KeyError::TooLong(part()));
        }
        if segment.is_empty() {
            return Err(KeyError::Empty(part()));
        }
        if segment == "." || segment == ".." {
            return Err(KeyError::Dots(part()));
        }
        if segment.contains(|c: char| matches!(c, '/' | '\\') || c.is_control()) {
            return Err(KeyError::Forbidden(part()));
        }
    }
    Ok(value)
}

/// What a percent-encoded text says; `None` if it is not well-formed, or not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// The same, of a query (WHATWG URL, 5.1).
fn form_decoded(text: &str) -> Option<String> {
    decoded(&text.replace('+', " "))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("values", &self.values().collect::<Vec<_>>())
            .field("query", &self.query)
            .field("n_fields", &self.fields.len())
            .finish()
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "`{name}` in the path"),
            Self::Parameter(name) => write!(f, "the query parameter `{name}`"),
            Self::Field(name) => write!(f, "the header field `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;
    use crate::config::template::{expand, variables};

    fn rules(path: &str, query: &[&str], headers: &[&'static str]) -> KeyRules {
        KeyRules {
            variables: variables(path),
            query: query.iter().map(|&name| name.to_owned()).collect(),
            headers: headers
                .iter()
                .map(|name| HeaderName::from_static(name))
                .collect(),
        }
    }

    fn key_of_path(path: &str, raw: &str) -> Result<Key, KeyError> {
        let captured = std::iter::once(raw);
        rules(path, &[], &[]).key(captured, None, &HeaderMap::new())
    }

    #[test]
    fn what_could_change_the_structure_of_a_path_is_refused() {
        let part = || KeyPart::Variable("room".to_owned());
        for (raw, error) in [
            ("..", KeyError::Dots(part())),
            (".", KeyError::Dots(part())),
            ("%2e%2E", KeyError::Dots(part())),
            ("", KeyError::Empty(part())),
            ("a%2Fb", KeyError::Forbidden(part())),
            ("a%5Cb", KeyError::Forbidden(part())),
            ("a%00", KeyError::Forbidden(part())),
            ("a\0b", KeyError::Forbidden(part())),
            ("a/b", KeyError::Forbidden(part())),
            ("a%0d%0ab", KeyError::Forbidden(part())),
            ("%C2%80", KeyError::Forbidden(part())),
            ("%FF", KeyError::Undecodable(part())),
            ("%C3", KeyError::Undecodable(part())),
            ("%4", KeyError::Undecodable(part())),
            ("%zz", KeyError::Undecodable(part())),
            ("%+1", KeyError::Undecodable(part())),
        ] {
            assert_eq!(key_of_path("/{room}", raw), Err(error), "{raw}");
        }
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        assert_eq!(
            key_of_path("/{room}", &long),
            Err(KeyError::TooLong(part()))
        );
        for raw in ["a//b", "a/../b", "a/", "a/%2e", "a/%2F/b"] {
            assert!(key_of_path("/{*room}", raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn what_is_special_in_a_url_is_encoded() {
        for (path, raw, url, expected) in [
            (
                "/{r}",
                "a%3Fb%23c",
                "http://h/{r}/x",
                "http://h/a%3Fb%23c/x",
            ),
            ("/{r}", "%25%32%66", "http://h/{r}", "http://h/%252f"),
            (
                "/{r}",
                "a%20%26x=1",
                "http://h/?q={r}",
                "http://h/?q=a%20%26x%3D1",
            ),
            (
                "/{r}",
                "caf%C3%A9",
                "http://h/{r}.json",
                "http://h/caf%C3%A9.json",
            ),
            ("/{r}", "a:b@c;d", "http://h/{r}", "http://h/a%3Ab%40c%3Bd"),
            ("/{*r}", "a/b%20c/d", "http://h/{*r}", "http://h/a/b%20c/d"),
            ("/{*r}", "a/b", "http://h/?p={*r}", "http://h/?p=a%2Fb"),
        ] {
            let key = key_of_path(path, raw).expect("a key");
            assert_eq!(expand(url, &variables(path), &key), expected);
        }
    }

    #[test]
    fn parameters_are_in_the_order_of_the_rules_and_absent_is_not_empty() {
        let rules = rules("/", &["lang", "size"], &[]);
        let query = |query: &str| {
            let none = std::iter::empty();
            let key = rules
                .key(none, Some(query), &HeaderMap::new())
                .expect("a key");
            expand("http://h/e?x=1", &[], &key)
        };
        for (asked, expected) in [
            ("", ""),
            ("other=1&last_event_id=5", ""),
            ("size=2&other=1&lang=en", "&lang=en&size=2"),
            ("lang=en&size=2", "&lang=en&size=2"),
            ("lang=a&lang=b", "&lang=a&lang=b"),
            ("lang=b&lang=a", "&lang=b&lang=a"),
            ("lang", "&lang="),
            ("lang=", "&lang="),
            ("%6Cang=%41+b%2B", "&lang=A+b%2B"),
            ("lang=a%26x%3D2", "&lang=a%26x%3D2"),
            ("Lang=en", ""),
            ("%FF=1&lang=en", "&lang=en"),
        ] {
            assert_eq!(query(asked), format!("http://h/e?x=1{expected}"), "{asked}");
        }
        for wrong in ["lang=%FF", "lang=%0A", "lang=%4"] {
            let none = std::iter::empty();
            assert!(
                rules.key(none, Some(wrong), &HeaderMap::new()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn fields_are_part_of_the_key_as_they_came_and_are_not_shown() {
        let rules = rules("/", &[], &["authorization"]);
        let key = |values: &[&str]| {
            let mut fields = HeaderMap::new();
            fields.insert("cookie", HeaderValue::from_static("not=allowed"));
            for value in values {
                let value = HeaderValue::from_str(value).expect("a value");
                fields.append("authorization", value);
            }
            rules.key(std::iter::empty(), None, &fields).expect("a key")
        };
        assert_eq!(key(&["Bearer a"]), key(&["Bearer a"]));
        assert_ne!(key(&["Bearer a"]), key(&["Bearer b"]));
        assert_ne!(key(&["Bearer a"]), key(&[]));
        assert_ne!(key(&[""]), key(&[]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
        let key = key(&["Bearer secret"]);
        let fields: Vec<_> = rules.fields_of(&key).collect();
        assert_eq!(fields.len(), 1);
        assert!(fields[0].1.is_sensitive());
        assert!(!format!("{key:?} {:?}", fields[0]).contains("secret"));
    }

    #[test]
    fn cookies_of_several_lines_are_one_field() {
        let rules = rules("/", &[], &["cookie"]);
        let key = |lines: &[&'static str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append("cookie", HeaderValue::from_static(line));
            }
            rules.key(std::iter::empty(), None, &fields).expect("a key")
        };
        let split = key(&["a=1", "b=2"]);
        assert_eq!(split, key(&["a=1; b=2"]));
        let fields: Vec<_> = rules.fields_of(&split).collect();
        assert_eq!(fields[0].1, "a=1; b=2");
        assert!(fields[0].1.is_sensitive());
        assert_ne!(key(&[]), key(&[""]));
    }

    #[test]
    fn a_parameter_without_values_is_not_repeated_for_ever() {
        let rules = rules("/", &["lang"], &[]);
        let query = ["lang"; 5000].join("&");
        let none = std::iter::empty();
        let key = rules.key(none, Some(&query), &HeaderMap::new());
        let part = KeyPart::Parameter("lang".to_owned());
        assert_eq!(key, Err(KeyError::TooLong(part)));
    }

    proptest! {
        #[test]
        fn a_value_that_goes_in_comes_out_of_one_segment(value in "\\PC{1,40}") {
            let raw: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let Ok(key) = key_of_path("/{v}", &raw) else { return Ok(()) };
            let (path, query) = ("http://h.example/a/{v}/b?x=1", "http://h.example/a?v={v}&x=1");
            let url = Url::parse(&expand(path, &variables("/{v}"), &key)).expect("a URL");
            let segments: Vec<_> = url.path_segments().expect("a path").collect();
            prop_assert_eq!(segments.len(), 3);
            prop_assert_eq!((segments[0], segments[2]), ("a", "b"));
            let decoded = percent_decode_str(segments[1]).decode_utf8().expect("UTF-8");
            prop_assert_eq!(&*decoded, &*value);
            prop_assert_eq!((url.host_str(), url.query()), (Some("h.example"), Some("x=1")));
            let url = Url::parse(&expand(query, &variables("/{v}"), &key)).expect("a URL");
            let pairs: Vec<_> = url.query_pairs().collect();
            prop_assert_eq!(pairs.len(), 2);
            prop_assert_eq!(&*pairs[0].1, &*value);
            prop_assert_eq!(url.fragment(), None);
        }

        #[test]
        fn a_query_never_gives_more_than_what_is_allowed(query in "[a-z%0-9=&+#?/]{0,60}") {
            let rules = rules("/", &["a", "b"], &[]);
            let key = rules.key(std::iter::empty(), Some(&query), &HeaderMap::new());
            let Ok(key) = key else { return Ok(()) };
            let url = Url::parse(&expand("http://h/p", &[], &key)).expect("a URL");
            prop_assert_eq!(url.path(), "/p");
            prop_assert!(url.query_pairs().all(|(name, _)| name == "a" || name == "b"));
            let theirs = url::form_urlencoded::parse(query.as_bytes());
            let mut theirs: Vec<_> = theirs.filter(|(name, _)| name == "a" || name == "b").collect();
            theirs.sort_by(|one, other| one.0.cmp(&other.0));
            prop_assert_eq!(url.query_pairs().collect::<Vec<_>>(), theirs);
        }

        #[test]
        fn nothing_that_a_request_brings_panics(raw in ".*", query in ".*") {
            let rules = rules("/{*a}", &["q"], &[]);
            let _key = rules.key(std::iter::once(&*raw), Some(&query), &HeaderMap::new());
        }
    }
}
