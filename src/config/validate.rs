//! Turns what a file says into what is meant: defaults resolved, and nothing that contradicts.
//!
//! All defaults are here, beside their keys, or in `defaults` if checks need them too, and again in `config/ssecast.toml`, which a test
//! compares. What is checked of single values is in `bounds`, between them in
//! `checks`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Channel;
use crate::config::Compression;
use crate::config::Config;
use crate::config::ConflateBy;
use crate::config::Connect;
use crate::config::Cors;
use crate::config::Credentials;
use crate::config::CursorOnConnect;
use crate::config::End;
use crate::config::Heartbeat;
use crate::config::HeartbeatForm;
use crate::config::History;
use crate::config::Http2;
use crate::config::Ids;
use crate::config::Join;
use crate::config::Lag;
use crate::config::LatestLimits;
use crate::config::ListenAddress;
use crate::config::Listener;
use crate::config::Notices;
use crate::config::OnGap;
use crate::config::OnLag;
use crate::config::OnNewUrl;
use crate::config::Origins;
use crate::config::Ready;
use crate::config::Refuse;
use crate::config::SelectEvents;
use crate::config::Server;
use crate::config::StateKeeping;
use crate::config::StatusPolicies;
use crate::config::TrustedProxies;
use crate::config::UnknownPath;
use crate::config::Upstream;
use crate::config::UpstreamHttp;
use crate::config::WhileDown;
use crate::config::admin;
use crate::config::admission;
use crate::config::bounds;
use crate::config::bundle;
use crate::config::checks;
use crate::config::defaults;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::key_table;
use crate::config::listen_tls;
use crate::config::origin::AllowedOrigins;
use crate::config::places;
use crate::config::places::Placed;
use crate::config::proxy_doubts;
use crate::config::proxy_table;
use crate::config::reader::Table as _;
use crate::config::schema::CorsTable;
use crate::config::schema::Document;
use crate::config::schema::Http2Table;
use crate::config::schema::NamedBundle;
use crate::config::schema::NamedChannel;
use crate::config::schema::NamedListener;
use crate::config::schema::ServerTable;
use crate::config::schema::Settings;
use crate::config::stop;
use crate::config::units::Bytes;
use crate::config::upstream_tls;
use crate::config::upstream_urls;
use crate::config::url::UrlTemplate;
use crate::config::values::Count;
use crate::config::values::OrNever;

const LISTENER_EXAMPLE: &str = "\
[listen.public]
address = \"127.0.0.1:8080\"";

const CHANNEL_EXAMPLE: &str = "\
[channels.events]
path = \"/events\"
upstream = \"http://127.0.0.1:3000/events\"";

/// The configuration that a document means; of use only if no finding is an error.
pub(super) fn config(document: Document, findings: &mut Findings) -> Config {
    check_presence(&document, findings);
    bounds::settings(&document.defaults, findings);

    let mut channels = Vec::new();
    for mut channel in document.channels.unwrap_or_default() {
        checks::own_cors(&channel.settings.cors, &document.defaults.cors, findings);
        channel.settings = channel.settings.inherit(&document.defaults);
        channels.push(channel);
    }
    let mut bundles = document.bundles;
    for bundle in &mut bundles {
        let named = &mut bundle.channel;
        checks::own_cors(&named.settings.cors, &document.defaults.cors, findings);
        bundle::check_own(bundle, findings);
        let settings = std::mem::take(&mut bundle.channel.settings);
        bundle.channel.settings = settings.inherit(&document.defaults);
    }
    let proxies = document.proxies.unwrap_or_default();
    let placed: Vec<Placed<'_>> = (channels.iter())
        .chain(bundles.iter().map(|bundle| &bundle.channel))
        .map(Placed::from)
        .chain(proxies.iter().map(Placed::from))
        .collect();
    places::distinct(placed, findings);
    stop::check(&document.server, &channels, findings);

    let server = server(&document.server, findings);
    let admin = admin::admin(&document.admin, document.listeners.as_deref(), findings);
    let listeners = listeners(
        document.listeners.unwrap_or_default(),
        &server.trusted_proxies,
        findings,
    );
    let mut config = Config {
        server,
        admin,
        listeners,
        channels: all_channels((&channels, &bundles), findings),
        proxies: (proxies.iter())
            .filter_map(|named| proxy_table::meant(named, findings).map(Arc::new))
            .collect(),
    };
    config.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    config.channels.sort_by(|a, b| a.name.cmp(&b.name));
    config.proxies.sort_by(|a, b| a.name.cmp(&b.name));
    proxy_doubts::check(&config, &proxies, findings);
    checks::memory(&config, &document.server, findings);
    config
}

