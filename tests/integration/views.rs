//! Clients that want a part of a channel: some event types only. What each of them gets is compared
//! with what one gets that wants all.

use std::collections::BTreeMap;

use tempfile::TempDir;

use crate::support::{
    ANYWHERE, Admin, Answer, End, Event, Gateway, Item, Origin, Subscriber, one_channel,
};

const SELECTABLE: &str = "select_events = true";

async fn select(gateway: &Gateway, types: &str) -> Subscriber {
    let path = format!("/events?event={types}");
    gateway.connect().await.subscribe(&path, "").await
}

async fn select_after(gateway: &Gateway, types: &str, id: &str) -> Subscriber {
    let path = format!("/events?event={types}");
    let field = format!("Last-Event-ID: {id}\r\n");
    gateway.connect().await.subscribe(&path, &field).await
}

/// An event of the type that its number says: most are prices, some trades, few are rare, and some
/// have no type.
fn said(number: usize) -> (&'static str, String) {
    let event_type = match number {
        _ if number.is_multiple_of(17) => "rare",
        _ if number.is_multiple_of(5) => "",
        _ if number.is_multiple_of(3) => "trade",
        _ => "price",
    };
    (event_type, format!("event {number}"))
}

fn block(number: usize) -> String {
    let (event_type, data) = said(number);
    let event_type = match event_type {
        "" => String::new(),
        named => format!("event: {named}\n"),
    };
    // Every fourth has no id.
    let id = if number.is_multiple_of(4) {
        String::new()
    } else {
        format!("id: own-{number}\n")
    };
    format!("{event_type}{id}data: {data}\n\n")
}

fn is_selected(types: &[&str], event: &Event) -> bool {
    let event_type = match event.event_type.as_str() {
        "" => "message",
        named => named,
    };
    types.contains(&event_type)
}

/// Types and data.
fn contents(events: &[Event]) -> Vec<(&str, &str)> {
    let each = events.iter();
    each.map(|event| (event.event_type.as_str(), event.data.as_str()))
        .collect()
}

async fn expect_reset(sub: &mut Subscriber) {
    let reset = sub.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset", "{reset:?}");
}

