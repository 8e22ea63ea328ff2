//! Why an upstream connection failed.

use std::io;
use std::time::Duration;

use http::StatusCode;

use super::coding::Undecodable;
use super::refusals::Challenges;
use crate::sse::LimitExceeded;

/// What went wrong with an upstream, from our view.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No TCP connection, or no TLS.
    #[error("can't connect")]
    ConnectFailed(#[source] io::Error),
    /// Neither came in time.
    #[error("connecting took too long")]
    ConnectTimedOut,
    /// An event or a line is larger than the limits allow.
    #[error("the stream breaks a limit")]
    LimitExceeded(#[source] LimitExceeded),
    /// The request failed before a response head came.
    #[error("the request failed")]
    RequestFailed(#[source] hyper::Error),
    /// No response head came in time.
    #[error("no response head in time")]
    ResponseTimedOut,
    /// The stream was silent for too long.
    #[error("no byte for longer than idle_timeout")]
    Stalled,
    /// The stream broke in the middle.
    #[error("the stream broke")]
    StreamBroke(#[source] hyper::Error),
    /// The origin ended the stream.
    #[error("the origin ended the stream")]
    StreamEnded,
    /// More redirects than `max_redirects`.
    #[error("too many redirects")]
    TooManyRedirects,
    /// The stream is not what its content coding says.
    #[error("the stream can't be decoded")]
    Undecodable(#[source] Undecodable),
    /// The body is compressed in a way that is not understood.
    #[error("unexpected content encoding {0:?}")]
    UnexpectedEncoding(String),
    /// The body is not an event stream.
    #[error("expected media type text/event-stream, not {0:?}")]
    UnexpectedMediaType(String),
    /// Neither 200 nor a redirect.
    #[error("unexpected status {status}")]
    UnexpectedStatus {
        /// The status.
        status: StatusCode,
        /// For how long the origin wants to be left alone, if it says so.
        retry_after: Option<Duration>,
        /// What it wants to know of who asks.
        challenges: Challenges,
    },
    /// A redirect without a usable `Location`.
    #[error("a redirect to nowhere ({0:?})")]
    UnusableRedirect(String),
}

impl UpstreamError {
    /// All that [`UpstreamError::reason`] may say.
    pub const REASONS: [&str; 14] = [
        "connect-failed",
        "connect-timed-out",
        "limit-exceeded",
        "request-failed",
        "response-timed-out",
        "stalled",
        "stream-broke",
        "stream-ended",
        "too-many-redirects",
        "undecodable",
        "unexpected-encoding",
        "unexpected-media-type",
        "unexpected-status",
        "unusable-redirect",
    ];

    /// A word for counters and notices.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ConnectFailed(_) => "connect-failed",
            Self::ConnectTimedOut => "connect-timed-out",
            Self::LimitExceeded(_) => "limit-exceeded",
            Self::RequestFailed(_) => "request-failed",
            Self::ResponseTimedOut => "response-timed-out",
            Self::Stalled => "stalled",
            Self::StreamBroke(_) => "stream-broke",
            Self::StreamEnded => "stream-ended",
            Self::TooManyRedirects => "too-many-redirects",
            Self::Undecodable(_) => "undecodable",
            Self::UnexpectedEncoding(_) => "unexpected-encoding",
            Self::UnexpectedMediaType(_) => "unexpected-media-type",
            Self::UnexpectedStatus { .. } => "unexpected-status",
            Self::UnusableRedirect(_) => "unusable-redirect",
        }
    }
}

impl UpstreamError {
    /// What an operator may do about it.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::ConnectFailed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Some("is the origin running, and listening there?")
            }
            Self::ConnectFailed(error) if is_tls_mismatch(error) => {
                Some("if the origin does not speak TLS there, write http:// instead of https://")
            }
            Self::ConnectFailed(error) if tls_error(error).is_some() => tls_advice(error),
            Self::RequestFailed(error) if tls_error(error).is_some() => tls_advice(error),
            Self::ConnectFailed(_) | Self::ConnectTimedOut => {
                Some("can this machine reach the host and port of the URL?")
            }
            Self::LimitExceeded(LimitExceeded::LineTooLong { .. }) => {
                Some("if such lines are right, raise max_line_bytes")
            }
            Self::LimitExceeded(LimitExceeded::EventTooLarge { .. }) => {
                Some("if such events are right, raise max_event_bytes")
            }
            Self::ResponseTimedOut => Some("if the origin is only slow, raise response_timeout"),
            Self::Stalled => {
                Some("raise idle_timeout, or let the origin send a comment now and then")
            }
            Self::UnexpectedEncoding(_) => {
                Some("let the origin send the stream uncompressed, or in one of gzip, br and zstd")
            }
            Self::Undecodable(_) => {
                Some("look at what compresses the stream: the origin, or a proxy before it")
            }
            Self::UnexpectedMediaType(_) => {
                Some("the URL answers, but not with an event stream: check its path")
            }
            Self::UnexpectedStatus { status, .. } => match status.as_u16() {
                401 | 403 => Some("say who the gateway is, with upstream_headers"),
                404 | 410 => Some("check the path of the URL"),
                _ => Some("look at the log of the origin; on_status says what is made of a status"),
            },
            Self::RequestFailed(error) if error.is_parse() => Some(
                "what listens there does not answer in HTTP; if it speaks TLS, write https:// instead of http://",
            ),
            Self::RequestFailed(_) => Some("the origin has hung up: look at its log"),
            Self::StreamBroke(_) => {
                Some("look at the log of the origin, or for a time limit of a proxy before it")
            }
            Self::StreamEnded => Some(
                "an event stream has no end: look for a time limit of the origin, or of a proxy before it",
            ),
            Self::TooManyRedirects => Some(
                "if they lead in a circle, write the URL of the stream; else raise max_redirects",
            ),
            Self::UnusableRedirect(_) => Some("write the URL of the stream instead"),
        }
    }

    /// Whether asking for another place in the stream might help.
    pub(super) fn may_be_due_to_id(&self) -> bool {
        match self {
            Self::LimitExceeded(_) => true,
            // Bad request, gone, precondition failed, too large in some way, unprocessable.
            Self::UnexpectedStatus { status, .. } => {
                matches!(
                    status.as_u16(),
                    400 | 410 | 412 | 413 | 414 | 416 | 422 | 431
                )
            }
            _ => false,
        }
    }
}

