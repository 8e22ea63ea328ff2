//! One subscriber: a socket, a place in the wire stream, and what goes out before it goes on.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::body::Ending;
use super::lag::Debt;
use super::prologue::Prologue;
use super::push_framed;
use super::tail::{Events, Piece, Tail};
use super::tally::Tally;
use super::transport::Transport;
use super::wire::{Framing, MAX_PIECES, Wire};
use crate::channel::{Departure, Seat};
use crate::log::Position;
use crate::memory::Budget;
use crate::net::addresses::Identity;
use crate::net::permit::Standing;
use crate::sse;

/// A subscriber on a shard.
#[derive(Debug)]
pub(super) struct Subscriber {
    transport: Transport,
    /// Wakes the shard when the transport can be read or written.
    waker: Waker,
    /// Its position in the wire stream; moves only by bytes that the socket accepted.
    at: Position,
    /// What goes out before the wire stream goes on: the prologue, the rest of an event, a goodbye.
    tail: Option<Box<Tail>>,
    pace: Pace,
    framing: Framing,
    /// Whether it was at the head once. Until then it replays, and is behind by its own wish.
    has_caught_up: bool,
    /// How often it was looked at since its socket took something, while it was blocked.
    n_looks: u8,
    /// How it goes once `tail` is out.
    leaving: Option<Leaving>,
    /// Its place in the channel and among the connections.
    places: (Seat, Standing),
}

/// How a subscriber goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) departure: Departure,
    /// When it goes even if its tail is not out.
    pub(super) deadline: Instant,
    pub(super) ending: Ending,
    /// When to come back, if that is not what it was told on connect.
    pub(super) retry: Option<Duration>,
}

/// Who writes next to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// The shard, when its socket is writable.
    Blocked,
    /// The next pass: it is one of the crowd.
    Flowing,
    /// The shard, when its turn comes: it has more to get than one write may carry.
    Queued,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// It has everything.
    All,
    /// The subscriber is gone.
    Gone(Departure),
    /// There is more for it, which waits for its socket or its turn.
    Some,
}

/// What becomes of one whose socket may take nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It is blocked.
    Needed,
    /// It is not, or somebody else looks after it.
    NotNeeded,
    /// It was blocked for too long.
    Over,
}

/// How often a blocked subscriber is looked at within `write_timeout`.
pub(super) const N_LOOKS: u8 = 4;

/// The most that one write carries to a straggler, so that one can't hold up the others.
const WRITE_BYTES: usize = 64 * 1024;

