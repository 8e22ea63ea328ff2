//! What becomes of a message's head on its way through a proxy. Pure.
//!
//! Nothing of a head goes on because it came: each field is looked at, what is of one connection stays,
//! what says how long the body is and whose request it is is made anew, and the rest goes on as it is.
//! So what an origin reads is what we meant, whatever a client sent.
//!
//! What hyper refuses or mends before it comes here (in 1.12): obsolete line folding, white space before
//! a colon, control characters in names and values, chunk sizes that are none; a `Content-Length` beside
//! `Transfer-Encoding` is dropped, and the connection closed after the answer (RFC 9112, 6.1); on HTTP/2,
//! fields of a connection, and a `content-length` that is not that of the body.
//!
//! Spec: RFC 9110, 7.6; RFC 9112, 3.2 and 6; RFC 9113, 8.

mod authority;
pub mod client;
mod connection;
mod forwarded;
mod framing;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod names;
mod target;
#[cfg(test)]
mod tests;
mod via;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, MAX_FORWARDS, TE, TRAILER};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http::{request, response};

use self::connection::Nominated;
pub use self::framing::{Content, Unusable};
#[cfg(any(test, fuzzing))]
pub use self::fuzz::{fuzz_fields, fuzz_path};
use self::names::{Kind, Spelling, kind_of};
use crate::config::{self, ProxyUrl, TrustedProxies, UpstreamHost, UpstreamHttp};
use crate::net::peer::PeerAddr;

/// What a request goes through.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The proxy that it was led to.
    pub proxy: &'a config::Proxy,
    /// Which of its upstreams is asked.
    pub upstream: &'a ProxyUrl,
    /// By which version of HTTP.
    pub http: UpstreamHttp,
    /// Who is at the other end of the client's connection.
    pub peer: PeerAddr,
    /// Who is believed when it says for whom it asks.
    pub trusted: &'a TrustedProxies,
    /// `https` where the client's connection is encrypted, else `http`.
    pub scheme: &'a Scheme,
    /// What the request has besides its head.
    pub content: Content,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// A `%` in the path without two digits.
    #[error("a % in the path is not followed by two hexadecimal digits")]
    BadEscape,
    /// What is named as the host is none.
    #[error("the host that the request names is no name or address, with or without a port")]
    BadHost,
    /// No path, or not one of the web.
    #[error("the target of the request is no path, and no http or https URL")]
    BadTarget,
    /// It goes round.
    #[error("the request has come through this gateway too often: its upstream leads back to it")]
    Circle,
    /// A transfer coding besides `chunked`.
    #[error("Transfer-Encoding must be exactly one: chunked")]
    Coding,
    /// `.` or `..` in the path.
    #[error("the path has a segment . or .., or one that may be read so")]
    DotSegment,
    /// `Max-Forwards: 0`: we are who is asked (RFC 9110, 7.6.2).
    #[error("the request is to be forwarded no further")]
    LastHop,
    /// `Content-Length` is not the length.
    #[error("Content-Length is no number, or not the length of the body")]
    Length,
    /// `%00` in the path.
    #[error("the path has a NUL in it")]
    Nul,
    /// Two hosts.
    #[error("the request names two hosts")]
    TwoHosts,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::BadEscape,
        Self::BadHost,
        Self::BadTarget,
        Self::Circle,
        Self::Coding,
        Self::DotSegment,
        Self::LastHop,
        Self::Length,
        Self::Nul,
        Self::TwoHosts,
    ];

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadEscape
            | Self::BadHost
            | Self::BadTarget
            | Self::DotSegment
            | Self::Length
            | Self::Nul
            | Self::TwoHosts => StatusCode::BAD_REQUEST,
            Self::Circle => StatusCode::LOOP_DETECTED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::LastHop => StatusCode::NO_CONTENT,
        }
    }

    /// Whether nobody knows where the request ends, so that nothing may follow it.
    pub fn closes(self) -> bool {
        match self {
            Self::Coding | Self::Length => true,
            Self::BadEscape
            | Self::BadHost
            | Self::BadTarget
            | Self::Circle
            | Self::DotSegment
            | Self::LastHop
            | Self::Nul
            | Self::TwoHosts => false,
        }
    }

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadEscape | Self::DotSegment | Self::Nul => "bad-path",
            Self::BadHost | Self::TwoHosts => "bad-host",
            Self::BadTarget => "bad-target",
            Self::Circle => "circle",
            Self::Coding | Self::Length => "bad-framing",
            Self::LastHop => "last-hop",
        }
    }
}

