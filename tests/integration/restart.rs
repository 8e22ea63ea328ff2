//! A restart: what the next process knows of the one before, and what clients notice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::support::{
    Answer, Client, Connector, End, Gateway, Item, Origin, Subscriber, one_channel, until,
};

/// A directory that outlives processes.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self, origin: &Origin, keys: &str) -> String {
        let state = self.path().display();
        let server = format!("[server]\ndrain = \"0s\"\nstate = \"{state}\"");
        one_channel(&origin.url(), &format!("{keys}\n{server}"))
    }

    async fn start(&self, origin: &Origin, keys: &str) -> Gateway {
        Gateway::with_config(&self.config(origin, keys)).await
    }
}

async fn stop(mut gateway: Gateway) {
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("the state is kept"), "{}", ended.log);
}

/// The ids of events with these data, which come next.
async fn ids(sub: &mut Subscriber, data: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for data in data {
        ids.extend(sub.expect_event(data).await.id);
    }
    ids
}

async fn expect_gap(sub: &mut Subscriber) {
    let gap = sub.next_event().await;
    assert_eq!(gap.event_type, "ssecast.gap", "{gap:?}");
    assert!(gap.data.contains(r#""missed":"unknown""#), "{gap:?}");
}

async fn expect_reset(sub: &mut Subscriber, reason: &str) {
    let reset = sub.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset", "{reset:?}");
    assert!(reset.data.contains(reason), "{reset:?}");
}

#[tokio::test]
async fn an_origin_that_resumes_by_its_id_makes_a_restart_complete() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "").await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: 1\ndata: a\n\nid: 2\ndata: b\n\n").await;
    assert_eq!(ids(&mut sub, &["a", "b"]).await, ["1", "2"]);
    stop(gateway).await;

    let gateway = home.start(&origin, "").await;
    let connection = origin.connection(2).await;
    assert_eq!(connection.request_field("last-event-id"), Some("2"));
    let mut sub = gateway.resume_after("1").await;
    // It repeats one that the history has, which is not delivered again.
    connection
        .send("id: 2\ndata: b\n\nid: 3\ndata: c\n\nid: 4\ndata: d\n\n")
        .await;
    assert_eq!(ids(&mut sub, &["b", "c", "d"]).await, ["2", "3", "4"]);
}

#[tokio::test]
async fn with_an_origin_without_ids_a_restart_is_a_gap_that_is_told() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "").await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\ndata: b\n\ndata: c\n\n").await;
    let before = ids(&mut sub, &["a", "b", "c"]).await;
    stop(gateway).await;

    let gateway = home.start(&origin, "").await;
    let connection = origin.connection(2).await;
    assert_eq!(connection.request_field("last-event-id"), None);
    let mut sub = gateway.resume_after(&before[0]).await;
    connection.send("data: d\n\n").await;
    assert_eq!(ids(&mut sub, &["b", "c"]).await, before[1..]);
    expect_gap(&mut sub).await;
    let after = ids(&mut sub, &["d"]).await;
    let epoch = |id: &str| id.split_once('-').expect("an id of ours").0.to_owned();
    assert_ne!(epoch(&after[0]), epoch(&before[0]), "a new epoch");
    // Ids that the process before would have given next were never given.
    let next = format!("{}-4", epoch(&before[0]));
    expect_reset(&mut gateway.resume_after(&next).await, "unknown").await;
}

#[tokio::test]
async fn with_another_upstream_the_history_stays_and_its_id_is_not_asked_for() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "").await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: 1\ndata: a\n\nid: 2\ndata: b\n\n").await;
    ids(&mut sub, &["a", "b"]).await;
    stop(gateway).await;

    let other = Origin::start().await;
    let gateway = home.start(&other, "").await;
    let connection = other.connection(1).await;
    assert_eq!(connection.request_field("last-event-id"), None);
    let mut sub = gateway.resume_after("1").await;
    connection.send("id: 1\ndata: other\n\n").await;
    sub.expect_event("b").await;
    expect_gap(&mut sub).await;
    sub.expect_event("other").await;
    // Which of the two a client has seen, nobody knows.
    expect_reset(&mut gateway.resume_after("1").await, "unknown").await;
}

