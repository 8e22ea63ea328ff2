//! Upstreams that are killed, frozen, restarted, replaced, or that go back in their ids: what every
//! client gets, against what a client that was never interrupted must have.
//!
//! Three clients are there throughout; a fourth is cut off at every fault and resumes by id.

use crate::support::{Answer, Event, Gateway, Origin, OriginConnection, Subscriber, event_stream};

const LINES: &str = "backoff = { first = \"10ms\", max = \"40ms\" }\nresponse_timeout = \"150ms\"\n\
                     idle_timeout = \"300ms\"\n";

const N_CLIENTS: usize = 3;

/// What a client has got: data, or `!` for a gap and `?` for a reset.
#[derive(Debug, Default)]
struct Account {
    got: Vec<String>,
    last_id: Option<String>,
}

struct World {
    gateway: Gateway,
    there: Vec<(Subscriber, Account)>,
    /// Comes and goes.
    away: Account,
}

/// An event of an origin.
type Said<'a> = (&'a str, &'a str);

impl Account {
    fn note(&mut self, event: &Event) {
        if let Some(id) = event.id.clone() {
            self.last_id = Some(id).filter(|id| !id.is_empty());
        }
        self.got.push(match event.event_type.as_str() {
            "ssecast.gap" => "!".to_owned(),
            "ssecast.reset" => "?".to_owned(),
            _ => event.data.clone(),
        });
    }

    async fn read_through(&mut self, sub: &mut Subscriber, last: &str) {
        for event in sub.events_through(last).await {
            self.note(&event);
        }
    }
}

impl World {
    async fn of(origin: &Origin, lines: &str) -> Self {
        let gateway = Gateway::with(&format!("{lines}{LINES}"), origin).await;
        let mut there = Vec::new();
        for _ in 0..N_CLIENTS {
            there.push((gateway.subscribe().await, Account::default()));
        }
        let away = Account::default();
        Self {
            gateway,
            there,
            away,
        }
    }

    /// Lets everybody read up to the event with these data; who comes and goes has come for it.
    async fn read_through(&mut self, last: &str) {
        for (sub, account) in &mut self.there {
            account.read_through(sub, last).await;
        }
        let mut sub = match &self.away.last_id {
            Some(id) => self.gateway.resume_after(id).await,
            None => self.gateway.resume_after("0").await,
        };
        if self.away.last_id.is_none() {
            // The whole history: nobody knows that id.
            let reset = sub.next_event().await;
            assert_eq!(reset.event_type, "ssecast.reset");
        }
        self.away.read_through(&mut sub, last).await;
    }

    /// Asserts that everybody has got exactly this, in this order.
    fn assert_all(&self, expected: &[&str]) {
        self.assert_there(expected);
        assert_eq!(self.away.got, expected, "who was cut off each time");
    }

    /// Asserts that those who were there throughout have got exactly this.
    fn assert_there(&self, expected: &[&str]) {
        for (_, account) in &self.there {
            assert_eq!(account.got, expected);
        }
    }
}

fn text(said: &[Said<'_>]) -> String {
    let one = |(id, data): &Said<'_>| format!("id: {id}\ndata: {data}\n\n");
    said.iter().map(one).collect()
}

async fn asked(origin: &Origin, number: usize, after: &str) -> OriginConnection {
    let connection = origin.connection(number).await;
    let field = connection.request_field("Last-Event-ID");
    assert_eq!(field, Some(after), "connection {number}");
    connection
}

const BEGIN: [Said<'static>; 3] = [("1", "a"), ("2", "b"), ("3", "c")];

#[tokio::test]
async fn killed_in_the_middle_of_an_event_and_started_again() {
    for lines in ["", "ids = \"gateway\"\n", "coalesce = \"5ms\"\n"] {
        let mut origin = Origin::start().await;
        let mut world = World::of(&origin, lines).await;
        origin.send(text(&BEGIN)).await;
        world.read_through("c").await;
        origin.send("id: 4\ndata: half of d").await;
        origin.go_away();
        world.gateway.logged(2, &["connect-failed"]).await;
        origin.come_back().await;
        // It has kept what it said, and knows where it was asked to go on.
        let again = asked(&origin, 2, "3").await;
        again.send(text(&[("4", "d"), ("5", "e")])).await;
        world.read_through("e").await;
        world.assert_all(&["a", "b", "c", "d", "e"]);
    }
}

/// A process that is stopped, or a network that has swallowed the connection: nothing comes, and
/// nothing says so. What accepts and does not answer is the same, a step earlier.
#[tokio::test]
async fn frozen_with_the_stream_open_and_then_before_the_answer() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    origin.send(text(&BEGIN)).await;
    world.read_through("c").await;
    origin.answer_with(Answer::Nothing);
    world.gateway.logged(1, &["reason=\"stalled\""]).await;
    asked(&origin, 2, "3").await;
    world
        .gateway
        .logged(1, &["reason=\"response-timed-out\""])
        .await;
    asked(&origin, 3, "3").await;
    origin.answer_with(Answer::Chunked);
    let again = origin.stream_after(3).await;
    assert_eq!(again.request_field("Last-Event-ID"), Some("3"));
    // It thaws: what it says on the old connection is nobody's any more.
    let thawed = origin.connection(1).await;
    thawed.try_send(text(&[("4", "d"), ("5", "e")])).await;
    again.send(text(&[("4", "d"), ("5", "e")])).await;
    world.read_through("e").await;
    world.assert_all(&["a", "b", "c", "d", "e"]);
}

/// It has lost what it knew, and counts from 1 again: nothing of it is taken for a repeat.
#[tokio::test]
async fn restarted_without_its_memory() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    origin.send(text(&BEGIN)).await;
    world.read_through("c").await;
    origin.connection(1).await.reset();
    let again = asked(&origin, 2, "3").await;
    again
        .send(text(&[("1", "A"), ("2", "B"), ("3", "C"), ("4", "D")]))
        .await;
    world.read_through("D").await;
    let news = ["!", "A", "B", "C", "D"];
    world.assert_there(&[&["a", "b", "c"], &news[..]].concat());
    // The id after which it wants to go on is two events' now: it gets all, and is told why.
    let all = [&["a", "b", "c", "?", "a", "b", "c"], &news[..]].concat();
    assert_eq!(world.away.got, all);
}

