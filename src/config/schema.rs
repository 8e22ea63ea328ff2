//! The keys of the configuration: what a file may say, as it says it.
//!
//! A new key is a line in one of these tables and a paragraph in `config/ssecast.toml`; its type
//! says how it is read (`values`), `validate` what it means. Nothing here knows a default.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use crate::config::ListenAddress;
use crate::config::StateKeeping;
use crate::config::StatusPolicies;
use crate::config::UnknownPath;
use crate::config::admin::AdminAddresses;
use crate::config::admission::ProxyProtocol;
use crate::config::admission::TrustedProxy;
use crate::config::bundle::ChannelName;
use crate::config::channel::Access;
use crate::config::channel::Compression;
use crate::config::channel::ConflateBy;
use crate::config::channel::Connect;
use crate::config::channel::Credentials;
use crate::config::channel::CursorOnConnect;
use crate::config::channel::End;
use crate::config::channel::EventTypes;
use crate::config::channel::HeartbeatForm;
use crate::config::channel::Ids;
use crate::config::channel::Join;
use crate::config::channel::Notices;
use crate::config::channel::OnGap;
use crate::config::channel::OnLag;
use crate::config::channel::OnNewUrl;
use crate::config::channel::Ready;
use crate::config::channel::Refuse;
use crate::config::channel::SelectEvents;
use crate::config::channel::UpstreamHttp;
use crate::config::channel::WhileDown;
use crate::config::file_path::FilePath;
use crate::config::findings::Findings;
use crate::config::header::Headers;
use crate::config::host::HostName;
use crate::config::include::IncludePattern;
use crate::config::key_table::FieldName;
use crate::config::key_table::ParameterName;
use crate::config::origin::AllowedOrigins;
use crate::config::path::ChannelPath;
use crate::config::proxy::ForwardedFields;
use crate::config::proxy::UpstreamHost;
use crate::config::proxy_table::ProxyHeaders;
use crate::config::proxy_table::UpgradeToken;
use crate::config::proxy_url::WrittenUrl;
use crate::config::reader::Setting;
use crate::config::reader::Table;
use crate::config::reader::TableReader;
use crate::config::units::Bytes;
use crate::config::upstream_tls::Verification;
use crate::config::url::UpstreamUrl;
use crate::config::values::Count;
use crate::config::values::OneOrMany;
use crate::config::values::OrNever;

/// Defines a table by its keys, and the tables in it.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident { $($key:ident: $type:ty,)* }
        $(tables { $($inner:ident: $table:ty,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name {
            $(pub(super) $key: Setting<$type>,)*
            $($(pub(super) $inner: $table,)*)?
        }

        impl $name {
            /// Reads the keys and leaves others to whoever finishes the reader.
            pub(super) fn take(reader: &mut TableReader<'_, '_>) -> Self {
                Self {
                    $($key: reader.take(stringify!($key)),)*
                    $($($inner: reader.take_table(stringify!($inner)),)*)?
                }
            }
        }

        impl Table for $name {
            const KEYS: &'static [&'static str] =
                &[$(stringify!($key),)* $($(stringify!($inner),)*)?];

            fn read_table(reader: &mut TableReader<'_, '_>) -> Self {
                let table = Self::take(reader);
                reader.finish(PLACES);
                table
            }

            fn inherit(self, defaults: &Self) -> Self {
                Self {
                    $($key: self.$key.or(&defaults.$key),)*
                    $($($inner: self.$inner.inherit(&defaults.$inner),)*)?
                }
            }
        }
    };
}

table! {
    /// `[server]`
    ServerTable {
        threads: Count,
        max_connections: Count,
        connection_rate: ConnectionRateTable,
        max_connections_per_address: Count,
        max_connections_per_network: NetworkLimitTable,
        trusted_proxies: OneOrMany<TrustedProxy>,
        memory: Bytes,
        handshake_timeout: Duration,
        header_timeout: Duration,
        max_header_bytes: Bytes,
        drain: Duration,
        state: StateKeeping,
        unknown_path: UnknownPath,
    }
    tables {
        http2: Http2Table,
    }
}

table! {
    /// `connection_rate`
    ConnectionRateTable {
        per_second: Count,
        burst: Count,
        queue: Count,
    }
}

table! {
    /// `max_connections_per_network`
    NetworkLimitTable {
        max: Count,
        ipv4: Count,
        ipv6: Count,
    }
}

table! {
    /// `http2`
    Http2Table {
        max_concurrent_streams: Count,
        ping_interval: OrNever<Duration>,
        ping_timeout: Duration,
        idle_timeout: Duration,
    }
}

table! {
    /// `[listen.NAME]`
    ListenTable {
        address: OneOrMany<ListenAddress>,
        tls: OneOrMany<CertificateTable>,
        proxy_protocol: ProxyProtocol,
    }
}