#[tokio::test]
async fn after_several_restarts_the_first_ids_still_lead_somewhere() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "ids = \"gateway\"").await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: 1\ndata: a\n\nid: 2\ndata: b\n\n").await;
    let first = ids(&mut sub, &["a", "b"]).await;
    stop(gateway).await;
    // Stopped before its upstream could answer, it leaves what it was left.
    let away = Origin::answering(Answer::Nothing).await;
    stop(home.start(&away, "ids = \"gateway\"").await).await;
    let gateway = home.start(&origin, "ids = \"gateway\"").await;
    let connection = origin.connection(2).await;
    assert_eq!(connection.request_field("last-event-id"), Some("2"));
    let mut sub = gateway.resume_after(&first[0]).await;
    connection.send("id: 3\ndata: c\n\n").await;
    let seen = ids(&mut sub, &["b", "c"]).await;
    assert_eq!(seen[0], first[1]);
    let mut sub = gateway.resume_after(&seen[0]).await;
    assert_eq!(ids(&mut sub, &["c"]).await, seen[1..]);
}

/// A process that was killed has left nothing, and what the one before it left says nothing of what
/// happened since.
#[tokio::test]
async fn after_a_crash_nothing_of_an_earlier_process_is_taken_for_the_truth() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "").await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: 1\ndata: a\n\n").await;
    sub.expect_event("a").await;
    stop(gateway).await;
    let killed = home.start(&origin, "").await;
    origin.connection(2).await;
    drop(killed);

    let gateway = home.start(&origin, "").await;
    let mut sub = gateway.resume_after("1").await;
    expect_reset(&mut sub, "unknown").await;
    origin.connection(3).await.send("id: 9\ndata: b\n\n").await;
    sub.expect_event("b").await;
}

#[tokio::test]
async fn a_damaged_state_is_told_and_no_reason_not_to_start() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "").await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: 1\ndata: a\n\n").await;
    sub.expect_event("a").await;
    stop(gateway).await;
    let file = home.path().join("state");
    let mut bytes = std::fs::read(&file).expect("a state");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("it is written");

    let gateway = home.start(&origin, "").await;
    gateway
        .logged(1, &[" WARN ", "is not used", "a checksum is wrong"])
        .await;
    expect_reset(&mut gateway.resume_after("1").await, "unknown").await;
    stop(gateway).await;
}

#[tokio::test]
async fn two_processes_do_not_share_a_state() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let gateway = home.start(&origin, "").await;
    let mut second = home.start(&origin, "").await;
    second
        .logged(1, &[" WARN ", "another process uses it"])
        .await;
    second.signal("TERM");
    let ended = second.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(!ended.log.contains("the state is kept"), "{}", ended.log);
    stop(gateway).await;
}

#[tokio::test]
async fn the_service_managers_directory_is_used_unless_the_file_says_otherwise() {
    let (home, origin) = (Home::new(), Origin::start().await);
    let managed = Home::new();
    let start = async |keys: &str| {
        let config = one_channel(&origin.url(), keys);
        Gateway::with_environment(&config, "STATE_DIRECTORY", managed.path()).await
    };
    stop(start("").await).await;
    assert!(managed.path().join("state").exists());
    stop(start(&format!("[server]\nstate = \"{}\"", home.path().display())).await).await;
    assert!(home.path().join("state").exists());
    let mut gateway = start("[server]\nstate = \"none\"").await;
    gateway.signal("TERM");
    assert!(!gateway.ended().await.log.contains("the state is kept"));
}

// --- many clients ---

const CLIENTS: usize = 2000;

/// When the origin says its last.
const LAST: usize = 40;

/// How many clients have come how far.
#[derive(Default)]
struct Milestones {
    subscribed: AtomicUsize,
    /// They have seen an event.
    begun: AtomicUsize,
}

/// What became of a client.
struct Journey {
    /// The numbers of its events, in the order in which they came.
    seen: Vec<usize>,
    /// When it connected again, after the stop.
    returned: Duration,
}

/// An origin that counts, and that goes on after the id that it is asked for.
async fn count(origin: Arc<Origin>) {
    let mut ticks = interval(Duration::from_millis(200));
    let mut n_served = 0;
    for next in 1.. {
        ticks.tick().await;
        let n = LAST.min(next);
        let n_connections = origin.n_connections();
        let connection = origin.connection(n_connections).await;
        let first = if n_connections == n_served {
            next
        } else {
            let last = connection.request_field("last-event-id").unwrap_or("0");
            last.parse::<usize>().expect("a number") + 1
        };
        n_served = n_connections;
        let events = (first..=n).map(|n| format!("id: {n}\ndata: {n}\n\n"));
        let events: String = events.collect();
        if !events.is_empty() {
            // A process that has gone takes nothing: its successor asks for it.
            connection.try_send(events).await;
        }
    }
}

