//! A crowd with some in it that have stopped reading, beside the same crowd with none.
//!
//! One gateway, and the same clients all along; only the last hundredth is new in each window. It
//! reads, or it has stalled and is full: the gateway's socket takes nothing more for it.

use std::time::Duration;

use crate::Bench;
use crate::load::Faults;
use crate::load::Load;
use crate::load::Slowness;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::process::Place;
use crate::series::Series;
use crate::side;
use crate::side::Side;
use crate::side::Window;
use crate::table::Bar;
use crate::table::Row;

/// What the last hundredth does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Reads,
    Stalls,
}

/// Events that fill the sockets of clients that have stalled: more than their receive buffers and
/// what the gateway lets the kernel hold unsent, less than any limit on lag.
const N_FILL: u64 = 400;

/// 4,950 clients x 10/s x 200 B with 50 more.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let origin = Origin::start();
    let mut side = Side::start(bench.layout, &origin, &bench.gateway(), 1);
    let n_last = bench.pick(50, 2);
    let mut faults = side.connect(bench.pick(4_950, 98));
    let mut stalled = Vec::new();
    let mut reading = Vec::new();
    for round in 0..=bench.pick(12, 1) {
        for (last, windows) in [(Last::Stalls, &mut stalled), (Last::Reads, &mut reading)] {
            let window = measure(bench, &origin, (&mut side, &mut faults), (last, n_last));
            if round > 0 {
                windows.push(window);
            }
        }
    }
    faults += side.upstream_faults(&origin);
    let row = |what: &str, unit, number: fn(&Window) -> f64| {
        let series = |windows: &[Window]| windows.iter().map(number).collect::<Series>();
        Row::new(what, unit, series(&stalled)).beside(series(&reading))
    };
    vec![
        row("p99 of the others, 1 % stalled / none", "ms", |window| {
            window.p99_ms
        })
        .bar(Bar::AtMostTimes(1.1))
        .faults(faults),
        row("p50 of the others", "ms", |window| window.p50_ms),
        row("CPU per delivered event", "µs", |window| window.cpu_micros),
    ]
}

/// One window of those who are there all along.
fn measure(
    bench: &Bench,
    origin: &Origin,
    (side, faults): (&mut Side, &mut Faults),
    (last, n_last): (Last, u64),
) -> Window {
    let place = Place {
        processor: bench.layout.load,
        nicer_by: 0,
    };
    let slowness = (last == Last::Stalls).then_some(Slowness {
        receive_buffer: 4096,
        bite: 1,
        interval: Duration::from_secs(3600),
    });
    let mut others = Load::start(place, &side.server, slowness);
    *faults += side::connect(&mut others, n_last, 0, 1);
    let fill = side.plan(N_FILL, 200, Pace::AtOnce);
    let pace = Pace::PerSecond(bench.pick(10.0, 100.0));
    let plan = side.plan(bench.pick(20, 10), 200, pace);
    others.begin(&side.plan(fill.n_events + plan.n_events, 200, pace));
    *faults += side.measure(origin, &fill).faults;
    let window = side.measure(origin, &plan);
    *faults += window.faults;
    window
}
