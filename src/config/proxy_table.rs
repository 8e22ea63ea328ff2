//! `[proxies.NAME]`: what a user writes for a proxy, and what must hold of it.

use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;
use http::uri::Authority;

use crate::config::Access;
use crate::config::Proxy;
use crate::config::UpstreamHttp;
use crate::config::checks;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::header;
use crate::config::host;
use crate::config::proxy::ForwardedFields;
use crate::config::proxy::UpstreamHost;
use crate::config::proxy_url::WrittenUrl;
use crate::config::reader::Entry;
use crate::config::reader::FromText;
use crate::config::reader::Read;
use crate::config::schema::NamedProxy;
use crate::config::schema::ProxyTable;
use crate::config::suggestion;
use crate::config::template;
use crate::config::template::Variable;
use crate::config::upstream_tls;
use crate::config::upstream_urls;
use crate::config::url::unknown_variable;
use crate::config::values::Count;
use crate::config::values::OneOrMany;
use crate::config::values::OrNever;

/// `upstream_headers` of a proxy, in the file's order.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyHeaders(pub(super) Vec<(HeaderName, HeaderValue)>);

/// A protocol that clients may switch to, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UpgradeToken(pub(super) String);

const DEFAULT_UPGRADE: &str = "websocket";

impl Read for ProxyHeaders {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        header::read(entry, header::proxy_name_of, findings).map(Self)
    }
}

impl FromText for UpgradeToken {
    const EXAMPLE: &'static str = "\"websocket\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let token = text.to_ascii_lowercase();
        if matches!(token.as_str(), "h2c" | "h2" | "tls" | "http") || token.starts_with("http/") {
            let message = format!("`{token}` is HTTP itself: requests in it would pass unseen");
            let advice = "remove it; for HTTP/2 to the origin, write `upstream_http = \"2\"`";
            return Err(Mistake::new(message, advice));
        }
        // A token (RFC 9110, 5.6.2), which may have a version.
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
        if token.is_empty() || !token.chars().all(is_token) {
            let message = format!("`{}` is not the name of a protocol", text.escape_debug());
            return Err(Mistake::new(
                message,
                format!("write one like `{}`", Self::EXAMPLE),
            ));
        }
        Ok(Self(token))
    }
}

impl FromText for UpstreamHost {
    const EXAMPLE: &'static str = "\"client\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let words = ["client", "upstream"];
        let rule = "write `\"client\"`, `\"upstream\"`, or a name like `\"app.example\"`";
        match text {
            "client" => return Ok(Self::Client),
            "upstream" => return Ok(Self::Upstream),
            _ => {}
        }
        if let Some(near) = suggestion::nearest(text, &words) {
            let message = format!("`\"{text}\"` is not a word that is known here");
            let advice =
                format!("did you mean `\"{near}\"`? A host of that name is `\"{text}:80\"`");
            return Err(Mistake::new(message, advice));
        }
        let is_host = text.parse::<Authority>().is_ok_and(|authority| {
            let port_is_right = authority.port().is_none_or(|port| port.as_u16() > 0);
            !text.contains('@')
                && port_is_right
                && host::is_host(&authority.host().to_ascii_lowercase())
        });
        match HeaderValue::from_str(text) {
            Ok(value) if is_host => Ok(Self::Named(value)),
            _ => {
                let message = format!("`\"{}\"` is not a host", text.escape_debug());
                Err(Mistake::new(message, rule))
            }
        }
    }
}

/// The proxy that its table means; `None`: something that it must say is missing or wrong, which is
/// reported.
pub(super) fn meant(named: &NamedProxy, findings: &mut Findings) -> Option<Proxy> {
    check(named, findings);
    let NamedProxy { name, table: t } = named;
    let path = &t.path.written()?.0;
    let variables = template::variables(path);
    let OneOrMany(urls) = t.upstream.written()?;
    if urls.is_empty() {
        return None;
    }
    let hosts = t.host.written().map_or(&[][..], |hosts| &hosts.0);
    let seconds = |seconds| OrNever(Some(Duration::from_secs(seconds)));
    let upgrade = match t.upgrade.written() {
        Some(OneOrMany(list)) => list.iter().map(|one| one.get_ref().0.clone()).collect(),
        None => vec![DEFAULT_UPGRADE.to_owned()],
    };
    Some(Proxy {
        name: name.get_ref().clone(),
        path: path.clone(),
        hosts: hosts.iter().map(|host| host.get_ref().0.clone()).collect(),
        upstreams: urls
            .iter()
            .map(|url| url.get_ref().meant(&variables))
            .collect(),
        headers: t.upstream_headers.written().cloned().unwrap_or_default().0,
        http: t.upstream_http.get_or(UpstreamHttp::One),
        tls: upstream_tls::meant(&t.upstream_tls),
        upstream_host: t.upstream_host.get_or(UpstreamHost::Client),
        forwarded: t.forwarded.get_or(ForwardedFields::Both),
        connect_timeout: t.connect_timeout.get_or(Duration::from_secs(5)),
        header_timeout: t.response_timeout.get_or(seconds(60)).0,
        idle_timeout: t.idle_timeout.get_or(seconds(60)).0,
        max_request_bytes: t
            .max_request_bytes
            .get_or(OrNever(None))
            .0
            .map(|bytes| bytes.0),
        max_requests: t.max_requests.get_or(Count(1024)).0,
        upgrade,
        max_tunnels: t.max_tunnels.get_or(Count(1000)).0,
        tunnel_idle_timeout: t.tunnel_idle_timeout.get_or(seconds(300)).0,
        max_idle_connections: t.max_idle_connections.get_or(Count(32)).0,
        keep_alive: t.keep_alive.get_or(Duration::from_secs(4)),
        heartbeat: t.heartbeat.get_or(OrNever(None)).0,
        access: t.access.written().copied(),
    })
}