/// The channels and the bundles.
fn all_channels(
    (channels, bundles): (&[NamedChannel], &[NamedBundle]),
    findings: &mut Findings,
) -> Vec<Arc<Channel>> {
    let mut all: Vec<Channel> = (channels.iter())
        .filter_map(|named| channel(named, findings))
        .collect();
    let mut meant = Vec::new();
    for named in bundles {
        let settings = &named.channel.settings;
        bounds::settings(settings, findings);
        checks::between_settings(settings, findings);
        checks::place(
            &named.channel.place.path,
            &named.channel.place.host,
            findings,
        );
        let Some(bundle) = bundle::meant(named, channels, &all, findings) else {
            continue;
        };
        let made = self::meant(&named.channel, upstream(&named.channel, Vec::new()));
        meant.extend(made.map(|made| Channel {
            bundle: Some(bundle),
            connect: Connect::Eager,
            ..made
        }));
    }
    for one in &meant {
        let selects = one.select_events == SelectEvents::Allow;
        let members = one.bundle.iter().flat_map(|bundle| &bundle.channels);
        for member in members.filter(|_| selects) {
            for channel in all.iter_mut().filter(|channel| channel.name == *member) {
                channel.tells_types = true;
            }
        }
    }
    all.extend(meant);
    all.into_iter().map(Arc::new).collect()
}

/// The channel that its tables mean, defaults inherited; `None`: something that it must say is
/// missing or wrong, which is reported.
pub(super) fn channel(named: &NamedChannel, findings: &mut Findings) -> Option<Channel> {
    let NamedChannel {
        name,
        place,
        settings: s,
    } = named;
    bounds::settings(s, findings);
    checks::between_settings(s, findings);
    upstream_tls::check(&s.upstream_tls, findings);
    checks::place(&place.path, &place.host, findings);
    upstream_urls::check(place, findings);
    key_table::check(named, findings);
    checks::access(named, findings);
    let name = name.get_ref();
    for (key, is_absent, example) in [
        ("path", place.path.is_absent(), format!("\"/{name}\"")),
        (
            "upstream",
            place.upstream.is_absent(),
            format!("\"http://127.0.0.1:3000/{name}\""),
        ),
    ] {
        if is_absent {
            let message = format!("the channel `{name}` has no `{key}`");
            let advice = format!("add a line like `{key} = {example}`");
            findings.missing(Some(named.name_span()), Mistake::new(message, advice));
        }
    }

    let urls = upstream_urls::meant(place)?;
    meant(named, upstream(named, urls))
}

