//! Resuming while what is asked for is being given up.

use std::time::Duration;

use tokio::time::sleep;

use super::assert_sound;
use crate::support::{Gateway, Item, Origin};

/// Events that are sent, a few at a time.
const N_EVENTS: u64 = 4_000;

/// What a client saw that came again and again.
#[derive(Debug, Default)]
struct Seen {
    n_exact: u64,
    n_told: u64,
}

/// Comes and goes until it has seen the last event.
async fn visit_again_and_again(gateway: &Gateway, number: u64) -> Seen {
    let mut chance = fastrand::Rng::with_seed(number);
    let mut seen = Seen::default();
    let mut last: Option<u64> = None;
    while last != Some(N_EVENTS - 1) {
        let mut sub = match last {
            Some(id) => gateway.resume_after(&id.to_string()).await,
            None => gateway.subscribe().await,
        };
        let mut is_first = last.is_some();
        let mut n_left = chance.u32(1..30);
        // Who was told goes on to the first event: else it would come back with nothing.
        while n_left > 0 || last.is_none() {
            n_left = n_left.saturating_sub(1);
            let event = match sub.next_item().await {
                Item::Event(event) => event,
                Item::End(end) => panic!("{end:?}"),
                Item::Comment(_) | Item::Retry(_) => continue,
            };
            if event.event_type == "ssecast.reset" {
                assert!(is_first, "told at once or not at all");
                assert_eq!(event.data, "{\"reason\":\"expired\",\"replay\":\"all\"}");
                seen.n_told += 1;
                (is_first, last) = (false, None);
                continue;
            }
            let id = event.id.as_deref().and_then(|id| id.parse().ok());
            let id: u64 = id.unwrap_or_else(|| panic!("{event:?}"));
            if let Some(last) = last {
                assert_eq!(id, last + 1, "client {number}");
            }
            seen.n_exact += u64::from(std::mem::take(&mut is_first));
            last = Some(id);
            if id == N_EVENTS - 1 {
                break;
            }
        }
        drop(sub);
        sleep(Duration::from_millis(chance.u64(0..8))).await;
    }
    seen
}

#[tokio::test]
async fn who_resumes_where_history_ends_gets_each_event_once_or_is_told() {
    let origin = Origin::start().await;
    let keys = "history.events = 10\n[server]\nthreads = 2";
    let mut gateway = Gateway::with(keys, &origin).await;
    // Nobody misses the last event: it is the newest of what is kept.
    let saying = async {
        let mut n = 0;
        while n < N_EVENTS {
            let to = (n + fastrand::u64(1..8)).min(N_EVENTS);
            let events: String = (n..to).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
            origin.send(events).await;
            n = to;
            sleep(Duration::from_micros(500)).await;
        }
    };
    let visits = (0..20).map(|number| visit_again_and_again(&gateway, number));
    let (seen, ()) = tokio::join!(futures_util::future::join_all(visits), saying);
    let n_exact: u64 = seen.iter().map(|seen| seen.n_exact).sum();
    let n_told: u64 = seen.iter().map(|seen| seen.n_told).sum();
    assert!(
        n_exact > 100 && n_told > 100,
        "{n_exact} exact, {n_told} told"
    );
    assert_sound(&mut gateway);
}
