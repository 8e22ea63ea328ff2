//! A stop with time: clients are sent away one after another, and live delivery goes on until the
//! last of them has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::support::{Connector, End, Gateway, Item, Origin, Subscriber, until, within};

/// What became of a client.
struct Farewell {
    /// When its stream ended, after the signal.
    after: Duration,
    end: End,
    /// The last reconnection time that it was told, in milliseconds.
    retry: u64,
    /// The data of its events.
    events: Vec<String>,
}

fn drain(time: &str) -> String {
    format!("[server]\nthreads = 2\ndrain = \"{time}\"")
}

/// Reads a stream to its end, on its own.
fn read_to_end(mut sub: Subscriber, signal_at: Instant) -> JoinHandle<Farewell> {
    tokio::spawn(async move {
        let (mut retry, mut events) = (0, Vec::new());
        loop {
            match sub.next_item().await {
                Item::Retry(time) => retry = time,
                Item::Event(event) => events.push(event.data),
                Item::Comment(_) => {}
                Item::End(end) => {
                    let after = signal_at.elapsed();
                    return Farewell {
                        after,
                        end,
                        retry,
                        events,
                    };
                }
            }
        }
    })
}

async fn farewells(readings: Vec<JoinHandle<Farewell>>) -> Vec<Farewell> {
    let mut farewells = Vec::new();
    for reading in readings {
        let read = within("the end of a stream", reading, || "it goes on".to_owned()).await;
        farewells.push(read.expect("a reader"));
    }
    farewells
}

/// Asserts that streams ended evenly over `slots`, with some patience for a busy machine.
fn assert_even(farewells: &[Farewell], slots: Duration) {
    const PATIENCE: Duration = Duration::from_millis(400);
    let mut ends: Vec<Duration> = farewells.iter().map(|one| one.after).collect();
    ends.sort_unstable();
    for (n, end) in (0_u32..).zip(&ends) {
        let n_all = u32::try_from(ends.len()).expect("few");
        let (from, to) = (slots * n / n_all, slots * (n + 1) / n_all);
        let is_in_slot = *end + PATIENCE >= from && *end <= to + PATIENCE;
        assert!(is_in_slot, "stream {n} ended after {end:?}: {ends:?}");
    }
}

#[tokio::test]
async fn clients_leave_evenly_in_random_order_and_are_told_when_to_come_back() {
    const CLIENTS: usize = 200;
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&drain("2s"), &origin).await;
    let mut subs = Vec::new();
    for _ in 0..CLIENTS {
        subs.push(gateway.subscribe().await);
    }
    origin.send("data: 0\n\n").await;
    for sub in &mut subs {
        sub.expect_event("0").await;
    }
    // Events go on, and so does their delivery to those who are still there.
    let n_sent = Arc::new(AtomicUsize::new(0));
    let connection = origin.connection(1).await;
    let counter = Arc::clone(&n_sent);
    let ticking = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
            connection.send(format!("data: {n}\n\n")).await;
        }
    });
    let signal_at = Instant::now();
    let readings = subs.into_iter().map(|sub| read_to_end(sub, signal_at));
    let readings: Vec<_> = readings.collect();
    gateway.signal("TERM");
    let farewells = farewells(readings).await;
    ticking.abort();
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);

    // A tenth of the time is left to those who are slow to take their goodbye.
    assert_even(&farewells, Duration::from_millis(1800));
    let in_order = farewells
        .windows(2)
        .filter(|two| two[0].after < two[1].after);
    let n_in_order = in_order.count();
    assert!(
        (50..150).contains(&n_in_order),
        "{n_in_order} in the order in which they came"
    );
    for one in &farewells {
        assert_eq!(one.end, End::Cut, "without the last chunk");
        let left = Duration::from_secs(2).saturating_sub(one.after);
        let wait = Duration::from_millis(one.retry).saturating_sub(left);
        let patience = Duration::from_millis(400);
        assert!(wait + patience >= Duration::from_secs(1), "{wait:?}");
        assert!(wait <= Duration::from_secs(5) + patience, "{wait:?}");
        // What came before the goodbye came whole and in order.
        let expected: Vec<String> = (1..=one.events.len()).map(|n| n.to_string()).collect();
        assert_eq!(one.events, expected);
    }
    let last = farewells.iter().max_by_key(|one| one.after).expect("some");
    let n_all = last.events.len();
    assert!(
        n_all >= 20,
        "the last one got only {n_all} of {n_sent:?} events"
    );
    let came: Vec<Duration> = farewells
        .iter()
        .map(|one| one.after + Duration::from_millis(one.retry))
        .collect();
    let spread = *came.iter().max().expect("some") - *came.iter().min().expect("some");
    assert!(
        spread > Duration::from_secs(3),
        "they come back within {spread:?}"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_at_the_deadline_and_delays_nobody() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&drain("1s"), &origin).await;
    let mut reader = gateway.subscribe().await;
    let connector = Connector::default().receive_buffer(4096);
    let mut stuck = connector
        .connect(&gateway)
        .await
        .subscribe("/events", "")
        .await;
    let data = "x".repeat(900 * 1024);
    origin.send(format!("data: {data}\n\n")).await;
    reader.expect_event(&data).await;
    let signal_at = Instant::now();
    let reading = read_to_end(reader, signal_at);
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    let took = signal_at.elapsed();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        took >= Duration::from_secs(1),
        "it has all the time: {took:?}"
    );
    assert!(took < Duration::from_millis(2500), "and no more: {took:?}");
    let [farewell] = &farewells(vec![reading]).await[..] else {
        panic!("one reader");
    };
    assert!(
        farewell.after < Duration::from_millis(1300),
        "{:?}",
        farewell.after
    );
    // It was in the middle of its event, where no goodbye can be said.
    assert_eq!(stuck.expect_end().await, End::CutInChunk);
}

