//! What passes through: what a request costs, how late the first byte of an answer is, and what all
//! that does to the channels of the same thread.

use std::time::Duration;

use crate::Bench;
use crate::clock;
use crate::load::Faults;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::process;
use crate::process::Place;
use crate::requests::Asking;
use crate::requests::Nginx;
use crate::requests::Page;
use crate::requests::Trickle;
use crate::requests::Wrk;
use crate::series::Series;
use crate::server::Kind;
use crate::server::Server;
use crate::server::Task;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;
use crate::usage::CpuTime;

/// Connections of wrk.
const N_CONNECTIONS: u32 = 64;

/// Small GETs by 64 connections, beside nginx as the proxy of the same origin.
pub(super) fn requests(bench: &Bench) -> Vec<Row> {
    ask(bench, Page::Small)
}

/// The same, for what the origin makes of nothing. Then the processor of the load has time to sleep
/// beside the slower of the two proxies, and not beside the faster one; and to wake it costs a virtual
/// machine as much as a fifth of a request.
pub(super) fn requests_made(bench: &Bench) -> Vec<Row> {
    ask(bench, Page::Made)
}

fn ask(bench: &Bench, page: Page) -> Vec<Row> {
    let origin = Nginx::origin(beside_the_load(bench));
    let gateway = start_gateway(bench, &bench.gateway_with_proxy(origin.address()));
    let nginx = Nginx::proxy(alone(bench), origin.address());
    let servers = [
        (gateway.id(), gateway.address()),
        (nginx.id(), nginx.address()),
    ];
    let mut faults = Faults::default();
    let mut per_cpu_second = [Vec::new(), Vec::new()];
    let mut per_second = [Vec::new(), Vec::new()];
    // The first round does not count.
    for round in 0..=bench.pick(8, 1) {
        for (n, (id, address)) in servers.iter().enumerate() {
            let before = CpuTime::of(*id);
            let wrk = Wrk::start(
                beside_the_load(bench),
                *address,
                (N_CONNECTIONS, page),
                bench.pick(2, 1),
            );
            let asked = wrk.wait();
            let time = CpuTime::of(*id).since(&before) as f64 / 1e9;
            faults += asked.faults;
            assert!(asked.n_answers > 0, "nothing was answered by {address}");
            if round > 0 {
                per_cpu_second[n].push(asked.n_answers as f64 / time);
                per_second[n].push(asked.n_answers as f64 / asked.seconds);
            }
        }
    }
    let [gateway_per_cpu, nginx_per_cpu] = per_cpu_second.map(Series::from_iter);
    let [gateway_rate, nginx_rate] = per_second.map(Series::from_iter);
    vec![
        Row::new(
            "requests per second of a core, beside nginx",
            "/s",
            gateway_per_cpu,
        )
        .beside(nginx_per_cpu)
        .bar(Bar::AtLeastTimes(0.7))
        .faults(faults),
        Row::new("requests per second, beside nginx", "/s", gateway_rate).beside(nginx_rate),
    ]
}

/// The first byte of a streamed answer, behind the gateway and behind nginx, less that of the origin
/// itself.
pub(super) fn first_byte(bench: &Bench) -> Vec<Row> {
    let origin = Trickle::start();
    let gateway = start_gateway(bench, &bench.gateway_with_proxy(origin.address()));
    let nginx = Nginx::proxy(alone(bench), origin.address());
    let mut clients = [origin.address(), gateway.address(), nginx.address()].map(Asking::connect);
    let mut added = [Vec::new(), Vec::new()];
    for round in 0..=bench.pick(10, 1) {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..bench.pick(100, 10) {
            for (client, times) in clients.iter_mut().zip(&mut times) {
                times.push(client.first_byte() as f64 / 1e6);
            }
        }
        let [direct, gateway, nginx] = times.map(|times| Series::from_iter(times).median());
        if round > 0 {
            added[0].push(gateway - direct);
            added[1].push(nginx - direct);
        }
    }
    let [gateway_added, nginx_added] = added.map(Series::from_iter);
    vec![
        Row::new(
            "first byte of a streamed answer, added (median), beside nginx",
            "ms",
            gateway_added,
        )
        .beside(nginx_added)
        .bar(Bar::AtMost(1.0)),
    ]
}

