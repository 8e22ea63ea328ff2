//! Where the gateway listens, and what it makes of many small writes.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{Connector, End, Gateway, Origin};

fn config(address: &str, origin: &Origin) -> String {
    let upstream = origin.url();
    format!(
        "[server]\ndrain = \"0s\"\n\n[listen.public]\naddress = {address}\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n"
    )
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory for a socket")
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[tokio::test]
async fn a_unix_socket_is_served_and_removed_on_stop() {
    let origin = Origin::start().await;
    let directory = directory();
    let path = directory.path().join("http.sock");
    let address = format!("unix:{}", path.display());
    let mut gateway = Gateway::with_config(&config(&format!("{address:?}"), &origin)).await;
    assert_eq!(gateway.addresses(), [address.as_str()]);
    let mut sub = Connector::default()
        .connect_to(&address)
        .await
        .subscribe("/events", "")
        .await;
    let mut left = Connector::default()
        .connect_to(&address)
        .await
        .subscribe("/events", "")
        .await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    left.expect_event("a").await;
    drop(left);
    gateway
        .logged(1, &["a subscriber left", "client-left"])
        .await;
    gateway.signal("TERM");
    assert_eq!(sub.expect_end().await, End::Cut);
    assert_eq!(gateway.ended().await.code, Some(0));
    assert!(!path.exists(), "the socket's file is removed");
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced() {
    let origin = Origin::start().await;
    let directory = directory();
    let path = directory.path().join("http.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(is_socket(&path), "dropping a listener leaves its file");
    let address = format!("unix:{}", path.display());
    let _gateway = Gateway::with_config(&config(&format!("{address:?}"), &origin)).await;
    Connector::default()
        .connect_to(&address)
        .await
        .subscribe("/events", "")
        .await;
}

#[tokio::test]
async fn a_unix_socket_that_somebody_serves_is_left_alone() {
    let origin = Origin::start().await;
    let directory = directory();
    let path = directory.path().join("http.sock");
    let other = UnixListener::bind(&path).expect("a socket");
    let address = format!("\"unix:{}\"", path.display());
    let ended = Gateway::fail_to_start(&config(&address, &origin)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("another process listens there"),
        "{}",
        ended.log
    );
    assert!(
        ended.log.contains(&path.display().to_string()),
        "{}",
        ended.log
    );
    assert!(is_socket(&path), "it is not ours to remove");
    drop(other);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let origin = Origin::start().await;
    let directory = directory();
    let path = directory.path().join("precious.txt");
    std::fs::write(&path, "precious").expect("a file");
    let address = format!("[\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let ended = Gateway::fail_to_start(&config(&address, &origin)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("not a socket"), "{}", ended.log);
    assert!(
        ended.log.contains(&path.display().to_string()),
        "{}",
        ended.log
    );
    assert!(ended.log.contains("listener `public`"), "{}", ended.log);
    assert_eq!(
        std::fs::read_to_string(&path).expect("the file"),
        "precious"
    );
}

#[tokio::test]
async fn an_address_in_use_is_refused_by_name() {
    let origin = Origin::start().await;
    let taken = origin.address().to_string();
    let ended = Gateway::fail_to_start(&config(&format!("{taken:?}"), &origin)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains(&taken) && ended.log.contains("in use"),
        "{}",
        ended.log
    );
}

#[tokio::test]
async fn several_addresses_are_one_gateway() {
    let origin = Origin::start().await;
    let directory = directory();
    let address = format!(
        "[\"127.0.0.1:0\", \"127.0.0.3:0\", \"unix:{}/s\"]",
        directory.path().display()
    );
    let gateway = Gateway::with_config(&config(&address, &origin)).await;
    let mut subs = Vec::new();
    for address in gateway.addresses() {
        subs.push(
            Connector::default()
                .connect_to(address)
                .await
                .subscribe("/events", "")
                .await,
        );
    }
    assert_eq!(subs.len(), 3);
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn with_coalesce_many_small_writes_of_the_origin_are_few_reads_of_a_client() {
    const WINDOW: Duration = Duration::from_millis(50);
    let origin = Origin::start().await;
    let gateway = Gateway::with("coalesce = \"50ms\"", &origin).await;
    let mut sub = gateway.subscribe().await;
    sub.next_item().await;
    let sender = origin.connection(1).await;
    let started = Instant::now();
    let sending = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        for n in 0..20 {
            ticks.tick().await;
            sender.send(format!("data: {n}\n\n")).await;
        }
    });
    let (mut n_reads, mut bytes) = (0, Vec::new());
    while !bytes.ends_with(b"\n\n\r\n") || !String::from_utf8_lossy(&bytes).contains("data: 19\n") {
        bytes.extend(sub.client.take_some(usize::MAX).await);
        n_reads += 1;
    }
    sending.await.expect("the origin");
    // One for each window that has begun, however slow the machine is.
    let n_windows = started.elapsed().as_millis() / WINDOW.as_millis() + 1;
    assert!(
        n_reads <= n_windows,
        "{n_reads} reads in {n_windows} windows"
    );
    let text = String::from_utf8_lossy(&bytes);
    let at: Vec<_> = (0..20)
        .map(|n| text.find(&format!("data: {n}\n")))
        .collect();
    assert!(
        at.iter().all(Option::is_some) && at.is_sorted(),
        "all 20, in order: {text}"
    );
}

#[tokio::test]
async fn with_coalesce_the_end_of_the_upstream_is_noticed_and_nothing_is_lost() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(
        "coalesce = \"20ms\"\nbackoff = { first = \"10ms\", max = \"20ms\" }",
        &origin,
    )
    .await;
    let mut sub = gateway.subscribe().await;
    for n in 1..=5 {
        let connection = origin.connection(n).await;
        connection
            .send(format!("data: a{n}\nid: {n}\n\ndata: b{n}\nid: b{n}\n\n"))
            .await;
        if n % 2 == 0 {
            connection.close();
        } else {
            connection.finish().await;
        }
        for data in [format!("a{n}"), format!("b{n}")] {
            let mut event = sub.next_event().await;
            if event.event_type == "ssecast.gap" {
                event = sub.next_event().await;
            }
            assert_eq!(event.data, data);
        }
    }
}
