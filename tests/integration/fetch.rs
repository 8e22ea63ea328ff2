//! What a page is given that fetches the state as JSON, and then subscribes from there.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::support::{
    Answer, Client, Event, Gateway, Head, Http2, Origin, OriginConnection, Subscriber, until_async,
    until_true,
};

const ACCEPT: &str = "Accept: application/json\r\n";

async fn ask(client: &mut Client, target: &str, fields: &str) -> (Head, Value) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{ACCEPT}{fields}\r\n");
    let (head, body) = client.ask(request).await;
    assert_eq!(head.status, 200, "{}\n{body}", head.text);
    assert_eq!(head.field("content-type"), Some("application/json"));
    assert_eq!(head.field("cache-control"), Some("no-store"));
    let document = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    (head, document)
}

async fn fetch(gateway: &Gateway) -> Value {
    ask(&mut gateway.connect().await, "/events", "").await.1
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

fn data(document: &Value) -> Vec<&str> {
    let events = document["events"].as_array().expect("events");
    events
        .iter()
        .map(|one| text(one, "data").expect("data"))
        .collect()
}

/// Subscribes as an `EventSource` can, from where the document ends.
async fn subscribe_after(gateway: &Gateway, document: &Value) -> Subscriber {
    let id = text(document, "last_event_id").expect("an id");
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    let client = gateway.connect().await;
    client
        .subscribe(&format!("/events?last_event_id={id}"), "")
        .await
}

/// Waits until the gateway has events with these data.
async fn wait_for(gateway: &Gateway, origin: &Origin, events: &str, last: &str) {
    let mut sub = gateway.subscribe().await;
    origin.send(events).await;
    sub.events_through(last).await;
}

#[tokio::test]
async fn a_document_has_the_events_as_a_client_reads_them() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let events = "id: 7\ndata: a\"b\\\ndata: c\u{1}é\n\nevent: t\ndata: \n\nid\ndata: last\n\n";
    wait_for(&gateway, &origin, events, "last").await;
    let document = fetch(&gateway).await;
    let own = |n: usize| {
        document["events"][n]["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    assert!(own(1).ends_with("-2"), "{document}");
    let expected = serde_json::json!({
        "last_event_id": own(2),
        "replay": "all",
        "over": false,
        "events": [
            { "id": "7", "event": "message", "data": "a\"b\\\nc\u{1}é" },
            { "id": own(1), "event": "t", "data": "" },
            { "id": own(2), "event": "message", "data": "last" },
        ],
    });
    assert_eq!(document, expected);
}

#[tokio::test]
async fn who_fetches_before_the_first_event_subscribes_before_it_too() {
    for keys in ["", "ids = \"upstream\"", "join = \"latest\""] {
        let origin = Origin::start().await;
        let gateway = Gateway::with(keys, &origin).await;
        let document = fetch(&gateway).await;
        assert_eq!(data(&document), [""; 0], "{keys}");
        wait_for(&gateway, &origin, "data: one\n\ndata: two\n\n", "two").await;
        let mut sub = subscribe_after(&gateway, &document).await;
        sub.expect_event("one").await;
        sub.expect_event("two").await;
    }
}

/// Thousands of events per second, by their numbers, until it is aborted.
fn flood(
    stream: OriginConnection,
    event: impl Fn(usize) -> String + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tick = interval(Duration::from_millis(2));
        for n in (0..).step_by(10) {
            tick.tick().await;
            // In pieces, so that batches end anywhere.
            let events: String = (n..n + 10).map(&event).collect();
            let (one, two) = events.split_at(events.len() / 3);
            stream.send(one).await;
            stream.send(two).await;
        }
    })
}

/// The number that an event has in its data.
fn number(data: &str) -> u64 {
    let digits = data.split(' ').next().unwrap_or_default();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{data:?} has no number"))
}

/// The numbers of the events that come next.
async fn next_numbers(sub: &mut Subscriber, n: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < n {
        let Event {
            event_type, data, ..
        } = sub.next_event().await;
        assert!(!event_type.starts_with("ssecast."), "{event_type}: {data}");
        numbers.push(number(&data));
    }
    numbers
}

