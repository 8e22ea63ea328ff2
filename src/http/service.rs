//! From a request to an answer, or to a subscription.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};

use super::Gateway;
use super::accept::{accepts_event_stream, names_event_stream, preferred_form};
use super::answer::{METHODS, Refusal, empty, full};
use super::cors::{allow_origin, allow_request, is_preflight};
use super::head::describe_stream;
use super::route::{Found, Route, host_of};
use crate::channel::{RefusedBy, Seat, State};
use crate::config::{Refuse, UnknownPath};
use crate::delivery::{Framing, random_time, return_time};
use crate::net::permit::Admission;
use crate::sse;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A short answer, after which the connection may go on.
    Answer(Response<Full<Bytes>>),
    /// A stream that is cut at once.
    Refuse(Refused),
    /// A stream.
    Subscribe(Subscription),
}

/// A stream that says when to come back, and no more.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) framing: Framing,
    /// The header fields of the response.
    pub(super) fields: HeaderMap,
    /// What the stream says.
    pub(super) block: Vec<u8>,
}

/// An accepted subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) route: Route,
    pub(super) seat: Seat,
    pub(super) framing: Framing,
    pub(super) last_event_id: Option<String>,
    /// The header fields of the response.
    pub(super) fields: HeaderMap,
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// After how long a refused client is told to come back: random, so that those who were refused
/// together do not return together.
const REFUSED_RETRY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(30);

/// How long a refused client may take for its few bytes.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a request.
pub(super) fn respond(
    gateway: &Gateway,
    admission: Admission,
    request: &Request<Incoming>,
) -> Outcome {
    let form = preferred_form(request.headers());
    let Some(host) = host(request) else {
        return Outcome::Answer(Refusal::BadHost.answer(form));
    };
    let current = Arc::clone(&gateway.current());
    let routes = &current.routes;
    match routes.find(host, request.uri().path()) {
        Found::Channel(route) => respond_for_channel(route, admission, request),
        // Also what could be answered: the connection must end, so that its place can be had.
        Found::Nothing | Found::Page(_) if admission == Admission::Refused => {
            Outcome::Answer(Refusal::AtLimit(random_time(&REFUSED_RETRY)).answer(form))
        }
        Found::Page(page) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let body = Bytes::from_static(page.text.as_bytes());
            Outcome::Answer(full(StatusCode::OK, page.media_type, body))
        }
        Found::Page(_) => Outcome::Answer(Refusal::MethodNotAllowed.answer(form)),
        Found::Nothing => {
            let paths = (current.server.unknown_path == UnknownPath::ListPaths)
                .then(|| routes.paths().join(", "));
            Outcome::Answer(Refusal::NotFound(paths).answer(form))
        }
    }
}

fn respond_for_channel(
    route: &Route,
    admission: Admission,
    request: &Request<Incoming>,
) -> Outcome {
    let settings = &route.settings;
    let mut fields = HeaderMap::new();
    allow_origin(settings.cors.as_ref(), request.headers(), &mut fields);
    let with_fields = |mut answer: Response<Full<Bytes>>, fields: HeaderMap| {
        answer.headers_mut().extend(fields);
        Outcome::Answer(answer)
    };
    let refuse = |refusal: Refusal, fields| {
        with_fields(refusal.answer(preferred_form(request.headers())), fields)
    };
    let is_for_stream = *request.method() == Method::GET && names_event_stream(request.headers());
    if admission == Admission::Refused && !is_for_stream {
        return refuse(Refusal::AtLimit(random_time(&REFUSED_RETRY)), fields);
    }
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => {
            if is_preflight(request.method(), request.headers()) {
                allow_request(&mut fields);
            }
            fields.insert(ALLOW, HeaderValue::from_static(METHODS));
            return with_fields(empty(StatusCode::NO_CONTENT), fields);
        }
        _ => return refuse(Refusal::MethodNotAllowed, fields),
    }
    if !request.body().is_end_stream() {
        return refuse(Refusal::HasBody, fields);
    }
    if !accepts_event_stream(request.headers()) {
        return refuse(Refusal::NotAcceptable, fields);
    }
    if route.channel.status().state == State::Over {
        return refuse(Refusal::Over, fields);
    }
    if request.method() == Method::HEAD {
        describe_stream(&mut fields);
        return with_fields(empty(StatusCode::OK), fields);
    }
    subscribe(route, admission, request, fields)
}

fn subscribe(
    route: &Route,
    admission: Admission,
    request: &Request<Incoming>,
    mut fields: HeaderMap,
) -> Outcome {
    let framing = if request.version() == Version::HTTP_11 {
        Framing::Chunked
    } else {
        Framing::Plain
    };
    let seat = (admission == Admission::Admitted)
        .then(|| route.channel.join())
        .flatten();
    let Some(seat) = seat else {
        let by = match admission {
            _ if route.channel.closing().is_some() => RefusedBy::Stop,
            _ if !route.channel.log().budget().has_room() => RefusedBy::Memory,
            Admission::Admitted => RefusedBy::MaxSubscribers,
            Admission::Refused => RefusedBy::MaxConnections,
        };
        route.channel.counters().refusals(by).add(1);
        tracing::debug!(
            channel = route.channel.name(),
            "refused a subscriber at a limit"
        );
        return refuse_at_limit(route, framing, request, fields);
    };
    describe_stream(&mut fields);
    Outcome::Subscribe(Subscription {
        route: route.clone(),
        seat,
        framing,
        last_event_id: last_event_id(request),
        fields,
    })
}

/// An `EventSource` gives up for ever at any status but 200: it gets a stream that ends at once.
fn refuse_at_limit(
    route: &Route,
    framing: Framing,
    request: &Request<Incoming>,
    mut fields: HeaderMap,
) -> Outcome {
    let wait = match route.channel.closing() {
        Some(deadline) => return_time(deadline),
        None => random_time(&REFUSED_RETRY),
    };
    let is_for_streams = names_event_stream(request.headers());
    if route.settings.refuse == Refuse::Unavailable || !is_for_streams {
        let mut answer = Refusal::AtLimit(wait).answer(preferred_form(request.headers()));
        answer.headers_mut().extend(fields);
        return Outcome::Answer(answer);
    }
    describe_stream(&mut fields);
    let mut block = Vec::new();
    sse::encode_retry(&mut block, wait);
    Outcome::Refuse(Refused {
        framing,
        fields,
        block,
    })
}

/// The host that a request is for: of its absolute-form target, or of its one `Host` header field
/// (RFC 9112, 3.2). HTTP/1.0 may go without.
fn host(request: &Request<Incoming>) -> Option<&str> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field.to_str().ok()?),
        (None, _) if request.version() == Version::HTTP_11 => return None,
        (None, _) => None,
        (Some(_), Some(_)) => return None,
    };
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    Some(host_of(authority.or(field).unwrap_or_default()))
}

/// What the client has seen last: the header field, or for an `EventSource` that was made anew and
/// can't set one, a parameter of the query.
fn last_event_id(request: &Request<Incoming>) -> Option<String> {
    let field = request.headers().get(LAST_EVENT_ID);
    let from_field = field.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let from_query = || {
        let query = request.uri().query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "last_event_id" || name == "lastEventId")
            .map(|(_, value)| value.into_owned())
            .find(|id| !id.is_empty())
    };
    // An empty one says nothing (WHATWG HTML, 9.2.3).
    from_field.filter(|id| !id.is_empty()).or_else(from_query)
}
