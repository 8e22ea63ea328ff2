//! The limits on downstream connections: a permit travels with each connection, to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::addresses::Identity;
use super::descriptors::Descriptors;
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
    /// Whose connection it is; `None`: nobody wants to know.
    identity: Option<Box<Identity>>,
    held: Held,
}

/// What holds a subscriber's place among the connections.
#[derive(Debug)]
pub enum Standing {
    /// A connection of its own.
    Connection(Permit),
    /// A connection that others share; who it is, if anybody wanted to know.
    Stream(Option<Box<Identity>>),
}

/// What a new connection may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Whatever it asks for.
    Admitted,
    /// An answer that says that a limit is reached: standing clients are never touched for it.
    Refused(Limit),
}

/// What a newcomer may be one too many for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `max_connections_per_address`
    Address,
    /// `max_connections`
    Connections,
    /// `memory`
    Memory,
    /// `max_connections_per_network`
    Network,
    /// `connection_rate`
    Rate,
}

#[derive(Debug)]
struct Shared {
    n_admitted: AtomicUsize,
    n_being_refused: AtomicUsize,
    /// All that ever were refused, by the limit.
    n_refused: [AtomicU64; Limit::ALL.len()],
    max: AtomicUsize,
    /// What those who are admitted have one of each.
    descriptors: Descriptors,
    budget: Budget,
    /// What a connection takes while requests are read from it.
    request_bytes: AtomicUsize,
}

/// About what a connection takes in memory that waits for its turn.
const WAITING_BYTES: usize = 512;

/// Connections beyond a limit that are being refused at the same time.
pub const REFUSALS_AT_ONCE: usize = 32;

impl Permits {
    /// Permits for `max` connections, whose memory nobody counts.
    #[cfg(test)]
    pub(crate) fn new(max: usize) -> Self {
        let descriptors = Descriptors::new(usize::MAX);
        Self::within((max, &descriptors), &Budget::unlimited(), 0)
    }

    /// Permits for `max` connections, if there are descriptors for them, that count to this budget:
    /// `request_bytes` each, until they say otherwise.
    pub fn within(
        (max, descriptors): (usize, &Descriptors),
        budget: &Budget,
        request_bytes: usize,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                n_admitted: AtomicUsize::new(0),
                n_being_refused: AtomicUsize::new(0),
                n_refused: Default::default(),
                max: AtomicUsize::new(max),
                descriptors: descriptors.clone(),
                budget: budget.clone(),
                request_bytes: AtomicUsize::new(request_bytes),
            }),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub fn acquire(&self) -> Result<Permit, Limit> {
        if !self.shared.budget.has_room() {
            return Err(Limit::Memory);
        }
        self.take(Admission::Admitted).ok_or(Limit::Connections)
    }

    /// Counts a connection that is refused. A few get a place all the same, because even a refusal
    /// needs a connection to be said on; `None` if those are taken.
    pub fn refuse(&self, by: Limit) -> Option<Permit> {
        self.note_refused(by, 1);
        self.take(Admission::Refused(by))
    }

    /// Counts connections that are closed without being told why.
    pub fn note_refused(&self, by: Limit, n: usize) {
        if let Some(count) = self.shared.n_refused.get(by as usize) {
            count.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    /// Changes how many there may be, and for how many there are descriptors; those who are there
    /// stay.
    pub fn set_max(&self, max: usize, descriptors: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
        self.shared.descriptors.set_max(descriptors);
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

    /// How many came when this limit was reached.
    pub fn n_refused_by(&self, limit: Limit) -> u64 {
        let count = self.shared.n_refused.get(limit as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many came when a limit was reached.
    pub fn n_refused_so_far(&self) -> u64 {
        Limit::ALL
            .map(|limit| self.n_refused_by(limit))
            .iter()
            .sum()
    }

    fn take(&self, admission: Admission) -> Option<Permit> {
        let shared = &self.shared;
        let max = match admission {
            Admission::Admitted => self.max(),
            Admission::Refused(_) => REFUSALS_AT_ONCE,
        };
        let count = shared.count(admission);
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if admission == Admission::Admitted && !shared.descriptors.claim() {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let bytes = shared.request_bytes.load(Ordering::Relaxed);
        Some(Permit {
            shared: Arc::clone(shared),
            admission,
            identity: None,
            held: shared.budget.hold(WhatFor::Connections, bytes),
        })
    }
}

impl Permit {
    /// What the connection may have.
    pub fn admission(&self) -> Admission {
        self.admission
    }

    /// Keeps who it is, and its place among those of its address, for as long as the connection.
    pub fn identify(&mut self, identity: Box<Identity>) {
        self.identity = Some(identity);
    }

    /// Who it is, if anybody wanted to know.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Gives the place back for one of those that are being refused; `None` if there is none.
    pub fn refuse(self, by: Limit) -> Option<Self> {
        let permits = Permits {
            shared: Arc::clone(&self.shared),
        };
        drop(self);
        permits.refuse(by)
    }

    /// Gives the place back, and counts a connection that is closed without being told why.
    pub fn refuse_silently(self, by: Limit) {
        let permits = Permits {
            shared: Arc::clone(&self.shared),
        };
        permits.note_refused(by, 1);
    }

    /// Counts for nothing but its socket, because nothing is read from it yet.
    pub fn wait(&mut self) {
        self.held.resize(WAITING_BYTES);
    }

    /// Counts for what a connection takes while requests are read from it, as at the beginning.
    pub fn begin(&mut self) {
        let bytes = self.shared.request_bytes.load(Ordering::Relaxed);
        self.held.resize(bytes);
    }

    /// Whether there is memory for what it may ask for.
    pub fn has_room(&self) -> bool {
        self.shared.budget.has_room()
    }

    /// Counts more memory, for as long as what is returned.
    pub fn hold(&self, what_for: WhatFor, bytes: usize) -> Held {
        self.shared.budget.hold(what_for, bytes)
    }

    /// Counts for so many bytes of memory from now on.
    pub fn charge(&mut self, bytes: usize) {
        self.held.resize(bytes);
    }
}

impl Standing {
    /// Who it is, if anybody wanted to know.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Connection(permit) => permit.identity(),
            Self::Stream(identity) => identity.as_deref(),
        }
    }
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 5] = [
        Self::Address,
        Self::Connections,
        Self::Memory,
        Self::Network,
        Self::Rate,
    ];

    /// The key that sets it, as it is counted and logged.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "max-connections-per-address",
            Self::Connections => "max-connections",
            Self::Memory => "memory",
            Self::Network => "max-connections-per-network",
            Self::Rate => "connection-rate",
        }
    }
}

