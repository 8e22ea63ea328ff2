//! One channel as it is meant: its upstream, its log, and what its subscribers get.
//!
//! Plain types; what a user writes for them is in `schema`, and what holds between them is checked
//! in `validate`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::JsonPointer;
use crate::config::StatusPolicies;
use crate::config::UpstreamTls;
use crate::config::key::KeyRules;
use crate::config::url::UrlTemplate;

/// `[channels.NAME]`, with `[defaults]` applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// The table's name: the channel's identity.
    pub name: String,
    /// What it is made of, if it has no upstream of its own.
    pub bundle: Option<Bundle>,
    /// The absolute request path (percent-encoding normalised), unique per host; it may have variables.
    pub path: String,
    /// What else tells its instances from each other, besides the variables of the path.
    pub key: KeyRules,
    /// When it asks its upstream.
    pub connect: Connect,
    /// How long an instance and its upstream outlive the last subscriber.
    pub linger: Duration,
    /// How long the first who ask for an instance wait for what its origin says.
    pub first_answer: Duration,
    /// Most instances at a time.
    pub max_instances: usize,
    /// Host names (lower case, without port) that this channel answers to; empty: any.
    pub hosts: Vec<String>,
    /// Where the events come from.
    pub upstream: Upstream,
    /// Whose event ids subscribers see.
    pub ids: Ids,
    /// Bounds of the log.
    pub history: History,
    /// What a newcomer gets of the past.
    pub join: Join,
    /// What a client gets of the past whose place in it is not known.
    pub on_gap: OnGap,
    /// What makes two events say the same thing at different times.
    pub conflate_by: ConflateBy,
    /// Bounds of what is kept of the newest events of each key.
    pub latest: LatestLimits,
    /// What idle clients are sent.
    pub heartbeat: Heartbeat,
    /// Bounds of the random reconnection time told to subscribers.
    pub retry: RangeInclusive<Duration>,
    /// Whether a client that has seen nothing is told the tip's id on connect.
    pub cursor_on_connect: CursorOnConnect,
    /// Which `ssecast.*` events subscribers get.
    pub notices: Notices,
    /// How long to gather events before they are delivered; zero: not at all.
    pub coalesce: Duration,
    /// When a subscriber is too slow, and what becomes of it.
    pub lag: Lag,
    /// How long a subscriber's socket may take nothing while there is something to send; `None`: for
    /// ever.
    pub write_timeout: Option<Duration>,
    /// How a stream ends that the client should resume.
    pub end: End,
    /// What a newcomer gets while the upstream is down.
    pub while_down: WhileDown,
    /// How a request over a limit is refused.
    pub refuse: Refuse,
    /// Most subscribers of this channel; `None`: unbounded.
    pub max_subscribers: Option<usize>,
    /// How long a subscriber stays, before it is told to come back; `None`: as long as it likes. Each
    /// stays a random part of it.
    pub max_age: Option<Duration>,
    /// Whether clients may ask for some event types only.
    pub select_events: SelectEvents,
    /// Most views at a time: sets of event types that somebody reads.
    pub max_views: usize,
    /// Whether somebody may want to know which event types are lost.
    pub tells_types: bool,
    /// Which other origins' pages may read it; `None`: same-origin only.
    pub cors: Option<Cors>,
    /// Whether the process is ready without this channel's upstream.
    pub ready: Ready,
    /// Who may subscribe; `None` only where no upstream header field carries a credential.
    pub access: Option<Access>,
}

