//! Clients that connect as fast as they can: after a restart, they all come back at once.

use crate::Bench;
use crate::clock::SECOND;
use crate::load::Connect;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::series::Series;
use crate::server::Kind;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;

/// 10,000 clients, until each has a response head and the first byte of a body.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let mut faults = Faults::default();
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..bench.pick(3, 1) {
        for (n, kind) in [bench.gateway(), Kind::BARE].iter().enumerate() {
            seconds[n].push(storm(bench, kind, &mut faults));
        }
    }
    let [gateway, bare] = seconds.map(Series::from_iter);
    vec![
        Row::new("until all are served, none refused", "s", gateway)
            .beside(bare)
            .bar(Bar::AtMost(5.0))
            .faults(faults),
    ]
}

fn storm(bench: &Bench, kind: &Kind, faults: &mut Faults) -> f64 {
    let n_clients = bench.pick(10_000, 100);
    let origin = Origin::start();
    let mut side = Side::start(bench.layout, &origin, kind, 1);
    let at_once = Connect {
        n_clients,
        first_channel: 0,
        n_channels: 1,
        n_in_flight: n_clients,
    };
    let connected = side.load.connect(at_once);
    *faults += connected.faults();
    *faults += side
        .measure(&origin, &side.plan(1, 200, Pace::AtOnce))
        .faults;
    *faults += side.upstream_faults(&origin);
    connected.elapsed as f64 / SECOND as f64
}
