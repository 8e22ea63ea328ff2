//! What a client gets first that has seen nothing, or whose last event nobody knows.

use std::collections::BTreeMap;

use crate::support::{Event, Gateway, Http2, Origin, Subscriber, one_channel};

const KEYED: &str = "join = \"latest\"\nconflate_by = \"/k\"\nhistory = { events = 3 }";

fn keyed(key: &str, value: u64) -> String {
    format!("data: {{\"k\":\"{key}\",\"v\":{value}}}\n\n")
}

/// What the events say, the newest of each key.
fn state(events: &[Event]) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for event in events {
        if event.event_type == "ssecast.reset" {
            state.clear();
        }
        let value: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
        if let Some(key) = value["k"].as_str() {
            state.insert(key.to_owned(), value["v"].to_string());
        }
    }
    state
}

/// Sends events, and waits until the gateway has them.
async fn tell(gateway: &Gateway, origin: &Origin, events: &str) {
    let mut sub = gateway.subscribe().await;
    origin
        .send(format!("{events}event: end\ndata: {{}}\n\n"))
        .await;
    while sub.next_event().await.event_type != "end" {}
}

async fn data(sub: &mut Subscriber, n: usize) -> Vec<String> {
    let mut data = Vec::new();
    while data.len() < n {
        data.push(sub.next_event().await.data);
    }
    data
}

#[tokio::test]
async fn a_newcomer_gets_what_join_says() {
    let events: String = (1..=5).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
    for (join, expected) in [
        ("\"live\"", &["6"][..]),
        ("\"all\"", &["1", "2", "3", "4", "5", "6"]),
        ("2", &["4", "5", "6"]),
        ("100", &["1", "2", "3", "4", "5", "6"]),
        ("\"latest\"", &["5", "6"]),
    ] {
        let origin = Origin::start().await;
        let gateway = Gateway::with(&format!("join = {join}"), &origin).await;
        let mut first = gateway.subscribe().await;
        origin.send(&events).await;
        first.events_through("5").await;
        let mut sub = gateway.subscribe().await;
        let client = Http2::connect(&gateway).await;
        let mut stream = client.subscribe().await;
        // Who resumes gets what it missed, whatever newcomers get.
        let mut resumed = gateway.resume_after("4").await;
        origin.send("id: 6\ndata: 6\n\n").await;
        assert_eq!(data(&mut sub, expected.len()).await, expected, "{join}");
        assert_eq!(data(&mut stream, expected.len()).await, expected, "{join}");
        assert_eq!(data(&mut resumed, 2).await, ["5", "6"]);
    }
}

#[tokio::test]
async fn who_cannot_resume_gets_what_on_gap_says() {
    for (on_gap, expected) in [
        ("all", &["2", "3", "4"][..]),
        ("live", &["4"]),
        ("latest", &["3", "4"]),
    ] {
        let origin = Origin::start().await;
        let keys = format!("on_gap = \"{on_gap}\"\nhistory = {{ events = 2 }}");
        let gateway = Gateway::with(&keys, &origin).await;
        let mut first = gateway.subscribe().await;
        for n in 0..=3 {
            origin.send(format!("id: {n}\ndata: {n}\n\n")).await;
        }
        first.events_through("3").await;
        for (id, reason) in [("0", "expired"), ("x", "unknown")] {
            let mut sub = gateway.resume_after(id).await;
            let reset = sub.next_event().await;
            let told = format!(r#"{{"reason":"{reason}","replay":"{on_gap}"}}"#);
            assert_eq!(
                (reset.event_type.as_str(), reset.data),
                ("ssecast.reset", told)
            );
            if id == "x" {
                origin.send("id: 4\ndata: 4\n\n").await;
            }
            let n = if id == "x" {
                expected.len()
            } else {
                expected.len() - 1
            };
            assert_eq!(data(&mut sub, n).await, expected[..n], "{on_gap}");
        }
    }
}

#[tokio::test]
async fn the_state_outlives_the_history_and_what_is_taken_back_is_gone() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(KEYED, &origin).await;
    let mut events: String = (0..50).map(|n| keyed(&format!("k{n}"), n)).collect();
    events.push_str("data: {\"k\":\"k7\"}\n\n");
    events.push_str(&keyed("k3", 100));
    tell(&gateway, &origin, &events).await;
    let mut sub = gateway.subscribe().await;
    let got = data(&mut sub, 50).await;
    // In the order of the log; the last is what the test itself has sent.
    assert!(
        got[0].contains("\"k0\"") && got[48].contains("\"k3\""),
        "{got:?}"
    );
    assert_eq!(got[49], "{}");
    assert!(!got.iter().any(|data| data.contains("\"k7\"")), "{got:?}");
    origin.send(keyed("k7", 5)).await;
    assert_eq!(data(&mut sub, 1).await, ["{\"k\":\"k7\",\"v\":5}"]);
}

