//! Asking an origin for its event stream: the request, redirects, and what answers are fine.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use tokio::time::timeout;
use url::{Position, Url};

use super::coding::{self, Coding};
use super::decoded::DecodedBody;
use super::error::UpstreamError;
use super::exchange::{self, Body};
use super::refusals::Challenges;
use crate::config::{self, Compression, Key, OnStatus, UpstreamHttp, UpstreamTls};
use crate::log::MAX_ID_BYTES;
use crate::net::client_tls::ClientTls;
use crate::net::connect::{self, Means, Protocol, Scheme, Target};
use crate::net::gather::Gather;
use crate::net::gathers::Gathers;

/// What is needed to reach origins.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// How https is spoken.
    pub tls: Arc<ClientTls>,
    /// With whom sockets share their wake-ups.
    pub gathers: Gathers,
}

/// How one channel's origin is reached.
#[derive(Debug)]
pub(super) struct Line {
    tls: Arc<ClientTls>,
    /// With whom the socket shares its wake-ups; `None`: alone.
    gather: Option<Gather>,
}

impl Dialer {
    /// How an origin is reached whose events are gathered for this long.
    ///
    /// # Errors
    ///
    /// If the system gives no poll for it.
    pub(super) fn line(&self, coalesce: Duration) -> io::Result<Line> {
        Ok(Line {
            tls: Arc::clone(&self.tls),
            gather: self.gathers.of(coalesce)?,
        })
    }
}

/// An answer that an origin may give.
pub(super) enum Answer {
    /// An event stream.
    Events(DecodedBody),
    /// No more will come: 204 (WHATWG HTML, 9.2.3), or what `on_status` takes for it.
    Over,
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: &str = "text/event-stream";

/// A failure to get an event stream.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: UpstreamError,
    /// The URL that was asked, as it may be shown.
    pub(super) url: String,
}

/// Whose event stream is wanted, and from which of its URLs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) settings: &'a config::Channel,
    pub(super) key: &'a Key,
    pub(super) place: usize,
}

impl Wanted<'_> {
    fn url(&self) -> String {
        let url = self.settings.upstream.urls.get(self.place);
        url.map(|url| url.expand(&self.settings.key, self.key))
            .unwrap_or_default()
    }

    /// The URL, as it may be shown.
    pub(super) fn shown(&self) -> String {
        let url = self.settings.upstream.urls.get(self.place);
        url.map(|url| url.shown_for(&self.settings.key, self.key))
            .unwrap_or_default()
    }
}

/// What goes to the origin first of an instance with this key: the URL, and the fields of the request.
pub fn describe(settings: &config::Channel, key: &Key) -> Option<(String, HeaderMap)> {
    let wanted = Wanted {
        settings,
        key,
        place: 0,
    };
    let url = wanted.url();
    let request = request(wanted, &Url::parse(&url).ok()?, None, true).ok()?;
    Some((url, request.into_parts().0.headers))
}

/// Requests an event stream, following redirects.
pub(super) async fn open(
    wanted: Wanted<'_>,
    line: &Line,
    last_event_id: Option<&HeaderValue>,
) -> Result<Answer, Failure> {
    let settings = &wanted.settings.upstream;
    let text = wanted.url();
    let Ok(first) = Url::parse(&text) else {
        let url = shown(&text);
        let error = UpstreamError::UnusableRedirect(url.clone());
        return Err(Failure { error, url });
    };
    let mut url = first.clone();
    for _ in 0..=settings.max_redirects {
        // A credential is for the origin that it was configured for (RFC 9110, 15.4).
        let keeps_credentials = url.origin() == first.origin();
        let asked = async {
            let request = request(wanted, &url, last_event_id, keeps_credentials)?;
            let elsewhere = (!keeps_credentials).then(|| settings.tls.elsewhere());
            let tls = elsewhere.as_ref().unwrap_or(&settings.tls);
            let response = exchange((settings, tls), line, &url, request).await?;
            judge(response, settings, &url)
        };
        let failed = |error| Failure {
            error,
            url: shown(url.as_str()),
        };
        match asked.await.map_err(failed)? {
            Judged::Accepted(answer) => return Ok(answer),
            Judged::Elsewhere(location) => url = location,
        }
    }
    let url = shown(url.as_str());
    Err(Failure {
        error: UpstreamError::TooManyRedirects,
        url,
    })
}

/// What an origin's answer means.
enum Judged {
    Accepted(Answer),
    Elsewhere(Url),
}

/// Judges the answer to a request for `url`.
fn judge(
    response: Response<Body>,
    settings: &config::Upstream,
    url: &Url,
) -> Result<Judged, UpstreamError> {
    let status = response.status();
    if !is_redirect(status) {
        return accept(response, settings).map(Judged::Accepted);
    }
    let location = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
    let location = String::from_utf8_lossy(location.unwrap_or_default());
    let target = Some(&location)
        .filter(|location| !location.is_empty())
        .map(|to| url.join(to));
    let Some(Ok(target)) = target else {
        return Err(UpstreamError::UnusableRedirect(shown(&location)));
    };
    tracing::debug!(%status, location = shown(target.as_str()), "following a redirect");
    Ok(Judged::Elsewhere(target))
}

