//! Which of a channel's URLs is asked next, and when: fail-over in order. Pure: the time is an
//! argument.
//!
//! ```text
//!   ends cleanly ──▶ the same again, once a minute      fails while open ──▶ the first of the others
//!   fails to open ──▶ the next, and after the last the first
//! ```
//!
//! A round through all of them costs one step of the back-off, so that a second URL is asked as soon
//! as a first one is asked again, and none in a tight loop.

use std::time::Duration;

use tokio::time::Instant;

use super::reconnect::{Backoff, HEALTHY_AFTER};

/// The places where a channel's stream is to be had.
#[derive(Debug)]
pub(super) struct Endpoints {
    backoff: Backoff,
    /// In the order of the configuration; never empty.
    list: Vec<Endpoint>,
    /// Which of `list` is asked.
    current: usize,
    /// Whether the stream has gone back to an earlier one, and has not been well since for long.
    has_returned: bool,
    /// Returns in a row that were not worth it.
    n_short_returns: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The origin ended its stream, as it may.
    Ended,
    /// By a failure; the origin wants to be left alone until then.
    Once(Option<Instant>),
    /// By an answer after which this endpoint is not asked again.
    ForGood,
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// An attempt, after this time.
    After(Duration),
    /// Nothing: all endpoints are given up.
    Never,
}

#[derive(Debug, Clone, Default)]
struct Endpoint {
    is_given_up: bool,
    /// It wants to be left alone until then.
    not_before: Option<Instant>,
    /// When its stream ended last as it should.
    ended_at: Option<Instant>,
}

/// How much longer an endpoint must have been well after returns that were not worth it: 2^n times.
const MOST_DOUBLINGS: u32 = 6;

impl Endpoints {
    /// `n` endpoints, and the bounds of the wait between attempts.
    pub(super) fn new(n: usize, bounds: std::ops::RangeInclusive<Duration>) -> Self {
        Self {
            backoff: Backoff::new(bounds),
            list: vec![Endpoint::default(); n.max(1)],
            current: 0,
            has_returned: false,
            n_short_returns: 0,
        }
    }

    /// Goes by another list, in which the present one has this place.
    pub(super) fn renumber(&mut self, n: usize, current: usize) {
        self.list = vec![Endpoint::default(); n.max(1)];
        self.current = current.min(self.list.len() - 1);
    }

    /// Asks those again that were given up.
    pub(super) fn forgive(&mut self) {
        for endpoint in &mut self.list {
            endpoint.is_given_up = false;
        }
    }