/// What the tables of a channel mean, of which everything is checked.
fn meant(named: &NamedChannel, upstream: Upstream) -> Option<Channel> {
    let NamedChannel {
        name,
        place,
        settings: s,
    } = named;
    let key = key_table::meant(named);
    let hosts = place.host.written().map_or(&[][..], |hosts| &hosts.0);
    let join = s.join.get_or(Join::Live);
    let lag = lag(s);
    let select_events = s.select_events.get_or(SelectEvents::Ignore);
    Some(Channel {
        name: name.get_ref().clone(),
        bundle: None,
        path: place.path.written()?.0.clone(),
        connect: s.connect.get_or(if key.is_empty() {
            Connect::Eager
        } else {
            Connect::OnDemand
        }),
        key,
        linger: s.linger.get_or(Duration::from_secs(30)),
        first_answer: s.first_answer.get_or(Duration::from_secs(2)),
        max_instances: s.max_instances.get_or(Count(10_000)).0,
        hosts: hosts.iter().map(|host| host.get_ref().0.clone()).collect(),
        upstream,
        ids: s.ids.get_or(Ids::Fill),
        history: history(s),
        join,
        on_gap: s.on_gap.get_or(match (join, lag.then) {
            // Whoever builds on the state wants it again.
            (Join::Latest, _) | (_, OnLag::Conflate) => OnGap::Latest,
            (Join::All | Join::Live | Join::Newest(_), _) => OnGap::All,
        }),
        conflate_by: (s.conflate_by.written().cloned()).unwrap_or(ConflateBy::Type),
        latest: LatestLimits {
            keys: s.latest.keys.get_or(Count(10_000)).0,
            bytes: s.latest.bytes.get_or(Bytes::mib(4)).0,
        },
        heartbeat: Heartbeat {
            interval: s.heartbeat.get_or(OrNever(Some(Duration::from_secs(15)))).0,
            form: s.heartbeat_form.get_or(HeartbeatForm::Comment),
        },
        retry: s.retry.min.get_or(defaults::RETRY_MIN)..=s.retry.max.get_or(defaults::RETRY_MAX),
        cursor_on_connect: s.cursor_on_connect.get_or(CursorOnConnect::Omit),
        notices: s.notices.get_or(Notices::Losses),
        coalesce: s.coalesce.get_or(Duration::ZERO),
        lag,
        write_timeout: (s.write_timeout)
            .get_or(OrNever(Some(Duration::from_secs(30))))
            .0,
        end: s.end.get_or(End::Cut),
        while_down: s.while_down.get_or(WhileDown::Hold),
        refuse: s.refuse.get_or(Refuse::Retry),
        max_subscribers: s.max_subscribers.written().map(|count| count.0),
        max_age: s.max_age.get_or(OrNever(None)).0,
        select_events,
        max_views: s.max_views.get_or(Count(100)).0,
        tells_types: select_events == SelectEvents::Allow,
        cors: cors(&s.cors),
        ready: s.ready.get_or(Ready::Always),
        access: s.access.written().copied(),
    })
}

fn history(s: &Settings) -> History {
    let age = OrNever(Some(Duration::from_secs(600)));
    History {
        events: s.history.events.get_or(defaults::HISTORY_EVENTS).0,
        bytes: s.history.bytes.get_or(defaults::HISTORY_BYTES).0,
        age: s.history.age.get_or(age).0,
    }
}

fn lag(s: &Settings) -> Lag {
    // Nobody can lag beyond what is kept.
    let kept = s.history.bytes.get_or(defaults::HISTORY_BYTES);
    Lag {
        limit_bytes: s.lag.limit.get_or(defaults::LAG_LIMIT.min(kept)).0,
        limit_events: s.lag.events.written().map(|count| count.0),
        limit_age: s.lag.age.get_or(OrNever(None)).0,
        then: s.lag.then.get_or(OnLag::Disconnect),
    }
}

fn upstream(named: &NamedChannel, urls: Vec<UrlTemplate>) -> Upstream {
    let s: &Settings = &named.settings;
    Upstream {
        urls,
        on_new_url: s.same_source.get_or(OnNewUrl::BeginEpoch),
        headers: s.upstream_headers.written().cloned().unwrap_or_default().0,
        http: s.upstream_http.get_or(UpstreamHttp::One),
        tls: upstream_tls::meant(&s.upstream_tls),
        connect_timeout: s.connect_timeout.get_or(Duration::from_secs(5)),
        header_timeout: s.response_timeout.get_or(Duration::from_secs(10)),
        idle_timeout: s.idle_timeout.get_or(Duration::from_secs(60)),
        return_after: s
            .return_after
            .get_or(OrNever(Some(Duration::from_secs(30))))
            .0,
        on_status: s.on_status.get_or(StatusPolicies::default()),
        compression: s.upstream_compression.get_or(Compression::Decline),
        backoff: s.backoff.first.get_or(defaults::BACKOFF_FIRST)
            ..=s.backoff.max.get_or(defaults::BACKOFF_MAX),
        max_redirects: s.max_redirects.get_or(Count(5)).0,
        max_line_bytes: s.max_line_bytes.get_or(Bytes::mib(1)).0,
        max_event_bytes: s.max_event_bytes.get_or(defaults::MAX_EVENT_BYTES).0,
    }
}

/// An empty list of origins is how a channel says that it does not inherit any.
fn cors(table: &CorsTable) -> Option<Cors> {
    let AllowedOrigins(origins) = table.origins.written()?;
    if matches!(origins, Origins::Listed(list) if list.is_empty()) {
        return None;
    }
    let credentials = table.credentials.get_or(Credentials::Omit);
    Some(Cors {
        origins: origins.clone(),
        credentials,
    })
}

