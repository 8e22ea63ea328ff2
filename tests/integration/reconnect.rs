//! What becomes of events when the upstream breaks and comes back.

use crate::support::{Answer, Event, Gateway, Origin, OriginConnection, Subscriber};

/// Reconnects soon, so that a test of several breaks is short.
const SOON: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\n";

/// The core of the promises holds however events are gathered.
const EACH_WAY: [&str; 2] = ["", "coalesce = \"5ms\"\n"];

/// An origin whose first connection has said something and ended; a client that was there
/// throughout, and has read that; and the second connection.
struct Broken {
    origin: Origin,
    gateway: Gateway,
    sub: Subscriber,
    again: OriginConnection,
}

/// `last` are the data of the last event.
async fn broken_after(lines: &str, said: &str, last: &str) -> Broken {
    let origin = Origin::start().await;
    let gateway = Gateway::with(&format!("{lines}\n{SOON}"), &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send(said).await;
    sub.events_through(last).await;
    origin.connection(1).await.finish().await;
    let again = origin.connection(2).await;
    Broken {
        origin,
        gateway,
        sub,
        again,
    }
}

impl Broken {
    /// What the origin was asked to go on after.
    fn asked_after(&self) -> Option<&str> {
        self.again.request_field("Last-Event-ID")
    }

    /// The data of the events that the client gets when the origin says this, to the one with these
    /// data; `!` for a gap.
    async fn say(&mut self, said: &str, last: &str) -> Vec<String> {
        self.again.send(said).await;
        shown(&self.sub.events_through(last).await)
    }
}

fn shown(events: &[Event]) -> Vec<String> {
    let show = |event: &Event| match event.event_type.as_str() {
        "ssecast.gap" => {
            assert!(event.data.contains(r#""missed":"unknown""#), "{event:?}");
            assert_eq!(event.id, None, "a notice moves no cursor");
            "!".to_owned()
        }
        _ => event.data.clone(),
    };
    events.iter().map(show).collect()
}

/// Events with these ids and data.
fn events(pairs: &[(&str, &str)]) -> String {
    let said = |(id, data): &(&str, &str)| format!("id: {id}\ndata: {data}\n\n");
    pairs.iter().map(said).collect()
}

const ABC: [(&str, &str); 3] = [("1", "a"), ("2", "b"), ("3", "c")];

#[tokio::test]
async fn the_origin_is_asked_to_go_on_after_its_own_last_id() {
    for lines in ["", "ids = \"gateway\"", "ids = \"upstream\""] {
        for (said, expected) in [
            ("id: 1\ndata: x\n\nid: two\ndata: end\n\n", Some("two")),
            // An ID stays the last one until another comes, or takes it back.
            ("id: 1\ndata: x\n\ndata: end\n\n", Some("1")),
            ("data: end\n\n", None),
            ("id: 1\ndata: x\n\nid:\ndata: end\n\n", None),
            ("id: 1\ndata: x\n\nid\n\ndata: end\n\n", None),
            // One that comes without an event counts; one that is cut off, or has a NUL, does not.
            ("data: end\n\nid: 9\n\n", Some("9")),
            ("id: 1\ndata: end\n\nid: 9\ndata: cut", Some("1")),
            ("id: 1\ndata: x\n\nid: a\0b\ndata: end\n\n", Some("1")),
            (
                "id: \u{e9}\u{1f4a1}\ndata: end\n\n",
                Some("\u{e9}\u{1f4a1}"),
            ),
            ("id: with space\ndata: end\n\n", Some("with space")),
        ] {
            let broken = broken_after(lines, said, "end").await;
            assert_eq!(broken.asked_after(), expected, "{lines} {said:?}");
        }
    }
}

/// HTTP can't carry it: the origin can't be asked, and what it said meanwhile is unknown.
#[tokio::test]
async fn an_id_that_no_header_field_can_carry_is_not_sent() {
    let mut broken = broken_after("", "id: a\u{1}b\ndata: end\n\n", "end").await;
    assert_eq!(broken.asked_after(), None);
    assert_eq!(broken.say("data: x\n\n", "x").await, ["!", "x"]);
}

#[tokio::test]
async fn what_was_sent_last_is_asked_for_again_after_each_break() {
    for lines in EACH_WAY {
        let mut broken = broken_after(lines, &events(&ABC), "c").await;
        for number in 2..5 {
            assert_eq!(broken.asked_after(), Some("3"), "connection {number}");
            broken.again.finish().await;
            broken.again = broken.origin.connection(number + 1).await;
        }
        assert_eq!(broken.say(&events(&[("4", "d")]), "d").await, ["d"]);
    }
}

/// What the origin says after the break, and what clients get of it.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

async fn check_rows(lines: &str, rows: &[Row<'_>]) {
    for (said, expected) in rows {
        let mut broken = broken_after(lines, &events(&ABC), "c").await;
        let said = events(said) + &events(&[("end", "end")]);
        let mut got = broken.say(&said, "end").await;
        assert_eq!(got.pop().as_deref(), Some("end"));
        assert_eq!(got, *expected, "{lines} {said:?}");
    }
}

#[tokio::test]
async fn what_an_origin_repeats_is_dropped() {
    for way in EACH_WAY {
        for ids in ["", "ids = \"gateway\"", "ids = \"upstream\""] {
            check_rows(
                &format!("{way}{ids}"),
                &[
                    (&[("4", "d"), ("5", "e")], &["d", "e"]),
                    (&[("3", "c"), ("4", "d")], &["d"]),
                    (&[("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")], &["d"]),
                ],
            )
            .await;
        }
    }
}

#[tokio::test]
async fn an_origin_that_counts_from_one_again_loses_nothing_and_the_gap_is_told() {
    for way in EACH_WAY {
        for ids in ["", "ids = \"gateway\"", "ids = \"upstream\""] {
            check_rows(
                &format!("{way}{ids}"),
                &[
                    (&[("1", "x"), ("2", "y"), ("3", "z")], &["!", "x", "y", "z"]),
                    // The first event is the same, the next is not.
                    (&[("1", "a"), ("2", "y"), ("3", "c")], &["!", "y", "c"]),
                    (&[("0", "x"), ("1", "a")], &["!", "x", "a"]),
                ],
            )
            .await;
        }
    }
}

/// It ignores Last-Event-ID, as most origins do, and its counter says so.
#[tokio::test]
async fn an_origin_that_goes_on_further_on_is_told_as_a_gap() {
    check_rows("", &[(&[("7", "g"), ("8", "h")], &["!", "g", "h"])]).await;
}

/// After such a restart an id stands for two events: nobody can resume from it.
#[tokio::test]
async fn an_id_of_two_events_is_unknown() {
    let mut broken = broken_after("", &events(&ABC), "c").await;
    broken
        .say(&events(&[("1", "x"), ("2", "y"), ("9", "z")]), "z")
        .await;
    for (id, is_known) in [("1", false), ("2", false), ("3", true), ("9", true)] {
        let mut sub = broken.gateway.resume_after(id).await;
        broken.again.send(&format!("data: after {id}\n\n")).await;
        let got = sub.events_through(&format!("after {id}")).await;
        let is_reset = got[0].event_type == "ssecast.reset";
        assert_eq!(is_reset, !is_known, "after {id}: {got:?}");
        if is_reset {
            assert_eq!(got[0].data, r#"{"reason":"unknown","replay":"all"}"#);
            assert_eq!(
                shown(&got[1..8]),
                ["a", "b", "c", "!", "x", "y", "z"],
                "after {id}"
            );
        }
    }
}

#[tokio::test]
async fn an_origin_without_ids_leaves_a_gap() {
    for way in EACH_WAY {
        for ids in ["", "ids = \"gateway\"", "ids = \"upstream\""] {
            let lines = format!("{way}{ids}");
            let mut broken = broken_after(&lines, "data: a\n\n", "a").await;
            assert_eq!(broken.say("data: b\n\n", "b").await, ["!", "b"], "{lines}");
        }
    }
}

/// The last events had no id: that the origin goes on after the last id does not say whether it goes
/// on after them.
#[tokio::test]
async fn events_without_ids_after_the_last_id_are_not_lost_silently() {
    let said = "id: 1\ndata: a\n\ndata: b\n\n";
    let mut broken = broken_after("", said, "b").await;
    assert_eq!(broken.asked_after(), Some("1"));
    assert_eq!(broken.say("data: x\n\n", "x").await, ["!", "x"]);
    // It goes on where it was asked to, and says what has no id again.
    let mut broken = broken_after("", said, "b").await;
    let got = broken.say("data: b\n\ndata: c\n\n", "c").await;
    assert_eq!(got, ["b", "c"]);
}

#[tokio::test]
async fn without_notices_nothing_is_told() {
    let mut broken = broken_after("notices = \"none\"", "data: a\n\n", "a").await;
    assert_eq!(broken.say("data: b\n\n", "b").await, ["b"]);
    // It is counted and logged all the same.
    broken
        .gateway
        .logged(1, &["WARN", "subscribers may miss events", "is_told=false"])
        .await;
    let mut sub = broken.gateway.resume_after("nobody-knows").await;
    broken.again.send("data: c\n\n").await;
    assert_eq!(shown(&sub.events_through("c").await), ["a", "b", "c"]);
}

/// The states that the notices among these events tell.
fn states(events: &[Event]) -> Vec<String> {
    let notices = events
        .iter()
        .filter(|event| event.event_type == "ssecast.upstream");
    notices
        .map(|event| {
            assert_eq!(event.id, None, "a notice moves no cursor");
            event.state()
        })
        .collect()
}

#[tokio::test]
async fn with_all_notices_the_states_of_the_upstream_are_told() {
    let mut origin = Origin::answering(Answer::Nothing).await;
    let lines = format!("notices = \"all\"\nresponse_timeout = \"200ms\"\n{SOON}");
    let gateway = Gateway::with(&lines, &origin).await;
    let mut sub = gateway.subscribe().await;
    // The first attempt gets no answer, however late it comes.
    origin.connection(1).await;
    origin.answer_with(Answer::Chunked);
    origin.stream().await.send("id: 1\ndata: a\n\n").await;
    let events = sub.events_through("a").await;
    let told = states(&events);
    assert_eq!(told.last().map(String::as_str), Some("live"), "{events:?}");

    origin.go_away();
    gateway.logged(3, &["upstream failed"]).await;
    origin.come_back().await;
    let again = origin.connection(3).await;
    again.send("id: 2\ndata: b\n\n").await;
    let events = sub.events_through("b").await;
    // Once each, however many attempts there were.
    assert_eq!(states(&events), ["down", "live"], "{events:?}");
}

/// A client that comes while the origin is away wants to know that.
#[tokio::test]
async fn with_all_notices_a_new_client_is_told_the_state() {
    let origin = Origin::answering(Answer::Nothing).await;
    let gateway = Gateway::with("notices = \"all\"\nresponse_timeout = \"10m\"", &origin).await;
    origin.connection(1).await;
    let mut sub = gateway.subscribe().await;
    let event = sub.next_event().await;
    assert_eq!(states(&[event]), ["connecting"]);
}

/// Notices are in the history, but are no events of the origin's: what it repeats is dropped.
#[tokio::test]
async fn with_all_notices_repeats_and_gaps_are_the_same() {
    for (said, expected) in [
        (&[("3", "c"), ("4", "d")][..], &["d"][..]),
        (&[("1", "x"), ("4", "d")], &["!", "x", "d"]),
    ] {
        let mut broken = broken_after("notices = \"all\"", &events(&ABC), "c").await;
        broken.again.send(events(said)).await;
        let mut got = broken.sub.events_through("d").await;
        got.retain(|event| event.event_type != "ssecast.upstream");
        assert_eq!(shown(&got), expected);
    }
    let mut broken = broken_after("notices = \"all\"", &events(&ABC), "c").await;
    broken.again.send("data: x\n\n").await;
    let mut got = broken.sub.events_through("x").await;
    got.retain(|event| event.event_type != "ssecast.upstream");
    assert_eq!(shown(&got), ["!", "x"]);
}

/// Who was away during the break gets the same as who was there.
#[tokio::test]
async fn a_break_looks_the_same_to_who_was_away() {
    for way in EACH_WAY {
        let mut broken = broken_after(way, &events(&ABC), "c").await;
        let said = events(&[("1", "x"), ("4", "d"), ("5", "e")]);
        let there = broken.say(&said, "e").await;
        let mut back = broken.gateway.resume_after("3").await;
        let away = shown(&back.events_through("e").await);
        assert_eq!(away, there, "{way}");
        assert_eq!(away, ["!", "x", "d", "e"], "{way}");
    }
}