/// A URL as it may be logged: no user info and no query, which may hold credentials.
fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let bare = bare
        .split_once("//")
        .map_or(bare.to_owned(), |(scheme, rest)| {
            let authority = rest.split('/').next().unwrap_or_default();
            let path = rest.get(authority.len()..).unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}//{host}{path}")
        });
    let more = if bare.len() < url.len() && url.contains('?') {
        "?…"
    } else {
        ""
    };
    said(bare.as_bytes()) + more
}

fn request(
    wanted: Wanted<'_>,
    url: &Url,
    last_event_id: Option<&HeaderValue>,
    keeps_credentials: bool,
) -> Result<Request<Empty<Bytes>>, UpstreamError> {
    let unusable = || UpstreamError::UnusableRedirect(shown(url.as_str()));
    let settings = &wanted.settings.upstream;
    let is_http2 = settings.http == UpstreamHttp::Two;
    // Without user info, which is nobody's business (RFC 9110, 4.2.4).
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    // HTTP/1.1 asks an origin server in origin-form, HTTP/2 by pseudo-header fields.
    let target = if is_http2 {
        format!("{}://{authority}{target}", url.scheme())
    } else {
        target.to_owned()
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.parse::<Uri>().map_err(|_invalid| unusable())?;
    *request.version_mut() = if is_http2 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    let fields = request.headers_mut();
    if !is_http2 {
        fields.insert(
            HOST,
            HeaderValue::from_str(authority).map_err(|_invalid| unusable())?,
        );
    }
    fields.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
    let codings = match settings.compression {
        Compression::Accept => coding::ACCEPTED,
        Compression::Decline => "identity",
    };
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("ssecast/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, value) in &settings.headers {
        if keeps_credentials || !(value.is_sensitive() || name == HOST) {
            fields.insert(name.clone(), value.clone());
        }
    }
    // Of what a client sent, only this; and as a credential, which each of them may be.
    if keeps_credentials {
        for (name, value) in wanted.settings.key.fields_of(wanted.key) {
            fields.append(name.clone(), value.clone());
        }
    }
    if let Some(id) = last_event_id {
        fields.insert(LAST_EVENT_ID, id.clone());
    }
    Ok(request)
}

async fn exchange(
    (settings, tls): (&config::Upstream, &UpstreamTls),
    line: &Line,
    url: &Url,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Body>, UpstreamError> {
    let protocol = match settings.http {
        UpstreamHttp::One => Protocol::Http1,
        UpstreamHttp::Two => Protocol::Http2,
    };
    let target = target(url)?;
    let connect = connect::open(
        &target,
        protocol,
        Means {
            tls: &line.tls,
            settings: tls,
            gather: line.gather.as_ref(),
        },
        settings.connect_timeout,
    );
    let connection = within(settings.connect_timeout, connect)
        .await
        .ok_or(UpstreamError::ConnectTimedOut)?
        .map_err(UpstreamError::ConnectFailed)?;
    within(
        settings.header_timeout,
        exchange::send(connection, protocol, request),
    )
    .await
    .ok_or(UpstreamError::ResponseTimedOut)?
    .map_err(UpstreamError::RequestFailed)
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    timeout(limit, future).await.ok()
}

fn target(url: &Url) -> Result<Target, UpstreamError> {
    let unusable = || UpstreamError::UnusableRedirect(shown(url.as_str()));
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(unusable()),
    };
    let host = url.host_str().ok_or_else(unusable)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = url.port_or_known_default().ok_or_else(unusable)?;
    Ok(Target { scheme, host, port })
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Judges a response that is not a redirect (WHATWG HTML, 9.2.3).
fn accept(response: Response<Body>, settings: &config::Upstream) -> Result<Answer, UpstreamError> {
    let status = response.status();
    if status != StatusCode::OK {
        return match settings.on_status.of(status) {
            OnStatus::Over => Ok(Answer::Over),
            OnStatus::GiveUp | OnStatus::Retry => Err(UpstreamError::UnexpectedStatus {
                status,
                retry_after: retry_after(response.headers()),
                challenges: Challenges::of(response.headers()),
            }),
        };
    }
    let field = |name: HeaderName| {
        let value = response.headers().get(name).map(HeaderValue::as_bytes);
        said(value.unwrap_or_default())
    };
    let media_type = field(CONTENT_TYPE);
    if !is_event_stream(&media_type) {
        return Err(UpstreamError::UnexpectedMediaType(media_type));
    }
    warn_of_charset(&media_type);
    let encodings = response.headers().get_all(CONTENT_ENCODING).iter();
    let encodings: Vec<&[u8]> = encodings.map(HeaderValue::as_bytes).collect();
    let encoding = said(&encodings.join(&b", "[..]));
    let Ok(coding) = Coding::of(&encoding) else {
        return Err(UpstreamError::UnexpectedEncoding(encoding));
    };
    Ok(Answer::Events(DecodedBody::new(
        response.into_body(),
        coding,
    )))
}

/// For how long the origin wants to be left alone (RFC 9110, 10.2.3).
fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            at.duration_since(SystemTime::now()).ok()
        }
    }
}

