//! Reloads while everything is delivered as ever: how long each takes, and whether anybody waits for it.

use crate::Bench;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::series::Series;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;

/// 1,000 channels x 10 clients x 1/s, of which one channel is changed again and again.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let (n_channels, n_reloads) = (bench.pick(1_000, 10), bench.pick(20, 3));
    let origin = Origin::start();
    let mut side = Side::start(bench.layout, &origin, &bench.gateway(), n_channels);
    let mut faults = side.connect(u64::from(n_channels) * 10);
    let pace = Pace::PerSecond(bench.pick(1.0, 10.0));
    let plan = side.plan(bench.pick(10, 5), 200, pace);
    let quiet = side.measure(&origin, &plan);
    let mut took = Vec::new();
    let reloading = side.measure_while(&origin, &plan, |server| {
        took.extend((0..n_reloads).map(|number| server.reload(number)));
    });
    faults += quiet.faults;
    faults += reloading.faults;
    faults += side.upstream_faults(&origin);
    let longest = took.iter().copied().fold(0.0, f64::max);
    let pause = (reloading.longest_ms - quiet.longest_ms).max(0.0);
    vec![
        Row::new(
            "a reload, median of all",
            "ms",
            took.into_iter().collect::<Series>(),
        )
        .bar(Bar::AtMost(50.0))
        .faults(faults),
        Row::new("the longest reload", "ms", longest.into()).bar(Bar::AtMost(50.0)),
        Row::new(
            "longest delivery with reloads, less without",
            "ms",
            pause.into(),
        )
        .bar(Bar::AtMost(50.0)),
        Row::new(
            "longest delivery without reloads",
            "ms",
            quiet.longest_ms.into(),
        ),
    ]
}
