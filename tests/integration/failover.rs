//! An upstream with several URLs: which of them is asked, and what clients get when it changes.

use serde_json::Value;

use crate::support::{
    ANYWHERE, Admin, Answer, Event, Gateway, Origin, OriginConnection, Subscriber, until_async,
};

/// Soon on, and soon back.
const QUICK: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\nreturn_after = \"50ms\"\n";

/// Soon on, and never back.
const ONE_WAY: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\nreturn_after = \"off\"\n";

const N_CLIENTS: usize = 3;

/// A gateway whose channel has these origins, in order, and clients who are there throughout.
struct World {
    gateway: Gateway,
    admin: Admin,
    subs: Vec<Subscriber>,
}

impl World {
    async fn of(origins: &[&Origin], lines: &str) -> Self {
        let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
        Self::of_urls(&urls, lines).await
    }

    async fn of_urls(urls: &[String], lines: &str) -> Self {
        let gateway = Gateway::with_config(&config(urls, lines)).await;
        let admin = Admin::of(&gateway).await;
        let mut subs = Vec::new();
        for _ in 0..N_CLIENTS {
            subs.push(gateway.subscribe().await);
        }
        Self {
            gateway,
            admin,
            subs,
        }
    }

    /// Asserts that every client gets exactly these events next; `!` is a gap.
    async fn expect(&mut self, expected: &[&str]) {
        let last = expected.last().expect("an event");
        for sub in &mut self.subs {
            let events = sub.events_through(last).await;
            assert_eq!(shown(&events), expected);
        }
    }

    /// Asserts that every client gets this event, the first of an origin that did not answer at once.
    async fn expect_first(&mut self, expected: &str) {
        for sub in &mut self.subs {
            sub.expect_first_event(expected).await;
        }
    }

    /// Asserts that every client gets this event after gaps, of which those count that it was there for.
    async fn expect_after_gaps(&mut self, expected: &str) {
        for sub in &mut self.subs {
            let events = sub.events_through(expected).await;
            let (_, gaps) = events.split_last().expect("an event");
            assert!(!gaps.is_empty());
            assert!(shown(gaps).iter().all(|shown| *shown == "!"), "{events:?}");
        }
    }

    /// What `/status` says of the upstream.
    async fn upstream(&self) -> Value {
        self.admin.status().await["channels"][0]["upstream"].clone()
    }

    /// Waits until the stream comes from this origin.
    async fn until_open_at(&self, origin: &Origin) {
        let url = origin.url();
        until_async(&format!("the stream to come from {url}"), async || {
            let upstream = self.upstream().await;
            if upstream["url"] == *url && upstream["state"] == "open" {
                Ok(())
            } else {
                Err(upstream.to_string())
            }
        })
        .await;
    }
}

fn config(urls: &[String], lines: &str) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("{url:?}")).collect();
    format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\n[channels.events]\npath = \"/events\"\n\
         upstream = [{}]\n{lines}\n{ANYWHERE}",
        urls.join(", ")
    )
}

fn shown(events: &[Event]) -> Vec<&str> {
    let show = |event: &'_ Event| event.event_type == "ssecast.gap";
    let gap = |event: &'_ Event| show(event).then_some("!");
    events
        .iter()
        .map(|event| gap(event).unwrap_or(event.data.as_str()))
        .collect()
}

/// Events whose ids and data are these numbers.
fn numbered(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.map(|n| format!("id: {n}\ndata: {n}\n\n")).collect()
}

/// The newest connection to an origin, which must have been asked to go on after this.
async fn asked_after(origin: &Origin, n: usize, id: Option<&str>) -> OriginConnection {
    let connection = origin.connection(n).await;
    assert_eq!(connection.request_field("Last-Event-ID"), id);
    connection
}

#[tokio::test]
async fn the_first_url_is_asked_and_no_other_while_it_is_well() {
    let (first, second) = (Origin::start().await, Origin::start().await);
    let mut world = World::of(&[&first, &second], QUICK).await;
    first.send(numbered(1..=2)).await;
    world.expect(&["1", "2"]).await;
    assert_eq!((first.n_connections(), second.n_connections()), (1, 0));
    let upstream = world.upstream().await;
    assert_eq!(upstream["url"], *first.url());
    assert_eq!(upstream["others"], serde_json::json!([second.url()]));
}