#[tokio::test]
async fn each_client_gets_the_events_of_its_types_once_and_in_order() {
    const LAST: usize = 340;
    let origin = Origin::start().await;
    let gateway = Gateway::with(&format!("{SELECTABLE}\n{ANYWHERE}"), &origin).await;
    let selections = [
        "price",
        "price,trade",
        "trade,price",
        "rare,message",
        "message",
        "none,rare",
    ];
    let mut clients = Vec::new();
    for types in selections {
        for _ in 0..3 {
            clients.push((types, select(&gateway, types).await));
        }
    }
    let mut all = gateway.subscribe().await;
    let admin = Admin::of(&gateway).await;
    // Two of them are the same.
    let views = (r#"ssecast_views{channel="events"}"#, 5.0);
    let there = (r#"ssecast_subscribers{channel="events"}"#, 19.0);
    admin.until(&[views, there]).await;
    for first in (1..=LAST).step_by(10) {
        let blocks: String = (first..first + 10).map(block).collect();
        origin.send(blocks).await;
    }
    // Each type comes once more, so that everybody has an end.
    for event_type in ["price", "trade", "rare", "message", "none"] {
        origin
            .send(format!("event: {event_type}\ndata: end\n\n"))
            .await;
    }
    origin.send("event: all\ndata: the end\n\n").await;
    let whole = all.events_through("the end").await;
    assert_eq!(whole.len(), LAST + 6);
    let mut ids: BTreeMap<&str, Vec<Option<String>>> = BTreeMap::new();
    for (types, mut client) in clients {
        let wanted: Vec<&str> = types.split(',').collect();
        let expected: Vec<Event> = whole
            .iter()
            .filter(|one| is_selected(&wanted, one))
            .cloned()
            .collect();
        let mut events = Vec::new();
        while events.len() < expected.len() {
            events.push(client.next_event().await);
        }
        assert_eq!(contents(&events), contents(&expected), "{types}");
        let own: Vec<Option<String>> = events.into_iter().map(|event| event.id).collect();
        assert!(own.iter().all(Option::is_some), "{types}");
        let shared = ids.entry(types).or_insert_with(|| own.clone());
        assert_eq!(*shared, own, "the same for all who share a view");
    }
}

#[tokio::test]
async fn a_client_resumes_after_each_of_its_events() {
    const LAST: usize = 60;
    let origin = Origin::start().await;
    let gateway = Gateway::with(SELECTABLE, &origin).await;
    let mut all = gateway.subscribe().await;
    let mut client = select(&gateway, "price,rare").await;
    origin.send((1..=LAST).map(block).collect::<String>()).await;
    origin.send("event: price\ndata: end\n\n").await;
    let whole = all.events_through("end").await;
    let events = client.events_through("end").await;
    for (n, event) in events.iter().enumerate().take(events.len() - 1) {
        let id = event.id.as_deref().expect("an id");
        let mut again = select_after(&gateway, "rare,price", id).await;
        let rest = again.events_through("end").await;
        assert_eq!(rest, events[n + 1..], "after {event:?}");
        // With other types from there on: the ids say where in the source a client is.
        let mut others = select_after(&gateway, "trade,price", id).await;
        let rest = others.events_through("end").await;
        let position = whole.iter().position(|one| one.data == event.data);
        let later = &whole[position.expect("it is one of them") + 1..];
        let expected: Vec<Event> = (later.iter())
            .filter(|one| is_selected(&["trade", "price"], one))
            .cloned()
            .collect();
        assert_eq!(contents(&rest), contents(&expected), "after {event:?}");
    }
    // An id of the channel's own leads there, too.
    let id = whole[10].id.as_deref().expect("an id");
    let mut from_plain = select_after(&gateway, "price", id).await;
    let rest = from_plain.events_through("end").await;
    let later = whole[11..].iter();
    let expected: Vec<Event> = later
        .filter(|one| is_selected(&["price"], one))
        .cloned()
        .collect();
    assert_eq!(contents(&rest), contents(&expected));
}

/// However many other events were given up since, nothing that it wants was.
#[tokio::test]
async fn a_client_of_a_rare_type_does_not_expire() {
    let origin = Origin::start().await;
    let keys = format!("{SELECTABLE}\nhistory = {{ events = 3 }}");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut all = gateway.subscribe().await;
    origin.send("event: rare\ndata: first\n\n").await;
    let id = all.expect_event("first").await.id.expect("an id");
    let busy: String = (0..100)
        .map(|n| format!("event: busy\ndata: {n}\n\n"))
        .collect();
    origin.send(&busy).await;
    all.events_through("99").await;
    let mut rare = select_after(&gateway, "rare", &id).await;
    origin.send("event: rare\ndata: second\n\n").await;
    let second = rare.expect_event("second").await;
    origin.send(&busy).await;
    let id = second.id.expect("an id");
    let mut rare = select_after(&gateway, "rare", &id).await;
    // For a client of the others, something is gone.
    expect_reset(&mut select_after(&gateway, "busy", &id).await).await;
    origin.send("event: rare\ndata: third\n\n").await;
    rare.expect_event("third").await;
}

#[tokio::test]
async fn what_clients_select_outlives_the_process() {
    let (origin, home) = (Origin::start().await, TempDir::new().expect("a directory"));
    let server = format!(
        "[server]\ndrain = \"0s\"\nstate = \"{}\"",
        home.path().display()
    );
    let keys = format!("{SELECTABLE}\nhistory = {{ events = 5 }}\n{server}");
    let config = one_channel(&origin.url(), &keys);
    let mut gateway = Gateway::with_config(&config).await;
    let mut rare = select(&gateway, "rare").await;
    let mut busy = select(&gateway, "busy").await;
    origin.send("event: rare\nid: r1\ndata: rare 1\n\n").await;
    let rare_id = rare.expect_event("rare 1").await.id.expect("an id");
    for n in 0..20 {
        origin
            .send(format!("event: busy\nid: b{n}\ndata: busy {n}\n\n"))
            .await;
    }
    let early = busy.expect_event("busy 0").await.id.expect("an id");
    let late = busy.events_through("busy 17").await.pop();
    let late = late.and_then(|event| event.id).expect("an id");
    busy.events_through("busy 19").await;
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);

    let gateway = Gateway::with_config(&config).await;
    let connection = origin.connection(2).await;
    assert_eq!(connection.request_field("last-event-id"), Some("b19"));
    let mut rare = select_after(&gateway, "rare", &rare_id).await;
    let mut busy = select_after(&gateway, "busy", &late).await;
    expect_reset(&mut select_after(&gateway, "busy", &early).await).await;
    connection
        .send("event: rare\nid: r2\ndata: rare 2\n\nevent: busy\nid: b20\ndata: busy 20\n\n")
        .await;
    rare.expect_event("rare 2").await;
    for n in 18..=20 {
        busy.expect_event(&format!("busy {n}")).await;
    }
}

/// Without any state, too, where the origin repeats its history with its own ids.
#[tokio::test]
async fn where_the_origin_has_ids_they_are_enough() {
    let origin = Origin::start().await;
    let config = one_channel(
        &origin.url(),
        &format!("{SELECTABLE}\n[server]\ndrain = \"0s\""),
    );
    let mut gateway = Gateway::with_config(&config).await;
    let mut client = select(&gateway, "price").await;
    let history: String = (1..=3)
        .map(|n| format!("event: price\nid: p{n}\ndata: {n}\n\n"))
        .collect();
    origin.send(&history).await;
    client.expect_event("1").await;
    let id = client.expect_event("2").await.id.expect("an id");
    gateway.signal("TERM");
    gateway.ended().await;
    let gateway = Gateway::with_config(&config).await;
    let mut all = gateway.subscribe().await;
    origin.connection(2).await.send(&history).await;
    all.events_through("3").await;
    let mut client = select_after(&gateway, "price", &id).await;
    client.expect_event("3").await;
}

#[tokio::test]
async fn where_it_is_not_allowed_the_parameter_means_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = select(&gateway, "price").await;
    origin.send("event: trade\ndata: a\n\n").await;
    client.expect_event("a").await;
}

