//! All the subscribers of a load client, and the poll that serves them.

use std::cmp;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::Waker;
use rustls::ClientConfig;
use slab::Slab;

use super::LoadArguments;
use super::client::Client;
use super::client::State;
use super::faults::Faults;
use super::latency::Latencies;
use super::message::Connect;
use super::message::Connected;
use super::message::Finish;
use super::message::Received;
use super::message::Verified;
use super::verify::Expected;
use crate::clock;
use crate::clock::Deadline;
use crate::event;
use crate::tls;

const WAKER: Token = Token(usize::MAX - 1);

/// Silence after which a window that lacks bytes is given up.
const QUIET_PERIOD: Duration = Duration::from_secs(1);

/// The subscribers.
#[derive(Debug)]
pub(super) struct Crowd<'a> {
    arguments: &'a LoadArguments,
    tls: Option<Arc<ClientConfig>>,
    poll: Poll,
    waker: Arc<Waker>,
    events: Option<Events>,
    /// Their tokens are their keys.
    clients: Slab<Client>,
    /// Clients that may still become ready.
    n_waiting: u64,
    /// Bytes of all clients since the window began.
    n_received: u64,
    /// When the last of them was read.
    last_at: u64,
    /// When the next bites are due, during a window of slow readers.
    next_bite: Option<Deadline>,
    /// What was wrong before the window.
    faults: Faults,
}

