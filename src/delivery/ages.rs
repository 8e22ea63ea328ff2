//! When subscribers of a group have been there long enough (`max_age`).
//!
//! Each stays a random part of the time, so that those who came together do not leave together. There
//! is no timer per subscriber: they are ordered by when they leave, in coarse steps, and the shard looks
//! at the first of each group. Who leaves before is forgotten at once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The places of a group's subscribers, by when they leave.
#[derive(Debug)]
pub(super) struct Ages {
    max_age: Duration,
    /// From when steps are counted.
    began: Instant,
    order: BTreeSet<(Step, usize)>,
    /// By place: when its subscriber leaves. Of places that are empty it says nothing.
    steps: Vec<Step>,
}

/// A number of [`STEP`]s.
type Step = u32;

/// How exactly it is known when somebody leaves. In a `Step` there is room for six years of them; who
/// stays for longer is not asked to leave.
const STEP: Duration = Duration::from_millis(50);

/// The least part of the time that somebody stays.
const LEAST_PART: f64 = 0.8;

impl Ages {
    /// For a group of nobody.
    pub(super) fn new(max_age: Duration, now: Instant) -> Self {
        Self {
            max_age,
            began: now,
            order: BTreeSet::new(),
            steps: Vec::new(),
        }
    }

    /// Begins to count the time of a subscriber.
    pub(super) fn add(&mut self, place: usize, now: Instant) {
        self.remove(place);
        let part = LEAST_PART + (1.0 - LEAST_PART) * fastrand::f64();
        let end = now.saturating_duration_since(self.began) + self.max_age.mul_f64(part);
        let step = Step::try_from(end.as_millis() / STEP.as_millis()).unwrap_or(Step::MAX);
        if self.steps.len() <= place {
            self.steps.resize(place + 1, 0);
        }
        if let Some(slot) = self.steps.get_mut(place) {
            *slot = step;
            self.order.insert((step, place));
        }
    }

    /// Forgets a subscriber.
    pub(super) fn remove(&mut self, place: usize) {
        if let Some(step) = self.steps.get(place) {
            self.order.remove(&(*step, place));
        }
        if self.order.is_empty() {
            self.steps = Vec::new();
        }
    }

    /// When the next one leaves.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let (step, _) = self.order.first()?;
        (*step < Step::MAX).then(|| self.began + STEP * *step)
    }

    /// The place of one whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        if self.next_at()? > now {
            return None;
        }
        let (_, place) = self.order.pop_first()?;
        Some(place)
    }

    /// How long a subscriber stays at most.
    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each place is due, as it is taken.
    fn drain(ages: &mut Ages) -> Vec<(Instant, usize)> {
        std::iter::from_fn(|| {
            let at = ages.next_at()?;
            assert_eq!(ages.pop_due(at - Duration::from_millis(1)), None);
            Some((at, ages.pop_due(at)?))
        })
        .collect()
    }

    #[test]
    fn who_came_together_leaves_spread_over_the_last_fifth() {
        let now = Instant::now();
        let mut ages = Ages::new(Duration::from_secs(100), now);
        for place in 0..1000 {
            ages.add(place, now);
        }
        let order = drain(&mut ages);
        let mut per_second = [0; 100];
        for (at, _) in &order {
            per_second[usize::try_from((*at - now).as_secs()).expect("few")] += 1;
        }
        assert!(per_second[..80].iter().all(|n| *n == 0), "{per_second:?}");
        let most = per_second[80..].iter().max().expect("some");
        assert!(
            per_second[80..].iter().all(|n| *n > 10) && *most < 100,
            "{per_second:?}"
        );
        let mut places: Vec<usize> = order.iter().map(|(_, place)| *place).collect();
        assert!(!places.is_sorted(), "in random order");
        places.sort_unstable();
        assert_eq!(places, (0..1000).collect::<Vec<_>>());
        assert_eq!(ages.next_at(), None);
    }

    #[test]
    fn who_leaves_before_is_forgotten_and_a_place_may_be_taken_again() {
        let now = Instant::now();
        let mut ages = Ages::new(Duration::from_secs(10), now);
        ages.add(0, now);
        ages.add(1, now);
        ages.remove(0);
        ages.remove(7);
        let later = now + Duration::from_secs(100);
        ages.add(0, later);
        let order = drain(&mut ages);
        assert_eq!(
            order.iter().map(|(_, place)| *place).collect::<Vec<_>>(),
            [1, 0]
        );
        assert!(order[1].0 >= later + Duration::from_secs(7));
        assert!(ages.order.is_empty() && ages.next_at().is_none());
    }

    #[test]
    fn an_age_that_nobody_reaches_is_never_due() {
        let now = Instant::now();
        let mut ages = Ages::new(Duration::from_secs(u64::from(u32::MAX)), now);
        ages.add(0, now);
        assert_eq!((ages.next_at(), ages.pop_due(now)), (None, None));
        ages.remove(0);
        assert!(ages.steps.is_empty());
    }
}
