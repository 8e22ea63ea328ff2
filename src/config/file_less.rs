//! A configuration from three command line options, without a file.

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
use crate::config::reader::FromText;
use crate::config::reader::Setting;
use crate::config::schema::Document;
use crate::config::schema::KeyTable;
use crate::config::schema::NamedChannel;
use crate::config::schema::Place;
use crate::config::schema::Settings;
use crate::config::url::UpstreamUrl;
use crate::config::url::credential_parameter;
use crate::config::validate;
use crate::config::values::OneOrMany;

/// One channel, named `events`, that pages of any origin may read.
#[derive(Clone, Copy)]
pub struct FileLess<'a> {
    /// `--upstream`
    pub upstream: &'a str,
    /// `--path`; by default `/events`.
    pub path: Option<&'a str>,
    /// `--listen`; by default `127.0.0.1:8080`.
    pub listen: Option<&'a str>,
    /// `--admin`; by default there is no admin listener, so that a second gateway needs no thought.
    pub admin: Option<&'a str>,
}

impl fmt::Debug for FileLess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a credential.
        let Self {
            upstream: _,
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
        let upstream: Setting<UpstreamUrl> = read("--upstream", self.upstream, &mut findings);
        let path: Setting<ChannelPath> =
            read("--path", self.path.unwrap_or("/events"), &mut findings);
        let listen: Setting<ListenAddress> = read(
            "--listen",
            self.listen.unwrap_or("127.0.0.1:8080"),
            &mut findings,
        );
        let admin: Option<Setting<ListenAddress>> =
            self.admin.map(|text| read("--admin", text, &mut findings));
        let admin = admin.as_ref().and_then(Setting::written);
        refuse_credential(&upstream, &mut findings);

        let mut settings = Settings::default();
        settings.cors.origins = written(AllowedOrigins(Origins::Any));
        let place = Place {
            path,
            host: Setting::Absent,
            key: KeyTable::default(),
            upstream: one(&upstream),
        };
        let named = NamedChannel {
            name: nowhere("events".to_owned()),
            place,
            settings,
        };
        let server = Server {
            // Who runs it by hand and ends it does not want to wait.
            drain: Duration::ZERO,
            state: StateKeeping::Off,
            ..validate::server(&Document::default().server, &mut findings)
        };
        let has_no_mistake = findings.list.is_empty();
        let channel = has_no_mistake
            .then(|| validate::channel(&named, &mut findings))
            .flatten();
        match (channel, listen.written()) {
            (Some(channel), Some(address)) if findings.list.is_empty() => {
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
                    channels: vec![Arc::new(channel)],
                    proxies: Vec::new(),
                })
            }
            _ => Err(Diagnostics::placeless(findings.list)),
        }
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
fn one(upstream: &Setting<UpstreamUrl>) -> Setting<OneOrMany<UpstreamUrl>> {
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
