//! Subscribers that are too far behind, on real shards: whatever they do not get is told, exactly.

use std::sync::mpsc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::Framing;
use super::world::{Client, DEADLINE, World, number};
use crate::log::testing::Read;
use crate::log::{Ending, GAP_NOTICE};

/// What the writer has appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Event(usize),
    /// A notice that the origin may have lost some, never two in a row.
    Gap,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<usize>),
    Gap,
    Read { client: usize, n: usize },
}

/// How much a notice of the gateway's says that a subscriber missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Missed {
    n_events: usize,
    hides_gap: bool,
}

/// The notice that a lagging subscriber gets; `None`: another event.
fn missed(event: &Read) -> Option<Missed> {
    if event.event_type != GAP_NOTICE {
        return None;
    }
    let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
    if data["reason"] != "lag" {
        return None;
    }
    let hides_gap = data["missed"] == "unknown";
    let key = if hides_gap { "at_least" } else { "missed" };
    let n_events = data[key].as_u64().expect("a number");
    let n_events = usize::try_from(n_events).expect("few");
    assert!(n_events > 0 || hides_gap, "nothing is no loss");
    Some(Missed {
        n_events,
        hides_gap,
    })
}

/// Walks along what was said with what a subscriber got: each item in its place, or told to be missed.
/// Returns how many events were missed.
fn account(got: &[Read], said: &[Said]) -> usize {
    let mut next = 0;
    let mut n_missed = 0;
    // Whether the last notice says that it hides gaps of the origin's, and how many it does. Who stalls
    // before it has taken a notice gets another, and the two of them hide what they hide.
    let mut hidden: Option<(bool, usize)> = None;
    for (index, item) in got.iter().enumerate() {
        let place = format!(
            "item {index}, {:.60?}, where {:?} was said",
            item,
            said.get(next)
        );
        if let Some(missed) = missed(item) {
            n_missed += missed.n_events;
            let (hides_gap, mut n_hidden) = hidden.unwrap_or_default();
            let mut n_left = missed.n_events;
            while n_left > 0 {
                match said.get(next) {
                    Some(Said::Event(_)) => n_left -= 1,
                    Some(Said::Gap) => n_hidden += 1,
                    None => panic!("more is missed than was said: {place}"),
                }
                next += 1;
            }
            hidden = Some((hides_gap || missed.hides_gap, n_hidden));
            continue;
        }
        let is_gap = item.event_type == GAP_NOTICE;
        if let Some((hides_gap, mut n_hidden)) = hidden.take() {
            if !is_gap && said.get(next) == Some(&Said::Gap) {
                n_hidden += 1;
                next += 1;
            }
            assert_eq!(hides_gap, n_hidden > 0, "{place}");
        }
        let is_in_place = match said.get(next) {
            Some(Said::Event(n)) => !is_gap && number(item) == *n,
            Some(Said::Gap) => is_gap,
            None => false,
        };
        assert!(is_in_place, "{place}");
        next += 1;
    }
    if hidden.is_some() && said.get(next) == Some(&Said::Gap) {
        next += 1;
    }
    assert_eq!(next, said.len(), "all is told");
    n_missed
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(0usize..3000, 1..6).prop_map(Step::Commit),
        1 => Just(Step::Gap),
        4 => (0usize..4, 1usize..9000).prop_map(|(client, n)| Step::Read { client, n }),
    ]
}