    /// The place of the one that is asked.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    pub(super) fn backoff(&mut self) -> &mut Backoff {
        &mut self.backoff
    }

    /// Those that are better than the present one, the best first.
    pub(super) fn better(&self) -> impl Iterator<Item = usize> {
        let before = self.list.iter().take(self.current).enumerate();
        before
            .filter(|(_, endpoint)| !endpoint.is_given_up)
            .map(|(place, _)| place)
    }

    /// Goes back to a better one.
    pub(super) fn go_back(&mut self, place: usize) {
        self.current = place.min(self.current);
        self.has_returned = true;
    }

    /// For how long a better one must have been well, if that is `least` for one that nothing is
    /// known of. After each return that did not last, it is twice as long.
    pub(super) fn proof(&self, least: Duration) -> Duration {
        least * (1 << self.n_short_returns.min(MOST_DOUBLINGS))
    }

    /// Notes that a stream is open.
    pub(super) fn opened(&mut self, now: Instant) {
        self.backoff.opened(now);
    }

    /// Notes a failure of the present one; returns when the next one is asked. `random` is a number
    /// from 0 to 1.
    pub(super) fn failed(&mut self, now: Instant, random: f64, failed: Failed) -> Next {
        let was_open = self.backoff.is_open();
        let is_worth_it = self.backoff.is_healthy(now);
        if std::mem::take(&mut self.has_returned) {
            self.n_short_returns = if is_worth_it {
                0
            } else {
                self.n_short_returns.saturating_add(1)
            };
        }
        let goes_on = self.note(now, failed);
        let n = self.list.iter().filter(|one| !one.is_given_up).count();
        let Some(n) = std::num::NonZeroUsize::new(n) else {
            return Next::Never;
        };
        let wait = self.backoff.failed(now, random, n);
        if !goes_on {
            self.current = self.next(now + wait, was_open);
        }
        let due = self
            .list
            .get(self.current)
            .and_then(|one| one.not_before)
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        Next::After(wait.max(due))
    }

    /// Notes a failure with the present one; returns whether it is asked again all the same.
    fn note(&mut self, now: Instant, failed: Failed) -> bool {
        let Some(current) = self.list.get_mut(self.current) else {
            return false;
        };
        match failed {
            Failed::Ended => {
                let last = current.ended_at.replace(now);
                last.is_none_or(|last| now - last >= HEALTHY_AFTER)
            }
            Failed::ForGood => {
                current.is_given_up = true;
                false
            }
            Failed::Once(not_before) => {
                current.not_before = not_before;
                false
            }
        }
    }

    /// The one that is asked next, at about `then`: one that need not be waited for, if there is one.
    fn next(&self, then: Instant, was_open: bool) -> usize {
        let n = self.list.len();
        let first = if was_open { 0 } else { self.current + 1 };
        let in_order = (first..first + n).map(|place| place % n);
        // The present one comes last.
        let others = in_order.filter(|place| *place != self.current);
        let order = others.chain(std::iter::once(self.current));
        let candidates = order.filter_map(|place| Some((place, self.list.get(place)?)));
        let due = candidates
            .filter(|(_, endpoint)| !endpoint.is_given_up)
            .map(|(place, endpoint)| {
                let due = endpoint.not_before.filter(|due| *due > then);
                (due, place)
            });
        // Of those that are equally due, the first in order.
        due.min_by_key(|(due, _)| *due)
            .map_or(self.current, |(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::RangeInclusive;

    const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(30);
    const FAILED: Failed = Failed::Once(None);

    /// Fails so often, at once each time; returns the place that comes after each, and the waits in
    /// milliseconds.
    fn fail(endpoints: &mut Endpoints, now: Instant, times: usize) -> (Vec<usize>, Vec<u128>) {
        let next = |_| match endpoints.failed(now, 1.0, FAILED) {
            Next::After(wait) => (endpoints.current(), wait.as_millis()),
            Next::Never => panic!("there is one left"),
        };
        (0..times).map(next).unzip()
    }

    #[test]
    fn those_that_fail_are_asked_in_order_and_each_round_more_rarely() {
        let mut endpoints = Endpoints::new(3, BOUNDS);
        let (places, waits) = fail(&mut endpoints, Instant::now(), 9);
        assert_eq!(places, [1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(waits, [500, 500, 500, 500, 500, 1000, 500, 500, 2000]);
    }

    #[test]
    fn a_stream_that_ends_is_asked_for_at_the_same_place_once_a_minute() {
        let mut endpoints = Endpoints::new(2, BOUNDS);
        let now = Instant::now();
        let mut places = Vec::new();
        for after in [0, 61, 65, 70] {
            let now = now + Duration::from_secs(after);
            endpoints.opened(now);
            endpoints.failed(now, 1.0, Failed::Ended);
            places.push(endpoints.current());
        }
        assert_eq!(places, [0, 0, 1, 1]);
    }

    #[test]
    fn when_an_open_stream_breaks_the_first_of_the_others_is_asked() {
        let mut endpoints = Endpoints::new(3, BOUNDS);
        let now = Instant::now();
        fail(&mut endpoints, now, 1);
        endpoints.opened(now);
        let (places, _) = fail(&mut endpoints, now, 1);
        assert_eq!(places, [0]);
    }

    #[test]
    fn who_wants_to_be_left_alone_is_passed_over_and_waited_for_if_all_do() {
        let now = Instant::now();
        let later = |seconds| Failed::Once(Some(now + Duration::from_secs(seconds)));
        let mut endpoints = Endpoints::new(2, BOUNDS);
        assert_eq!(
            endpoints.failed(now, 1.0, later(100)),
            Next::After(Duration::from_millis(500))
        );
        let soon = now + Duration::from_secs(2);
        assert_eq!(
            endpoints.failed(soon, 1.0, FAILED),
            Next::After(Duration::from_millis(500)),
            "the second one again"
        );
        assert_eq!(endpoints.current(), 1);
        assert_eq!(
            endpoints.failed(soon, 1.0, later(200)),
            Next::After(Duration::from_secs(98))
        );
        assert_eq!(endpoints.current(), 0);
    }

    #[test]
    fn who_is_given_up_is_not_asked_again() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(2, BOUNDS);
        endpoints.failed(now, 1.0, Failed::ForGood);
        let (places, _) = fail(&mut endpoints, now, 3);
        assert_eq!(places, [1, 1, 1]);
        assert_eq!(endpoints.better().count(), 0);
        assert_eq!(endpoints.failed(now, 1.0, Failed::ForGood), Next::Never);
    }

    #[test]
    fn a_return_that_does_not_last_makes_the_next_one_slower() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(2, BOUNDS);
        let least = Duration::from_secs(10);
        for doublings in [0, 1, 2, 3, 4, 5, 6, 6] {
            assert_eq!(endpoints.proof(least), least * (1 << doublings));
            endpoints.failed(now, 1.0, FAILED);
            assert_eq!(endpoints.better().collect::<Vec<_>>(), [0]);
            endpoints.go_back(0);
            endpoints.opened(now);
            endpoints.failed(now, 1.0, FAILED);
            endpoints.current = 0;
        }
        endpoints.go_back(0);
        endpoints.opened(now);
        endpoints.failed(now + HEALTHY_AFTER, 1.0, FAILED);
        assert_eq!(endpoints.proof(least), least);
    }

    proptest! {
        /// Whatever fails in which way, every endpoint that is not given up gets its turn.
        #[test]
        fn no_endpoint_is_forgotten(
            n in 1usize..6,
            steps in proptest::collection::vec((0u8..4, 0.0f64..1.0), 1..60),
        ) {
            let mut now = Instant::now();
            let mut endpoints = Endpoints::new(n, BOUNDS);
            for (kind, random) in steps {
                let failed = match kind {
                    0 => Failed::Ended,
                    1 => Failed::Once(Some(now + Duration::from_secs(5))),
                    2 => { endpoints.opened(now); FAILED }
                    _ => FAILED,
                };
                let Next::After(wait) = endpoints.failed(now, random, failed) else {
                    panic!("none was given up");
                };
                prop_assert!(wait >= *BOUNDS.start() / 2 && wait <= *BOUNDS.end(), "{wait:?}");
                now += wait;
            }
            now += Duration::from_secs(10);
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..n {
                seen.insert(endpoints.current());
                endpoints.failed(now, 1.0, FAILED);
            }
            prop_assert_eq!(seen.len(), n);
        }
    }
}
