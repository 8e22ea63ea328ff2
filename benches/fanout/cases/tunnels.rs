//! Tunnels in which nobody says anything: what each costs in memory.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;

use super::proxied::start_gateway;
use crate::Bench;
use crate::load::Faults;
use crate::series::Series;
use crate::table::Bar;
use crate::table::Row;
use crate::usage;

/// What a client asks, and what the origin answers.
const OFFER: &[u8] = b"GET /chat HTTP/1.1\r\nHost: bench.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A frame of a client, whose mask changes nothing, and one of the origin.
const SAID: &[u8] = b"\x82\x81\0\0\0\0x";
const ANSWERED: &[u8] = b"\x82\x01y";

/// Both ends of a tunnel.
struct Tunnel {
    client: TcpStream,
    origin: TcpStream,
}

/// 1,000 idle tunnels, as many as a proxy has by default.
pub(super) fn idle(bench: &Bench) -> Vec<Row> {
    let n_tunnels = bench.pick(1000, 50);
    let mut faults = Faults::default();
    let rounds: Vec<[f64; 2]> = (0..bench.pick(3, 1))
        .map(|_| weigh(bench, n_tunnels, &mut faults))
        .collect();
    let series = |side: usize| -> Series { rounds.iter().map(|round| round[side]).collect() };
    vec![
        Row::new("resident memory per idle tunnel", "KiB", series(0))
            .bar(Bar::AtMost(24.0))
            .faults(faults),
        Row::new("kernel slabs per tunnel, all four ends", "KiB", series(1)),
    ]
}

/// Memory for each, of the gateway and of the kernel, in KiB.
fn weigh(bench: &Bench, n_tunnels: usize, faults: &mut Faults) -> [f64; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kind = bench.gateway_with_proxy(listener.local_addr().unwrap());
    let gateway = start_gateway(bench, &kind);
    // What the first of all takes for all is none of each.
    let mut tunnels: Vec<Tunnel> = (0..bench.pick(20, 5))
        .map(|_| Tunnel::open(gateway.address(), &listener))
        .collect();
    let resident_before = usage::settled_resident(gateway.id());
    let kernel_before = usage::kernel_slabs();
    let n_warm = tunnels.len();
    let cold = n_tunnels.saturating_sub(n_warm);
    tunnels.extend((0..cold).map(|_| Tunnel::open(gateway.address(), &listener)));
    // They have been used: what is idle has said something before.
    for tunnel in &mut tunnels {
        tunnel.talk(faults);
    }
    let resident = usage::settled_resident(gateway.id()).saturating_sub(resident_before);
    let kernel = usage::kernel_slabs().saturating_sub(kernel_before);
    // Idle, and there all the same.
    for tunnel in &mut tunnels {
        tunnel.talk(faults);
    }
    [resident, kernel].map(|bytes| bytes as f64 / cold.max(1) as f64 / 1024.0)
}

impl Tunnel {
    fn open(gateway: SocketAddr, listener: &TcpListener) -> Self {
        let mut client = TcpStream::connect(gateway).unwrap();
        client.write_all(OFFER).unwrap();
        let (mut origin, _) = listener.accept().unwrap();
        read_head(&mut origin);
        origin.write_all(SWITCH).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with(b"HTTP/1.1 101 "), "no tunnel");
        Self { client, origin }
    }

    /// Something in both directions.
    fn talk(&mut self, faults: &mut Faults) {
        let Self { client, origin } = self;
        client.write_all(SAID).unwrap();
        let mut heard = [0; SAID.len()];
        origin.read_exact(&mut heard).unwrap();
        origin.write_all(ANSWERED).unwrap();
        let mut answer = [0; ANSWERED.len()];
        client.read_exact(&mut answer).unwrap();
        if heard != SAID || answer != ANSWERED {
            faults.n_corrupt += 1;
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    head
}
