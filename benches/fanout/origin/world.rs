//! The origin's thread: connections, channels and the plans that are being played.
//!
//! Owned by nobody else; the handle sends it orders. Events are written when a timer of nanosecond
//! resolution says so: a poll's own timeout rounds up to milliseconds, and events of different
//! channels that are due a fifth of a millisecond apart would leave in clumps.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::Waker;
use mio::event::Event as Readiness;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use rustix::time::Itimerspec;
use rustix::time::TimerfdClockId;
use rustix::time::TimerfdFlags;
use rustix::time::TimerfdTimerFlags;
use rustix::time::Timespec;
use rustix::time::timerfd_create;
use rustix::time::timerfd_settime;
use slab::Slab;

use super::Census;
use super::connection::Address;
use super::connection::Connection;
use super::plan::Plan;
use super::plan::Played;
use crate::clock;
use crate::clock::SECOND;
use crate::event::Event;
use crate::listener;

const LISTENER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
const WAKER: Token = Token(usize::MAX - 3);

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// Count the connections of a group.
    Census(u32, mpsc::Sender<Census>),
    /// Send the events of a plan.
    Play(Plan, mpsc::Sender<Played>),
    /// End.
    Stop,
}

/// All that the thread has.
#[derive(Debug)]
pub(super) struct World {
    poll: Poll,
    listener: TcpListener,
    timer: OwnedFd,
    waker: Arc<Waker>,
    orders: mpsc::Receiver<Order>,
    connections: Slab<Connection>,
    channels: HashMap<Address, Channel>,
    plays: Vec<Play>,
}

impl World {
    /// A world that listens on a free port.
    pub(super) fn new(orders: mpsc::Receiver<Order>) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = listener::bind(([127, 0, 0, 1], 0).into());
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
        let registry = poll.registry();
        registry
            .register(&mut listener, LISTENER, Interest::READABLE)
            .unwrap();
        registry
            .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)
            .unwrap();
        let waker = Arc::new(Waker::new(registry, WAKER).unwrap());
        Self {
            poll,
            listener,
            timer,
            waker,
            orders,
            connections: Slab::new(),
            channels: HashMap::new(),
            plays: Vec::new(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.unwrap(),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    // Not read: arming it anew clears it. The plays are looked at below.
                    TIMER | WAKER => {}
                    Token(key) => self.serve(key, event),
                }
            }
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Census(group, census_tx) => {
                        if census_tx.send(self.census(group)).is_err() { /* nobody waits */ }
                    }
                    Order::Play(plan, done_tx) => self.plays.push(self.start(plan, done_tx)),
                    Order::Stop => return,
                }
            }
            self.send_what_is_due();
            self.arm_timer();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nodelay(true).unwrap();
            let entry = self.connections.vacant_entry();
            let token = Token(entry.key());
            let connection = entry.insert(Connection::new(stream));
            self.poll
                .registry()
                .register(
                    connection.stream(),
                    token,
                    Interest::READABLE | Interest::WRITABLE,
                )
                .unwrap();
        }
    }

    fn serve(&mut self, key: usize, event: &Readiness) {
        let Some(connection) = self.connections.get_mut(key) else {
            return; // closed while an earlier event of this poll was looked at
        };
        let mut outcome = Ok(None);
        if event.is_readable() {
            outcome = connection.read();
        }
        if event.is_writable() {
            outcome = outcome.and_then(|address| connection.flush().map(|()| address));
        }
        match outcome {
            Ok(Some(address)) => {
                let channel = self.channels.entry(address).or_default();
                channel.connection = Some(key);
                channel.n_accepted += 1;
            }
            Ok(None) => {}
            Err(_) => self.close(key),
        }
    }

    fn close(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        let channel = connection
            .address
            .and_then(|address| self.channels.get_mut(&address));
        if let Some(channel) = channel.filter(|channel| channel.connection == Some(key)) {
            channel.connection = None;
        }
    }

    fn start(&self, plan: Plan, done_tx: mpsc::Sender<Played>) -> Play {
        let mut seqs = plan.channels().map(|channel| {
            self.channels
                .get(&(plan.group, channel))
                .map_or(0, |channel| channel.next_seq)
        });
        let first_seq = seqs.next().unwrap();
        assert!(
            seqs.all(|seq| seq == first_seq),
            "channels of a plan go on from different places"
        );
        let now = clock::now();
        let played = Played {
            first_seq,
            first_sent_at: now,
            n_unsent: 0,
        };
        Play {
            plan,
            started_at: now,
            n_sent: 0,
            played,
            done_tx,
        }
    }

    fn send_what_is_due(&mut self) {
        let mut touched = BTreeSet::new();
        for play in &mut self.plays {
            let now = clock::now();
            while play.is_due(now) {
                let number = play.plan.channel_of(play.n_sent);
                play.n_sent += 1;
                let channel = self.channels.entry((play.plan.group, number)).or_default();
                let event = Event {
                    channel: number,
                    seq: channel.next_seq,
                    sent_at: clock::now(),
                };
                channel.next_seq += 1;
                let Some(key) = channel.connection else {
                    play.played.n_unsent += 1;
                    continue;
                };
                event.write_chunk(play.plan.size, self.connections[key].pending());
                touched.insert(key);
            }
        }
        for key in touched {
            if self.connections[key].flush().is_err() {
                self.close(key);
            }
        }
        for play in self.plays.extract_if(.., |play| play.is_over()) {
            if play.done_tx.send(play.played).is_err() { /* nobody waits */ }
        }
    }

    fn arm_timer(&self) {
        let Some(at) = self.plays.iter().map(Play::next_due_at).min() else {
            return;
        };
        let value = Timespec {
            tv_sec: i64::try_from(at / SECOND).unwrap(),
            tv_nsec: i64::try_from(at % SECOND).unwrap(),
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)
            .map_err(io::Error::from)
            .unwrap();
    }

    fn census(&self, group: u32) -> Census {
        let mut census = Census::default();
        for ((of_group, _), channel) in &self.channels {
            if *of_group == group {
                census.n_open += u32::from(channel.connection.is_some());
                census.n_surplus += channel.n_accepted.saturating_sub(1);
            }
        }
        census
    }
}

/// One channel of a group.
#[derive(Debug, Default)]
struct Channel {
    /// The key of the connection that reads it.
    connection: Option<usize>,
    /// How many connections have asked for it.
    n_accepted: u32,
    next_seq: u64,
}

/// A plan in progress.
#[derive(Debug)]
struct Play {
    plan: Plan,
    started_at: u64,
    /// Events written, or counted as unsent.
    n_sent: u64,
    played: Played,
    done_tx: mpsc::Sender<Played>,
}

impl Play {
    fn is_over(&self) -> bool {
        self.n_sent == self.plan.n_all_events()
    }

    fn is_due(&self, now: u64) -> bool {
        !self.is_over() && self.next_due_at() <= now
    }

    fn next_due_at(&self) -> u64 {
        self.started_at + self.plan.due_after(self.n_sent)
    }
}
