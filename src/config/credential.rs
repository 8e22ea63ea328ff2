//! What looks like a credential: names that say so, and where they stand in a file.
//!
//! A guess by name. Where it errs, it asks for one line more (`access`) or hides a harmless word.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// Names that are one.
const NAMES: [&str; 11] = [
    "auth",
    "code",
    "cookie",
    "key",
    "pass",
    "pat",
    "pwd",
    "sid",
    "sig",
    "x-api-key",
    "x-key",
];

/// Parts of names that are one; without `-` and `_`.
const PARTS: [&str; 14] = [
    "accesskey",
    "apikey",
    "authoriz",
    "authent",
    "bearer",
    "credential",
    "jwt",
    "passphrase",
    "passw",
    "privatekey",
    "secret",
    "session",
    "signature",
    "token",
];

/// Whether a header field or a query parameter of this name probably carries a credential.
pub(super) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let plain = name.replace(['-', '_', '.'], "");
    NAMES.contains(&name.as_str())
        || PARTS.iter().any(|part| plain.contains(part))
        // `X-Auth`, `authToken`; not `Author`.
        || plain.replace("author", "").contains("auth")
        || plain.contains("cookie")
}

/// The first parameter of a query that looks like a credential.
pub(super) fn in_query(query: &str) -> Option<&str> {
    let names = query
        .split(['&', ';'])
        .map(|pair| pair.split('=').next().unwrap_or(pair));
    names.into_iter().find(|name| is_credential(name))
}

/// A URL without its query and its user info. It need not be one: variables may stand in it.
pub(super) fn without_query(url: &str) -> String {
    let (bare, more) = match url.split_once('?') {
        Some((bare, _)) => (bare, "?…"),
        None => (url, ""),
    };
    let (scheme, rest) = bare.split_once("://").unwrap_or(("http", bare));
    let (authority, path) = match rest
        .find('/')
        .and_then(|slash| rest.split_at_checked(slash))
    {
        Some((authority, path)) => (authority, path),
        None => (rest, "/"),
    };
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}{more}")
}

/// A URL in which the values of parameters that look like credentials are not shown.
pub fn without_secrets(url: &str) -> String {
    let Some((bare, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_credential(name) => format!("{name}=…"),
        _ => pair.to_owned(),
    });
    format!("{bare}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Where the text has credentials, known keys or not: the file may be shown around an error.
pub(super) fn secrets(text: &str, table: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    mark_table(text, table, IsSecret::No, &mut secrets);
    secrets
}

/// Whether the table above says that what is in it is secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsSecret {
    No,
    Yes,
}

fn mark_table(text: &str, table: &DeTable<'_>, above: IsSecret, secrets: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        let name: &str = name.get_ref();
        let is_secret = above == IsSecret::Yes
            || (is_credential(name) && name != "credentials" && !is_collapse_key(name, value))
            // `header_timeout` and `max_header_bytes` are not header fields.
            || (name.contains("header") && !name.contains("header_"));
        let is_secret = if is_secret {
            IsSecret::Yes
        } else {
            IsSecret::No
        };
        mark_value(text, value, is_secret, secrets);
    }
}

/// `key` of a channel, which has names in it.
fn is_collapse_key(name: &str, value: &Spanned<DeValue<'_>>) -> bool {
    name == "key" && value.get_ref().is_table()
}

fn mark_value(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    is_secret: IsSecret,
    secrets: &mut Vec<Range<usize>>,
) {
    let span = value.span();
    match value.get_ref() {
        DeValue::Table(table) => mark_table(text, table, is_secret, secrets),
        DeValue::Array(list) => {
            for value in list {
                mark_value(text, value, is_secret, secrets);
            }
        }
        DeValue::String(_) if is_secret == IsSecret::Yes => {
            let raw = text.get(span.clone()).unwrap_or_default();
            let inner = raw.trim_matches(['"', '\'']);
            let start = span.start + (raw.len() - raw.trim_start_matches(['"', '\'']).len());
            secrets.push(start..start + inner.len());
        }
        DeValue::String(_) => secrets.extend(in_url(text, span)),
        _ => {}
    }
}

/// The secret parts of a string that may be a URL, right or wrong, and stands in the text at `span`.
fn in_url(text: &str, span: Range<usize>) -> Vec<Range<usize>> {
    let raw = text
        .get(span.clone())
        .unwrap_or_default()
        .trim_end_matches(['"', '\'']);
    let quotes = raw.len() - raw.trim_start_matches(['"', '\'']).len();
    let host = raw.find("://").map_or(quotes, |colon| colon + "://".len());
    let mut secrets = Vec::new();
    // Up to the last `@`: a password may contain what would end it.
    if let Some(at) = raw.rfind('@').filter(|at| *at > host) {
        secrets.push(span.start + host..span.start + at);
    }
    if let Some(query) = raw.find('?') {
        let mut at = span.start + query + 1;
        for pair in raw.get(query + 1..).unwrap_or_default().split('&') {
            if let Some((_, value)) = pair.split_once('=').filter(|(name, _)| is_credential(name)) {
                secrets.push(at + pair.len() - value.len()..at + pair.len());
            }
            at += pair.len() + 1;
        }
    }
    secrets
}

