//! Which channel a request is for. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::channel::{Channel, Counters, State};
use crate::config::{self, normalize_path};

/// Where requests lead.
#[derive(Debug, Default)]
pub struct Routes {
    by_path: HashMap<String, Vec<Route>>,
    pages: HashMap<&'static str, Page>,
}

/// Where a request leads, and how it is answered there.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) target: Target,
    /// What the channel was told to do when these routes were made: a request sees settings that fit
    /// together, whatever is changed meanwhile.
    pub(super) settings: Arc<config::Channel>,
}

/// What is subscribed to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A channel that runs, whoever asks.
    Channel {
        channel: Channel,
        /// The shard of its upstream.
        home: usize,
    },
}

/// A fixed document.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Its media type.
    pub media_type: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// What a request is for.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Channel(&'a Route),
    Nothing,
    Page(Page),
}

impl Routes {
    /// Adds a channel whose upstream runs on the shard `home`.
    pub fn add_channel(&mut self, channel: Channel, home: usize) {
        let settings = channel.settings();
        let route = Route {
            target: Target::Channel { channel, home },
            settings: Arc::clone(&settings),
        };
        let path = settings.path.clone();
        self.by_path.entry(path).or_default().push(route);
    }

    /// Adds a page at a literal path, for any host.
    pub fn add_page(&mut self, path: &'static str, page: Page) {
        self.pages.insert(path, page);
    }

    /// The channels, in no order.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        let routes = self.by_path.values().flatten();
        routes.map(|route| match &route.target {
            Target::Channel { channel, .. } => channel,
        })
    }

    /// The paths of all channels, ordered.
    pub(super) fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self.by_path.keys().map(String::as_str).collect();
        paths.sort_unstable();
        paths
    }

    /// What the path of a request leads to. A channel that names the host goes before one that
    /// answers to any.
    pub(super) fn find(&self, host: &str, path: &str) -> Found<'_> {
        let Some(path) = normalize_path(path) else {
            return Found::Nothing;
        };
        let routes = self
            .by_path
            .get(path.as_ref())
            .map(Vec::as_slice)
            .unwrap_or_default();
        let names_host = |route: &&Route| {
            route
                .settings
                .hosts
                .iter()
                .any(|name| name.eq_ignore_ascii_case(host))
        };
        let answers_any = |route: &&Route| route.settings.hosts.is_empty();
        if let Some(route) = routes
            .iter()
            .find(names_host)
            .or_else(|| routes.iter().find(answers_any))
        {
            return Found::Channel(route);
        }
        self.pages
            .get(path.as_ref())
            .copied()
            .map_or(Found::Nothing, Found::Page)
    }
}

impl Target {
    /// Whether no more events will ever come, whoever asks.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Channel { channel, .. } => channel.status().state == State::Over,
        }
    }

    /// Until when its subscribers leave, if it takes no more.
    pub(super) fn closing(&self) -> Option<Instant> {
        match self {
            Self::Channel { channel, .. } => channel.closing(),
        }
    }

    /// What is counted of it.
    pub(super) fn counters(&self) -> &Counters {
        match self {
            Self::Channel { channel, .. } => channel.counters(),
        }
    }
}

/// The host of an authority (RFC 3986, 3.2), without its port.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn a_host_has_no_port() {
        for (authority, host) in [
            ("example.org", "example.org"),
            ("example.org:80", "example.org"),
            ("example.org:", "example.org"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host, "{authority:?}");
        }
    }
}
