//! What a client gets that comes back with the id of its last event.

use crate::support::{Event, Gateway, Origin, Subscriber};

const ORIGIN_IDS: &str = "id: a1\ndata: one\n\nid: a2\nevent: t\ndata: two\ndata: lines\n\n\
                          data: three\nid: a3\n\nid: a4\ndata: four\n\nid: a5\ndata: five\n\n";
const NO_IDS: &str = "data: one\n\nevent: t\ndata: two\ndata: lines\n\ndata: three\n\n\
                      data: four\n\ndata: five\n\n";
const MIXED_IDS: &str = "id: a1\ndata: one\n\nid\nevent: t\ndata: two\ndata: lines\n\ndata: three\n\n\
                         id: a4\ndata: four\n\nid\ndata: five\n\n";

/// The events of a stream that was cut off after these bytes of it, as a user agent dispatches them,
/// and its last event ID then (WHATWG HTML, 9.2.6).
fn dispatch(bytes: &[u8], resumed_from: Option<&str>) -> (Vec<Event>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let mut last_id = resumed_from.map(str::to_owned);
    let mut pending_id = last_id.clone();
    let (mut events, mut event) = (Vec::new(), Event::default());
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        match line.split_once(": ").unwrap_or((line, "")) {
            ("", _) => {
                last_id.clone_from(&pending_id);
                let mut event = std::mem::take(&mut event);
                if event.data.pop().is_some() {
                    event.id.clone_from(&last_id);
                    events.push(event);
                }
            }
            ("data", value) => event.data.extend([value, "\n"]),
            ("event", value) => value.clone_into(&mut event.event_type),
            ("id", value) => pending_id = Some(value.to_owned()),
            _ => {}
        }
    }
    events.retain(|event| !event.event_type.starts_with("ssecast."));
    (events, last_id)
}

/// The bytes of the event stream up to and with the end of the event with these data.
async fn bytes_through(sub: &mut Subscriber, data: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mark = format!("data: {data}\n");
    while !bytes
        .windows(mark.len())
        .any(|window| window == mark.as_bytes())
    {
        bytes.extend(sub.piece().await.expect("more events"));
    }
    bytes
}

async fn resume(gateway: &Gateway, id: Option<&str>) -> Subscriber {
    match id {
        Some(id) => gateway.resume_after(id).await,
        None => gateway.subscribe().await,
    }
}

/// Cuts a client off at every byte of what it gets when it resumes, and lets it resume from there:
/// what it has then must be `expected`.
async fn assert_resumable_anywhere(gateway: &Gateway, from: &str, expected: &[Event]) {
    let bytes = bytes_through(&mut gateway.resume_after(from).await, "five").await;
    let (uncut, _) = dispatch(&bytes, Some(from));
    assert_eq!(uncut, expected, "resumed after {from:?}");
    for cut in 0..bytes.len() {
        let (mut events, last_id) = dispatch(&bytes[..cut], Some(from));
        if events.len() < expected.len() {
            let mut sub = resume(gateway, last_id.as_deref()).await;
            let rest = bytes_through(&mut sub, "five").await;
            events.extend(dispatch(&rest, last_id.as_deref()).0);
        }
        let had = String::from_utf8_lossy(&bytes[..cut]);
        assert_eq!(
            events, expected,
            "resumed after {from:?}, cut at {cut}, after {had:?}"
        );
    }
}