/// The upstream of a channel.
///
/// Its `Debug` shows no credential: neither header field values nor the URL's query.
#[derive(Clone, PartialEq)]
pub struct Upstream {
    /// Where the stream can be had, the best place first: absolute http or https URLs without
    /// fragment or user info, each once, at least one; none, of a bundle.
    pub urls: Vec<UrlTemplate>,
    /// What becomes of the stream when a reload changes the URL (`same_source`).
    pub on_new_url: OnNewUrl,
    /// Header fields to send besides our own, in the file's order, each name once; the values are
    /// marked as sensitive.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The HTTP version to speak.
    pub http: UpstreamHttp,
    /// How it is spoken to over https.
    pub tls: UpstreamTls,
    /// For the TCP connection and the TLS handshake.
    pub connect_timeout: Duration,
    /// From the request to the response head (`response_timeout`).
    pub header_timeout: Duration,
    /// Longest silence of an open stream; comments count as life.
    pub idle_timeout: Duration,
    /// How long an earlier URL must have been well before the stream goes back to it; `None`: it
    /// never does by itself.
    pub return_after: Option<Duration>,
    /// What answers mean that are no event streams.
    pub on_status: StatusPolicies,
    /// Whether the origin may compress the stream.
    pub compression: Compression,
    /// Bounds of the wait before a reconnection: the first wait, and the cap.
    pub backoff: RangeInclusive<Duration>,
    /// Most redirects to follow in a row.
    pub max_redirects: usize,
    /// Longest line of the stream.
    pub max_line_bytes: usize,
    /// Largest event of the stream.
    pub max_event_bytes: usize,
}

impl Upstream {
    /// The URLs as logs may show them: without queries, which may carry credentials.
    pub fn shown_urls(&self) -> impl Iterator<Item = String> {
        self.urls.iter().map(UrlTemplate::shown)
    }

    /// The URL with this place in the list, as logs may show it.
    pub fn shown_url(&self, place: usize) -> String {
        let url = self.urls.get(place);
        url.map(UrlTemplate::shown).unwrap_or_default()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("urls", &self.shown_urls().collect::<Vec<_>>())
            .field("on_new_url", &self.on_new_url)
            .field("headers", &self.headers)
            .field("http", &self.http)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("header_timeout", &self.header_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("return_after", &self.return_after)
            .field("on_status", &self.on_status)
            .field("compression", &self.compression)
            .field("backoff", &self.backoff)
            .field("max_redirects", &self.max_redirects)
            .field("max_line_bytes", &self.max_line_bytes)
            .field("max_event_bytes", &self.max_event_bytes)
            .finish()
    }
}

/// `connect`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// As long as the process runs.
    Eager,
    /// While somebody is there, and a little longer.
    OnDemand,
}

/// `same_source`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNewUrl {
    /// It is another stream: its events do not continue what was there.
    BeginEpoch,
    /// It is the same stream elsewhere: it is asked to go on after the last id.
    Continue,
}

/// `upstream_compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is asked for, in any coding that the gateway knows.
    Accept,
    /// The origin is asked not to. One that does so all the same is understood.
    Decline,
}

/// `while_down`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileDown {
    /// A newcomer gets its stream, the history, and heartbeats until the origin is back.
    Hold,
    /// A newcomer gets 503 with a random `Retry-After`.
    Unavailable,
}

/// `upstream_http`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHttp {
    /// HTTP/1.1
    One,
    /// HTTP/2: by ALPN over https, by prior knowledge over http.
    Two,
}

/// `ids`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// The origin's id where it gives one, ours where it gives none.
    Fill,
    /// Ours throughout.
    Gateway,
    /// Only the origin's.
    Upstream,
}

/// `history`: bounds of the log, all of which hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Most events.
    pub events: usize,
    /// Most bytes, framing included.
    pub bytes: usize,
    /// Oldest age; `None`: any.
    pub age: Option<Duration>,
}

/// `join`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The whole history.
    All,
    /// The newest event of each key.
    Latest,
    /// Nothing.
    Live,
    /// So many of the newest events.
    Newest(usize),
}

/// `on_gap`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    /// The whole history.
    All,
    /// The newest event of each key.
    Latest,
    /// Nothing.
    Live,
}

/// `conflate_by`: the key of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConflateBy {
    /// The origin's id.
    Id,
    /// A member of the data, which is JSON.
    Pointer(JsonPointer),
    /// The event type.
    Type,
}