/// The head to send for a client's.
///
/// # Errors
///
/// If what it means is not what everybody would read in it.
pub fn request(head: &request::Parts, hop: &Hop<'_>) -> Result<request::Parts, Refused> {
    let host = authority::of(head)?;
    let target = target::of(&head.uri, &head.method, hop)?;
    framing::check(&head.headers, hop.content)?;
    if via::is_circle(&head.headers) {
        return Err(Refused::Circle);
    }
    let mut fields = HeaderMap::with_capacity(head.headers.len() + 10);
    let version = match hop.http {
        UpstreamHttp::One => Version::HTTP_11,
        UpstreamHttp::Two => Version::HTTP_2,
    };
    let sent_host = sent_host(host.as_ref(), hop)?;
    let uri = match hop.http {
        UpstreamHttp::One => {
            fields.insert(HOST, sent_host);
            Uri::from(target)
        }
        UpstreamHttp::Two => absolute(&sent_host, target, hop)?,
    };
    if keep(&mut fields, head, hop) == Met::Ours {
        make(&mut fields, head, (hop, version))?;
    }
    via::append(&mut fields, &head.headers, head.version);
    forwarded::tell(&mut fields, &head.headers, host.as_ref(), hop);
    framing::tell(&mut fields, &head.headers, hop.content, version);
    for (name, value) in &hop.proxy.headers {
        if *name != HOST {
            fields.insert(name, value.clone());
        }
    }
    let (mut sent, ()) = Request::new(()).into_parts();
    sent.method = head.method.clone();
    sent.uri = uri;
    sent.version = version;
    sent.headers = fields;
    Ok(sent)
}

/// Makes of an origin's head what goes to the client that asked with this method. Fields of different
/// names may come into another order, which means nothing (RFC 9110, 5.3).
///
/// # Errors
///
/// If nobody knows where the answer ends. Then nothing else of that connection may be believed either.
pub fn response(head: &mut response::Parts, asked: &Method) -> Result<(), Unusable> {
    let may_have_content = !matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    // That of a body that is read is said anew, from the body.
    let mut length = None;
    if may_have_content && *asked == Method::HEAD {
        length = framing::length(&head.headers).unwrap_or_default();
    } else if may_have_content {
        framing::check_answer(&head.headers)?;
    }
    let fields = &mut head.headers;
    let trailers = announced(fields, |_name| true);
    let nominated = Nominated::of(fields);
    let stays = |name: &&HeaderName| match kind_of(name) {
        // Of an origin nobody expects that it fools its own clients.
        (Kind::EndToEnd | Kind::Hostile | Kind::Sender, _) => false,
        (Kind::Other, _) => nominated.contains(name.as_str()),
        (Kind::Ours, _) => **name == TRAILER,
        (Kind::Connection | Kind::Framing, _) => true,
    };
    let stay: Vec<HeaderName> = fields.keys().filter(stays).cloned().collect();
    for name in stay {
        fields.remove(name);
    }
    if let Some(names) = trailers {
        fields.insert(TRAILER, names);
    }
    via::add(fields, head.version);
    if let Some(length) = length {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    head.version = Version::HTTP_11;
    Ok(())
}

/// Takes from a request's trailer fields what may not come so late (RFC 9110, 6.5.1), and what only the
/// gateway says.
pub fn request_trailers(fields: &mut HeaderMap, proxy: &config::Proxy) {
    keep_trailers(fields, |name| !is_set(name, proxy));
}

/// Takes from an answer's trailer fields what may not come so late (RFC 9110, 6.5.1).
pub fn response_trailers(fields: &mut HeaderMap) {
    keep_trailers(fields, |_name| true);
}

fn keep_trailers(fields: &mut HeaderMap, goes_on: impl Fn(&HeaderName) -> bool) {
    let kept = |name: &HeaderName| names::may_trail(name) && goes_on(name);
    if fields.keys().all(kept) {
        return;
    }
    let came = std::mem::take(fields);
    let kept = came.iter().filter(|(name, _)| kept(name));
    fields.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
}

/// The `Host` that the origin sees.
fn sent_host(client: Option<&HeaderValue>, hop: &Hop<'_>) -> Result<HeaderValue, Refused> {
    let configured = hop.proxy.headers.iter().find(|(name, _)| *name == HOST);
    if let Some((_, host)) = configured {
        return Ok(host.clone());
    }
    match (&hop.proxy.upstream_host, client) {
        (UpstreamHost::Client, Some(client)) => Ok(client.clone()),
        (UpstreamHost::Named(host), _) => Ok(host.clone()),
        (UpstreamHost::Client | UpstreamHost::Upstream, _) => {
            HeaderValue::from_str(hop.upstream.authority().as_str())
                .map_err(|_impossible| Refused::BadHost)
        }
    }
}

/// The target URI, of which HTTP/2 makes pseudo-header fields.
fn absolute(host: &HeaderValue, target: PathAndQuery, hop: &Hop<'_>) -> Result<Uri, Refused> {
    let mut parts = http::uri::Parts::default();
    let authority = host.as_bytes().try_into();
    parts.authority = Some(authority.map_err(|_impossible| Refused::BadHost)?);
    parts.scheme = Some(hop.upstream.scheme().clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_impossible| Refused::BadTarget)
}

/// Whether there is anything among a request's fields that is made anew, besides what is in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Nothing,
    Ours,
}

