//! `[server] memory`: what is given up when there is too much, and what is not.

use std::fmt::Write as _;

use crate::support::{
    ANYWHERE, Admin, Connector, End, Gateway, Item, Origin, Subscriber, one_channel, until,
    until_async,
};

const MIB: usize = 1024 * 1024;

/// Each event's data begins with its number.
const EVENT_BYTES: usize = 16 * 1024;

/// Channels at `/0`, `/1`, … within 16 MiB, each of which may keep more than half of it.
async fn gateway(origin: &Origin, n_channels: usize) -> Gateway {
    gateway_that(origin, n_channels, "disconnect").await
}

/// The same with another policy for clients that lag.
async fn gateway_that(origin: &Origin, n_channels: usize, then: &str) -> Gateway {
    let mut config = "[server]\nmemory = \"16MiB\"\nthreads = 2\n\
                      [defaults]\nfirst_answer = \"20s\"\nhistory = { events = 100000, bytes = \"10MiB\" }\n\
                      lag.limit = \"10MiB\"\n[listen.public]\naddress = \"127.0.0.1:0\"\n"
        .to_owned();
    config = config.replace(
        "[listen.public]",
        &format!("lag.then = \"{then}\"\n[listen.public]"),
    );
    for n in 0..n_channels {
        let upstream = format!("http://{}/{n}", origin.address());
        let channel = format!("[channels.c{n}]\npath = \"/{n}\"\nupstream = \"{upstream}\"\n");
        config.push_str(&channel);
    }
    let gateway = Gateway::with_config(&config).await;
    until("every channel to be connected", || {
        match origin.n_connections() {
            n if n == n_channels => Ok(()),
            n => Err(format!("{n} are")),
        }
    })
    .await;
    gateway
}

async fn subscribe(gateway: &Gateway, channel: usize, fields: &str) -> Subscriber {
    let client = gateway.connect().await;
    client.subscribe(&format!("/{channel}"), fields).await
}

/// Sends so many events to a channel, numbered from 1, until `reader` has them all.
async fn fill(origin: &Origin, channel: usize, n_bytes: usize, reader: &mut Subscriber) {
    let target = format!("/{channel}");
    let mut number = 1;
    let connection = loop {
        let connection = origin.connection(number).await;
        if connection.target() == target {
            break connection;
        }
        number += 1;
    };
    let padding = "x".repeat(EVENT_BYTES);
    let mut n_sent = 0;
    while n_sent * EVENT_BYTES < n_bytes {
        let mut block = String::new();
        for _ in 0..4 {
            n_sent += 1;
            write!(block, "id: {n_sent}\ndata: {n_sent} {padding}\n\n").expect("a string");
        }
        connection.send(block).await;
        // In step, so that the reader lacks less than a write carries, at any time.
        reader.events_through(&format!("{n_sent} {padding}")).await;
    }
}

async fn fill_unread(gateway: &Gateway, origin: &Origin, channel: usize, n_bytes: usize) {
    let mut reader = subscribe(gateway, channel, "").await;
    fill(origin, channel, n_bytes, &mut reader).await;
}

/// How many of the events after the first a client can still have.
async fn n_retained(gateway: &Gateway, origin: &Origin, channel: usize) -> usize {
    let mut sub = subscribe(gateway, channel, "Last-Event-ID: 1\r\n").await;
    for number in 1..=origin.n_connections() {
        let connection = origin.connection(number).await;
        if connection.target() == format!("/{channel}") {
            connection.send("id: last\ndata: last\n\n").await;
        }
    }
    let events = sub.events_through("last").await;
    let ours = events
        .iter()
        .filter(|event| event.event_type != "ssecast.reset");
    ours.count() - 1
}

