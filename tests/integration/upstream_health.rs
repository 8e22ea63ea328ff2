//! What is made of an upstream's answers, and what newcomers and standing clients learn of it.

use std::time::Duration;

use crate::support::{
    ANYWHERE, Admin, Answer, End, Event, Gateway, Item, Origin, Subscriber, event_stream,
    logged_time,
};

/// Reconnects soon, so that a test of many failures is short.
const SOON: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\n";

const GONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn status(line: &str) -> Answer {
    Answer::RawAndClose(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

async fn gateway_with(lines: &str, origin: &Origin) -> (Gateway, Admin) {
    let gateway = Gateway::with(&format!("{lines}{SOON}{ANYWHERE}"), origin).await;
    let admin = Admin::of(&gateway).await;
    (gateway, admin)
}

async fn subscribers(gateway: &Gateway, n: usize) -> Vec<Subscriber> {
    let mut subs = Vec::new();
    for _ in 0..n {
        subs.push(gateway.subscribe().await);
    }
    subs
}

fn state_is(name: &str) -> String {
    format!("ssecast_upstream_state{{channel=\"events\",state=\"{name}\"}}")
}

/// The answer to a request for the stream: its status, and what is left of it to read.
async fn asked(gateway: &Gateway, fields: &str) -> u16 {
    let request =
        format!("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n{fields}\r\n");
    gateway.connect().await.ask(&request).await.0.status
}

#[tokio::test]
async fn an_upstream_that_is_given_up_is_not_asked_again_until_its_settings_change() {
    let origin = Origin::answering(status("403 Forbidden")).await;
    let lines = "on_status = { 4xx = \"give-up\", 404 = \"retry\" }\nheartbeat = \"1s\"\n";
    let (gateway, admin) = gateway_with(lines, &origin).await;
    let mut subs = subscribers(&gateway, 3).await;
    let line = gateway.logged(1, &["ERROR", "upstream given up"]).await;
    assert!(line[0].contains("upstream_headers"), "advice: {line:?}");
    admin.until(&[(&state_is("gave-up"), 1.0)]).await;
    for sub in &mut subs {
        assert!(matches!(sub.next_item().await, Item::Retry(_)));
        assert_eq!(sub.next_item().await, Item::Comment(String::new()));
    }
    assert_eq!(origin.n_connections(), 1, "it was asked once");
    // What its class says is not what 404 says.
    origin.answer_with(status("404 Not Found"));
    let config = std::fs::read_to_string(gateway.directory().join("ssecast.toml"));
    let config = config.expect("the configuration");
    gateway
        .reload(&config.replace("4xx", "403"), "applied")
        .await;
    origin.connection(3).await;
    origin.answer_with(Answer::Chunked);
    origin.stream().await.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_first_event("a").await;
    }
}

/// With other URLs, only the one that answers so is given up.
#[tokio::test]
async fn a_url_that_is_given_up_is_passed_over() {
    let first = Origin::answering(status("404 Not Found")).await;
    let second = Origin::start().await;
    let config = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\n[channels.events]\npath = \"/events\"\n\
         upstream = [\"{}\", \"{}\"]\non_status = {{ 404 = \"give-up\" }}\n\
         return_after = \"10ms\"\n{SOON}",
        first.url(),
        second.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut sub = gateway.subscribe().await;
    for n in 1..=4 {
        let connection = second.connection(n).await;
        connection.send(format!("id: {n}\ndata: {n}\n\n")).await;
        sub.expect_first_event(&n.to_string()).await;
        connection.close();
    }
    assert_eq!(first.n_connections(), 1);
}

#[tokio::test]
async fn any_status_can_mean_that_a_channel_is_over() {
    let origin = Origin::answering(Answer::Chunked).await;
    let (gateway, _admin) = gateway_with("on_status = { 410 = \"over\" }\n", &origin).await;
    let mut subs = subscribers(&gateway, 3).await;
    let connection = origin.connection(1).await;
    connection.send("id: 1\ndata: last\n\n").await;
    origin.answer_with(status("410 Gone"));
    for sub in &mut subs {
        sub.expect_event("last").await;
    }
    connection.close();
    for sub in &mut subs {
        assert_eq!(sub.expect_end().await, End::Clean);
    }
    assert_eq!(asked(&gateway, "").await, 204);
    assert_eq!(origin.n_connections(), 2);
}

#[tokio::test]
async fn even_204_can_mean_to_ask_again() {
    let origin = Origin::answering(Answer::RawAndClose(GONE.to_vec())).await;
    let (gateway, _admin) = gateway_with("on_status = { 204 = \"retry\" }\n", &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.connection(3).await;
    origin.answer_with(Answer::Chunked);
    origin.stream().await.send("data: a\n\n").await;
    sub.expect_first_event("a").await;
}

/// Who lacks events gets them before the end; 204 is for who has all.
#[tokio::test]
async fn a_channel_that_is_over_has_its_rest_for_who_resumes() {
    let origin = Origin::start().await;
    let (gateway, _admin) = gateway_with("", &origin).await;
    let mut there = gateway.subscribe().await;
    let connection = origin.connection(1).await;
    connection
        .send("id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n")
        .await;
    let uninterrupted = there.events_through("c").await;
    origin.answer_with(Answer::RawAndClose(GONE.to_vec()));
    connection.finish().await;
    assert_eq!(there.expect_end().await, End::Clean);
    let mut away = gateway.resume_after("1").await;
    let (rest, end) = away.events_to_end().await;
    assert_eq!(rest, uninterrupted[1..]);
    assert_eq!(end, End::Clean);
    // An id that nobody knows: all that there is, and told.
    let (mut all, end) = gateway.resume_after("x").await.events_to_end().await;
    assert_eq!(all.remove(0).event_type, "ssecast.reset");
    assert_eq!((all, end), (uninterrupted, End::Clean));
    for fields in ["", "Last-Event-ID: 3\r\n"] {
        assert_eq!(asked(&gateway, fields).await, 204, "{fields:?}");
    }
}

/// What has no id can't be resumed from: a client that got it would come back for it for ever.
#[tokio::test]
async fn a_channel_that_is_over_ends_for_every_client() {
    for lines in ["ids = \"upstream\"\n", "history = { events = 0 }\n"] {
        let origin = Origin::start().await;
        let (gateway, _admin) = gateway_with(lines, &origin).await;
        let mut there = gateway.subscribe().await;
        let connection = origin.connection(1).await;
        connection.send("data: a\n\ndata: b\n\n").await;
        there.events_through("b").await;
        origin.answer_with(Answer::RawAndClose(GONE.to_vec()));
        connection.finish().await;
        assert_eq!(there.expect_end().await, End::Clean);
        assert_eq!(
            asked(&gateway, "Last-Event-ID: x\r\n").await,
            204,
            "{lines}"
        );
    }
}

#[tokio::test]
async fn retry_after_is_honoured_within_bounds() {
    for (field, least, most) in [
        ("Retry-After: 2", 2, 3),
        ("Retry-After: 99999999999", 299, 301),
        ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", 299, 301),
        ("Retry-After: 0", 0, 1),
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT", 0, 1),
        ("Retry-After: soon", 0, 1),
    ] {
        let answer = status(&format!("503 Service Unavailable\r\n{field}"));
        let origin = Origin::answering(answer).await;
        let (gateway, _admin) = gateway_with("", &origin).await;
        let lines = gateway.logged(1, &["upstream failed", "status 503"]).await;
        let wait = logged_time(&lines[0], "retry_in");
        let bounds = Duration::from_secs(least)..=Duration::from_secs(most);
        assert!(bounds.contains(&wait), "{field}: {}", lines[0]);
    }
}

/// The states in the notices among these events, and of what is no notice the data.
fn told(events: &[Event]) -> Vec<String> {
    let tell = |event: &Event| match event.event_type.as_str() {
        "ssecast.upstream" => event.state(),
        "ssecast.gap" => "!".to_owned(),
        "ssecast.reset" => "?".to_owned(),
        _ => event.data.clone(),
    };
    events.iter().map(tell).collect()
}

#[tokio::test]
async fn an_outage_is_told_once_with_its_kind_and_without_what_the_origin_said() {
    let origin = Origin::start().await;
    let (gateway, _admin) = gateway_with("notices = \"all\"\n", &origin).await;
    let mut subs = subscribers(&gateway, 3).await;
    origin.send("id: 1\ndata: a\n\n").await;
    for sub in &mut subs {
        sub.events_through("a").await;
    }
    // An origin that accepts and closes at once, or says something else, is down all the time.
    origin.answer_with(Answer::RawAndClose(event_stream("").into_bytes()));
    origin.connection(1).await.close();
    gateway.logged(3, &["stream-ended"]).await;
    origin.answer_with(status("500 s3cret"));
    gateway.logged(2, &["unexpected-status"]).await;
    let mut newcomer = gateway.subscribe().await;
    let present = newcomer.next_event().await;
    assert_eq!(present.state(), "down");
    origin.answer_with(Answer::Chunked);
    origin.stream().await;
    let stream = origin.open_connection().await;
    stream.send("id: 2\ndata: b\n\n").await;
    for sub in &mut subs {
        let events = sub.events_through("b").await;
        assert_eq!(told(&events), ["down", "live", "b"], "{events:?}");
        let [down, live] = [&events[0].data, &events[1].data];
        assert!(down.contains(r#""reason":"stream-broke""#), "{down}");
        assert!(!live.contains("reason"), "{live}");
    }
    let events = newcomer.events_through("b").await;
    assert_eq!(told(&events), ["live", "b"]);
    assert_ne!(present.data, events[0].data);
    // And who comes now.
    let mut late = gateway.subscribe().await;
    assert_eq!(late.next_event().await.state(), "live");
    // Who goes on where it was is told what has changed since, and nothing twice.
    let mut back = gateway.resume_after("1").await;
    let events = back.events_through("b").await;
    assert_eq!(told(&events), ["down", "live", "b"]);
    // Nobody is known by that id: the present state, and then the history.
    let mut lost = gateway.resume_after("x").await;
    let events = lost.events_through("b").await;
    assert_eq!(told(&events)[..2], ["live", "?"]);
    // The end is told before it comes.
    origin.answer_with(Answer::RawAndClose(GONE.to_vec()));
    stream.finish().await;
    for sub in &mut subs {
        let (events, end) = sub.events_to_end().await;
        assert_eq!(told(&events), ["down", "over"]);
        assert_eq!(end, End::Clean);
    }
}

#[tokio::test]
async fn while_the_upstream_is_down_newcomers_can_be_sent_away_and_nobody_else() {
    let mut origin = Origin::start().await;
    let (gateway, admin) = gateway_with("while_down = \"503\"\n", &origin).await;
    let mut subs = subscribers(&gateway, 3).await;
    origin.send("id: 1\ndata: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
    origin.go_away();
    gateway.logged(2, &["connect-failed"]).await;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let request = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
        let (head, _) = gateway.connect().await.ask(request).await;
        assert_eq!(head.status, 503);
        let wait: u64 = head
            .field("retry-after")
            .expect("a time")
            .parse()
            .expect("seconds");
        assert!((5..=30).contains(&wait), "{wait}");
        waits.push(wait);
    }
    waits.dedup();
    assert!(waits.len() > 1, "random: {waits:?}");
    let refused = "ssecast_refusals_total{channel=\"events\",reason=\"upstream-down\"}";
    admin.until(&[(refused, 8.0)]).await;
    origin.come_back().await;
    origin.connection(2).await.send("id: 2\ndata: b\n\n").await;
    for sub in &mut subs {
        sub.expect_event("b").await;
    }
    let mut newcomer = gateway.resume_after("1").await;
    newcomer.expect_event("b").await;
}

/// Before the first answer there is nothing to send anybody away for.
#[tokio::test]
async fn an_upstream_that_only_connects_is_not_down() {
    let origin = Origin::answering(Answer::Nothing).await;
    let (gateway, _admin) = gateway_with("while_down = \"503\"\n", &origin).await;
    origin.connection(1).await;
    let mut sub = gateway.subscribe().await;
    assert!(matches!(sub.next_item().await, Item::Retry(_)));
}
