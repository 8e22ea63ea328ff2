//! Channels that come, go and change.

use tokio::time::Instant;

use crate::reload::{config, status, subscribe, with_head};
use crate::support::{Connector, End, Gateway, Item, Origin, until, until_true, within};

#[tokio::test]
async fn a_client_of_an_unchanged_channel_never_notices() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let gateway = Gateway::with_config(&config(&[("a", &a, ""), ("b", &b, "")])).await;
    let mut sub = subscribe(&gateway, "a").await;
    a.send("id: 1\ndata: one\n\n").await;
    sub.expect_event("one").await;
    gateway
        .reload(
            &config(&[("a", &a, ""), ("b", &b, "end = \"clean\"")]),
            "applied",
        )
        .await;
    gateway.reload(&config(&[("a", &a, "")]), "applied").await;
    gateway
        .reload(&config(&[("a", &a, ""), ("c", &b, "")]), "applied")
        .await;
    a.send("id: 2\ndata: two\n\n").await;
    sub.expect_event("two").await;
    assert_eq!(a.n_connections(), 1, "its upstream was left alone");
}

#[tokio::test]
async fn a_changed_heartbeat_reaches_clients_that_are_there() {
    let origin = Origin::start().await;
    let of = |lines| config(&[("a", &origin, lines)]);
    let gateway = Gateway::with_config(&of("heartbeat = \"off\"")).await;
    let mut sub = subscribe(&gateway, "a").await;
    assert!(matches!(sub.next_item().await, Item::Retry(_)));
    gateway.reload(&of("heartbeat = \"1s\""), "applied").await;
    assert_eq!(sub.next_item().await, Item::Comment(String::new()));
    let lines = "heartbeat = \"1s\"\nheartbeat_form = \"event:idle\"";
    gateway.reload(&of(lines), "applied").await;
    let event = sub.next_event().await;
    assert_eq!(
        (event.event_type.as_str(), event.data.as_str()),
        ("idle", r#"{"interval_ms":1000}"#)
    );
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn changed_notices_ids_and_ends_hold_from_then_on_for_clients_that_are_there() {
    let origin = Origin::start().await;
    let of = |lines| with_head("[server]\ndrain = \"0s\"", &[("a", &origin, lines)]);
    let gateway = Gateway::with_config(&of("")).await;
    let mut sub = subscribe(&gateway, "a").await;
    origin.send("id: 1\ndata: one\n\n").await;
    assert_eq!(sub.expect_event("one").await.id.as_deref(), Some("1"));
    let lines =
        "notices = \"all\"\nids = \"gateway\"\nend = \"clean\"\nbackoff = { first = \"10ms\" }";
    gateway.reload(&of(lines), "applied").await;
    // The upstream learns it by itself, in a moment.
    let is_ours = async {
        for n in 2.. {
            origin.send(format!("id: {n}\ndata: {n}\n\n")).await;
            let event = sub.expect_event(&n.to_string()).await;
            if event.id.expect("an id") != n.to_string() {
                return;
            }
        }
    };
    within("an id of the gateway's", is_ours, || {
        "the origin's".to_owned()
    })
    .await;
    origin.stream().await.close();
    let notice = sub.next_event().await;
    assert_eq!(notice.event_type, "ssecast.upstream", "{notice:?}");
    gateway.signal("TERM");
    assert_eq!(sub.events_to_end().await.1, End::Clean);
}

#[tokio::test]
async fn a_smaller_history_lets_go_at_once_and_a_larger_one_keeps_what_is_there() {
    let origin = Origin::start().await;
    let of = |n| config(&[("a", &origin, &format!("history = {{ events = {n} }}"))]);
    let gateway = Gateway::with_config(&of(100)).await;
    let mut sub = subscribe(&gateway, "a").await;
    for n in 0..10 {
        origin.send(format!("id: {n}\ndata: {n}\n\n")).await;
    }
    sub.events_through("9").await;
    gateway.reload(&of(3), "applied").await;
    gateway.reload(&of(50), "applied").await;
    let client = gateway.connect().await;
    let mut late = client.subscribe("/a", "Last-Event-ID: 7\r\n").await;
    late.expect_event("8").await;
    late.expect_event("9").await;
    let client = gateway.connect().await;
    let mut later = client.subscribe("/a", "Last-Event-ID: 2\r\n").await;
    assert_eq!(later.next_event().await.event_type, "ssecast.reset");
    later.expect_event("7").await;
}

#[tokio::test]
async fn a_smaller_lag_limit_and_fewer_subscribers_hold_for_those_who_come_and_who_lag() {
    let origin = Origin::start().await;
    let of = |lines| config(&[("a", &origin, lines)]);
    let gateway = Gateway::with_config(&of("lag = { limit = \"4MiB\" }")).await;
    let mut reader = subscribe(&gateway, "a").await;
    let small = Connector::default()
        .receive_buffer(4096)
        .connect(&gateway)
        .await;
    let mut stalled = small.subscribe("/a", "").await;
    let data = "x".repeat(100_000);
    origin.send(format!("data: {data}\n\n")).await;
    reader.expect_event(&data).await;
    let lines = "lag = { limit = \"64KiB\" }\nmax_subscribers = 2\nrefuse = \"503\"";
    gateway.reload(&of(lines), "applied").await;
    assert_eq!(
        status(&gateway, "/a").await,
        200,
        "a place is not taken by HEAD"
    );
    let (refused, _) = gateway
        .connect()
        .await
        .ask("GET /a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    assert_eq!(refused.status, 503, "two are there");
    for n in 0..3 {
        origin.send(format!("data: {data}{n}\n\n")).await;
        reader.expect_event(&format!("{data}{n}")).await;
    }
    gateway.logged(1, &["too slow"]).await;
    let (_, end) = stalled.events_to_end().await;
    assert_ne!(end, End::Clean);
    origin.send("data: on\n\n").await;
    reader.expect_event("on").await;
}

#[tokio::test]
async fn a_removed_channel_is_404_at_once_and_says_goodbye_to_its_clients() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let head = "[server]\ndrain = \"1s\"";
    let gateway = Gateway::with_config(&with_head(head, &[("a", &a, ""), ("b", &b, "")])).await;
    let mut subs = Vec::new();
    for _ in 0..5 {
        subs.push(subscribe(&gateway, "a").await);
    }
    let upstream = a.stream().await;
    gateway
        .reload(&with_head(head, &[("b", &b, "")]), "applied")
        .await;
    assert_eq!(status(&gateway, "/a").await, 404);
    assert_eq!(status(&gateway, "/b").await, 200);
    for sub in &mut subs {
        assert_eq!(sub.expect_end().await, End::Cut, "it should come back");
    }
    upstream.closed().await;
    gateway.logged(1, &["a removed channel has ended"]).await;
    assert_eq!(a.n_connections(), 1);
}

#[tokio::test]
async fn a_channel_that_comes_back_while_the_old_one_drains_is_another() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let head = "[server]\ndrain = \"5s\"";
    let both = with_head(head, &[("a", &a, ""), ("b", &b, "")]);
    let gateway = Gateway::with_config(&both).await;
    let mut old = subscribe(&gateway, "a").await;
    gateway
        .reload(&with_head(head, &[("b", &b, "")]), "applied")
        .await;
    gateway.reload(&both, "applied").await;
    a.connection(2).await;
    let mut new = subscribe(&gateway, "a").await;
    a.connection(2).await.send("data: new\n\n").await;
    new.expect_event("new").await;
    // The old one goes, when its time has come, without an event of the new one's.
    assert_eq!(old.expect_end().await, End::Cut);
    a.connection(1).await.closed().await;
    a.connection(2).await.send("data: newer\n\n").await;
    new.expect_event("newer").await;
}

#[tokio::test]
async fn a_channel_whose_path_changes_keeps_its_clients() {
    let origin = Origin::start().await;
    let before = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&before).await;
    let mut sub = subscribe(&gateway, "a").await;
    let after = before.replace("path = \"/a\"", "path = \"/z\"\nhost = \"z.example\"");
    gateway.reload(&after, "applied").await;
    assert_eq!(status(&gateway, "/a").await, 404);
    assert_eq!(status(&gateway, "/z").await, 404, "for another host");
    let mut client = gateway.connect().await;
    client
        .send("GET /z HTTP/1.1\r\nHost: z.example\r\n\r\n")
        .await;
    let mut new = client.into_subscriber().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    new.expect_event("a").await;
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn a_reload_does_not_touch_a_slow_client_in_the_middle_of_an_event() {
    let origin = Origin::start().await;
    let of = |lines| config(&[("a", &origin, lines)]);
    let gateway = Gateway::with_config(&of("")).await;
    let mut reader = subscribe(&gateway, "a").await;
    let small = Connector::default()
        .receive_buffer(4096)
        .connect(&gateway)
        .await;
    let mut stalled = small.subscribe("/a", "").await;
    let data = "x".repeat(500_000);
    origin.send(format!("id: 1\ndata: {data}\n\n")).await;
    reader.expect_event(&data).await;
    for lines in [
        "retry = { max = \"9s\" }",
        "heartbeat = \"3s\"",
        "history = { events = 5 }",
    ] {
        gateway.reload(&of(lines), "applied").await;
    }
    origin.send("id: 2\ndata: b\n\n").await;
    assert_eq!(stalled.next_event().await.data, data);
    stalled.expect_event("b").await;
    reader.expect_event("b").await;
}

#[tokio::test]
async fn settings_that_alternate_quickly_end_as_they_were_set_last() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    let one = config(&[("a", &a, ""), ("b", &b, "")]);
    let other = config(&[("a", &a, "heartbeat = \"1s\""), ("c", &b, "")]);
    let gateway = Gateway::with_config(&one).await;
    let mut sub = subscribe(&gateway, "a").await;
    for _ in 0..20 {
        gateway.write_config(&other);
        gateway.signal("HUP");
        gateway.write_config(&one);
        gateway.signal("HUP");
    }
    gateway.reload(&other, "reload").await;
    until_true("the last one to be applied", async || {
        status(&gateway, "/c").await == 200
    })
    .await;
    assert_eq!(status(&gateway, "/b").await, 404);
    a.send("data: a\n\n").await;
    sub.expect_event("a").await;
    assert_eq!(sub.next_item().await, Item::Comment(String::new()));
    assert_eq!(a.n_connections(), 1);
    let is_rejected = |log: &String| log.contains("rejected");
    until("no reload to be rejected", || {
        let log = gateway.log();
        if is_rejected(&log) { Err(log) } else { Ok(()) }
    })
    .await;
}

/// Otherwise all of them would come back at once.
#[tokio::test]
async fn a_stop_lets_the_clients_of_a_removed_channel_leave_in_their_time() {
    let origin = Origin::start().await;
    let with = |channels: &[(&str, &Origin, &str)]| with_head("[server]\ndrain = \"3s\"", channels);
    let both = with(&[("a", &origin, ""), ("b", &origin, "")]);
    let mut gateway = Gateway::with_config(&both).await;
    let mut subs = Vec::new();
    for _ in 0..20 {
        subs.push(subscribe(&gateway, "b").await);
    }
    let begin = Instant::now();
    gateway
        .reload(&with(&[("a", &origin, "")]), "applied")
        .await;
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0));
    // Of ten on a shard, the last leaves when nine tenths of the time are over.
    let took = begin.elapsed();
    assert!(took.as_millis() > 1500, "{took:?}: {}", ended.log);
}
