//! How many tunnels a proxy has, and how they are told to end.
//!
//! A tunnel has a place to its end. When its proxy is removed, or the gateway stops, the tunnels are
//! told once; each has a slot of its own between then and the deadline, so that those who come back do
//! not come back together. There is no list of tunnels and nobody who goes through one: each looks
//! after itself.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The tunnels of a proxy.
#[derive(Debug, Clone)]
pub struct Tunnels {
    shared: Arc<Shared>,
}

/// A tunnel's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// There are as many as the configuration allows.
    AtLimit,
    /// No tunnel is begun any more.
    Closing,
}

/// Why tunnels are ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// Their proxy is not in the configuration any more.
    Removed,
    /// The gateway stops.
    Stopped,
}

/// When a tunnel is ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) why: Farewell,
    pub(super) begin: Instant,
    /// When it is cut, however far its goodbye has come.
    pub(super) deadline: Instant,
}

#[derive(Debug)]
struct Shared {
    n_open: watch::Sender<usize>,
    order: watch::Sender<Option<Order>>,
    /// Slots that were given.
    n_slots: AtomicUsize,
}

/// The word to all tunnels.
#[derive(Debug, Clone, Copy)]
struct Order {
    why: Farewell,
    begin: Instant,
    deadline: Instant,
    /// How many there were.
    n_all: usize,
}

/// Of the time before the deadline, this much is left to those who have a slot late; less, where the
/// whole time is short.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl Default for Tunnels {
    fn default() -> Self {
        let shared = Shared {
            n_open: watch::Sender::new(0),
            order: watch::Sender::new(None),
            n_slots: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Tunnels {
    /// Takes a place among `max`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn enter(&self, max: usize) -> Result<Place, NoPlace> {
        if self.shared.order.borrow().is_some() {
            return Err(NoPlace::Closing);
        }
        let has_room = self.shared.n_open.send_if_modified(|n_open| {
            let has_room = *n_open < max;
            if has_room {
                *n_open += 1;
            }
            has_room
        });
        if has_room {
            Ok(Place {
                shared: Arc::clone(&self.shared),
            })
        } else {
            Err(NoPlace::AtLimit)
        }
    }

    /// Ends all tunnels until `deadline`, one after another, and begins none any more. An earlier
    /// deadline goes before one that was given before.
    pub fn part(&self, why: Farewell, deadline: Instant) {
        self.part_among(self.n_open(), why, deadline);
    }

    /// The first of so many: at once.
    #[cfg(test)]
    pub(super) fn part_first(&self, deadline: Instant) {
        self.part_among(1_000_000_000, Farewell::Stopped, deadline);
    }

    fn part_among(&self, n_all: usize, why: Farewell, deadline: Instant) {
        self.shared.order.send_if_modified(|order| {
            let is_sooner = order.is_none_or(|order| deadline < order.deadline);
            if is_sooner {
                self.shared.n_slots.store(0, Ordering::Relaxed);
                *order = Some(Order {
                    why,
                    begin: Instant::now(),
                    deadline,
                    n_all,
                });
            }
            is_sooner
        });
    }

    /// Ready when there is no tunnel.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn gone(&self) {
        let mut n_open = self.shared.n_open.subscribe();
        // An error says that the sender is gone; it is `self`.
        if n_open.wait_for(|n_open| *n_open == 0).await.is_err() {}
    }

    /// How many there are.
    pub fn n_open(&self) -> usize {
        *self.shared.n_open.borrow()
    }
}

impl Place {
    /// Ready when the tunnel is to end, with its slot. `latest`: until then it is to end in any case, so
    /// that only a word of less time is news.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(super) fn slot(
        &self,
        latest: Option<Instant>,
    ) -> impl Future<Output = Slot> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let is_news = |order: &Option<Order>| {
                order.is_some_and(|order| latest.is_none_or(|latest| order.deadline < latest))
            };
            let mut orders = shared.order.subscribe();
            let order = match orders.wait_for(is_news).await {
                Ok(order) => *order,
                // The sender is ours.
                Err(_gone) => None,
            };
            match order {
                Some(order) => shared.slot_of(order),
                None => pending().await,
            }
        }
    }
}