/// The part of a line that may be a credential, if the line is no TOML: what follows such a word.
pub(super) fn in_broken_line(line: &str) -> Option<usize> {
    let mut at = 0;
    for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
        at += word.len();
        let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_credential(name) && name != "credentials" {
            return Some(at);
        }
    }
    line.find('@')
        .and_then(|_| line.find("://"))
        .map(|colon| colon + "://".len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MINIMAL: &str = include_str!("../../config/minimal.toml");

    #[test]
    fn names_that_say_so() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "X-Api-Key",
            "X-Auth",
            "X-Auth-Token",
            "token",
            "access_token",
            "api_key",
            "apikey",
            "key",
            "sig",
            "password",
            "passwd",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "sessionid",
            "authToken",
            "client_secret",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "Host",
            "User-Agent",
            "X-Author",
            "lang",
            "room",
            "keyword",
            "X-Passenger",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn secrets_are_found_under_any_key() {
        let text = r#"
            [channels.a]
            upstream = "http://user:pw@a.example/x?lang=en&token=t0k&b=1"
            upstream_header = { X-Anything = "s3c" }
            [channels.a.uptream_headers]
            Authorization = 'Bearer abc'
        "#;
        let (table, _) = DeTable::parse_recoverable(text);
        let secrets = secrets(text, table.get_ref());
        let mut found: Vec<_> = secrets.into_iter().map(|s| text.get(s).unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, ["Bearer abc", "s3c", "t0k", "user:pw"]);
    }

    #[test]
    fn credentials_are_never_shown() {
        let secrets = [
            "upstream_headers = { Authorization = \"Bearer s3cret\" }",
            "upstream_headers = { X-Whatever = \"s3cret\" }\naccess = 3",
            "upstream_headers = { Authorization = \"Bearer s3cret }",
            "upstream_headers = { Authorization = Bearer s3cret }",
            "upstream_headers = { Authorization = 'Bearer\\ts3cret\u{e9}' }",
            "upstream_headers = \"Authorization: Bearer s3cret\"",
            "upstream_headers = { Authorization: \"Bearer s3cret\" }",
            "upstream_headers = [\"Authorization: Bearer s3cret\"]",
            "upstream_header = { Authorization = \"Bearer s3cret\" }",
            "headers.Authorization = \"Bearer s3cret\"",
            "[channels.events.upstream_headers]\nAuthorization: Bearer s3cret",
            "[channels.events.upstream_headers]\nAuthorization = Bearer s3cret",
            "[channels.events.upstream_headers]\nX-Whatever = s3cret",
            "[channels.b]\nupstream = \"http://user:s3cret@127.0.0.1/\"",
            "[channels.b]\nupstream = \"http://127.0.0.1/?token=s3cret&x=1\"",
            "[channels.b]\nupstream = http://127.0.0.1/?token=s3cret",
            "[channels.b]\nupstream = \"127.0.0.1/?token=s3cret\"",
            "[channels.b]\nupstream = \"user:s3cret@127.0.0.1\"",
            "[channels.b]\nupstream = \"http://user:s/s3cret@127.0.0.1\"",
            "[channels.b]\nupstream = \"http://us?r:s3cret@127.0.0.1\"",
            "[channels.b]\nurl = \"http://user:s3cret@127.0.0.1/\"",
            "[channels.b]\nupstream: http://user:s3cret@127.0.0.1/",
            "api_token = \"s3cret\"",
        ];
        for settings in secrets {
            let text = format!("{MINIMAL}{settings}\n");
            let errors = Config::parse("test.toml", &text).expect_err(settings);
            assert!(
                !format!("{errors}{errors:?}").contains("s3cret"),
                "{settings}\n{errors}"
            );
        }
        let settings = "access = \"public\"\nupstream_headers = { Authorization = \"Bearer s3cret\", \
                        X-Whatever = \"s3cret\" }\n";
        let loaded = Config::parse("test.toml", &format!("{MINIMAL}{settings}")).unwrap();
        assert!(!format!("{loaded:?}").contains("s3cret"), "{loaded:?}");
        let text = MINIMAL.replace("3000/events", "3000/events?access_token=s3cret");
        let loaded = Config::parse("test.toml", &format!("{text}access = \"public\"\n")).unwrap();
        assert!(!format!("{loaded:?}").contains("s3cret"), "{loaded:?}");
    }
}
