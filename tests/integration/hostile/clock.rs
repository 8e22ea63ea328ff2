//! The wall clock jumps. Only what is shown may follow it.

use std::path::Path;
use std::process::Command;

use crate::support::{ANYWHERE, Admin, Answer, End, Gateway, Item, Origin, one_channel};

/// Where Debian's package `faketime` brings the library.
fn library() -> String {
    let listed = Command::new("find")
        .args(["/usr/lib", "-name", "libfaketime.so.1"])
        .output()
        .expect("find");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let first = listed.lines().next().map(str::to_owned);
    first.expect("libfaketime is missing: apt-get install faketime, or tests/run test")
}

/// Makes the gateway's wall clock be so far off. Its monotonic clock is the system's.
fn jump(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, offset).expect("a file");
    std::fs::rename(new, file).expect("a file");
}

/// The year that the gateway believes it is. (Short answers have their date from hyper, which keeps it
/// for as long as the clock stands before it.)
async fn year(gateway: &Gateway) -> i64 {
    let sub = gateway.subscribe().await;
    let date = sub.head.field("date").expect("a date");
    let year = date.split(' ').nth(3).and_then(|year| year.parse().ok());
    year.unwrap_or_else(|| panic!("{date}"))
}

/// A gateway whose clock is as far off as `file` says.
async fn gateway_by(file: &Path, config: &str) -> Gateway {
    let preparation = format!(
        "export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 \
         FAKETIME_DONT_FAKE_MONOTONIC=1",
        library(),
        file.display()
    );
    Gateway::after(&preparation, config).await
}

#[tokio::test]
async fn an_origin_that_has_failed_is_left_alone_no_longer_because_the_clock_jumps() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("clock");
    jump(&file, "+0");
    let head = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering(Answer::RawAndClose(head.into())).await;
    let config = one_channel(&origin.url(), "connect = \"on-demand\"\n");
    let gateway = gateway_by(&file, &format!("{config}{ANYWHERE}")).await;
    let first = gateway.subscribe().await;
    gateway.logged(1, &["upstream failed"]).await;
    jump(&file, "-1d");
    drop(first);
    let admin = Admin::of(&gateway).await;
    admin
        .until(&[("ssecast_instances{channel=\"events\"}", 0.0)])
        .await;
    // It rests for the second that it was told, and not for a day.
    origin.answer_with(Answer::Chunked);
    let mut second = gateway.subscribe().await;
    origin.stream().await.send("data: a\n\n").await;
    second.expect_event("a").await;
}

#[tokio::test]
async fn clients_and_histories_do_not_notice_that_the_clock_jumps() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("clock");
    jump(&file, "+0");
    let origin = Origin::start().await;
    let keys = format!(
        "heartbeat = \"1s\"\nhistory.age = \"1h\"\nbackoff = {{ first = \"20ms\", max = \"1s\" }}\n{ANYWHERE}"
    );
    let gateway = gateway_by(&file, &one_channel(&origin.url(), &keys)).await;
    let admin = Admin::of(&gateway).await;
    let now = year(&gateway).await;
    let mut standing = gateway.subscribe().await;
    origin.send("id: 0\ndata: 0\n\n").await;
    standing.expect_event("0").await;
    for (n, (offset, away)) in [("+3650d", 10), ("-3650d", -10), ("+0", 0), ("+36500d", 100)]
        .into_iter()
        .enumerate()
    {
        jump(&file, offset);
        let there = year(&gateway).await - now;
        assert!((there - away).abs() <= 1, "{there} years for {offset}");
        // The upstream is lost and found meanwhile: how long that takes is not the wall clock's.
        origin.newest().await.reset();
        let connection = origin.connection(n + 2).await;
        assert_eq!(
            connection.request_field("last-event-id"),
            Some(&*n.to_string())
        );
        let next = (n + 1).to_string();
        connection
            .send(format!("id: {next}\ndata: {next}\n\n"))
            .await;
        standing.expect_event(&next).await;
        // Nothing is too old, and a heartbeat comes when it is time.
        let mut resumed = gateway.resume_after("0").await;
        assert_eq!(resumed.events_through(&next).await.len(), n + 1);
        loop {
            match standing.next_item().await {
                Item::Comment(_) => break,
                other => assert!(matches!(other, Item::Retry(_)), "{other:?}"),
            }
        }
        // What is shown is what it believes, and can be shown.
        assert_eq!(admin.get("/ready").await.0, 200);
        let status = admin.status().await;
        assert!(status.is_object(), "{status}");
        admin.metrics().await;
    }
    // A stop takes no longer, either.
    gateway.signal("TERM");
    assert_eq!(standing.expect_end().await, End::Cut);
}