table! {
    /// `tls` of a listener: one certificate
    CertificateTable {
        certificate: FilePath,
        key: FilePath,
    }
}

table! {
    /// `[admin]`
    AdminTable {
        address: AdminAddresses,
    }
}

table! {
    /// `[channels.NAME]`: what every channel says for itself.
    Place {
        path: ChannelPath,
        host: OneOrMany<HostName>,
        upstream: OneOrMany<UpstreamUrl>,
    }
    tables {
        key: KeyTable,
    }
}

table! {
    /// `key`
    KeyTable {
        query: OneOrMany<ParameterName>,
        headers: OneOrMany<FieldName>,
    }
}

table! {
    /// `[proxies.NAME]`
    ProxyTable {
        path: ChannelPath,
        host: OneOrMany<HostName>,
        upstream: OneOrMany<WrittenUrl>,
        upstream_headers: ProxyHeaders,
        upstream_http: UpstreamHttp,
        upstream_host: UpstreamHost,
        forwarded: ForwardedFields,
        connect_timeout: Duration,
        response_timeout: OrNever<Duration>,
        idle_timeout: OrNever<Duration>,
        max_request_bytes: OrNever<Bytes>,
        max_requests: Count,
        upgrade: OneOrMany<UpgradeToken>,
        max_tunnels: Count,
        tunnel_idle_timeout: OrNever<Duration>,
        max_idle_connections: Count,
        keep_alive: Duration,
        heartbeat: OrNever<Duration>,
        access: Access,
    }
    tables {
        upstream_tls: UpstreamTlsTable,
    }
}

table! {
    /// `[bundles.NAME]`: what every bundle says for itself.
    BundleTable {
        channels: OneOrMany<ChannelName>,
        event_types: EventTypes,
    }
}

table! {
    /// `[channels.NAME]` and `[defaults]`: what a channel may inherit.
    Settings {
        connect: Connect,
        linger: Duration,
        first_answer: Duration,
        max_instances: Count,
        same_source: OnNewUrl,
        upstream_headers: Headers,
        upstream_http: UpstreamHttp,
        connect_timeout: Duration,
        response_timeout: Duration,
        idle_timeout: Duration,
        return_after: OrNever<Duration>,
        on_status: StatusPolicies,
        upstream_compression: Compression,
        max_redirects: Count,
        max_line_bytes: Bytes,
        max_event_bytes: Bytes,
        ids: Ids,
        join: Join,
        on_gap: OnGap,
        conflate_by: ConflateBy,
        heartbeat: OrNever<Duration>,
        heartbeat_form: HeartbeatForm,
        cursor_on_connect: CursorOnConnect,
        notices: Notices,
        coalesce: Duration,
        write_timeout: OrNever<Duration>,
        end: End,
        while_down: WhileDown,
        refuse: Refuse,
        max_subscribers: Count,
        max_age: OrNever<Duration>,
        select_events: SelectEvents,
        max_views: Count,
        ready: Ready,
        access: Access,
    }
    tables {
        upstream_tls: UpstreamTlsTable,
        backoff: BackoffTable,
        history: HistoryTable,
        latest: LatestTable,
        retry: RetryTable,
        lag: LagTable,
        cors: CorsTable,
    }
}

table! {
    /// `upstream_tls`
    UpstreamTlsTable {
        ca: FilePath,
        certificate: FilePath,
        key: FilePath,
        server_name: HostName,
        dangerously_skip_verification: Verification,
    }
}

table! {
    /// `backoff`
    BackoffTable {
        first: Duration,
        max: Duration,
    }
}

table! {
    /// `history`
    HistoryTable {
        events: Count,
        bytes: Bytes,
        age: OrNever<Duration>,
    }
}

table! {
    /// `latest`
    LatestTable {
        keys: Count,
        bytes: Bytes,
    }
}

table! {
    /// `retry`
    RetryTable {
        min: Duration,
        max: Duration,
    }
}

table! {
    /// `lag`
    LagTable {
        limit: Bytes,
        events: Count,
        age: OrNever<Duration>,
        then: OnLag,
    }
}

table! {
    /// `cors`
    CorsTable {
        origins: AllowedOrigins,
        credentials: Credentials,
    }
}