#[tokio::test]
async fn a_query_that_selects_nothing_is_answered_with_what_would_be_right() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(SELECTABLE, &origin).await;
    for (query, said) in [
        ("event=", "write ?event=price,trade"),
        ("event=,", "write ?event=price,trade"),
        (
            &format!("event={}", "x".repeat(257)),
            "at most 64 event types of at most 256 bytes",
        ),
    ] {
        let request = format!("GET /events?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, body) = gateway.connect().await.ask(request).await;
        assert_eq!(head.status, 400, "{query}: {body}");
        assert!(body.contains(said), "{query}: {body}");
    }
}

#[tokio::test]
async fn ids_that_nobody_gave_lead_to_a_reset_and_to_nothing_worse() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(SELECTABLE, &origin).await;
    let mut client = select(&gateway, "price").await;
    origin.send("event: price\ndata: a\n\n").await;
    let id = client.expect_event("a").await.id.expect("an id");
    let long = "A".repeat(3000);
    for hostile in [
        "v1.",
        "v1.!!!!",
        "v1.AAAA",
        "v1._____________w",
        &format!("v1.{long}"),
        &format!("{id}A"),
        &id.to_uppercase(),
        "-",
        "1",
    ] {
        let mut sub = select_after(&gateway, "price", hostile).await;
        expect_reset(&mut sub).await;
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn views_are_bounded_and_who_would_make_one_more_is_told_when_to_come_back() {
    let origin = Origin::start().await;
    let keys = format!("{SELECTABLE}\nmax_views = 1\n{ANYWHERE}");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut first = select(&gateway, "a").await;
    let mut shares = select(&gateway, "a").await;
    let mut refused = select(&gateway, "b").await;
    assert_eq!(refused.head.status, 200);
    let Item::Retry(wait) = refused.next_item().await else {
        panic!("it is told when to come back");
    };
    assert!((5_000..=30_000).contains(&wait), "{wait}");
    assert_eq!(refused.expect_end().await, End::Cut);
    let refusals = r#"ssecast_refusals_total{channel="events",reason="max-views"}"#;
    Admin::of(&gateway).await.until(&[(refusals, 1.0)]).await;
    origin.send("event: a\ndata: 1\n\n").await;
    first.expect_event("1").await;
    shares.expect_event("1").await;
    // Who wants all needs no view.
    let mut all = gateway.subscribe().await;
    origin.send("event: b\ndata: 2\n\n").await;
    all.expect_event("2").await;
}

#[tokio::test]
async fn losses_and_states_are_told_to_every_selection() {
    let origin = Origin::start().await;
    let keys =
        format!("{SELECTABLE}\nnotices = \"all\"\nbackoff = {{ first = \"1ms\", max = \"1ms\" }}");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut client = select(&gateway, "price").await;
    let connection = origin.stream().await;
    connection
        .send("event: price\ndata: a\n\nevent: trade\ndata: b\n\n")
        .await;
    client.events_through("a").await;
    connection.finish().await;
    origin
        .connection(2)
        .await
        .send("event: price\ndata: c\n\n")
        .await;
    let told = client.events_through("c").await;
    let types: Vec<&str> = told.iter().map(|one| one.event_type.as_str()).collect();
    assert!(types.contains(&"ssecast.upstream"), "{told:?}");
    assert!(types.contains(&"ssecast.gap"), "{told:?}");
    assert!(!types.contains(&"trade"), "{told:?}");
}

#[tokio::test]
async fn what_an_origin_that_is_a_gateway_tells_of_losses_belongs_to_every_selection() {
    let origin = Origin::start().await;
    let keys = format!("{SELECTABLE}\nids = \"upstream\"");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut client = select(&gateway, "price").await;
    for lost in ["ssecast.gap", "ssecast.reset"] {
        origin
            .send(format!(
                "event: {lost}\ndata: {{\"reason\":\"expired\"}}\n\n"
            ))
            .await;
        origin.send("event: price\ndata: more\n\n").await;
        let told = client.events_through("more").await;
        let types: Vec<&str> = told.iter().map(|one| one.event_type.as_str()).collect();
        assert_eq!(types, [lost, "price"]);
    }
}

#[tokio::test]
async fn a_selection_is_over_when_its_channel_is() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(SELECTABLE, &origin).await;
    let mut client = select(&gateway, "price").await;
    let connection = origin.stream().await;
    connection.send("event: price\ndata: last\n\n").await;
    client.expect_event("last").await;
    origin.answer_with(Answer::RawAndClose(
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    ));
    connection.finish().await;
    assert_eq!(client.expect_end().await, End::Clean);
    let request =
        "GET /events?event=price HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    let (head, _) = gateway.connect().await.ask(request).await;
    assert_eq!(head.status, 204);
}

