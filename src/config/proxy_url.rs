//! The URL of a proxy's upstream: a place, and where it says so, another path than the client's.
//!
//! Without a path (`http://127.0.0.1:3000`), requests keep theirs, byte for byte. With one, which may
//! use the variables of `path`, that is what the origin is asked for. Values go into it as the client
//! wrote them: they are parts of a path already. The query always goes along.

use std::fmt;

use http::uri::Authority;
use http::uri::Scheme;

use crate::config::findings::Mistake;
use crate::config::path;
use crate::config::reader::FromText;
use crate::config::template;
use crate::config::template::Piece;
use crate::config::template::Variable;
use crate::config::url::UpstreamUrl;

/// An http or https URL without user info, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    scheme: Scheme,
    authority: Authority,
    /// `None`: the client's own.
    path: Option<Vec<PathPart>>,
}

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PathPart {
    Literal(String),
    /// A variable, and its place among those of the proxy's path.
    Value(Variable, usize),
}

/// The same, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WrittenUrl {
    scheme: Scheme,
    authority: Authority,
    path: Option<String>,
}

impl ProxyUrl {
    /// `http` or `https`.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Whether TLS is spoken there.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The host, and the port where it is written.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether the request's path goes upstream as it is.
    pub fn keeps_path(&self) -> bool {
        self.path.is_none()
    }

    /// The path to ask for, where the variables of the proxy's path stand for `captured`; or that of
    /// the request. `None`: the values would make a dot segment, so they lead elsewhere.
    pub fn path<'p>(
        &self,
        request: &'p str,
        captured: &[&str],
    ) -> Option<std::borrow::Cow<'p, str>> {
        let Some(parts) = &self.path else {
            return Some(request.into());
        };
        let path: String = (parts.iter())
            .map(|part| match part {
                PathPart::Literal(text) => text,
                PathPart::Value(_, place) => captured.get(*place).copied().unwrap_or_default(),
            })
            .collect();
        (!path::has_dot_segment(&path)).then(|| path.into())
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)?;
        for part in self.path.iter().flatten() {
            match part {
                PathPart::Literal(text) => f.write_str(text)?,
                PathPart::Value(variable, _) => variable.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl WrittenUrl {
    /// The variables in it, in their order.
    pub(super) fn variables(&self) -> Vec<Variable> {
        template::variables(self.path.as_deref().unwrap_or_default())
    }

    /// The path that it has of its own.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    pub(super) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What it means where the proxy's path has these variables.
    pub(super) fn meant(&self, variables: &[Variable]) -> ProxyUrl {
        let place = |name: &str| variables.iter().position(|one| one.name == name);
        let path = self.path.as_deref().map(|text| {
            let pieces = template::pieces(text).unwrap_or_default().into_iter();
            let parts = pieces.map(|piece| match piece {
                Piece::Literal(text) => PathPart::Literal(text.to_owned()),
                Piece::Variable(variable) => {
                    let place = place(&variable.name).unwrap_or(usize::MAX);
                    PathPart::Value(variable, place)
                }
            });
            parts.collect()
        });
        ProxyUrl {
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path,
        }
    }
}

impl FromText for WrittenUrl {
    const EXAMPLE: &'static str = "\"http://127.0.0.1:3000\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let example = || format!("write a URL like `{}`", Self::EXAMPLE);
        let scheme = text
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        if let Some(scheme @ ("ws" | "wss")) = scheme.as_deref() {
            let advice = format!(
                "write `http{}://…`: it asks by HTTP, and switches to WebSocket where a client does",
                if scheme == "wss" { "s" } else { "" }
            );
            return Err(Mistake::new("a proxy's upstream is an HTTP server", advice));
        }
        // No message quotes it: it may be a credential.
        if text.contains('?') {
            let message = "a proxy's URL has no query: that of the request goes upstream";
            return Err(Mistake::new(message, "remove the `?` and what follows"));
        }
        UpstreamUrl::from_text(text).map_err(|mistake| {
            let advice = mistake.advice.replace(UpstreamUrl::EXAMPLE, Self::EXAMPLE);
            Mistake { advice, ..mistake }
        })?;
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let is_https = scheme.eq_ignore_ascii_case("https");
        let Ok(authority) = authority.parse() else {
            return Err(Mistake::new("this is not a URL", example()));
        };
        if let Some(path) = path {
            let sample = template::with_sample_values(&template::pieces(path)?);
            if path::normalize_path(&sample).is_none() {
                let advice = "write `%` and two hexadecimal digits, and `%25` for `%` itself";
                let message = "`%` is not followed by two hexadecimal digits";
                return Err(Mistake::new(message, advice));
            }
            if path::has_dot_segment(&sample) {
                let message = "the segments `.` and `..` are not allowed";
                return Err(Mistake::new(message, "write the path that they lead to"));
            }
        }
        Ok(Self {
            scheme: if is_https {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            authority,
            path: path.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, path: &str) -> ProxyUrl {
        let written =
            WrittenUrl::from_text(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
        written.meant(&template::variables(path))
    }

    #[test]
    fn without_a_path_the_request_keeps_its_own() {
        let url = url("HTTP://Backend:3000", "/{*rest}");
        assert_eq!(url.to_string(), "http://Backend:3000");
        assert!(url.keeps_path() && !url.is_https());
        assert_eq!(
            url.path("/a%2fb/%7e", &["a%2fb/%7e"]).as_deref(),
            Some("/a%2fb/%7e")
        );
    }

    #[test]
    fn values_go_into_the_path_as_they_are_written() {
        let url = url("https://a.example/v2/{user}-x/{*rest}", "/u/{user}/{*rest}");
        assert_eq!(url.to_string(), "https://a.example/v2/{user}-x/{*rest}");
        let path = |captured: &[&str]| url.path("/", captured).map(std::borrow::Cow::into_owned);
        assert_eq!(
            path(&["a%2Fb", "c//d%2e"]).as_deref(),
            Some("/v2/a%2Fb-x/c//d%2e")
        );
        assert_eq!(path(&["", ""]).as_deref(), Some("/v2/-x/"));
    }

    #[test]
    fn values_never_lead_to_another_place() {
        let url = url("http://a.example/files/{id}", "/img-{id}");
        for (value, is_right) in [
            ("..", false),
            (".", false),
            ("%2e%2E", false),
            (".%2e", false),
            ("...", true),
            ("a..", true),
        ] {
            assert_eq!(url.path("/", &[value]).is_some(), is_right, "{value}");
        }
    }

    #[test]
    fn says_what_would_be_right() {
        for (text, right) in [
            ("127.0.0.1:3000", "`\"http://127.0.0.1:3000\"`"),
            ("", "`\"http://127.0.0.1:3000\"`"),
            ("wss://a.example", "`https://…`"),
            ("http://a.example/?token=secret", "remove the `?`"),
            ("http://user:secret@a.example", "upstream_headers"),
            ("http://a.example/%zz", "two hexadecimal digits"),
            ("http://a.example/a/../b", "lead to"),
            ("http://a.example/%2e%2e", "lead to"),
        ] {
            let mistake = WrittenUrl::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
            assert!(!format!("{mistake:?}").contains("secret"));
        }
    }
}
