//! Numbers that are counted where things happen, and read when somebody asks. Counting is one relaxed
//! addition.

mod latency;
mod named;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::latency::{Latency, LatencyBatch, LatencyCounts};
pub use self::named::Named;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