/// What TLS says, if it is TLS that failed.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        // An `io::Error` is not the source of what it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = wrapped.map_or_else(|| error.source(), |inner| Some(inner));
    }
    None
}

/// What an operator may do about a handshake that one of the two sides refuses.
fn tls_advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, HandshakeFailure, UnknownCA,
    };
    use rustls::CertificateError as Of;
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(
            Of::NotValidForName | Of::NotValidForNameContext { .. },
        ) => Some(
            "if the origin has another name than the URL's host, say it by upstream_tls.server_name",
        ),
        rustls::Error::InvalidCertificate(Of::UnknownIssuer) => {
            Some("if the origin has an authority of its own, trust it by upstream_tls.ca")
        }
        rustls::Error::InvalidCertificate(_) => Some("let the origin renew its certificate"),
        rustls::Error::AlertReceived(
            AccessDenied | BadCertificate | CertificateExpired | CertificateRequired
            | CertificateRevoked | CertificateUnknown | HandshakeFailure | UnknownCA,
        ) => Some(
            "the origin asks who the gateway is: check upstream_tls.certificate and upstream_tls.key",
        ),
        _ => None,
    }
}

/// Whether a TLS handshake met something that is not TLS.
fn is_tls_mismatch(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

/// An error and its causes in one line, for the log.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reason that is not listed would not be counted.
    #[test]
    fn all_reasons_are_listed() {
        let source = include_str!("error.rs");
        let (_, body) = source.split_once("fn reason(&self)").expect("the function");
        let (body, _) = body.split_once("\n    }\n").expect("its end");
        let said: Vec<&str> = body
            .lines()
            .filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","))
            .collect();
        assert_eq!(said, UpstreamError::REASONS);
    }
}
