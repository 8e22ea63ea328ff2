//! Which channel or proxy a request is for. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::answer::Refusal;
use super::standing::turned_away;
use crate::channel::{Channel, Counters, Refused, Source, Template};
use crate::config::{self, Key, PathRouter, normalize_path};
use crate::proxy::Proxy;

/// Where requests lead.
#[derive(Debug, Default)]
pub struct Routes {
    by_path: PathRouter<Place>,
    all: Vec<Arc<Route>>,
    /// The same of proxies alone, for requests that no channel is for.
    proxies_by_path: PathRouter<Arc<Proxy>>,
    has_proxies: bool,
    proxies: Vec<Arc<Proxy>>,
    pages: HashMap<&'static str, Page>,
    may_tunnel: bool,
}

/// Who answers at a path.
#[derive(Debug, Clone)]
enum Place {
    Channel(Arc<Route>),
    Proxy(Arc<Proxy>),
}

/// Where a request leads, and how it is answered there.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) target: Target,
    /// What the channel was told to do when these routes were made: a request sees settings that fit
    /// together, whatever is changed meanwhile.
    pub(super) settings: Arc<config::Channel>,
}

/// What is subscribed to.
#[derive(Debug)]
pub(super) enum Target {
    /// A channel that runs, whoever asks.
    Channel {
        channel: Channel,
        /// The shard of its upstream.
        home: usize,
    },
    /// Several channels, of which each client names those that it wants.
    Bundle(Bundle),
    /// A channel on demand.
    Template(Template),
}