/// What an origin said, short enough to be logged.
fn said(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let mut text = String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes)).into_owned();
    if bytes.len() > LONGEST {
        text.push('…');
    }
    text
}

/// An event stream is UTF-8, whatever it says (WHATWG HTML, 9.2.4): browsers read it so, and so do we.
/// Who says something else may send something else, which can't be read then.
fn warn_of_charset(media_type: &str) {
    let lower = media_type.to_ascii_lowercase();
    let charset = lower.split(';').skip(1).find_map(|parameter| {
        let charset = parameter.trim().strip_prefix("charset=")?;
        Some(charset.trim_matches('"').to_owned())
    });
    let is_fine = |charset: &str| matches!(charset, "utf-8" | "utf8" | "us-ascii" | "ascii");
    if let Some(charset) = charset.filter(|charset| !is_fine(charset)) {
        tracing::warn!(
            charset,
            advice = "let the origin send UTF-8, and say so",
            "an event stream is UTF-8: what is not is replaced by U+FFFD"
        );
    }
}

/// Parameters do not matter: the format is always UTF-8.
fn is_event_stream(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(EVENT_STREAM)
}

/// An ID as a header field value; `None` if HTTP can't carry it, so that it can't be resumed from.
pub(super) fn header_value(id: &str) -> Option<HeaderValue> {
    if id.len() > MAX_ID_BYTES {
        tracing::warn!(
            bytes = id.len(),
            "an event ID that is too long to resume from"
        );
        return None;
    }
    let value = HeaderValue::from_bytes(id.as_bytes());
    value
        .inspect_err(|_| tracing::warn!(id, "an event ID that no header field can carry"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_holds_no_credential() {
        for (url, expected) in [
            ("http://a/b", "http://a/b"),
            ("http://a/b?token=x", "http://a/b?…"),
            ("ftp://user:pass@a:1/b@c?token=x#y", "ftp://a:1/b@c?…"),
            ("//user:pass@a/b", "//a/b"),
            ("/b?token=x", "/b?…"),
            ("", ""),
        ] {
            assert_eq!(shown(url), expected, "{url:?}");
        }
    }

    #[test]
    fn parameters_of_the_media_type_do_not_matter() {
        for fine in [
            "text/event-stream",
            "text/event-stream; charset=utf-8",
            "Text/Event-Stream ;x",
        ] {
            assert!(is_event_stream(fine), "{fine:?}");
        }
        for wrong in ["", "text/html", "text/event-streams", "application/json"] {
            assert!(!is_event_stream(wrong), "{wrong:?}");
        }
    }

    /// The request target and the host that are asked for.
    fn asked(http: &str, url: &str) -> (String, Option<String>) {
        let text = format!(
            "[listen.public]\naddress = \"127.0.0.1:0\"\n[channels.events]\npath = \"/events\"\n\
             upstream = \"http://127.0.0.1/\"\nupstream_http = \"{http}\"\n"
        );
        let config = config::Config::parse("test.toml", &text).expect("a configuration");
        let wanted = Wanted {
            settings: &config.config.channels[0],
            key: &Key::default(),
            place: 0,
        };
        let url = Url::parse(url).expect("url");
        let request = request(wanted, &url, None, true).expect("a request");
        let host = request.headers().get(HOST);
        let host = host.map(|host| host.to_str().expect("text").to_owned());
        (request.uri().to_string(), host)
    }

    #[test]
    fn a_request_is_for_the_path_and_the_query_of_its_url() {
        for (url, target, host) in [
            ("http://example.org", "/", "example.org"),
            ("http://example.org:80/", "/", "example.org"),
            ("https://[::1]:81/a%20b?c=d&e#f", "/a%20b?c=d&e", "[::1]:81"),
            // The host is also a part of what comes before it.
            ("http://http/events", "/events", "http"),
            ("https://s:8443/events", "/events", "s:8443"),
            ("http://p/p?p", "/p?p", "p"),
            // A redirect may lead there.
            ("http://user:password@example.org/x", "/x", "example.org"),
        ] {
            assert_eq!(
                asked("1.1", url),
                (target.to_owned(), Some(host.to_owned())),
                "{url}"
            );
            let scheme = url.split(':').next().expect("a scheme");
            assert_eq!(
                asked("2", url),
                (format!("{scheme}://{host}{target}"), None),
                "{url}"
            );
        }
    }

    #[test]
    fn a_target_has_a_bare_host_and_a_port() {
        let of = |url: &str| target(&Url::parse(url).expect("url")).expect("target");
        let target = of("http://[::1]:81/x");
        assert_eq!((target.host.as_str(), target.port), ("::1", 81));
        let target = of("https://example.org/x");
        assert_eq!(
            (target.host.as_str(), target.port, target.scheme),
            ("example.org", 443, Scheme::Https)
        );
    }
}