impl Shared {
    fn count(&self, admission: Admission) -> &AtomicUsize {
        match admission {
            Admission::Admitted => &self.n_admitted,
            Admission::Refused(_) => &self.n_being_refused,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let count = self.shared.count(self.admission);
        count.fetch_sub(1, Ordering::Relaxed);
        if self.admission == Admission::Admitted {
            self.shared.descriptors.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places that so many get.
    fn admissions(permits: &Permits, n: usize) -> Vec<Permit> {
        let come = || match permits.acquire() {
            Ok(permit) => Some(permit),
            Err(limit) => permits.refuse(limit),
        };
        (0..n).filter_map(|_| come()).collect()
    }

    fn n_admitted(list: &[Permit]) -> usize {
        let is_admitted = |one: &&Permit| one.admission() == Admission::Admitted;
        list.iter().filter(is_admitted).count()
    }

    fn many() -> Descriptors {
        Descriptors::new(usize::MAX)
    }

    #[test]
    fn clients_and_upstreams_share_the_descriptors() {
        let descriptors = Descriptors::new(3);
        let permits = Permits::within((10, &descriptors), &Budget::unlimited(), 0);
        let upstream = descriptors.take().expect("a descriptor");
        let mut list = admissions(&permits, 5);
        assert_eq!(n_admitted(&list), 2, "one is the upstream's");
        assert!(descriptors.take().is_none());
        drop(upstream);
        list.extend(admissions(&permits, 1));
        assert_eq!(n_admitted(&list), 3);
        drop(list);
        let all: Vec<_> = (0..9).filter_map(|_| descriptors.take()).collect();
        assert_eq!(all.len(), 3, "what is dropped is given back");
    }

    #[test]
    fn beyond_the_limit_a_few_are_refused_and_the_rest_closed() {
        let permits = Permits::new(3);
        let list = admissions(&permits, 100);
        assert_eq!((n_admitted(&list), list.len()), (3, 3 + REFUSALS_AT_ONCE));
        assert_eq!(permits.n_refused_by(Limit::Connections), 97);
        assert_eq!(permits.n_refused_so_far(), 97);
        drop(list);
        assert_eq!(n_admitted(&admissions(&permits, 100)), 3);
    }

    #[test]
    fn who_is_refused_later_gives_its_place_back() {
        let permits = Permits::new(1);
        let first = permits.acquire().expect("a place");
        let refused = first.refuse(Limit::Address).expect("a place to be refused");
        assert_eq!(refused.admission(), Admission::Refused(Limit::Address));
        assert_eq!(permits.n_admitted(), 0);
        assert!(permits.acquire().is_ok());
        let counts = Limit::ALL.map(|limit| permits.n_refused_by(limit));
        assert_eq!(counts, [1, 0, 0, 0, 0]);
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
        let permits = Permits::within((usize::MAX, &many()), &budget, 400);
        budget.set_exhausted(true);
        let list = admissions(&permits, 100);
        assert_eq!((n_admitted(&list), list.len()), (3, 3 + REFUSALS_AT_ONCE));
        drop(list);
        let mut list = admissions(&permits, 2);
        for permit in &mut list {
            permit.charge(10);
        }
        assert_eq!(budget.used(), 20);
    }

    #[test]
    fn who_waits_counts_for_little() {
        let budget = Budget::new(100_000);
        let permits = Permits::within((10, &many()), &budget, 16_384);
        let mut permit = permits.acquire().expect("a place");
        assert_eq!(budget.used(), 16_384);
        permit.wait();
        assert_eq!(budget.used(), WAITING_BYTES);
        permit.begin();
        assert_eq!(budget.used(), 16_384);
    }

    #[test]
    fn a_smaller_limit_is_one_for_newcomers() {
        let permits = Permits::new(5);
        let list = admissions(&permits, 4);
        permits.set_max(2, usize::MAX);
        assert_eq!((permits.n_admitted(), permits.max()), (4, 2));
        assert_eq!(n_admitted(&admissions(&permits, 1)), 0);
        drop(list);
        assert_eq!(n_admitted(&admissions(&permits, 3)), 2);
    }
}
