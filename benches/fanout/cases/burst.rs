//! A hundred events in one write of the origin: the time until the last client has the last byte.

use crate::Bench;
use crate::origin::Pace;
use crate::pair::Pair;
use crate::server::Kind;
use crate::table::Bar;
use crate::table::Row;

/// 100 events of 200 B to 5,000 clients.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let mut pair = Pair::start(bench, &bench.gateway(), &Kind::BARE, 1);
    pair.connect(bench.pick(5_000, 50));
    let rounds = pair.alternate(bench.pick(10, 1), 100, 200, Pace::AtOnce);
    vec![
        rounds
            .row("until the last byte", "ms", |window| window.span_ms)
            .bar(Bar::AtMostTimes(1.1))
            .faults(pair.faults()),
        rounds.row("CPU per delivered event", "µs", |window| window.cpu_micros),
    ]
}