/// Keeps what is for the origin.
fn keep(fields: &mut HeaderMap, head: &request::Parts, hop: &Hop<'_>) -> Met {
    let nominated = Nominated::of(&head.headers);
    let mut met = Met::Nothing;
    for (name, value) in &head.headers {
        let goes_on = match kind_of(name) {
            (Kind::EndToEnd, Spelling::Proper) => true,
            (Kind::Other, _) => !nominated.contains(name.as_str()),
            (Kind::Sender, Spelling::Proper) => forwarded::goes_on(name, hop),
            (Kind::Connection | Kind::Ours, _) => {
                if *name != HOST && *name != CONNECTION {
                    met = Met::Ours;
                }
                false
            }
            (Kind::Framing | Kind::Hostile, _)
            | (Kind::EndToEnd | Kind::Sender, Spelling::Underscored) => false,
        };
        if goes_on && !is_set(name, hop.proxy) {
            fields.append(name, value.clone());
        }
    }
    met
}

/// Whether the gateway sets this field, or one that can't be told from it.
fn is_set(name: &HeaderName, proxy: &config::Proxy) -> bool {
    let is_same = |set: &HeaderName| {
        let (name, set) = (name.as_str().bytes(), set.as_str().bytes());
        let dashed = |byte| if byte == b'_' { b'-' } else { byte };
        name.map(dashed).eq(set.map(dashed))
    };
    proxy.headers.iter().any(|(set, _)| is_same(set))
}

/// Makes anew what is read on every hop, where there is any.
fn make(
    fields: &mut HeaderMap,
    head: &request::Parts,
    (hop, version): (&Hop<'_>, Version),
) -> Result<(), Refused> {
    // HTTP/2 cuts it into crumbs, which HTTP/1.1 does not know (RFC 9113, 8.2.3).
    let cookie = joined(&head.headers, &COOKIE, b"; ", None);
    fields.extend(cookie.map(|cookie| (COOKIE, cookie)));
    let trailers = announced(&head.headers, |name| !is_set(name, hop.proxy));
    fields.extend(trailers.map(|names| (TRAILER, names)));
    if connection::takes_trailers(&head.headers) {
        fields.insert(TE, HeaderValue::from_static("trailers"));
        if version == Version::HTTP_11 {
            fields.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    if let Some(max) = head.headers.get(MAX_FORWARDS) {
        let max = match (&head.method, max.to_str().map(str::parse::<u32>)) {
            (&Method::OPTIONS, Ok(Ok(0))) => return Err(Refused::LastHop),
            (&Method::OPTIONS, Ok(Ok(max))) => HeaderValue::from(max - 1),
            // It means something for `OPTIONS` and `TRACE` only.
            _ => max.clone(),
        };
        fields.insert(MAX_FORWARDS, max);
    }
    Ok(())
}

/// Which of the trailer fields that are announced may come.
fn announced(came: &HeaderMap, goes_on: impl Fn(&HeaderName) -> bool) -> Option<HeaderValue> {
    if !came.contains_key(TRAILER) {
        return None;
    }
    let names = connection::tokens(came, &TRAILER);
    let may_come = |name: HeaderName| names::may_trail(&name) && goes_on(&name);
    let names = names.filter(|name| name.parse().is_ok_and(may_come));
    let names: Vec<&str> = names.collect();
    let value = HeaderValue::from_str(&names.join(", ")).ok();
    value.filter(|_| !names.is_empty())
}

/// What all lines of a field say, in one, and then `last`.
fn joined(
    fields: &HeaderMap,
    name: &HeaderName,
    separator: &[u8],
    last: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    let mut lines = fields.get_all(name).iter().chain(last);
    let (first, second) = (lines.next()?, lines.next());
    let Some(second) = second else {
        return Some(first.clone());
    };
    let mut value = [first.as_bytes(), separator, second.as_bytes()].concat();
    for line in lines {
        value.extend_from_slice(separator);
        value.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
}
