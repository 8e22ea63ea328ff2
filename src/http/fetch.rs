//! Answers with the document of a channel, for those who prefer JSON to an event stream.
//!
//! A small document is a short answer. A large one is written while it is sent, and what it needs for
//! that is taken from it if the client takes nothing for too long, or is slow when memory has run out:
//! nobody may keep a history in memory by not reading it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::answer::Refusal;
use super::document::Document;
use super::route::Route;
use super::selection::Selected;
use super::service::{Content, Outcome};
use super::subscribe::{Unseated, be_seated, last_event_id, return_after};
use super::visitor::Visitor;
use crate::channel::Seat;
use crate::config::Key;
use crate::delivery::WasCut;
use crate::memory::{Budget, Held, WhatFor};

/// The content of a response: a document that is written as it is sent.
#[derive(Debug)]
pub(super) struct DocumentBody {
    shared: Arc<Mutex<State>>,
    /// Ends the task that looks whether it is read.
    watch: AbortHandle,
}

#[derive(Debug)]
enum State {
    /// It was taken from who did not read it.
    Cut,
    Sent,
    Sending(Box<Sending>),
}

#[derive(Debug)]
struct Sending {
    document: Document,
    first: Option<Bytes>,
    /// How many pieces were asked for.
    n_asked: u64,
    /// Counts the piece that is on its way.
    held: Held,
    /// The channel is not left meanwhile.
    _seat: Seat,
}

/// How long a client may take for a piece, which is 64 KiB or an event.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers with what the channel has now, and the id to subscribe with from there on. `fields` are those
/// of the response.
///
/// # Errors
///
/// Why not.
///
/// # Cancel safety
///
/// May be dropped at any time: a seat that was taken is given back.
pub(super) async fn fetch(
    (route, key, selected): (&Route, Key, &Selected),
    visitor: &Visitor<'_>,
    request: &Request<Content>,
    fields: &mut HeaderMap,
) -> Result<Outcome, Refusal> {
    let last_event_id = last_event_id(request);
    let seen = last_event_id.as_deref();
    // An instance on demand runs for who fetches, as for who subscribes: it mostly comes next.
    let seated = be_seated((route, key, selected), visitor, request, seen).await;
    let (seated, _identity) = seated.map_err(|why| match why {
        Unseated::Limit => Refusal::AtLimit(return_after(route)),
        Unseated::Refusal(refusal) => refusal,
    })?;
    let channel = seated.channel;
    channel.counters().fetches.add(1);
    let wish = Document::wish(&route.settings, seen);
    let mut document = Document::new(channel.log().read(wish, Instant::now()));
    let first = document.next_piece().unwrap_or_default();
    describe_document(fields);
    let fields = std::mem::take(fields);
    if document.is_ended() {
        let mut answer = Response::new(Full::from(first));
        *answer.headers_mut() = fields;
        return Ok(Outcome::Answer(answer));
    }
    let budget = channel.log().budget();
    let body = DocumentBody::new((document, first), (budget, seated.seat), PIECE_TIMEOUT);
    let mut answer = Response::new(body);
    *answer.headers_mut() = fields;
    Ok(Outcome::Document(answer))
}

