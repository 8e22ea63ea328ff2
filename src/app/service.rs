//! What the service manager and who asks it are told of this process.

use crate::admin::{Facts, ReloadOutcome};
use crate::channel::Channel;
use crate::config::{Config, ListenAddress};
use crate::delivery;
use crate::http::Gateway;
use crate::net::inherited;
use crate::systemd;

/// Keeps systemd informed that everything serves.
pub(super) async fn inform(gateway: &Gateway, facts: &Facts) -> ! {
    let beat = async |patience| delivery::beat(&gateway.shards, patience).await;
    systemd::inform(|| status(gateway, facts), beat).await
}

/// What a person wants to know first.
pub(super) fn status(gateway: &Gateway, facts: &Facts) -> String {
    let current = gateway.current();
    let channels = current.routes.channels();
    let n_clients = channels.iter().map(Channel::n_subscribers).sum();
    let n_channels = current.routes.sources().len();
    let (channels, clients) = (plural(n_channels), plural(n_clients));
    let proxies = current.routes.proxies();
    let mut status = match (n_channels, proxies.len()) {
        (_, 0) => format!("{n_channels} channel{channels}, {n_clients} client{clients}"),
        (0, n) => counted(n, "proxy", "proxies"),
        (_, n) => {
            let proxies = counted(n, "proxy", "proxies");
            format!("{n_channels} channel{channels}, {proxies}, {n_clients} client{clients}")
        }
    };
    if !proxies.is_empty() {
        let n_requests = proxies.iter().map(|proxy| proxy.n_requests()).sum();
        status.push_str(", ");
        status.push_str(&counted(n_requests, "request", "requests"));
    }
    if let Some(last) = facts.reloads().last() {
        match last.outcome {
            ReloadOutcome::Applied | ReloadOutcome::Unchanged => {}
            ReloadOutcome::NeedsRestart => {
                status.push_str("; the last reload needs a restart: ");
                status.push_str(&last.message);
            }
            ReloadOutcome::Rejected => {
                status.push_str("; the last reload was rejected, as the log says");
            }
        }
    }
    status
}

/// Warns of inherited sockets in which nobody will ever be served: their clients would wait for ever.
pub(super) fn warn_of_unused_sockets(config: &Config) {
    let listeners = config.listeners.iter();
    let addresses = listeners.flat_map(|listener| &listener.addresses);
    let addresses = addresses.chain(&config.admin.addresses);
    let used = addresses.filter_map(|address| match address {
        ListenAddress::Systemd(name) => Some(name.as_str()),
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
    });
    for name in inherited::unused(used) {
        tracing::warn!(
            name,
            advice = format!("write `address = \"systemd:{name}\"`, or stop its socket unit"),
            "no listener uses an inherited socket"
        );
    }
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