/// Where each key is at home, for those who put it elsewhere.
pub(super) const PLACES: &[(&str, &[&str])] = &[
    ("in `[server]`", ServerTable::KEYS),
    ("in `connection_rate`", ConnectionRateTable::KEYS),
    ("in `max_connections_per_network`", NetworkLimitTable::KEYS),
    ("in `http2`", Http2Table::KEYS),
    ("in `[listen.NAME]`", ListenTable::KEYS),
    ("in `tls` of `[listen.NAME]`", CertificateTable::KEYS),
    ("in `[admin]`", AdminTable::KEYS),
    ("in `[channels.NAME]`", Place::KEYS),
    ("in `[bundles.NAME]`", BundleTable::KEYS),
    ("in `key` of `[channels.NAME]`", KeyTable::KEYS),
    ("in `[channels.NAME]` or `[defaults]`", Settings::KEYS),
    ("in `[proxies.NAME]`", ProxyTable::KEYS),
    ("in `upstream_tls`", UpstreamTlsTable::KEYS),
    ("in `backoff`", BackoffTable::KEYS),
    ("in `history`", HistoryTable::KEYS),
    ("in `latest`", LatestTable::KEYS),
    ("in `retry`", RetryTable::KEYS),
    ("in `lag`", LagTable::KEYS),
    ("in `cors`", CorsTable::KEYS),
    (
        "at the top of the file, in a table of its own",
        &[
            "server", "listen", "admin", "defaults", "channels", "bundles", "proxies",
        ],
    ),
    ("at the top of the file, before all tables", TOP_KEYS),
];

/// Keys that stand in no table.
pub(super) const TOP_KEYS: &[&str] = &["include"];

/// A whole file.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) server: ServerTable,
    /// `None`: no `[listen.NAME]` at all.
    pub(super) listeners: Option<Vec<NamedListener>>,
    pub(super) admin: AdminTable,
    pub(super) defaults: Settings,
    /// `None`: no `[channels.NAME]` at all.
    pub(super) channels: Option<Vec<NamedChannel>>,
    pub(super) bundles: Vec<NamedBundle>,
    /// `None`: no `[proxies.NAME]` at all.
    pub(super) proxies: Option<Vec<NamedProxy>>,
}

/// `[listen.NAME]` with its name.
#[derive(Debug)]
pub(super) struct NamedListener {
    pub(super) name: Spanned<String>,
    pub(super) table: ListenTable,
}

/// `[bundles.NAME]` with its name.
#[derive(Debug)]
pub(super) struct NamedBundle {
    pub(super) own: BundleTable,
    /// What it has as a channel has it.
    pub(super) channel: NamedChannel,
}

/// `[proxies.NAME]` with its name.
#[derive(Debug)]
pub(super) struct NamedProxy {
    pub(super) name: Spanned<String>,
    pub(super) table: ProxyTable,
}

/// `[channels.NAME]` with its name.
#[derive(Debug, Clone)]
pub(super) struct NamedChannel {
    pub(super) name: Spanned<String>,
    pub(super) place: Place,
    pub(super) settings: Settings,
}

impl Document {
    pub(super) fn read(table: &DeTable<'_>, findings: &mut Findings) -> Self {
        let mut reader = TableReader::document(table, findings);
        // Its files are here already.
        drop(reader.take::<OneOrMany<IncludePattern>>("include"));
        let server = reader.take_section("server");
        let admin = reader.take_section("admin");
        let defaults = reader.take_section("defaults");
        let mut listeners = reader.take_named("listen", NamedListener::read);
        let mut channels = reader.take_named("channels", NamedChannel::read);
        let bundles = reader.take_named("bundles", NamedBundle::read);
        let mut proxies = reader.take_named("proxies", NamedProxy::read);
        reader.finish(PLACES);
        if reader.is_misspelt("listen") {
            listeners.get_or_insert_default();
        }
        if reader.is_misspelt("channels") {
            channels.get_or_insert_default();
        }
        if reader.is_misspelt("proxies") {
            proxies.get_or_insert_default();
        }
        Self {
            server,
            listeners,
            admin,
            defaults,
            channels,
            bundles: bundles.unwrap_or_default(),
            proxies,
        }
    }
}

impl NamedListener {
    fn read(name: &Spanned<String>, reader: &mut TableReader<'_, '_>) -> Self {
        let mut table = ListenTable::read_table(reader);
        table.address = reader.forgive("address", table.address);
        Self {
            name: name.clone(),
            table,
        }
    }
}

impl NamedProxy {
    fn read(name: &Spanned<String>, reader: &mut TableReader<'_, '_>) -> Self {
        let mut table = ProxyTable::read_table(reader);
        table.path = reader.forgive("path", table.path);
        table.upstream = reader.forgive("upstream", table.upstream);
        Self {
            name: name.clone(),
            table,
        }
    }
}

impl NamedBundle {
    fn read(name: &Spanned<String>, reader: &mut TableReader<'_, '_>) -> Self {
        Self {
            own: BundleTable::take(reader),
            channel: NamedChannel::read(name, reader),
        }
    }
}

impl NamedChannel {
    fn read(name: &Spanned<String>, reader: &mut TableReader<'_, '_>) -> Self {
        let mut place = Place::take(reader);
        let settings = Settings::read_table(reader);
        place.path = reader.forgive("path", place.path);
        place.upstream = reader.forgive("upstream", place.upstream);
        Self {
            name: name.clone(),
            place,
            settings,
        }
    }

    pub(super) fn name_span(&self) -> Range<usize> {
        self.name.span()
    }
}