/// Ends a body in chunks (RFC 9112, 7.1). A stream without it makes every client come back; with it,
/// some stay away.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Subscriber {
    pub(super) fn new(
        transport: Transport,
        waker: Waker,
        framing: Framing,
        places: (Seat, Standing),
    ) -> Self {
        Self {
            transport,
            waker,
            at: 0,
            tail: None,
            pace: Pace::Queued,
            framing,
            has_caught_up: false,
            n_looks: 0,
            leaving: None,
            places,
        }
    }

    /// Sets where it begins, and what it gets before.
    pub(super) fn begin(&mut self, at: Position, prologue: Prologue, budget: &Budget) {
        self.at = at;
        let tail = self.tail.get_or_insert_default();
        // A view may give a client much ahead of the wire stream.
        tail.push_own(prologue.bytes, budget);
        if let Some(snapshot) = prologue.snapshot {
            let events = Events::new(&snapshot, 0, self.framing);
            if let Some(events) = events {
                self.push_tail(Piece::Events(Box::new(events)));
            }
        }
        self.push_tail(Piece::Own(prologue.cursor));
    }

    /// Writes the bytes from `at`, which are the same for all the crowd of this framing, up to `to`.
    /// If that is all there is to do, the pass counts them.
    pub(super) fn write_shared(
        &mut self,
        (bytes, to): (&[u8], Position),
        wire: &Wire,
        tally: &mut Tally,
    ) -> Wrote {
        match self.transport.try_write(bytes) {
            Ok(n) if n == bytes.len() && !self.transport.wants_flush() => {
                self.at = to;
                Wrote::All
            }
            Ok(n) => {
                tally.note_bytes(n as u64);
                let to = wire.advance(self.at, self.framing, n);
                self.move_to(to, wire, tally);
                self.block()
            }
            Err(error) => self.after_error(&error),
        }
    }

    /// Writes a heartbeat. Only for one that has everything.
    pub(super) fn write_heartbeat(&mut self, bytes: &[u8], tally: &mut Tally) -> Wrote {
        match self.transport.try_write(bytes) {
            Ok(n) if n == bytes.len() => {
                tally.note_bytes(n as u64);
                // What is taken is not sent: who has something to send is none of the crowd.
                if self.transport.wants_flush() {
                    self.block()
                } else {
                    Wrote::All
                }
            }
            Ok(n) => {
                tally.note_bytes(n as u64);
                // Half a heartbeat would break the framing: its rest goes first.
                let bytes = bytes.get(n..).unwrap_or_default().to_vec();
                self.push_tail(Piece::Own(bytes));
                self.block()
            }
            // No heartbeat for who is slow: it has bytes to read.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wrote::All,
            Err(error) => self.after_error(&error),
        }
    }

    /// Writes the tail and what follows of the wire stream, once, as much as one turn allows.
    pub(super) fn write_own(&mut self, wire: &Wire, tally: &mut Tally) -> Wrote {
        let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
        let mut is_all = true;
        let (mut n_pieces, mut n_wanted) = (0, 0);
        if let Some(tail) = &self.tail {
            let offered = tail.gather(&mut pieces, WRITE_BYTES);
            (n_pieces, n_wanted, is_all) = (offered.n_slices, offered.n_bytes, offered.is_all);
        }
        if is_all && self.leaving.is_none() && !self.is_adrift() {
            let room = WRITE_BYTES.saturating_sub(n_wanted).max(1);
            let free = pieces.get_mut(n_pieces..).unwrap_or_default();
            let n_wire = wire.gather(self.at, self.framing, room, free);
            n_wanted += free
                .iter()
                .take(n_wire)
                .map(|piece| piece.len())
                .sum::<usize>();
            n_pieces += n_wire;
        }
        if n_wanted == 0 && self.is_adrift() {
            // Nothing was decided, so the socket takes nothing.
            return self.block();
        }
        if n_wanted == 0 {
            return self.finish_turn(wire);
        }
        let pieces = pieces.get(..n_pieces).unwrap_or_default();
        let written = match pieces {
            [only] => self.transport.try_write(only),
            _ => self.transport.try_write_vectored(pieces),
        };
        match written {
            Ok(n) => {
                self.accept(n, wire, tally);
                if n < n_wanted {
                    self.block()
                } else {
                    self.finish_turn(wire)
                }
            }
            Err(error) => self.after_error(&error),
        }
    }

    /// Notes that the socket took `n` bytes of the tail and what follows it.
    fn accept(&mut self, n: usize, wire: &Wire, tally: &mut Tally) {
        tally.note_bytes(n as u64);
        self.n_looks = 0;
        let mut n_wire = n;
        if let Some(tail) = &mut self.tail {
            let is_live = self.has_caught_up;
            n_wire = tail.advance(n, |appended_at, n_events| {
                if is_live {
                    tally.note_live(appended_at, n_events);
                } else {
                    tally.note_replayed(n_events);
                }
            });
            if tail.is_empty() {
                self.tail = None;
            }
        }
        if n_wire > 0 {
            let to = wire.advance(self.at, self.framing, n_wire);
            self.move_to(to, wire, tally);
        }
    }

    /// Moves on, and counts the events that it has now.
    fn move_to(&mut self, to: Position, wire: &Wire, tally: &mut Tally) {
        for (appended_at, n) in wire.events_between(self.at, to) {
            if self.has_caught_up {
                tally.note_live(appended_at, n);
            } else {
                tally.note_replayed(n);
            }
        }
        self.at = to;
    }

    /// All that was offered was taken: what now?
    fn finish_turn(&mut self, wire: &Wire) -> Wrote {
        if self.tail.as_ref().is_some_and(|tail| !tail.is_sent()) {
            self.pace = Pace::Queued;
            return Wrote::Some;
        }
        let sent = match self.leaving {
            Some(leaving) if leaving.ending == Ending::Clean => self.transport.try_close(),
            Some(_) | None => self.transport.try_flush(),
        };
        match sent {
            Ok(true) => {}
            Ok(false) => return self.block(),
            Err(error) => return self.after_error(&error),
        }
        if let Some(leaving) = self.leaving {
            return self.go(leaving.departure);
        }
        if self.at >= wire.head() && !self.is_adrift() {
            self.pace = Pace::Flowing;
            self.has_caught_up = true;
            self.n_looks = 0;
            return Wrote::All;
        }
        self.pace = Pace::Queued;
        Wrote::Some
    }

    /// Goes when all is sent: a stream that is reset loses what is not.
    fn go(&mut self, departure: Departure) -> Wrote {
        if self
            .transport
            .poll_sent(&Context::from_waker(&self.waker))
            .is_pending()
        {
            self.pace = Pace::Blocked;
            return Wrote::Some;
        }
        Wrote::Gone(departure)
    }

    /// Waits for the socket. If it became writable in the meantime, that is its next turn.
    fn block(&mut self) -> Wrote {
        let mut cx = Context::from_waker(&self.waker);
        self.pace = match self.transport.poll_write_ready(&mut cx) {
            Poll::Pending => Pace::Blocked,
            // An error shows in the next write.
            Poll::Ready(_) => Pace::Queued,
        };
        Wrote::Some
    }

    fn after_error(&mut self, error: &io::Error) -> Wrote {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => self.block(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Wrote::Gone(Departure::ClientLeft)
            }
            _ if is_silence(error) => Wrote::Gone(Departure::Stalled),
            _ => Wrote::Gone(Departure::WriteFailed),
        }
    }

    /// Looks whether the client is still there, and asks to be woken when that changes. A
    /// subscriber sends nothing: any byte ends it, as the end of its stream does.
    pub(super) fn check_presence(&mut self) -> Result<(), Departure> {
        let mut cx = Context::from_waker(&self.waker);
        loop {
            if self.transport.poll_read_ready(&mut cx).is_pending() {
                return Ok(());
            }
            match self.transport.try_read(&mut [0; 16]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_silence(&error) => return Err(Departure::Stalled),
                Ok(_) | Err(_) => return Err(Departure::ClientLeft),
            }
        }
    }

    /// Begins to leave: the rest of its event, then when to come back, then what its framing needs,
    /// then the end. Returns whether it was not leaving already; it then has a turn of its own.
    pub(super) fn leave(&mut self, leaving: Leaving, wire: &Wire) -> bool {
        if self.leaving.is_some() {
            return false;
        }
        self.leaving = Some(leaving);
        if let Some(tail) = &mut self.tail {
            // What it will not get now, it gets when it resumes.
            tail.set_debt(None);
            tail.end_at_event();
            if tail.is_empty() {
                self.tail = None;
            }
        }
        if let Some((piece, end)) = wire.rest_of_event(self.at, self.framing) {
            self.push_tail(piece);
            self.at = end;
        }
        if let Some(time) = leaving.retry {
            // Without a blank line, so that no client takes it for an event.
            let (mut block, mut bytes) = (Vec::new(), Vec::new());
            sse::encode_retry(&mut block, time);
            push_framed(&mut bytes, &block, self.framing);
            self.push_tail(Piece::Own(bytes));
        }
        if (leaving.ending, self.framing) == (Ending::Clean, Framing::Chunked) {
            self.push_tail(Piece::Static(LAST_CHUNK));
        }
        self.pace = Pace::Queued;
        true
    }

    /// Casts it adrift: from now on nothing of the wire stream is kept for it, and what follows the
    /// rest of its event is decided when its socket takes that.
    pub(super) fn cast_adrift(&mut self, wire: &Wire, budget: &Budget) {
        if self.leaving.is_some() || self.is_adrift() {
            return;
        }
        if let Some((piece, end)) = wire.rest_of_event(self.at, self.framing) {
            self.push_tail(piece);
            self.at = end;
        }
        let since = wire.count_at(self.at);
        let tail = self.tail.get_or_insert_default();
        let debt = match tail.end_at_event() {
            Some((at, promised)) => Debt::in_snapshot(at, promised, since),
            None => Debt::new(self.at, since),
        };
        tail.let_go_of_batches(budget);
        tail.set_debt(Some(debt));
        if self.pace == Pace::Flowing {
            self.pace = Pace::Queued;
        }
    }

    /// What it lacks, if it is adrift and its socket takes more: now it must be decided what it gets.
    pub(super) fn due_debt(&mut self) -> Option<Debt> {
        let tail = self.tail.as_ref()?;
        let debt = tail.debt().filter(|_| tail.is_sent())?;
        let mut cx = Context::from_waker(&self.waker);
        let is_flushed = matches!(self.transport.try_flush(), Ok(true));
        let is_writable = self.transport.poll_write_ready(&mut cx).is_ready();
        (is_flushed && is_writable).then_some(debt)
    }

    /// Is not adrift any more: it goes on at `at`, after a notice and what it gets of a snapshot.
    pub(super) fn go_on(&mut self, at: Position, notice: Option<Vec<u8>>, newest: Option<Events>) {
        let Some(tail) = &mut self.tail else { return };
        tail.set_debt(None);
        if let Some(notice) = notice {
            tail.push(Piece::Own(notice));
        }
        if let Some(newest) = newest {
            tail.push(Piece::Events(Box::new(newest)));
        }
        self.at = at;
        if tail.is_empty() {
            self.tail = None;
        }
    }

    fn push_tail(&mut self, piece: Piece) {
        self.tail.get_or_insert_default().push(piece);
    }

    /// Whether it will read the wire stream from where it is, without waiting for a pass.
    pub(super) fn needs_wire(&self) -> bool {
        self.pace != Pace::Flowing && self.leaving.is_none() && !self.is_adrift()
    }

    /// Looks whether its client takes anything, where the kernel does not.
    pub(super) fn look(&mut self) -> Patience {
        let is_free = self.pace != Pace::Blocked || self.leaving.is_some();
        if is_free || self.transport.is_watched_by_kernel() {
            return Patience::NotNeeded;
        }
        if self.transport.has_sent() {
            self.n_looks = 0;
        }
        self.n_looks = self.n_looks.saturating_add(1);
        if self.n_looks > N_LOOKS {
            Patience::Over
        } else {
            Patience::Needed
        }
    }

    /// Lets its connection take nothing for so long; see [`Transport::set_write_timeout`].
    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.transport.set_write_timeout(timeout)
    }

    /// Whether it has no place in the wire stream at present.
    pub(super) fn is_adrift(&self) -> bool {
        (self.tail.as_ref()).is_some_and(|tail| tail.debt().is_some())
    }

    /// Bytes of a snapshot that is kept for it, maybe for it alone.
    pub(super) fn snapshot_bytes(&self) -> usize {
        let tail = self.tail.as_ref();
        tail.map_or(0, |tail| tail.snapshot_bytes())
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Who it is, if anybody wanted to know.
    pub(super) fn identity(&self) -> Option<&Identity> {
        let (_, standing) = &self.places;
        standing.identity()
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    pub(super) fn leaving(&self) -> Option<Leaving> {
        self.leaving
    }

    /// Ends the stream: as it was to leave, if it got all that it was to get before.
    pub(super) fn end(self) {
        if let (Some(leaving), None) = (self.leaving, self.tail) {
            self.transport.end(leaving.ending);
        }
    }
}

/// Whether a connection failed because its peer does not answer (`TCP_USER_TIMEOUT`), or because there
/// is no way to it any more, which the kernel says instead if it was told so meanwhile.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
