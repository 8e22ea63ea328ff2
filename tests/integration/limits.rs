//! At a limit the newcomer is refused, never a standing client.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{End, Gateway, Head, Item, Origin, until, within};

/// Sends a request on a connection of its own, which must end if the answer says so.
async fn ask(gateway: &Gateway, request: &str) -> Head {
    let mut client = gateway.connect().await;
    let (head, _) = client.ask(request).await;
    if head.field("connection") == Some("close") {
        client.rest().await;
    }
    head
}

fn get(fields: &str) -> String {
    format!("GET /events HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Asserts that a client that asks for an event stream by name is told to come back later, in the
/// way that a page's `EventSource` understands.
async fn assert_told_to_come_back(gateway: &Gateway) -> u64 {
    let mut sub = gateway.subscribe().await;
    let time = match sub.next_item().await {
        Item::Retry(time) => time,
        other => panic!("waited for a reconnection time; {other:?}"),
    };
    assert!((5_000..=30_000).contains(&time), "{time}");
    assert_eq!(
        sub.next_item().await,
        Item::End(End::Cut),
        "without the last chunk"
    );
    time
}

fn assert_unavailable(head: &Head) -> u64 {
    assert_eq!(head.status, 503, "{}", head.text);
    assert_eq!(head.field("connection"), Some("close"), "{}", head.text);
    let after = head
        .field("retry-after")
        .and_then(|after| after.parse().ok());
    let after = after.unwrap_or_else(|| panic!("a time: {}", head.text));
    assert!((5..=30).contains(&after), "{after}");
    after
}

#[tokio::test]
async fn one_subscriber_too_many_is_told_to_come_back_and_the_others_stay() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("max_subscribers = 2", &origin).await;
    let mut standing = [gateway.subscribe().await, gateway.subscribe().await];
    let mut times = std::collections::BTreeSet::new();
    for _ in 0..10 {
        times.insert(assert_told_to_come_back(&gateway).await);
    }
    assert!(times.len() > 3, "random times: {times:?}");
    let mut times = std::collections::BTreeSet::new();
    for fields in ["", "Accept: */*\r\n", "Accept: text/*\r\n"].repeat(5) {
        times.insert(assert_unavailable(&ask(&gateway, &get(fields)).await));
    }
    assert!(times.len() > 3, "random times: {times:?}");
    origin.send("data: a\n\n").await;
    for sub in &mut standing {
        sub.expect_event("a").await;
    }
    assert_eq!(origin.n_connections(), 1);
    // A place that is given back can be had.
    let [one, mut two] = standing;
    drop(one);
    gateway.logged(1, &["a subscriber left"]).await;
    let mut next = gateway.subscribe().await;
    origin.send("data: b\n\n").await;
    next.expect_event("b").await;
    two.expect_event("b").await;
}

#[tokio::test]
async fn the_limit_of_a_channel_is_not_that_of_another() {
    let origin = Origin::start().await;
    let other = Origin::start().await;
    let gateway = Gateway::with(
        &format!(
            "max_subscribers = 1\n\
             [channels.other]\npath = \"/other\"\nupstream = \"{}\"",
            other.url()
        ),
        &origin,
    )
    .await;
    let _standing = gateway.subscribe().await;
    assert_told_to_come_back(&gateway).await;
    let mut sub = gateway.connect().await.subscribe("/other", "").await;
    other.send("data: a\n\n").await;
    sub.expect_event("a").await;
    // HEAD and OPTIONS take no place.
    assert_eq!(
        ask(&gateway, "HEAD /events HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&gateway, "OPTIONS /events HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn machine_clients_can_be_refused_by_503() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("max_subscribers = 1\nrefuse = \"503\"", &origin).await;
    let _standing = gateway.subscribe().await;
    assert_unavailable(&ask(&gateway, &get("Accept: text/event-stream\r\n")).await);
    let head = ask(
        &gateway,
        &get("Accept: text/event-stream, application/json\r\n"),
    )
    .await;
    assert_eq!(
        head.field("content-type"),
        Some("application/problem+json"),
        "{}",
        head.text
    );
    assert_unavailable(&head);
}

#[tokio::test]
async fn one_connection_too_many_is_refused_whatever_it_asks_for() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nmax_connections = 3", &origin).await;
    let mut standing = [gateway.subscribe().await, gateway.subscribe().await];
    let mut idle = gateway.connect().await;
    idle.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for _ in 0..5 {
        assert_told_to_come_back(&gateway).await;
        for request in [
            get(""),
            get("Accept: text/html\r\n"),
            "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "HEAD /events HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "OPTIONS /events HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        ] {
            assert_unavailable(&ask(&gateway, &request).await);
        }
    }
    // Who stands is served.
    idle.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.send("data: a\n\n").await;
    for sub in &mut standing {
        sub.expect_event("a").await;
    }
    assert_eq!(origin.n_connections(), 1);
    // A connection that ends gives its place back.
    drop(idle);
    let taking_it = async {
        loop {
            let mut sub = gateway.subscribe().await;
            sub.next_item().await;
            origin.send("data: b\n\n").await;
            match sub.next_item().await {
                Item::End(_) => {} // the gateway has not noticed yet
                item => return item,
            }
        }
    };
    let item = within("a place", taking_it, || "refusals".to_owned()).await;
    assert!(
        matches!(&item, Item::Event(event) if event.data == "b"),
        "{item:?}"
    );
}

#[tokio::test]
async fn a_flood_of_connections_beyond_the_limit_leaves_standing_clients_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nmax_connections = 2", &origin).await;
    let mut standing = [gateway.subscribe().await, gateway.subscribe().await];
    let before = gateway.n_descriptors();
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(gateway.connect().await);
    }
    origin.send("data: a\n\n").await;
    for sub in &mut standing {
        sub.expect_event("a").await;
    }
    until("few of the flood to have a descriptor", || {
        let n = gateway.n_descriptors() - before;
        if n <= 40 {
            Ok(())
        } else {
            Err(format!("{n} have one"))
        }
    })
    .await;
    drop(flood);
    until("the flood to be gone", || {
        let n = gateway.n_descriptors();
        if n <= before {
            Ok(())
        } else {
            Err(format!("{n} descriptors, {before} before"))
        }
    })
    .await;
    assert_told_to_come_back(&gateway).await;
}