/// A gateway whose history is these events, and what a client got that was there throughout.
async fn with_history(keys: &str, events: &str) -> (Origin, Gateway, Vec<Event>) {
    let origin = Origin::start().await;
    let gateway = Gateway::with(keys, &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send(events).await;
    let mut seen = sub.events_through("five").await;
    seen.retain(|event| !event.event_type.starts_with("ssecast."));
    assert_eq!(seen.len(), 5);
    (origin, gateway, seen)
}

fn id(event: &Event) -> &str {
    event.id.as_deref().expect("an id")
}

#[tokio::test]
async fn a_client_can_be_cut_at_every_byte_of_a_replay_and_resume() {
    for events in [ORIGIN_IDS, NO_IDS, MIXED_IDS] {
        for keys in [
            "",
            "cursor_on_connect = true\nnotices = \"all\"",
            "ids = \"gateway\"",
        ] {
            let (_origin, gateway, seen) = with_history(keys, events).await;
            assert_resumable_anywhere(&gateway, id(&seen[0]), &seen[1..]).await;
        }
    }
}

#[tokio::test]
async fn a_client_can_be_cut_at_every_byte_after_a_reset_and_resume() {
    for keys in ["", "cursor_on_connect = true", "notices = \"none\""] {
        let (_origin, gateway, seen) = with_history(keys, NO_IDS).await;
        assert_resumable_anywhere(&gateway, "nobody-knows", &seen).await;
    }
}

#[tokio::test]
async fn a_client_that_knows_an_id_gets_exactly_what_followed() {
    for events in [ORIGIN_IDS, NO_IDS, MIXED_IDS] {
        let (origin, gateway, mut seen) = with_history("", events).await;
        for n in 0..seen.len() {
            let mut sub = gateway.resume_after(id(&seen[n])).await;
            origin
                .send(format!("id: live{n}\ndata: live {n}\n\n"))
                .await;
            let rest = sub.events_through(&format!("live {n}")).await;
            seen.push(rest.last().expect("an event").clone());
            assert_eq!(rest, seen[n + 1..], "after {:?}", seen[n]);
        }
    }
}

#[tokio::test]
async fn a_new_client_gets_nothing_of_the_history() {
    let (origin, gateway, _) = with_history("", ORIGIN_IDS).await;
    let mut sub = gateway.subscribe().await;
    origin.send("id: a6\ndata: six\n\n").await;
    let event = sub.expect_event("six").await;
    assert_eq!(event.id.as_deref(), Some("a6"));
}

#[tokio::test]
async fn an_id_that_nobody_knows_gives_the_history_after_a_reset() {
    let (_origin, gateway, seen) = with_history("", ORIGIN_IDS).await;
    let mut sub = gateway.resume_after("nobody-knows").await;
    let reset = sub.next_event().await;
    assert_eq!(
        (reset.event_type.as_str(), reset.data.as_str()),
        ("ssecast.reset", r#"{"reason":"unknown","replay":"all"}"#)
    );
    assert_eq!(reset.id, None, "a notice moves no cursor");
    assert_eq!(sub.events_through("five").await, seen);
}

#[tokio::test]
async fn an_id_that_is_no_longer_kept_gives_the_history_after_a_reset() {
    let (_origin, gateway, seen) = with_history("history = { events = 2 }", NO_IDS).await;
    let mut sub = gateway.resume_after(id(&seen[0])).await;
    let reset = sub.next_event().await;
    assert_eq!(
        (reset.event_type.as_str(), reset.data.as_str()),
        ("ssecast.reset", r#"{"reason":"expired","replay":"all"}"#)
    );
    assert_eq!(sub.events_through("five").await, seen[3..]);
    // The one before the oldest that is kept: nothing that is gone was missed.
    let mut sub = gateway.resume_after(id(&seen[2])).await;
    assert_eq!(sub.events_through("five").await, seen[3..]);
}

#[tokio::test]
async fn the_last_event_id_may_come_in_the_query_but_the_field_wins() {
    let (_origin, gateway, seen) = with_history("", ORIGIN_IDS).await;
    for (target, field, n_seen) in [
        ("/events?last_event_id=a3", "", 3),
        ("/events?x=1&lastEventId=a4&y", "", 4),
        ("/events?lastEventId=%614", "", 4),
        ("/events?lastEventId=a4", "Last-Event-ID: a2\r\n", 2),
        ("/events", "last-event-id: a1\r\n", 1),
        // An empty one says nothing.
        ("/events?lastEventId=a4", "Last-Event-ID:\r\n", 4),
    ] {
        let mut sub = gateway.connect().await.subscribe(target, field).await;
        assert_eq!(
            sub.events_through("five").await,
            seen[n_seen..],
            "{target} {field}"
        );
    }
}

#[tokio::test]
async fn the_tips_id_on_connect_makes_a_client_resumable_that_has_seen_nothing() {
    let (origin, gateway, seen) = with_history("cursor_on_connect = true", NO_IDS).await;
    let mut sub = gateway.subscribe().await;
    let prologue = sub.piece().await.expect("the prologue");
    let (events, tip) = dispatch(&prologue, None);
    assert_eq!((events, tip.as_deref()), (vec![], seen[4].id.as_deref()));
    drop(sub);
    origin.send("data: six\n\n").await;
    let mut sub = resume(&gateway, tip.as_deref()).await;
    assert_eq!(sub.next_event().await.data, "six");
}

#[tokio::test]
async fn any_id_that_a_client_can_send_can_be_resumed_from() {
    let ids = ["0", "a b", "ü", "日本", "a:b", "%41", "\"x\"", "a,b"];
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut sub = gateway.subscribe().await;
    for id in ids {
        origin.send(format!("id: {id}\ndata: {id}\n\n")).await;
        let event = sub.expect_event(id).await;
        assert_eq!(event.id.as_deref(), Some(id));
    }
    origin.send("id: end\ndata: end\n\n").await;
    for (n, id) in ids.iter().enumerate() {
        let mut resumed = gateway.resume_after(id).await;
        assert_eq!(
            resumed.events_through("end").await.len(),
            ids.len() - n,
            "after {id:?}"
        );
    }
}
