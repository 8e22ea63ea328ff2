//! What is different between two configurations. Pure.
//!
//! What a change *touches* is decided here, so that whoever acts on it and whoever logs it agree.
//! All structs are taken apart field by field: a new key does not compile until it is decided what
//! a change of it touches (and `docs/reload.md` says it).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Channel;
use crate::config::Config;
use crate::config::ListenAddress;
use crate::config::Listener;
use crate::config::OnNewUrl;
use crate::config::Proxy;
use crate::config::ProxyUrl;
use crate::config::Server;
use crate::config::Upstream;

/// What is different between two configurations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff {
    /// Channels, ordered by name, which is their identity.
    pub channels: Vec<Change<Arc<Channel>>>,
    /// Proxies, ordered by name, which is their identity.
    pub proxies: Vec<Change<Arc<Proxy>>>,
    /// Addresses to listen on, ordered; what a listener says besides is part of each of them.
    pub places: Vec<Change<Place>>,
    /// Keys of the process that are followed while it runs.
    pub live: Vec<&'static str>,
    /// Keys of the process that wait for a restart.
    pub restart: Vec<&'static str>,
}

/// How something differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// It is only in the new one.
    Added(T),
    /// It is in both, and differs.
    Changed {
        /// As it was.
        old: T,
        /// As it is.
        new: T,
    },
    /// It is only in the old one.
    Removed(T),
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What tells it from the others.
    pub key: PlaceKey,
    /// The listener that it belongs to, with this address alone.
    pub listener: Listener,
}

/// What tells an address to listen on from the others: the address itself, whatever the listener is
/// called. Where the kernel chooses the port, it is another one each time: there, the name and a
/// number too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceKey {
    /// As it is written.
    pub address: ListenAddress,
    any_port: Option<(String, usize)>,
}

/// What a change of a channel touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// Which requests it answers, and how, before they are subscriptions; and what is said of it.
    pub routing: bool,
    /// What its subscribers get.
    pub delivery: bool,
    /// Where its events come from.
    pub upstream: UpstreamChange,
}

/// What a change of a channel means for its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UpstreamChange {
    /// Nothing.
    None,
    /// The open connection goes on, by the new settings.
    Follow,
    /// The same source is asked anew, from where it was.
    Reconnect,
    /// Another source: its events do not continue what was there.
    OtherSource,
}

/// What a change of a proxy touches. What is in flight always goes on as it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyChange {
    /// Nothing.
    None,
    /// Requests to come, also on the connections that are there.
    Settings,
    /// Connections to the upstreams, too: those that are kept are of no use any more.
    Connections,
}

impl Diff {
    /// What has to change to get from `old` to `new`.
    pub fn between(old: &Config, new: &Config) -> Self {
        let Config {
            server,
            listeners,
            admin,
            channels,
            proxies,
        } = new;
        let by_name = |channels: &[Arc<Channel>]| -> BTreeMap<String, Arc<Channel>> {
            let named = channels
                .iter()
                .map(|one| (one.name.clone(), Arc::clone(one)));
            named.collect()
        };
        let proxies_by_name = |proxies: &[Arc<Proxy>]| -> BTreeMap<String, Arc<Proxy>> {
            let named = proxies.iter();
            named
                .map(|one| (one.name.clone(), Arc::clone(one)))
                .collect()
        };
        let by_key = |listeners: &[Listener]| -> BTreeMap<PlaceKey, Place> {
            let places = places(listeners).into_iter();
            places.map(|place| (place.key.clone(), place)).collect()
        };
        let mut diff = Self {
            channels: changes(by_name(&old.channels), by_name(channels)),
            proxies: changes(proxies_by_name(&old.proxies), proxies_by_name(proxies)),
            places: changes(by_key(&old.listeners), by_key(listeners)),
            ..Self::default()
        };
        diff.compare_servers(&old.server, server);
        if *admin != old.admin {
            diff.live.push("admin.address");
        }
        diff
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let Self {
            channels,
            proxies,
            places,
            live,
            restart,
        } = self;
        channels.is_empty()
            && proxies.is_empty()
            && places.is_empty()
            && live.is_empty()
            && restart.is_empty()
    }

