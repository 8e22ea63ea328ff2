//! Clients over TLS: what a handshake, an event and an idle client cost.

use std::time::Duration;

use tempfile::TempDir;

use super::idle;
use crate::Bench;
use crate::clock;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::pair::Pair;
use crate::process;
use crate::process::Place;
use crate::process::Process;
use crate::series::Series;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;
use crate::tls;
use crate::tls::shake_hands;
use crate::usage::CpuTime;

/// 5,000 clients x 10/s x 200 B over TLS, beside the gateway in the clear.
pub(super) fn steady(bench: &Bench) -> Vec<Row> {
    let mut pair = Pair::start(bench, &bench.gateway_with_tls(), &bench.gateway(), 1);
    pair.connect(bench.pick(5_000, 50));
    let pace = Pace::PerSecond(bench.pick(10.0, 100.0));
    let rounds = pair.alternate(bench.pick(10, 1), bench.pick(20, 10), 200, pace);
    let faults = pair.faults();
    vec![
        rounds
            .row(
                "CPU per delivered event, beside it in the clear",
                "µs",
                |window| window.cpu_micros,
            )
            .bar(Bar::AtMostTimes(1.4))
            .faults(faults),
        rounds.row("latency p50, beside it in the clear", "ms", |window| {
            window.p50_ms
        }),
        rounds.row("latency p99, beside it in the clear", "ms", |window| {
            window.p99_ms
        }),
    ]
}

/// 10,000 idle clients of TLS 1.3.
pub(super) fn idle(bench: &Bench) -> Vec<Row> {
    let memory: Vec<_> = (0..bench.pick(3, 1))
        .map(|_| idle::weigh(bench, &bench.gateway_with_tls()))
        .collect();
    let mut faults = Faults::default();
    for one in &memory {
        faults += one.faults;
    }
    let resident: Series = memory.iter().map(|one| one.resident).collect();
    vec![
        Row::new("resident memory per client", "KiB", resident)
            .bar(Bar::AtMost(10.0))
            .faults(faults),
    ]
}

/// Full handshakes with an ECDSA P-256 certificate, beside rustls alone.
pub(super) fn handshakes(bench: &Bench) -> Vec<Row> {
    let origin = Origin::start();
    let side = Side::start(bench.layout, &origin, &bench.gateway_with_tls(), 1);
    let directory = TempDir::with_prefix("ssecast-bench-").unwrap();
    let files = tls::Files::write_to(directory.path());
    let address = process::free_address();
    let arguments = [
        "tls-alone".to_owned(),
        format!("--listen={address}"),
        format!("--certificate={}", files.certificate.display()),
        format!("--key={}", files.key.display()),
    ];
    let place = Place {
        processor: bench.layout.server,
        nicer_by: 0,
    };
    let mut alone = Process::start_role(place, &arguments);
    process::wait_until_listening(&mut alone, address).expect("rustls alone");
    let certificate = side.server.certificate().expect("over TLS");
    let servers = [
        (side.server.id(), side.server.address(), certificate),
        (alone.id(), address, files.certificate.as_path()),
    ];
    let n = bench.pick(1_000, 20);
    let mut rates = [Vec::new(), Vec::new()];
    let mut n_failed = 0;
    // The first round does not count.
    for round in 0..=bench.pick(8, 1) {
        for ((id, address, certificate), rates) in servers.iter().zip(&mut rates) {
            let before = CpuTime::of(*id);
            n_failed += shake_hands(*address, certificate, n);
            clock::pause(Duration::from_millis(20));
            let time = CpuTime::of(*id).since(&before);
            if round > 0 {
                rates.push(n as f64 / (time as f64 / 1e9));
            }
        }
    }
    let [gateway, alone] = rates.map(Series::from_iter);
    vec![
        Row::new(
            "full handshakes per second of a core, beside rustls alone",
            "/s",
            gateway,
        )
        .beside(alone)
        .bar(Bar::AtLeastTimes(0.7))
        .faults(Faults::cut(n_failed)),
    ]
}
