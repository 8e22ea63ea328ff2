//! Why an upstream connection failed.

use std::io;

use http::StatusCode;

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
    /// The body is compressed, which was not asked for.
    #[error("unexpected content encoding {0:?}")]
    UnexpectedEncoding(String),
    /// The body is not an event stream.
    #[error("expected media type text/event-stream, not {0:?}")]
    UnexpectedMediaType(String),
    /// Neither 200 nor a redirect.
    #[error("unexpected status {0}")]
    UnexpectedStatus(StatusCode),
    /// A redirect without a usable `Location`.
    #[error("a redirect to nowhere ({0:?})")]
    UnusableRedirect(String),
}

impl UpstreamError {
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
            Self::UnexpectedEncoding(_) => "unexpected-encoding",
            Self::UnexpectedMediaType(_) => "unexpected-media-type",
            Self::UnexpectedStatus(_) => "unexpected-status",
            Self::UnusableRedirect(_) => "unusable-redirect",
        }
    }
}

impl UpstreamError {
    /// Whether asking for another place in the stream might help.
    pub(super) fn may_be_due_to_id(&self) -> bool {
        match self {
            Self::LimitExceeded(_) => true,
            // Bad request, gone, precondition failed, too large in some way, unprocessable.
            Self::UnexpectedStatus(status) => {
                matches!(
                    status.as_u16(),
                    400 | 410 | 412 | 413 | 414 | 416 | 422 | 431
                )
            }
            _ => false,
        }
    }
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