/// A client as a browser is: it resumes by id, when it was told to.
async fn travel(
    client: Client,
    milestones: Arc<Milestones>,
    mut addresses: watch::Receiver<Option<String>>,
    stopped_at: watch::Receiver<Option<Instant>>,
) -> Journey {
    let mut journey = Journey {
        seen: Vec::new(),
        returned: Duration::ZERO,
    };
    let mut sub = client.subscribe("/events", "").await;
    milestones.subscribed.fetch_add(1, Ordering::SeqCst);
    let mut retry = 0;
    while journey.seen.last() != Some(&LAST) {
        match sub.next_item().await {
            Item::Comment(_) => {}
            Item::Event(event) => {
                assert_eq!(event.event_type, "", "no loss is told: {event:?}");
                if journey.seen.is_empty() {
                    milestones.begun.fetch_add(1, Ordering::SeqCst);
                }
                journey.seen.push(event.data.parse().expect("a number"));
            }
            Item::Retry(time) => retry = time,
            Item::End(end) => {
                assert_eq!(end, End::Cut);
                sleep(Duration::from_millis(retry)).await;
                let address = addresses.wait_for(Option::is_some).await;
                let address = address
                    .expect("a gateway")
                    .clone()
                    .expect("it was waited for");
                let stopped_at = stopped_at.borrow().expect("it was stopped");
                journey.returned = stopped_at.elapsed();
                let seen = journey
                    .seen
                    .last()
                    .map(|n| format!("Last-Event-ID: {n}\r\n"));
                let client = Connector::default().connect_to(&address).await;
                sub = client.subscribe("/events", &seen.unwrap_or_default()).await;
            }
        }
    }
    journey
}

fn print_histogram(journeys: &[Journey]) -> BTreeMap<u64, usize> {
    let mut histogram = BTreeMap::new();
    for journey in journeys {
        let half_seconds = journey.returned.as_millis() / 500;
        let bin = u64::try_from(half_seconds).expect("few");
        *histogram.entry(bin).or_insert(0) += 1;
    }
    eprintln!("clients that came back, by time after the stop:");
    for (bin, n) in &histogram {
        let from = Duration::from_millis(bin * 500);
        eprintln!("{from:>6.1?} {n:>5} {}", "#".repeat(n / 10));
    }
    histogram
}

#[tokio::test]
async fn a_restart_loses_nothing_of_2000_clients_and_they_do_not_come_back_at_once() {
    let (home, origin) = (Home::new(), Arc::new(Origin::start().await));
    let config = home
        .config(&origin, "")
        .replace("drain = \"0s\"", "drain = \"2s\"\nthreads = 2");
    let mut gateway = Gateway::with_config(&config).await;
    let (address_tx, addresses) = watch::channel(None);
    let (stopped_tx, stopped_at) = watch::channel(None);
    let milestones = Arc::new(Milestones::default());
    let mut travels: Vec<JoinHandle<Journey>> = Vec::new();
    for _ in 0..CLIENTS {
        let client = gateway.connect().await;
        let milestones = Arc::clone(&milestones);
        let (addresses, stopped_at) = (addresses.clone(), stopped_at.clone());
        travels.push(tokio::spawn(travel(
            client, milestones, addresses, stopped_at,
        )));
    }
    let all_have = |n: &AtomicUsize| match n.load(Ordering::SeqCst) {
        CLIENTS => Ok(()),
        n => Err(format!("{n} have")),
    };
    until("all clients to be subscribed", || {
        all_have(&milestones.subscribed)
    })
    .await;
    let counting = tokio::spawn(count(Arc::clone(&origin)));
    until("all clients to see an event", || {
        all_have(&milestones.begun)
    })
    .await;

    stopped_tx.send_replace(Some(Instant::now()));
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let successor = Gateway::with_config(&config).await;
    address_tx.send_replace(Some(successor.address().to_owned()));

    let mut journeys = Vec::new();
    for travel in travels {
        let journey = timeout(Duration::from_secs(60), travel).await;
        journeys.push(
            journey
                .expect("every client sees the last event")
                .expect("a client"),
        );
    }
    counting.abort();
    let all: Vec<usize> = (1..=LAST).collect();
    for journey in &journeys {
        assert_eq!(journey.seen, all, "nothing lost, nothing doubled");
    }
    let histogram = print_histogram(&journeys);
    let most = histogram.values().max().copied().unwrap_or_default();
    assert!(
        most < CLIENTS / 4,
        "{most} clients came back within half a second"
    );
}
