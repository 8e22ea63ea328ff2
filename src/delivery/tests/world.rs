//! The world of a test of shards: their threads and real sockets; the writer and the clients are the
//! test.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::time::Instant;

use super::super::{Arrival, Delivery, Framing, Handover};
use crate::channel::Channel;
use crate::config::Config;
use crate::log::Writer;
use crate::log::testing::{Read, dechunk, event, read};
use crate::net::permit::{Permits, Standing};
use crate::net::socket::Unbound;
use crate::sse::Event;

/// Only a failure reaches it.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// What the gateway's sockets hold: as little as the kernel allows, so that writes are partial.
const SEND_BUFFER_BYTES: usize = 4 * 1024;

pub(super) struct World {
    pub(super) channel: Channel,
    pub(super) writer: Writer,
    delivery: Option<Delivery>,
    pub(super) n_said: usize,
    /// Event types that the events have, one after another; 0: none has any.
    pub(super) n_types: usize,
}

pub(super) struct Client {
    socket: UnixStream,
    pub(super) framing: Framing,
    pub(super) bytes: Vec<u8>,
    has_ended: bool,
    seen: Option<usize>,
    /// How many events there were when it asked.
    n_before: usize,
}

impl World {
    pub(super) fn new(n_shards: usize, lines: &str) -> Self {
        let text = format!(
            "[listen.public]\naddress = \"127.0.0.1:0\"\n\
             [channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n\
             heartbeat = \"off\"\n{lines}\n"
        );
        let loaded = Config::parse("test.toml", &text);
        let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
        let (channel, writer) = Channel::with_writer(Arc::clone(&config.channels[0]));
        Self {
            channel,
            writer,
            delivery: Some(Delivery::start(n_shards).expect("threads")),
            n_said: 0,
            n_types: 0,
        }
    }

    pub(super) fn delivery(&self) -> &Delivery {
        self.delivery.as_ref().expect("it runs")
    }

    pub(super) fn commit(&mut self, sizes: &[usize]) {
        for size in sizes {
            let id = self.n_said.to_string();
            let data = format!("{id} {}", "x".repeat(*size));
            let event_type = match self.n_types {
                0 => String::new(),
                n => format!("t{}", self.n_said % n),
            };
            self.writer.push(&Event {
                event_type: &event_type,
                ..event(Some(&id), &data)
            });
            self.n_said += 1;
        }
        self.writer.commit(Instant::now());
    }

    pub(super) fn subscribe(&self, shard: usize, framing: Framing, seen: Option<usize>) -> Client {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let small = SockRef::from(&ours).set_send_buffer_size(SEND_BUFFER_BYTES);
        small.expect("a small buffer");
        theirs.set_nonblocking(true).expect("non-blocking");
        let permit = Permits::new(1).acquire().expect("a permit");
        let shards = self.delivery().shards();
        shards[shard % shards.len()].subscribe(Arrival {
            channel: self.channel.clone(),
            socket: Handover::OtherShard(Unbound::Unix(ours)),
            framing,
            last_event_id: seen.map(|number| number.to_string()),
            head: Vec::new(),
            places: (
                self.channel.join().expect("a seat"),
                Standing::Connection(permit),
            ),
        });
        Client {
            socket: theirs,
            framing,
            bytes: Vec::new(),
            has_ended: false,
            seen,
            n_before: self.n_said,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A shard that hangs must not hang the test that has found it.
        if !std::thread::panicking()
            && let Some(delivery) = self.delivery.take()
        {
            delivery.stop();
        }
    }
}

impl Client {
    /// Reads at most so many bytes, if any are there.
    pub(super) fn read_some(&mut self, n: usize) {
        let mut buffer = vec![0; n];
        match self.socket.read(&mut buffer) {
            Ok(0) if n > 0 => self.has_ended = true,
            Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.has_ended = true,
            Err(error) => panic!("a client can't read: {error}"),
        }
    }

    /// Reads until `is_enough`, or the end.
    pub(super) fn read_until(&mut self, what: &str, is_enough: impl Fn(&[u8]) -> bool) {
        let timeout = Some(Duration::from_millis(100));
        self.socket.set_nonblocking(false).expect("blocking");
        self.socket.set_read_timeout(timeout).expect("a timeout");
        let deadline = Instant::now() + DEADLINE;
        while !self.has_ended && !is_enough(&self.bytes) {
            let n = self.bytes.len();
            let last = String::from_utf8_lossy(&self.bytes[n.saturating_sub(80)..]);
            assert!(
                Instant::now() < deadline,
                "waited for {what}; instead {n} bytes came, the last of them {last:?}"
            );
            self.read_some(64 * 1024);
        }
        self.socket.set_nonblocking(true).expect("non-blocking");
    }

    /// What came so far.
    pub(super) fn read_events(&self) -> Vec<Read> {
        match self.framing {
            Framing::Chunked => read(&dechunk(&self.bytes)),
            Framing::Plain => read(&self.bytes),
        }
    }

    /// The events without their padding, and whether a reset came before them.
    pub(super) fn events(&self) -> (Vec<usize>, bool) {
        let mut events = self.read_events();
        let is_reset = events
            .first()
            .is_some_and(|first| first.event_type == "ssecast.reset");
        if is_reset {
            events.remove(0);
        }
        let numbers = events.iter().map(number);
        (numbers.collect(), is_reset)
    }

    /// Whether what it got is a run of events without a gap, from where it may begin to `end`.
    pub(super) fn check(&self, end: usize) {
        let (numbers, is_reset) = self.events();
        let first = numbers.first().copied().unwrap_or(end);
        assert_eq!(numbers, (first..end).collect::<Vec<_>>(), "{self:?}");
        match self.seen {
            Some(seen) if !is_reset => assert_eq!(first, seen + 1, "{self:?}"),
            Some(_) => {}
            None => assert!(first >= self.n_before, "{self:?} begins at {first}"),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("framing", &self.framing)
            .field("seen", &self.seen)
            .field("n_before", &self.n_before)
            .field("n_bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// The number of an event of [`World::commit`].
pub(super) fn number(event: &Read) -> usize {
    let digits = event.data.split(' ').next().unwrap_or_default();
    let number = digits.parse();
    number.unwrap_or_else(|_| panic!("no event of the test: {event:?}"))
}
