//! The bare loop: the limit that the gateway is compared to.
//!
//! One thread, one poll, no HTTP library. It reads the same origin as the gateway, an upstream
//! connection per channel, and hands on the bytes of the body as they come, chunk framing included:
//! after each upstream read one write per client of all that is due to it. It parses nothing but the
//! lengths of the chunks (so that a client joins between two events), gives no ids, keeps no history,
//! sends no heartbeats and has no limits.

mod channel;
mod client;

use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;

use clap::Args;
use clap::ValueEnum;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::event::Event as Readiness;
use mio::net::TcpListener;
use slab::Slab;
use socket2::SockRef;

use self::channel::Channel;
use self::client::Client;
use self::client::Written;
use crate::listener;

const LISTENER: Token = Token(usize::MAX - 1);

/// The arguments of the role.
#[derive(Debug, Clone, Args)]
pub(crate) struct BareArguments {
    /// Where to listen.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where the origin is.
    #[arg(long)]
    pub(crate) origin: SocketAddr,
    /// The group of the origin to read.
    #[arg(long)]
    pub(crate) group: u32,
    /// How many channels the group has.
    #[arg(long)]
    pub(crate) channels: u32,
    /// What one write carries.
    #[arg(long, value_enum, default_value_t = Writes::OfAllThatIsDue)]
    pub(crate) writes: Writes,
    /// The send buffer of each client's socket; the kernel's own choice by default.
    #[arg(long)]
    pub(crate) send_buffer: Option<usize>,
}

/// What one write to a client carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Writes {
    /// Everything that the client has not had yet.
    OfAllThatIsDue,
    /// One event, as the servers do that write whenever their application does.
    OfOneEvent,
}

/// The role `bare`.
pub(crate) fn run(arguments: &BareArguments) -> ! {
    Bare::start(arguments).serve()
}

/// All that the loop has.
#[derive(Debug)]
struct Bare<'a> {
    arguments: &'a BareArguments,
    poll: Poll,
    listener: TcpListener,
    /// Their tokens are their places.
    channels: Vec<Channel>,
    /// Their tokens are their keys, after those of the channels.
    clients: Slab<Client>,
    /// What an upstream is read into.
    scratch: Vec<u8>,
}

impl<'a> Bare<'a> {
    fn start(arguments: &'a BareArguments) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = listener::bind(arguments.listen);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .unwrap();
        let mut channels = Vec::new();
        for number in 0..arguments.channels {
            let mut channel = Channel::connect(arguments.origin, arguments.group, number);
            let token = Token(channels.len());
            poll.registry()
                .register(channel.upstream(), token, Interest::READABLE)
                .unwrap();
            channels.push(channel);
        }
        let scratch = vec![0; 64 * 1024];
        Self {
            arguments,
            poll,
            listener,
            channels,
            clients: Slab::new(),
            scratch,
        }
    }

    fn serve(mut self) -> ! {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.unwrap(),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(place) if place < self.channels.len() => self.deliver(place),
                    Token(token) => self.serve_client(token - self.channels.len(), event),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nodelay(true).unwrap();
            if let Some(size) = self.arguments.send_buffer {
                SockRef::from(&stream).set_send_buffer_size(size).unwrap();
            }
            let entry = self.clients.vacant_entry();
            let token = Token(self.channels.len() + entry.key());
            let client = entry.insert(Client::new(stream));
            self.poll
                .registry()
                .register(
                    client.stream(),
                    token,
                    Interest::READABLE | Interest::WRITABLE,
                )
                .unwrap();
        }
    }

    /// Reads a channel's upstream and writes what it gave to every client.
    fn deliver(&mut self, place: usize) {
        let channel = &mut self.channels[place];
        let mut limits = match channel.read(&mut self.scratch) {
            Ok(limits) => limits,
            Err(error) => panic!("the upstream of channel {place} has ended: {error}"),
        };
        if self.arguments.writes == Writes::OfAllThatIsDue {
            limits.drain(..limits.len().saturating_sub(1));
        }
        for limit in limits {
            self.pass(place, limit);
        }
        self.channels[place].forget_delivered(&self.clients);
    }

    /// Writes to every client of a channel what it has not had yet, up to a position.
    fn pass(&mut self, place: usize, limit: u64) {
        let mut gone = Vec::new();
        let channel = &mut self.channels[place];
        channel.release(limit);
        for key in channel.members.iter().copied() {
            let client = &mut self.clients[key];
            // A client that is behind waits for its socket, not for the next event.
            if !client.is_behind && write_due(channel.log.due(client.at), client).is_err() {
                gone.push(key);
            }
        }
        for key in gone {
            self.close(key);
        }
    }

    fn serve_client(&mut self, key: usize, event: &Readiness) {
        let Some(client) = self.clients.get_mut(key) else {
            return; // closed while an earlier event of this poll was looked at
        };
        if event.is_readable() {
            match client.read() {
                Ok(None) => {}
                Ok(Some(place)) => {
                    let Some(channel) = self.channels.get_mut(place) else {
                        return self.close(key);
                    };
                    channel.join(key, client);
                }
                Err(_) => return self.close(key),
            }
        }
        if event.is_writable() && client.is_behind {
            let channel = &mut self.channels[client.channel.unwrap()];
            if write_due(channel.log.due(client.at), client).is_err() {
                self.close(key);
            }
        }
    }

    fn close(&mut self, key: usize) {
        let client = self.clients.remove(key);
        if let Some(place) = client.channel {
            let channel = &mut self.channels[place];
            let member = client.member;
            channel.members.swap_remove(member);
            if let Some(moved) = channel.members.get(member) {
                self.clients[*moved].member = member;
            }
        }
    }
}

/// Writes to a client until all is written or the socket takes no more.
fn write_due(due: &[u8], client: &mut Client) -> io::Result<()> {
    client.is_behind = match client.write(due)? {
        Written::All => false,
        Written::Part => true,
    };
    Ok(())
}