/// Adds the header fields of a document.
pub(super) fn describe_document(fields: &mut HeaderMap) {
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

impl DocumentBody {
    fn new(
        (document, first): (Document, Bytes),
        (budget, seat): (&Budget, Seat),
        piece_timeout: Duration,
    ) -> Self {
        let sending = Sending {
            document,
            held: budget.hold(WhatFor::Connections, first.len()),
            first: Some(first),
            n_asked: 0,
            _seat: seat,
        };
        let shared = Arc::new(Mutex::new(State::Sending(Box::new(sending))));
        let watched = Arc::clone(&shared);
        let budget = budget.clone();
        let watch = tokio::spawn(async move {
            let mut n_asked = 0;
            loop {
                sleep(piece_timeout).await;
                let mut state = lock(&watched);
                match &*state {
                    // Who reads a little now and then keeps all that is left, as long as there is room.
                    State::Sending(sending) if sending.n_asked > n_asked && budget.has_room() => {
                        n_asked = sending.n_asked;
                    }
                    State::Sending(_) => {
                        *state = State::Cut;
                        return;
                    }
                    State::Cut | State::Sent => return,
                }
            }
        });
        Self {
            shared,
            watch: watch.abort_handle(),
        }
    }
}

impl Drop for DocumentBody {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Body for DocumentBody {
    type Data = Bytes;
    type Error = WasCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasCut>>> {
        let mut state = lock(&self.shared);
        let piece = match &mut *state {
            State::Cut => return Poll::Ready(Some(Err(WasCut))),
            State::Sent => None,
            State::Sending(sending) => sending.next_piece(),
        };
        Poll::Ready(match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None => {
                *state = State::Sent;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(*lock(&self.shared), State::Sent)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Sending {
    fn next_piece(&mut self) -> Option<Bytes> {
        self.n_asked += 1;
        let piece = self.first.take().or_else(|| self.document.next_piece());
        self.held.resize(piece.as_ref().map_or(0, Bytes::len));
        piece
    }
}

/// Recovers from poison: a state is replaced as a whole.
fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::channel::{Channel, Kind};
    use crate::config::Config;
    use crate::log::Writer;
    use crate::log::testing::event;

    fn ask(body: &mut DocumentBody) -> Option<Result<Bytes, WasCut>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut cx) {
            Poll::Ready(frame) => {
                frame.map(|frame| frame.map(|frame| frame.into_data().expect("data")))
            }
            Poll::Pending => panic!("it waits for nothing"),
        }
    }

    fn channel(budget: &Budget) -> (Channel, Writer) {
        let text = "[listen.public]\naddress = \"127.0.0.1:0\"\n[channels.events]\n\
                    path = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n";
        let loaded = Config::parse("test.toml", text).expect("it is right");
        Channel::within(&Kind::new(Arc::clone(&loaded.config.channels[0])), budget)
    }

    fn body(channel: &Channel, piece_timeout: Duration) -> DocumentBody {
        let log = channel.log();
        let wish = Document::wish(&channel.settings(), None);
        let document = Document::new(log.read(wish, Instant::now()));
        let seat = channel.join().expect("a seat");
        let first = Bytes::from_static(b"first");
        DocumentBody::new((document, first), (log.budget(), seat), piece_timeout)
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_kept_for_it() {
        let (channel, mut writer) = channel(&Budget::unlimited());
        let data = "x".repeat(10_000);
        for _ in 0..100 {
            writer.push(&event(None, &data));
        }
        writer.commit(Instant::now());
        let log = channel.log();
        let body = || body(&channel, Duration::from_millis(200));
        let (mut read, mut unread) = (body(), body());
        log.give_up(usize::MAX);
        assert!(log.budget().used() > 1_000_000);
        let mut n_bytes = 0;
        while let Some(piece) = ask(&mut read) {
            n_bytes += piece.expect("it is read").len();
        }
        assert!(n_bytes > 1_000_000, "{n_bytes}");
        drop(read);
        let given_up = async {
            while channel.n_subscribers() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), given_up).await;
        waited.expect("what is not read is given up");
        assert_eq!(log.budget().used(), 0);
        assert_eq!(ask(&mut unread), Some(Err(WasCut)));
    }

    #[tokio::test]
    async fn what_is_read_slowly_is_not_kept_for_it_when_memory_has_run_out() {
        let budget = Budget::unlimited();
        let (channel, mut writer) = channel(&budget);
        for _ in 0..1000 {
            writer.push(&event(None, &"x".repeat(10_000)));
        }
        writer.commit(Instant::now());
        let piece_timeout = Duration::from_millis(50);
        let mut slow = body(&channel, piece_timeout);
        channel.log().give_up(usize::MAX);
        budget.set_limit(0);
        budget.set_exhausted(true);
        // It asks for a piece in every interval, and is far from the end.
        let begin = Instant::now();
        while channel.n_subscribers() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(4), "it is kept");
            if !matches!(ask(&mut slow), Some(Ok(_) | Err(WasCut))) {
                panic!("that was all after {:?}", begin.elapsed());
            }
            sleep(piece_timeout / 2).await;
        }
        assert_eq!(ask(&mut slow), Some(Err(WasCut)));
    }
}
