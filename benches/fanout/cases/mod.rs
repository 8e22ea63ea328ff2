//! What is measured.
//!
//! A case starts its own servers, and leaves none behind.

mod burst;
mod channels;
mod full;
mod highest;
mod idle;
mod instances;
mod neighbour;
mod proxied;
mod reload;
mod slow;
mod stalled;
mod stalled_memory;
mod steady;
mod storm;
mod streams;
mod tls;
mod tunnels;

use crate::Bench;
use crate::table::Row;

/// A case.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// Does it.
    pub(crate) run: fn(&Bench) -> Vec<Row>,
    /// Only who names it wants it.
    pub(crate) is_long: bool,
}

/// A case as most are.
const CASE: Case = Case {
    name: "",
    about: "",
    run: |_| Vec::new(),
    is_long: false,
};

/// All cases, in the order in which they run.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "idle",
        about: "10,000 idle clients: memory",
        run: idle::run,
        ..CASE
    },
    Case {
        name: "http2",
        about: "10,000 idle streams on 100 connections of HTTP/2: memory",
        run: streams::run,
        ..CASE
    },
    Case {
        name: "steady",
        about: "5,000 clients x 10/s x 200 B",
        run: steady::steady,
        ..CASE
    },
    Case {
        name: "fast",
        about: "1,000 clients x 200/s x 200 B",
        run: steady::fast,
        ..CASE
    },
    Case {
        name: "large",
        about: "1,000 clients x 2/s x 16 KiB",
        run: steady::large,
        ..CASE
    },
    Case {
        name: "burst",
        about: "100 events at once to 5,000 clients",
        run: burst::run,
        ..CASE
    },
    Case {
        name: "channels",
        about: "5,000 channels x 2 clients x 1/s: 5,000 upstream connections",
        run: channels::plain,
        ..CASE
    },
    Case {
        name: "channels-coalesced",
        about: "the same with coalesce = \"5ms\"",
        run: channels::coalesced,
        ..CASE
    },
    Case {
        name: "instances",
        about: "5,000 instances of a template x 2 clients x 1/s, beside literal channels",
        run: instances::live,
        ..CASE
    },
    Case {
        name: "instances-idle",
        about: "10,000 instances without clients, upstream and events: memory",
        run: instances::idle,
        ..CASE
    },
    Case {
        name: "slow",
        about: "1,000 clients with a receive buffer of 4 KiB that read slowly",
        run: slow::run,
        ..CASE
    },
    Case {
        name: "stalled-memory",
        about: "1,000 of 5,000 clients stall for a minute under 2/s x 8 KiB: memory",
        run: stalled_memory::a_minute,
        ..CASE
    },
    Case {
        name: "stalled-memory-long",
        about: "the same for five minutes; only if named",
        run: stalled_memory::five_minutes,
        is_long: true,
    },
    Case {
        name: "stalled",
        about: "5,000 clients x 10/s x 200 B, of whom 1 % have stopped reading, beside none",
        run: stalled::run,
        ..CASE
    },
    Case {
        name: "neighbour",
        about: "a 10-client channel beside a 10,000-client one",
        run: neighbour::run,
        ..CASE
    },
    Case {
        name: "highest",
        about: "the highest rate that 1,000 clients can be served at, 200 B, p99 under 500 ms",
        run: highest::run,
        ..CASE
    },
    Case {
        name: "tls",
        about: "5,000 clients x 10/s x 200 B over TLS 1.3, beside the gateway in the clear",
        run: tls::steady,
        ..CASE
    },
    Case {
        name: "tls-idle",
        about: "10,000 idle clients over TLS 1.3: memory",
        run: tls::idle,
        ..CASE
    },
    Case {
        name: "tls-handshakes",
        about: "full handshakes (TLS 1.3, ECDSA P-256), beside rustls alone",
        run: tls::handshakes,
        ..CASE
    },
    Case {
        name: "proxy",
        about: "small GETs by 64 connections of wrk, passed through, beside nginx",
        run: proxied::requests,
        ..CASE
    },
    Case {
        name: "proxy-made",
        about: "the same, where the origin has nothing to do for an answer",
        run: proxied::requests_made,
        ..CASE
    },
    Case {
        name: "proxy-first-byte",
        about: "the first byte of a streamed answer, passed through, beside nginx",
        run: proxied::first_byte,
        ..CASE
    },
    Case {
        name: "tunnels-idle",
        about: "1,000 idle WebSockets through a proxy: memory",
        run: tunnels::idle,
        ..CASE
    },
    Case {
        name: "proxy-beside",
        about: "5,000 clients x 10/s x 200 B without and beside as many GETs as pass through",
        run: proxied::beside_small,
        ..CASE
    },
    Case {
        name: "proxy-beside-large",
        about: "the same, beside answers of 1 MiB",
        run: proxied::beside_large,
        ..CASE
    },
    Case {
        name: "storm",
        about: "10,000 clients connect as fast as they can",
        run: storm::run,
        ..CASE
    },
    Case {
        name: "reload",
        about: "reloads that change one of 1,000 channels under 10,000 clients",
        run: reload::run,
        ..CASE
    },
    Case {
        name: "full",
        about: "19,000 clients of one process",
        run: full::run,
        ..CASE
    },
];
