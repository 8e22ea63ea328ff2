//! ssecast: a gateway that holds one upstream event stream per channel and fans it out.
pub mod config;
pub mod sse;
