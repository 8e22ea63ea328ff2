//! What `ssecast explain` says of a request that passes through.

use http::Uri;

use crate::config::{ForwardedFields, Proxy, UpstreamHost, UpstreamHttp, without_secrets};
use crate::proxy::fields::check_path;

/// The rows that say what becomes of a request, each with its label.
///
/// # Errors
///
/// What the client is answered instead.
pub(super) fn rows(
    proxy: &Proxy,
    uri: &Uri,
    host: &str,
) -> Result<Vec<(&'static str, String)>, String> {
    check_path(uri.path()).map_err(|refused| {
        let (status, name) = (refused.status().as_u16(), &proxy.name);
        format!("{status}, at the proxy `{name}`: {refused}")
    })?;
    let captured = proxy.captured(uri.path());
    let mut places = proxy.upstreams.iter().map(|url| {
        let path = url.path(uri.path(), &captured)?;
        let query = uri.query().map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        Some(format!(
            "{}://{}{path}{query}",
            url.scheme(),
            url.authority()
        ))
    });
    let (Some(first), Some(url)) = (places.next().flatten(), proxy.upstreams.first()) else {
        let name = &proxy.name;
        return Err(format!(
            "400, at the proxy `{name}`: the path leads to another place"
        ));
    };
    let others = match proxy.upstreams.len() - 1 {
        0 => String::new(),
        n => format!(", or the same at {n} more"),
    };
    let version = match proxy.http {
        UpstreamHttp::One => "HTTP/1.1",
        UpstreamHttp::Two => "HTTP/2",
    };
    let host = match &proxy.upstream_host {
        UpstreamHost::Client if host.is_empty() => "the one that the client asks for".to_owned(),
        UpstreamHost::Client => format!("`{host}`, the one that the client asks for"),
        UpstreamHost::Named(name) => format!("`{}`", String::from_utf8_lossy(name.as_bytes())),
        UpstreamHost::Upstream => format!("`{}`", url.authority()),
    };
    let mut rows = vec![
        ("proxy", format!("{}, `{}`", proxy.name, proxy.path)),
        (
            "upstream",
            format!("{}{others}, by {version}", without_secrets(&first)),
        ),
        ("host", host),
        ("fields", fields(proxy)),
        ("switches", switches(proxy)),
    ];
    if proxy
        .upstreams
        .iter()
        .all(crate::config::ProxyUrl::keeps_path)
    {
        rows.push(("path", "as the client writes it, byte for byte".to_owned()));
    }
    Ok(rows)
}

/// What goes along of the client's, and what is added.
fn fields(proxy: &Proxy) -> String {
    let told = match proxy.forwarded {
        ForwardedFields::Both => "Forwarded and X-Forwarded-* are ours, ",
        ForwardedFields::None => "no Forwarded and X-Forwarded-*, ",
        ForwardedFields::Rfc7239 => "Forwarded is ours, no X-Forwarded-*, ",
        ForwardedFields::XForwarded => "X-Forwarded-* are ours, no Forwarded, ",
    };
    let set: Vec<&str> = proxy
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let set = if set.is_empty() {
        String::new()
    } else {
        format!("; upstream_headers: {}", set.join(", "))
    };
    format!("the client's, but those of its connection; {told}Via is added to{set}")
}

fn switches(proxy: &Proxy) -> String {
    if proxy.upgrade.is_empty() {
        return "to no other protocol".to_owned();
    }
    format!("to {}, if it asks for it", proxy.upgrade.join(", "))
}
