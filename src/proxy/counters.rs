//! What a proxy counts.

/// The counters of a proxy.
#[derive(Debug, Default)]
pub struct Counters {}
