//! Some of a hundred clients stall under load: what all others get, and what these do when they read
//! again.

use super::{Over, Prices, Slow, account, number, price};
use crate::support::{End, Gateway, Origin, Subscriber};

const N_CLIENTS: usize = 100;
const N_EVENTS: usize = 80;

/// Events that are sent before the next look at what came of them: less than the limit.
const AT_ONCE: usize = 4;

/// One, ten and fifty in a hundred.
const SHARES: [usize; 3] = [1, 10, 50];

/// Clients of which the first few stall, and events that all others have got.
struct Crowd {
    gateway: Gateway,
    stalled: Vec<Slow>,
    healthy: Vec<Subscriber>,
    origin: Origin,
}

impl Crowd {
    /// So many stall. The load is over when this returns, and every other client has got all of it, in
    /// order: each event is the next that it reads.
    async fn after_load(then: &str, n_stalled: usize) -> Self {
        let origin = Origin::start().await;
        let keys = format!(
            "lag = {{ limit = \"32KiB\", then = \"{then}\" }}\nconflate_by = \"/symbol\"\n\
             [server]\nthreads = 2"
        );
        let gateway = Gateway::with(&keys, &origin).await;
        let mut stalled = Vec::new();
        for n in 0..n_stalled {
            let over = [Over::Http1, Over::Http10, Over::Http2][n % 3];
            stalled.push(Slow::connect(&gateway, over).await);
        }
        let mut healthy = Vec::new();
        for _ in n_stalled..N_CLIENTS {
            healthy.push(gateway.subscribe().await);
        }
        let mut crowd = Self {
            gateway,
            stalled,
            healthy,
            origin,
        };
        for first in (0..N_EVENTS).step_by(AT_ONCE) {
            crowd.send(first..first + AT_ONCE).await;
        }
        crowd
    }

    async fn send(&mut self, numbers: std::ops::Range<usize>) {
        let block: String = (numbers.clone())
            .map(|n| format!("id: {n}\ndata: {}\n\n", price(n)))
            .collect();
        self.origin.send(block).await;
        for client in &mut self.healthy {
            for n in numbers.clone() {
                let event = client.next_event().await;
                assert_eq!(event.id.as_deref(), Some(n.to_string().as_str()));
                assert!(event.data == price(n), "{n} is changed");
            }
        }
    }
}

#[tokio::test]
async fn with_disconnect_the_stalled_resume_and_miss_nothing() {
    for n_stalled in SHARES {
        let mut crowd = Crowd::after_load("disconnect", n_stalled).await;
        for slow in &mut crowd.stalled {
            let (events, end) = slow.sub.events_to_end().await;
            assert_ne!(end, End::Clean, "it is to come back");
            let ids: Vec<String> = events.iter().filter_map(|one| one.id.clone()).collect();
            let expected: Vec<String> = (0..events.len()).map(|n| n.to_string()).collect();
            assert_eq!(ids, expected);
            assert!(events.len() < N_EVENTS, "it has lagged");
            let mut resumed = match ids.last() {
                Some(last) => crowd.gateway.resume_after(last).await,
                None => continue,
            };
            for n in events.len()..N_EVENTS {
                resumed.expect_event(&price(n)).await;
            }
        }
    }
}

#[tokio::test]
async fn with_skip_the_stalled_get_each_event_or_its_place_in_a_gap() {
    for n_stalled in SHARES {
        let mut crowd = Crowd::after_load("skip", n_stalled).await;
        for slow in &mut crowd.stalled {
            let mut events = Vec::new();
            while account(&events, 0).1 < N_EVENTS {
                let mut event = slow.sub.next_event().await;
                if let Some(id) = &event.id {
                    let n = id.parse().expect("a number");
                    assert!(event.data == price(n), "{n} is changed");
                    event.data = format!("{n}-");
                    assert_eq!(number(&event), n);
                }
                events.push(event);
            }
            assert!(account(&events, 0).0 > 0, "it has lagged");
        }
        crowd.send(N_EVENTS..N_EVENTS + 1).await;
        for slow in &mut crowd.stalled {
            slow.sub.expect_event(&price(N_EVENTS)).await;
        }
    }
}

#[tokio::test]
async fn with_conflate_the_stalled_end_with_the_state_of_all_others() {
    for n_stalled in SHARES {
        let mut crowd = Crowd::after_load("conflate", n_stalled).await;
        for slow in &mut crowd.stalled {
            let mut prices = Prices::default();
            while prices.n_events + prices.n_missed < N_EVENTS {
                prices.take(&slow.sub.next_event().await);
            }
            assert_eq!(prices.of, Prices::after(N_EVENTS));
            assert!(prices.n_missed > 0, "it has lagged");
        }
        crowd.send(N_EVENTS..N_EVENTS + 1).await;
        for slow in &mut crowd.stalled {
            slow.sub.expect_event(&price(N_EVENTS)).await;
        }
    }
}
