//! A tunnel: two connections, and what each says is what the other hears.
//!
//! It knows nothing of what is said, but for the frames of a WebSocket, between which it can say that
//! it goes away. A side that has ended what it has to say is still told what the other has to say
//! (half-close); a side that broke ends the tunnel.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::frames::{Frames, Role, going_away};
use super::pipe::{Outcome, Pipe, READ_BYTES};
use super::places::{Farewell, Place, Slot};
use super::protocols::Manners;
use crate::memory::Held;

/// A tunnel.
#[derive(Debug)]
pub(super) struct Relay<C, O> {
    client: C,
    origin: O,
    /// From the client to the origin.
    inbound: Pipe,
    /// From the origin to the client.
    outbound: Pipe,
    idle_timeout: Option<Duration>,
    place: Place,
    /// What it holds.
    held: Held,
}

/// What a tunnel is made of.
#[derive(Debug)]
pub(super) struct Ends<C, O> {
    /// The connection to the client, and what it has said already.
    pub(super) client: (C, Vec<u8>),
    /// The same of the origin.
    pub(super) origin: (O, Vec<u8>),
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its client's connection broke.
    ClientBroke,
    /// Both sides have ended it.
    Closed,
    /// Nobody said anything for `tunnel_idle_timeout`.
    Idle,
    /// Its origin's connection broke.
    OriginBroke,
    /// Its proxy is not in the configuration any more.
    Removed,
    /// The gateway stops.
    Stopped,
}

/// How far it is with its end.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Open,
    /// Its slot will come, or has come.
    Called(Slot),
    /// A side hears no more. What it had said before still goes to the other one, if that takes it.
    Breaking(End),
    /// Both sides have been told, or will be at the end of a frame.
    Parting(End),
}

/// How long a WebSocket has for its closing handshake, which begins at the end of a frame, and the last
/// words of a side that broke for their way to the other.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// What is read is in here, until the other side or a rest has it.
    static SPACE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl End {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::ClientBroke,
        Self::Closed,
        Self::Idle,
        Self::OriginBroke,
        Self::Removed,
        Self::Stopped,
    ];

    /// A word for metrics and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientBroke => "client-broke",
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::OriginBroke => "origin-broke",
            Self::Removed => "removed",
            Self::Stopped => "stopped",
        }
    }

    /// The same for a WebSocket's peers, who get it with the Close.
    fn reason(self) -> &'static str {
        match self {
            Self::Idle => "idle for too long",
            Self::Stopped => "the gateway stops",
            Self::ClientBroke | Self::Closed | Self::OriginBroke | Self::Removed => {
                "the gateway goes away"
            }
        }
    }
}

impl From<Farewell> for End {
    fn from(farewell: Farewell) -> Self {
        match farewell {
            Farewell::Removed => Self::Removed,
            Farewell::Stopped => Self::Stopped,
        }
    }
}

