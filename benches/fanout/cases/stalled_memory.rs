//! Clients that take nothing, and stay: what each costs the gateway and the kernel's send side, and that
//! it does not grow.

use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;

use crate::Bench;
use crate::clock;
use crate::clock::SECOND;
use crate::origin::Origin;
use crate::origin::Pace;
use crate::series::Series;
use crate::side::Side;
use crate::table::Bar;
use crate::table::Row;
use crate::usage;

/// They skip, and are not cut however long they stall. The history is full before anybody stalls.
const KEEPS: &str = r#"
history = { events = 1000, bytes = "256KiB", age = "10m" }
lag = { limit = "128KiB", then = "skip" }
write_timeout = "off"
"#;

const EVENT_BYTES: usize = 8 * 1024;

/// So many fill the history.
const N_EVENTS_FIRST: u64 = 40;

/// Most that a stalled client may cost, in KiB.
const MOST_KIB: f64 = 128.0;

/// Most that it may grow by after the first minute.
const MOST_GROWTH_KIB: f64 = 2.0;

/// What all clients cost together.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident: u64,
    send_side: u64,
}

pub(super) fn a_minute(bench: &Bench) -> Vec<Row> {
    run(bench, bench.pick(80, 2))
}

pub(super) fn five_minutes(bench: &Bench) -> Vec<Row> {
    run(bench, bench.pick(310, 2))
}

fn run(bench: &Bench, n_seconds: u64) -> Vec<Row> {
    let (n_healthy, n_stalled) = bench.pick((4_000, 1_000), (40, 10));
    let origin = Origin::start();
    let kind = bench.gateway_that(KEEPS);
    let mut side = Side::start(bench.layout, &origin, &kind, 1);
    let mut faults = side.connect(n_healthy);
    let fill = side.plan(N_EVENTS_FIRST, EVENT_BYTES, Pace::PerSecond(20.0));
    faults += side.measure(&origin, &fill).faults;
    usage::settled_resident(side.server.id());
    let before = Memory::of(&side, n_healthy);
    let stalled = stall(side.server.address(), n_stalled);
    let pace = Pace::PerSecond(bench.pick(2.0, 50.0));
    let window = side.plan(bench.pick(10, 100), EVENT_BYTES, pace);
    let began_at = clock::now();
    let mut looks: Vec<(u64, Memory)> = Vec::new();
    while clock::now() - began_at < n_seconds * SECOND {
        faults += side.measure(&origin, &window).faults;
        let since = Memory::of(&side, n_healthy + n_stalled).since(before);
        let at = (clock::now() - began_at) / SECOND;
        eprintln!(
            "  after {at:3} s: {:.1} KiB of the gateway's and {:.1} of the kernel's",
            per_client(since.resident, n_stalled),
            per_client(since.send_side, n_stalled)
        );
        looks.push((at, since));
    }
    faults += side.upstream_faults(&origin);
    drop(stalled);
    let first = bench.pick(60, 0);
    let series = |bytes: fn(&Memory) -> u64| -> Series {
        let later = looks.iter().filter(|(at, _)| *at >= first);
        later
            .map(|(_, memory)| per_client(bytes(memory), n_stalled))
            .collect()
    };
    let sum = series(|memory| memory.resident + memory.send_side);
    let growth = sum.max() - sum.first();
    vec![
        Row::new("memory per stalled client", "KiB", sum)
            .bar(Bar::AtMost(MOST_KIB))
            .faults(faults),
        Row::new(
            "… of it the gateway's",
            "KiB",
            series(|memory| memory.resident),
        ),
        Row::new(
            "… and the kernel's send side",
            "KiB",
            series(|memory| memory.send_side),
        ),
        Row::new("its growth after the first minute", "KiB", growth.into())
            .bar(Bar::AtMost(MOST_GROWTH_KIB)),
    ]
}

/// Connects clients of default buffers that subscribe, and read nothing.
fn stall(server: SocketAddr, n_clients: u64) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(server).unwrap();
        let request = b"GET /c0 HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n";
        stream.write_all(request).unwrap();
        stream
    };
    (0..n_clients).map(connect).collect()
}

impl Memory {
    /// What is used now, by so many clients, which must all be there.
    fn of(side: &Side, n_clients: u64) -> Self {
        let (n_sockets, send_side) = usage::send_side(side.server.address().port());
        assert_eq!(n_sockets, n_clients, "connections of clients");
        Self {
            resident: usage::resident(side.server.id()),
            send_side,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            resident: self.resident.saturating_sub(before.resident),
            send_side: self.send_side.saturating_sub(before.send_side),
        }
    }
}

fn per_client(bytes: u64, n_clients: u64) -> f64 {
    bytes as f64 / n_clients as f64 / 1024.0
}
