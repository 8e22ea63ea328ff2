//! One proxy as it is meant: which requests it passes through, where to, and within which limits.
//!
//! Plain types; what a user writes for them is in `schema`, and what holds between them is checked in
//! `proxy_table`. Nothing is inherited from `[defaults]`, which are about event streams.

use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;

use crate::config::Access;
use crate::config::ProxyUrl;
use crate::config::UpstreamHttp;
use crate::config::UpstreamTls;
use crate::config::path;

/// `[proxies.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// The table's name: the proxy's identity.
    pub name: String,
    /// The absolute request path (percent-encoding normalised), unique per host among channels and
    /// proxies; it may have variables, and `{*rest}` stands for nothing, too.
    pub path: String,
    /// Host names (lower case, without port) that it answers to; empty: any.
    pub hosts: Vec<String>,
    /// Where requests go, the best place first; at least one.
    pub upstreams: Vec<ProxyUrl>,
    /// Header fields to send in place of the client's, in the file's order, each name once; the values
    /// are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The HTTP version to speak.
    pub http: UpstreamHttp,
    /// How it is spoken to over https.
    pub tls: UpstreamTls,
    /// The `Host` that the origin sees.
    pub upstream_host: UpstreamHost,
    /// How the origin is told for whom it is asked.
    pub forwarded: ForwardedFields,
    /// For the TCP connection and the TLS handshake.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the response (`response_timeout`); `None`: for ever.
    pub header_timeout: Option<Duration>,
    /// Longest silence while a body is awaited, from either side; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// Largest body of a request; `None`: any.
    pub max_request_bytes: Option<usize>,
    /// Most requests at a time, tunnels not counted.
    pub max_requests: usize,
    /// Protocols that clients may switch to, in lower case.
    pub upgrade: Vec<String>,
    /// Most tunnels at a time.
    pub max_tunnels: usize,
    /// Longest silence of a tunnel in both directions; `None`: for ever.
    pub tunnel_idle_timeout: Option<Duration>,
    /// Most idle connections that are kept, for each upstream and shard.
    pub max_idle_connections: usize,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long an event stream is silent before its client is sent a comment; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Who may ask; `None` only where no header field of ours carries a credential.
    pub access: Option<Access>,
}

/// `upstream_host`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client asked for.
    Client,
    /// A name, and a port where there is one.
    Named(HeaderValue),
    /// The authority of the URL that is asked.
    Upstream,
}

/// `forwarded`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedFields {
    /// `Forwarded` and `X-Forwarded-*`.
    Both,
    /// None, and none of a client's.
    None,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
    /// `X-Forwarded-For`, `-Host` and `-Proto`.
    XForwarded,
}

impl Proxy {
    /// What the variables of the path stand for in the path of a request, in their order and byte for
    /// byte as it is written there.
    ///
    /// The request must have been led here by its normal form; of others, the answer means nothing.
    pub fn captured<'p>(&self, path: &'p str) -> Vec<&'p str> {
        path::captured(&self.path, path).unwrap_or_default()
    }

    /// The URLs as logs may show them.
    pub fn shown_urls(&self) -> impl Iterator<Item = String> {
        self.upstreams.iter().map(ToString::to_string)
    }
}
