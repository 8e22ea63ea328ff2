//! Why a request got no answer from the upstream, or not all of it: what the log says, what the client
//! is told, and how it is counted.

use std::fmt;
use std::io;

use http::StatusCode;

use super::fields::{Refused, Unusable};
use super::upload::UploadFailure;

/// Why there is no answer, with all that is known: for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// As many requests are under way as the configuration allows.
    #[error("`max_requests` are under way")]
    AtLimit,
    /// The request's content is not what it may be, or did not come.
    #[error(transparent)]
    Content(#[from] UploadFailure),
    /// No connection.
    #[error("connecting failed")]
    ConnectFailed(#[source] io::Error),
    /// No connection in time.
    #[error("connecting took longer than `connect_timeout`")]
    ConnectTimedOut,
    /// No memory for the request's content.
    #[error("the memory of the gateway is full")]
    NoMemory,
    /// No descriptor for a connection: of ours, or, as the system says, at all.
    #[error("no descriptor is left for a connection")]
    NoDescriptor(#[source] Option<io::Error>),
    /// It says that it has done nothing about the request, or takes none.
    #[error("the upstream takes no request")]
    NotTaken(#[source] hyper::Error),
    /// None of the URLs can be asked for this.
    #[error("no upstream can be asked for this")]
    NoEndpoint,
    /// The request is none that can be passed on.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The exchange broke before there was a head of an answer.
    #[error("the request failed")]
    RequestFailed(#[source] hyper::Error),
    /// The upstream takes no more of the request.
    #[error("nothing of the request was passed on for `idle_timeout`")]
    RequestStalled,
    /// No head of an answer in time.
    #[error("no response within `response_timeout`")]
    ResponseTimedOut,
    /// It answered 101 to a request that did not offer it, or not that.
    #[error("the upstream switched to a protocol that it was not offered")]
    SwitchedUnasked,
    /// As many tunnels as the configuration allows.
    #[error("there are `max_tunnels`")]
    TunnelsAtLimit,
    /// The gateway stops, or the proxy is removed.
    #[error("no tunnel is begun any more")]
    TunnelsClosing,
    /// The answer is none that can be passed on.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Why there is no answer, or not all of it: from a closed set, for clients and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The answer broke off.
    AnswerBroke,
    /// The client did not take its answer for too long.
    AnswerNotTaken,
    /// The upstream sent nothing more of its answer for too long.
    AnswerStalled,
    /// The client broke off its request.
    ClientLeft,
    /// The client sent nothing more of its request for too long.
    ClientStalled,
    /// The upstream closed the connection, or reset it, before it had answered.
    Closed,
    /// No connection to any of the URLs.
    ConnectFailed,
    /// No connection in time.
    ConnectTimedOut,
    /// Too many requests at a time.
    MaxRequests,
    /// Too many tunnels at a time.
    MaxTunnels,
    /// No descriptor for another connection.
    NoDescriptor,
    /// No memory for the request's content.
    NoMemory,
    /// What came is not HTTP.
    NotHttp,
    /// The request is none that can be passed on.
    Refused(Refused),
    /// The upstream takes no requests at present.
    RequestNotTaken,
    /// Nothing of the request was passed on for too long.
    RequestStalled,
    /// No head of an answer in time.
    ResponseTimedOut,
    /// The gateway stops, or does not lead there any more.
    Stopping,
    /// The TLS handshake failed.
    TlsFailed,
    /// The request's content is too large.
    TooLarge,
    /// It switched to a protocol that nobody asked for.
    WrongProtocol,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The name of the proxy.
    pub proxy: String,
    /// Why.
    pub reason: Reason,
}

/// A chain of errors in one line.
pub(super) struct Chain<'a>(pub(super) &'a (dyn std::error::Error + 'static));

impl Error {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::AtLimit => Reason::MaxRequests,
            Self::Content(failure) => match failure {
                UploadFailure::Abandoned | UploadFailure::Broken => Reason::ClientLeft,
                UploadFailure::Silent(_) => Reason::ClientStalled,
                UploadFailure::TooLarge(_) => Reason::TooLarge,
            },
            Self::ConnectFailed(error) => {
                let inner = error.get_ref();
                if inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
                    Reason::TlsFailed
                } else {
                    Reason::ConnectFailed
                }
            }
            Self::ConnectTimedOut => Reason::ConnectTimedOut,
            Self::NoEndpoint => Reason::ConnectFailed,
            Self::NoDescriptor(_) => Reason::NoDescriptor,
            Self::NoMemory => Reason::NoMemory,
            Self::NotTaken(_) => Reason::RequestNotTaken,
            Self::Refused(refused) => Reason::Refused(*refused),
            Self::RequestFailed(error) if error.is_parse() => Reason::NotHttp,
            Self::RequestFailed(_) => Reason::Closed,
            Self::RequestStalled => Reason::RequestStalled,
            Self::ResponseTimedOut => Reason::ResponseTimedOut,
            Self::SwitchedUnasked => Reason::WrongProtocol,
            Self::TunnelsAtLimit => Reason::MaxTunnels,
            Self::TunnelsClosing => Reason::Stopping,
            Self::Unusable(_) => Reason::NotHttp,
        }
    }
}

impl Reason {
    /// All of them, those that a request is refused for ([`Refused::ALL`]) aside.
    pub const ALL: [Self; 20] = [
        Self::AnswerBroke,
        Self::AnswerNotTaken,
        Self::AnswerStalled,
        Self::ClientLeft,
        Self::ClientStalled,
        Self::Closed,
        Self::ConnectFailed,
        Self::ConnectTimedOut,
        Self::MaxRequests,
        Self::MaxTunnels,
        Self::NoDescriptor,
        Self::NoMemory,
        Self::NotHttp,
        Self::RequestNotTaken,
        Self::RequestStalled,
        Self::ResponseTimedOut,
        Self::Stopping,
        Self::TlsFailed,
        Self::TooLarge,
        Self::WrongProtocol,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnswerBroke => "answer-broke",
            Self::AnswerNotTaken => "answer-not-taken",
            Self::AnswerStalled => "answer-stalled",
            Self::ClientLeft => "client-left",
            Self::ClientStalled => "client-stalled",
            Self::Closed => "closed",
            Self::ConnectFailed => "connect-failed",
            Self::ConnectTimedOut => "connect-timeout",
            Self::MaxRequests => "max-requests",
            Self::MaxTunnels => "max-tunnels",
            Self::NoDescriptor => "no-descriptor",
            Self::NoMemory => "no-memory",
            Self::NotHttp => "not-http",
            Self::Refused(refused) => refused.name(),
            Self::RequestNotTaken => "request-not-taken",
            Self::RequestStalled => "request-stalled",
            Self::ResponseTimedOut => "response-timeout",
            Self::Stopping => "stopping",
            Self::TlsFailed => "tls-failed",
            Self::TooLarge => "too-large",
            Self::WrongProtocol => "wrong-protocol",
        }
    }

    /// Whether the client's connection ends with the answer.
    pub fn closes(self) -> bool {
        matches!(self, Self::Refused(refused) if refused.closes())
    }

    /// What a client gets that has no answer yet.
    pub fn status(self) -> StatusCode {
        match self {
            Self::ClientLeft => StatusCode::BAD_REQUEST,
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AnswerBroke
            | Self::AnswerNotTaken
            | Self::AnswerStalled
            | Self::Closed
            | Self::ConnectFailed
            | Self::NotHttp
            | Self::TlsFailed
            | Self::WrongProtocol => StatusCode::BAD_GATEWAY,
            Self::MaxRequests
            | Self::MaxTunnels
            | Self::NoDescriptor
            | Self::NoMemory
            | Self::RequestNotTaken
            | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimedOut | Self::RequestStalled | Self::ResponseTimedOut => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Refused(refused) => refused.status(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(refused) => return fmt::Display::fmt(refused, f),
            Self::AnswerBroke => "its upstream broke off in the middle of an answer",
            Self::AnswerNotTaken => "the client did not take the answer",
            Self::AnswerStalled => "its upstream stopped in the middle of an answer",
            Self::ClientLeft => "the content of the request broke off",
            Self::ClientStalled => "the content of the request did not come in time",
            Self::Closed => "its upstream closed the connection without an answer",
            Self::ConnectFailed => "its upstream can't be reached",
            Self::ConnectTimedOut => "connecting to its upstream took too long",
            Self::MaxRequests => "too many requests are under way, try again later",
            Self::MaxTunnels => "too many tunnels are open, try again later",
            Self::NoDescriptor => "too many connections are open, try again later",
            Self::NoMemory => "there is no memory for this right now, try again later",
            Self::NotHttp => "its upstream does not answer by HTTP",
            Self::RequestNotTaken => "its upstream takes no requests right now, try again later",
            Self::RequestStalled => "its upstream did not take the request",
            Self::ResponseTimedOut => "its upstream took too long to answer",
            Self::Stopping => "no tunnel is begun any more, try again later",
            Self::WrongProtocol => "its upstream switched to a protocol that it was not offered",
            Self::TlsFailed => "TLS with its upstream failed",
            Self::TooLarge => "the content of the request is larger than is accepted here",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy `{}`: {}", self.proxy, self.reason)
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