fn config(origin: &Origin) -> String {
    let upstream = origin.url();
    format!(
        "[server]\nthreads = 1\n[listen.public]\naddress = \"127.0.0.1:0\"\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n"
    )
}

#[tokio::test]
async fn the_limit_on_descriptors_is_a_limit_on_connections() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let admin = directory.path().join("admin.sock");
    let config = format!(
        "{}[admin]\naddress = \"unix:{}\"\n",
        config(&origin),
        admin.display()
    );
    let gateway = Gateway::with_descriptors(160, &config).await;
    let mut standing = Vec::new();
    for _ in 0..10 {
        standing.push(gateway.subscribe().await);
    }
    let mut flood = Vec::new();
    for _ in 0..150 {
        flood.push(gateway.connect().await);
    }
    // The upstream is lost and found while descriptors are scarce.
    origin.connection(1).await.reset();
    origin.connection(2).await.send("data: a\n\n").await;
    for sub in &mut standing {
        let events = sub.events_through("a").await;
        assert_eq!(events.len(), 2, "a gap and an event: {events:?}");
    }
    // And whoever operates it can still ask how it is, several at a time.
    let mut askers = Vec::new();
    for path in ["/live", "/ready", "/status", "/metrics"] {
        let mut asker = UnixStream::connect(&admin).await.expect("admin is there");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        asker
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut status = [0; 12];
        let answer = within(path, asker.read_exact(&mut status), || "nothing".to_owned());
        answer.await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200", "{path}");
        askers.push(asker);
    }
    drop(flood);
    drop(standing);
    gateway.logged(10, &["a subscriber left"]).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: b\n\n").await;
    sub.expect_event("b").await;
    assert!(
        !gateway.log().contains("can't accept"),
        "descriptors were kept for refusals"
    );
}

/// Whatever the reserve is for, somebody else may have used it up.
#[tokio::test]
async fn without_any_descriptor_left_accepting_waits_and_does_not_spin() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nthreads = 1", &origin).await;
    let mut standing = gateway.subscribe().await;
    let allowed = gateway.limit_descriptors(gateway.n_descriptors() as u64);
    // In the queue of the kernel, from where nobody can take them.
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(gateway.connect().await);
    }
    gateway.logged(1, &["ERROR", "can't accept"]).await;
    // A spin shows only over some time.
    let before = gateway.cpu_time();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for number in 0..50 {
        ticks.tick().await;
        origin.send(format!("data: {number}\n\n")).await;
        standing.expect_event(&number.to_string()).await;
    }
    let used = gateway.cpu_time() - before;
    assert!(used < Duration::from_millis(300), "{used:?} of a second");
    let complaints = gateway.log().matches("can't accept").count();
    assert_eq!(complaints, 1, "it is not said again and again");
    gateway.limit_descriptors(allowed);
    for client in &mut waiting {
        let (head, _) = client.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(head.status, 404, "{}", head.text);
    }
}

#[tokio::test]
async fn what_a_machine_does_not_allow_is_told_by_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ssecast.toml");
    let config = "[server]\nmax_connections = 20000\nmemory = \"1000000GiB\"\n\
                  [listen.public]\naddress = \"127.0.0.1:0\"\n\
                  [channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n";
    std::fs::write(&file, config).expect("a file");
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 1000 && exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_ssecast"), "check"])
        .arg(&file)
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "they are no mistakes: {output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [
        "`max_connections` is 20000, but the hard limit of 1000 descriptors here allows",
        "ssecast.toml:2:19",
        "LimitNOFILE=",
        "`memory` is 1000000GiB, which leaves too little",
        "ssecast.toml:3:10",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn too_few_descriptors_are_told_with_what_to_do() {
    let origin = Origin::start().await;
    let ended = Gateway::fail_to_start_with_descriptors(90, &config(&origin)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("90 descriptors") && ended.log.contains("ulimit"),
        "{}",
        ended.log
    );
}