impl<C, O> Relay<C, O>
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    /// A tunnel between two connections.
    pub(super) fn new(
        ends: Ends<C, O>,
        manners: Manners,
        idle_timeout: Option<Duration>,
        place: Place,
        held: Held,
    ) -> Self {
        let frames = || (manners == Manners::WebSocket).then(Frames::default);
        let Ends { client, origin } = ends;
        Self {
            client: client.0,
            origin: origin.0,
            inbound: Pipe::new(client.1, frames()),
            outbound: Pipe::new(origin.1, frames()),
            idle_timeout,
            place,
            held,
        }
    }

    /// Relays until it is over, or the client is `gone` in a way that reading does not tell. `moved` is
    /// told how many bytes go in and out.
    ///
    /// # Cancel safety
    ///
    /// To drop it is to cut both connections.
    pub(super) async fn run(
        mut self,
        gone: impl Future<Output = ()>,
        mut moved: impl FnMut(u64, u64),
    ) -> End {
        let mut gone = pin!(gone);
        let mut slot = pin!(self.place.slot(None));
        let mut timer = pin!(sleep(self.idle_timeout.unwrap_or_default()));
        let mut watch = Watch {
            stage: Stage::Open,
            last_moved: Instant::now(),
            n_held: self.held.bytes(),
        };
        poll_fn(|cx| {
            while matches!(watch.stage, Stage::Open | Stage::Called(_))
                && let Poll::Ready(called) = slot.as_mut().poll(cx)
            {
                watch.stage = Stage::Called(called);
                timer.as_mut().reset(called.begin);
                // It may have to be sooner.
                slot.set(self.place.slot(Some(called.deadline)));
            }
            while self.is_timed(&watch) && (watch.is_due() || timer.as_mut().poll(cx).is_ready()) {
                if let Some(end) = self.turn_over(&mut watch, timer.as_mut()) {
                    return Poll::Ready(end);
                }
            }
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::ClientBroke);
            }
            let polled = self.poll_relay(cx, &mut watch);
            if polled.is_pending() && self.note_break(&mut watch, timer.as_mut()) {
                // The timer has not been polled yet.
                cx.waker().wake_by_ref();
            }
            let (n_inbound, n_outbound) = (self.inbound.take_bytes(), self.outbound.take_bytes());
            if n_inbound + n_outbound > 0 {
                moved(n_inbound, n_outbound);
            }
            polled
        })
        .await
    }

    fn is_timed(&self, watch: &Watch) -> bool {
        self.idle_timeout.is_some() || !matches!(watch.stage, Stage::Open)
    }

    /// The timer has come to its end.
    fn turn_over(&mut self, watch: &mut Watch, timer: Pin<&mut Sleep>) -> Option<End> {
        let now = Instant::now();
        match watch.stage {
            Stage::Open => {
                let idle_timeout = self.idle_timeout?;
                // Moved only here: a byte that comes costs no timer.
                let deadline = watch.last_moved + idle_timeout;
                if deadline > now {
                    timer.reset(deadline);
                } else {
                    self.part(End::Idle, watch);
                    timer.reset(now + CLOSE_TIMEOUT);
                }
                None
            }
            Stage::Called(slot) => {
                self.part(slot.why.into(), watch);
                timer.reset(slot.deadline.min(now + CLOSE_TIMEOUT));
                None
            }
            Stage::Breaking(end) | Stage::Parting(end) => Some(end),
        }
    }

    /// Bounds the time that is left, if a side hears no more. Else nobody might notice that it has gone:
    /// while the other one takes nothing, nothing is read. Returns whether that is news.
    fn note_break(&self, watch: &mut Watch, timer: Pin<&mut Sleep>) -> bool {
        let latest = match watch.stage {
            Stage::Open => None,
            Stage::Called(slot) => Some(slot.deadline),
            Stage::Breaking(_) | Stage::Parting(_) => return false,
        };
        let end = match (self.inbound.outcome(), self.outbound.outcome()) {
            (Some(Outcome::SinkFailed(_)), _) => End::OriginBroke,
            (_, Some(Outcome::SinkFailed(_))) => End::ClientBroke,
            _ => return false,
        };
        watch.stage = Stage::Breaking(end);
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        timer.reset(latest.map_or(deadline, |latest| latest.min(deadline)));
        true
    }

    /// Says goodbye to both sides.
    fn part(&mut self, end: End, watch: &mut Watch) {
        watch.stage = Stage::Parting(end);
        self.inbound.part(going_away(Role::Client, end.reason()));
        self.outbound.part(going_away(Role::Server, end.reason()));
    }

    /// Moves what can be moved, both ways. Ready when nothing will move any more.
    fn poll_relay(&mut self, cx: &mut Context<'_>, watch: &mut Watch) -> Poll<End> {
        let Self {
            client,
            origin,
            inbound,
            outbound,
            ..
        } = self;
        SPACE.with_borrow_mut(|space| {
            space.resize(READ_BYTES, 0);
            inbound.poll(cx, client, origin, space);
            if inbound.has_heard() {
                outbound.release();
            }
            outbound.poll(cx, origin, client, space);
            if outbound.has_heard() && inbound.release() {
                inbound.poll(cx, client, origin, space);
            }
        });
        if self.inbound.take_moved() | self.outbound.take_moved() {
            watch.last_moved = Instant::now();
        }
        self.count(watch);
        self.end(watch.stage)
    }

    /// Whether it is over, and why.
    fn end(&self, stage: Stage) -> Poll<End> {
        let end = match (self.inbound.outcome(), self.outbound.outcome()) {
            // Its source is where the other one's would go.
            (Some(Outcome::SourceFailed(error)), _) => {
                tracing::debug!(%error, "the client of a tunnel broke off");
                End::ClientBroke
            }
            (_, Some(Outcome::SourceFailed(error))) => {
                tracing::debug!(%error, "the origin of a tunnel broke off");
                End::OriginBroke
            }
            // Who no longer hears may still have said something, and then its connection ends, too.
            (None, _) | (_, None) => return Poll::Pending,
            (Some(_), Some(Outcome::SinkFailed(error))) => {
                tracing::debug!(%error, "the client of a tunnel hears no more");
                End::ClientBroke
            }
            (Some(Outcome::SinkFailed(error)), Some(_)) => {
                tracing::debug!(%error, "the origin of a tunnel hears no more");
                End::OriginBroke
            }
            (Some(Outcome::Ended), Some(Outcome::Ended)) => End::Closed,
        };
        Poll::Ready(match stage {
            Stage::Open | Stage::Called(_) | Stage::Breaking(_) => end,
            Stage::Parting(end) => end,
        })
    }

    /// Counts what is held; costs nothing while that stays the same.
    fn count(&mut self, watch: &Watch) {
        let n_held = watch.n_held + self.inbound.n_held() + self.outbound.n_held();
        if n_held != self.held.bytes() {
            self.held.resize(n_held);
        }
    }
}

/// What a tunnel knows of its time.
struct Watch {
    stage: Stage,
    /// When a byte moved last.
    last_moved: Instant,
    /// What is held while nothing is on its way.
    n_held: usize,
}

impl Watch {
    /// Whether it is its turn already, so that the timer need not say so.
    fn is_due(&self) -> bool {
        matches!(self.stage, Stage::Called(slot) if slot.begin <= Instant::now())
    }
}
