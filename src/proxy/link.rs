//! A connection of HTTP/1.1 to an endpoint, driven by whoever uses it.
//!
//! hyper splits a connection into a sender, a body and a future that moves bytes between the two and
//! the socket. The task of the client's connection drives that future, so that nothing is handed from
//! task to task, and nothing is read from upstream that the client does not take.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::error::Error;
use super::loan::Loan;
use super::patience::Patience;
use super::upload::Watch;
use super::wire::{Traffic, Wire};
use crate::net::connect::Connection;
use crate::net::descriptors::Descriptor;

/// A connection and what drives it. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Loan>,
    /// `None`: it has ended.
    connection: Option<http1::Connection<TokioIo<Wire>, Loan>>,
    traffic: Arc<Traffic>,
    patience: Patience,
    /// Since when nobody has used it.
    pub(super) idle_since: Instant,
}

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Until the head of the response, once all of the request is sent.
    pub(super) response: Option<Duration>,
    /// For the next byte of the request, until then.
    pub(super) idle: Option<Duration>,
}

/// Why there is no response.
pub(super) enum Unanswered {
    /// Something may have been sent; and whether something has come.
    Failed(Error, Seen),
    /// Something was sent, and the upstream says that it has done nothing about it.
    Unprocessed(Error),
    /// Nothing was sent: here it is.
    Unsent(Box<Request<Loan>>, Error),
}

/// Whether anything of a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    Something,
}

/// The most of a response's head; of its body, what is read at once.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

impl Link {
    /// Speaks HTTP/1.1 on a new connection.
    pub(super) async fn begin(
        connection: Connection,
        descriptor: Descriptor,
    ) -> Result<Self, Error> {
        let wire = Wire::new(connection, descriptor);
        let traffic = wire.traffic();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(Error::RequestFailed)?;
        Ok(Self {
            sender,
            connection: Some(connection),
            traffic,
            patience: Patience::default(),
            idle_since: Instant::now(),
        })
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the connection can't be used any more.
    pub(super) async fn send(
        &mut self,
        request: Request<Loan>,
        (watch, timeouts): (&Watch, Timeouts),
    ) -> Result<Response<Incoming>, Unanswered> {
        let Self {
            sender,
            connection,
            traffic,
            patience,
            ..
        } = self;
        let n_received = traffic.n_received();
        let mut waiting = Waiting::new(watch, timeouts, traffic);
        let mut response = pin!(sender.try_send_request(request));
        // Whatever there is of a response is there because the connection was driven, just before it is
        // looked for. Were we woken for it, too, each request would cost a turn with nothing to do.
        let outcome = poll_fn(|cx| {
            drive(connection, cx);
            let mut unwoken = Context::from_waker(Waker::noop());
            if let Poll::Ready(response) = response.as_mut().poll(&mut unwoken) {
                return Poll::Ready(Ok(response));
            }
            waiting.poll_overdue(patience, cx).map(Err)
        })
        .await;
        let seen = if traffic.n_received() == n_received {
            Seen::Nothing
        } else {
            Seen::Something
        };
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut failed)) => Err(match failed.take_message() {
                Some(request) => {
                    Unanswered::Unsent(Box::new(request), Error::RequestFailed(failed.into_error()))
                }
                None => Unanswered::Failed(Error::RequestFailed(failed.into_error()), seen),
            }),
            Err(overdue) => Err(Unanswered::Failed(overdue, seen)),
        }
    }

    /// Moves what can be moved.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }

    /// Whether it can take a request, as far as it is known without a look.
    pub(super) fn is_ready(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Looks whether it can take a request, or the upstream has closed it meanwhile.
    pub(super) fn look(&mut self) -> bool {
        // Nobody need be woken: who has it looks.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_ready()
    }

    /// Goes on until the connection ends: for who does not want to drive it.
    pub(super) async fn run(mut self: Box<Self>) {
        poll_fn(|cx| {
            self.drive(cx);
            match self.connection {
                Some(_) => Poll::Pending,
                None => Poll::Ready(()),
            }
        })
        .await;
    }
}

fn drive(connection: &mut Option<http1::Connection<TokioIo<Wire>, Loan>>, cx: &mut Context<'_>) {
    let Some(running) = connection else { return };
    if let Poll::Ready(ended) = Pin::new(running).poll(cx) {
        // An error reaches the response or its body, too, where it is reported.
        if let Err(error) = ended {
            tracing::debug!(%error, "an upstream connection ended");
        }
        *connection = None;
    }
}

/// How long the head of a response may still be waited for.
pub(super) struct Waiting<'a> {
    watch: &'a Watch,
    timeouts: Timeouts,
    traffic: &'a Traffic,
    /// Bytes that were sent at the last look.
    n_sent: u64,
    has_ended: bool,
    /// `None`: for ever.
    deadline: Option<Instant>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(watch: &'a Watch, timeouts: Timeouts, traffic: &'a Traffic) -> Self {
        let mut waiting = Self {
            watch,
            timeouts,
            traffic,
            n_sent: traffic.n_sent(),
            has_ended: watch.has_ended(),
            deadline: None,
        };
        waiting.begin();
        waiting
    }

    fn begin(&mut self) {
        let limit = if self.has_ended {
            self.timeouts.response
        } else {
            self.timeouts.idle
        };
        self.deadline = limit.map(|limit| Instant::now() + limit);
    }

    /// Ready when it takes too long.
    pub(super) fn poll_overdue(
        &mut self,
        patience: &mut Patience,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        loop {
            if !self.has_ended && self.watch.has_ended() {
                self.has_ended = true;
                self.begin();
            }
            let Some(deadline) = self.deadline else {
                return Poll::Pending;
            };
            if patience.poll_until(deadline, cx).is_pending() {
                return Poll::Pending;
            }
            if self.has_ended {
                return Poll::Ready(Error::ResponseTimedOut);
            }
            if self.watch.awaits_client() {
                // It is waited for by who reads from it.
                self.begin();
                continue;
            }
            let n_sent = self.traffic.n_sent();
            if n_sent == self.n_sent {
                return Poll::Ready(Error::RequestStalled);
            }
            self.n_sent = n_sent;
            self.begin();
        }
    }
}
