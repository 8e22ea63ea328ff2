//! The configuration as it is meant: every default resolved, every value checked.
//!
//! What a user wrote (`schema`) becomes a [`Config`] in one fallible step (`validate`) that reports
//! every mistake at once, each with its place in the file ([`Diagnostics`]). Nothing here opens a
//! socket or reads a clock; [`Config::load`] reads the file and does no other I/O.
//!
//! To add a key: a line in a table of `schema`, what it means in `validate`, and what it is for in
//! `config/ssecast.toml`; tests say what is missing.
//!
//! No credential is ever shown, neither by `Debug` nor by a diagnostic.

use std::fs;
use std::io;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use crate::config::findings::Findings;
use crate::config::schema::Document;
use crate::config::snippet::Part;
use crate::config::snippet::Source;

mod address;
mod admin;
mod admission;
mod bounds;
mod bundle;
mod channel;
mod checks;
mod credential;
mod defaults;
mod diagnostics;
pub mod diff;
mod file_less;
mod file_path;
mod findings;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod header;
mod host;
mod include;
mod json_pointer;
mod key;
mod key_table;
mod listen_tls;
mod machine;
mod on_status;
mod origin;
mod path;
mod places;
mod proxy;
mod proxy_doubts;
mod proxy_table;
mod proxy_url;
mod reader;
mod router;
mod schema;
mod snippet;
mod state;
mod stop;
mod suggestion;
mod syntax;
mod template;
#[cfg(test)]
mod tests;
mod units;
mod upstream_tls;
mod upstream_urls;
mod url;
mod validate;
mod values;

pub use self::admin::Admin;
pub use self::admission::AddressLimits;
pub use self::admission::ConnectionRate;
pub use self::admission::NetworkLimit;
pub use self::admission::ProxyProtocol;
pub use self::admission::TrustedProxies;
pub use self::channel::Access;
pub use self::channel::Bundle;
pub use self::channel::Channel;
pub use self::channel::Compression;
pub use self::channel::ConflateBy;
pub use self::channel::Connect;
pub use self::channel::Cors;
pub use self::channel::Credentials;
pub use self::channel::CursorOnConnect;
pub use self::channel::End;
pub use self::channel::EventTypes;
pub use self::channel::Heartbeat;
pub use self::channel::HeartbeatForm;
pub use self::channel::History;
pub use self::channel::Ids;
pub use self::channel::Join;
pub use self::channel::Keying;
pub use self::channel::Lag;
pub use self::channel::LatestLimits;
pub use self::channel::Notices;
pub use self::channel::OnGap;
pub use self::channel::OnLag;
pub use self::channel::OnNewUrl;
pub use self::channel::Origins;
pub use self::channel::Ready;
pub use self::channel::Refuse;
pub use self::channel::SelectEvents;
pub use self::channel::Upstream;
pub use self::channel::UpstreamHttp;
pub use self::channel::WhileDown;
pub use self::credential::without_secrets;
pub use self::diagnostics::Diagnostic;
pub use self::diagnostics::Diagnostics;
pub use self::file_less::FileLess;
pub use self::findings::Severity;
#[cfg(any(test, fuzzing))]
pub use self::fuzz::{fuzz_path, fuzz_template};
pub use self::include::Sources;
pub use self::json_pointer::JsonPointer;
pub use self::key::Key;
pub use self::key::KeyError;
pub use self::key::KeyPart;
pub use self::key::KeyRules;
pub use self::listen_tls::CertificateFiles;
pub use self::listen_tls::ListenTls;
pub use self::machine::Machine;
pub use self::machine::MemoryLimit;
pub use self::on_status::OnStatus;
pub use self::on_status::StatusPolicies;
pub use self::path::normalize_path;
pub use self::proxy::ForwardedFields;
pub use self::proxy::Proxy;
pub use self::proxy::UpstreamHost;
pub use self::proxy_url::ProxyUrl;
pub use self::router::PathRouter;
pub use self::router::Taken;
pub use self::state::StateKeeping;
pub use self::template::Extent;
pub use self::template::Variable;
pub use self::units::show_bytes;
pub use self::units::show_duration;
pub use self::upstream_tls::ClientIdentity;
pub use self::upstream_tls::UpstreamTls;
pub use self::upstream_tls::Verification;
pub use self::url::UrlTemplate;

