//! The bench's end of a load client.

use std::time::Duration;

use super::Faults;
use super::message::Connect;
use super::message::Connected;
use super::message::Finish;
use super::message::Order;
use super::message::Received;
use super::message::Verified;
use crate::event;
use crate::origin::Plan;
use crate::origin::Played;
use crate::process::Place;
use crate::process::Process;
use crate::server::Server;

/// Longer than anything that a load client does without an answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// A load client in a process of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    process: Process,
}

/// Subscribers that read slowly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    /// Their receive buffer.
    pub(crate) receive_buffer: usize,
    /// How much they read at a time.
    pub(crate) bite: usize,
    /// How often they do.
    pub(crate) interval: Duration,
}

impl Load {
    /// Starts a load client for a server.
    pub(crate) fn start(place: Place, server: &Server, slowness: Option<Slowness>) -> Self {
        let mut arguments = vec!["load".to_owned(), format!("--server={}", server.address())];
        if let Some(certificate) = server.certificate() {
            arguments.push(format!("--certificate={}", certificate.display()));
        }
        if let Some(Slowness {
            receive_buffer,
            bite,
            interval,
        }) = slowness
        {
            arguments.push(format!("--receive-buffer={receive_buffer}"));
            arguments.push(format!("--bite={bite}"));
            arguments.push(format!("--bite-interval-ms={}", interval.as_millis()));
        }
        Self {
            process: Process::start_role(place, &arguments),
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Opens connections.
    pub(crate) fn connect(&mut self, order: Connect) -> Connected {
        self.process.tell(&Order::Connect(order).to_string());
        Connected::parse(&self.process.reply(PATIENCE))
    }

    /// Begins a window of so many events of a size.
    pub(crate) fn begin(&mut self, plan: &Plan) {
        let n_bytes = plan.n_events * event::wire_size(plan.size) as u64;
        self.process.tell(&Order::Begin { n_bytes }.to_string());
        let reply = self.process.reply(PATIENCE);
        assert_eq!(reply, "begun");
    }

    /// Receives the rest of a window.
    pub(crate) fn finish(&mut self, plan: &Plan, played: &Played) -> Received {
        let order = Order::Finish(Finish {
            first_seq: played.first_seq,
            n_events: plan.n_events,
            size: plan.size as u64,
            timeout_ms: 20_000,
        });
        self.process.tell(&order.to_string());
        Received::parse(&self.process.reply(PATIENCE))
    }

    /// Waits for what the window held.
    pub(crate) fn verified(&self) -> Verified {
        Verified::parse(&self.process.reply(PATIENCE))
    }
}

impl Connected {
    /// The clients that were not served.
    pub(crate) fn faults(&self) -> Faults {
        Faults::cut(self.n_refused)
    }
}