#[tokio::test]
async fn fetch_and_subscribe_neither_loses_nor_doubles_while_the_origin_floods() {
    const ROUNDS: usize = 40;
    for (keys, with_id) in [
        ("join = 10", true),
        ("join = 10", false),
        (
            "join = 10
ids = \"gateway\"",
            true,
        ),
        (
            "join = 10
ids = \"upstream\"",
            false,
        ),
    ] {
        let origin = Origin::start().await;
        let history = "history = { events = 100000, bytes = \"64MiB\" }";
        let gateway = Gateway::with(&format!("{keys}\n{history}"), &origin).await;
        let stream = origin.stream().await;
        let flood = flood(stream, move |n| {
            let id = if with_id {
                format!(
                    "id: {n}
"
                )
            } else {
                String::new()
            };
            format!(
                "{id}data: {n} {}

",
                "x".repeat(n % 50)
            )
        });
        for round in 0..ROUNDS {
            let document = fetch(&gateway).await;
            let mut numbers: Vec<u64> = data(&document).into_iter().map(number).collect();
            let mut sub = subscribe_after(&gateway, &document).await;
            numbers.extend(next_numbers(&mut sub, 20).await);
            let first = numbers[0];
            let expected: Vec<u64> = (first..).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "{keys} round {round}");
        }
        flood.abort();
    }
}

#[tokio::test]
async fn the_latest_of_each_key_and_what_follows_are_one_run() {
    const ROUNDS: usize = 40;
    const KEYS: usize = 7;
    let origin = Origin::start().await;
    let keys = "join = \"latest\"\nconflate_by = \"/key\"\nhistory = { events = 3 }";
    let gateway = Gateway::with(keys, &origin).await;
    let flood = flood(origin.stream().await, |n| {
        // Some keys change far more often than others.
        let key = if n % 100 < 90 { 0 } else { n / 100 % KEYS };
        format!(
            "data: {{\"key\":{key},\"n\":{n}}}

"
        )
    });
    let parse = |data: &str| -> (u64, u64) {
        let value: Value = serde_json::from_str(data).expect("JSON");
        (
            value["key"].as_u64().expect("a key"),
            value["n"].as_u64().expect("n"),
        )
    };
    for round in 0..ROUNDS {
        let document = fetch(&gateway).await;
        assert_eq!(document["replay"], "latest");
        let state: Vec<(u64, u64)> = data(&document).into_iter().map(parse).collect();
        let mut sub = subscribe_after(&gateway, &document).await;
        let Some((_, newest)) = state.last() else {
            continue;
        };
        let mut seen: Vec<u64> = state.iter().map(|(key, _)| *key).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), state.len(), "a key is there once: {document}");
        assert!(
            state.is_sorted_by_key(|(_, n)| *n),
            "in the order of the log: {document}"
        );
        let event = sub.next_event().await;
        // The history is short: it may be over before the page has subscribed, and it is told then.
        if event.event_type == "ssecast.reset" {
            let data = r#"{"reason":"expired","replay":"latest"}"#;
            assert_eq!(event.data, data, "round {round}");
            continue;
        }
        assert_eq!(parse(&event.data).1, newest + 1, "round {round}");
    }
    flood.abort();
}

#[tokio::test]
async fn a_document_can_be_asked_for_from_an_event_on() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("history = { events = 2 }", &origin).await;
    let events = "id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\nid: 4\ndata: d\n\n";
    wait_for(&gateway, &origin, events, "d").await;
    let mut client = gateway.connect().await;
    for (query, field, replay, reset, expected) in [
        ("?last_event_id=3", "", "rest", None, &["d"][..]),
        ("", "Last-Event-ID: 4\r\n", "rest", None, &[]),
        (
            "",
            "Last-Event-ID: 1\r\n",
            "all",
            Some("expired"),
            &["c", "d"],
        ),
        ("?lastEventId=x", "", "all", Some("unknown"), &["c", "d"]),
    ] {
        let (_, document) = ask(&mut client, &format!("/events{query}"), field).await;
        assert_eq!(
            (text(&document, "replay"), text(&document, "reset")),
            (Some(replay), reset)
        );
        assert_eq!(data(&document), expected);
        assert_eq!(text(&document, "last_event_id"), Some("4"));
    }
}

