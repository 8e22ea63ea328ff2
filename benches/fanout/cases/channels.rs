//! Many small channels, each with an upstream connection of its own and two clients.

use crate::Bench;
use crate::origin::Pace;
use crate::pair::Pair;
use crate::server::Kind;
use crate::table::Bar;
use crate::table::Row;

/// 5,000 channels x 2 clients x 1/s, delivered as they come.
pub(super) fn plain(bench: &Bench) -> Vec<Row> {
    run(bench, &bench.gateway(), 1.4)
}

/// The same, gathered for up to 5 ms; the bare loop delivers them as they come.
pub(super) fn coalesced(bench: &Bench) -> Vec<Row> {
    run(bench, &bench.gateway_with_coalesce("5ms"), 0.6)
}

fn run(bench: &Bench, gateway: &Kind, limit: f64) -> Vec<Row> {
    let n_channels = bench.pick(5_000, 20);
    let mut pair = Pair::start(bench, gateway, &Kind::BARE, n_channels);
    pair.connect(u64::from(n_channels) * 2);
    let pace = Pace::PerSecond(bench.pick(1.0, 20.0));
    let rounds = pair.alternate(bench.pick(10, 1), 2, 200, pace);
    let mut rows = rounds.rows(pair.faults());
    rows[0].bar = Bar::AtMostTimes(limit);
    rows
}