/// Cuts a client off at every byte of what it gets first, and lets it come back with its last id:
/// what it knows then must be the state.
#[tokio::test]
async fn a_client_can_be_cut_at_every_byte_of_the_state() {
    for keys in [
        "",
        "cursor_on_connect = true",
        "on_gap = \"all\"\nlatest = { keys = 5 }",
    ] {
        let origin = Origin::start().await;
        // The last ones are in the history, so that some cuts resume exactly.
        let gateway = Gateway::with(&format!("{KEYED}\n{keys}"), &origin).await;
        let events: String = (0..6).map(|n| keyed(&format!("k{}", n % 5), n)).collect();
        let mut first = gateway.subscribe().await;
        origin.send(&events).await;
        first.events_through(r#"{"k":"k0","v":5}"#).await;
        let mut whole = Vec::new();
        let mut sub = gateway.subscribe().await;
        while !String::from_utf8_lossy(&whole).contains("\"v\":5}\nid: ") {
            whole.extend(sub.piece().await.expect("the state"));
        }
        let expected = state(&dispatch(&whole).0);
        assert_eq!(expected.len(), 5);
        for cut in 0..whole.len() {
            let (mut events, last_id) = dispatch(&whole[..cut]);
            let mut sub = match &last_id {
                Some(id) => gateway.resume_after(id).await,
                None => gateway.subscribe().await,
            };
            while state(&events) != expected {
                let event = sub.next_event().await;
                let is_reset = event.event_type == "ssecast.reset";
                assert!(!is_reset || last_id.is_some(), "cut at {cut}");
                if is_reset && keys.contains("on_gap") {
                    // It asked for the history, and is told that it is no state.
                    assert!(event.data.contains("\"replay\":\"all\""), "{}", event.data);
                    break;
                }
                events.push(event);
            }
        }
    }
}

/// The events of a stream that was cut off, and the last event ID then.
fn dispatch(bytes: &[u8]) -> (Vec<Event>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let (mut events, mut last_id) = (Vec::new(), None);
    let mut blocks = text.split("\n\n").peekable();
    while let Some(block) = blocks.next() {
        if blocks.peek().is_none() {
            break;
        }
        let mut event = Event::default();
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("data", data)) => data.clone_into(&mut event.data),
                Some(("event", event_type)) => event_type.clone_into(&mut event.event_type),
                Some(("id", id)) => last_id = Some(id.to_owned()),
                _ => {}
            }
        }
        if !event.data.is_empty() {
            events.push(event);
        }
    }
    (events, last_id)
}

#[tokio::test]
async fn thousands_of_keys_arrive_whole_in_every_framing() {
    const KEYS: u64 = 3000;
    let origin = Origin::start().await;
    let gateway = Gateway::with(KEYED, &origin).await;
    let pad = "x".repeat(300);
    let events: String = (0..KEYS)
        .map(|n| format!("data: {{\"k\":\"{pad}{n}\",\"v\":{n}}}\n\n"))
        .collect();
    let mut first = gateway.subscribe().await;
    origin.send(events).await;
    first
        .events_through(&format!("{{\"k\":\"{pad}{0}\",\"v\":{0}}}", KEYS - 1))
        .await;
    let client = Http2::connect(&gateway).await;
    let request = "GET /events HTTP/1.0\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    let mut old = gateway.connect().await;
    old.send(request).await;
    let subs = [
        gateway.subscribe().await,
        client.subscribe().await,
        old.into_subscriber().await,
    ];
    origin.send("event: t\ndata: {}\n\n").await;
    for mut sub in subs {
        for n in 0..KEYS {
            let event = sub.next_event().await;
            assert!(
                event.data.ends_with(&format!("\"v\":{n}}}")),
                "{n}: {event:?}"
            );
        }
        assert_eq!(sub.next_event().await.event_type, "t");
    }
}

