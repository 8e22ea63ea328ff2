//! The gateway as a peer sees it: the real binary between an origin and clients that are scripted
//! byte by byte.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed helper is a failed test, which prints what it knows"
)]

mod admin;
mod answers;
mod bundles;
mod certificates;
mod compressed;
mod cors;
mod drain;
mod failover;
mod faults;
mod fetch;
mod garbage;
mod handover;
mod heartbeat;
mod hostile;
mod http2;
mod http2_frames;
mod ids;
mod inherited;
mod journal;
mod lag;
mod limits;
mod listeners;
mod memory;
mod newcomers;
mod notify;
mod outage;
mod proxy;
mod reconnect;
mod reload;
mod restart;
mod resume;
mod secure;
mod slow;
mod soak;
mod stalled;
mod stop;
mod storm;
mod support;
mod templates;
mod tls;
mod upstream;
mod upstream_health;
mod upstream_tls;
mod views;
