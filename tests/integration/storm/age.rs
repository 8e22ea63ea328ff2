//! `max_age`: who was there for long enough leaves, at a time of its own, and comes back to where it
//! was.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Ticking, config};
use crate::support::{
    Admin, Connector, End, Event, Gateway, Http2, Item, Origin, Pair, Subscriber, trusting_config,
};

/// The numbers of all events to the end of the stream, the end, and when it should come back.
async fn read_to_end(sub: &mut Subscriber) -> (Vec<Event>, End, u64) {
    let (mut events, mut retry) = (Vec::new(), None);
    loop {
        match sub.next_item().await {
            Item::Event(event) => events.push(event),
            Item::Retry(time) => retry = Some(time),
            Item::End(end) => return (events, end, retry.expect("it is told")),
            Item::Comment(_) => {}
        }
    }
}

fn assert_contiguous(events: &[Event]) {
    let number = |event: &Event| event.data.parse::<u64>().expect("a number");
    for pair in events.windows(2) {
        assert_eq!(
            number(&pair[1]),
            number(&pair[0]) + 1,
            "in order, each once"
        );
    }
}

#[tokio::test]
async fn those_who_came_together_leave_spread_and_resume_exactly() {
    const N: usize = 300;
    let origin = Arc::new(Origin::start().await);
    let gateway = Gateway::with_config(&config(&origin, "", "max_age = \"2s\"")).await;
    let admin = Admin::of(&gateway).await;
    let ticking = Ticking::begin(&origin);
    let begin = Instant::now();
    let mut subs = Vec::new();
    for _ in 0..N {
        subs.push(gateway.subscribe().await);
    }
    let all_in = begin.elapsed();
    let mut leaving = JoinSet::new();
    for mut sub in subs {
        leaving.spawn(async move {
            let (events, end, retry) = read_to_end(&mut sub).await;
            (Instant::now(), events, end, retry)
        });
    }
    let gone = leaving.join_all().await;
    let (mut ends, mut retries) = (Vec::new(), std::collections::BTreeSet::new());
    for (at, events, end, retry) in &gone {
        assert_eq!(*end, End::Cut, "so that everybody comes back");
        assert_contiguous(events);
        ends.push(at.duration_since(begin));
        retries.insert(*retry);
    }
    ends.sort_unstable();
    let (first, last) = (ends[0], ends[N - 1]);
    assert!(
        first >= Duration::from_millis(1500),
        "the first left after {first:?}"
    );
    assert!(
        last <= all_in + Duration::from_secs(4),
        "the last left after {last:?}"
    );
    // They came within a moment, and no tenth of the time took most of them.
    let most = (0..40).map(|tenth| {
        let slot = Duration::from_millis(100 * tenth)..Duration::from_millis(100 * (tenth + 1));
        ends.iter().filter(|end| slot.contains(*end)).count()
    });
    let most = most.max().expect("some");
    assert!(most < N * 3 / 4, "{most} of {N} left together");
    assert!(retries.len() > N / 4, "random times: {retries:?}");
    admin
        .until(&[(
            "ssecast_disconnects_total{channel=\"events\",reason=\"aged\"}",
            N as f64,
        )])
        .await;
    // Each goes on where it was.
    for (_, events, ..) in gone.iter().take(20) {
        let last = events.last().expect("some");
        let mut again = gateway
            .resume_after(last.id.as_deref().expect("an id"))
            .await;
        let next = again.next_event().await;
        assert_contiguous(&[last.clone(), next]);
    }
    ticking.end().await;
}

