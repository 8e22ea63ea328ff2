//! ssecast: a gateway that holds one upstream event stream per channel and fans it out.
//!
//! The crate's map, from the bottom up; imports point downwards only:
//!
//! - [`sse`]: the event stream format. No I/O, no clock. [`memory`]: how much is held, and for what.
//!   `sync`: the lock of what threads share. [`count`]: counters and histograms.
//! - [`config`]: what is written, what is meant, and what is wrong with it.
//! - [`net`]: listeners, sockets, outgoing connections. [`log`]: the history of a channel.
//! - [`channel`]: one upstream, one log. [`proxy`]: requests that pass through to a backend.
//! - [`delivery`]: shards, and the passes over their subscribers.
//! - [`http`]: one connection, until it is a subscription.
//! - [`systemd`]: what the service manager is told.
//! - [`admin`]: metrics, health and status, for operators.
//! - [`app`]: the process. `demo` and [`cli`] start it.
//!
//! `ARCHITECTURE.md` tells how they work together.

pub mod admin;
pub mod app;
pub mod channel;
pub mod cli;
pub mod config;
pub mod count;
pub mod delivery;
mod demo;
pub mod http;
pub mod log;
pub mod memory;
pub mod net;
pub mod proxy;
pub mod sse;
pub mod state;
mod sync;
pub mod systemd;