fn check(named: &NamedProxy, findings: &mut Findings) {
    let table = &named.table;
    super::bounds::proxy(table, findings);
    upstream_tls::check(&table.upstream_tls, findings);
    checks::place(&table.path, &table.host, findings);
    checks::long_heartbeat(&table.heartbeat, findings);
    check_presence(named, findings);
    check_path(table, findings);
    check_urls(table, findings);
    check_access(named, findings);
}

fn check_presence(named: &NamedProxy, findings: &mut Findings) {
    let name = named.name.get_ref();
    let span = named.name.span();
    for (key, is_absent, example) in [
        ("path", named.table.path.is_absent(), "/{*rest}"),
        (
            "upstream",
            named.table.upstream.is_absent(),
            "http://127.0.0.1:3000",
        ),
    ] {
        if is_absent {
            let message = format!("the proxy `{name}` has no `{key}`");
            let advice = format!("add a line like `{key} = \"{example}\"`");
            findings.missing(Some(span.clone()), Mistake::new(message, advice));
        }
    }
}

/// Who comes from another proxy writes a prefix.
fn check_path(table: &ProxyTable, findings: &mut Findings) {
    let (Some(path), Some(span)) = (table.path.written(), table.path.span()) else {
        return;
    };
    if path.0.ends_with('/') {
        let message = "ends with `/`: only that is passed through, and nothing below it";
        let advice = format!("write `\"{}{{*rest}}\"` for all that begins so", path.0);
        findings.warn(span, Mistake::new(format!("`path` {message}"), advice));
    }
}

/// `upstream`: places, each once, whose variables are those of the path.
fn check_urls(table: &ProxyTable, findings: &mut Findings) {
    upstream_urls::check_list(&table.upstream, findings);
    let (Some(path), Some(OneOrMany(list))) = (table.path.written(), table.upstream.written())
    else {
        return;
    };
    let variables = template::variables(&path.0);
    for url in list {
        let written = url.get_ref();
        if let Some(mistake) = unknown_variable(&written.variables(), &variables) {
            findings.error(url.span(), mistake.of("upstream"));
        } else if let Some(mistake) = unused_variable(written, &variables) {
            findings.warn(url.span(), mistake.of("upstream"));
        }
    }
    let named = list.iter().find(|url| {
        let url = url.get_ref();
        let is_name = url
            .authority()
            .host()
            .contains(|c: char| c.is_ascii_alphabetic());
        url.scheme().as_str() == "https" && is_name && !url.authority().host().starts_with('[')
    });
    if let Some(url) = named.filter(|_| table.upstream_host.is_absent()) {
        let host = url.get_ref().authority();
        let message = format!("`{host}` will be asked for the host that the client has asked for");
        let advice = "write `upstream_host = \"upstream\"`, so that it is asked for its own name, as most \
                      servers that\nothers run want it; or `upstream_host = \"client\"`, if that is meant";
        findings.warn(url.span(), Mistake::new(message, advice).of("upstream"));
    }
}

/// What of a request's path goes nowhere, because the URL has another one.
fn unused_variable(url: &WrittenUrl, variables: &[Variable]) -> Option<Mistake> {
    let path = url.path()?;
    let used = url.variables();
    let is_used = |one: &&Variable| used.iter().any(|other| other.name == one.name);
    let meant = |one: &&Variable| !one.name.starts_with('_');
    let lost = variables.iter().filter(meant).find(|one| !is_used(one))?;
    let base = format!("{}://{}", url.scheme(), url.authority());
    let message = format!(
        "the path's `{lost}` is not in this URL: whatever it is, the origin is asked for `{path}`"
    );
    let slash = if path.ends_with('/') { "" } else { "/" };
    let advice = format!(
        "write `\"{base}\"` to ask for the same path as the client, or `\"{base}{path}{slash}{lost}\"`; \
         or put\na `_` in front of the name, if that is meant"
    );
    Some(Mistake::new(message, advice))
}

/// A gateway that uses a credential asks for everybody as if it were its owner.
fn check_access(named: &NamedProxy, findings: &mut Findings) {
    let NamedProxy { name, table } = named;
    let is_public = table.access.written() == Some(&Access::Public);
    let headers = &table.upstream_headers;
    let field = headers
        .written()
        .and_then(|headers| header::credential(&headers.0));
    let Some(field) = field.filter(|_| !is_public && !table.access.is_wrong()) else {
        return;
    };
    let message = format!(
        "the proxy `{}` uses a credential but does not say who may use it",
        name.get_ref()
    );
    let advice = "everybody who reaches the gateway could do what it allows; if that is meant, write\n\
                  `access = \"public\"`, else leave it out: a client's own passes through";
    let finding = Finding::new(
        Severity::Error,
        Some(name.span()),
        Mistake::new(message, advice),
    );
    findings.push(match headers.span() {
        Some(span) => finding.with_note(
            format!("the header field `{field}` looks like a credential"),
            span,
        ),
        None => finding,
    });
}
