//! From a request for the admin listener to its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::facts::Facts;
use super::{health, metrics, status};

/// What a path has to say.
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) media_type: &'static str,
    pub(super) body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "\
ssecast
  /metrics  numbers, in the Prometheus text format
  /live     200 while every delivery thread turns
  /ready    200 while clients may be sent here
  /status   everything about the process and its channels, as JSON
";

/// Answers a request. A HEAD is answered like a GET; hyper leaves the body out.
pub(super) async fn answer(
    facts: &Arc<Facts>,
    method: &Method,
    path: &str,
) -> Response<Full<Bytes>> {
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    let told = match path {
        _ if !is_reading => Told {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..Told::text("everything here is for GET and HEAD\n")
        },
        "/" => Told::text(INDEX),
        "/live" => health::live(facts).await,
        "/metrics" => metrics::tell(facts).await,
        "/ready" => health::ready(facts),
        "/status" => status::tell(facts).await,
        _ => Told {
            status: StatusCode::NOT_FOUND,
            ..Told::text(format!("nothing is here; what there is:\n\n{INDEX}"))
        },
    };
    let mut answer = Response::new(Full::new(Bytes::from(told.body)));
    *answer.status_mut() = told.status;
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(told.media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if told.status == StatusCode::METHOD_NOT_ALLOWED {
        fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    answer
}

impl Told {
    pub(super) fn text(body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            media_type: TEXT,
            body: body.into(),
        }
    }

    /// What does not happen.
    pub(super) fn broken(body: &str) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::text(body)
        }
    }

    pub(super) fn unavailable(body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Self::text(body)
        }
    }
}
