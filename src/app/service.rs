//! What the service manager and who asks it are told of this process.

use super::channels::Channels;
use crate::channel::Channel;
use crate::config::{Config, ListenAddress};
use crate::delivery::{self, Delivery};
use crate::net::inherited;
use crate::systemd;

/// Keeps systemd informed that everything serves.
pub(super) async fn inform(channels: &Channels, delivery: &Delivery) -> ! {
    let status = || status(channels);
    let beat = async |patience| delivery::beat(delivery.shards(), patience).await;
    systemd::inform(status, beat).await
}

/// What a person wants to know first.
pub(super) fn status(channels: &Channels) -> String {
    let n_clients: usize = channels.iter().map(Channel::n_subscribers).sum();
    let n_channels = channels.iter().count();
    let (channels, clients) = (plural(n_channels), plural(n_clients));
    format!("{n_channels} channel{channels}, {n_clients} client{clients}")
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

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
