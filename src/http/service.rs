//! From a request to an answer, or to a subscription.
//!
//! What is answered at once is decided here; how a subscription begins, in [`super::subscribe`].

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;

use super::accept::{
    Representation, names_event_stream, preferred, preferred_form, vary_by_accept,
};
use super::answer::{METHODS, Refusal, empty, full};
use super::cors::{allow_origin, allow_request, is_preflight};
use super::fetch::{DocumentBody, describe_document, fetch};
use super::head::{describe_heartbeat, describe_stream};
use super::pass::is_for_nobody;
use super::route::{Found, Route, host_of};
use super::selection::Selected;
use super::subscribe::{REFUSED_RETRY, Refused, Subscription, subscribe};
use super::visitor::Visitor;
use crate::config::{Key, KeyError, UnknownPath};
use crate::delivery::random_time;
use crate::net::permit::Admission;
use crate::proxy::Proxy;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A short answer, after which the connection may go on.
    Answer(Response<Full<Bytes>>),
    /// What the channel has at the moment, which takes a while to send.
    Document(Response<DocumentBody>),
    /// What the backend answers.
    PassOn(Arc<Proxy>),
    /// A stream that is cut at once.
    Refuse(Refused),
    /// A stream.
    Subscribe(Subscription),
}

/// What a request brings besides its head. Only a backend reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    None,
    Some,
}

impl From<&Incoming> for Content {
    fn from(body: &Incoming) -> Self {
        if body.is_end_stream() {
            Self::None
        } else {
            Self::Some
        }
    }
}

impl Content {
    /// A request, and apart from it what it brings.
    pub(super) fn split(request: Request<Incoming>) -> (Request<Self>, Incoming) {
        let (head, body) = request.into_parts();
        let content = Self::from(&body);
        (Request::from_parts(head, content), body)
    }
}

/// Answers a request, or says who does.
///
/// # Cancel safety
///
/// May be dropped at any time: a place that was taken is given back.
pub(super) async fn respond(visitor: &Visitor<'_>, request: &Request<Content>) -> Outcome {
    let form = || preferred_form(request.headers());
    let Some(host) = host(request) else {
        return Outcome::Answer(Refusal::BadHost.answer(form()));
    };
    let method = request.method();
    let is_for_nobody = is_for_nobody(method, request.extensions().get::<Protocol>());
    let current = Arc::clone(&visitor.gateway.current());
    let routes = &current.routes;
    let path = request.uri().path();
    match routes.find(host, path) {
        Found::Channel(route, captured) => {
            let is_for_channel = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
            let proxy = (!is_for_channel && !is_for_nobody).then(|| routes.find_proxy(host, path));
            if let Some(proxy) = proxy.flatten()
                && visitor.admission == Admission::Admitted
            {
                return Outcome::PassOn(Arc::clone(proxy));
            }
            let key = key_of(route, &captured, request);
            // Boxed: requests that pass through need not have room for it.
            Box::pin(respond_for_channel((route, key), visitor, request)).await
        }
        _ if is_for_nobody => Outcome::Answer(Refusal::ForNobody.answer(form())),
        // Also what could be answered: the connection must end, so that its place can be had.
        Found::Nothing | Found::Page(_) | Found::Proxy(_)
            if visitor.admission != Admission::Admitted =>
        {
            Outcome::Answer(Refusal::AtLimit(random_time(&REFUSED_RETRY)).answer(form()))
        }
        Found::Proxy(proxy) => Outcome::PassOn(Arc::clone(proxy)),
        Found::Page(page) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let body = Bytes::from_static(page.text.as_bytes());
            Outcome::Answer(full(StatusCode::OK, page.media_type, body))
        }
        Found::Page(_) => Outcome::Answer(Refusal::MethodNotAllowed.answer(form())),
        Found::Nothing => {
            let paths = (current.server.unknown_path == UnknownPath::ListPaths)
                .then(|| routes.paths().join(", "));
            Outcome::Answer(Refusal::NotFound(paths).answer(form()))
        }
    }
}

/// What tells the instance that is asked for from the others of its template.
fn key_of(route: &Route, captured: &[String], request: &Request<Content>) -> Result<Key, KeyError> {
    let captured = captured.iter().map(String::as_str);
    let (query, fields) = (request.uri().query(), request.headers());
    route.settings.key.key(captured, query, fields)
}

async fn respond_for_channel(
    (route, key): (&Route, Result<Key, KeyError>),
    visitor: &Visitor<'_>,
    request: &Request<Content>,
) -> Outcome {
    let settings = &route.settings;
    let mut fields = HeaderMap::new();
    allow_origin(settings.cors.as_ref(), request.headers(), &mut fields);
    if request.method() != Method::OPTIONS {
        vary_by_accept(&mut fields);
    }
    let with_fields = |mut answer: Response<Full<Bytes>>, fields: HeaderMap| {
        answer.headers_mut().extend(fields);
        Outcome::Answer(answer)
    };
    let refuse = |refusal: Refusal, fields| {
        with_fields(refusal.answer(preferred_form(request.headers())), fields)
    };
    let is_for_stream = *request.method() == Method::GET && names_event_stream(request.headers());
    if visitor.admission != Admission::Admitted && !is_for_stream {
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
    if *request.body() == Content::Some {
        return refuse(Refusal::HasBody, fields);
    }
    let Some(representation) = preferred(request.headers()) else {
        return refuse(Refusal::NotAcceptable, fields);
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => return refuse(Refusal::BadKey(error), fields),
    };
    let unknown_path = visitor.gateway.current().server.unknown_path;
    let selected = match Selected::of(settings, request.uri().query(), unknown_path) {
        Ok(selected) => selected,
        Err(bad) => return refuse(Refusal::BadQuery(bad), fields),
    };
    if let Some(refused) = route.target.refusal(&key) {
        return refuse(Refusal::ByOrigin(refused), fields);
    }
    if request.method() == Method::HEAD {
        match representation {
            Representation::Document => describe_document(&mut fields),
            Representation::EventStream => {
                if let Some(refusal) = route.target.turned_away() {
                    return refuse(refusal, fields);
                }
                describe_stream(&mut fields);
                describe_heartbeat(&mut fields, &route.settings);
            }
        }
        return with_fields(empty(StatusCode::OK), fields);
    }
    let asked = (route, key, &selected);
    let answered = match representation {
        Representation::Document => fetch(asked, visitor, request, &mut fields).await,
        Representation::EventStream => subscribe(asked, visitor, request, &mut fields).await,
    };
    match answered {
        Ok(outcome) => outcome,
        Err(refusal) => refuse(refusal, fields),
    }
}

/// The host that a request is for: of its absolute-form target, or of its one `Host` header field
/// (RFC 9112, 3.2). HTTP/1.0 may go without.
fn host(request: &Request<Content>) -> Option<&str> {
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
