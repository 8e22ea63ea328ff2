//! What a client is told that does not get a stream: one total table from reasons to answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::accept::Form;
use super::selection::BadQuery;
use crate::channel::Refused;
use crate::config::KeyError;
use crate::proxy::Failure;

/// Why a request gets no stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A limit is reached; come back after this long.
    AtLimit(Duration),
    /// What tells the streams of a channel from each other can't be read, or is not allowed.
    BadKey(KeyError),
    /// The query asks for what nobody can give.
    BadQuery(BadQuery),
    /// The origin has refused it: what it said.
    ByOrigin(Refused),
    /// No usable `Host` header field (RFC 9112, 3.2).
    BadHost,
    /// A method that no resource has.
    ForNobody,
    /// A subscription has no body.
    HasBody,
    /// The channel is for `GET` and `HEAD`.
    MethodNotAllowed,
    /// The `Accept` header field excludes event streams, and JSON.
    NotAcceptable,
    /// The backend did not answer; where it is too busy, come back after this long.
    NotPassedOn(Failure, Duration),
    /// Nothing is there; the text lists what is, if the configuration says so.
    NotFound(Option<String>),
    /// The channel is over: nobody need come back (WHATWG HTML, 9.2.3).
    Over,
    /// A protocol that a CONNECT asks for, and that may not be passed on (RFC 9220, 3).
    UnknownProtocol,
    /// The origin is away; come back after this long.
    UpstreamDown(Duration),
}

/// The methods of a channel.
pub(super) const METHODS: &str = "GET, HEAD, OPTIONS";

/// The methods that may be passed on; there are others.
const PASSED_ON: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::AtLimit(_) | Self::UpstreamDown(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadHost | Self::BadKey(_) | Self::BadQuery(_) | Self::HasBody => {
                StatusCode::BAD_REQUEST
            }
            Self::ByOrigin(refused) => refused.status,
            Self::ForNobody | Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotPassedOn(failure, _) => failure.reason.status(),
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Over => StatusCode::NO_CONTENT,
            Self::UnknownProtocol => StatusCode::NOT_IMPLEMENTED,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::AtLimit(_) => "too many clients right now, try again later".to_owned(),
            Self::BadKey(error) => error.to_string(),
            Self::BadQuery(bad) => bad.detail(),
            Self::ByOrigin(_) => "the origin of this event stream says so".to_owned(),
            Self::BadHost => "a request needs exactly one Host header field".to_owned(),
            Self::ForNobody => "CONNECT and TRACE are not answered here".to_owned(),
            Self::HasBody => "a request for an event stream must not have a body".to_owned(),
            Self::MethodNotAllowed => format!("an event stream is for {METHODS}"),
            Self::NotAcceptable => {
                "this is an event stream: accept text/event-stream, or application/json for what it \
                 has at the moment"
                    .to_owned()
            }
            Self::NotPassedOn(failure, _) => failure.to_string(),
            Self::NotFound(None) => "nothing is here".to_owned(),
            Self::NotFound(Some(paths)) => format!("nothing is here; event streams: {paths}"),
            Self::Over => String::new(),
            Self::UnknownProtocol => "this protocol is not passed on here".to_owned(),
            Self::UpstreamDown(_) => {
                "the origin of this event stream is away, try again later".to_owned()
            }
        }
    }

    /// The answer, in the form that the client prefers.
    pub(super) fn answer(&self, form: Form) -> Response<Full<Bytes>> {
        let status = self.status();
        if status == StatusCode::NO_CONTENT {
            return empty(status);
        }
        let detail = self.detail();
        let (media_type, text) = match form {
            Form::Problem => ("application/problem+json", problem(status, &detail)),
            Form::Text => ("text/plain; charset=utf-8", format!("{detail}\n")),
        };
        let mut answer = full(status, media_type, Bytes::from(text));
        let fields = answer.headers_mut();
        match self {
            Self::AtLimit(wait) | Self::UpstreamDown(wait) => {
                fields.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
                fields.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::NotPassedOn(_, wait) if status == StatusCode::SERVICE_UNAVAILABLE => {
                fields.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
            }
            // Nobody knows where the next request would begin.
            Self::NotPassedOn(failure, _) if failure.reason.closes() => {
                fields.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::ForNobody => {
                fields.insert(ALLOW, HeaderValue::from_static(PASSED_ON));
                fields.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What follows the head is not ours to read.
            Self::HasBody => {
                fields.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::MethodNotAllowed => {
                fields.insert(ALLOW, HeaderValue::from_static(METHODS));
            }
            // Deviates: RFC 9110, 15.5.2, where the origin has sent no challenge, because nobody here knows
            // how it wants to be told who asks.
            Self::ByOrigin(refused) => {
                for challenge in refused.challenges.iter() {
                    fields.append(WWW_AUTHENTICATE, challenge.clone());
                }
            }
            Self::BadHost
            | Self::BadKey(_)
            | Self::BadQuery(_)
            | Self::NotAcceptable
            | Self::NotFound(_)
            | Self::NotPassedOn(..)
            | Self::Over
            | Self::UnknownProtocol => {}
        }
        answer
    }
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// An answer with a body.
pub(super) fn full(
    status: StatusCode,
    media_type: &'static str,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let fields: &mut HeaderMap = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A problem document (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> String {
    let title = status.canonical_reason().unwrap_or_default();
    let code = status.as_u16();
    format!(
        r#"{{"title":"{title}","status":{code},"detail":"{}"}}"#,
        escape_json(detail)
    ) + "\n"
}

/// A text inside a JSON string (RFC 8259, 7).
fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\u{0}'..='\u{1f}' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_whatever_the_detail() {
        let text = problem(StatusCode::NOT_FOUND, "a \"b\" \\ \n");
        assert_eq!(
            text,
            "{\"title\":\"Not Found\",\"status\":404,\"detail\":\"a \\\"b\\\" \\\\ \\u000a\"}\n"
        );
    }

    #[test]
    fn a_limit_says_when_to_come_back() {
        let answer = Refusal::AtLimit(Duration::from_secs(7)).answer(Form::Text);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "7");
    }
}
