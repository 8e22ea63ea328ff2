//! When to try the upstream again: exponential back-off with jitter. Pure: the time is an argument.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection must be open before failures before it no longer count.
///
/// Without it, an origin that accepts and closes at once is asked at the shortest interval for ever.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The waits between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// The first wait, and the cap.
    bounds: RangeInclusive<Duration>,
    /// What the origin asked for by `retry:`, within `bounds`; stands in for the first wait.
    origin_wish: Option<Duration>,
    /// Failures in a row.
    n_failures: u32,
    /// When the present connection opened.
    open_since: Option<Instant>,
}

impl Backoff {
    /// Waits that begin at the start of `bounds`, double with each failure, and stop growing at its
    /// end. Jitter comes after the cap: a wait is a random time from half of that to the whole, so
    /// that gateways that failed together do not return together.
    pub fn new(bounds: RangeInclusive<Duration>) -> Self {
        Self {
            bounds,
            origin_wish: None,
            n_failures: 0,
            open_since: None,
        }
    }

    /// Waits within other bounds from the next failure on.
    pub fn set_bounds(&mut self, bounds: RangeInclusive<Duration>) {
        let wish = self.origin_wish.take();
        self.bounds = bounds;
        if let Some(wish) = wish {
            self.set_origin_wish(wish);
        }
    }

    /// Notes the reconnection time that the origin asked for (WHATWG HTML, 9.2.6). It is honoured
    /// within the bounds: a `retry: 0` must not make a tight loop.
    pub fn set_origin_wish(&mut self, wish: Duration) {
        self.origin_wish = Some(wish.clamp(*self.bounds.start(), *self.bounds.end()));
    }

    /// Notes that the stream is open.
    pub fn opened(&mut self, now: Instant) {
        self.open_since = Some(now);
    }

    /// Whether the stream is open.
    pub fn is_open(&self) -> bool {
        self.open_since.is_some()
    }

    /// Whether the stream has been open for so long that earlier failures do not count.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.open_since
            .is_some_and(|since| now - since >= HEALTHY_AFTER)
    }

    /// Notes a failure; returns how long to wait. With several places to ask, `n_places`, only each
    /// round through them makes the wait longer, and only after the last of them. `random` is a
    /// number from 0 to 1.
    pub fn failed(&mut self, now: Instant, random: f64, n_places: NonZeroUsize) -> Duration {
        if self.is_healthy(now) {
            self.n_failures = 0;
        }
        self.open_since = None;
        let first = self.origin_wish.unwrap_or(*self.bounds.start());
        let n_places = u32::try_from(n_places.get()).unwrap_or(u32::MAX);
        let n_rounds = self.n_failures / n_places;
        self.n_failures = self.n_failures.saturating_add(1);
        let factor = if self.n_failures.is_multiple_of(n_places) {
            1u32.checked_shl(n_rounds).unwrap_or(u32::MAX)
        } else {
            1
        };
        let whole = first.saturating_mul(factor).min(*self.bounds.end());
        let half = whole / 2;
        half + half.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Failures in a row, the last one included.
    pub fn n_failures(&self) -> u32 {
        self.n_failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: NonZeroUsize = NonZeroUsize::MIN;
    const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(30);

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::new(BOUNDS);
        let now = Instant::now();
        let waits: Vec<u128> = (0..8)
            .map(|_| backoff.failed(now, 1.0, ONE).as_millis())
            .collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn only_a_healthy_minute_resets() {
        let mut backoff = Backoff::new(BOUNDS);
        let now = Instant::now();
        for _ in 0..5 {
            backoff.failed(now, 1.0, ONE);
        }
        backoff.opened(now);
        let soon = backoff.failed(now + HEALTHY_AFTER - Duration::from_millis(1), 1.0, ONE);
        assert_eq!(soon, Duration::from_secs(16));
        backoff.opened(now);
        let late = backoff.failed(now + HEALTHY_AFTER, 1.0, ONE);
        assert_eq!(late, Duration::from_millis(500));
    }

    #[test]
    fn the_origins_wish_is_bounded() {
        let mut backoff = Backoff::new(BOUNDS);
        backoff.set_origin_wish(Duration::ZERO);
        assert_eq!(
            backoff.clone().failed(Instant::now(), 1.0, ONE),
            Duration::from_millis(500)
        );
        backoff.set_origin_wish(Duration::from_secs(3600));
        assert_eq!(
            backoff.failed(Instant::now(), 1.0, ONE),
            Duration::from_secs(30)
        );
    }

    proptest! {
        #[test]
        fn a_wait_is_never_zero_and_never_above_the_cap(
            first in 1u64..10_000,
            more in 0u64..1_000_000,
            wish in proptest::option::of(0u64..10_000_000),
            randoms in proptest::collection::vec(0.0f64..=1.0, 1..80),
        ) {
            let bounds = Duration::from_millis(first)..=Duration::from_millis(first + more);
            let mut backoff = Backoff::new(bounds.clone());
            if let Some(wish) = wish {
                backoff.set_origin_wish(Duration::from_millis(wish));
            }
            let now = Instant::now();
            for random in randoms {
                let wait = backoff.failed(now, random, ONE);
                prop_assert!(wait >= *bounds.start() / 2 && wait <= *bounds.end(), "{wait:?}");
                prop_assert!(!wait.is_zero());
            }
        }
    }
}
