//! A configuration from a few command line options, without a file.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use crate::config::Admin;
use crate::config::Config;
use crate::config::ListenAddress;
use crate::config::Listener;
use crate::config::Origins;
use crate::config::ProxyProtocol;
use crate::config::Server;
use crate::config::StateKeeping;
use crate::config::diagnostics::Diagnostics;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::origin::AllowedOrigins;
use crate::config::path::ChannelPath;
use crate::config::places;
use crate::config::places::Placed;
use crate::config::proxy::UpstreamHost;
use crate::config::proxy_table;
use crate::config::proxy_url::WrittenUrl;
use crate::config::reader::FromText;
use crate::config::reader::Setting;
use crate::config::schema::Document;
use crate::config::schema::KeyTable;
use crate::config::schema::NamedChannel;
use crate::config::schema::NamedProxy;
use crate::config::schema::Place;
use crate::config::schema::ProxyTable;
use crate::config::schema::Settings;
use crate::config::url::UpstreamUrl;
use crate::config::url::credential_parameter;
use crate::config::validate;
use crate::config::values::OneOrMany;

/// One channel, named `events`, that pages of any origin may read; and one proxy, named `backend`, for
/// all other requests. One of them at least.
#[derive(Clone, Copy, Default)]
pub struct FileLess<'a> {
    /// `--upstream`; by default, with both of the next two, that path of that backend.
    pub upstream: Option<&'a str>,
    /// `--proxy`; by default nothing passes through.
    pub proxy: Option<&'a str>,
    /// `--path`; by default `/events`, with `--upstream`.
    pub path: Option<&'a str>,
    /// `--listen`; by default `127.0.0.1:8080`.
    pub listen: Option<&'a str>,
    /// `--admin`; by default, and where it is `off`, there is no admin listener, so that a second gateway needs no thought.
    pub admin: Option<&'a str>,
}

impl fmt::Debug for FileLess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a credential.
        let Self {
            upstream: _,
            proxy: _,
            path,
            listen,
            admin,
        } = self;
        f.debug_struct("FileLess")
            .field("path", path)
            .field("listen", listen)
            .field("admin", admin)
            .finish_non_exhaustive()
    }
}

impl FileLess<'_> {
    /// The configuration, with defaults for the rest.
    ///
    /// What a file is only warned of is refused here: there is no file to look at.
    pub(super) fn config(self) -> Result<Config, Diagnostics> {
        let mut findings = Findings::default();
        let channel = self.channel(&mut findings);
        let proxy = self.proxy.map(|url| backend(url, &mut findings));
        let listen: Setting<ListenAddress> = read(
            "--listen",
            self.listen.unwrap_or("127.0.0.1:8080"),
            &mut findings,
        );
        let admin: Option<Setting<ListenAddress>> = (self.admin.filter(|text| *text != "off"))
            .map(|text| read("--admin", text, &mut findings));
        let admin = admin.as_ref().and_then(Setting::written);
        let server = Server {
            // Who runs it by hand and ends it does not want to wait.
            drain: Duration::ZERO,
            state: StateKeeping::Off,
            ..validate::server(&Document::default().server, &mut findings)
        };
        let (mut channels, mut proxies) = (Vec::new(), Vec::new());
        if findings.list.is_empty() {
            let placed = (channel.iter().map(Placed::from)).chain(proxy.iter().map(Placed::from));
            places::distinct(placed.collect(), &mut findings);
            let channel = channel.and_then(|named| validate::channel(&named, &mut findings));
            let proxy = proxy.and_then(|named| proxy_table::meant(&named, &mut findings));
            channels.extend(channel.map(Arc::new));
            proxies.extend(proxy.map(Arc::new));
        }
        match listen.written() {
            Some(address) if findings.list.is_empty() => {
                let addresses = vec![address.clone()];
                let listeners = vec![Listener {
                    name: "public".to_owned(),
                    addresses,
                    tls: None,
                    proxy_protocol: ProxyProtocol::Off,
                }];
                Ok(Config {
                    server,
                    listeners,
                    admin: Admin {
                        addresses: admin.into_iter().cloned().collect(),
                    },
                    channels,
                    proxies,
                })
            }
            _ => Err(Diagnostics::placeless(findings.list)),
        }
    }
}

impl FileLess<'_> {
    /// The channel, if there is to be one.
    fn channel(self, findings: &mut Findings) -> Option<NamedChannel> {
        let at_the_backend = self.proxy.zip(self.path).map(|(backend, path)| {
            let backend = backend.strip_suffix('/').unwrap_or(backend);
            format!("{backend}{path}")
        });
        let url = self.upstream.map(str::to_owned).or(at_the_backend)?;
        let upstream: Setting<UpstreamUrl> = read("--upstream", &url, findings);
        let path = read("--path", self.path.unwrap_or("/events"), findings);
        refuse_credential(&upstream, findings);
        let mut settings = Settings::default();
        settings.cors.origins = written(AllowedOrigins(Origins::Any));
        let place = Place {
            path,
            host: Setting::Absent,
            key: KeyTable::default(),
            upstream: one(&upstream),
        };
        Some(NamedChannel {
            name: nowhere("events".to_owned()),
            place,
            settings,
        })
    }
}

/// The proxy for all that no channel is for.
fn backend(url: &str, findings: &mut Findings) -> NamedProxy {
    // As browsers write it, for the same.
    let url = url.strip_suffix('/').unwrap_or(url);
    let upstream: Setting<WrittenUrl> = read("--proxy", url, findings);
    if let Some(path) = upstream.written().and_then(WrittenUrl::path) {
        let place = url.strip_suffix(path).unwrap_or(url);
        let message = "a backend is named without a path: requests have theirs";
        let advice = format!("write `{place}`; a configuration file can ask for other paths");
        findings.error(0..0, Mistake::new(message, advice).of("--proxy"));
    }
    let is_elsewhere = (upstream.written()).is_some_and(|url| url.scheme().as_str() == "https");
    let table = ProxyTable {
        path: written(ChannelPath("/{*rest}".to_owned())),
        upstream: one(&upstream),
        upstream_host: written(if is_elsewhere {
            // A server that others run answers to its own name.
            UpstreamHost::Upstream
        } else {
            UpstreamHost::Client
        }),
        ..ProxyTable::default()
    };
    NamedProxy {
        name: nowhere("backend".to_owned()),
        table,
    }
}

fn read<T: FromText>(flag: &str, text: &str, findings: &mut Findings) -> Setting<T> {
    match T::from_text(text) {
        Ok(value) => written(value),
        Err(mistake) => {
            findings.error(0..0, mistake.of(flag));
            Setting::Wrong
        }
    }
}

fn refuse_credential(upstream: &Setting<UpstreamUrl>, findings: &mut Findings) {
    let Some(UpstreamUrl(url)) = upstream.written() else {
        return;
    };
    if let Some(name) = credential_parameter(url) {
        let message = format!("the query parameter `{name}` looks like a credential");
        let advice = format!(
            "everybody who can reach the gateway could read what it can; use a configuration file\n\
             for `{}`, which says who may subscribe (`access`)",
            url.shown(),
        );
        findings.error(0..0, Mistake::new(message, advice).of("--upstream"));
    }
}

/// As a list of one.
fn one<T: Clone>(upstream: &Setting<T>) -> Setting<OneOrMany<T>> {
    match upstream.written() {
        Some(url) => written(OneOrMany(vec![nowhere(url.clone())])),
        None => Setting::Wrong,
    }
}

fn written<T>(value: T) -> Setting<T> {
    Setting::Written(nowhere(value))
}

/// Without a file there are no places; `Diagnostics::placeless` shows none.
fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
