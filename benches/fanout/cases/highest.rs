//! The highest rate that a server sustains: found by doubling, then by halving the distance.
//!
//! The base is the bare loop that writes each event by itself, as most servers do.

use std::fmt;
use std::fmt::Display;

use crate::Bench;
use crate::bare::Writes;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::server::Kind;
use crate::side::Side;
use crate::side::Window;
use crate::table::Bar;
use crate::table::Row;

const N_CLIENTS: u64 = 1_000;
const SIZE: usize = 200;
/// The p99 beyond which a rate is not sustained.
const LATENCY_LIMIT_MS: f64 = 500.0;
/// The share of a trial that its last event may be late: a server that is slower than the rate falls
/// behind by the difference, however small the latencies of so short a time are.
const LATENESS_LIMIT: f64 = 0.1;
/// Length of a trial. What is not sustained needs time to show.
const SECONDS: f64 = 3.0;
/// Bytes that the load client may keep for a trial; faster trials are shorter.
const MOST_BYTES: u64 = 3 << 30;
/// The highest rate: beyond it a trial would be shorter than a second.
const MOST_PER_SECOND: f64 = 16_000.0;
/// Steps of the second phase: to within 6 % of the rate.
const N_HALVINGS: u32 = 4;

/// A rate that was tried.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// Events per second.
    rate: f64,
    is_sustained: bool,
    p99_ms: f64,
    load_share: f64,
    faults: Faults,
}

/// What the search found.
#[derive(Debug, Clone, Copy)]
struct Highest {
    /// The fastest trial that was sustained.
    best: Trial,
    /// Whether a faster one was not.
    has_limit: bool,
    /// What was wrong in any.
    faults: Faults,
}

/// 1,000 clients x 200 B, as fast as it goes.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let base = Kind::Bare {
        writes: Writes::OfOneEvent,
        send_buffer: None,
    };
    let gateway = search(bench, &bench.gateway());
    let bare = search(bench, &base);
    let mut faults = gateway.faults;
    faults += bare.faults;
    let what = if gateway.has_limit {
        "deliveries per second (base: each event by itself)"
    } else {
        "deliveries per second, the most tried (base: each event by itself)"
    };
    let n_clients = bench.pick(N_CLIENTS, 20) as f64;
    let rate = |of: &Highest| (of.best.rate * n_clients).into();
    let p99 = |of: &Highest| of.best.p99_ms.into();
    let share = |of: &Highest| (of.best.load_share * 100.0).into();
    vec![
        Row::new(what, "", rate(&gateway))
            .beside(rate(&bare))
            .bar(Bar::AtLeastTimes(10.0))
            .faults(faults),
        Row::new("latency p99 at that rate", "ms", p99(&gateway)).beside(p99(&bare)),
        Row::new(
            "how busy the load's processor was then",
            "%",
            share(&gateway),
        )
        .beside(share(&bare)),
    ]
}

/// Doubles the rate as long as it is sustained, and then closes in on the highest that is.
fn search(bench: &Bench, kind: &Kind) -> Highest {
    let mut faults = Faults::default();
    let mut attempt = |rate: f64| {
        let trial = Trial::run(bench, kind, rate);
        faults += trial.faults;
        eprintln!("  {} at {trial}", kind.name());
        trial
    };
    let most = bench.pick(MOST_PER_SECOND, 1_000.0);
    let mut best = attempt(bench.pick(50.0, 500.0));
    assert!(
        best.is_sustained,
        "{} does not even sustain {best}",
        kind.name()
    );
    let mut too_fast = None;
    while too_fast.is_none() && best.rate * 2.0 <= most {
        let trial = attempt(best.rate * 2.0);
        if trial.is_sustained {
            best = trial;
        } else {
            too_fast = Some(trial.rate);
        }
    }
    if let Some(mut too_fast) = too_fast {
        for _ in 0..bench.pick(N_HALVINGS, 0) {
            let trial = attempt(f64::midpoint(best.rate, too_fast));
            if trial.is_sustained {
                best = trial;
            } else {
                too_fast = trial.rate;
            }
        }
    }
    Highest {
        best,
        has_limit: too_fast.is_some(),
        faults,
    }
}

impl Trial {
    /// Tries a rate, with a server and clients that have seen no other.
    fn run(bench: &Bench, kind: &Kind, rate: f64) -> Self {
        let n_clients = bench.pick(N_CLIENTS, 20);
        let origin = Origin::start();
        let mut side = Side::start(bench.layout, &origin, kind, 1);
        let mut faults = side.connect(n_clients);
        let most_events = MOST_BYTES / (n_clients * SIZE as u64);
        let n_events = ((rate * bench.pick(SECONDS, 0.1)) as u64).min(most_events);
        let plan = side.plan(n_events, SIZE, Pace::PerSecond(rate));
        let window = side.measure(&origin, &plan);
        faults += window.faults;
        faults += side.upstream_faults(&origin);
        let length_ms = n_events as f64 / rate * 1e3;
        let is_sustained = window.p99_ms < LATENCY_LIMIT_MS
            && window.span_ms <= length_ms * (1.0 + LATENESS_LIMIT)
            && faults.n_cut == 0;
        if !is_sustained {
            // Too much was asked: who is cut off, or still waits at the end, is told nothing wrong.
            faults.n_cut = 0;
            faults.n_missing = 0;
        }
        let Window {
            p99_ms, load_share, ..
        } = window;
        Self {
            rate,
            is_sustained,
            p99_ms,
            load_share,
            faults,
        }
    }
}

impl Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} events/s: {}, p99 {:.0} ms, the load's processor {:.0} % busy",
            self.rate,
            if self.is_sustained {
                "sustained"
            } else {
                "not sustained"
            },
            self.p99_ms,
            self.load_share * 100.0
        )
    }
}
