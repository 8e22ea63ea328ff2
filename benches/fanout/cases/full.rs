//! As many clients as a process with 20,000 descriptors can hold.

use crate::Bench;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::server::Kind;
use crate::side::Side;
use crate::side::Window;
use crate::table::Bar;
use crate::table::Row;

/// The clients, where the machine allows so many descriptors.
const N_CLIENTS: u64 = 19_000;
/// Descriptors that are left for everything else.
const RESERVE: u64 = 1_000;

/// 19,000 clients x 1/s.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let n_clients = bench
        .pick(N_CLIENTS, 200)
        .min(bench.max_descriptors.saturating_sub(RESERVE));
    let mut faults = Faults::default();
    let [gateway, bare] =
        [bench.gateway(), Kind::BARE].map(|kind| fill(bench, &kind, n_clients, &mut faults));
    let served = |filled: &Filled| (filled.n_served as f64).into();
    let cpu = |filled: &Filled| filled.window.cpu_micros.into();
    let p99 = |filled: &Filled| filled.window.p99_ms.into();
    vec![
        Row::new("clients that get every event", "", served(&gateway))
            .beside(served(&bare))
            .bar(Bar::AtLeast(bench.pick(N_CLIENTS, n_clients) as f64))
            .faults(faults),
        Row::new("CPU per delivered event", "µs", cpu(&gateway)).beside(cpu(&bare)),
        Row::new("latency p99", "ms", p99(&gateway)).beside(p99(&bare)),
    ]
}

struct Filled {
    n_served: u64,
    window: Window,
}

fn fill(bench: &Bench, kind: &Kind, n_clients: u64, faults: &mut Faults) -> Filled {
    let origin = Origin::start();
    let mut side = Side::start(bench.layout, &origin, kind, 1);
    let mut found = side.connect(n_clients);
    let pace = Pace::PerSecond(bench.pick(1.0, 20.0));
    let window = side.measure(&origin, &side.plan(5, 200, pace));
    found += window.faults;
    found += side.upstream_faults(&origin);
    *faults += found;
    Filled {
        n_served: n_clients - found.n_cut.min(n_clients),
        window,
    }
}
