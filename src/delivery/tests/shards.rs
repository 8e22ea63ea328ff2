//! Shards on their threads, over real sockets: every event once, in order.

use std::sync::mpsc;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::{Framing, spread_goodbyes};
use super::world::{Client, DEADLINE, World};
use crate::channel::Departure;
use crate::log::Ending;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<usize>),
    /// A client reads at most so many bytes.
    Read {
        client: usize,
        n: usize,
    },
    Subscribe {
        shard: usize,
        framing: Framing,
        /// Counted from the newest event.
        seen: Option<usize>,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let framing = prop_oneof![Just(Framing::Chunked), Just(Framing::Plain)];
    let seen = proptest::option::of(0usize..30);
    prop_oneof![
        5 => vec(0usize..3000, 1..6).prop_map(Step::Commit),
        5 => (0usize..8, 1usize..9000).prop_map(|(client, n)| Step::Read { client, n }),
        2 => (0usize..2, framing, seen)
            .prop_map(|(shard, framing, seen)| Step::Subscribe { shard, framing, seen }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_subscriber_gets_a_run_of_events(
        events in prop_oneof![1usize..20, Just(1000)],
        steps in vec(any_step(), 1..100),
    ) {
        let mut world = World::new(2, &format!("history = {{ events = {events} }}"));
        let mut clients: Vec<Client> = Vec::new();
        for step in steps {
            match step {
                Step::Commit(sizes) => world.commit(&sizes),
                Step::Read { client, n } => {
                    let n_clients = clients.len().max(1);
                    if let Some(client) = clients.get_mut(client % n_clients) {
                        client.read_some(n);
                    }
                }
                Step::Subscribe { shard, framing, seen } => {
                    let seen = seen.and_then(|back| world.n_said.checked_sub(back + 1));
                    clients.push(world.subscribe(shard, framing, seen));
                }
            }
        }
        world.writer.end(Ending::Over, Instant::now());
        for client in &mut clients {
            client.read_until("the end of the channel", |_| false);
            if client.framing == Framing::Chunked {
                prop_assert!(client.bytes.ends_with(b"\r\n0\r\n\r\n"), "{:?}", client);
                client.bytes.truncate(client.bytes.len() - b"0\r\n\r\n".len());
            }
            client.check(world.n_said);
        }
    }
}

/// A shard that was kept from its work for so long that events were dropped for it gives its
/// subscribers up: they come back. Those that come meanwhile, while one of them still takes its
/// time to leave, are served like any others.
#[test]
fn a_shard_that_was_overrun_goes_on() {
    const EVENT_BYTES: usize = 100_000;
    let mut world = World::new(1, "history = { bytes = \"1MiB\" }\nlag.limit = \"512KiB\"");
    world.commit(&[1]);
    // It takes nothing, so it is in the middle of an event when it is told to leave.
    let mut slow = world.subscribe(0, Framing::Chunked, Some(0));
    slow.read_until("the prologue", |bytes| !bytes.is_empty());
    world.commit(&[EVENT_BYTES]);
    slow.read_until("the begin of an event", |bytes| bytes.len() > 1000);

    let (release, hold) = mpsc::channel::<()>();
    let (tell, is_held) = mpsc::channel();
    world.delivery().shards()[0].spawn(async move {
        tell.send(()).expect("the test waits");
        // Keeps the whole thread, as a machine without a free core does.
        hold.recv_timeout(DEADLINE).expect("the test releases it");
    });
    is_held.recv_timeout(DEADLINE).expect("the shard is held");
    // The second is more than the shard may have outstanding, so both are dropped for it.
    world.commit(&[1]);
    world.commit(&[5 * 1024 * 1024]);
    release.send(()).expect("the shard is held");

    let newest = world.n_said - 1;
    let mut next = world.subscribe(0, Framing::Chunked, Some(newest));
    next.read_until("the prologue", |bytes| !bytes.is_empty());
    for _ in 0..3 {
        world.commit(&[EVENT_BYTES]);
    }
    let last = format!("id: {}\n\n\r\n", world.n_said - 1);
    next.read_until("the last event", |bytes| bytes.ends_with(last.as_bytes()));
    next.check(world.n_said);

    slow.read_until("its end", |_| false);
    let (numbers, _) = slow.events();
    assert_eq!(numbers, (1..numbers.len() + 1).collect::<Vec<_>>());
}

/// As on a machine that is so busy that a shard has its turn only when the time of a drain is over.
#[tokio::test]
async fn who_is_sent_away_late_is_told_when_to_come_back_all_the_same() {
    let world = World::new(2, "");
    let mut clients: Vec<Client> = (0..8)
        .map(|n| {
            let framing = if n % 4 < 2 {
                Framing::Chunked
            } else {
                Framing::Plain
            };
            world.subscribe(n, framing, None)
        })
        .collect();
    for client in &mut clients {
        client.read_until("the prologue", |bytes| bytes.ends_with(b"\n"));
    }
    let (shards, channels) = (world.delivery().shards(), [world.channel.clone()]);
    spread_goodbyes(shards, &channels, Departure::Stopped, Instant::now()).await;
    for client in &mut clients {
        client.read_until("the end", |_| false);
        let n_times = client.bytes.windows(7).filter(|some| some == b"retry: ");
        assert_eq!(n_times.count(), 2, "{client:?}");
    }
}
