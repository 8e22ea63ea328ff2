//! The body of an answer on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use hyper::body::{Body, Frame, SizeHint};

use super::Proxy;
use super::answer::{Answer, AnswerFailure};
use super::error::{Chain, Reason};
use super::feed::Feed;
use super::in_flight::InFlight;

/// A body that is passed on as it comes. Dropping it cancels the request upstream, if that has not
/// ended.
#[derive(Debug)]
pub struct Download {
    answer: Answer<Feed>,
    /// Whether nothing more will come.
    has_ended: bool,
    proxy: Arc<Proxy>,
    _in_flight: InFlight,
}

/// Why an answer broke off after its head; the log has said more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream broke off")]
pub struct BrokeOff;

impl Download {
    /// The body of an answer to a request of this method.
    pub(super) fn new(
        answer: Answer<Feed>,
        method: &Method,
        (proxy, in_flight): (Arc<Proxy>, InFlight),
    ) -> Self {
        Self {
            answer,
            // Over HTTP/2 the origin may say only later that nothing comes, and nobody waits for that.
            has_ended: *method == Method::HEAD,
            proxy,
            _in_flight: in_flight,
        }
    }
}

impl Download {
    /// Notes that it is dropped because we cut it, which is counted elsewhere.
    pub fn note_cut(&mut self) {
        self.has_ended = true;
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let frame = ready!(Pin::new(&mut self.answer).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let n_bytes = frame.data_ref().map_or(0, Bytes::len);
                let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
                self.proxy.counters().response_bytes.add(n_bytes);
                self.has_ended |= frame.is_trailers();
            }
            Some(Err(_)) | None => self.has_ended = true,
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                let proxy = &self.proxy.settings().name;
                let reason = match error {
                    AnswerFailure::Broken(_) => Reason::AnswerBroke,
                    AnswerFailure::Silent(_) => Reason::AnswerStalled,
                };
                let error = Chain(&error).to_string();
                tracing::warn!(proxy, reason = reason.name(), error, "an answer broke off");
                self.proxy.counters().failed(reason);
                BrokeOff
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if !self.has_ended && !self.answer.is_end_stream() {
            let (proxy, reason) = (&self.proxy.settings().name, Reason::ClientLeft);
            self.proxy.counters().failed(reason);
            tracing::debug!(proxy, "a client left in the middle of an answer");
        }
    }
}
