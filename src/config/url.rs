//! The URL of an upstream, with variables where it is that of many.

use std::fmt;

use http::Uri;

use crate::config::credential;
use crate::config::findings::Mistake;
use crate::config::host;
use crate::config::key::Key;
use crate::config::key::KeyRules;
use crate::config::reader::FromText;
use crate::config::template;
use crate::config::template::Extent;
use crate::config::template::Piece;
use crate::config::template::Variable;

/// An absolute http or https URL without fragment or user info, in whose path and query variables may
/// stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UpstreamUrl(pub(super) UrlTemplate);

/// The same, as it is meant. Its `Debug` shows no query, which may be a credential.
#[derive(Clone, PartialEq)]
pub struct UrlTemplate {
    /// Variables are in it as they are written; other braces can't be.
    text: String,
}

impl UrlTemplate {
    /// The URL for a key.
    pub fn expand(&self, rules: &KeyRules, key: &Key) -> String {
        template::expand(&self.text, &rules.variables, key)
    }

    /// The URL as logs may show it: without the query, which may carry a credential.
    pub fn shown(&self) -> String {
        credential::without_query(&self.text)
    }

    /// The same, for a key.
    pub fn shown_for(&self, rules: &KeyRules, key: &Key) -> String {
        credential::without_query(&self.expand(rules, key))
    }

    /// As it is written, with what may be a credential.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The variables in it, in their order.
    pub(super) fn variables(&self) -> Vec<Variable> {
        template::variables(&self.text)
    }
}

impl fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl FromText for UpstreamUrl {
    const EXAMPLE: &'static str = "\"http://127.0.0.1:3000/events\"";

    // What is quoted from the URL is never its user info or its query: both may be credentials.
    fn from_text(text: &str) -> Result<Self, Mistake> {
        let written = text;
        let refuse = |message: &str, advice: String| Err(Mistake::new(message, advice));
        let example = || format!("write a URL like `{}`", Self::EXAMPLE);
        let Some((scheme, rest)) = text.split_once("://") else {
            let authority = text.split('/').next().unwrap_or(text);
            let is_plain = !text.contains(['@', '?', '#', ' ']) && !authority.is_empty();
            if text.starts_with("unix:") {
                return refuse("unix sockets are not supported here", example());
            }
            let advice = if is_plain && check_authority(authority).is_ok() {
                format!("write `\"http://{text}\"`")
            } else {
                example()
            };
            return refuse("a URL begins with `http://` or `https://`", advice);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {}
            "ws" | "wss" => {
                let advice = format!(
                    "event streams are plain HTTP: `http{}://…`",
                    scheme_tail(scheme)
                );
                return refuse("WebSocket is not an event stream", advice);
            }
            _ => {
                return refuse(
                    &format!("the scheme `{scheme}` is not supported"),
                    example(),
                );
            }
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if authority.contains('@') {
            let advice = "remove what stands before the `@`, and send it as a header field:\n\
                          `upstream_headers = { Authorization = \"Basic …\" }`";
            return refuse(
                "a URL with user info (`user:password@`) is refused",
                advice.to_owned(),
            );
        }
        if text.contains('#') {
            return refuse("a fragment (`#…`) is never sent", "remove it".to_owned());
        }
        let pieces = template::pieces(text)?;
        if authority.contains('{') {
            let advice = "write the host itself: what clients send must not choose where to ask";
            return refuse("a variable can't stand in the host", advice.to_owned());
        }
        check_places(&pieces)?;
        let sample = template::with_sample_values(&pieces);
        let text = sample.as_str();
        let wrong = |c: &char| c.is_control() || !c.is_ascii() || " \"<>\\^`|".contains(*c);
        if let Some(c) = text.chars().find(wrong) {
            let message = format!("`{}` cannot stand in a URL", c.escape_debug());
            let advice = if authority.contains(c) {
                example()
            } else {
                "percent-encode it, as UTF-8 (a space is `%20`)".to_owned()
            };
            return refuse(&message, advice);
        }
        check_authority(authority)?;
        // A sentence of the library would not help: what users get wrong is handled above.
        let Ok(url) = text.parse::<Uri>() else {
            return refuse("this is not a URL", example());
        };
        let text = if pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Variable(_)))
        {
            written.to_owned()
        } else {
            // Two spellings of a scheme are one.
            url.to_string()
        };
        Ok(Self(UrlTemplate { text }))
    }
}

/// The name of the first query parameter that looks like a credential.
pub(super) fn credential_parameter(url: &UrlTemplate) -> Option<&str> {
    let (_, query) = url.text().split_once('?')?;
    credential::in_query(query)
}