#[tokio::test]
async fn over_tls_and_http_2_it_is_the_same() {
    let origin = Arc::new(Origin::start().await);
    let pair = Pair::new(&["gateway.test"]);
    let text = config(&origin, "", "max_age = \"1s\"").replacen(
        "\n[admin]",
        &format!("\ntls = {}\n[admin]", pair.table()),
        1,
    );
    let gateway = Gateway::with_config(&text).await;
    let ticking = Ticking::begin(&origin);
    let trusting = trusting_config();
    let connector = Connector::default();
    let (client, _) = connector
        .connect_over_tls(gateway.address(), "gateway.test", &trusting)
        .await;
    let http2 = Http2::connect_over_tls(&gateway).await;
    let mut tls = client.subscribe("/events", "").await;
    let mut stream = http2.subscribe().await;
    let (events, end, _) = read_to_end(&mut tls).await;
    assert_eq!(end, End::Cut);
    assert_contiguous(&events);
    let (events, end, _) = read_to_end(&mut stream).await;
    assert_eq!(end, End::Reset);
    assert_contiguous(&events);
    // The connection goes on, and so does the client.
    let last = events.last().expect("some");
    let fields = [("last-event-id", last.id.as_deref().expect("an id"))];
    let mut again = http2.subscribe_with("/events", &fields).await;
    let next = again.next_event().await;
    assert_contiguous(&[last.clone(), next]);
    ticking.end().await;
}

#[tokio::test]
async fn a_reload_begins_everybodys_time_anew() {
    let origin = Origin::start().await;
    let (unlimited, limited) = ("heartbeat = \"1s\"", "heartbeat = \"1s\"\nmax_age = \"1s\"");
    let gateway = Gateway::with_config(&config(&origin, "", unlimited)).await;
    let mut first = gateway.subscribe().await;
    let mut second = gateway.subscribe().await;
    gateway
        .reload(&config(&origin, "", limited), "applied")
        .await;
    assert_eq!(read_to_end(&mut first).await.1, End::Cut);
    assert_eq!(read_to_end(&mut second).await.1, End::Cut);
    let mut third = gateway.subscribe().await;
    gateway
        .reload(&config(&origin, "", unlimited), "applied")
        .await;
    let mut n_heartbeats = 0;
    while n_heartbeats < 2 {
        match third.next_item().await {
            Item::Comment(_) => n_heartbeats += 1,
            Item::Retry(_) => {}
            other => panic!("waited for a heartbeat; {other:?}"),
        }
    }
    origin.send("data: a\n\n").await;
    third.expect_event("a").await;
}

#[tokio::test]
async fn who_replays_leaves_at_the_end_of_an_event_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&config(&origin, "", "max_age = \"1s\"")).await;
    let admin = Admin::of(&gateway).await;
    let data = "x".repeat(64 * 1024);
    for number in 0..40 {
        origin
            .send(format!("id: {number}\ndata: {number} {data}\n\n"))
            .await;
    }
    origin.send("id: end\ndata: end\n\n").await;
    admin
        .until(&[("ssecast_upstream_events_total{channel=\"events\"}", 41.0)])
        .await;
    // It reads nothing until its time has come.
    let slow = Connector::default()
        .receive_buffer(4096)
        .connect(&gateway)
        .await;
    let mut slow = slow.subscribe("/events", "Last-Event-ID: 0\r\n").await;
    gateway.logged(1, &["a subscriber left", "aged"]).await;
    let (events, end, last) = {
        let (mut events, mut end) = (Vec::new(), None);
        while end.is_none() {
            match slow.next_item().await {
                Item::Event(event) => events.push(event),
                Item::End(how) => end = Some(how),
                Item::Comment(_) | Item::Retry(_) => {}
            }
        }
        let last = events.last().and_then(|event: &Event| event.id.clone());
        (events, end, last)
    };
    assert!(
        matches!(end, Some(End::Cut | End::CutInChunk | End::Reset)),
        "{end:?}"
    );
    for (position, event) in events.iter().enumerate() {
        assert!(
            event.data.starts_with(&format!("{} ", position + 1)),
            "{position}"
        );
    }
    let mut again = gateway.resume_after(last.as_deref().unwrap_or("0")).await;
    let next = again.next_event().await;
    assert!(
        next.data.starts_with(&format!("{} ", events.len() + 1)),
        "{}",
        next.data.len()
    );
}
