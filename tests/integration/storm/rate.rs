//! New connections begin at a rate, and the others wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{REQUEST, Received, Ticking, come, config, count_through_end, receive};
use crate::support::{
    ANYWHERE, Admin, Connector, End, Gateway, Origin, Pair, trusting_config, until,
};

/// Connects so many, one after another, which ask for the stream at once.
async fn connect(gateway: &Gateway, n: usize) -> Vec<crate::support::Client> {
    let mut clients = Vec::new();
    for _ in 0..n {
        let mut client = gateway.connect().await;
        client.send(REQUEST).await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn two_thousand_at_once_are_let_in_in_order_at_the_rate_and_nobody_who_stands_notices() {
    const N: usize = 2000;
    let origin = Arc::new(Origin::start().await);
    // One thread: of two, one may have its turn late, and with it all whom it serves.
    let rate = "threads = 1\nconnection_rate = { per_second = 1000, burst = 100, queue = 2000 }";
    let gateway = Gateway::with_config(&config(&origin, rate, "")).await;
    let mut standing = Vec::new();
    for _ in 0..5 {
        standing.push(gateway.subscribe().await);
    }
    let ticking = Ticking::begin(&origin);
    let begin = Instant::now();
    let clients = connect(&gateway, N).await;
    let mut coming = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        coming.spawn(async move {
            let (received, sub) = receive(client).await;
            assert_eq!(received, Received::In, "number {number}");
            (number, sub.expect("it is in"))
        });
    }
    let mut arrived = coming.join_all().await;
    let took = begin.elapsed();
    let least = Duration::from_millis(1000 * (N as u64 - 110) / 1000);
    assert!(took >= least, "they came in {took:?}");
    ticking.end().await;
    origin.send("data: end\n\n").await;
    let mut places = Vec::new();
    for (number, sub) in &mut arrived {
        places.push((count_through_end(sub).await, *number));
    }
    let mut counts = Vec::new();
    for sub in &mut standing {
        counts.push(count_through_end(sub).await);
    }
    assert!(
        counts.iter().all(|n| *n == counts[0] && *n > 20),
        "{counts:?}"
    );
    // The oldest first. Who was let in before another got more events; the test's own tasks have
    // their turns in any order.
    places.sort_by_key(|(n_events, number)| (std::cmp::Reverse(*n_events), *number));
    let off = places.iter().enumerate();
    let off = off.map(|(position, (_, number))| number.abs_diff(position));
    let mut off: Vec<usize> = off.collect();
    off.sort_unstable();
    assert!(
        off[N * 9 / 10] < 200,
        "places between coming and being let in: {off:?}"
    );
}

#[tokio::test]
async fn beyond_the_queue_newcomers_are_told_to_come_back_or_closed_and_all_are_counted() {
    const N: usize = 200;
    let origin = Origin::start().await;
    let rate = "connection_rate = { per_second = 20, burst = 10, queue = 20 }";
    let gateway = Gateway::with_config(&config(&origin, rate, "")).await;
    let admin = Admin::of(&gateway).await;
    let mut standing = gateway.subscribe().await;
    let mut coming = JoinSet::new();
    for client in connect_all(&gateway, N).await {
        coming.spawn(come(client));
    }
    let (mut subs, mut n_told, mut n_closed) = (Vec::new(), 0, 0);
    for (received, sub) in coming.join_all().await {
        match received {
            Received::In => subs.extend(sub),
            Received::Refused(_) => n_told += 1,
            Received::Closed => n_closed += 1,
        }
    }
    assert!(subs.len() >= 29, "{} are in", subs.len());
    assert!(
        n_told > 0 && n_closed > 0,
        "{n_told} were told, {n_closed} closed"
    );
    let limit = "ssecast_refused_connections_total{limit=\"connection-rate\"}";
    let refused = (N - subs.len()) as f64;
    admin
        .until(&[(limit, refused), ("ssecast_waiting_connections", 0.0)])
        .await;
    origin.send("data: a\n\n").await;
    standing.expect_event("a").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
}

/// Connects so many, which say nothing yet.
async fn connect_all(gateway: &Gateway, n: usize) -> Vec<crate::support::Client> {
    let mut clients = Vec::new();
    for _ in 0..n {
        clients.push(gateway.connect().await);
    }
    clients
}

#[tokio::test]
async fn a_flood_at_one_listener_does_not_shut_out_another() {
    let origin = Origin::start().await;
    let config = config(
        &origin,
        "connection_rate = { per_second = 10, burst = 1, queue = 100 }",
        "",
    );
    let config = format!("{config}[listen.quiet]\naddress = \"127.0.0.1:0\"\n");
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    let flood = connect_all(&gateway, 300).await;
    let quiet = gateway.addresses()[1].clone();
    let (received, sub) = come(Connector::default().connect_to(&quiet).await).await;
    assert_eq!(received, Received::In);
    let waiting = admin.metrics().await.value("ssecast_waiting_connections");
    assert!(
        waiting > 50.0,
        "it did not wait for the {waiting} of the flood"
    );
    origin.send("data: a\n\n").await;
    sub.expect("it is in").expect_event("a").await;
    drop(flood);
}

#[tokio::test]
async fn those_who_wait_are_among_max_connections_and_leave_with_a_stop() {
    let origin = Origin::start().await;
    let server = "max_connections = 30\ndrain = \"0s\"\n\
                  connection_rate = { per_second = 1, burst = 1, queue = 100 }";
    let mut gateway = Gateway::with_config(&config(&origin, server, "")).await;
    let admin = Admin::of(&gateway).await;
    let mut clients = connect_all(&gateway, 60).await;
    let metrics = admin.until(&[("ssecast_connections", 30.0)]).await;
    assert!(metrics.value("ssecast_waiting_connections") >= 20.0);
    assert_eq!(
        metrics.value("ssecast_refused_connections_total{limit=\"max-connections\"}"),
        30.0
    );
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for client in &mut clients {
        client.rest().await;
    }
}

#[tokio::test]
async fn a_reload_lets_those_in_who_wait() {
    let origin = Origin::start().await;
    let slow = config(
        &origin,
        "connection_rate = { per_second = 1, burst = 1, queue = 100 }",
        "",
    );
    let gateway = Gateway::with_config(&slow).await;
    let clients = connect(&gateway, 50).await;
    gateway.reload(&config(&origin, "", ""), "applied").await;
    let mut subs = Vec::new();
    for client in clients {
        let (received, sub) = receive(client).await;
        assert_eq!(received, Received::In);
        subs.extend(sub);
    }
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn who_leaves_while_it_waits_costs_no_turn() {
    let origin = Origin::start().await;
    let rate = "connection_rate = { per_second = 2, burst = 1, queue = 200 }";
    let gateway = Gateway::with_config(&config(&origin, rate, "")).await;
    let _first = gateway.subscribe().await;
    drop(connect_all(&gateway, 100).await);
    // Half a minute, if each of them had a turn; only a failure waits for so long.
    let (received, sub) = come(gateway.connect().await).await;
    assert_eq!(received, Received::In);
    origin.send("data: a\n\n").await;
    sub.expect("it is in").expect_event("a").await;
}

#[tokio::test]
async fn a_long_wait_counts_for_no_other_time_limit() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let server = "header_timeout = \"2s\"\nhandshake_timeout = \"2s\"\n\
                  connection_rate = { per_second = 1, burst = 1, queue = 200 }";
    let plain = config(&origin, server, "");
    let config = plain.replace(
        "address = \"127.0.0.1:0\"\n[admin]",
        &format!("address = \"127.0.0.1:0\"\ntls = {}\n[admin]", pair.table()),
    );
    let gateway = Gateway::with_config(&config).await;
    let trusting = trusting_config();
    let mut coming = JoinSet::new();
    for _ in 0..5 {
        let (address, trusting) = (gateway.address().to_owned(), Arc::clone(&trusting));
        coming.spawn(async move {
            let connector = Connector::default();
            let connecting = connector.connect_over_tls(&address, "gateway.test", &trusting);
            let (client, _) = connecting.await;
            client.subscribe("/events", "").await
        });
    }
    let mut subs = coming.join_all().await;
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn thousands_who_say_too_little_keep_nobody_out() {
    const N: usize = 2000;
    let origin = Arc::new(Origin::start().await);
    let server = "header_timeout = \"500ms\"\n\
                  connection_rate = { per_second = 1000, burst = 100, queue = 3000 }";
    let gateway = Gateway::with_config(&config(&origin, server, "")).await;
    let mut standing = gateway.subscribe().await;
    let ticking = Ticking::begin(&origin);
    let before = gateway.n_descriptors();
    let mut slow = connect_all(&gateway, N).await;
    for client in &mut slow {
        client.send("G").await;
    }
    let begin = Instant::now();
    let comers = connect(&gateway, 20).await;
    let mut subs = Vec::new();
    for client in comers {
        let (received, sub) = receive(client).await;
        assert_eq!(received, Received::In);
        subs.extend(sub);
    }
    let waited = begin.elapsed();
    assert!(
        waited < Duration::from_secs(6),
        "two seconds were before them: {waited:?}"
    );
    ticking.end().await;
    origin.send("data: end\n\n").await;
    assert!(count_through_end(&mut standing).await > 10);
    for sub in &mut subs {
        count_through_end(sub).await;
    }
    until("those who said too little to be gone", || {
        let n = gateway.n_descriptors();
        if n <= before + subs.len() {
            Ok(())
        } else {
            Err(format!("{n} descriptors, {before} before"))
        }
    })
    .await;
    for client in &mut slow {
        assert_ne!(client.rest().await.1, End::Clean);
    }
}

#[tokio::test]
async fn without_a_descriptor_to_accept_with_a_queue_goes_on() {
    let origin = Origin::start().await;
    let rate = "threads = 1\nconnection_rate = { per_second = 50, burst = 1, queue = 100 }";
    let gateway = Gateway::with_config(&config(&origin, rate, "")).await;
    let _standing = gateway.subscribe().await;
    let allowed = gateway.limit_descriptors(gateway.n_descriptors() as u64 + 10);
    let clients = connect(&gateway, 20).await;
    gateway.logged(1, &["ERROR", "can't accept"]).await;
    let mut received = Vec::new();
    let mut clients = clients.into_iter();
    for client in clients.by_ref().take(8) {
        received.push(receive(client).await);
    }
    gateway.limit_descriptors(allowed);
    for client in clients {
        received.push(receive(client).await);
    }
    origin.send("data: a\n\n").await;
    for (how, sub) in received {
        assert_eq!(how, Received::In);
        sub.expect("it is in").expect_event("a").await;
    }
}

#[tokio::test]
async fn a_rate_that_waits_for_too_long_is_warned_of_by_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ssecast.toml");
    let config = format!(
        "[server]\nconnection_rate = {{ per_second = 10, queue = 100000 }}\n\
         [listen.public]\naddress = \"127.0.0.1:0\"\n{ANYWHERE}\n\
         [channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n"
    );
    std::fs::write(&file, config).expect("a file");
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 1000 && exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_ssecast"), "check"])
        .arg(&file)
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "it is no mistake: {output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [
        "lets the last of a full queue wait",
        "`connection_rate.queue` is 100000, but",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
