//! The limit on downstream connections: a permit travels with each connection, to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many connections there may be, and how many there are.
#[derive(Debug, Clone)]
pub struct Permits {
    n_held: Arc<AtomicUsize>,
    max: Arc<AtomicUsize>,
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    n_held: Arc<AtomicUsize>,
}

/// What a new connection may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Whatever it asks for.
    Admitted,
    /// An answer that says that the limit is reached: standing clients are never touched for it.
    Refused,
}

/// Connections beyond the limit that are being refused at the same time.
pub const REFUSALS_AT_ONCE: usize = 32;

impl Permits {
    /// Permits for `max` connections.
    pub fn new(max: usize) -> Self {
        Self {
            n_held: Arc::default(),
            max: Arc::new(AtomicUsize::new(max)),
        }
    }

    /// Allows so many from now on. Connections that are there stay, however many they are.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes a place. A few are left beyond the limit, because even a refusal needs a connection to
    /// be said on; `None` if those are taken too.
    pub fn acquire(&self) -> Option<(Permit, Admission)> {
        let n_before = self.n_held.fetch_add(1, Ordering::Relaxed);
        let permit = Permit {
            n_held: Arc::clone(&self.n_held),
        };
        let max = self.max.load(Ordering::Relaxed);
        let admission = if n_before < max {
            Admission::Admitted
        } else {
            Admission::Refused
        };
        (n_before < max.saturating_add(REFUSALS_AT_ONCE)).then_some((permit, admission))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.n_held.fetch_sub(1, Ordering::Relaxed);
    }
}