#[tokio::test]
async fn many_channels_with_large_histories_stay_within_the_limit_and_idle_ones_lose_theirs() {
    const N: usize = 12;
    let origin = Origin::start().await;
    let gateway = gateway(&origin, N).await;
    let before = gateway.resident_bytes();
    // The oldest history of all, but somebody reads there.
    let mut standing = subscribe(&gateway, 0, "").await;
    fill(&origin, 0, 4 * MIB, &mut standing).await;
    for channel in 1..N {
        fill_unread(&gateway, &origin, channel, 4 * MIB).await;
    }
    gateway
        .logged(1, &["WARN", "oldest history is given up"])
        .await;
    // 48 MiB came, of which the limit allows 16; the allocator has its own share.
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 36 * MIB, "{} MiB more", grown / MIB);
    let whole = 4 * MIB / EVENT_BYTES - 1;
    assert_eq!(
        n_retained(&gateway, &origin, 0).await,
        whole,
        "somebody reads there"
    );
    assert_eq!(n_retained(&gateway, &origin, 1).await, 0, "the oldest");
    let newest = n_retained(&gateway, &origin, N - 1).await;
    assert!(newest > whole / 2, "the newest has {newest}");
    standing.events_through("last").await;
    assert!(
        !gateway.log().contains("ERROR"),
        "there was history to give up"
    );
}

#[tokio::test]
async fn what_slow_clients_keep_is_given_up_when_there_is_no_history_left() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, 3).await;
    let mut standing = subscribe(&gateway, 2, "").await;
    let mut stalled = Vec::new();
    for channel in 0..3 {
        // It wants all that comes, and reads none of it.
        let connector = Connector::default().receive_buffer(4096);
        let client = connector.connect(&gateway).await;
        stalled.push(client.subscribe(&format!("/{channel}"), "").await);
        if channel == 2 {
            fill(&origin, channel, 8 * MIB, &mut standing).await;
        } else {
            fill_unread(&gateway, &origin, channel, 8 * MIB).await;
        }
    }
    gateway.logged(1, &["ERROR", "no history left"]).await;
    gateway
        .logged(2, &["a subscriber", "reason=\"lagged\""])
        .await;
    gateway.logged(1, &["memory for new clients again"]).await;
    // Who keeps up was never touched, and who comes is welcome.
    let mut newcomer = subscribe(&gateway, 2, "").await;
    for number in 1..=3 {
        origin
            .connection(number)
            .await
            .send("data: after\n\n")
            .await;
    }
    standing.expect_event("after").await;
    newcomer.expect_event("after").await;
    drop(stalled);
}

#[tokio::test]
async fn where_slow_clients_skip_they_stay_when_what_they_keep_is_given_up() {
    let origin = Origin::start().await;
    let gateway = gateway_that(&origin, 3, "skip").await;
    let (mut stalled, mut readers) = (Vec::new(), Vec::new());
    for channel in 0..3 {
        // It takes nothing for so long that a kernel asks only every few seconds whether a tiny buffer
        // has room; one that grows by itself takes nearly all.
        let client = Connector::default().receive_buffer(256 * 1024);
        let client = client.connect(&gateway).await;
        stalled.push(client.subscribe(&format!("/{channel}"), "").await);
        readers.push(subscribe(&gateway, channel, "").await);
    }
    for (channel, reader) in readers.iter_mut().enumerate() {
        fill(&origin, channel, 8 * MIB, reader).await;
    }
    gateway.logged(1, &["ERROR", "no history left"]).await;
    gateway.logged(1, &["memory for new clients again"]).await;
    // How many events were sent on each channel, as `fill` counts them.
    let n_sent = 8 * MIB / EVENT_BYTES;
    let mut n_skipped = 0;
    for mut slow in stalled {
        let mut next = 1;
        while next <= n_sent {
            let event = slow.next_event().await;
            if let Some(missed) = event.data.strip_prefix("{\"missed\":") {
                let digits = missed.split(',').next().unwrap_or_default();
                let n_missed: usize = digits.parse().expect("a number");
                assert!(n_missed > 100, "{n_missed} are missed");
                next += n_missed;
                n_skipped += 1;
                continue;
            }
            assert_eq!(event.id, Some(next.to_string()), "none is lost untold");
            next += 1;
        }
        assert_eq!(next, n_sent + 1);
    }
    assert!(n_skipped >= 2, "{n_skipped} have skipped");
    assert!(!gateway.log().contains("reason=\"lagged\""));
}