/// Notices have no ids: who has nothing but those to come would come for the same again and again.
#[tokio::test]
async fn a_selection_that_is_over_has_nothing_left_but_events() {
    let origin = Origin::start().await;
    let keys = format!("{SELECTABLE}\nnotices = \"all\"\njoin = \"all\"");
    let gateway = Gateway::with(&keys, &origin).await;
    let mut client = select(&gateway, "price").await;
    let connection = origin.stream().await;
    connection
        .send("event: price\ndata: first\n\nevent: price\ndata: last\n\n")
        .await;
    let events = client.events_through("last").await;
    let ids: Vec<&str> = events
        .iter()
        .filter_map(|event| event.id.as_deref())
        .collect();
    origin.answer_with(Answer::RawAndClose(
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    ));
    connection.finish().await;
    let (told, end) = client.events_to_end().await;
    assert_eq!(end, End::Clean);
    assert!(!told.is_empty(), "the view ends with notices");
    select_after(&gateway, "price", ids[0])
        .await
        .expect_event("last")
        .await;
    let of_price = format!("Last-Event-ID: {}\r\n", ids[1]);
    for (types, field) in [("price", of_price.as_str()), ("trade", "")] {
        let request = format!(
            "GET /events?event={types} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n{field}\r\n"
        );
        let (head, body) = gateway.connect().await.ask(request).await;
        assert_eq!(head.status, 204, "{types}: {body}");
    }
}

#[tokio::test]
async fn when_selections_are_no_longer_allowed_their_clients_come_back_for_all() {
    let origin = Origin::start().await;
    let config =
        |keys: &str| one_channel(&origin.url(), &format!("{keys}\n[server]\ndrain = \"0s\""));
    let gateway = Gateway::with_config(&config(SELECTABLE)).await;
    let mut all = gateway.subscribe().await;
    let mut client = select(&gateway, "price").await;
    origin.send("event: price\ndata: a\n\n").await;
    client.expect_event("a").await;
    all.expect_event("a").await;
    gateway.reload(&config(""), "applied").await;
    assert_eq!(client.expect_end().await, End::Cut);
    let mut again = select(&gateway, "price").await;
    origin.send("event: trade\ndata: b\n\n").await;
    again.expect_event("b").await;
    all.expect_event("b").await;
}
