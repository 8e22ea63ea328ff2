//! What is remembered of keys that have no instance: what their origins refused lately, or until when
//! those that failed are left alone. So who asks again does not cost another request.
//!
//! Pure: the time is an argument. Bounded by number and by bytes; the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::config::Key;

/// What those are told who ask for what the origin refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its status.
    pub status: StatusCode,
    /// With 401: how they may say who they are.
    pub challenges: Challenges,
}

/// The challenges of an origin (RFC 9110, 11.6.1), which only it can make: the gateway does not know who
/// may have what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenges(Option<Arc<[HeaderValue]>>);

/// Something that is remembered.
pub(super) trait Footprint {
    /// About how many bytes it holds besides those of its type.
    fn footprint(&self) -> usize;
}

/// What is remembered of the keys of one template, each for a time of its own.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    by_key: HashMap<Arc<Key>, (T, Instant)>,
    /// The same keys in the order in which they came. Invariant: each once.
    in_order: VecDeque<Arc<Key>>,
    /// Invariant: the sum of the footprints of the keys, and of what is remembered of them.
    n_bytes: usize,
}

/// How long a refusal is remembered: long enough for a crowd that comes at once, short enough that a
/// new room is found.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(5);

/// Bytes of challenges that are passed on: what fits, in their order. They are some hundred at most.
const MAX_CHALLENGE_BYTES: usize = 2 * 1024;

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

impl Challenges {
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut room = MAX_CHALLENGE_BYTES;
        let fitting = fields.get_all(WWW_AUTHENTICATE).iter().filter(|value| {
            let fits = value.len() <= room;
            room -= if fits { value.len() } else { 0 };
            fits
        });
        let challenges: Vec<HeaderValue> = fitting.cloned().collect();
        Self((!challenges.is_empty()).then(|| challenges.into()))
    }

    /// As they were written, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &HeaderValue> {
        self.0.as_deref().unwrap_or_default().iter()
    }
}

impl Footprint for Refused {
    fn footprint(&self) -> usize {
        let values = self.challenges.iter();
        values
            .map(|value| size_of::<HeaderValue>() + value.len())
            .sum()
    }
}

impl Footprint for Instant {
    fn footprint(&self) -> usize {
        0
    }
}

impl<T: Clone + Footprint> Remembered<T> {
    /// What is remembered of a key.
    pub(super) fn of(&mut self, key: &Key, now: Instant) -> Option<T> {
        self.forget(now);
        let (what, until) = self.by_key.get(key)?;
        (*until > now).then(|| what.clone())
    }

    /// Remembers it until then.
    pub(super) fn note(&mut self, key: &Arc<Key>, (what, until): (T, Instant), now: Instant) {
        self.forget(now);
        self.n_bytes += what.footprint();
        if let Some((before, _)) = self.by_key.insert(Arc::clone(key), (what, until)) {
            self.n_bytes = self.n_bytes.saturating_sub(before.footprint());
        } else {
            self.n_bytes += key.footprint();
            self.in_order.push_back(Arc::clone(key));
        }
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
        let what = self.by_key.remove(&key);
        let n_bytes = key.footprint() + what.map_or(0, |(what, _)| what.footprint());
        self.n_bytes = self.n_bytes.saturating_sub(n_bytes);
        if self.in_order.is_empty() {
            // A burst of guesses leaves nothing behind.
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Footprint for i32 {
        fn footprint(&self) -> usize {
            0
        }
    }

    impl Footprint for String {
        fn footprint(&self) -> usize {
            self.len()
        }
    }

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
            remembered.note(&key(&n.to_string()), (String::new(), until), now);
        }
        assert_eq!(remembered.by_key.len(), MAX_KEYS);
        assert_eq!(remembered.of(&key("0"), now), None);
        let long = "x".repeat(1000);
        for n in 0..2 * MAX_KEYS {
            remembered.note(&key(&format!("{n}{long}")), (String::new(), until), now);
        }
        assert!(remembered.n_bytes <= MAX_BYTES);
        for n in 0..MAX_KEYS {
            remembered.note(&key(&(n % 5000).to_string()), (long.clone(), until), now);
        }
        assert!(remembered.n_bytes <= MAX_BYTES && remembered.by_key.len() < 5000);
        assert_eq!(remembered.by_key.len(), remembered.in_order.len());
        assert_eq!(remembered.of(&key("nobody asked"), until), None);
        assert_eq!(remembered.by_key.capacity(), 0);
    }
}