#[tokio::test]
async fn when_connections_take_all_memory_newcomers_are_refused_until_there_is_room() {
    // A connection that has not asked yet may take a whole head.
    const N_IDLE: usize = 16 * MIB / (16 * 1024) + 8;
    let origin = Origin::start().await;
    let config = one_channel(
        &origin.url(),
        "[server]\nmemory = \"16MiB\"\nheader_timeout = \"1m\"\nthreads = 1\n\
         max_header_bytes = \"16KiB\"",
    );
    let gateway = Gateway::with_config(&config).await;
    let mut standing = gateway.subscribe().await;
    let mut idle = Vec::new();
    for _ in 0..N_IDLE {
        idle.push(gateway.connect().await);
    }
    gateway.logged(1, &["ERROR", "no history left"]).await;
    let mut refused = gateway.subscribe().await;
    assert!(matches!(
        refused.next_item().await,
        Item::Retry(5_000..=30_000)
    ));
    assert_eq!(refused.next_item().await, Item::End(End::Cut));
    let request = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, _) = gateway.connect().await.ask(request).await;
    assert_eq!(head.status, 503, "{}", head.text);
    assert!(head.field("retry-after").is_some(), "{}", head.text);
    // Also one that came before.
    let mut early = idle.pop().expect("a client").subscribe("/events", "").await;
    assert!(matches!(
        early.next_item().await,
        Item::Retry(5_000..=30_000)
    ));
    origin.send("data: a\n\n").await;
    standing.expect_event("a").await;
    drop(idle);
    gateway.logged(1, &["memory for new clients again"]).await;
    let mut welcome = gateway.subscribe().await;
    origin.send("data: b\n\n").await;
    standing.expect_event("b").await;
    welcome.expect_event("b").await;
}

#[tokio::test]
async fn events_that_never_end_count_too() {
    const N: usize = 6;
    let origin = Origin::start().await;
    let gateway = gateway(&origin, N).await;
    for number in 1..=N {
        let connection = origin.connection(number).await;
        for _ in 0..6 {
            let line = "x".repeat(MIB / 2 - 100);
            connection.send(format!("data: {line}\n")).await;
        }
    }
    // Each has 3 MiB of an event, and there is no history to give up for them.
    gateway.logged(1, &["ERROR", "no history left"]).await;
    for number in 1..=N {
        origin.connection(number).await.send("\n").await;
    }
    gateway.logged(1, &["memory for new clients again"]).await;
}

#[tokio::test]
async fn channels_on_demand_and_views_count_with_their_keys_as_long_as_they_are_there() {
    const N: usize = 8;
    const KEY_BYTES: usize = 1000;
    let origin = Origin::start().await;
    let url = origin.url();
    let config = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n{ANYWHERE}\n[channels.room]\n\
         path = \"/rooms/{{room}}\"\nupstream = \"{url}/{{room}}\"\nlinger = \"0s\"\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{url}\"\nselect_events = true\n"
    );
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    let n_held = async || {
        let metrics = admin.metrics().await;
        metrics.value("ssecast_memory_bytes{for=\"instances\"}")
    };
    assert_eq!(n_held().await, 0.0);
    let key = "x".repeat(KEY_BYTES);
    let mut subs = Vec::new();
    for n in 0..N {
        let client = gateway.connect().await;
        subs.push(client.subscribe(&format!("/rooms/{n}{key}"), "").await);
    }
    let of_rooms = n_held().await;
    assert!(of_rooms > (N * KEY_BYTES) as f64, "{of_rooms} are held");
    let client = gateway.connect().await;
    let view = client.subscribe("/events?event=price", "").await;
    let of_both = n_held().await;
    assert!(of_both > of_rooms, "{of_both} are held");
    drop(subs);
    until_async("the rooms to be gone", async || {
        // The view stays a while.
        match n_held().await {
            held if held == of_both - of_rooms => Ok(()),
            held => Err(format!("{held} are held")),
        }
    })
    .await;
    drop(view);
}
