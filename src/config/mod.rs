//! The configuration as it is meant: every default resolved, every value checked.
//!
//! What a user wrote (`schema`) becomes a [`Config`] in one fallible step that reports every mistake
//! at once, each with its place in the file ([`Diagnostics`]). Nothing here opens a socket or reads
//! a clock; [`Config::load`] reads the file and does no other I/O.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod channel;

pub use self::channel::Access;
pub use self::channel::Channel;
pub use self::channel::Cors;
pub use self::channel::Credentials;
pub use self::channel::CursorOnConnect;
pub use self::channel::End;
pub use self::channel::Heartbeat;
pub use self::channel::HeartbeatForm;
pub use self::channel::History;
pub use self::channel::Ids;
pub use self::channel::Lag;
pub use self::channel::Notices;
pub use self::channel::OnLag;
pub use self::channel::Origins;
pub use self::channel::Refuse;
pub use self::channel::Upstream;
pub use self::channel::UpstreamHttp;

/// Everything one process is told to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Settings of the process.
    pub server: Server,
    /// Where subscribers connect; never empty.
    pub listeners: Vec<Listener>,
    /// The channels, ordered by name; names and (host, path) pairs are unique.
    pub channels: Vec<Arc<Channel>>,
}

/// `[server]`: settings of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Delivery shards; `None`: one per available core.
    pub threads: Option<usize>,
    /// Most downstream connections; `None`: the descriptor limit less a reserve.
    pub max_connections: Option<usize>,
    /// How long a client may take for a request head.
    pub header_timeout: Duration,
    /// Most bytes of a request head.
    pub max_header_bytes: usize,
    /// Whether a 404 names the channels' paths.
    pub unknown_path: UnknownPath,
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
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The table's name.
    pub name: String,
    /// Addresses to bind; never empty.
    pub addresses: Vec<ListenAddress>,
}

/// One address to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `"127.0.0.1:8080"`, `"[::]:8080"`
    Tcp(SocketAddr),
    /// `"unix:/run/ssecast/http.sock"`
    Unix(PathBuf),
}
