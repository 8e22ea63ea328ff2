//! What may be wrong between a proxy and the rest of the file, where each is right by itself.

use std::net::IpAddr;

use crate::config::Config;
use crate::config::ListenAddress;
use crate::config::Proxy;
use crate::config::ProxyUrl;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::schema::NamedProxy;

/// Warns of proxies that lead back here, and of those that have what is meant for a channel.
pub(super) fn check(config: &Config, proxies: &[NamedProxy], findings: &mut Findings) {
    for named in proxies {
        let name = named.name.get_ref();
        let Some(proxy) = config.proxies.iter().find(|one| one.name == *name) else {
            continue;
        };
        circles(proxy, config, named, findings);
        hidden_channels(proxy, config, named, findings);
    }
}

/// An upstream that is an address of this gateway asks it for what it asks.
fn circles(proxy: &Proxy, config: &Config, named: &NamedProxy, findings: &mut Findings) {
    for url in &proxy.upstreams {
        let is_here = |address: &&ListenAddress| is_at(url, address);
        let mut listeners = config.listeners.iter();
        let found = listeners.find(|listener| listener.addresses.iter().any(|one| is_here(&one)));
        let Some(listener) = found else { continue };
        let message = format!(
            "`{}` is this gateway itself (`[listen.{}]`): what passes through comes back here",
            url.authority(),
            listener.name
        );
        let advice = "write where the backend listens; give one of them another port";
        let span = named.table.upstream.span();
        let mistake = Mistake::new(message, advice).of("upstream");
        findings.push(Finding::new(Severity::Warning, span, mistake));
    }
}

/// Whether a URL leads to an address, as far as that is known without asking anybody.
fn is_at(url: &ProxyUrl, address: &ListenAddress) -> bool {
    let ListenAddress::Tcp(address) = address else {
        return false;
    };
    let port = url.authority().port_u16();
    let port = port.unwrap_or(if url.is_https() { 443 } else { 80 });
    let host = url.authority().host().trim_matches(['[', ']']);
    let is_loopback = host.eq_ignore_ascii_case("localhost");
    let ip = host.parse::<IpAddr>().ok();
    let is_local = is_loopback || ip.is_some_and(|ip| ip.is_loopback());
    let is_host = ip == Some(address.ip())
        || (is_loopback && address.ip().is_loopback())
        || (is_local && address.ip().is_unspecified());
    port == address.port() && is_host
}

/// What names a host goes before what does not, however much that says of the path.
fn hidden_channels(proxy: &Proxy, config: &Config, named: &NamedProxy, findings: &mut Findings) {
    let Some(host) = proxy.hosts.first() else {
        return;
    };
    let literal = proxy.path.split('{').next().unwrap_or_default();
    let has_rest = proxy.path.strip_prefix(literal);
    if !has_rest.is_some_and(|rest| rest.starts_with("{*")) {
        return;
    }
    let mut channels = config.channels.iter();
    let hidden = channels.find(|one| one.hosts.is_empty() && one.path.starts_with(literal));
    let Some(channel) = hidden else { return };
    let message = format!(
        "requests to `{host}` for the channel `{}` (`{}`) pass through: what names a host goes before \
         what does not",
        channel.name, channel.path
    );
    let advice = format!(
        "write `host = \"{host}\"` in `[channels.{}]`, too",
        channel.name
    );
    let span = named.table.host.span();
    let mistake = Mistake::new(message, advice).of("host");
    findings.push(Finding::new(Severity::Warning, span, mistake));
}
