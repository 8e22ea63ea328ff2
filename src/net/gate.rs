//! Where new connections wait for their turn, when more come than the gateway wants to begin.
//!
//! A connection is dear when it begins: a TLS handshake is a millisecond of a core. After a restart, or
//! when a network comes back, thousands begin at once; the gate lets them in at a rate, the oldest
//! first, and those who are served already don't notice.
//!
//! It is fair between *lanes*, the listeners: each has a turn, and when the queue is full, it is the
//! newest of the longest lane that has to go. So a flood at one listener shuts nobody out of another.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::config::ConnectionRate;

/// A queue in front of what begins.
#[derive(Debug)]
pub struct Gate<T> {
    state: Mutex<State<T>>,
    /// Told when there is somebody to let in, or another rate.
    changed: Notify,
}

/// What becomes of who comes to the gate.
#[derive(Debug, PartialEq, Eq)]
pub enum Passage<T> {
    /// It may go on at once.
    Free(T),
    /// It, or another that came late, is one too many.
    Overflow(T),
    /// It waits.
    Waits,
}

#[derive(Debug)]
struct State<T> {
    /// `None`: everybody may go on at once.
    rate: Option<Rate>,
    queue: FairQueue<T>,
}

#[derive(Debug)]
struct Rate {
    settings: ConnectionRate,
    turns: Bucket,
    /// Refusing costs a handshake too, so it has a rate of its own: the same.
    refusals: Bucket,
}

/// How often in a second somebody is let in, if many wait.
const TIMER_TICKS_PER_SECOND: u32 = 250;

/// A token bucket.
type Bucket = RateLimiter<
    NotKeyed,
    InMemoryState,
    MonotonicClock,
    NoOpMiddleware<<MonotonicClock as governor::clock::Clock>::Instant>,
>;

/// A queue with lanes that take turns.
#[derive(Debug)]
struct FairQueue<T> {
    /// Those who wait, by lane; the next one to go is of the first. No lane is empty.
    lanes: VecDeque<(usize, VecDeque<T>)>,
    len: usize,
}

