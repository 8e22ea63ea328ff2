//! Which other origins' pages may read a channel (Fetch Standard, 3.2).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::config::{Cors, Credentials, Origins};

/// Whether a request asks what a page may do (Fetch Standard, 3.2.2).
pub(super) fn is_preflight(method: &Method, fields: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && fields.contains_key(ORIGIN)
        && fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds what lets a page of the request's origin read the answer, if it may.
pub(super) fn allow_origin(cors: Option<&Cors>, request: &HeaderMap, answer: &mut HeaderMap) {
    let Some(cors) = cors else { return };
    let allowed = match &cors.origins {
        Origins::Any => Some(HeaderValue::from_static("*")),
        Origins::Listed(origins) => {
            // The answer depends on the origin even where there is none: caches must know.
            answer.append(VARY, HeaderValue::from_static("Origin"));
            let origin = request.get(ORIGIN);
            origin
                .filter(|origin| {
                    origins
                        .iter()
                        .any(|one| one.as_bytes() == origin.as_bytes())
                })
                .cloned()
        }
    };
    let Some(allowed) = allowed else { return };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.credentials == Credentials::Allow {
        answer.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
}

/// Adds what a preflight asks for, if its origin was allowed.
pub(super) fn allow_request(answer: &mut HeaderMap) {
    if !answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD"),
    );
    // What clients that subscribe by `fetch` send besides the safe ones.
    let fields = HeaderValue::from_static("Cache-Control, Last-Event-ID, X-Requested-With");
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields);
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
}
