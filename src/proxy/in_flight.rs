//! The requests of a proxy that are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    n: Arc<AtomicUsize>,
}

/// One of them; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    n: Arc<AtomicUsize>,
}

impl Requests {
    /// Begins one, if there are fewer than `most`.
    pub(super) fn begin(&self, most: usize) -> Option<InFlight> {
        let begun = InFlight {
            n: Arc::clone(&self.n),
        };
        // If it is one too many, it ends at once.
        (self.n.fetch_add(1, Ordering::Relaxed) < most).then_some(begun)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.n.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.n.fetch_sub(1, Ordering::Relaxed);
    }
}