impl<T> Gate<T> {
    /// A gate with this rate; `None`: an open one.
    pub fn new(rate: Option<ConnectionRate>) -> Self {
        let state = State {
            rate: rate.map(Rate::new),
            queue: FairQueue::default(),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// Changes the rate. Who waits goes on waiting, at the new rate.
    pub fn set_rate(&self, rate: Option<ConnectionRate>) {
        let mut state = self.lock();
        if state.rate.as_ref().map(|rate| rate.settings) != rate {
            state.rate = rate.map(Rate::new);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Comes to the gate.
    pub fn come(&self, lane: usize, one: T) -> Passage<T> {
        let mut state = self.lock();
        let State { rate, queue } = &mut *state;
        let Some(rate) = rate else {
            // Those who are before it are on their way.
            if queue.is_empty() {
                return Passage::Free(one);
            }
            queue.push(lane, one);
            return Passage::Waits;
        };
        if queue.is_empty() && rate.turns.check().is_ok() {
            return Passage::Free(one);
        }
        queue.push(lane, one);
        let overflow = if queue.len() > rate.settings.queue {
            queue.pop_newest_of_longest()
        } else {
            None
        };
        drop(state);
        self.changed.notify_one();
        overflow.map_or(Passage::Waits, Passage::Overflow)
    }

    /// Whether one more may be told that it is refused. Who may not is not told.
    pub fn may_refuse(&self) -> bool {
        let state = self.lock();
        let rate = state.rate.as_ref();
        rate.is_none_or(|rate| rate.refusals.check().is_ok())
    }

    /// The next one to go on, when its turn has come. Who has left meanwhile costs no turn.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nobody and no turn is lost when the future is dropped.
    pub async fn next(&self, has_left: impl Fn(&T) -> bool) -> T {
        loop {
            match self.try_next(&has_left) {
                Ok(one) => return one,
                Err(None) => self.changed.notified().await,
                Err(Some(wait)) => sleep(wait).await,
            }
        }
    }

    /// How many wait.
    pub fn n_waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Sends away all who wait.
    pub fn clear(&self) -> usize {
        let queue = std::mem::take(&mut self.lock().queue);
        queue.len()
    }

    /// The next one, or how long to wait for it; `None`: until somebody comes.
    fn try_next(&self, has_left: impl Fn(&T) -> bool) -> Result<T, Option<Duration>> {
        let mut state = self.lock();
        let State { rate, queue } = &mut *state;
        while queue.oldest().is_some_and(&has_left) {
            drop(queue.pop_oldest());
        }
        if queue.is_empty() {
            return Err(None);
        }
        if let Some(rate) = rate
            && let Err(not_yet) = rate.turns.check()
        {
            return Err(Some(not_yet.wait_time_from(rate.turns.clock().now())));
        }
        queue.pop_oldest().ok_or(None)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rate {
    fn new(settings: ConnectionRate) -> Self {
        // A timer is no finer than a millisecond or two: those whose turn comes meanwhile go at once.
        let least = NonZeroU32::new(settings.per_second.get() / TIMER_TICKS_PER_SECOND);
        let burst = settings.burst.max(least.unwrap_or(NonZeroU32::MIN));
        let quota = Quota::per_second(settings.per_second).allow_burst(burst);
        Self {
            settings,
            turns: RateLimiter::direct_with_clock(quota, MonotonicClock),
            refusals: RateLimiter::direct_with_clock(quota, MonotonicClock),
        }
    }
}

impl<T> FairQueue<T> {
    fn push(&mut self, lane: usize, one: T) {
        self.len += 1;
        if let Some((_, waiting)) = self.lanes.iter_mut().find(|(known, _)| *known == lane) {
            waiting.push_back(one);
        } else {
            self.lanes.push_back((lane, VecDeque::from([one])));
        }
    }

    fn oldest(&self) -> Option<&T> {
        let (_, waiting) = self.lanes.front()?;
        waiting.front()
    }

    /// The oldest of the lane whose turn it is.
    fn pop_oldest(&mut self) -> Option<T> {
        let (lane, mut waiting) = self.lanes.pop_front()?;
        let one = waiting.pop_front();
        self.len -= usize::from(one.is_some());
        if !waiting.is_empty() {
            self.lanes.push_back((lane, waiting));
        }
        one
    }

    fn pop_newest_of_longest(&mut self) -> Option<T> {
        let longest = (0..self.lanes.len())
            .max_by_key(|index| self.lanes.get(*index).map(|(_, waiting)| waiting.len()))?;
        let (_, waiting) = self.lanes.get_mut(longest)?;
        let one = waiting.pop_back();
        if waiting.is_empty() {
            self.lanes.remove(longest);
        }
        self.len -= usize::from(one.is_some());
        one
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            lanes: VecDeque::new(),
            len: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, queue: usize) -> ConnectionRate {
        ConnectionRate {
            per_second: NonZeroU32::new(per_second).expect("some"),
            burst: NonZeroU32::MIN,
            queue,
        }
    }

    /// One that lets in one, and then nobody while a test runs.
    fn closed<T>(queue: usize) -> Gate<T> {
        let settings = rate(1, queue);
        let gate = Gate::new(Some(settings));
        let mut state = gate.lock();
        let hour = Quota::with_period(Duration::from_secs(3600)).expect("a time");
        let rate = state.rate.as_mut().expect("a rate");
        rate.turns = RateLimiter::direct_with_clock(hour, MonotonicClock);
        rate.refusals = RateLimiter::direct_with_clock(hour, MonotonicClock);
        drop(state);
        gate
    }

    #[test]
    fn lanes_take_turns_and_each_is_in_order() {
        let mut queue = FairQueue::default();
        for (lane, one) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)] {
            queue.push(lane, one);
        }
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop_oldest()).collect();
        assert_eq!(order, [10, 20, 30, 11, 31, 12]);
        assert!(queue.is_empty() && queue.lanes.is_empty());
    }

    #[test]
    fn a_full_queue_loses_the_newest_of_the_longest_lane() {
        let gate = closed(3);
        assert_eq!(gate.come(1, 0), Passage::Free(0));
        for one in 1..=3 {
            assert_eq!(gate.come(1, one), Passage::Waits);
        }
        assert_eq!(gate.come(1, 4), Passage::Overflow(4), "the newcomer itself");
        assert_eq!(gate.come(2, 20), Passage::Overflow(3), "one of the flood");
        assert_eq!(gate.come(1, 5), Passage::Overflow(5));
        assert_eq!(gate.n_waiting(), 3);
        assert_eq!(gate.clear(), 3);
        assert_eq!(gate.n_waiting(), 0);
    }

    #[test]
    fn refusals_have_a_rate_too() {
        let gate = closed::<()>(0);
        assert!(gate.may_refuse());
        assert!((0..100).all(|_| !gate.may_refuse()));
        let open = Gate::<()>::new(None);
        assert!((0..100).all(|_| open.may_refuse()));
    }

    #[test]
    fn without_a_queue_who_is_too_fast_is_refused() {
        let gate = closed(0);
        assert_eq!(gate.come(1, 0), Passage::Free(0));
        assert_eq!(gate.come(1, 1), Passage::Overflow(1));
    }

    #[tokio::test]
    async fn nobody_overtakes_and_a_rate_that_is_taken_away_lets_all_in() {
        let gate = closed(10);
        assert_eq!(gate.come(1, 0), Passage::Free(0));
        for one in 1..=3 {
            assert_eq!(gate.come(1, one), Passage::Waits);
        }
        let wait = gate.try_next(|_| false);
        assert!(wait.is_err_and(|wait| wait.is_some()));
        gate.set_rate(None);
        assert_eq!(gate.come(1, 4), Passage::Waits, "others are before it");
        for one in 1..=4 {
            assert_eq!(gate.next(|_| false).await, one);
        }
        assert_eq!(gate.come(1, 5), Passage::Free(5));
    }

    #[test]
    fn who_has_left_costs_no_turn() {
        let gate = closed(10);
        for one in 0..=3 {
            assert_ne!(gate.come(1, one), Passage::Overflow(one));
        }
        assert!(
            gate.try_next(|one| *one < 3)
                .is_err_and(|wait| wait.is_some())
        );
        assert_eq!(gate.n_waiting(), 1);
        assert_eq!(gate.try_next(|_| true), Err(None));
    }

    #[tokio::test]
    async fn they_come_in_at_the_rate() {
        let begin = tokio::time::Instant::now();
        let gate = Gate::new(Some(rate(1000, 100)));
        let mut n_free = 0;
        for one in 0..100 {
            match gate.come(1, one) {
                Passage::Free(_) => n_free += 1,
                Passage::Waits => {}
                Passage::Overflow(one) => panic!("{one} has no place"),
            }
        }
        for one in n_free..100 {
            assert_eq!(gate.next(|_| false).await, one);
        }
        let took = begin.elapsed();
        // But for the four that a tick of the timer lets in.
        assert!(took >= Duration::from_millis(96), "{took:?}");
    }
}
