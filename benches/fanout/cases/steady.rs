//! One channel at a steady rate: what an event costs, and how long it takes.

use crate::Bench;
use crate::origin::Pace;
use crate::pair::Pair;
use crate::server::Kind;
use crate::table::Bar;
use crate::table::Row;

/// Windows of each server: enough that a median is one.
const N_ROUNDS: u32 = 10;

/// A crowd, a rate and a size.
struct Rate {
    n_clients: u64,
    per_second: f64,
    /// Of a window.
    n_events: u64,
    size: usize,
    bar: Bar,
}

/// 5,000 clients x 10/s x 200 B.
pub(super) fn steady(bench: &Bench) -> Vec<Row> {
    let bar = Bar::AtMostTimes(1.15);
    let rate = Rate {
        n_clients: 5_000,
        per_second: 10.0,
        n_events: 20,
        size: 200,
        bar,
    };
    run(bench, &rate)
}

/// 1,000 clients x 200/s x 200 B.
pub(super) fn fast(bench: &Bench) -> Vec<Row> {
    let bar = Bar::None;
    let rate = Rate {
        n_clients: 1_000,
        per_second: 200.0,
        n_events: 300,
        size: 200,
        bar,
    };
    run(bench, &rate)
}

/// 1,000 clients x 2/s x 16 KiB.
pub(super) fn large(bench: &Bench) -> Vec<Row> {
    let bar = Bar::AtMostTimes(1.15);
    let rate = Rate {
        n_clients: 1_000,
        per_second: 2.0,
        n_events: 4,
        size: 16 * 1024,
        bar,
    };
    run(bench, &rate)
}

fn run(bench: &Bench, rate: &Rate) -> Vec<Row> {
    let mut pair = Pair::start(bench, &bench.gateway(), &Kind::BARE, 1);
    pair.connect(bench.pick(rate.n_clients, 50));
    let pace = Pace::PerSecond(bench.pick(rate.per_second, 100.0));
    let n_rounds = bench.pick(N_ROUNDS, 1);
    let rounds = pair.alternate(n_rounds, bench.pick(rate.n_events, 10), rate.size, pace);
    let mut rows = rounds.rows(pair.faults());
    rows[0].bar = rate.bar;
    rows
}
