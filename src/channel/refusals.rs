//! What is remembered of keys that have no instance: what their origins refused lately, or until when
//! those that failed are left alone. So who asks again does not cost another request.
//!
//! Pure: the time is an argument. Bounded by number and by bytes; the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Key;

/// What is remembered of the keys of one template, each for a time of its own.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    by_key: HashMap<Arc<Key>, (T, Instant)>,
    /// The same keys in the order in which they came. Invariant: each once.
    in_order: VecDeque<Arc<Key>>,
    /// Invariant: the sum of the footprints of the keys.
    n_bytes: usize,
}

/// How long a refusal is remembered: long enough for a crowd that comes at once, short enough that a
/// new room is found.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(5);

const MAX_KEYS: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            in_order: VecDeque::new(),
            n_bytes: 0,
        }
    }
}

impl<T: Copy> Remembered<T> {
    /// What is remembered of a key.
    pub(super) fn of(&mut self, key: &Key, now: Instant) -> Option<T> {
        self.forget(now);
        let (what, until) = self.by_key.get(key)?;
        (*until > now).then_some(*what)
    }

    /// Remembers it until then.
    pub(super) fn note(&mut self, key: &Arc<Key>, (what, until): (T, Instant), now: Instant) {
        self.forget(now);
        if self.by_key.insert(Arc::clone(key), (what, until)).is_some() {
            return;
        }
        self.n_bytes += key.footprint();
        self.in_order.push_back(Arc::clone(key));
        while self.in_order.len() > MAX_KEYS || self.n_bytes > MAX_BYTES {
            self.forget_oldest();
        }
    }

    /// Those behind one that is remembered for longer wait for it; they say nothing any more.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.in_order.front() {
            let until = self.by_key.get(oldest).map(|(_, until)| *until);
            if until.is_some_and(|until| until > now) {
                break;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(key) = self.in_order.pop_front() else {
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
    fn a_key_is_remembered_for_its_time() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        let until = |seconds| now + Duration::from_secs(seconds);
        remembered.note(&key("a"), (1, until(5)), now);
        remembered.note(&key("b"), (2, until(3)), now);
        assert_eq!(remembered.of(&key("a"), until(4)), Some(1));
        assert_eq!(remembered.of(&key("b"), until(2)), Some(2));
        assert_eq!(remembered.of(&key("b"), until(3)), None);
        assert_eq!(remembered.of(&key("c"), now), None);
        assert_eq!(remembered.of(&key("a"), until(5)), None);
        assert_eq!((remembered.by_key.len(), remembered.n_bytes), (0, 0));
    }

    #[test]
    fn guesses_are_bounded_by_number_and_by_bytes() {
        let mut remembered = Remembered::default();
        let now = Instant::now();
        let until = now + REFUSED_FOR;
        for n in 0..2 * MAX_KEYS {
            remembered.note(&key(&n.to_string()), ((), until), now);
        }
        assert_eq!(remembered.by_key.len(), MAX_KEYS);
        assert_eq!(remembered.of(&key("0"), now), None);
        let long = "x".repeat(1000);
        for n in 0..2 * MAX_KEYS {
            remembered.note(&key(&format!("{n}{long}")), ((), until), now);
        }
        assert!(remembered.n_bytes <= MAX_BYTES);
        assert_eq!(remembered.by_key.len(), remembered.in_order.len());
        assert_eq!(remembered.of(&key("nobody asked"), until), None);
        assert_eq!(remembered.by_key.capacity(), 0);
    }
}