#[tokio::test]
async fn a_large_history_is_sent_whole_on_every_version_of_http() {
    let origin = Origin::start().await;
    let keys = "history = { bytes = \"8MiB\" }
lag = { limit = \"8MiB\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let pad = "\u{2}\"x".repeat(10_000);
    let mut sub = gateway.subscribe().await;
    for n in 0..100 {
        origin.send(format!("data: {n} {pad}\n\n")).await;
    }
    for n in 0..100 {
        let event = sub.next_event().await;
        assert!(event.data.starts_with(&format!("{n} ")), "event {n}");
    }
    let last = format!("99 {pad}");
    let check = |document: &Value| {
        let numbers: Vec<u64> = data(document).into_iter().map(number).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(data(document)[99] == last, "the last is whole");
    };
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        let (head, document) = ask(&mut client, "/events", "").await;
        assert_eq!(head.field("transfer-encoding"), Some("chunked"));
        check(&document);
    }
    let request = format!("GET /events HTTP/1.0\r\nHost: a\r\n{ACCEPT}\r\n");
    let mut old = gateway.connect().await;
    old.send(request).await;
    let (answer, _) = old.rest().await;
    let answer = String::from_utf8(answer).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    check(&serde_json::from_str(body).expect("JSON"));
    let client = Http2::connect(&gateway).await;
    for _ in 0..2 {
        let (head, body) = client
            .ask("GET", "/events", &[("accept", "application/json")])
            .await;
        assert_eq!((head.status, head.field("vary")), (200, Some("Accept")));
        check(&serde_json::from_str(&body).expect("JSON"));
    }
}

/// Of an instance that nobody is in, which the question begins, and of a selection.
#[tokio::test]
async fn instances_and_selections_have_documents_to_go_on_from() {
    let origin = Origin::start().await;
    let address = origin.address();
    let config = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\
         [channels.rooms]\npath = \"/rooms/{{room}}\"\nselect_events = true\n\
         upstream = \"http://{address}/{{room}}\"\n"
    );
    let gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    let empty = ask(&mut client, "/rooms/a", "").await.1;
    assert_eq!(data(&empty), [""; 0]);
    assert_eq!(origin.connection(1).await.target(), "/a");
    let id_of = |document: &Value| {
        let id = text(document, "last_event_id").expect("an id");
        url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>()
    };
    let from = |target: String| {
        let gateway = &gateway;
        async move { gateway.connect().await.subscribe(&target, "").await }
    };
    let mut all = from(format!("/rooms/a?last_event_id={}", id_of(&empty))).await;
    let stream = origin.connection(1).await;
    let events = "event: x\ndata: 1\n\nevent: y\ndata: 2\n\nevent: x\ndata: 3\n\n";
    stream.send(events).await;
    for n in ["1", "2", "3"] {
        all.expect_event(n).await;
    }
    let whole = ask(&mut client, "/rooms/a", "").await.1;
    assert_eq!(data(&whole), ["1", "2", "3"]);
    let selected = ask(&mut client, "/rooms/a?event=x", "").await.1;
    assert_eq!(data(&selected), ["1", "3"]);
    let target = format!("/rooms/a?event=x&last_event_id={}", id_of(&selected));
    let mut some = from(target).await;
    let mut rest = from(format!("/rooms/a?last_event_id={}", id_of(&whole))).await;
    stream
        .send("event: y\ndata: 4\n\nevent: x\ndata: 5\n\n")
        .await;
    some.expect_event("5").await;
    for n in ["4", "5"] {
        rest.expect_event(n).await;
    }
    assert_eq!(origin.n_connections(), 1, "one upstream for all of it");
}

#[tokio::test]
async fn head_cors_and_vary_are_those_of_the_channel() {
    let origin = Origin::start().await;
    let keys = "cors = { origins = [\"https://page.test\"] }";
    let gateway = Gateway::with(keys, &origin).await;
    let mut client = gateway.connect().await;
    for method in ["HEAD", "GET"] {
        let fields = format!("{ACCEPT}Origin: https://page.test\r\n");
        let request = format!("{method} /events HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = client.ask(request).await;
        assert_eq!(head.status, 200, "{}", head.text);
        for (name, value) in [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("vary", "Origin, Accept"),
            ("access-control-allow-origin", "https://page.test"),
        ] {
            assert_eq!(head.field(name), Some(value), "{method} {}", head.text);
        }
    }
}

#[tokio::test]
async fn a_channel_that_is_over_says_so_and_has_its_events() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    wait_for(&gateway, &origin, "data: one\n\n", "one").await;
    assert_eq!(fetch(&gateway).await["over"], false);
    let over = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    origin.answer_with(Answer::Raw(over));
    origin.stream().await.close();
    let over = until_async("the channel to be over", async || {
        let document = fetch(&gateway).await;
        if document["over"] == true {
            Ok(document)
        } else {
            Err(document.to_string())
        }
    });
    assert_eq!(data(&over.await), ["one"]);
}