/// A bundle of channels.
#[derive(Debug)]
pub(super) struct Bundle {
    /// What stands for it.
    pub(super) channel: Channel,
    /// The channels by name, each with the shard of its upstream.
    pub(super) members: BTreeMap<String, (Channel, usize)>,
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
    /// A channel, and what its variables stand for, in their order and as it is written in the path.
    Channel(&'a Route, Vec<String>),
    Nothing,
    Page(Page),
    Proxy(&'a Arc<Proxy>),
}

impl Routes {
    /// Adds a channel whose upstream runs on the shard `home`.
    pub fn add_channel(&mut self, channel: Channel, home: usize) {
        let settings = channel.settings();
        self.add(settings, Target::Channel { channel, home });
    }

    /// Adds a bundle of these channels, each with the shard of its upstream.
    pub fn add_bundle(&mut self, channel: Channel, members: BTreeMap<String, (Channel, usize)>) {
        let settings = channel.settings();
        self.add(settings, Target::Bundle(Bundle { channel, members }));
    }

    /// Adds a channel on demand.
    pub fn add_template(&mut self, template: Template) {
        let settings = template.kind().settings();
        self.add(settings, Target::Template(template));
    }

    fn add(&mut self, settings: Arc<config::Channel>, target: Target) {
        let route = Arc::new(Route { target, settings });
        let (hosts, path) = (&route.settings.hosts, &route.settings.path);
        let place = Place::Channel(Arc::clone(&route));
        if let Err(error) = self.by_path.insert(hosts, path, &place) {
            // The configuration was refused if it had that.
            let channel = &route.settings.name;
            tracing::error!(channel, path, %error, "a path leads nowhere");
        }
        self.all.push(route);
    }

    /// Adds the proxies, once all channels are there: what a path stands for that says less goes to who
    /// has not said more.
    pub fn add_proxies(&mut self, proxies: &[Arc<Proxy>]) {
        self.has_proxies |= !proxies.is_empty();
        for proxy in proxies {
            let config::Proxy {
                name, hosts, path, ..
            } = &**proxy.settings();
            let place = Place::Proxy(Arc::clone(proxy));
            let inserted = self.by_path.insert(hosts, path, &place);
            // Of proxies alone as of all.
            if self.proxies_by_path.insert(hosts, path, proxy).is_err() || inserted.is_err() {
                // The configuration was refused if it had that.
                tracing::error!(proxy = name, path, "a path leads nowhere");
            }
        }
        self.may_tunnel |= proxies.iter().any(|one| !one.settings().upgrade.is_empty());
        for proxy in proxies {
            let config::Proxy { hosts, path, .. } = &**proxy.settings();
            let place = Place::Proxy(Arc::clone(proxy));
            self.by_path.insert_empty_rest(hosts, path, &place);
            self.proxies_by_path.insert_empty_rest(hosts, path, proxy);
        }
        self.proxies.extend_from_slice(proxies);
    }

    /// Whether anything is passed on.
    pub(super) fn has_proxies(&self) -> bool {
        self.has_proxies
    }

    /// Whether a path leads to where protocols may be switched.
    pub(super) fn may_tunnel(&self) -> bool {
        self.may_tunnel
    }

    /// Adds a page at a literal path, for any host.
    pub fn add_page(&mut self, path: &'static str, page: Page) {
        self.pages.insert(path, page);
    }

    /// What requests lead to, in no order.
    pub fn sources(&self) -> Vec<Source> {
        let all = self.all.iter();
        let sources = all.map(|route| match &route.target {
            Target::Bundle(Bundle { channel, .. }) | Target::Channel { channel, .. } => {
                Source::Channel(channel.clone())
            }
            Target::Template(template) => Source::Template(template.clone()),
        });
        sources.collect()
    }

    /// The proxies, ordered by name.
    pub fn proxies(&self) -> &[Arc<Proxy>] {
        &self.proxies
    }

    /// The channels that there are right now, in no order.
    pub fn channels(&self) -> Vec<Channel> {
        let sources = self.sources().into_iter();
        sources.flat_map(|source| source.channels()).collect()
    }

    /// The paths of all channels, ordered.
    pub(super) fn paths(&self) -> Vec<&str> {
        let all = self.all.iter();
        let mut paths: Vec<&str> = all.map(|route| route.settings.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// What the path of a request leads to. A channel that names the host goes before one that
    /// answers to any, and of those a literal path before a variable.
    pub(super) fn find(&self, host: &str, path: &str) -> Found<'_> {
        let found = self
            .by_path
            .lead(host, path, |place, captured| match place {
                Place::Channel(route) => {
                    Found::Channel(route, captured.map(str::to_owned).collect())
                }
                Place::Proxy(proxy) => Found::Proxy(proxy),
            });
        if let Some(found) = found {
            return found;
        }
        let Some(path) = normalize_path(path) else {
            return Found::Nothing;
        };
        self.pages
            .get(path.as_ref())
            .copied()
            .map_or(Found::Nothing, Found::Page)
    }

    /// The proxy that a path leads to, whatever channels are there.
    pub(super) fn find_proxy(&self, host: &str, path: &str) -> Option<&Arc<Proxy>> {
        self.proxies_by_path
            .lead(host, path, |proxy, _captured| proxy)
    }
}

impl Target {
    /// Why it has no stream for who has seen nothing, as far as that is known before it is asked for.
    pub(super) fn turned_away(&self) -> Option<Refusal> {
        match self {
            Self::Channel { channel, .. } => turned_away(channel, None),
            // Each instance may be, and each set of channels.
            Self::Bundle(_) | Self::Template(_) => None,
        }
    }

    /// What the origin has refused a key with a moment ago.
    pub(super) fn refusal(&self, key: &Key) -> Option<Refused> {
        match self {
            Self::Bundle(_) | Self::Channel { .. } => None,
            Self::Template(template) => template.refusal(key),
        }
    }

    /// Until when its subscribers leave, if it takes no more.
    pub(super) fn closing(&self) -> Option<Instant> {
        match self {
            Self::Bundle(Bundle { channel, .. }) | Self::Channel { channel, .. } => {
                channel.closing()
            }
            Self::Template(template) => template.closing(),
        }
    }

    /// What is counted of it.
    pub(super) fn counters(&self) -> &Counters {
        match self {
            Self::Bundle(Bundle { channel, .. }) | Self::Channel { channel, .. } => {
                channel.counters()
            }
            Self::Template(template) => template.counters(),
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
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    /// Which channel each path leads to, and what its variables stand for.
    fn routes(paths: &[(&str, &str)]) -> Routes {
        let mut text = "[listen.public]\naddress = \"127.0.0.1:0\"\n".to_owned();
        for (n, (host, path)) in paths.iter().enumerate() {
            let host = if host.is_empty() {
                String::new()
            } else {
                format!("host = \"{host}\"\n")
            };
            text.push_str(&format!(
                "[channels.c{n}]\npath = \"{path}\"\n{host}upstream = \"http://127.0.0.1:1/\"\n"
            ));
        }
        let config = Config::parse("test.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        let mut routes = Routes::default();
        for settings in &config.config.channels {
            let (channel, _writer) = Channel::with_writer(Arc::clone(settings));
            routes.add_channel(channel, 0);
        }
        routes
    }

    fn found(routes: &Routes, host: &str, path: &str) -> Option<(String, Vec<String>)> {
        match routes.find(host, path) {
            Found::Channel(route, captured) => Some((route.settings.path.clone(), captured)),
            Found::Nothing | Found::Page(_) | Found::Proxy(_) => None,
        }
    }

    #[test]
    fn a_literal_goes_before_a_variable_and_a_host_before_any() {
        let routes = routes(&[
            ("", "/rooms/lobby/events"),
            ("", "/rooms/{room}/events"),
            ("", "/rooms/{name}/members"),
            ("", "/img-{id}.png"),
            ("", "/files/{*rest}"),
            ("", "/files/index"),
            ("a.example", "/rooms/{room_of_a}/events"),
        ]);
        for (host, path, expected) in [
            (
                "",
                "/rooms/lobby/events",
                Some(("/rooms/lobby/events", vec![])),
            ),
            (
                "",
                "/rooms/%6Cobby/events",
                Some(("/rooms/lobby/events", vec![])),
            ),
            (
                "",
                "/rooms/lobb/events",
                Some(("/rooms/{room}/events", vec!["lobb"])),
            ),
            (
                "",
                "/rooms/a%2fb/events",
                Some(("/rooms/{room}/events", vec!["a%2Fb"])),
            ),
            (
                "",
                "/rooms/lobby/members",
                Some(("/rooms/{name}/members", vec!["lobby"])),
            ),
            (
                "A.example",
                "/rooms/lobby/events",
                Some(("/rooms/{room_of_a}/events", vec!["lobby"])),
            ),
            (
                "a.example",
                "/rooms/x/members",
                Some(("/rooms/{name}/members", vec!["x"])),
            ),
            ("", "/img-7.png", Some(("/img-{id}.png", vec!["7"]))),
            ("", "/img-.png", None),
            ("", "/files/a/b/", Some(("/files/{*rest}", vec!["a/b/"]))),
            ("", "/files/index", Some(("/files/index", vec![]))),
            ("", "/files/", None),
            ("", "/rooms//events", None),
            ("", "/rooms/a/b/events", None),
            ("", "/rooms/x/events/", None),
            ("", "/rooms/%zz/events", None),
        ] {
            let expected = expected.map(|(path, values)| {
                let values = values.into_iter().map(str::to_owned).collect();
                (path.to_owned(), values)
            });
            assert_eq!(found(&routes, host, path), expected, "{host} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_segment_is_captured_as_it_is(value in "[a-zA-Z0-9._~%!$&\'()*+,;=:@-]{1,20}") {
            let routes = routes(&[("", "/a/{x}/b"), ("", "/{*all}")]);
            let Some(normal) = normalize_path(&value) else {
                prop_assert_eq!(found(&routes, "", &format!("/a/{value}/b")), None);
                return Ok(());
            };
            let expected = ("/a/{x}/b".to_owned(), vec![normal.into_owned()]);
            prop_assert_eq!(found(&routes, "", &format!("/a/{value}/b")), Some(expected));
        }

        #[test]
        fn no_path_panics(path in "/.{0,40}", host in ".{0,10}") {
            let routes = routes(&[("", "/a/{x}/b"), ("", "/{*all}"), ("", "/a/x-{y}.z")]);
            let _found = found(&routes, &host, &path);
        }
    }

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