fn any_limit() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("limit = \"1B\""),
        Just("limit = \"4KiB\""),
        Just("limit = \"64KiB\""),
        Just("events = 3"),
        Just("age = \"1ms\""),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn who_skips_gets_every_event_or_is_told(
        limit in any_limit(),
        n_events in prop_oneof![1usize..20, Just(1000)],
        steps in vec(any_step(), 1..100),
    ) {
        let lines = format!(
            "history = {{ events = {n_events} }}\nlag = {{ {limit}, then = \"skip\" }}"
        );
        let mut world = World::new(2, &lines);
        let mut clients: Vec<Client> = (0..4)
            .map(|n| {
                let framing = if n % 2 == 0 { Framing::Chunked } else { Framing::Plain };
                world.subscribe(n, framing, None)
            })
            .collect();
        for client in &mut clients {
            client.read_until("the prologue", |bytes| !bytes.is_empty());
        }
        let mut said = Vec::new();
        for step in steps {
            match step {
                Step::Commit(sizes) => {
                    said.extend((world.n_said..world.n_said + sizes.len()).map(Said::Event));
                    world.commit(&sizes);
                }
                Step::Gap => {
                    if said.last() != Some(&Said::Gap) {
                        said.push(Said::Gap);
                        let data = r#"{"missed":"unknown","reason":"upstream-not-resumed"}"#;
                        world.writer.push_notice(GAP_NOTICE, data);
                        world.writer.commit(Instant::now());
                    }
                }
                Step::Read { client, n } => clients[client].read_some(n),
            }
        }
        world.writer.end(Ending::Over, Instant::now());
        for client in &mut clients {
            client.read_until("the end of the channel", |_| false);
            if client.framing == Framing::Chunked {
                prop_assert!(client.bytes.ends_with(b"\r\n0\r\n\r\n"), "{:?}", client);
                client.bytes.truncate(client.bytes.len() - b"0\r\n\r\n".len());
            }
            account(&client.read_events(), &said);
        }
    }
}

