//! Channels on demand: what an instance costs that delivers, and one that waits.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use crate::Bench;
use crate::load::Connect;
use crate::load::Faults;
use crate::load::Load;
use crate::origin::Pace;
use crate::pair::Pair;
use crate::process::Place;
use crate::series::Series;
use crate::server::Channels;
use crate::server::Server;
use crate::server::Task;
use crate::table::Bar;
use crate::table::Row;
use crate::usage;

/// 5,000 instances x 2 clients x 1/s, beside literal channels that do the same.
pub(super) fn live(bench: &Bench) -> Vec<Row> {
    let n_channels = bench.pick(5_000, 20);
    let template = bench.gateway_with_template(Channels::Template);
    let mut pair = Pair::start(bench, &template, &bench.gateway(), n_channels);
    pair.connect(u64::from(n_channels) * 2);
    pair.wait_for_channels();
    let pace = Pace::PerSecond(bench.pick(1.0, 20.0));
    let rounds = pair.alternate(bench.pick(10, 1), 2, 200, pace);
    let mut rows = rounds.rows(pair.faults());
    rows[0].bar = Bar::AtMostTimes(1.1);
    rows
}

/// 10,000 instances that nobody is in, without an upstream and with an empty log.
pub(super) fn idle(bench: &Bench) -> Vec<Row> {
    let n_rounds = bench.pick(3, 1);
    let mut faults = Faults::default();
    let weights: Series = (0..n_rounds)
        .map(|_| {
            let (kib, more) = weigh(bench);
            faults += more;
            kib
        })
        .collect();
    let row = Row::new("resident memory per idle instance", "KiB", weights);
    vec![row.bar(Bar::AtMost(2.0)).faults(faults)]
}

fn weigh(bench: &Bench) -> (f64, Faults) {
    let n_instances = bench.pick(10_000, 100);
    let origin = Failing::start();
    let kind = bench.gateway_with_template(Channels::IdleTemplate);
    let task = Task {
        group: kind.group(),
        kind,
        origin: origin.address,
        n_channels: 0,
    };
    let server = Server::start(bench.layout.server, &task);
    // As many clients come and go before, all to one instance: what they leave behind is not what
    // instances cost.
    let mut faults = visit(bench, &server, n_instances, 0..1);
    let before = usage::settled_resident(server.id());
    faults += visit(bench, &server, n_instances, 1..1 + n_instances);
    let n_asked = origin.n_asked.load(Ordering::Relaxed);
    assert_eq!(n_asked, n_instances + 1, "each asks once");
    let resident = usage::settled_resident(server.id()).saturating_sub(before);
    faults += visit(bench, &server, n_instances, 1..1 + n_instances);
    let n_asked = origin.n_asked.load(Ordering::Relaxed);
    assert_eq!(
        n_asked,
        n_instances + 1,
        "who has gone would have asked again"
    );
    (resident as f64 / n_instances as f64 / 1024.0, faults)
}

/// An origin that has nothing but failures.
struct Failing {
    address: SocketAddr,
    n_asked: Arc<AtomicU64>,
}

impl Failing {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let n_asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&n_asked);
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let mut head = [0; 4096];
                let mut n_read = 0;
                while !head[..n_read].ends_with(b"\r\n\r\n") {
                    match stream.read(&mut head[n_read..]) {
                        Ok(n @ 1..) => n_read += n,
                        Ok(0) | Err(_) => break,
                    }
                }
                let answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                // The gateway may have gone.
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, n_asked }
    }
}

/// Lets so many clients come to these channels, and leave: some at a time, because what is weighed is
/// instances that nobody is in, and not what the heap keeps of those that somebody was in: of the
/// connections of their clients, and of those to their origins. With 500 at once that is 0.5 KiB each.
fn visit(bench: &Bench, server: &Server, n: u64, channels: std::ops::Range<u64>) -> Faults {
    const AT_ONCE: u64 = 50;
    let mut faults = Faults::default();
    let mut n_left = n;
    let mut first_channel = channels.start;
    while n_left > 0 {
        let n_clients = n_left.min(AT_ONCE);
        let n_channels = (channels.end - first_channel).min(n_clients);
        faults += visit_at_once(bench, server, n_clients, (first_channel, n_channels));
        n_left -= n_clients;
        if channels.end - channels.start > 1 {
            first_channel += n_clients;
        }
    }
    faults
}

fn visit_at_once(
    bench: &Bench,
    server: &Server,
    n_clients: u64,
    (first_channel, n_channels): (u64, u64),
) -> Faults {
    let place = Place {
        processor: bench.layout.load,
        nicer_by: 0,
    };
    let mut load = Load::start(place, server, None);
    let order = Connect {
        n_clients,
        first_channel,
        n_channels,
        n_in_flight: 256,
    };
    load.connect(order).faults()
}
