//! Whose ids clients see, and what an origin's bytes become.

use crate::support::{Event, Gateway, Origin, until_true};

/// The events of one upstream connection, as a client gets them.
async fn delivered(lines: &str, said: impl AsRef<[u8]>) -> (Origin, Gateway, Vec<Event>) {
    let origin = Origin::start().await;
    let gateway = Gateway::with(lines, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send(said).await;
    origin.send("\n\ndata: end\n\n").await;
    let mut events = sub.events_through("end").await;
    events.pop();
    (origin, gateway, events)
}

/// An id as the origin gave it, `#` for one of ours, `-` for none.
fn shape(event: &Event, origin_ids: &[&str]) -> String {
    match event.id.as_deref() {
        None => "-".to_owned(),
        Some(id) if origin_ids.contains(&id) => id.to_owned(),
        Some(id) => {
            assert!(number_of(id).is_some(), "{id:?} is neither's");
            "#".to_owned()
        }
    }
}

/// The epoch and the number of an id of ours.
fn number_of(id: &str) -> Option<(&str, u64)> {
    let (epoch, number) = id.split_once('-')?;
    let is_epoch = !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_epoch.then(|| Some((epoch, number.parse().ok()?)))?
}

const MIXED: &str = "id: a1\ndata: one\n\ndata: two\n\nid\ndata: three\n\nid: a4\n\n\
                     event: t\ndata: four\n\ndata: five\n\nid:a6\ndata: six\n\n";
const ORIGIN_IDS: [&str; 4] = ["a1", "", "a4", "a6"];

#[tokio::test]
async fn each_mode_gives_its_ids() {
    for (mode, expected) in [
        ("fill", ["a1", "#", "#", "a4", "#", "a6"]),
        ("gateway", ["#"; 6]),
        ("upstream", ["a1", "-", "", "a4", "-", "a6"]),
    ] {
        let (_origin, _gateway, events) = delivered(&format!("ids = \"{mode}\""), MIXED).await;
        let shapes: Vec<String> = events
            .iter()
            .map(|event| shape(event, &ORIGIN_IDS))
            .collect();
        assert_eq!(shapes, expected, "{mode}");
        let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(data, ["one", "two", "three", "four", "five", "six"]);
        assert_eq!(events[3].event_type, "t");
        let ours: Vec<(&str, u64)> = events
            .iter()
            .filter_map(|event| number_of(event.id.as_deref()?))
            .collect();
        assert!(
            ours.is_sorted_by(|a, b| a.0 == b.0 && a.1 < b.1),
            "{ours:?}"
        );
    }
}

#[tokio::test]
async fn every_id_that_was_given_can_be_resumed_from() {
    for mode in ["fill", "gateway", "upstream"] {
        let (_origin, gateway, events) = delivered(&format!("ids = \"{mode}\""), MIXED).await;
        for (n, event) in events.iter().enumerate() {
            let Some(id) = event.id.as_deref().filter(|id| !id.is_empty()) else {
                continue;
            };
            let mut sub = gateway.resume_after(id).await;
            let mut rest = sub.events_through("end").await;
            rest.pop();
            assert_eq!(rest, events[n + 1..], "{mode}: after {id}");
        }
    }
}

/// With ids of ours throughout, the origin's mean nothing downstream.
#[tokio::test]
async fn in_gateway_mode_an_id_of_the_origin_is_unknown() {
    let (_origin, gateway, events) = delivered("ids = \"gateway\"", MIXED).await;
    let mut sub = gateway.resume_after("a1").await;
    let reset = sub.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset");
    let mut history = sub.events_through("end").await;
    history.pop();
    assert_eq!(history, events);
}

#[tokio::test]
async fn another_gateway_gives_other_ids() {
    let (_origin, _gateway, first) = delivered("", "data: a\n\n").await;
    let (_other_origin, other, second) = delivered("", "data: a\n\n").await;
    assert_ne!(first[0].id, second[0].id);
    let id = first[0].id.as_deref().expect("an id");
    let reset = other.resume_after(id).await.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset");
}

/// A client knows our epoch from any id of ours; the largest number there is must not harm.
#[tokio::test]
async fn an_id_that_a_client_made_up_is_unknown() {
    let (origin, mut gateway, events) = delivered("", "data: a\n\n").await;
    let id = events[0].id.as_deref().expect("an id");
    let (epoch, _) = number_of(id).expect("one of ours");
    let mut standing = gateway.subscribe().await;
    for number in [
        "0",
        "3",
        "18446744073709551614",
        "18446744073709551615",
        "99999999999999999999",
    ] {
        let mut sub = gateway.resume_after(&format!("{epoch}-{number}")).await;
        let reset = sub.next_event().await;
        assert_eq!(reset.event_type, "ssecast.reset", "{number}");
        sub.events_through("end").await;
    }
    origin.send("data: b\n\n").await;
    standing.expect_event("b").await;
    assert!(gateway.is_running());
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn every_line_end_is_one() {
    for said in [
        "\u{feff}id: 1\ndata: a\ndata: b\n\n",
        "id: 1\r\ndata: a\r\ndata: b\r\n\r\n",
        "id: 1\rdata: a\rdata: b\r\r",
        "id: 1\r\ndata: a\rdata: b\n\r\n",
        ": comment\nid: 1\nunknown: x\ndata:a\ndata:b\n\n",
    ] {
        let (_origin, _gateway, events) = delivered("", said).await;
        let expected = Event {
            id: Some("1".to_owned()),
            event_type: String::new(),
            data: "a\nb".to_owned(),
        };
        assert_eq!(events, [expected], "{said:?}");
    }
}

#[tokio::test]
async fn what_is_not_utf_8_is_replaced() {
    let said = b"event: t\xff\nid: i\xc3\ndata: a\xf0\x9f\x92 b\xed\xa0\x80\n\n";
    let (_origin, gateway, events) = delivered("", said).await;
    let event = &events[0];
    assert_eq!(event.event_type, "t\u{fffd}");
    assert_eq!(event.id.as_deref(), Some("i\u{fffd}"));
    assert!(event.data.starts_with("a\u{fffd} b\u{fffd}"), "{event:?}");
    let mut sub = gateway.resume_after("i\u{fffd}").await;
    assert_eq!(sub.events_through("end").await.len(), 1);
}

#[tokio::test]
async fn an_event_may_come_in_any_pieces() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut sub = gateway.subscribe().await;
    let connection = origin.connection(1).await;
    for byte in "id: 1\r\ndata: \u{1f4a1}\r\n\r\n".as_bytes() {
        connection.send([*byte]).await;
    }
    let event = sub.expect_event("\u{1f4a1}").await;
    assert_eq!(event.id.as_deref(), Some("1"));
}

/// The data of what is kept: what a client gets that resumes from where nobody knows.
async fn history(origin: &Origin, gateway: &Gateway) -> Vec<String> {
    let mut sub = gateway.resume_after("nobody-knows").await;
    let reset = sub.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset");
    // Comes when it has its place, and ends what is kept now.
    origin.send("data: now\n\n").await;
    let mut events = sub.events_through("now").await;
    events.pop();
    events.into_iter().map(|event| event.data).collect()
}

#[tokio::test]
async fn the_history_is_bounded_by_events() {
    for (limit, expected) in [("1", &["end"][..]), ("3", &["b", "c", "end"])] {
        let lines = format!("history = {{ events = {limit} }}");
        let (origin, gateway, _) = delivered(&lines, "data: a\n\ndata: b\n\ndata: c\n\n").await;
        assert_eq!(history(&origin, &gateway).await, expected);
    }
}

#[tokio::test]
async fn the_history_is_bounded_by_bytes() {
    let origin = Origin::start().await;
    let lines = "history = { bytes = \"8KiB\" }\nlag.limit = \"8KiB\"";
    let gateway = Gateway::with(lines, &origin).await;
    let mut sub = gateway.subscribe().await;
    for n in 0..40 {
        let data = format!("{n} {}", "x".repeat(1000));
        origin.send(format!("data: {data}\n\n")).await;
        sub.expect_event(&data).await;
    }
    origin.send("data: end\n\n").await;
    sub.expect_event("end").await;
    let kept = history(&origin, &gateway).await;
    assert!(
        (5..=8).contains(&kept.len()),
        "{} events are kept",
        kept.len()
    );
    assert!(
        kept[kept.len() - 2].starts_with("39 "),
        "the newest are kept"
    );
}

#[tokio::test]
async fn the_history_is_bounded_by_age() {
    let lines = "history = { age = \"50ms\" }";
    let (origin, gateway, events) = delivered(lines, "data: old\n\n").await;
    let id = events[0].id.as_deref().expect("an id");
    // The first event that is gone is as good as kept: the one after it must be gone, too.
    until_true("the events to be too old", async || {
        !history(&origin, &gateway).await.contains(&"end".to_owned())
    })
    .await;
    let reset = gateway.resume_after(id).await.next_event().await;
    assert_eq!(reset.data, r#"{"reason":"expired","replay":"all"}"#);
}

/// Clients that come back resume from their last event; what is not kept, they are told.
#[tokio::test]
async fn without_a_history_only_the_newest_id_is_known() {
    let lines = "history = { events = 0 }";
    let (origin, gateway, events) = delivered(lines, "id: 1\ndata: a\n\nid: 2\ndata: b\n\n").await;
    assert_eq!(events[1].id.as_deref(), Some("2"));
    let mut standing = gateway.subscribe().await;
    origin.send("id: 3\ndata: c\n\n").await;
    standing.expect_event("c").await;
    let mut sub = gateway.resume_after("2").await;
    let reset = sub.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset");
    origin.send("id: 4\ndata: d\n\n").await;
    sub.expect_event("d").await;
    let mut sub = gateway.resume_after("4").await;
    origin.send("id: 5\ndata: e\n\n").await;
    sub.expect_event("e").await;
}

/// It holds its own cursor: a cut in the middle of the replay must resume from there.
#[tokio::test]
async fn the_tip_is_told_to_new_clients_only_and_only_if_configured() {
    for (keys, id, expected) in [
        ("cursor_on_connect = true", None, true),
        ("cursor_on_connect = true", Some("1"), false),
        ("cursor_on_connect = true", Some("nobody-knows"), false),
        ("", None, false),
        ("", Some("1"), false),
    ] {
        let said = "id: 1\ndata: a\n\nid: 2\ndata: b\n\n";
        let origin = Origin::start().await;
        let gateway = Gateway::with(keys, &origin).await;
        let mut first = gateway.subscribe().await;
        origin.send(said).await;
        first.events_through("b").await;
        let mut sub = match id {
            Some(id) => gateway.resume_after(id).await,
            None => gateway.subscribe().await,
        };
        let prologue = sub.piece().await.expect("a prologue");
        let prologue = String::from_utf8(prologue).expect("text");
        assert_eq!(
            prologue.contains("\nid: 2\n\n"),
            expected,
            "{keys} {id:?}: {prologue:?}"
        );
        assert_eq!(
            prologue.contains("id:"),
            expected,
            "{keys} {id:?}: {prologue:?}"
        );
    }
}
