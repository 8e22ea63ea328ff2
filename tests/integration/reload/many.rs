//! Many reloads under many clients: nothing is missed, and nothing is left behind.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::{
    ANYWHERE, Admin, Gateway, Origin, OriginConnection, Pair, Subscriber, until, until_async,
};

const N_CHANNELS: usize = 50;

/// These channels are never changed; the others are, again and again.
const N_UNTOUCHED: usize = 40;

const N_CLIENTS: usize = 5_000;
const N_RELOADS: usize = 200;

/// After so many reloads everything has been done once: what memory that takes is taken.
const WARM: usize = 40;

/// A multiple of what differs from one measurement to the next, and a fraction of what a leak of a
/// few kilobytes per reload would be.
const MOST_GROWTH: usize = 6 * 1024 * 1024;

/// The configuration after so many reloads: each differs from the one before in one channel, in the
/// listeners, or in the certificate of one.
fn config(origin: &Origin, pair: &Pair, step: usize) -> String {
    let mut config = format!(
        "[server]\ndrain = \"1s\"\n{ANYWHERE}\n[listen.public]\naddress = \"127.0.0.1:0\"\n\
         [listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {}\n",
        pair.table()
    );
    if step % 5 == 1 {
        config.push_str("[listen.sometimes]\naddress = \"127.0.0.1:0\"\n");
    }
    let changed = N_UNTOUCHED + step % (N_CHANNELS - N_UNTOUCHED);
    for number in 0..N_CHANNELS {
        let lines = match step % 4 {
            // Removed; the next step brings it back.
            2 if number == changed => continue,
            _ if number != changed => String::new(),
            0 => format!("heartbeat = \"{}s\"", 1 + step % 7),
            1 => "coalesce = \"5ms\"".to_owned(),
            _ => format!("upstream_headers = {{ X-Step = \"{step}\" }}"),
        };
        let url = origin.url();
        writeln!(
            config,
            "[channels.c{number}]\npath = \"/c{number}\"\nupstream = \"{url}?c{number}\"\n{lines}"
        )
        .expect("a string");
    }
    config
}

async fn subscribers(gateway: &Gateway) -> Vec<Subscriber> {
    let mut subscribers = Vec::with_capacity(N_CLIENTS);
    for number in 0..N_CLIENTS {
        let client = gateway.connect().await;
        let path = format!("/c{}", number % N_CHANNELS);
        subscribers.push(client.subscribe(&path, "").await);
    }
    subscribers
}

/// Waits until each channel has its stream.
async fn all_connected(gateway: &Gateway) {
    let admin = Admin::of(gateway).await;
    until_async("every channel to have its stream", async || {
        let status = admin.status().await;
        let channels = status["channels"].as_array().expect("the channels");
        let is_open = |channel: &&Value| channel["upstream"]["state"] == "open";
        match channels.iter().filter(is_open).count() {
            N_CHANNELS => Ok(()),
            n_open => Err(format!("{n_open} have")),
        }
    })
    .await;
}

/// The connections of the channels that are never changed: there is one for each.
async fn upstreams(origin: &Origin) -> Vec<OriginConnection> {
    let mut upstreams = Vec::new();
    for number in 1..=origin.n_connections() {
        upstreams.push(origin.connection(number).await);
    }
    upstreams.retain(|one| {
        let number = one
            .target()
            .rsplit_once("?c")
            .map(|(_, number)| number.parse());
        matches!(number, Some(Ok(number)) if (0..N_UNTOUCHED).contains(&number))
    });
    upstreams
}

#[tokio::test]
async fn two_hundred_reloads_under_five_thousand_clients_lose_nothing_and_leave_nothing() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let first = config(&origin, &pair, 0);
    let gateway = Gateway::with_config(&first).await;
    origin.connection(N_CHANNELS).await;
    let mut clients = subscribers(&gateway).await;
    let untouched = upstreams(&origin).await;
    assert_eq!(untouched.len(), N_UNTOUCHED);
    let mut n_sent = 0;
    let (mut warm_bytes, mut warm_descriptors) = (0, 0);
    for step in 1..=N_RELOADS {
        if step % 10 == 9 {
            // A renewed certificate: the file changes, the configuration may not.
            let renewed = Pair::new(&["gateway.test"]);
            // Each file by renaming, so that nobody reads half of one.
            std::fs::rename(renewed.key_file(), pair.key_file()).expect("a key");
            std::fs::rename(renewed.certificate_file(), pair.certificate_file())
                .expect("a certificate");
        }
        gateway
            .reload(&config(&origin, &pair, step), "applied")
            .await;
        if step % 8 == 0 {
            for upstream in &untouched {
                upstream
                    .send(format!("id: {n_sent}\ndata: {n_sent}\n\n"))
                    .await;
            }
            n_sent += 1;
        }
        if step == WARM {
            all_connected(&gateway).await;
            warm_bytes = gateway.resident_bytes();
            warm_descriptors = gateway.n_descriptors();
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        if number % N_CHANNELS < N_UNTOUCHED {
            for n in 0..n_sent {
                client.expect_event(&n.to_string()).await;
            }
        }
    }
    // Removed channels and their clients are gone by now, or soon; who is left was there all the time.
    until("the descriptors to be no more than before", || {
        let now = gateway.n_descriptors();
        if now <= warm_descriptors {
            Ok(())
        } else {
            Err(format!("{now}, not {warm_descriptors}"))
        }
    })
    .await;
    let bytes = gateway.resident_bytes();
    assert!(
        bytes < warm_bytes + MOST_GROWTH,
        "{} KiB more than after {WARM} reloads",
        (bytes - warm_bytes) / 1024
    );
    let log = gateway.log();
    let parts = [" ERROR ", "panicked", "rejected"];
    let is_bad = |line: &str| parts.iter().any(|part| line.contains(part));
    // When it happens to look between the two files of a pair, it has to wait for the other.
    let is_halfway = |line: &str| line.contains("the key is not that of the certificate");
    let lines: Vec<&str> = log.lines().collect();
    let bad = lines
        .windows(2)
        .find(|pair| is_bad(pair[1]) && !is_halfway(pair[0]));
    assert_eq!(bad, None);
    let n_upstreams = upstreams(&origin).await.len();
    assert_eq!(n_upstreams, N_UNTOUCHED, "one connection each");
}