/// 5,000 clients x 10/s x 200 B, without requests to the proxy of the same thread and beside as many
/// as it can answer.
pub(super) fn beside_small(bench: &Bench) -> Vec<Row> {
    beside(bench, Page::Small)
}

/// The same beside answers of 1 MiB, each of which could keep the thread for long.
pub(super) fn beside_large(bench: &Bench) -> Vec<Row> {
    beside(bench, Page::Large)
}

fn beside(bench: &Bench, page: Page) -> Vec<Row> {
    /// What wrk has for itself before and after the window, in seconds.
    const MARGIN: u64 = 2;
    let origin = Origin::start();
    let small = Nginx::origin(beside_the_load(bench));
    let kind = bench.gateway_with_proxy(small.address());
    let mut side = Side::start(bench.layout, &origin, &kind, 1);
    let mut faults = side.connect(bench.pick(5_000, 50));
    let plan = side.plan(20, 200, Pace::PerSecond(10.0));
    let [mut p50, mut p99] = [(); 2].map(|()| [Vec::new(), Vec::new()]);
    let mut per_second = Vec::new();
    let mut busy = Vec::new();
    for round in 0..=bench.pick(10, 1) {
        for n in 0..2 {
            let mut wrk = (n == 1).then(|| {
                let seconds = 2 + MARGIN;
                let wrk = Wrk::start(
                    beside_the_load(bench),
                    side.server.address(),
                    (N_CONNECTIONS, page),
                    seconds,
                );
                clock::pause(Duration::from_millis(500));
                wrk
            });
            let (before, begun_at) = (CpuTime::of(side.server.id()), clock::now());
            let window = side.measure(&origin, &plan);
            let time = CpuTime::of(side.server.id()).since(&before);
            let share = time as f64 / (clock::now() - begun_at) as f64;
            faults += window.faults;
            let is_asking = wrk.as_mut().is_none_or(Wrk::is_asking);
            assert!(is_asking, "the window outlasted the requests");
            let asked = wrk.map(Wrk::wait);
            if round > 0 {
                p50[n].push(window.p50_ms);
                p99[n].push(window.p99_ms);
            }
            if let Some(asked) = asked {
                faults += asked.faults;
                if round > 0 {
                    per_second.push(asked.n_answers as f64 / asked.seconds);
                    busy.push(share * 100.0);
                }
            }
        }
    }
    faults += side.upstream_faults(&origin);
    let [p50_alone, p50_beside] = p50.map(Series::from_iter);
    let [p99_alone, p99_beside] = p99.map(Series::from_iter);
    vec![
        Row::new("latency p99 beside requests, and without", "ms", p99_beside)
            .beside(p99_alone)
            .bar(Bar::AtMostTimes(2.0))
            .faults(faults),
        Row::new("latency p50 beside requests, and without", "ms", p50_beside).beside(p50_alone),
        Row::new(
            "requests passed through meanwhile",
            "/s",
            per_second.into_iter().collect(),
        ),
        Row::new(
            "how busy the core was meanwhile",
            "%",
            busy.into_iter().collect(),
        ),
    ]
}

pub(super) fn start_gateway(bench: &Bench, kind: &Kind) -> Server {
    let task = Task {
        group: kind.group(),
        kind: kind.clone(),
        // It has no channel, so nobody asks there.
        origin: process::free_address(),
        n_channels: 0,
    };
    Server::start(bench.layout.server, &task)
}

/// Where the server under test runs.
fn alone(bench: &Bench) -> Place {
    Place {
        processor: bench.layout.server,
        nicer_by: 0,
    }
}

/// Where the load runs; politer than the subscribers, who must not wait for their turn to read.
fn beside_the_load(bench: &Bench) -> Place {
    Place {
        processor: bench.layout.load,
        nicer_by: 10,
    }
}