/// What a subscriber gets that conflates: numbers that grow, each jump told before, and at the end what
/// is the newest of each type.
fn account_conflated(got: &[Read], n_said: usize, n_types: usize) {
    let (mut n_got, mut n_told) = (0, 0);
    let mut newest = vec![None; n_types];
    let mut next = 0;
    for item in got {
        if item.event_type == GAP_NOTICE {
            let data: serde_json::Value = serde_json::from_str(&item.data).expect("JSON");
            assert_eq!(data["reason"], "conflated");
            let missed = data["missed"].as_u64().expect("a number");
            assert!(missed > 0, "nothing is no loss");
            n_told += usize::try_from(missed).expect("few");
            continue;
        }
        let number = number(item);
        assert!(number >= next, "{number} after {next}");
        assert!(
            number - n_got <= n_told,
            "{number} is the {n_got}th, and {n_told} are told to be missed"
        );
        n_got += 1;
        next = number + 1;
        newest[number % n_types] = Some(number);
    }
    assert_eq!(n_got + n_told, n_said, "{n_told} are told to be missed");
    for (key, newest) in newest.iter().enumerate() {
        let last = (0..n_said).rev().find(|number| number % n_types == key);
        assert_eq!(*newest, last, "of type {key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn who_conflates_ends_with_the_newest_of_each_type_and_is_told_how_many_it_missed(
        limit in any_limit(),
        n_events in prop_oneof![1usize..20, Just(1000)],
        n_types in 1usize..12,
        steps in vec(any_step(), 1..100),
    ) {
        let lines = format!(
            "history = {{ events = {n_events} }}\nlag = {{ {limit}, then = \"conflate\" }}"
        );
        let mut world = World::new(2, &lines);
        world.n_types = n_types;
        let mut clients: Vec<Client> = (0..4)
            .map(|n| {
                let framing = if n % 2 == 0 { Framing::Chunked } else { Framing::Plain };
                world.subscribe(n, framing, None)
            })
            .collect();
        for client in &mut clients {
            client.read_until("the prologue", |bytes| !bytes.is_empty());
        }
        for step in steps {
            match step {
                Step::Commit(sizes) => world.commit(&sizes),
                Step::Gap => {}
                Step::Read { client, n } => clients[client].read_some(n),
            }
        }
        world.writer.end(Ending::Over, Instant::now());
        for client in &mut clients {
            client.read_until("the end of the channel", |_| false);
            if client.framing == Framing::Chunked {
                prop_assert!(client.bytes.ends_with(b"\r\n0\r\n\r\n"), "{:?}", client);
                client.bytes.truncate(client.bytes.len() - b"0\r\n\r\n".len());
            }
            account_conflated(&client.read_events(), world.n_said, n_types);
        }
    }
}

/// A shard that was kept from its work for so long that events were dropped for it skips with all its
/// subscribers.
#[test]
fn a_shard_that_was_overrun_skips_and_tells_how_much() {
    const EVENT_BYTES: usize = 100_000;
    let lines = "history = { bytes = \"1MiB\" }\nlag = { limit = \"512KiB\", then = \"skip\" }";
    let mut world = World::new(1, lines);
    let mut live = world.subscribe(0, Framing::Chunked, None);
    live.read_until("the prologue", |bytes| !bytes.is_empty());
    let mut slow = world.subscribe(0, Framing::Plain, None);
    slow.read_until("the prologue", |bytes| !bytes.is_empty());
    world.commit(&[EVENT_BYTES]);
    live.read_until("an event", |bytes| bytes.ends_with(b"id: 0\n\n\r\n"));
    // It is in the middle of it.
    slow.read_until("the begin of an event", |bytes| bytes.len() > 1000);

    let (release, hold) = mpsc::channel::<()>();
    let (tell, is_held) = mpsc::channel();
    world.delivery().shards()[0].spawn(async move {
        tell.send(()).expect("the test waits");
        // Keeps the whole thread, as a machine without a free core does.
        hold.recv_timeout(DEADLINE).expect("the test releases it");
    });
    is_held.recv_timeout(DEADLINE).expect("the shard is held");
    world.commit(&[1, 1, 1]);
    world.commit(&[16 * 1024 * 1024]);
    release.send(()).expect("the shard is held");
    live.read_until("the notice", |bytes| {
        bytes
            .windows(GAP_NOTICE.len())
            .any(|some| some == GAP_NOTICE.as_bytes())
    });
    world.commit(&[1, 1]);
    world.writer.end(Ending::Over, Instant::now());
    let said: Vec<Said> = (0..world.n_said).map(Said::Event).collect();
    // Who took nothing meanwhile skips what came since, too.
    for (client, n_missed) in [(&mut live, 4), (&mut slow, 6)] {
        client.read_until("the end of the channel", |_| false);
        if client.framing == Framing::Chunked {
            client
                .bytes
                .truncate(client.bytes.len() - b"0\r\n\r\n".len());
        }
        assert_eq!(
            account(&client.read_events(), &said),
            n_missed,
            "{client:?}"
        );
    }
}

/// A snapshot that nobody else gets any more is kept for who does not read it, and counts.
#[tokio::test]
async fn who_does_not_read_a_snapshot_does_not_keep_it_when_memory_has_run_out() {
    const N_TYPES: usize = 8;
    const EVENT_BYTES: usize = 60_000;
    let lines = "join = \"latest\"\nlag = { then = \"skip\" }";
    let mut world = World::new(1, lines);
    world.n_types = N_TYPES;
    world.commit(&[EVENT_BYTES; N_TYPES]);
    let mut slow = world.subscribe(0, Framing::Chunked, None);
    slow.read_until("the first event", |bytes| bytes.len() > 1000);
    let log = world.channel.log();
    log.give_up(usize::MAX);
    let kept = log.budget().used();
    assert!(kept > (N_TYPES - 1) * EVENT_BYTES, "{kept} bytes are kept");
    world.delivery().shards()[0].relieve();
    let deadline = Instant::now() + DEADLINE;
    while log.budget().used() > 2 * EVENT_BYTES {
        assert!(Instant::now() < deadline, "{} bytes", log.budget().used());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.writer.end(Ending::Over, Instant::now());
    slow.read_until("the end of the channel", |_| false);
    slow.bytes.truncate(slow.bytes.len() - b"0\r\n\r\n".len());
    let (events, notices): (Vec<Read>, Vec<Read>) =
        (slow.read_events().into_iter()).partition(|event| event.event_type != GAP_NOTICE);
    assert_eq!(notices.len(), 1, "{notices:?}");
    let told = missed(&notices[0]).expect("a lag notice");
    assert_eq!(events.len() + told.n_events, N_TYPES);
}
