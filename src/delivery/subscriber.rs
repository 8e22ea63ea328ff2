//! One subscriber: a socket, a place in the wire stream, and what goes out before it goes on.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::body::Ending;
use super::push_framed;
use super::tail::{Piece, Tail};
use super::tally::Tally;
use super::transport::Transport;
use super::wire::{Framing, MAX_PIECES, Wire};
use crate::channel::{Departure, Seat};
use crate::log::Position;
use crate::net::permit::Permit;
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
    /// How it goes once `tail` is out.
    leaving: Option<Leaving>,
    /// Its place in the channel and among the connections. An HTTP/2 stream has no connection of
    /// its own.
    _places: (Seat, Option<Permit>),
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
        places: (Seat, Option<Permit>),
    ) -> Self {
        Self {
            transport,
            waker,
            at: 0,
            tail: None,
            pace: Pace::Queued,
            framing,
            has_caught_up: false,
            leaving: None,
            _places: places,
        }
    }

    /// Sets where it begins, and what it gets before.
    pub(super) fn begin(&mut self, at: Position, prologue: Vec<u8>) {
        self.at = at;
        self.push_tail(Piece::Own(prologue));
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
        let (mut n_pieces, mut n_wanted) = self
            .tail
            .as_ref()
            .map_or((0, 0), |tail| tail.gather(&mut pieces));
        if self.leaving.is_none() {
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
        let mut n_wire = n;
        if let Some(tail) = &mut self.tail {
            let is_live = self.has_caught_up;
            n_wire = tail.advance(n, |batch| {
                if is_live {
                    tally.note_live(batch.appended_at(), 1);
                } else {
                    tally.note_replayed(1);
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
        if self.at >= wire.head() {
            self.pace = Pace::Flowing;
            self.has_caught_up = true;
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
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Departure::WriteFailed);
                }
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

    fn push_tail(&mut self, piece: Piece) {
        self.tail.get_or_insert_default().push(piece);
    }

    /// Whether it will read the wire stream from where it is, without waiting for a pass.
    pub(super) fn needs_wire(&self) -> bool {
        self.pace != Pace::Flowing && self.leaving.is_none()
    }

    pub(super) fn at(&self) -> Position {
        self.at
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
