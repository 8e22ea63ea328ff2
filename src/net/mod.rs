//! Sockets: listeners, connections of either kind, outgoing connections.
//!
//! Nothing here knows HTTP or events.

pub mod addresses;
pub mod client_tls;
pub mod connect;
pub mod descriptors;
pub mod gate;
pub mod gather;
pub mod gathers;
pub mod inherited;
pub mod listener;
pub mod peer;
pub mod permit;
pub mod proxy_protocol;
pub mod socket;
pub mod tls;
mod unverified;