/// Everything one process is told to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Settings of the process.
    pub server: Server,
    /// Where subscribers connect; never empty.
    pub listeners: Vec<Listener>,
    /// Where the process tells how it is.
    pub admin: Admin,
    /// The channels, ordered by name; names and (host, path) pairs are unique.
    pub channels: Vec<Arc<Channel>>,
    /// What passes through, ordered by name; names are unique, and so are (host, path) pairs among
    /// channels and proxies.
    pub proxies: Vec<Arc<Proxy>>,
}

/// A configuration that can be used, and what may be wrong with it all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What is meant.
    pub config: Config,
    /// No errors.
    pub warnings: Diagnostics,
    /// Where it was read from; nothing, if it was not from a file.
    pub sources: Sources,
    /// Where it asks for what not every machine has.
    places: machine::Places,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, which may be that it cannot be read.
    pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
        let gathered = include::gather(path, read_text(path)?)?;
        let name = path.display().to_string();
        let loaded = Self::parse_whole(&name, &gathered.text, gathered.parts)?;
        Ok(Loaded {
            sources: gathered.sources,
            ..loaded
        })
    }

    /// Reads a text that is called `name` in messages.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Loaded, Diagnostics> {
        Self::parse_whole(name, text, Vec::new())
    }

    /// Reads a text that is called `name`, and of which parts are other files.
    fn parse_whole(name: &str, text: &str, parts: Vec<Part>) -> Result<Loaded, Diagnostics> {
        let (whole_lines, mut errors) = syntax::without_broken_lines(text);
        let (table, more_errors) = DeTable::parse_recoverable(&whole_lines);
        errors.extend(more_errors);
        let table = table.get_ref();
        let mut findings = Findings::default();
        let document = Document::read(table, &mut findings);
        let server = document.server.clone();
        let config = validate::config(document, &mut findings);
        let mut source = Source {
            name,
            text,
            secrets: credential::secrets(text, table),
            parts,
        };
        syntax::report(errors, table, &mut source, &mut findings);

        let has_errors = findings.has_errors();
        let places = machine::Places::find(&server, &source);
        let diagnostics = Diagnostics::locate(findings.list, &source);
        if has_errors {
            Err(diagnostics)
        } else {
            Ok(Loaded {
                config,
                warnings: diagnostics,
                sources: Sources::default(),
                places,
            })
        }
    }

    /// The certificates, keys and authorities that it names.
    pub fn tls_files(&self) -> Vec<PathBuf> {
        let listeners = self.listeners.iter().filter_map(|one| one.tls.as_ref());
        let upstreams = self.channels.iter();
        let upstreams = upstreams.map(|channel| &channel.upstream.tls);
        let proxies = self.proxies.iter().map(|proxy| &proxy.tls);
        let upstreams = upstreams.chain(proxies).flat_map(UpstreamTls::files);
        let mut files: Vec<PathBuf> = listeners.flat_map(ListenTls::files).collect();
        files.extend(upstreams.cloned());
        files
    }

    /// The configuration of a gateway that is started without a file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the options, each by the name of its flag.
    pub fn for_upstream(options: FileLess<'_>) -> Result<Self, Diagnostics> {
        options.config()
    }
}

