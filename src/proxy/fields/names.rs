//! What a header field is to a proxy, by its name.
//!
//! Much of what origins run on (CGI, WSGI, PHP) can't tell `_` from `-` in a name. So a field whose name
//! is a known one but for that is nothing that anybody needs, and a way around what is done with it.

use http::header::HeaderName;

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of one connection (RFC 9110, 7.6.1), or for the next proxy only (11.7).
    Connection,
    /// Standardised for the recipient at the end, so nothing between may be told to take it away.
    EndToEnd,
    /// What a message's length is said with (RFC 9112, 6).
    Framing,
    /// Nobody sends it but who wants to fool somebody.
    Hostile,
    /// Read and made anew.
    Ours,
    /// Anything else.
    Other,
    /// By which a proxy says for whom it asks, and what it was asked.
    Sender,
}

/// How a name is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As it should be.
    Proper,
    /// With `_` where a known name has `-`.
    Underscored,
}

/// What the field of this name is, and whether it only looks like it.
pub(super) fn kind_of(name: &HeaderName) -> (Kind, Spelling) {
    let name = name.as_str();
    if name.contains('_') {
        (known(&name.replace('_', "-")), Spelling::Underscored)
    } else {
        (known(name), Spelling::Proper)
    }
}

/// The same of a name that somebody wrote.
pub(super) fn kind_of_token(token: &str) -> Kind {
    known(&token.to_ascii_lowercase())
}

/// Whether a field may come after a body (RFC 9110, 6.5.1): it changes nothing of how the message is
/// framed, routed, authenticated or read.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    match kind_of(name) {
        (Kind::Other, _) => true,
        (Kind::EndToEnd, Spelling::Proper) => matches!(
            name.as_str(),
            "content-digest" | "content-md5" | "etag" | "repr-digest" | "server-timing"
        ),
        _ => false,
    }
}

fn known(name: &str) -> Kind {
    match name {
        "connection"
        | "http2-settings"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authentication-info"
        | "proxy-authorization"
        | "proxy-connection"
        | "te"
        | "upgrade" => Kind::Connection,
        "content-length" | "transfer-encoding" => Kind::Framing,
        // To a CGI program it is the environment variable HTTP_PROXY (CVE-2016-5385 and its kin).
        "proxy" => Kind::Hostile,
        "cookie" | "host" | "max-forwards" | "trailer" | "via" => Kind::Ours,
        "cf-connecting-ip"
        | "client-ip"
        | "fastly-client-ip"
        | "forwarded"
        | "true-client-ip"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "x-forwarded"
        | "x-host"
        | "x-original-host"
        | "x-original-url"
        | "x-real-ip"
        | "x-rewrite-url" => Kind::Sender,
        _ if name.starts_with("x-forwarded-") || name.starts_with("x-original-forwarded-") => {
            Kind::Sender
        }
        "age"
        | "allow"
        | "alt-svc"
        | "authorization"
        | "cache-control"
        | "date"
        | "dnt"
        | "early-data"
        | "etag"
        | "expect"
        | "expires"
        | "from"
        | "grpc-timeout"
        | "last-event-id"
        | "last-modified"
        | "link"
        | "location"
        | "origin"
        | "pragma"
        | "prefer"
        | "priority"
        | "range"
        | "referer"
        | "repr-digest"
        | "retry-after"
        | "server"
        | "server-timing"
        | "set-cookie"
        | "strict-transport-security"
        | "traceparent"
        | "tracestate"
        | "upgrade-insecure-requests"
        | "user-agent"
        | "vary"
        | "want-repr-digest"
        | "www-authenticate" => Kind::EndToEnd,
        _ if END_TO_END.iter().any(|prefix| name.starts_with(prefix)) => Kind::EndToEnd,
        _ => Kind::Other,
    }
}

/// Families of fields that are for the recipient at the end.
const END_TO_END: [&str; 7] = [
    "accept",
    "access-control-",
    "authentication-",
    "content-",
    "cross-origin-",
    "if-",
    "sec-",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_known_in_every_spelling() {
        for (name, kind) in [
            ("Transfer-Encoding", Kind::Framing),
            ("Transfer_Encoding", Kind::Framing),
            ("X-Forwarded-For", Kind::Sender),
            ("X_FORWARDED_for", Kind::Sender),
            ("X-Forwarded_For", Kind::Sender),
            ("X-Real-IP", Kind::Sender),
            ("Accept-Language", Kind::EndToEnd),
            ("Content_Type", Kind::EndToEnd),
            ("Sec-WebSocket-Key", Kind::EndToEnd),
            ("Proxy", Kind::Hostile),
            ("X-Anything", Kind::Other),
            ("my_own", Kind::Other),
            ("Proxy-Foo", Kind::Other),
        ] {
            let parsed: HeaderName = name.parse().expect("a name");
            let (found, spelling) = kind_of(&parsed);
            assert_eq!(found, kind, "{name}");
            assert_eq!(
                spelling == Spelling::Underscored,
                name.contains('_'),
                "{name}"
            );
        }
    }

    #[test]
    fn nothing_that_means_something_comes_after_a_body() {
        for (name, may) in [
            ("grpc-status", true),
            ("x-checksum", true),
            ("content-digest", true),
            ("etag", true),
            ("content_digest", false),
            ("content-length", false),
            ("transfer_encoding", false),
            ("host", false),
            ("authorization", false),
            ("x-forwarded-for", false),
            ("set-cookie", false),
            ("connection", false),
            ("via", false),
        ] {
            assert_eq!(may_trail(&HeaderName::from_static(name)), may, "{name}");
        }
    }
}