    fn compare_servers(&mut self, old: &Server, new: &Server) {
        let Server {
            threads,
            max_connections,
            connection_rate,
            address_limits,
            trusted_proxies,
            memory,
            handshake_timeout,
            header_timeout,
            max_header_bytes,
            drain,
            state,
            unknown_path,
            http2,
        } = new;
        let live = [
            (
                "server.max_connections",
                *max_connections != old.max_connections,
            ),
            (
                "server.connection_rate",
                *connection_rate != old.connection_rate,
            ),
            (
                "server.max_connections_per_address",
                address_limits.per_address != old.address_limits.per_address,
            ),
            (
                "server.max_connections_per_network",
                address_limits.per_network != old.address_limits.per_network,
            ),
            (
                "server.trusted_proxies",
                *trusted_proxies != old.trusted_proxies,
            ),
            ("server.memory", *memory != old.memory),
            (
                "server.handshake_timeout",
                *handshake_timeout != old.handshake_timeout,
            ),
            (
                "server.header_timeout",
                *header_timeout != old.header_timeout,
            ),
            (
                "server.max_header_bytes",
                *max_header_bytes != old.max_header_bytes,
            ),
            ("server.drain", *drain != old.drain),
            ("server.unknown_path", *unknown_path != old.unknown_path),
            ("server.http2", *http2 != old.http2),
        ];
        let restart = [
            ("server.threads", *threads != old.threads),
            ("server.state", *state != old.state),
        ];
        let changed = |keys: &[(&'static str, bool)]| -> Vec<&'static str> {
            let changed = keys.iter().filter(|(_, is_changed)| *is_changed);
            changed.map(|(key, _)| *key).collect()
        };
        self.live = changed(&live);
        self.restart = changed(&restart);
    }
}

impl<T> Change<T> {
    /// What is there afterwards; `None`: nothing.
    pub fn after(&self) -> Option<&T> {
        match self {
            Self::Added(new) | Self::Changed { new, .. } => Some(new),
            Self::Removed(_) => None,
        }
    }

    /// What was there before; `None`: nothing.
    pub fn before(&self) -> Option<&T> {
        match self {
            Self::Removed(old) | Self::Changed { old, .. } => Some(old),
            Self::Added(_) => None,
        }
    }
}

impl Channel {
    /// Whether this is another channel than `old`, for all that the name is the same: what its
    /// instances are told apart by has changed, or whether there are any.
    pub fn replaces(&self, old: &Self) -> bool {
        let has_moved = self.path != old.path && !(self.key.is_empty() && old.key.is_empty());
        has_moved || self.key != old.key || self.connect != old.connect
    }

    /// What a change from `old` to this touches.
    pub fn touches(&self, old: &Self) -> Touched {
        let Self {
            name: _,
            bundle,
            path,
            key,
            connect,
            linger,
            first_answer,
            max_instances,
            hosts,
            upstream,
            ids,
            history,
            join,
            on_gap,
            conflate_by,
            latest,
            heartbeat,
            retry,
            cursor_on_connect,
            notices,
            coalesce,
            lag,
            write_timeout,
            end,
            while_down,
            refuse,
            max_subscribers,
            max_age,
            select_events,
            max_views,
            tells_types,
            cors,
            access,
            ready,
        } = self;
        let routing = (path, bundle) != (&old.path, &old.bundle)
            || *key != old.key
            || *connect != old.connect
            || *linger != old.linger
            || *first_answer != old.first_answer
            || *max_instances != old.max_instances
            || *hosts != old.hosts
            || *while_down != old.while_down
            || *refuse != old.refuse
            || *cors != old.cors
            || *access != old.access
            || (select_events, max_views) != (&old.select_events, &old.max_views)
            || *ready != old.ready;
        let delivery = *history != old.history
            || *join != old.join
            || *on_gap != old.on_gap
            || *heartbeat != old.heartbeat
            || *retry != old.retry
            || *cursor_on_connect != old.cursor_on_connect
            || *notices != old.notices
            || *lag != old.lag
            || *write_timeout != old.write_timeout
            || *end != old.end
            || *max_subscribers != old.max_subscribers
            || *max_age != old.max_age
            || *tells_types != old.tells_types;
        let own = if *coalesce != old.coalesce {
            UpstreamChange::Reconnect
        } else if *ids != old.ids
            || *notices != old.notices
            || *history != old.history
            || *conflate_by != old.conflate_by
            || *latest != old.latest
            || self.keying().is_some() != old.keying().is_some()
        {
            UpstreamChange::Follow
        } else {
            UpstreamChange::None
        };
        Touched {
            routing,
            delivery,
            upstream: upstream.touches(&old.upstream).max(own),
        }
    }
}

impl Upstream {
    fn touches(&self, old: &Self) -> UpstreamChange {
        let Self {
            urls,
            on_new_url,
            headers,
            http,
            tls,
            connect_timeout,
            header_timeout,
            idle_timeout,
            return_after,
            on_status,
            compression,
            backoff,
            max_redirects,
            max_line_bytes,
            max_event_bytes,
        } = self;
        // The URLs of a list are places of one stream: with one of them it stays the same. Whether
        // the one in use is still there is known to who uses it.
        let is_elsewhere = !urls.iter().any(|url| old.urls.contains(url));
        if is_elsewhere && *on_new_url == OnNewUrl::BeginEpoch {
            return UpstreamChange::OtherSource;
        }
        if is_elsewhere
            || *compression != old.compression
            || *headers != old.headers
            || *http != old.http
            || *tls != old.tls
        {
            return UpstreamChange::Reconnect;
        }
        let is_same = *connect_timeout == old.connect_timeout
            && *header_timeout == old.header_timeout
            && *idle_timeout == old.idle_timeout
            && *urls == old.urls
            && *return_after == old.return_after
            && *on_status == old.on_status
            && *backoff == old.backoff
            && *max_redirects == old.max_redirects
            && *max_line_bytes == old.max_line_bytes
            && *max_event_bytes == old.max_event_bytes
            && *on_new_url == old.on_new_url;
        if is_same {
            UpstreamChange::None
        } else {
            UpstreamChange::Follow
        }
    }
}

impl Proxy {
    /// What a change from `old` to this touches, besides the requests to come.
    pub fn touches(&self, old: &Self) -> ProxyChange {
        let Self {
            name: _,
            path,
            hosts,
            upstreams,
            headers,
            http,
            tls,
            upstream_host,
            forwarded,
            connect_timeout,
            header_timeout,
            idle_timeout,
            max_request_bytes,
            max_requests,
            upgrade,
            max_tunnels,
            tunnel_idle_timeout,
            max_idle_connections,
            keep_alive,
            heartbeat,
            access,
        } = self;
        let places = |urls: &[ProxyUrl]| -> Vec<String> {
            let places = urls.iter();
            let mut places: Vec<String> = places
                .map(|url| format!("{}://{}", url.scheme(), url.authority()))
                .collect();
            places.sort_unstable();
            places
        };
        let is_elsewhere =
            places(upstreams) != places(&old.upstreams) || *http != old.http || *tls != old.tls;
        let is_same = (path, hosts, upstreams) == (&old.path, &old.hosts, &old.upstreams)
            && (headers, upstream_host, forwarded)
                == (&old.headers, &old.upstream_host, &old.forwarded)
            && *connect_timeout == old.connect_timeout
            && *header_timeout == old.header_timeout
            && *idle_timeout == old.idle_timeout
            && *max_request_bytes == old.max_request_bytes
            && *max_requests == old.max_requests
            && (upgrade, max_tunnels) == (&old.upgrade, &old.max_tunnels)
            && *tunnel_idle_timeout == old.tunnel_idle_timeout
            && *max_idle_connections == old.max_idle_connections
            && *keep_alive == old.keep_alive
            && *heartbeat == old.heartbeat
            && *access == old.access;
        match (is_elsewhere, is_same) {
            (true, _) => ProxyChange::Connections,
            (false, false) => ProxyChange::Settings,
            (false, true) => ProxyChange::None,
        }
    }
}

impl PlaceKey {
    fn is_any_port(address: &ListenAddress) -> bool {
        matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0)
    }
}

/// Every address of every listener, in their order.
pub fn places(listeners: &[Listener]) -> Vec<Place> {
    let mut places = Vec::new();
    for listener in listeners {
        for (number, address) in listener.addresses.iter().enumerate() {
            let any_port = PlaceKey::is_any_port(address).then(|| (listener.name.clone(), number));
            let key = PlaceKey {
                address: address.clone(),
                any_port,
            };
            places.push(Place {
                key,
                listener: Listener {
                    addresses: vec![address.clone()],
                    ..listener.clone()
                },
            });
        }
    }
    places
}

fn changes<K: Ord, T: PartialEq>(old: BTreeMap<K, T>, mut new: BTreeMap<K, T>) -> Vec<Change<T>> {
    let mut changes = BTreeMap::new();
    for (key, old) in old {
        let change = match new.remove(&key) {
            None => Change::Removed(old),
            Some(new) if new == old => continue,
            Some(new) => Change::Changed { old, new },
        };
        changes.insert(key, change);
    }
    changes.extend(new.into_iter().map(|(key, new)| (key, Change::Added(new))));
    changes.into_values().collect()
}
