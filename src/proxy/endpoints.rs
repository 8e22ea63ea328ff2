//! Which of a proxy's URLs is asked: fail-over in order. Pure: the time is an argument.
//!
//! An endpoint that could not be connected to *rests* for a moment, twice as long after each failure in
//! a row, so that not every request waits for it. When the rest is over, one request tries it, and the
//! others pass it over until that one knows more. When all of them rest, they are tried anyway: who is
//! asked may be back.

use std::time::Duration;

use tokio::time::Instant;

/// How the endpoints of one proxy are, as one shard knows.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// In the order of the configuration.
    list: Vec<Endpoint>,
}

/// The endpoints that a request has tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tried(u32);

#[derive(Debug, Clone, Copy, Default)]
struct Endpoint {
    /// Failures in a row.
    n_failures: u32,
    /// It is passed over until then.
    rests_until: Option<Instant>,
}

/// How long an endpoint rests after its first failure, and after many.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);

impl Endpoints {
    /// `n` endpoints that nothing is known of; as many as bits of [`Tried`] at most.
    pub(super) fn new(n: usize) -> Self {
        Self {
            list: vec![Endpoint::default(); n],
        }
    }

    /// The endpoint that a request asks which has tried these; `None`: there is no other. If its rest
    /// is just over, it is this request that tries it, within `patience`.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        tried: Tried,
        patience: Duration,
    ) -> Option<usize> {
        let others = self.list.iter().enumerate();
        let others = others.filter(|(place, _)| !tried.has(*place));
        // Of those that are equally due, the first in order.
        let due = others.min_by_key(|(_, endpoint)| endpoint.rests_until.filter(|due| *due > now));
        let (place, _) = due?;
        let endpoint = self.list.get_mut(place)?;
        if endpoint.rests_until.is_some_and(|due| due <= now) {
            endpoint.rests_until = Some(now + patience);
        }
        Some(place)
    }

    /// Notes that an endpoint was connected to.
    pub(super) fn worked(&mut self, place: usize) {
        if let Some(endpoint) = self.list.get_mut(place) {
            *endpoint = Endpoint::default();
        }
    }

    /// Notes that an endpoint could not be connected to.
    pub(super) fn failed(&mut self, now: Instant, place: usize) {
        if let Some(endpoint) = self.list.get_mut(place) {
            let doubled = 2_u32.saturating_pow(endpoint.n_failures);
            let rest = FIRST_REST.saturating_mul(doubled).min(LONGEST_REST);
            endpoint.n_failures = endpoint.n_failures.saturating_add(1);
            endpoint.rests_until = Some(now + rest);
        }
    }
}

impl Tried {
    /// Notes that this endpoint was tried.
    pub(super) fn add(&mut self, place: usize) {
        self.0 |= bit(place);
    }

    /// Whether there are none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, place: usize) -> bool {
        self.0 & bit(place) != 0
    }
}

fn bit(place: usize) -> u32 {
    u32::try_from(place)
        .ok()
        .and_then(|place| 1_u32.checked_shl(place))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// The order in which a request tries the endpoints, if all fail.
    fn order(endpoints: &mut Endpoints, now: Instant) -> Vec<usize> {
        let mut tried = Tried::default();
        let next = std::iter::from_fn(|| {
            let place = endpoints.choose(now, tried, PATIENCE)?;
            tried.add(place);
            Some(place)
        });
        next.collect()
    }

    #[test]
    fn the_first_that_does_not_rest_is_asked() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(3);
        assert_eq!(order(&mut endpoints, now), [0, 1, 2]);
        endpoints.failed(now, 0);
        assert_eq!(order(&mut endpoints, now), [1, 2, 0]);
        endpoints.failed(now, 1);
        assert_eq!(order(&mut endpoints, now), [2, 0, 1]);
        endpoints.worked(0);
        assert_eq!(order(&mut endpoints, now), [0, 2, 1]);
    }

    #[test]
    fn when_all_rest_the_one_that_rests_least_is_tried_first() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(2);
        endpoints.failed(now, 0);
        endpoints.failed(now, 0);
        endpoints.failed(now, 1);
        assert_eq!(order(&mut endpoints, now), [1, 0]);
    }

    #[test]
    fn after_a_rest_one_request_tries_and_the_others_pass_over() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(2);
        endpoints.failed(now, 0);
        let later = now + FIRST_REST;
        let choose =
            |endpoints: &mut Endpoints, at| endpoints.choose(at, Tried::default(), PATIENCE);
        assert_eq!(choose(&mut endpoints, later), Some(0));
        assert_eq!(choose(&mut endpoints, later), Some(1));
        // Whoever tried has not come back: its client has left.
        assert_eq!(choose(&mut endpoints, later + PATIENCE), Some(0));
        endpoints.worked(0);
        assert_eq!(choose(&mut endpoints, later), Some(0));
        assert_eq!(choose(&mut endpoints, later), Some(0));
    }

    #[test]
    fn a_rest_is_bounded() {
        let mut endpoints = Endpoints::new(2);
        let mut now = Instant::now();
        for _ in 0..100 {
            endpoints.failed(now, 0);
            let rest = endpoints.list[0].rests_until.map(|due| due - now);
            assert!(
                rest >= Some(FIRST_REST) && rest <= Some(LONGEST_REST),
                "{rest:?}"
            );
            now += Duration::from_secs(1);
        }
        assert_eq!(order(&mut endpoints, now + LONGEST_REST), [0, 1]);
    }

    proptest! {
        /// Whatever has failed when, a request tries each endpoint once.
        #[test]
        fn none_is_forgotten_and_none_is_tried_twice(
            n in 1usize..17,
            failures in proptest::collection::vec((0usize..17, 0u64..40_000), 0..60),
        ) {
            let begin = Instant::now();
            let mut endpoints = Endpoints::new(n);
            let mut now = begin;
            for (place, wait) in failures {
                now += Duration::from_millis(wait);
                endpoints.failed(now, place);
            }
            let mut order = order(&mut endpoints, now);
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}
