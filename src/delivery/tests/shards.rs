//! Shards on their threads, over real sockets: the writer and the clients are the test.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use socket2::SockRef;
use tokio::time::Instant;

use super::super::{Arrival, Delivery, Framing, Handover};
use crate::channel::Channel;
use crate::config::Config;
use crate::log::testing::{dechunk, event, read};
use crate::log::{Ending, Writer};
use crate::net::permit::{Permits, Standing};
use crate::net::socket::Unbound;

/// Only a failure reaches it.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the gateway's sockets hold: as little as the kernel allows, so that writes are partial.
const SEND_BUFFER_BYTES: usize = 4 * 1024;

struct World {
    channel: Channel,
    writer: Writer,
    delivery: Option<Delivery>,
    n_said: usize,
}

struct Client {
    socket: UnixStream,
    framing: Framing,
    bytes: Vec<u8>,
    has_ended: bool,
    seen: Option<usize>,
    /// How many events there were when it asked.
    n_before: usize,
}

impl World {
    fn new(n_shards: usize, lines: &str) -> Self {
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
        }
    }

    fn delivery(&self) -> &Delivery {
        self.delivery.as_ref().expect("it runs")
    }

    fn commit(&mut self, sizes: &[usize]) {
        for size in sizes {
            let id = self.n_said.to_string();
            let data = format!("{id} {}", "x".repeat(*size));
            self.writer.push(&event(Some(&id), &data));
            self.n_said += 1;
        }
        self.writer.commit(Instant::now());
    }

    fn subscribe(&self, shard: usize, framing: Framing, seen: Option<usize>) -> Client {
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
    fn read_some(&mut self, n: usize) {
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
    fn read_until(&mut self, what: &str, is_enough: impl Fn(&[u8]) -> bool) {
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

    /// The events without their padding, and whether a reset came before them.
    fn events(&self) -> (Vec<usize>, bool) {
        let stream = match self.framing {
            Framing::Chunked => dechunk(&self.bytes),
            Framing::Plain => self.bytes.clone(),
        };
        let mut events = read(&stream);
        let is_reset = events
            .first()
            .is_some_and(|first| first.event_type == "ssecast.reset");
        if is_reset {
            events.remove(0);
        }
        let number = |data: &str| {
            data.split(' ')
                .next()
                .and_then(|number| number.parse().ok())
        };
        let numbers = events
            .iter()
            .map(|event| number(&event.data).expect("an event of the test"));
        (numbers.collect(), is_reset)
    }

    /// Whether what it got is a run of events without a gap, from where it may begin to `end`.
    fn check(&self, end: usize) {
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

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<usize>),
    /// A client reads at most so many bytes.
    Read {
        client: usize,
        n: usize,
    },
    Subscribe {
        shard: usize,
        framing: Framing,
        /// Counted from the newest event.
        seen: Option<usize>,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let framing = prop_oneof![Just(Framing::Chunked), Just(Framing::Plain)];
    let seen = proptest::option::of(0usize..30);
    prop_oneof![
        5 => vec(0usize..3000, 1..6).prop_map(Step::Commit),
        5 => (0usize..8, 1usize..9000).prop_map(|(client, n)| Step::Read { client, n }),
        2 => (0usize..2, framing, seen)
            .prop_map(|(shard, framing, seen)| Step::Subscribe { shard, framing, seen }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_subscriber_gets_a_run_of_events(
        events in prop_oneof![1usize..20, Just(1000)],
        steps in vec(any_step(), 1..100),
    ) {
        let mut world = World::new(2, &format!("history = {{ events = {events} }}"));
        let mut clients: Vec<Client> = Vec::new();
        for step in steps {
            match step {
                Step::Commit(sizes) => world.commit(&sizes),
                Step::Read { client, n } => {
                    let n_clients = clients.len().max(1);
                    if let Some(client) = clients.get_mut(client % n_clients) {
                        client.read_some(n);
                    }
                }
                Step::Subscribe { shard, framing, seen } => {
                    let seen = seen.and_then(|back| world.n_said.checked_sub(back + 1));
                    clients.push(world.subscribe(shard, framing, seen));
                }
            }
        }
        world.writer.end(Ending::Over, Instant::now());
        for client in &mut clients {
            client.read_until("the end of the channel", |_| false);
            if client.framing == Framing::Chunked {
                prop_assert!(client.bytes.ends_with(b"\r\n0\r\n\r\n"), "{:?}", client);
                client.bytes.truncate(client.bytes.len() - b"0\r\n\r\n".len());
            }
            client.check(world.n_said);
        }
    }
}

/// A shard that was kept from its work for so long that events were dropped for it gives its
/// subscribers up: they come back. Those that come meanwhile, while one of them still takes its
/// time to leave, are served like any others.
#[test]
fn a_shard_that_was_overrun_goes_on() {
    const EVENT_BYTES: usize = 100_000;
    let mut world = World::new(1, "history = { bytes = \"1MiB\" }\nlag.limit = \"512KiB\"");
    world.commit(&[1]);
    // It takes nothing, so it is in the middle of an event when it is told to leave.
    let mut slow = world.subscribe(0, Framing::Chunked, Some(0));
    slow.read_until("the prologue", |bytes| !bytes.is_empty());
    world.commit(&[EVENT_BYTES]);
    slow.read_until("the begin of an event", |bytes| bytes.len() > 1000);

    let (release, hold) = mpsc::channel::<()>();
    let (tell, is_held) = mpsc::channel();
    world.delivery().shards()[0].spawn(async move {
        tell.send(()).expect("the test waits");
        // Keeps the whole thread, as a machine without a free core does.
        hold.recv_timeout(DEADLINE).expect("the test releases it");
    });
    is_held.recv_timeout(DEADLINE).expect("the shard is held");
    // The second is more than the shard may have outstanding, so both are dropped for it.
    world.commit(&[1]);
    world.commit(&[5 * 1024 * 1024]);
    release.send(()).expect("the shard is held");

    let newest = world.n_said - 1;
    let mut next = world.subscribe(0, Framing::Chunked, Some(newest));
    next.read_until("the prologue", |bytes| !bytes.is_empty());
    for _ in 0..3 {
        world.commit(&[EVENT_BYTES]);
    }
    let last = format!("id: {}\n\n\r\n", world.n_said - 1);
    next.read_until("the last event", |bytes| bytes.ends_with(last.as_bytes()));
    next.check(world.n_said);

    slow.read_until("its end", |_| false);
    let (numbers, _) = slow.events();
    assert_eq!(numbers, (1..numbers.len() + 1).collect::<Vec<_>>());
}