#[tokio::test]
async fn over_a_limit_there_is_no_document() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("max_subscribers = 1", &origin).await;
    let sub = gateway.subscribe().await;
    let request = format!("GET /events HTTP/1.1\r\nHost: a\r\n{ACCEPT}\r\n");
    let (head, body) = gateway.connect().await.ask(&request).await;
    assert_eq!(head.status, 503, "{}", head.text);
    assert!(
        head.field("retry-after").is_some() && body.starts_with("{\"title\""),
        "{body}"
    );
    drop(sub);
    until_true("a place to be free", async || {
        gateway.connect().await.ask(&request).await.0.status == 200
    })
    .await;
    // A document takes no place.
    let mut sub = gateway.subscribe().await;
    origin.send("data: one\n\n").await;
    sub.expect_event("one").await;
}

/// Ids of the gateway's with something wrong in them.
fn look_alikes(id: &str) -> Vec<String> {
    let (epoch, number) = id.rsplit_once(['-', '.']).expect("an id of ours");
    let number: u64 = number.parse().expect("a number");
    let mut ids = Vec::new();
    for separator in ['-', '.'] {
        for number in [
            (number + 1).to_string(),
            u64::MAX.to_string(),
            format!("{}0", u64::MAX),
            format!("0{number}"),
            format!("+{number}"),
            format!("{number}.0"),
            "-1".to_owned(),
            String::new(),
        ] {
            ids.push(format!("{epoch}{separator}{number}"));
        }
        ids.push(format!("{epoch}0{separator}{number}"));
        ids.push(format!("{}{separator}{number}", epoch.to_uppercase()));
    }
    ids
}

#[tokio::test]
async fn a_hostile_last_event_id_gets_what_nobody_knows_gets() {
    let origin = Origin::start().await;
    let keys =
        "join = \"latest\"\nconflate_by = \"type\"\nhistory = { events = 1 }\nnotices = \"all\"";
    let gateway = Gateway::with(keys, &origin).await;
    let events = "event: a\ndata: 1\n\nevent: b\ndata: 1\n\nevent: c\ndata: 1\n\n";
    let mut sub = gateway.subscribe().await;
    origin.send(events).await;
    while sub.next_event().await.event_type != "c" {}
    let document = fetch(&gateway).await;
    let head_id = text(&document, "last_event_id").expect("an id").to_owned();
    let kept: Vec<String> = (document["events"].as_array().expect("events").iter())
        .map(|event| text(event, "id").expect("an id").to_owned())
        .collect();
    assert_eq!(kept.len(), 3, "{document}");
    let mut hostile = look_alikes(&head_id);
    hostile.extend([
        "\u{fffd}\u{1f600}".to_owned(),
        "x".repeat(8000),
        "ssecast.gap".to_owned(),
        "%00%0a".to_owned(),
        "-".to_owned(),
        ".".to_owned(),
    ]);
    // One that the history has no more, though it is the newest of its key.
    hostile.push(kept[0].clone());
    let mut client = gateway.connect().await;
    for id in hostile {
        let (_, document) = ask(&mut client, "/events", &format!("Last-Event-ID: {id}\r\n")).await;
        let reset = text(&document, "reset").unwrap_or_else(|| panic!("{id:?}: {document}"));
        let expected = if id == kept[0] { "expired" } else { "unknown" };
        assert_eq!(
            (reset, text(&document, "replay")),
            (expected, Some("latest")),
            "{id:?}"
        );
        assert_eq!(data(&document), ["1", "1", "1"]);
        let mut sub = gateway.resume_after(&id).await;
        let mut reset = sub.next_event().await;
        if reset.event_type == "ssecast.upstream" {
            reset = sub.next_event().await;
        }
        let told = format!(r#"{{"reason":"{expected}","replay":"latest"}}"#);
        assert_eq!(
            (reset.event_type.as_str(), reset.data),
            ("ssecast.reset", told),
            "{id:?}"
        );
    }
    // Bytes that are no text, in a header field and in a query.
    let request = [
        format!("GET /events?last_event_id=%ff%fe HTTP/1.1\r\nHost: a\r\n{ACCEPT}").as_bytes(),
        b"Last-Event-ID: \xff\xfe\x80\r\n\r\n",
    ]
    .concat();
    let (head, _) = client.ask(request).await;
    assert_eq!(head.status, 200, "{}", head.text);
    // And the right one is right.
    let mut sub = gateway.resume_after(&head_id).await;
    origin.send("event: d\ndata: 2\n\n").await;
    assert_eq!(sub.next_event().await.event_type, "d");
}
