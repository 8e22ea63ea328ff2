//! What is left of the descriptors when the process has its own: clients and the upstreams that are
//! made for them share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many descriptors there are for clients and upstreams on demand, and how many they have.
#[derive(Debug, Clone)]
pub struct Descriptors {
    shared: Arc<Shared>,
}

/// The descriptor of an upstream on demand; dropping it gives it back.
#[derive(Debug)]
pub struct Descriptor {
    descriptors: Descriptors,
}

#[derive(Debug)]
struct Shared {
    n_taken: AtomicUsize,
    max: AtomicUsize,
}

impl Descriptors {
    /// So many.
    pub fn new(max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                n_taken: AtomicUsize::new(0),
                max: AtomicUsize::new(max),
            }),
        }
    }

    /// Changes how many there are; those that are taken stay.
    pub fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
    }

    /// Takes one; `None` if there is none.
    pub fn take(&self) -> Option<Descriptor> {
        self.claim().then(|| Descriptor {
            descriptors: self.clone(),
        })
    }

    /// Takes one that [`Self::release`] gives back; whether there was one.
    pub(super) fn claim(&self) -> bool {
        let Shared { n_taken, max } = &*self.shared;
        let is_there = n_taken.fetch_add(1, Ordering::Relaxed) < max.load(Ordering::Relaxed);
        if !is_there {
            self.release();
        }
        is_there
    }

    pub(super) fn release(&self) {
        self.shared.n_taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.descriptors.release();
    }
}
