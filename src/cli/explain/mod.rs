//! `ssecast explain URL…`: what a request is for, and whether two are for the same.
//!
//! Nothing is asked of anybody: the file says it all. No value of a header field is shown, nor that of a
//! parameter that looks like a credential.

mod channel;
mod proxy;
#[cfg(test)]
mod tests;
mod view;

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use self::channel::Asked;
use super::{Explain, Finished};
use crate::config::{self, Config, PathRouter, TrustedProxies, without_secrets};

pub(in crate::cli) const ABOUT: &str = "\
Say what a request is for: which channel and which of its instances, or which proxy, and what would go \
upstream.

Two URLs are compared: clients that ask for them share an upstream connection, or the difference is \
told that keeps them apart. Nothing is sent to anybody.";

/// What a request leads to.
enum Found {
    Channel(Asked),
    /// The name of a proxy.
    Proxy(String),
}

/// What a path leads to.
#[derive(Debug, Clone)]
enum Place {
    Channel(Arc<config::Channel>),
    Proxy(Arc<config::Proxy>),
}

type Router = PathRouter<Place>;

/// Explains one URL, or compares two.
pub(in crate::cli) fn run(arguments: &Explain) -> Finished {
    let loaded = match Config::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    let fields = match fields(&arguments.headers) {
        Ok(fields) => fields,
        Err(message) => return Finished::failed(format!("error: {message}\n")),
    };
    let router = router(&loaded.config);
    let trusted = &loaded.config.server.trusted_proxies;
    let mut output = String::new();
    let mut asked = Vec::new();
    for url in &arguments.urls {
        match ask(url, &fields, (&router, trusted)) {
            Ok((found, rows)) => {
                write_rows(url, &rows, &mut output);
                asked.push(found);
            }
            Err(message) => {
                let complaint = format!("error: {}: {message}\n", without_secrets(url));
                return Finished {
                    output,
                    ..Finished::failed(complaint)
                };
            }
        }
    }
    if let [one, other] = asked.as_slice() {
        output.push_str(&compare(one, other));
    }
    Finished::fine(output)
}

/// All paths of a configuration.
fn router(config: &Config) -> Router {
    let mut router = Router::default();
    let channels = config.channels.iter();
    let channels = channels.map(|one| (&one.hosts, &one.path, Place::Channel(Arc::clone(one))));
    let proxies = config.proxies.iter();
    let proxies = proxies.map(|one| (&one.hosts, &one.path, Place::Proxy(Arc::clone(one))));
    let proxies: Vec<_> = proxies.collect();
    for (hosts, path, place) in channels.chain(proxies.iter().cloned()) {
        // The file is right, so no two lead the same request elsewhere.
        if let Err(taken) = router.insert(hosts, path, &place) {
            tracing::debug!(%taken, "a path leads nowhere");
        }
    }
    for (hosts, path, place) in proxies {
        router.insert_empty_rest(hosts, path, &place);
    }
    router
}

/// Header fields as curl takes them.
fn fields(written: &[String]) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    for (n, field) in written.iter().enumerate() {
        // Not quoted: it may be a credential, and the name may be missing.
        let wrong = |what: &str| format!("header field {}: {what}", n + 1);
        let Some((name, value)) = field.split_once(':') else {
            return Err(wrong("write it like `-H 'Name: value'`"));
        };
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let name = name.map_err(|_invalid| wrong("what is before the `:` is not a name"))?;
        let value = HeaderValue::from_str(value.trim());
        let value = value.map_err(|_invalid| wrong("no header field can have this value"))?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// What is said of a request, each row with its label.
type Rows = Vec<(&'static str, String)>;

/// Finds what a URL leads to, and what there is to say of it.
fn ask(
    url: &str,
    fields: &HeaderMap,
    (router, trusted): (&Router, &TrustedProxies),
) -> Result<(Found, Rows), String> {
    let without_fragment = url.split('#').next().unwrap_or(url);
    if !(without_fragment.starts_with('/') || without_fragment.contains("://")) {
        return Err("write a URL, or a path that begins with `/`".to_owned());
    }
    let uri: Uri = (without_fragment.parse())
        .map_err(|_invalid| "this is not a URL: is everything percent-encoded?".to_owned())?;
    let named = fields.get(http::header::HOST);
    let named = named.and_then(|host| host.to_str().ok());
    let named = named.map(|host| host.split(':').next().unwrap_or(host));
    let host = uri.host().or(named).unwrap_or_default();
    let (place, captured) = router.find(host, uri.path()).ok_or_else(|| {
        let host = if host.is_empty() { "any host" } else { host };
        format!(
            "404: no channel and no proxy has the path `{}` for {host}",
            uri.path()
        )
    })?;
    match place {
        Place::Channel(channel) => {
            let asked = Asked::of(channel, &captured, (&uri, fields))?;
            let rows = asked.rows(fields).into();
            Ok((Found::Channel(asked), rows))
        }
        Place::Proxy(proxy) => {
            let rows = proxy::rows(proxy, trusted, (&uri, fields))?;
            Ok((Found::Proxy(proxy.name.clone()), rows))
        }
    }
}

fn write_rows(url: &str, rows: &[(&str, String)], out: &mut String) {
    let mut text = format!("{}\n", without_secrets(url));
    for (label, row) in rows {
        if !row.is_empty() {
            writeln!(text, "  {label:<10} {row}").unwrap_or_default();
        }
    }
    text.push('\n');
    out.push_str(&text);
}

/// Whether two requests share an upstream connection, and why not.
fn compare(one: &Found, other: &Found) -> String {
    match (one, other) {
        (Found::Channel(one), Found::Channel(other)) => one.compare(other),
        (Found::Proxy(name), _) | (_, Found::Proxy(name)) => format!(
            "These do not collapse: what passes through (`{name}`) is asked for each client.\n"
        ),
    }
}