pub(super) fn server(table: &ServerTable, findings: &mut Findings) -> Server {
    bounds::server(table, findings);
    Server {
        threads: Some(table.threads.get_or(Count(0)).0).filter(|threads| *threads > 0),
        max_connections: table.max_connections.written().map(|count| count.0),
        connection_rate: admission::connection_rate(table, findings),
        address_limits: admission::address_limits(table, findings),
        trusted_proxies: admission::trusted_proxies(table, findings),
        memory: table.memory.get_or(defaults::MEMORY).0,
        handshake_timeout: table.handshake_timeout.get_or(Duration::from_secs(10)),
        header_timeout: table.header_timeout.get_or(Duration::from_secs(10)),
        max_header_bytes: table.max_header_bytes.get_or(Bytes::kib(16)).0,
        drain: table.drain.get_or(defaults::DRAIN),
        state: table
            .state
            .written()
            .cloned()
            .unwrap_or(StateKeeping::Managed),
        unknown_path: table.unknown_path.get_or(UnknownPath::SayNothing),
        http2: http2(&table.http2),
    }
}

fn http2(table: &Http2Table) -> Http2 {
    let Count(streams) = table.max_concurrent_streams.get_or(Count(256));
    Http2 {
        max_concurrent_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        ping_interval: table
            .ping_interval
            .get_or(OrNever(Some(Duration::from_secs(30))))
            .0,
        ping_timeout: table.ping_timeout.get_or(Duration::from_secs(10)),
        idle_timeout: table.idle_timeout.get_or(Duration::from_secs(60)),
    }
}

fn listeners(
    tables: Vec<NamedListener>,
    trusted: &TrustedProxies,
    findings: &mut Findings,
) -> Vec<Listener> {
    let mut bound: Vec<(ListenAddress, Range<usize>)> = Vec::new();
    let mut listeners = Vec::new();
    for NamedListener { name, table } in tables {
        if table.address.is_absent() {
            let message = format!("the listener `{}` has no `address`", name.get_ref());
            let advice = "add a line like `address = \"127.0.0.1:8080\"`";
            findings.missing(Some(name.span()), Mistake::new(message, advice));
        }
        let written = table.address.written().map_or(&[][..], |list| &list.0);
        if let (Some(span), []) = (table.address.span(), written) {
            let mistake = Mistake::new("the list is empty", "name at least one address");
            findings.error(span, mistake.of("address"));
        }
        let mut addresses = Vec::new();
        for address in written {
            let span = address.span();
            let address = address.get_ref();
            // Port 0 is another port each time.
            let is_any_port = matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
            let earlier = bound
                .iter()
                .find(|(other, _)| other == address && !is_any_port);
            if let Some((_, first)) = earlier {
                let mistake = Mistake::new("this address is given twice", "remove one of them");
                let finding = Finding::new(Severity::Error, Some(span), mistake.of("address"));
                findings.push(finding.with_note("it is given first here", first.clone()));
            } else {
                bound.push((address.clone(), span));
            }
            addresses.push(address.clone());
        }
        listeners.push(Listener {
            tls: listen_tls::meant(&table, findings),
            proxy_protocol: admission::proxy_protocol(&table, trusted, findings),
            name: name.into_inner(),
            addresses,
        });
    }
    listeners
}

/// The least that a file can say.
pub(super) fn example() -> String {
    format!("{LISTENER_EXAMPLE}\n\n{CHANNEL_EXAMPLE}")
}

/// Reports what no file can do without.
fn check_presence(document: &Document, findings: &mut Findings) {
    let has_listener = document.listeners.is_some();
    let has_channel = document.channels.is_some() || document.proxies.is_some();
    let (message, example) = match (has_listener, has_channel) {
        (true, true) => return,
        (true, false) => (
            "there is no channel and no proxy",
            CHANNEL_EXAMPLE.to_owned(),
        ),
        (false, true) => ("there is no listener", LISTENER_EXAMPLE.to_owned()),
        (false, false) => ("there is no listener, and no channel or proxy", example()),
    };
    findings.missing(None, Mistake::new(message, format!("add:\n\n{example}")));
}