#[tokio::test]
async fn keys_that_had_to_go_are_told() {
    let origin = Origin::start().await;
    let keys = format!("{KEYED}\nlatest = {{ keys = 2 }}");
    let gateway = Gateway::with(&keys, &origin).await;
    let events: String = (0..3).map(|n| keyed(&format!("k{n}"), n)).collect();
    let mut first = gateway.subscribe().await;
    origin.send(events).await;
    first.events_through(r#"{"k":"k2","v":2}"#).await;
    let mut sub = gateway.subscribe().await;
    let gap = sub.next_event().await;
    let told = r#"{"missed":"unknown","reason":"keys-given-up"}"#;
    assert_eq!(
        (gap.event_type.as_str(), gap.data.as_str()),
        ("ssecast.gap", told)
    );
    assert_eq!(
        data(&mut sub, 2).await,
        [r#"{"k":"k1","v":1}"#, r#"{"k":"k2","v":2}"#]
    );
}

#[tokio::test]
async fn what_the_upstream_may_have_missed_is_told_where_it_was() {
    let mut origin = Origin::start().await;
    let backoff = "backoff = { first = \"10ms\", max = \"20ms\" }";
    let gateway = Gateway::with(&format!("{KEYED}\n{backoff}"), &origin).await;
    tell(&gateway, &origin, &(keyed("a", 1) + &keyed("b", 1))).await;
    let mut there = gateway.subscribe().await;
    origin.go_away();
    origin.come_back().await;
    origin.open_connection().await.send(keyed("b", 2)).await;
    there.events_through(r#"{"k":"b","v":2}"#).await;
    // `a` may be old; `b` is not.
    let mut sub = gateway.subscribe().await;
    let mut types = Vec::new();
    for _ in 0..4 {
        let event = sub.next_event().await;
        types.push(if event.event_type.is_empty() {
            event.data
        } else {
            event.event_type
        });
    }
    let expected = [
        r#"{"k":"a","v":1}"#,
        "end",
        "ssecast.gap",
        r#"{"k":"b","v":2}"#,
    ];
    assert_eq!(types, expected);
}

#[tokio::test]
async fn a_reload_begins_and_ends_to_look_for_keys() {
    let origin = Origin::start().await;
    let config = |keys: &str| one_channel(&origin.url(), keys);
    let gateway = Gateway::with_config(&config("")).await;
    tell(
        &gateway,
        &origin,
        &(keyed("a", 1) + &keyed("a", 2) + &keyed("b", 1)),
    )
    .await;
    let latest = "join = \"latest\"\nconflate_by = \"/k\"";
    gateway.reload(&config(latest), "applied").await;
    let in_time = async || {
        // The writer follows a reload in its own time; until then, there is the history.
        let mut sub = gateway.subscribe().await;
        let first = data(&mut sub, 1).await;
        first == [r#"{"k":"a","v":2}"#]
    };
    crate::support::until_true("the newest of each key", in_time).await;
    let by_type = "join = \"latest\"\nconflate_by = \"type\"";
    gateway.reload(&config(by_type), "applied").await;
    crate::support::until_true("the newest of each type", async || {
        let mut sub = gateway.subscribe().await;
        data(&mut sub, 1).await == [r#"{"k":"b","v":1}"#]
    })
    .await;
    gateway.reload(&config(""), "applied").await;
    let mut sub = gateway.subscribe().await;
    origin.send(keyed("c", 1)).await;
    assert_eq!(data(&mut sub, 1).await, [r#"{"k":"c","v":1}"#]);
}

#[tokio::test]
async fn another_source_begins_with_no_state() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let config = |origin: &Origin| one_channel(&origin.url(), KEYED);
    let gateway = Gateway::with_config(&config(&old)).await;
    tell(&gateway, &old, &keyed("a", 1)).await;
    gateway.reload(&config(&new), "applied").await;
    let mut there = gateway.subscribe().await;
    new.stream().await.send(keyed("b", 1)).await;
    there.events_through(r#"{"k":"b","v":1}"#).await;
    let mut sub = gateway.subscribe().await;
    let first = sub.next_event().await;
    assert_eq!(first.data, r#"{"k":"b","v":1}"#, "{first:?}");
}

#[tokio::test]
async fn the_state_survives_a_restart() {
    let origin = Origin::start().await;
    let home = tempfile::tempdir().expect("a directory");
    let server = format!(
        "[server]\ndrain = \"0s\"\nstate = \"{}\"",
        home.path().display()
    );
    let config = one_channel(&origin.url(), &format!("{KEYED}\n{server}"));
    let mut gateway = Gateway::with_config(&config).await;
    let events: String = (0..9).map(|n| keyed(&format!("k{n}"), n)).collect();
    tell(&gateway, &origin, &events).await;
    let document = |sub: Subscriber| async {
        let mut sub = sub;
        let data = data(&mut sub, 10).await;
        (data, sub)
    };
    let (before, sub) = document(gateway.subscribe().await).await;
    drop(sub);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code, Some(0));
    let gateway = Gateway::with_config(&config).await;
    let (after, mut sub) = document(gateway.subscribe().await).await;
    assert_eq!(after, before);
    // No origin id: what was missed meanwhile is told, and a newcomer learns it too.
    assert_eq!(sub.next_event().await.event_type, "ssecast.gap");
    origin.newest().await.send(keyed("k1", 100)).await;
    sub.events_through(r#"{"k":"k1","v":100}"#).await;
    let mut late = gateway.subscribe().await;
    let mut got = Vec::new();
    while got.len() < 11 {
        let event = late.next_event().await;
        got.push(if event.event_type == "ssecast.gap" {
            "gap".to_owned()
        } else {
            event.data
        });
    }
    assert_eq!(got[9..], ["gap", r#"{"k":"k1","v":100}"#]);
    assert_eq!(got[1], before[2], "in the order of the log");
}
