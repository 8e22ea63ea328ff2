//! The URL of an upstream.

use http::Uri;

use crate::config::credential;
use crate::config::findings::Mistake;
use crate::config::host;
use crate::config::reader::FromText;

/// An absolute http or https URL without fragment or user info.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UpstreamUrl(pub(super) Uri);

impl FromText for UpstreamUrl {
    const EXAMPLE: &'static str = "\"http://127.0.0.1:3000/events\"";

    // What is quoted from the URL is never its user info or its query: both may be credentials.
    fn from_text(text: &str) -> Result<Self, Mistake> {
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
        if text.contains(['{', '}']) {
            let advice = "write a URL for each channel; for braces that are meant, `%7B` and `%7D`";
            return refuse(
                "URLs with variables (`{…}`) are not supported",
                advice.to_owned(),
            );
        }
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
        Ok(Self(url))
    }
}

/// The name of the first query parameter that looks like a credential.
pub(super) fn credential_parameter(url: &Uri) -> Option<&str> {
    url.query().and_then(credential::in_query)
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
            ("http://a.example/{room}", "for each channel"),
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
