//! Clients that wait: what each costs in memory.

use crate::Bench;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::series::Series;
use crate::server::Kind;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;
use crate::usage;

/// Memory for each client, in KiB.
pub(super) struct Memory {
    pub(super) resident: f64,
    kernel: f64,
    pub(super) faults: Faults,
}

/// 10,000 idle clients.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let n_rounds = bench.pick(3, 1);
    let rounds: Vec<[Memory; 2]> = (0..n_rounds)
        .map(|_| [bench.gateway(), Kind::BARE].map(|kind| weigh(bench, &kind)))
        .collect();
    let series = |side: usize, number: fn(&Memory) -> f64| -> Series {
        rounds.iter().map(|round| number(&round[side])).collect()
    };
    let mut faults = Faults::default();
    for memory in rounds.iter().flatten() {
        faults += memory.faults;
    }
    vec![
        Row::new(
            "resident memory per client",
            "KiB",
            series(0, |memory| memory.resident),
        )
        .beside(series(1, |memory| memory.resident))
        .bar(Bar::AtMost(2.0))
        .faults(faults),
        Row::new(
            "kernel slabs per connection, both ends",
            "KiB",
            series(0, |memory| memory.kernel),
        )
        .beside(series(1, |memory| memory.kernel)),
    ]
}

/// Connects 10,000 clients that wait.
pub(super) fn weigh(bench: &Bench, kind: &Kind) -> Memory {
    let n_clients = bench.pick(10_000, 100);
    let origin = Origin::start();
    let mut side = Side::start(bench.layout, &origin, kind, 1);
    let resident_before = usage::settled_resident(side.server.id());
    let kernel_before = usage::kernel_slabs();
    let mut faults = side.connect(n_clients);
    let resident = usage::settled_resident(side.server.id()).saturating_sub(resident_before);
    let kernel = usage::kernel_slabs().saturating_sub(kernel_before);
    // Idle, and there all the same.
    faults += side
        .measure(&origin, &side.plan(1, 200, Pace::AtOnce))
        .faults;
    faults += side.upstream_faults(&origin);
    let per_client = |bytes: u64| bytes as f64 / n_clients as f64 / 1024.0;
    Memory {
        resident: per_client(resident),
        kernel: per_client(kernel),
        faults,
    }
}
