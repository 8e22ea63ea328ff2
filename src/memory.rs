//! The memory budget: one limit for all that clients and histories can make the process hold.
//!
//! Whoever holds such memory holds a [`Held`] with it, which counts from the moment it is made until
//! it is dropped. So what several share (a batch that a log has evicted, but a slow subscriber still
//! reads) counts once, and for as long as anybody has it. Counting is two atomic additions, per batch
//! and per connection; nothing is counted per delivered event.
//!
//! The budget only counts and tells. What to do about it is the business of those who hold: a log
//! that appends beyond the limit gives up as much of its own, a task evicts across logs, and
//! newcomers are refused when there is nothing left to evict.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A handle to the process's budget.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

/// Memory that counts until this is dropped.
pub struct Held {
    budget: Budget,
    what_for: WhatFor,
    bytes: usize,
}

/// What memory is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhatFor {
    /// Sockets, requests that are read, what goes out besides events.
    Connections,
    /// Batches of events, in logs and on their way to subscribers, and the index of their ids.
    Events,
    /// Buffers of HTTP/2.
    Http2,
    /// Channels on demand and views without their events: clients make them, and choose their keys.
    Instances,
    /// TLS sessions.
    Tls,
}

#[derive(Debug)]
struct Shared {
    limit: AtomicUsize,
    /// Invariant: the sum of `parts`, once those who add have added to both.
    used: AtomicUsize,
    parts: [AtomicUsize; WhatFor::ALL.len()],
    /// Whether nothing was left to evict when the limit was exceeded last.
    is_exhausted: AtomicBool,
    /// Told when the limit is crossed upwards.
    crossed: Notify,
}

impl WhatFor {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Connections,
        Self::Events,
        Self::Http2,
        Self::Instances,
        Self::Tls,
    ];

    /// A word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Events => "events",
            Self::Http2 => "http2",
            Self::Instances => "instances",
            Self::Tls => "tls",
        }
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        let shared = Shared {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            parts: Default::default(),
            is_exhausted: AtomicBool::new(false),
            crossed: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A budget that is never exceeded.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Counts memory.
    pub fn hold(&self, what_for: WhatFor, bytes: usize) -> Held {
        self.add(what_for, bytes);
        Held {
            budget: self.clone(),
            what_for,
            bytes,
        }
    }

    /// Changes the limit.
    pub fn set_limit(&self, limit: usize) {
        self.shared.limit.store(limit, Ordering::Relaxed);
        if self.is_exceeded() {
            self.shared.crossed.notify_one();
        }
    }

    /// Notes whether anything was left to evict when the limit was exceeded; returns what was noted
    /// before.
    pub fn set_exhausted(&self, is_exhausted: bool) -> bool {
        self.shared
            .is_exhausted
            .swap(is_exhausted, Ordering::Relaxed)
    }

    /// Ready when the limit was crossed, since this was ready last.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a crossing that nobody waits for is told to the next who does.
    pub async fn crossed(&self) {
        self.shared.crossed.notified().await;
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.shared.limit.load(Ordering::Relaxed)
    }

    /// What is held altogether.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// What is held for something.
    pub fn used_for(&self, what_for: WhatFor) -> usize {
        self.part(what_for).load(Ordering::Relaxed)
    }

    /// Whether more is held than should be.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit()
    }

    /// Whether there is memory for a newcomer: beyond the limit only while there is history to evict.
    pub fn has_room(&self) -> bool {
        !(self.is_exceeded() && self.shared.is_exhausted.load(Ordering::Relaxed))
    }

    fn part(&self, what_for: WhatFor) -> &AtomicUsize {
        let [connections, events, http2, instances, tls] = &self.shared.parts;
        match what_for {
            WhatFor::Connections => connections,
            WhatFor::Events => events,
            WhatFor::Http2 => http2,
            WhatFor::Instances => instances,
            WhatFor::Tls => tls,
        }
    }

    fn add(&self, what_for: WhatFor, bytes: usize) {
        self.part(what_for).fetch_add(bytes, Ordering::Relaxed);
        let before = self.shared.used.fetch_add(bytes, Ordering::Relaxed);
        let limit = self.limit();
        // Exactly one of those who add at the same time finds that it crossed the limit.
        if before <= limit && before.saturating_add(bytes) > limit {
            self.shared.crossed.notify_one();
        }
    }

    fn subtract(&self, what_for: WhatFor, bytes: usize) {
        self.part(what_for).fetch_sub(bytes, Ordering::Relaxed);
        self.shared.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Held {
    /// Counts for so many bytes from now on.
    pub fn resize(&mut self, bytes: usize) {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) {
            self.budget.add(self.what_for, more);
        } else if bytes < self.bytes {
            self.budget.subtract(self.what_for, self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// How many bytes it counts for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.subtract(self.what_for, self.bytes);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({} for {})", self.bytes, self.what_for.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a crossing was told.
    fn was_crossed(budget: &Budget) -> bool {
        use std::future::Future as _;
        use std::pin::pin;
        use std::task::{Context, Waker};
        let mut cx = Context::from_waker(Waker::noop());
        pin!(budget.crossed()).poll(&mut cx).is_ready()
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let budget = Budget::new(100);
        let events = budget.hold(WhatFor::Events, 60);
        let mut tls = budget.hold(WhatFor::Tls, 30);
        assert_eq!((budget.used(), budget.used_for(WhatFor::Events)), (90, 60));
        assert!(!budget.is_exceeded() && !was_crossed(&budget));
        tls.resize(50);
        assert_eq!((budget.used(), budget.used_for(WhatFor::Tls)), (110, 50));
        assert!(budget.is_exceeded() && was_crossed(&budget));
        tls.resize(10);
        assert!(!budget.is_exceeded());
        drop(events);
        assert_eq!((budget.used(), tls.bytes()), (10, 10));
        drop(tls);
        let parts = WhatFor::ALL.map(|what_for| budget.used_for(what_for));
        assert_eq!((budget.used(), parts), (0, [0; 5]));
    }

    #[test]
    fn a_crossing_is_told_once_however_far_it_goes() {
        let budget = Budget::new(100);
        let held: Vec<_> = (0..5).map(|_| budget.hold(WhatFor::Events, 50)).collect();
        assert!(was_crossed(&budget));
        assert!(!was_crossed(&budget));
        drop(held);
        let _held = budget.hold(WhatFor::Events, 101);
        assert!(was_crossed(&budget));
        budget.set_limit(1000);
        assert!(!was_crossed(&budget));
        budget.set_limit(100);
        assert!(was_crossed(&budget), "a smaller limit is crossed too");
    }

    #[test]
    fn newcomers_have_room_while_there_is_something_to_evict() {
        let budget = Budget::new(100);
        let held = budget.hold(WhatFor::Events, 200);
        assert!(budget.has_room());
        budget.set_exhausted(true);
        assert!(!budget.has_room());
        drop(held);
        assert!(budget.has_room(), "whatever was noted");
    }
}
