//! ssecast: a gateway that holds one upstream event stream per channel and fans it out.

pub mod channel;
pub mod config;
pub mod delivery;
pub mod http;
pub mod log;
pub mod net;
pub mod sse;