/// `[server]`: settings of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Delivery shards; `None`: one per available core.
    pub threads: Option<usize>,
    /// Most downstream connections; `None`: the descriptor limit less a reserve.
    pub max_connections: Option<usize>,
    /// How fast connections are begun; `None`: as fast as they come.
    pub connection_rate: Option<ConnectionRate>,
    /// Most connections from one place.
    pub address_limits: AddressLimits,
    /// Who is believed that says for whom it asks.
    pub trusted_proxies: TrustedProxies,
    /// What logs, connections, TLS and HTTP/2 may hold together, in bytes.
    pub memory: usize,
    /// How long a client may take for the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take for a request head.
    pub header_timeout: Duration,
    /// Most bytes of a request head.
    pub max_header_bytes: usize,
    /// How long a stop takes to say goodbye to all subscribers.
    pub drain: Duration,
    /// Where a stop leaves what the next process goes on from.
    pub state: StateKeeping,
    /// Whether a 404 names the channels' paths.
    pub unknown_path: UnknownPath,
    /// What HTTP/2 connections of clients may have.
    pub http2: Http2,
}

/// `[server] http2`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2 {
    /// Most streams of one connection at a time.
    pub max_concurrent_streams: u32,
    /// How long a connection may be silent before the client is asked whether it is there.
    pub ping_interval: Option<Duration>,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long a connection may have no stream.
    pub idle_timeout: Duration,
}

/// What a 404 tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPath {
    /// Names the known paths: handy in development.
    ListPaths,
    /// Says only that there is nothing.
    SayNothing,
}

/// `[listen.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The table's name.
    pub name: String,
    /// Addresses to bind; never empty.
    pub addresses: Vec<ListenAddress>,
    /// `None`: in the clear.
    pub tls: Option<ListenTls>,
    /// Whether connections begin with the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
}

/// One address to bind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// `"127.0.0.1:8080"`, `"[::]:8080"`
    Tcp(SocketAddr),
    /// `"unix:/run/ssecast/http.sock"`
    Unix(PathBuf),
    /// `"systemd:NAME"`: the sockets of that name which the process was started with.
    Systemd(String),
}

/// Reads a file as text.
fn read_text(path: &Path) -> Result<String, Diagnostics> {
    match read(path).map(String::from_utf8) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => {
            let good = error.utf8_error().valid_up_to();
            let line = error
                .as_bytes()
                .iter()
                .take(good)
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            let message = format!("the file is not UTF-8 (line {line})");
            let advice = "save it as UTF-8; TOML has no other encoding";
            Err(Diagnostics::unreadable(path, &message, advice))
        }
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => {
                    "check the path, or start without a file: \
                                            `ssecast serve --upstream URL`"
                }
                io::ErrorKind::PermissionDenied => {
                    "let the user that runs the gateway read it, and its directories"
                }
                io::ErrorKind::IsADirectory => "name the file in it",
                _ => "check the file and its disk",
            };
            let message = format!("the file cannot be read: {error}");
            Err(Diagnostics::unreadable(path, &message, advice))
        }
    }
}

/// Reads a file, which may be none (`/dev/zero`), as far as a configuration can reach.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const MOST_BYTES: u64 = 16 * 1024 * 1024;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

/// Reads any bytes; asserts what holds of every outcome.
///
/// # Panics
///
/// If it does not hold.
#[cfg(any(test, fuzzing))]
pub fn fuzz_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let n_lines = text.matches('\n').count() + 1;
    let diagnostics = match Config::parse("fuzz.toml", &text) {
        Ok(Loaded {
            config, warnings, ..
        }) => {
            assert!(!config.listeners.is_empty());
            assert!(!(config.channels.is_empty() && config.proxies.is_empty()));
            assert_eq!(warnings.n_errors(), 0, "{warnings}");
            warnings
        }
        Err(errors) => {
            assert!(errors.n_errors() > 0, "{errors}");
            errors
        }
    };
    for diagnostic in &diagnostics {
        assert!(
            diagnostic
                .line()
                .is_none_or(|line| (1..=n_lines).contains(&line))
        );
        assert!(diagnostic.column() != Some(0));
        assert!(!diagnostic.message().is_empty() && !diagnostic.advice().is_empty());
    }
    assert!(
        !diagnostics
            .to_string()
            .chars()
            .any(|c| c.is_control() && c != '\n')
    );
}
