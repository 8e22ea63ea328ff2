//! A small channel beside a large one on the same thread: how long its events take.
//!
//! A pass over ten thousand clients takes a tenth of a second. A server that does nothing else in
//! that time makes the ten clients wait.

use crate::Bench;
use crate::load::Faults;
use crate::load::Load;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::origin::Plan;
use crate::process::Place;
use crate::series::Series;
use crate::server::Kind;
use crate::side;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;

/// The small channel, and the large one.
const SMALL: u32 = 0;
const LARGE: u32 = 1;

/// A server with the clients of both channels.
struct Neighbours {
    /// With the load client of the small channel.
    side: Side,
    /// The load client of the large one.
    large: Load,
    faults: Faults,
}

/// 10 clients x 97/s beside 10,000 clients x 2/s.
///
/// Rates without a common measure: else the small channel's events would all fall into a pass over
/// the large one, or all beside it, as chance has it.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let origin = Origin::start();
    let mut gateway = Neighbours::start(bench, &origin, &bench.gateway());
    let mut bare = Neighbours::start(bench, &origin, &Kind::BARE);
    let mut alone = [Vec::new(), Vec::new()];
    let mut beside = [Vec::new(), Vec::new()];
    for round in 0..=bench.pick(10, 1) {
        for (n, neighbours) in [&mut gateway, &mut bare].into_iter().enumerate() {
            let alone_p99 = neighbours.measure(bench, &origin, Neighbour::Silent);
            let beside_p99 = neighbours.measure(bench, &origin, Neighbour::Loud);
            if round > 0 {
                alone[n].push(alone_p99);
                beside[n].push(beside_p99);
            }
        }
    }
    let mut faults = gateway.faults;
    faults += bare.faults;
    faults += gateway.side.upstream_faults(&origin);
    faults += bare.side.upstream_faults(&origin);
    let [alone_gateway, alone_bare] = alone.map(Series::from_iter);
    let [beside_gateway, beside_bare] = beside.map(Series::from_iter);
    // Either is good enough.
    let limit = f64::max(10.0, 2.0 * alone_gateway.median());
    vec![
        Row::new("p99 of the 10 alone", "ms", alone_gateway)
            .beside(alone_bare)
            .faults(faults),
        Row::new("p99 of the 10 beside the 10,000", "ms", beside_gateway)
            .beside(beside_bare)
            .bar(Bar::AtMost(limit)),
    ]
}

/// What the large channel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    Loud,
    Silent,
}

impl Neighbours {
    fn start(bench: &Bench, origin: &Origin, kind: &Kind) -> Self {
        let mut side = Side::start(bench.layout, origin, kind, 2);
        // Politer than the small channel's client, which must not wait for its turn to read.
        let place = Place {
            processor: bench.layout.load,
            nicer_by: 10,
        };
        let mut large = Load::start(place, &side.server, None);
        let mut faults = side::connect(&mut side.load, 10, SMALL, 1);
        faults += side::connect(&mut large, bench.pick(10_000, 100), LARGE, 1);
        Self {
            side,
            large,
            faults,
        }
    }

    /// The p99 of the small channel's clients in one window.
    fn measure(&mut self, bench: &Bench, origin: &Origin, neighbour: Neighbour) -> f64 {
        let plan = |channel, n_events, per_second| Plan {
            group: self.side.group,
            first_channel: channel,
            n_channels: 1,
            n_events,
            size: 200,
            pace: Pace::PerSecond(per_second),
        };
        let small_plan = plan(SMALL, bench.pick(194, 20), bench.pick(97.0, 197.0));
        let large_plan = plan(LARGE, bench.pick(4, 2), bench.pick(2.0, 20.0));
        let playing = (neighbour == Neighbour::Loud).then(|| {
            self.large.begin(&large_plan);
            origin.play(large_plan)
        });
        let window = self.side.measure(origin, &small_plan);
        self.faults += window.faults;
        if let Some(playing) = playing {
            let played = playing.wait();
            self.large.finish(&large_plan, &played);
            self.faults += self.large.verified().faults;
        }
        window.p99_ms
    }
}