/// `latest`: bounds of the newest events of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestLimits {
    /// Most keys.
    pub keys: usize,
    /// Most bytes of the events that the history has no more, and of their keys.
    pub bytes: usize,
}

/// How the newest event of each key is known, where it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keying {
    /// What is the key.
    pub by: ConflateBy,
    /// How much is kept.
    pub limits: LatestLimits,
}

/// As it is written.
impl fmt::Display for ConflateBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("id"),
            Self::Pointer(pointer) => pointer.fmt(f),
            Self::Type => f.write_str("type"),
        }
    }
}

impl Channel {
    /// How the newest event of each key is known; `None`: nobody wants it.
    pub fn keying(&self) -> Option<Keying> {
        let is_wanted = self.join == Join::Latest
            || self.on_gap == OnGap::Latest
            || self.lag.then == OnLag::Conflate;
        is_wanted.then(|| Keying {
            by: self.conflate_by.clone(),
            limits: self.latest,
        })
    }
}

/// `heartbeat`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// How long a client is idle before it gets one; `None`: never.
    pub interval: Option<Duration>,
    /// What it gets.
    pub form: HeartbeatForm,
}

/// `heartbeat_form`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatForm {
    /// `:` and a line feed, invisible to pages.
    Comment,
    /// An event of this type whose data says how often it comes, visible to pages.
    Event(String),
}

/// `cursor_on_connect`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorOnConnect {
    /// Send nothing before the first event.
    Omit,
    /// Send the tip's id to clients that have seen nothing yet.
    Send,
}

/// `notices`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// Losses, and the state of the upstream.
    All,
    /// `ssecast.gap` and `ssecast.reset`.
    Losses,
    /// None: for consumers that choke on event types they do not know.
    None,
}

/// `lag`: bounds of a subscriber's distance from the head, all of which hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// In bytes of the wire stream.
    pub limit_bytes: usize,
    /// In events of the origin; `None`: any number.
    pub limit_events: Option<usize>,
    /// Of the oldest event that it lacks; `None`: any age.
    pub limit_age: Option<Duration>,
    /// What becomes of a subscriber beyond it.
    pub then: OnLag,
}

/// `lag.then`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLag {
    /// Give it the newest event of each key, and go on from there.
    Conflate,
    /// End its stream; it resumes by id.
    Disconnect,
    /// Go on at the head.
    Skip,
}

impl OnLag {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Conflate, Self::Disconnect, Self::Skip];

    /// The word for it, in files, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflate => "conflate",
            Self::Disconnect => "disconnect",
            Self::Skip => "skip",
        }
    }
}

/// `end`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the last chunk, for front proxies that log cuts as errors.
    Clean,
    /// Without it, so that every client comes back.
    Cut,
}

/// `refuse`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuse {
    /// 200, a random reconnection time and a cut: an `EventSource` comes back.
    Retry,
    /// 503 with a random `Retry-After`, for machine clients.
    Unavailable,
}

/// `[bundles.NAME]`: channels that clients may ask for on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Their names, ordered, each once; channels that run, whoever asks.
    pub channels: Vec<String>,
    /// How a client sees which channel an event is of.
    pub event_types: EventTypes,
}

/// `event_types`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTypes {
    /// Not at all: types are as the channels have them.
    Plain,
    /// `channel:type`
    Prefixed,
}

/// `select_events`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectEvents {
    /// `?event=price,trade` delivers only those types.
    Allow,
    /// The parameter means nothing.
    Ignore,
}

/// `cors`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins that may read.
    pub origins: Origins,
    /// Whether requests may carry cookies.
    pub credentials: Credentials,
}

/// `cors.origins`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// `"*"`
    Any,
    /// These, serialised as browsers send them (`scheme://host[:port]`, lower case).
    Listed(Vec<String>),
}

/// `cors.credentials`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// `Access-Control-Allow-Credentials: true`
    Allow,
    /// None.
    Omit,
}

/// `ready`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Whatever the upstream does: clients get the history, and events once there are some.
    Always,
    /// Once the upstream was open.
    Connected,
}

/// `access`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
}
