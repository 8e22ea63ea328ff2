//! Clients that read slowly, from a small receive buffer: the straggler path.
//!
//! Loopback seldom takes it by itself, because the kernel's buffers grow to megabytes. Here a burst
//! is larger than what they hold: the server meets `WouldBlock` again and again, with every client.

use std::time::Duration;

use crate::Bench;
use crate::bare::Writes;
use crate::load::Slowness;
use crate::origin::Pace;
use crate::pair::Pair;
use crate::server::Kind;
use crate::table::Row;

/// A send buffer about as large as what the gateway lets the kernel hold unsent.
const SEND_BUFFER: usize = 16 * 1024;

/// 8 events of 16 KiB in one go to 1,000 clients that read 4 KiB every 40 ms.
pub(super) fn run(bench: &Bench) -> Vec<Row> {
    let slowness = Slowness {
        receive_buffer: 4096,
        bite: 4096,
        interval: bench.pick(Duration::from_millis(40), Duration::from_millis(10)),
    };
    let bare = Kind::Bare {
        writes: Writes::OfAllThatIsDue,
        send_buffer: Some(SEND_BUFFER),
    };
    let mut pair =
        Pair::start(bench, &bench.gateway(), &bare, 1).with_slow_readers(bench, slowness);
    pair.connect(bench.pick(1_000, 20));
    let n_events = bench.pick(8, 4);
    let rounds = pair.alternate(bench.pick(5, 1), n_events, 16 * 1024, Pace::AtOnce);
    vec![
        rounds
            .row("CPU per delivered event", "µs", |window| window.cpu_micros)
            .faults(pair.faults()),
        rounds.row("until the last byte", "ms", |window| window.span_ms),
    ]
}