impl<'a> Crowd<'a> {
    /// Nobody yet.
    pub(super) fn new(arguments: &'a LoadArguments) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        Self {
            arguments,
            tls: arguments.certificate.as_deref().map(tls::client_config),
            poll,
            waker,
            events: Some(Events::with_capacity(1024)),
            clients: Slab::new(),
            n_waiting: 0,
            n_received: 0,
            last_at: 0,
            next_bite: None,
            faults: Faults::default(),
        }
    }

    /// What ends a [`wait`](Self::wait) from another thread.
    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Opens connections and waits until each is answered or lost.
    pub(super) fn connect(&mut self, order: &Connect) -> Connected {
        /// How many connections are begun before looking after those that stand.
        const AT_A_TIME: u64 = 64;
        let started_at = clock::now();
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut n_begun = 0;
        let mut n_refused = 0;
        self.last_at = started_at;
        while (n_begun < order.n_clients || self.n_waiting > 0) && !deadline.is_over() {
            let n_possible = order.n_in_flight.saturating_sub(self.n_waiting);
            let n_now = (order.n_clients - n_begun).min(n_possible).min(AT_A_TIME);
            for _ in 0..n_now {
                let channel = order.first_channel + n_begun % order.n_channels;
                n_begun += 1;
                match Client::connect(self.arguments, self.tls.as_ref(), channel) {
                    Ok(client) => self.insert(client),
                    Err(_) => n_refused += 1,
                }
            }
            let patience = if n_now > 0 {
                Duration::ZERO
            } else {
                Duration::from_millis(100)
            };
            self.wait(Some(patience));
        }
        let n_before = self.clients.len();
        self.clients
            .retain(|_, client| client.state == State::Ready);
        self.n_waiting = 0;
        n_refused += (n_before - self.clients.len()) as u64;
        let n_ready = self.clients.len() as u64;
        Connected {
            n_ready,
            n_refused,
            elapsed: self.last_at - started_at,
        }
    }

    /// Begins a window of so many bytes for each client.
    pub(super) fn begin(&mut self, n_bytes: u64) {
        for (_, client) in &mut self.clients {
            self.faults += client.begin(usize::try_from(n_bytes).unwrap());
        }
        self.clients.retain(|_, client| client.state != State::Lost);
        self.n_received = 0;
        if self.arguments.bite.is_some() {
            self.next_bite = Some(Deadline::after(Duration::ZERO));
        }
    }

    /// Receives what the window still lacks, until it is all there or nothing comes any more.
    pub(super) fn finish(&mut self, order: &Finish) -> Received {
        let wire_size = event::wire_size(usize::try_from(order.size).unwrap()) as u64;
        let n_expected = self.clients.len() as u64 * order.n_events * wire_size;
        let deadline = Deadline::after(Duration::from_millis(order.timeout_ms));
        let mut n_before = u64::MAX;
        while !deadline.is_over() && n_before != self.n_received {
            n_before = self.n_received;
            // All that was expected is no proof that nothing else comes.
            let is_complete = self.n_received >= n_expected;
            let patience = if is_complete {
                Duration::from_millis(5)
            } else {
                QUIET_PERIOD
            };
            let quiet = Deadline::after(patience);
            while n_before == self.n_received && !quiet.is_over() && !deadline.is_over() {
                self.wait(Some(quiet.remaining()));
            }
        }
        self.next_bite = None;
        Received {
            last_at: self.last_at,
        }
    }

    /// Checks what every client received in the window.
    pub(super) fn verify(&mut self, order: &Finish) -> Verified {
        /// Clients whose faults are worth a line each.
        const MOST_TOLD: u32 = 3;
        let mut faults = std::mem::take(&mut self.faults);
        let mut latencies = Latencies::default();
        let mut n_told = 0;
        for (key, client) in &mut self.clients {
            let Finish {
                first_seq,
                n_events,
                ..
            } = *order;
            let expected = Expected {
                channel: client.channel,
                first_seq,
                n_events,
            };
            let found = client.verify(expected, &mut latencies);
            if found.total() > 0 && n_told < MOST_TOLD {
                eprintln!("  client {key} of channel {}: {found}", client.channel);
                n_told += 1;
            }
            faults += found;
        }
        self.clients.retain(|_, client| client.state != State::Lost);
        Verified {
            n_delivered: latencies.len(),
            faults,
            p50: latencies.quantile(0.50),
            p99: latencies.quantile(0.99),
            longest: latencies.quantile(1.0),
        }
    }

    /// Serves the clients until something has happened or the time is over.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) {
        let until_bite = self.next_bite.map(Deadline::remaining);
        let timeout = [timeout, until_bite].into_iter().flatten().reduce(cmp::min);
        let mut events = self.events.take().unwrap();
        match self.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            outcome => outcome.unwrap(),
        }
        for event in events.iter().filter(|event| event.token() != WAKER) {
            self.serve(event.token().0, event.is_readable(), event.is_writable());
        }
        self.events = Some(events);
        if self.next_bite.is_some_and(Deadline::is_over) {
            self.bite();
        }
    }

    fn insert(&mut self, mut client: Client) {
        let entry = self.clients.vacant_entry();
        self.poll
            .registry()
            .register(
                client.stream(),
                Token(entry.key()),
                Interest::READABLE | Interest::WRITABLE,
            )
            .unwrap();
        entry.insert(client);
        self.n_waiting += 1;
    }

    #[expect(
        clippy::fn_params_excessive_bools,
        reason = "they are what a poll tells"
    )]
    fn serve(&mut self, key: usize, is_readable: bool, is_writable: bool) {
        let Some(client) = self.clients.get_mut(key) else {
            return; // lost, and forgotten since
        };
        let was_waiting = client.is_waiting();
        if client.state == State::Connecting && is_writable {
            client.ask();
        }
        let is_reading = client.state == State::Asked
            || client.state == State::Ready && self.next_bite.is_none();
        let n = if is_readable && is_reading {
            client.read_all()
        } else {
            0
        };
        if was_waiting && !client.is_waiting() {
            self.n_waiting -= 1;
        }
        self.count(n);
    }

    /// Lets every slow reader take a bite.
    fn bite(&mut self) {
        let interval = Duration::from_millis(self.arguments.bite_interval_ms.unwrap());
        self.next_bite = Some(Deadline::after(interval));
        let mut n = 0;
        for (_, client) in &mut self.clients {
            n += client.read_bite(self.arguments.bite.unwrap());
        }
        self.count(n);
    }

    fn count(&mut self, n: usize) {
        if n > 0 {
            self.n_received += n as u64;
            self.last_at = clock::now();
        }
    }
}