#[tokio::test]
async fn replicas_that_share_ids_take_over_without_a_gap_or_a_double() {
    let mut first = Origin::start().await;
    let second = Origin::start().await;
    let mut world = World::of(&[&first, &second], ONE_WAY).await;
    first.send(numbered(1..=4)).await;
    world.expect(&["1", "2", "3", "4"]).await;
    first.go_away();
    let taken_over = asked_after(&second, 1, Some("4")).await;
    // It knows where it was asked to go on, or it repeats: both are the same for clients.
    taken_over.send(numbered(3..=6)).await;
    world.expect(&["5", "6"]).await;
    world.until_open_at(&second).await;
    taken_over.close();
    // The first is away, and the second is asked again.
    asked_after(&second, 2, Some("6"))
        .await
        .send(numbered(7..=7))
        .await;
    world.expect(&["7"]).await;
}

#[tokio::test]
async fn a_gap_is_told_where_the_next_url_has_other_ids() {
    for (lines, said) in [
        // It counts for itself, and is behind; or ahead.
        ("", numbered(1..=2)),
        ("", numbered(100..=101)),
        // It has no ids.
        ("", "data: 1\n\ndata: 2\n\n".to_owned()),
        ("ids = \"gateway\"\n", numbered(1..=2)),
    ] {
        let first = Origin::start().await;
        let second = Origin::start().await;
        let mut world = World::of(&[&first, &second], &format!("{lines}{ONE_WAY}")).await;
        let begin: String = (7..=10)
            .map(|n| format!("id: {n}\ndata: of the first {n}\n\n"))
            .collect();
        first.send(begin).await;
        for sub in &mut world.subs {
            sub.events_through("of the first 10").await;
        }
        first.answer_with(Answer::Reset);
        first.connection(1).await.reset();
        let taken_over = second.connection(1).await;
        taken_over.send(&said).await;
        let data: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        world.expect(&[&["!"], &data[..]].concat()).await;
    }
}

/// The first answers while the second streams: clients notice nothing of the way back.
#[tokio::test]
async fn the_stream_goes_back_to_the_first_url_when_that_is_well() {
    let mut first = Origin::start().await;
    let second = Origin::start().await;
    let mut world = World::of(&[&first, &second], QUICK).await;
    first.send(numbered(1..=2)).await;
    world.expect(&["1", "2"]).await;
    first.go_away();
    let there = asked_after(&second, 1, Some("2")).await;
    there.send(numbered(3..=4)).await;
    world.expect(&["3", "4"]).await;
    first.come_back().await;
    // A try, that reads for nobody and is closed.
    let tried = asked_after(&first, 2, Some("4")).await;
    tried.send(numbered(5..=6)).await;
    there.send(numbered(5..=6)).await;
    world.expect(&["5", "6"]).await;
    let back = asked_after(&first, 3, Some("6")).await;
    there.closed().await;
    back.send(numbered(7..=8)).await;
    world.expect(&["7", "8"]).await;
    world.until_open_at(&first).await;
    assert_eq!((first.n_connections(), second.n_connections()), (3, 1));
    let notes = world.gateway.log();
    assert!(!notes.contains("may miss events"), "no loss is told");
}

/// What answers and does not stay is not gone back to, however often it is tried.
#[tokio::test]
async fn a_first_url_that_is_not_well_for_long_does_not_disturb_the_stream() {
    let first = Origin::start().await;
    let second = Origin::start().await;
    let lines = QUICK.replace("50ms", "10s");
    let mut world = World::of(&[&first, &second], &lines).await;
    let ends_at_once = crate::support::event_stream("").into_bytes();
    first.answer_with(Answer::RawAndClose(ends_at_once));
    first.connection(1).await.close();
    let there = second.connection(1).await;
    // What the first would have sent, when it was open, is not known.
    there.send(numbered(0..=0)).await;
    world.expect_after_gaps("0").await;
    // Two attempts, then tries.
    for n in 1..=5u32 {
        first.connection(first.n_connections() + 1).await;
        there.send(numbered(n..=n)).await;
        world.expect(&[&n.to_string()]).await;
    }
    for (n, answer) in (6..).zip([
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    ]) {
        first.answer_with(Answer::RawAndClose(answer.as_bytes().to_vec()));
        first.connection(first.n_connections() + 2).await;
        there.send(numbered(n..=n)).await;
        world.expect(&[&n.to_string()]).await;
    }
    assert_eq!(second.n_connections(), 1);
    world.until_open_at(&second).await;
}