impl Shared {
    fn slot_of(&self, order: Order) -> Slot {
        let Order {
            why,
            begin,
            deadline,
            n_all,
        } = order;
        let number = self.n_slots.fetch_add(1, Ordering::Relaxed);
        let span = deadline.saturating_duration_since(begin);
        let slots = span - LAST_GRACE.min(span / 10);
        let place = ((number as f64 + fastrand::f64()) / n_all.max(1) as f64).min(1.0);
        Slot {
            why,
            begin: begin + slots.mul_f64(place),
            deadline,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.n_open.send_modify(|n_open| *n_open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn places_are_given_back_and_never_more_than_there_are() {
        let tunnels = Tunnels::default();
        let first = tunnels.enter(2).expect("a place");
        let second = tunnels.enter(2).expect("a place");
        assert_eq!(tunnels.enter(2).expect_err("none"), NoPlace::AtLimit);
        drop(first);
        let third = tunnels.enter(2).expect("a place");
        assert_eq!(tunnels.enter(0).expect_err("none"), NoPlace::AtLimit);
        drop((second, third));
        tunnels.gone().await;
        assert_eq!(tunnels.n_open(), 0);
    }

    #[tokio::test]
    async fn slots_follow_each_other_evenly_and_end_before_the_deadline() {
        let tunnels = Tunnels::default();
        let places: Vec<Place> = (0..100)
            .map(|_| tunnels.enter(100).expect("a place"))
            .collect();
        let now = Instant::now();
        let deadline = now + Duration::from_secs(20);
        tunnels.part(Farewell::Stopped, deadline);
        assert_eq!(tunnels.enter(1000).expect_err("none"), NoPlace::Closing);
        for (number, place) in places.iter().enumerate() {
            let slot = place.slot(None).await;
            assert_eq!((slot.why, slot.deadline), (Farewell::Stopped, deadline));
            let after = slot.begin - now;
            let begin = Duration::from_millis(190 * number as u64);
            // What the test itself has taken comes on top.
            let end = begin + Duration::from_millis(191) + now.elapsed();
            assert!((begin..end).contains(&after), "{number}: {after:?}");
            assert!(slot.begin <= deadline - LAST_GRACE);
        }
    }

    #[tokio::test]
    async fn a_stop_goes_before_the_removal_that_would_take_longer() {
        let tunnels = Tunnels::default();
        let place = tunnels.enter(1).expect("a place");
        let now = Instant::now();
        tunnels.part(Farewell::Removed, now + Duration::from_secs(60));
        tunnels.part(Farewell::Stopped, now + Duration::from_secs(5));
        tunnels.part(Farewell::Removed, now + Duration::from_secs(9));
        let slot = place.slot(None).await;
        assert_eq!(slot.why, Farewell::Stopped);
        assert_eq!(slot.deadline, now + Duration::from_secs(5));
    }

    #[tokio::test]
    async fn who_has_a_slot_is_told_of_a_sooner_end_and_of_no_other() {
        let tunnels = Tunnels::default();
        let place = tunnels.enter(1).expect("a place");
        let now = Instant::now();
        tunnels.part(Farewell::Removed, now + Duration::from_secs(60));
        let slot = place.slot(None).await;
        let mut next = pin!(place.slot(Some(slot.deadline)));
        assert!(next.as_mut().now_or_never().is_none());
        tunnels.part(Farewell::Stopped, now + Duration::from_secs(90));
        assert!(next.as_mut().now_or_never().is_none());
        tunnels.part(Farewell::Stopped, now + Duration::from_secs(5));
        let slot = next.await;
        assert_eq!(slot.why, Farewell::Stopped);
        assert_eq!(slot.deadline, now + Duration::from_secs(5));
    }
}
