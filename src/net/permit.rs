//! The limits on downstream connections: a permit travels with each connection, to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::memory::{Budget, Held, WhatFor};

/// How many connections there may be, how many there are, and what memory they may have.
#[derive(Debug, Clone)]
pub struct Permits {
    shared: Arc<Shared>,
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    admission: Admission,
    held: Held,
}

/// What a new connection may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Whatever it asks for.
    Admitted,
    /// An answer that says that a limit is reached: standing clients are never touched for it.
    Refused,
}

#[derive(Debug)]
struct Shared {
    n_admitted: AtomicUsize,
    n_refused: AtomicUsize,
    /// All that ever were refused.
    n_refused_so_far: AtomicU64,
    max: AtomicUsize,
    budget: Budget,
    /// What a connection takes while requests are read from it.
    request_bytes: AtomicUsize,
}

/// Connections beyond the limit that are being refused at the same time.
pub const REFUSALS_AT_ONCE: usize = 32;

impl Permits {
    /// Permits for `max` connections, whose memory nobody counts.
    #[cfg(test)]
    pub(crate) fn new(max: usize) -> Self {
        Self::within(max, &Budget::unlimited(), 0)
    }

    /// Permits for `max` connections that count to this budget: `request_bytes` each, until they say
    /// otherwise.
    pub fn within(max: usize, budget: &Budget, request_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                n_admitted: AtomicUsize::new(0),
                n_refused: AtomicUsize::new(0),
                n_refused_so_far: AtomicU64::new(0),
                max: AtomicUsize::new(max),
                budget: budget.clone(),
                request_bytes: AtomicUsize::new(request_bytes),
            }),
        }
    }

    /// Takes a place. A few are left beyond the limit, because even a refusal needs a connection to
    /// be said on; `None` if those are taken too.
    pub fn acquire(&self) -> Option<(Permit, Admission)> {
        let shared = &self.shared;
        let has_room = shared.budget.has_room();
        if has_room && let Some(permit) = self.take(Admission::Admitted) {
            return Some((permit, Admission::Admitted));
        }
        shared.n_refused_so_far.fetch_add(1, Ordering::Relaxed);
        let permit = self.take(Admission::Refused)?;
        Some((permit, Admission::Refused))
    }

    /// Changes how many there may be; those who are there stay.
    pub fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
    }

    /// Changes what a new connection takes while requests are read from it.
    pub fn set_request_bytes(&self, bytes: usize) {
        self.shared.request_bytes.store(bytes, Ordering::Relaxed);
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.shared.max.load(Ordering::Relaxed)
    }

    /// How many were admitted and are there.
    pub fn n_admitted(&self) -> usize {
        self.shared.n_admitted.load(Ordering::Relaxed)
    }

    /// How many came when there was no room for them.
    pub fn n_refused_so_far(&self) -> u64 {
        self.shared.n_refused_so_far.load(Ordering::Relaxed)
    }

    fn take(&self, admission: Admission) -> Option<Permit> {
        let shared = &self.shared;
        let max = match admission {
            Admission::Admitted => self.max(),
            Admission::Refused => REFUSALS_AT_ONCE,
        };
        let count = shared.count(admission);
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let bytes = shared.request_bytes.load(Ordering::Relaxed);
        Some(Permit {
            shared: Arc::clone(shared),
            admission,
            held: shared.budget.hold(WhatFor::Connections, bytes),
        })
    }
}

impl Permit {
    /// Counts more memory, for as long as what is returned.
    pub fn hold(&self, what_for: WhatFor, bytes: usize) -> Held {
        self.shared.budget.hold(what_for, bytes)
    }

    /// Counts for so many bytes of memory from now on.
    pub fn charge(&mut self, bytes: usize) {
        self.held.resize(bytes);
    }
}

impl Shared {
    fn count(&self, admission: Admission) -> &AtomicUsize {
        match admission {
            Admission::Admitted => &self.n_admitted,
            Admission::Refused => &self.n_refused,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let count = self.shared.count(self.admission);
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admissions(permits: &Permits, n: usize) -> Vec<(Permit, Admission)> {
        (0..n).filter_map(|_| permits.acquire()).collect()
    }

    fn n_admitted(list: &[(Permit, Admission)]) -> usize {
        let admitted = list.iter().filter(|(_, it)| *it == Admission::Admitted);
        admitted.count()
    }

    #[test]
    fn beyond_the_limit_a_few_are_refused_and_the_rest_closed() {
        let permits = Permits::new(3);
        let list = admissions(&permits, 100);
        assert_eq!((n_admitted(&list), list.len()), (3, 3 + REFUSALS_AT_ONCE));
        drop(list);
        assert_eq!(n_admitted(&admissions(&permits, 100)), 3);
    }

    #[test]
    fn a_place_can_be_had_while_others_are_being_refused() {
        let permits = Permits::new(1);
        let mut list = admissions(&permits, 100);
        drop(list.remove(0));
        assert_eq!(n_admitted(&admissions(&permits, 1)), 1);
    }

    #[test]
    fn without_memory_nobody_is_admitted_and_those_who_are_there_stay() {
        let budget = Budget::new(1000);
        let permits = Permits::within(usize::MAX, &budget, 400);
        budget.set_exhausted(true);
        let list = admissions(&permits, 100);
        assert_eq!((n_admitted(&list), list.len()), (3, 3 + REFUSALS_AT_ONCE));
        drop(list);
        let mut list = admissions(&permits, 2);
        for (permit, _) in &mut list {
            permit.charge(10);
        }
        assert_eq!(budget.used(), 20);
    }

    #[test]
    fn a_smaller_limit_is_one_for_newcomers() {
        let permits = Permits::new(5);
        let list = admissions(&permits, 4);
        permits.set_max(2);
        assert_eq!((permits.n_admitted(), permits.max()), (4, 2));
        assert_eq!(n_admitted(&admissions(&permits, 1)), 0);
        drop(list);
        assert_eq!(n_admitted(&admissions(&permits, 3)), 2);
    }
}