#[tokio::test]
async fn all_urls_that_fail_are_asked_in_turn_until_one_answers() {
    let refuse = || Answer::Reset;
    let first = Origin::answering(refuse()).await;
    let second = Origin::answering(refuse()).await;
    let third = Origin::answering(refuse()).await;
    let mut world = World::of(&[&first, &second, &third], ONE_WAY).await;
    third.connection(3).await;
    let [a, b, c] = [&first, &second, &third].map(Origin::n_connections);
    assert!(a >= b && b >= c && a <= c + 1, "{a}, {b}, {c} attempts");
    second.answer_with(Answer::Chunked);
    second.stream().await.send(numbered(1..=1)).await;
    world.expect_first("1").await;
    world
        .admin
        .until(&[("ssecast_upstream_endpoint{channel=\"events\"}", 1.0)])
        .await;
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_passed_over() {
    let origin = Origin::start().await;
    let urls = ["http://nowhere.invalid/events".to_owned(), origin.url()];
    let lines = format!("connect_timeout = \"500ms\"\n{ONE_WAY}");
    let mut world = World::of_urls(&urls, &lines).await;
    origin.connection(1).await.send(numbered(1..=1)).await;
    world.expect_first("1").await;
}

/// A list that keeps the URL in use does not interrupt it; one that loses it asks the new first.
#[tokio::test]
async fn a_reload_of_the_list_goes_on_where_the_stream_is() {
    let mut first = Origin::start().await;
    let (second, third) = (Origin::start().await, Origin::start().await);
    let mut world = World::of(&[&first, &second], ONE_WAY).await;
    first.send(numbered(0..=0)).await;
    world.expect(&["0"]).await;
    first.go_away();
    second.connection(1).await.send(numbered(1..=1)).await;
    world.expect(&["1"]).await;
    let urls = [third.url(), second.url()];
    world
        .gateway
        .reload(&config(&urls, ONE_WAY), "applied")
        .await;
    second.send(numbered(2..=2)).await;
    world.expect(&["2"]).await;
    assert_eq!((second.n_connections(), third.n_connections()), (1, 0));
    // The one in use goes, and one of the list stays: it is the same stream.
    let urls = [third.url()];
    world
        .gateway
        .reload(&config(&urls, ONE_WAY), "applied")
        .await;
    asked_after(&third, 1, Some("2"))
        .await
        .send(numbered(2..=3))
        .await;
    world.expect(&["3"]).await;
}

#[tokio::test]
async fn credentials_go_to_every_url_of_the_list() {
    let mut first = Origin::start().await;
    let second = Origin::start().await;
    let lines = format!(
        "upstream_headers = {{ Authorization = \"Bearer s3cret\" }}\naccess = \"public\"\n{ONE_WAY}"
    );
    let mut world = World::of(&[&first, &second], &lines).await;
    first.connection(1).await;
    first.go_away();
    let there = second.connection(1).await;
    assert_eq!(there.request_field("Authorization"), Some("Bearer s3cret"));
    there.send(numbered(1..=1)).await;
    world.expect(&["!", "1"]).await;
}

/// Each instance of a template has its own place in the list.
#[tokio::test]
async fn instances_of_a_template_fail_over_each_for_itself() {
    let mut first = Origin::start().await;
    let second = Origin::start().await;
    let urls = [&first, &second].map(|origin| format!("\"http://{}/{{room}}\"", origin.address()));
    let config = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\n[channels.rooms]\npath = \"/rooms/{{room}}\"\n\
         upstream = [{}]\n{ONE_WAY}",
        urls.join(", ")
    );
    let gateway = Gateway::with_config(&config).await;
    let mut subs = Vec::new();
    for room in ["a", "b"] {
        let target = format!("/rooms/{room}");
        subs.push(gateway.connect().await.subscribe(&target, "").await);
        let connection = first.connection(subs.len()).await;
        assert_eq!(connection.target(), format!("/{room}"));
        connection.send(numbered(1..=2)).await;
        subs.last_mut().expect("one").events_through("2").await;
    }
    // One stream breaks, the other goes on.
    first.connection(1).await.reset();
    let taken_over = asked_after(&second, 1, Some("2")).await;
    assert_eq!(taken_over.target(), "/a");
    taken_over.send(numbered(2..=3)).await;
    subs[0].expect_event("3").await;
    first.connection(2).await.send(numbered(3..=3)).await;
    subs[1].expect_event("3").await;
    first.go_away();
    let taken_over = asked_after(&second, 2, Some("3")).await;
    assert_eq!(taken_over.target(), "/b");
    taken_over.send(numbered(4..=4)).await;
    subs[1].expect_event("4").await;
}
