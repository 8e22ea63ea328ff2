//! The origins whose pages may read a channel, as browsers send them (RFC 6454, 6.2).

use toml::Spanned;
use toml::de::DeValue;

use crate::config::Origins;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::host;
use crate::config::reader::Entry;
use crate::config::reader::FromText;
use crate::config::reader::Read;
use crate::config::values::OneOrMany;

/// `"*"`, an origin, or a list of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowedOrigins(pub(super) Origins);

/// `scheme://host[:port]` in lower case and without a default port, or `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin(String);

impl Read for AllowedOrigins {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        if entry.value.get_ref().as_str() == Some("*") {
            return Some(Self(Origins::Any));
        }
        let is_star = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str() == Some("*");
        if entry
            .value
            .get_ref()
            .as_array()
            .is_some_and(|list| list.iter().any(is_star))
        {
            let message = "`\"*\"` means every origin and does not stand in a list";
            let advice = "write `origins = \"*\"`, or only the origins that are meant";
            entry.refuse(Mistake::new(message, advice), findings);
            return None;
        }
        let OneOrMany(list) = OneOrMany::<Origin>::read(entry, findings)?;
        let mut origins: Vec<String> = Vec::new();
        for origin in list {
            let span = origin.span();
            let Origin(origin) = origin.into_inner();
            if origins.contains(&origin) {
                let mistake = Mistake::new(format!("`\"{origin}\"` is given twice"), "remove one");
                findings.warn(span, mistake.of(&entry.key));
            } else {
                origins.push(origin);
            }
        }
        Some(Self(Origins::Listed(origins)))
    }
}

impl FromText for Origin {
    const EXAMPLE: &'static str = "\"https://app.example\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let refuse = |message: &str, advice: String| Err(Mistake::new(message, advice));
        let example = || format!("write an origin like `{}`", Self::EXAMPLE);
        if text == "null" {
            return Ok(Self(text.to_owned()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let lower = text.to_ascii_lowercase();
            let is_authority = authority("https", &lower).is_some();
            let advice = if is_authority {
                format!("write `\"https://{lower}\"`")
            } else {
                example()
            };
            return refuse("an origin begins with a scheme", advice);
        };
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme_character = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if scheme.is_empty() || !scheme.chars().all(is_scheme_character) {
            return refuse("this is not an origin", example());
        }
        if text.contains('*') {
            let advice = "name each origin, or write `origins = \"*\"` for all of them".to_owned();
            return refuse(
                "origins are compared whole; patterns are not supported",
                advice,
            );
        }
        if !text.is_ascii() {
            let advice = "write the host in its ASCII form: `\"https://xn--…\"`".to_owned();
            return refuse("browsers send origins in ASCII", advice);
        }
        let (host, path) = match rest.find(['/', '?', '#']) {
            Some(end) => rest.split_at_checked(end).unwrap_or((rest, "")),
            None => (rest, ""),
        };
        let Some(authority) = authority(&scheme, &host.to_ascii_lowercase()) else {
            return refuse("this is not an origin", example());
        };
        let origin = format!("{scheme}://{authority}");
        if !path.is_empty() {
            return refuse(
                "an origin has no path, not even `/`",
                format!("write `\"{origin}\"`"),
            );
        }
        Ok(Self(origin))
    }
}

/// `host[:port]` without the scheme's default port; `None`: it is not one.
fn authority(scheme: &str, text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port.parse::<u16>().ok()?)),
        _ => (text, None),
    };
    if !host::is_host(name) {
        return None;
    }
    Some(match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => name.to_owned(),
        (_, Some(port)) => format!("{name}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_browsers_send() {
        for (text, origin) in [
            ("https://app.example", Some("https://app.example")),
            ("HTTPS://App.Example:443", Some("https://app.example")),
            ("http://localhost:5173", Some("http://localhost:5173")),
            ("http://[::1]:80", Some("http://[::1]")),
            (
                "chrome-extension://abcdef",
                Some("chrome-extension://abcdef"),
            ),
            ("null", Some("null")),
            ("https://app.example/", None),
            ("https://app.example/x", None),
            ("https://*.example", None),
            ("https://bücher.example", None),
            ("https://user@app.example", None),
            ("https://app.example:x", None),
            ("https://", None),
            ("app.example", None),
            ("://x", None),
            ("", None),
        ] {
            let origin = origin.map(|origin| Origin(origin.to_owned()));
            assert_eq!(Origin::from_text(text).ok(), origin, "{text}");
        }
    }
}