/// A variable stands for a value, never for a name.
fn check_places(pieces: &[Piece<'_>]) -> Result<(), Mistake> {
    let mut before = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => before.push_str(text),
            Piece::Variable(variable) => {
                let parameter = before.split_once('?').map(|(_, query)| query);
                let parameter = parameter.map(|query| query.rsplit('&').next().unwrap_or(query));
                if parameter.is_some_and(|parameter| !parameter.contains('=')) {
                    let message = format!("`{variable}` stands where a parameter has its name");
                    let advice = "a variable is a value: write `?name={variable}`";
                    return Err(Mistake::new(message, advice));
                }
                before.push('x');
            }
        }
    }
    Ok(())
}

/// What is wrong with the variables of a URL, if the path has these; `None`: nothing is.
pub(super) fn unknown_variable(url: &[Variable], path: &[Variable]) -> Option<Mistake> {
    for variable in url {
        let known = path.iter().find(|one| one.name == variable.name);
        match (known.map(|known| known.extent), variable.extent) {
            (Some(Extent::Segment), Extent::Segment) | (Some(Extent::Rest), Extent::Rest) => {}
            (Some(_), _) => {
                let known = known.map(ToString::to_string).unwrap_or_default();
                let message = format!("`{variable}` is `{known}` in `path`");
                return Some(Mistake::new(message, format!("write `{known}`")));
            }
            (None, _) => {
                let message = format!("there is no variable `{}`", variable.name);
                let names: Vec<String> = path.iter().map(|one| format!("`{one}`")).collect();
                let advice = if names.is_empty() {
                    format!("`path` has none; write it there, too: `\"/…/{variable}\"`")
                } else {
                    format!("`path` has {}", names.join(", "))
                };
                return Some(Mistake::new(message, advice));
            }
        }
    }
    None
}

fn scheme_tail(scheme: &str) -> &'static str {
    if scheme.len() == "wss".len() { "s" } else { "" }
}

/// `host` or `host:port`
fn check_authority(authority: &str) -> Result<(), Mistake> {
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    };
    if !host::is_host(&name.to_ascii_lowercase()) {
        let message = if authority.is_empty() {
            "the URL has no host".to_owned()
        } else {
            format!("`{name}` is not a host")
        };
        let advice = "write a name, an IPv4 address, or an IPv6 address in brackets: \
                      `\"http://[::1]:3000/\"`";
        return Err(Mistake::new(message, advice));
    }
    match port.map(str::parse::<u16>) {
        None => Ok(()),
        Some(Ok(port)) if port > 0 => Ok(()),
        Some(_) => {
            let advice = "write a port from 1 to 65535, or none";
            Err(Mistake::new("the port of the URL is not a port", advice))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_can_be_asked() {
        for text in [
            "http://127.0.0.1:3000/events",
            "https://a.example",
            "HTTP://A.EXAMPLE/x?lang=en&x=%20",
            "http://[::1]:3000/a/b;c=d",
            "http://user_service:80/",
            "http://a.example/rooms/{room}/events",
            "http://a.example/{a}-{b}.json?room={a}&x={*rest}",
        ] {
            assert!(UpstreamUrl::from_text(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn says_what_would_be_right() {
        for (text, right) in [
            (
                "127.0.0.1:3000/events",
                "`\"http://127.0.0.1:3000/events\"`",
            ),
            ("localhost:3000", "`\"http://localhost:3000\"`"),
            ("/events", "a URL like"),
            ("", "a URL like"),
            ("ftp://a.example/", "a URL like"),
            ("wss://a.example/", "`https://…`"),
            ("http://user:secret@a.example/", "upstream_headers"),
            ("http://a.example/#x", "remove it"),
            ("http://{host}/events", "must not choose"),
            ("http://a.example:{port}/", "must not choose"),
            ("http://a.example/?{name}=1", "`?name={variable}`"),
            ("http://a.example/{room", "%7B"),
            ("http://a.example/{ro om}", "letters, digits"),
            ("http://a.example/é", "percent-encode"),
            ("http://a.example/a b", "percent-encode"),
            ("http:///events", "IPv6 address in brackets"),
            ("http://::1/", "brackets"),
            ("http://a.example:99999/", "65535"),
            ("http://a.example:/", "65535"),
            ("http://a.example:http/", "65535"),
        ] {
            let mistake = UpstreamUrl::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
            assert!(!format!("{mistake:?}").contains("secret"));
        }
    }
}
