//! Subscribers that share connections of HTTP/2: what each costs in memory, and an event to each.

use crate::Bench;
use crate::clock;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::series::Series;
use crate::side::Side;
use crate::streams::Streams;
use crate::table::Bar;
use crate::table::Row;
use crate::usage;
use crate::usage::CpuTime;

use std::time::Duration;

/// What a round measured.
struct Round {
    /// For each stream, in KiB.
    resident: f64,
    /// The same once each has got events.
    resident_after: f64,
    /// For each event delivered, in microseconds.
    cpu: f64,
    faults: Faults,
}

/// 100 connections with 100 streams each.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let rounds: Vec<Round> = (0..bench.pick(3, 1)).map(|_| round(bench)).collect();
    let series = |number: fn(&Round) -> f64| rounds.iter().map(number).collect::<Series>();
    let mut faults = Faults::default();
    for round in &rounds {
        faults += round.faults;
    }
    vec![
        Row::new(
            "resident memory per idle stream",
            "KiB",
            series(|round| round.resident),
        )
        .bar(Bar::AtMost(2.0))
        .faults(faults),
        Row::new(
            "the same after some events",
            "KiB",
            series(|round| round.resident_after),
        ),
        Row::new("CPU per delivered event", "µs", series(|round| round.cpu)),
    ]
}

fn round(bench: &Bench) -> Round {
    /// Until the server's last pass has returned and its threads sleep.
    const AFTERMATH: Duration = Duration::from_millis(50);
    let (n_connections, n_streams) = bench.pick((100, 100), (4, 10));
    let n_all = (n_connections * n_streams) as f64;
    let origin = Origin::start();
    let side = Side::start(bench.layout, &origin, &bench.gateway(), 1);
    let before = usage::settled_resident(side.server.id());
    let mut streams = Streams::connect(side.server.address(), n_connections, n_streams);
    let per_stream = |bytes: u64| bytes.saturating_sub(before) as f64 / n_all / 1024.0;
    let resident = per_stream(usage::settled_resident(side.server.id()));
    let plan = side.plan(bench.pick(20, 2), 200, Pace::PerSecond(10.0));
    let cpu_before = CpuTime::of(side.server.id());
    // They read while it is played: what the server had to hold for them would not be idle memory.
    let playing = origin.play(plan);
    let mut faults = streams.read(0, plan.n_events);
    let played = playing.wait();
    assert_eq!(played.first_seq, 0, "nothing was played before");
    clock::pause(AFTERMATH);
    let cpu = CpuTime::of(side.server.id()).since(&cpu_before);
    faults.n_missing += played.n_unsent;
    faults += side.upstream_faults(&origin);
    Round {
        resident,
        resident_after: per_stream(usage::settled_resident(side.server.id())),
        cpu: cpu as f64 / (n_all * plan.n_events as f64) / 1e3,
        faults,
    }
}