#[tokio::test]
async fn who_comes_during_the_drain_is_told_to_come_back_later() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&drain("2s"), &origin).await;
    let mut idle = gateway.connect().await;
    idle.ask("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut half = gateway.connect().await;
    half.send("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n")
        .await;
    let mut machine = gateway.connect().await;
    machine.send("GET /events HTTP/1.1\r\nHost: a\r\n").await;
    // Each shard serves some of these, and so has read what came before.
    let mut subs = Vec::new();
    for _ in 0..20 {
        subs.push(gateway.subscribe().await);
    }
    let signal_at = Instant::now();
    let readings: Vec<_> = subs
        .into_iter()
        .map(|sub| read_to_end(sub, signal_at))
        .collect();
    gateway.signal("TERM");
    idle.rest().await;
    assert!(
        signal_at.elapsed() < Duration::from_secs(1),
        "an idle connection is closed at once"
    );
    half.send("\r\n").await;
    let mut half = half.into_subscriber().await;
    let left = Duration::from_secs(2).saturating_sub(signal_at.elapsed());
    let Item::Retry(retry) = half.next_item().await else {
        panic!("when to come back");
    };
    assert!(
        Duration::from_millis(retry) > left,
        "{retry} ms, with {left:?} left"
    );
    assert!(retry < 7000, "{retry} ms");
    assert_eq!(half.next_item().await, Item::End(End::Cut));
    machine.send("\r\n").await;
    let head = machine.head().await;
    assert_eq!(head.status, 503, "{}", head.text);
    farewells(readings).await;
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&drain("1h"), &origin).await;
    let mut sub = gateway.subscribe().await;
    gateway.signal("TERM");
    gateway.logged(1, &[" stopping "]).await;
    assert!(gateway.is_running(), "there is an hour");
    // Again and again: the first may be so early that it counts as an echo.
    until("the gateway to end", || {
        if gateway.is_running() {
            gateway.signal("INT");
            return Err("it runs".to_owned());
        }
        Ok(())
    })
    .await;
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(sub.expect_end().await, End::Cut);
}

/// As timeout(1) sends them: to the process, and to its group.
#[tokio::test]
async fn two_signals_at_once_are_one() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&drain("400ms"), &origin).await;
    let mut sub = gateway.subscribe().await;
    gateway.signals(&["TERM", "INT"]);
    assert_eq!(sub.expect_end().await, End::Cut);
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("a second time"), "{}", ended.log);
}

#[tokio::test]
async fn without_clients_a_stop_takes_no_time() {
    let origin = Origin::start().await;
    let mut gateway = Gateway::with(&drain("1h"), &origin).await;
    drop(gateway.subscribe().await);
    gateway.logged(1, &["a subscriber left"]).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn without_a_file_a_stop_takes_no_time() {
    let origin = Origin::start().await;
    let url = origin.url();
    let arguments = ["--upstream", &url, "--listen", "127.0.0.1:0"];
    let mut gateway = Gateway::without_file(&arguments).await;
    let mut sub = gateway.subscribe().await;
    let signal_at = Instant::now();
    gateway.signal("INT");
    assert_eq!(sub.expect_end().await, End::Cut);
    assert_eq!(gateway.ended().await.code, Some(0));
    assert!(signal_at.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_goodbye_is_framed_as_the_stream_is() {
    let origin = Origin::start().await;
    let keys = format!("end = \"clean\"\n{}", drain("300ms"));
    let mut gateway = Gateway::with(&keys, &origin).await;
    let mut sub = gateway.subscribe().await;
    let mut old = gateway.connect().await;
    old.send("GET /events HTTP/1.0\r\n\r\n").await;
    let mut old = old.into_subscriber().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    old.expect_event("a").await;
    gateway.signal("TERM");
    for (sub, end) in [(&mut sub, End::Clean), (&mut old, End::Cut)] {
        let retry = sub.next_item().await;
        assert!(matches!(retry, Item::Retry(1000..=5400)), "{retry:?}");
        assert_eq!(sub.next_item().await, Item::End(end));
    }
    assert_eq!(gateway.ended().await.code, Some(0));
}
