//! A server under test with its load client, and one measured window of the two.

use crate::clock;
use crate::load::Connect;
use crate::load::Faults;
use crate::load::Load;
use crate::load::Slowness;
use crate::machine::Layout;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::origin::Plan;
use crate::process::Place;
use crate::server::Kind;
use crate::server::Server;
use crate::server::Task;
use crate::usage::CpuTime;

use std::time::Duration;

/// Connections that wait for an answer at a time, where connecting is not what is measured.
const GENTLY: u64 = 256;

/// A server and its load client.
#[derive(Debug)]
pub(crate) struct Side {
    /// Killed first, so that no server sees its clients leave.
    pub(crate) server: Server,
    pub(crate) load: Load,
    /// The group of the origin that the server reads.
    pub(crate) group: u32,
    /// The channels of the group.
    pub(crate) n_channels: u32,
}

/// What was measured in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Processor time of the server for each event delivered to a client, in microseconds.
    pub(crate) cpu_micros: f64,
    /// Half of the events took at most so many milliseconds from the origin to the client.
    pub(crate) p50_ms: f64,
    /// 99 of 100 took at most this.
    pub(crate) p99_ms: f64,
    /// No event took longer.
    pub(crate) longest_ms: f64,
    /// From the first write of the origin to the last byte of the last client.
    pub(crate) span_ms: f64,
    /// How busy the processor of the load was.
    pub(crate) load_share: f64,
    /// What was wrong.
    pub(crate) faults: Faults,
}

impl Side {
    /// Starts a server, waits for its upstream connections, and starts a load client without clients.
    pub(crate) fn start(layout: Layout, origin: &Origin, kind: &Kind, n_channels: u32) -> Self {
        let group = kind.group();
        let task = Task {
            kind: kind.clone(),
            origin: origin.address(),
            group,
            n_channels,
        };
        let server = Server::start(layout.server, &task);
        if kind.connects_eagerly() {
            origin.wait_for_channels(group, n_channels);
        }
        let place = Place {
            processor: layout.load,
            nicer_by: 0,
        };
        let load = Load::start(place, &server, None);
        Self {
            server,
            load,
            group,
            n_channels,
        }
    }

    /// The side with a load client that reads slowly.
    pub(crate) fn with_slow_readers(mut self, layout: Layout, slowness: Slowness) -> Self {
        let place = Place {
            processor: layout.load,
            nicer_by: 0,
        };
        self.load = Load::start(place, &self.server, Some(slowness));
        self
    }

    /// Opens so many connections, dealt out to all channels.
    pub(crate) fn connect(&mut self, n_clients: u64) -> Faults {
        connect(&mut self.load, n_clients, 0, self.n_channels)
    }

    /// A plan for all channels of this side.
    pub(crate) fn plan(&self, n_events: u64, size: usize, pace: Pace) -> Plan {
        let Self {
            group, n_channels, ..
        } = *self;
        Plan {
            group,
            first_channel: 0,
            n_channels,
            n_events,
            size,
            pace,
        }
    }

    /// Plays a plan and measures what it costs the server and when it arrives.
    pub(crate) fn measure(&mut self, origin: &Origin, plan: &Plan) -> Window {
        self.measure_while(origin, plan, |_| {})
    }

    /// The same, while something is done to the server.
    pub(crate) fn measure_while(
        &mut self,
        origin: &Origin,
        plan: &Plan,
        act: impl FnOnce(&Server),
    ) -> Window {
        /// Until the server's last pass has returned and its threads sleep.
        const AFTERMATH: Duration = Duration::from_millis(20);
        self.load.begin(plan);
        let server_before = CpuTime::of(self.server.id());
        let load_before = [CpuTime::of(self.load.id()), CpuTime::of(std::process::id())];
        let started_at = clock::now();
        let playing = origin.play(*plan);
        act(&self.server);
        let played = playing.wait();
        let received = self.load.finish(plan, &played);
        let load_time = CpuTime::of(self.load.id()).since(&load_before[0])
            + CpuTime::of(std::process::id()).since(&load_before[1]);
        let wall_time = clock::now() - started_at;
        clock::pause(AFTERMATH);
        let server_time = CpuTime::of(self.server.id()).since(&server_before);
        let verified = self.load.verified();
        let mut faults = verified.faults;
        faults.n_missing += played.n_unsent;
        if faults.total() > 0 {
            eprintln!("  {faults}.{}", self.server.last_lines());
        }
        Window {
            cpu_micros: server_time as f64 / verified.n_delivered as f64 / 1e3,
            p50_ms: verified.p50 as f64 / 1e6,
            p99_ms: verified.p99 as f64 / 1e6,
            longest_ms: verified.longest as f64 / 1e6,
            span_ms: received.last_at.saturating_sub(played.first_sent_at) as f64 / 1e6,
            load_share: load_time as f64 / wall_time as f64,
            faults,
        }
    }

    /// Upstream connections that are too many or too few.
    pub(crate) fn upstream_faults(&self, origin: &Origin) -> Faults {
        let census = origin.census(self.group);
        let n_lost = self.n_channels - census.n_open;
        if census.n_surplus + n_lost > 0 {
            eprintln!(
                "  {} channels: {n_lost} have no upstream connection, {} connections are too many",
                self.n_channels, census.n_surplus
            );
        }
        Faults::upstream(u64::from(census.n_surplus + n_lost))
    }
}

/// Opens connections, dealt out to some channels; those that are not served are faults.
pub(crate) fn connect(load: &mut Load, n_clients: u64, first: u32, n_channels: u32) -> Faults {
    let order = Connect {
        n_clients,
        first_channel: u64::from(first),
        n_channels: u64::from(n_channels),
        n_in_flight: GENTLY,
    };
    load.connect(order).faults()
}
