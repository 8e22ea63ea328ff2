//! The gateway and the bare loop beside each other on one origin, measured in turn.
//!
//! Both are up all the time, with their clients; only one is sent events at a time, and an idle one
//! costs next to nothing. Windows go gateway, bare, gateway, bare, …, so that what the machine does
//! besides falls on both alike.

use crate::Bench;
use crate::load::Faults;
use crate::load::Slowness;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::series::Series;
use crate::server::Kind;
use crate::side::Side;
use crate::side::Window;
use crate::table::Row;

/// The two.
#[derive(Debug)]
pub(crate) struct Pair {
    gateway: Side,
    bare: Side,
    /// Last, so that it outlives the servers that read it.
    origin: Origin,
    faults: Faults,
}

/// The windows of each.
#[derive(Debug)]
pub(crate) struct Rounds {
    gateway: Vec<Window>,
    bare: Vec<Window>,
}

impl Pair {
    /// Starts both with so many channels.
    pub(crate) fn start(bench: &Bench, gateway: &Kind, bare: &Kind, n_channels: u32) -> Self {
        let origin = Origin::start();
        let gateway = Side::start(bench.layout, &origin, gateway, n_channels);
        let bare = Side::start(bench.layout, &origin, bare, n_channels);
        Self {
            gateway,
            bare,
            origin,
            faults: Faults::default(),
        }
    }

    /// The pair with load clients that read slowly.
    pub(crate) fn with_slow_readers(self, bench: &Bench, slowness: Slowness) -> Self {
        Self {
            gateway: self.gateway.with_slow_readers(bench.layout, slowness),
            bare: self.bare.with_slow_readers(bench.layout, slowness),
            ..self
        }
    }

    /// Opens so many connections to each.
    pub(crate) fn connect(&mut self, n_clients: u64) {
        self.faults += self.gateway.connect(n_clients);
        self.faults += self.bare.connect(n_clients);
    }

    /// Waits until both have all their upstream connections, if they make them for their clients.
    pub(crate) fn wait_for_channels(&self) {
        for side in [&self.gateway, &self.bare] {
            self.origin.wait_for_channels(side.group, side.n_channels);
        }
    }

    /// Measures windows of the same plan in turn, after one of each that does not count.
    pub(crate) fn alternate(
        &mut self,
        n_rounds: u32,
        n_events: u64,
        size: usize,
        pace: Pace,
    ) -> Rounds {
        let mut rounds = Rounds {
            gateway: Vec::new(),
            bare: Vec::new(),
        };
        for round in 0..=n_rounds {
            for (side, windows) in [
                (&mut self.gateway, &mut rounds.gateway),
                (&mut self.bare, &mut rounds.bare),
            ] {
                let window = side.measure(&self.origin, &side.plan(n_events, size, pace));
                self.faults += window.faults;
                if round > 0 {
                    windows.push(window);
                }
            }
        }
        rounds
    }

    /// What was wrong in all that time, with either.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = self.faults;
        faults += self.gateway.upstream_faults(&self.origin);
        faults += self.bare.upstream_faults(&self.origin);
        faults
    }
}

impl Rounds {
    /// A row of one number of each window.
    pub(crate) fn row(&self, what: &str, unit: &'static str, number: fn(&Window) -> f64) -> Row {
        let series = |windows: &[Window]| windows.iter().map(number).collect::<Series>();
        Row::new(what, unit, series(&self.gateway)).beside(series(&self.bare))
    }

    /// The usual rows: what an event costs, and how long it takes.
    pub(crate) fn rows(&self, faults: Faults) -> Vec<Row> {
        vec![
            self.row("CPU per delivered event", "µs", |window| window.cpu_micros)
                .faults(faults),
            self.row("latency p50", "ms", |window| window.p50_ms),
            self.row("latency p99", "ms", |window| window.p99_ms),
        ]
    }
}