/// Another process is at the address, with events and ids of another kind; then one without ids.
#[tokio::test]
async fn replaced_by_another_process() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    origin.send(text(&BEGIN)).await;
    world.read_through("c").await;
    origin.connection(1).await.reset();
    let other = asked(&origin, 2, "3").await;
    other.send("data: no id\n\n").await;
    world.read_through("no id").await;
    other.send(text(&[("x-7", "x"), ("x-8", "y")])).await;
    world.read_through("y").await;
    world.assert_all(&["a", "b", "c", "!", "no id", "x", "y"]);
}

/// All that it has, from the beginning, whatever it is asked for; once, twice, and in pieces.
#[tokio::test]
async fn replaying_old_events() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    let mut said: Vec<(String, String)> = Vec::new();
    for round in 1..=4 {
        let connection = origin.connection(round).await;
        for n in 1..=round * 50 {
            if n > said.len() {
                said.push((n.to_string(), format!("event {n}")));
            }
            let (id, data) = &said[n - 1];
            connection.send(text(&[(id, data)])).await;
        }
        let last = said.last().expect("an event").1.clone();
        world.read_through(&last).await;
        connection.close();
    }
    let expected: Vec<&str> = said.iter().map(|(_, data)| data.as_str()).collect();
    world.assert_all(&expected);
}

/// The same ids with other bytes are news, and that events may be missing is told.
#[tokio::test]
async fn saying_something_else_under_old_ids() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    origin.send(text(&BEGIN)).await;
    world.read_through("c").await;
    origin.connection(1).await.reset();
    let again = asked(&origin, 2, "3").await;
    again
        .send(text(&[("2", "b"), ("3", "other"), ("4", "d")]))
        .await;
    world.read_through("d").await;
    world.assert_there(&["a", "b", "c", "!", "other", "d"]);
    // Two events have the id 3: nobody can go on after it.
    let all = ["a", "b", "c", "?", "a", "b", "c", "!", "other", "d"];
    assert_eq!(world.away.got, all);
}

/// Ids that go back, repeat and change their kind in one stream are no matter: what comes is
/// delivered, in order, each once.
#[tokio::test]
async fn going_back_in_its_ids() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    let said = [
        ("9", "a"),
        ("8", "b"),
        ("7", "c"),
        ("x", "d"),
        ("8", "e"),
        ("z-1", "f"),
    ];
    for (id, data) in said {
        origin.send(text(&[(id, data)])).await;
        for (sub, account) in &mut world.there {
            account.read_through(sub, data).await;
        }
    }
    for (_, account) in &world.there {
        assert_eq!(account.got, ["a", "b", "c", "d", "e", "f"]);
    }
    origin.connection(1).await.reset();
    let again = asked(&origin, 2, "z-1").await;
    again.send(text(&[("1", "g")])).await;
    for (sub, account) in &mut world.there {
        account.read_through(sub, "g").await;
        let gaps = account.got.iter().filter(|one| *one == "!").count();
        let events: String = account
            .got
            .iter()
            .filter(|one| *one != "!")
            .cloned()
            .collect();
        assert_eq!((events.as_str(), gaps <= 1), ("abcdefg", true));
    }
}

/// Faults upon faults: after all of them everybody has everything, in order, each once.
#[tokio::test]
async fn a_bad_day() {
    let origin = Origin::start().await;
    let mut world = World::of(&origin, "").await;
    let mut next = 1;
    let mut number = 1;
    let mut expected = Vec::new();
    for fault in 0..6 {
        let connection = origin.stream_after(number - 1).await;
        number = connection.number();
        // It repeats the last ones, as one does that is not sure.
        let from = next.max(4) - 3;
        let said: String = (from..next + 5)
            .map(|n| format!("id: {n}\ndata: {n}\n\n"))
            .collect();
        connection.send(said).await;
        expected.extend((next..next + 5).map(|n| n.to_string()));
        next += 5;
        world.read_through(&(next - 1).to_string()).await;
        let broken = match fault {
            0 => Answer::Reset,
            1 => Answer::RawAndClose(b"<!doctype html>".to_vec()),
            2 => Answer::RawAndClose(event_stream("Content-Encoding: lzma\r\n").into_bytes()),
            3 => Answer::Nothing,
            4 => Answer::RawAndClose(b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\n\r\n".to_vec()),
            _ => Answer::RawAndClose(event_stream("").into_bytes()),
        };
        origin.answer_with(broken);
        match fault % 3 {
            0 => connection.reset(),
            1 => connection.finish().await,
            _ => connection.close(),
        }
        number = origin.connection(number + 2).await.number();
        number = number.max(origin.n_connections());
        origin.answer_with(Answer::Chunked);
        number += 1;
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    world.assert_all(&expected);
}
