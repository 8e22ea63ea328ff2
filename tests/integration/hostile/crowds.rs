//! Thousands that read slowly or not at all, or never finish their request.

use tokio::task::JoinHandle;

use super::{ask, assert_sound, numbers_through};
use crate::support::{Client, Connector, Gateway, Origin, until};

/// A client that the kernel can't hide.
const SMALL: u32 = 4096;

/// Clients, those of them that stall, and what they are sent.
struct Crowd {
    n_reading: usize,
    n_stalled: usize,
    n_events: usize,
    size: usize,
}

impl Crowd {
    /// Sends the events to all, as fast as one of those who read gets them. Who reads gets all; who has
    /// stalled gets all but no more than it takes, and the rest when it comes back.
    async fn run(self) {
        let last = self.n_events - 1;
        let origin = Origin::start().await;
        let keys = "lag.limit = \"16KiB\"\nhistory.bytes = \"4MiB\"\n[server]\nthreads = 2";
        let mut gateway = Gateway::with(keys, &origin).await;
        let mut first = gateway.subscribe().await;
        let mut stalled = Vec::new();
        for _ in 0..self.n_stalled {
            let connector = Connector::default().receive_buffer(SMALL);
            let mut client = connector.connect(&gateway).await;
            ask(&mut client, "").await;
            client.head().await;
            stalled.push(client);
        }
        let mut reading = Vec::new();
        for _ in 0..self.n_reading {
            let mut client = gateway.connect().await;
            ask(&mut client, "").await;
            client.head().await;
            let task: JoinHandle<Vec<usize>> =
                tokio::spawn(async move { numbers_through(&mut client, last).await });
            reading.push(task);
        }
        let before = gateway.resident_bytes();
        for n in 0..self.n_events {
            let data = format!("{n} {}", "x".repeat(self.size));
            origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
            first.expect_event(&data).await;
        }
        let all: Vec<usize> = (0..self.n_events).collect();
        for reading in reading {
            assert_eq!(reading.await.expect("a reader"), all);
        }
        let grown = gateway.resident_bytes().saturating_sub(before);
        let allowed = (8 << 20) + self.n_stalled * (16 << 10) + self.n_events * self.size;
        assert!(grown < allowed, "grew by {} KiB", grown >> 10);
        let mut n_cut = 0;
        for client in stalled {
            n_cut += usize::from(come_back(&gateway, client, &all).await);
        }
        assert!(n_cut > self.n_stalled / 2, "{n_cut} were cut");
        assert_sound(&mut gateway);
    }
}

/// Reads what a client that has stalled was sent, and what is missing on another connection; returns
/// whether it was cut.
async fn come_back(gateway: &Gateway, mut client: Client, all: &[usize]) -> bool {
    let last = all.len() - 1;
    let mut seen = numbers_through(&mut client, last).await;
    let is_cut = seen.len() < all.len();
    if is_cut {
        let mut again = gateway.connect().await;
        let id = seen.last().map(|id| format!("Last-Event-ID: {id}\r\n"));
        ask(&mut again, &id.expect("it saw some")).await;
        seen.extend(numbers_through(&mut again, last).await);
    }
    assert_eq!(seen, all);
    is_cut
}

#[tokio::test]
async fn whatever_share_of_the_clients_has_stalled_the_others_get_all_and_they_resume() {
    for n_stalled in [2, 20, 100] {
        let crowd = Crowd {
            n_reading: 200 - n_stalled,
            n_stalled,
            n_events: 40,
            size: 4096,
        };
        crowd.run().await;
    }
}

#[tokio::test]
async fn two_thousand_clients_that_do_not_read_miss_nothing_when_they_come_back() {
    let crowd = Crowd {
        n_reading: 20,
        n_stalled: 2_000,
        n_events: 60,
        size: 1500,
    };
    crowd.run().await;
}

#[tokio::test]
async fn two_thousand_requests_that_come_byte_by_byte_disturb_nobody_and_end() {
    let origin = Origin::start().await;
    let keys = "[server]\nthreads = 2\nheader_timeout = \"1s\"";
    let mut gateway = Gateway::with(keys, &origin).await;
    origin.connection(1).await;
    let before = gateway.n_descriptors();
    let mut standing = vec![gateway.subscribe().await];
    let mut slow = Vec::new();
    for _ in 0..2_000 {
        slow.push(gateway.connect().await);
    }
    let request = "GET /events HTTP/1.1\r\nHost: a\r\nX-Slow: ".as_bytes();
    let mut sent = request.iter().cycle();
    let mut n = 0;
    while n < 8 {
        let byte = *sent.next().expect("a cycle");
        for client in &mut slow {
            // After a while it is closed.
            client.try_send([byte]).await.ok();
        }
        origin.send(format!("data: {n}\n\n")).await;
        for sub in &mut standing {
            sub.expect_event(&n.to_string()).await;
        }
        // Newcomers, too, are served meanwhile.
        standing.push(gateway.subscribe().await);
        n += 1;
    }
    for mut client in slow {
        let (answer, _) = client.rest().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{answer}"
        );
    }
    until("their descriptors to be closed", || {
        let n = gateway.n_descriptors();
        if n <= before + standing.len() {
            Ok(())
        } else {
            Err(format!("{n} descriptors, {before} before"))
        }
    })
    .await;
    origin.send("data: end\n\n").await;
    for sub in &mut standing {
        sub.expect_event("end").await;
    }
    assert_sound(&mut gateway);
}
