//! What origins refused lately, so that who asks again does not cost another request.
//!
//! Pure: the time is an argument. Bounded by number and by bytes; the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::config::Key;

/// The refusals of one template.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_key: HashMap<Arc<Key>, StatusCode>,
    /// The same keys in the order in which they are forgotten, and when. Invariant: each once.
    in_order: VecDeque<(Instant, Arc<Key>)>,
    /// Invariant: the sum of the footprints of the keys.
    n_bytes: usize,
}

/// Long enough for a crowd that comes at once, short enough that a new room is found.
const REMEMBERED: Duration = Duration::from_secs(5);

const MAX_REFUSALS: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl Refusals {
    /// The status that a key was refused with.
    pub(super) fn of(&mut self, key: &Key, now: Instant) -> Option<StatusCode> {
        self.forget(now);
        self.by_key.get(key).copied()
    }

    /// Remembers a refusal.
    pub(super) fn note(&mut self, key: &Arc<Key>, status: StatusCode, now: Instant) {
        self.forget(now);
        if self.by_key.insert(Arc::clone(key), status).is_some() {
            // It is remembered for as long as before.
            return;
        }
        self.n_bytes += key.footprint();
        self.in_order.push_back((now + REMEMBERED, Arc::clone(key)));
        while self.in_order.len() > MAX_REFUSALS || self.n_bytes > MAX_BYTES {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        while self
            .in_order
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.in_order.pop_front() else {
            return;
        };
        self.by_key.remove(&key);
        self.n_bytes = self.n_bytes.saturating_sub(key.footprint());
        if self.in_order.is_empty() {
            // A burst of guesses leaves nothing behind.
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Arc<Key> {
        Arc::new(Key::restored(std::iter::once(text), ""))
    }

    #[test]
    fn a_refusal_is_remembered_for_a_moment() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        refusals.note(&key("a"), StatusCode::NOT_FOUND, now);
        let later = now + REMEMBERED - Duration::from_millis(1);
        assert_eq!(refusals.of(&key("a"), later), Some(StatusCode::NOT_FOUND));
        assert_eq!(refusals.of(&key("b"), later), None);
        assert_eq!(refusals.of(&key("a"), now + REMEMBERED), None);
        assert_eq!((refusals.by_key.len(), refusals.n_bytes), (0, 0));
    }

    #[test]
    fn guesses_are_bounded_by_number_and_by_bytes() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        for n in 0..2 * MAX_REFUSALS {
            refusals.note(&key(&n.to_string()), StatusCode::NOT_FOUND, now);
        }
        assert_eq!(refusals.by_key.len(), MAX_REFUSALS);
        assert_eq!(refusals.of(&key("0"), now), None);
        let long = "x".repeat(1000);
        for n in 0..2 * MAX_REFUSALS {
            refusals.note(&key(&format!("{n}{long}")), StatusCode::NOT_FOUND, now);
        }
        assert!(refusals.n_bytes <= MAX_BYTES);
        assert_eq!(refusals.by_key.len(), refusals.in_order.len());
        assert_eq!(refusals.of(&key("nobody asked"), now + REMEMBERED), None);
        assert_eq!(refusals.by_key.capacity(), 0);
    }
}
