//! Clients that read slowly, or not at all: what they cost is bounded, and they can resume.

use crate::support::{Connector, End, Event, Gateway, Origin, Subscriber, until, within};

/// A client that the kernel can't hide.
const SMALL: u32 = 4096;

async fn small_client(gateway: &Gateway) -> Subscriber {
    let client = Connector::default()
        .receive_buffer(SMALL)
        .connect(gateway)
        .await;
    client.subscribe("/events", "").await
}

fn data(n: usize, size: usize) -> String {
    format!("{n}-{}", "x".repeat(size))
}

/// The numbers of events that were made by [`data`].
fn numbers(events: &[Event]) -> Vec<usize> {
    let numbers = events.iter().map(|event| {
        let digits = event.data.split('-').next().unwrap_or_default();
        digits
            .parse()
            .unwrap_or_else(|_| panic!("a number: {event:?}"))
    });
    numbers.collect()
}

/// Sends events and reads each with `reader`, so that no more is under way than one event.
async fn send_in_step(
    origin: &Origin,
    reader: &mut Subscriber,
    events: std::ops::Range<usize>,
    size: usize,
) {
    for n in events {
        let data = data(n, size);
        origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
        reader.expect_event(&data).await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_disconnected_and_can_resume() {
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"64KiB\" }\nhistory = { bytes = \"4MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let mut reader = gateway.subscribe().await;
    let mut stuck = small_client(&gateway).await;
    send_in_step(&origin, &mut reader, 0..300, 4096).await;
    let line = &gateway.logged(1, &["WARN", "too slow"]).await[0];
    assert!(
        line.contains("reason=\"lagged\"") && line.contains("channel=\"events\""),
        "{line}"
    );
    // It reads what the kernel had for it, and comes back with its last id.
    let (seen, end) = stuck.events_to_end().await;
    assert!(
        matches!(end, End::Cut | End::CutInChunk),
        "without the last chunk: {end:?}"
    );
    let seen = numbers(&seen);
    assert_eq!(seen, (0..seen.len()).collect::<Vec<_>>());
    assert!(
        !seen.is_empty() && seen.len() < 100,
        "{} events",
        seen.len()
    );
    let last = seen.len() - 1;
    let mut resumed = gateway.resume_after(&last.to_string()).await;
    let rest = numbers(&resumed.events_through(&data(299, 4096)).await);
    assert_eq!(rest, (last + 1..300).collect::<Vec<_>>());
    // And it is live again, as all others are.
    send_in_step(&origin, &mut reader, 300..301, 10).await;
    resumed.expect_event(&data(300, 10)).await;
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut_between_events() {
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"64KiB\" }\nhistory = { bytes = \"4MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let mut reader = gateway.subscribe().await;
    let mut slow = small_client(&gateway).await;
    let (mut events, mut n_sent) = (Vec::new(), 0);
    // It takes one while ten are sent.
    let end = loop {
        send_in_step(&origin, &mut reader, n_sent..n_sent + 10, 4096).await;
        n_sent += 10;
        match slow.next_item().await {
            crate::support::Item::Event(event) => events.push(event),
            crate::support::Item::End(end) => break end,
            _ => {}
        }
        assert!(n_sent < 10_000, "it is not cut");
    };
    assert_eq!(end, End::Cut, "not in an event");
    assert_eq!(numbers(&events), (0..events.len()).collect::<Vec<_>>());
    gateway.logged(1, &["WARN", "reason=\"lagged\""]).await;
}

#[tokio::test]
async fn a_stalled_client_delays_nobody_and_nobody_misses_anything() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nthreads = 2", &origin).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(small_client(&gateway).await);
    }
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(gateway.subscribe().await);
    }
    for n in 0..50 {
        let data = data(n, 10_000);
        origin.send(format!("data: {data}\n\n")).await;
        for reader in &mut readers {
            reader.expect_event(&data).await;
        }
    }
    // Within `lag.limit`, they missed nothing either.
    for sub in &mut stalled {
        let seen = numbers(&sub.events_through(&data(49, 10_000)).await);
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn stalled_clients_cost_bounded_memory() {
    const MIB: usize = 1024 * 1024;
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"256KiB\" }\nhistory = { bytes = \"1MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let mut reader = gateway.subscribe().await;
    let before = gateway.resident_bytes();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        stalled.push(small_client(&gateway).await);
    }
    let mut most = before;
    for round in 0..16 {
        send_in_step(
            &origin,
            &mut reader,
            round * 16..(round + 1) * 16,
            64 * 1024,
        )
        .await;
        most = most.max(gateway.resident_bytes());
    }
    // 16 MiB went through the log, to 200 clients that took nothing of it.
    let grown = most.saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {} KiB", grown / 1024);
    gateway.logged(200, &["reason=\"lagged\""]).await;
    gateway.logged(1, &["WARN", "reason=\"lagged\""]).await;
}

#[tokio::test]
async fn an_event_larger_than_the_lag_limit_reaches_who_reads() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("lag = { limit = \"16KiB\" }", &origin).await;
    let mut sub = gateway.subscribe().await;
    let mut small = small_client(&gateway).await;
    for n in 0..2 {
        let data = data(n, 800_000);
        origin.send(format!("data: {data}\n\n")).await;
        sub.expect_event(&data).await;
        small.expect_event(&data).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_a_little_at_a_time_gets_everything_in_order() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut reader = gateway.subscribe().await;
    let mut clients = Vec::new();
    for request in [
        "GET /events HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /events HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Connector::default()
            .receive_buffer(SMALL)
            .connect(&gateway)
            .await;
        client.send(request).await;
        clients.push(client.into_subscriber().await);
    }
    // Events of all sizes, so that writes end everywhere in them.
    let events: Vec<String> = (0..400).map(|n| data(n, n * n % 4001)).collect();
    let mut reading = Vec::new();
    for mut sub in clients {
        let last = events[events.len() - 1].clone();
        reading.push(tokio::spawn(async move { sub.events_through(&last).await }));
    }
    for some in events.chunks(7) {
        let text: String = some
            .iter()
            .map(|data| format!("data: {data}\n\n"))
            .collect();
        origin.send(text).await;
        for data in some {
            reader.expect_event(data).await;
        }
    }
    for reading in reading {
        let seen = within("a small client to read", reading, || {
            "it does not end".to_owned()
        })
        .await;
        let seen = seen.expect("a small client");
        let seen: Vec<&String> = seen.iter().map(|event| &event.data).collect();
        assert_eq!(seen, events.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_replay_larger_than_the_lag_limit_is_replayed_whole() {
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"64KiB\" }\nhistory = { bytes = \"4MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let mut reader = gateway.subscribe().await;
    send_in_step(&origin, &mut reader, 0..200, 10_000).await;
    let client = Connector::default()
        .receive_buffer(SMALL)
        .connect(&gateway)
        .await;
    let mut resumed = client.subscribe("/events", "Last-Event-ID: 0\r\n").await;
    // Live events come meanwhile.
    send_in_step(&origin, &mut reader, 200..210, 1000).await;
    let seen = numbers(&resumed.events_through(&data(209, 1000)).await);
    assert_eq!(seen, (1..210).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_burst_reaches_everybody_whole() {
    for coalesce in ["0s", "5ms"] {
        let origin = Origin::start().await;
        let keys = format!("coalesce = \"{coalesce}\"\n[server]\nthreads = 2");
        let gateway = Gateway::with(&keys, &origin).await;
        let mut readings = Vec::new();
        for _ in 0..100 {
            let mut sub = gateway.subscribe().await;
            readings.push(tokio::spawn(async move {
                sub.events_through(&data(1999, 200)).await
            }));
        }
        let burst: String = (0..2000)
            .map(|n| format!("data: {}\n\n", data(n, 200)))
            .collect();
        origin.send(burst).await;
        for reading in readings {
            let seen = within("the burst", reading, || "it is not whole".to_owned()).await;
            assert_eq!(
                numbers(&seen.expect("a reader")),
                (0..2000).collect::<Vec<_>>()
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_is_gone_while_it_is_written_to_is_forgotten() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut reader = gateway.subscribe().await;
    let before = gateway.n_descriptors();
    let mut stuck = Vec::new();
    for n in 0..20 {
        let connector = Connector::default().receive_buffer(SMALL);
        let connector = if n % 2 == 0 {
            connector.resetting()
        } else {
            connector
        };
        let client = connector.connect(&gateway).await;
        stuck.push(client.subscribe("/events", "").await);
    }
    send_in_step(&origin, &mut reader, 0..20, 20_000).await;
    drop(stuck);
    send_in_step(&origin, &mut reader, 20..25, 20_000).await;
    until("the descriptors of those who left to be closed", || {
        let n = gateway.n_descriptors();
        if n <= before {
            Ok(())
        } else {
            Err(format!("{n} descriptors, {before} before"))
        }
    })
    .await;
}
