//! The switch from replay to live: the real log, feed, wire and passes under schedules of their own.
//!
//! What is not here are sockets: a subscriber takes as many bytes as the schedule says.

use std::io::IoSlice;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::pass::Pass;
use super::super::wire::{Framing, MAX_PIECES, Wire};
use crate::config::{ConflateBy, History, Ids, Join, Keying, LatestLimits, OnGap};
use crate::log::testing::{Silent, dechunk, event, read};
use crate::log::{Feed, Follows, Log, Position, Wish, Writer};
use crate::sse::Event;

/// How many of the newest events some ask for.
const NEWEST: usize = 3;

/// The type of an event.
fn key_of(number: usize) -> &'static str {
    ["a", "b", "c", "a", "a"][number % 5]
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// The writer appends a batch of events of these sizes.
    Commit(Vec<usize>),
    /// A subscriber comes to a shard.
    Join { shard: usize, joining: Joining },
    /// A shard carries new events to those that have everything else. Each takes this many bytes.
    Pass { shard: usize, taken: usize },
    /// A shard takes what the log has for it.
    Pull { shard: usize },
    /// A subscriber that is behind takes some bytes.
    Write {
        shard: usize,
        subscriber: usize,
        taken: usize,
    },
}

#[derive(Debug, Clone)]
struct Joining {
    framing: Framing,
    /// Which event it has seen last, counted from the newest; `None`: none.
    seen: Option<usize>,
    /// What it gets if it has seen none, or nobody knows what followed.
    join: Join,
    /// Events that the writer appends, on its own thread, between two steps of the shard's.
    commits: [bool; 2],
}

struct World {
    log: Log,
    writer: Writer,
    /// The data of all events.
    said: Vec<String>,
    shards: Vec<Shard>,
}

struct Shard {
    feed: Arc<Feed>,
    wire: Wire,
    /// The end of the last pass.
    passed: Position,
    subscribers: Vec<Subscriber>,
}

struct Subscriber {
    at: Position,
    framing: Framing,
    /// The next pass serves it.
    is_flowing: bool,
    taken: Vec<u8>,
    /// What it must get first, the newest of each key.
    expected: Vec<String>,
    /// How many events there were before the first that it must get after that.
    n_before: usize,
}

impl World {
    fn new(limits: History) -> Self {
        let (log, mut writer) = Log::new(limits, Ids::Fill);
        let limits = LatestLimits {
            keys: 10,
            bytes: 1_000_000,
        };
        let by = ConflateBy::Type;
        writer.set_keying(Some(Keying { by, limits }), Instant::now());
        let attach = |_| {
            let (feed, head) = log.attach(Box::new(Silent), usize::MAX);
            Shard {
                feed,
                wire: Wire::new(head),
                passed: head,
                subscribers: Vec::new(),
            }
        };
        let shards = (0..2).map(attach).collect();
        Self {
            log,
            writer,
            said: Vec::new(),
            shards,
        }
    }

    fn commit(&mut self, sizes: &[usize]) {
        for size in sizes {
            let number = self.said.len();
            let data = format!("{number} {}", "x".repeat(*size));
            self.writer.push(&Event {
                event_type: key_of(number),
                ..event(Some(&number.to_string()), &data)
            });
            self.said.push(data);
        }
        self.writer.commit(Instant::now());
    }

    fn join(&mut self, shard: usize, joining: &Joining) {
        let n_said = self.said.len();
        let seen = joining.seen.and_then(|back| n_said.checked_sub(back + 1));
        let id = seen.map(|number| number.to_string());
        let wish = Wish {
            last_event_id: id.as_deref(),
            join: joining.join,
            on_gap: match joining.join {
                Join::All | Join::Newest(_) => OnGap::All,
                Join::Latest => OnGap::Latest,
                Join::Live => OnGap::Live,
            },
        };
        let start = self.log.start(wish, Instant::now());
        let n_retained = self.log.size().n_events;
        let n_before = match (start.follows, seen) {
            (Follows::Rest, Some(seen)) => seen + 1,
            (Follows::Latest, _) => {
                // After many in a moment, it may be as of a moment ago.
                let since = start.batches.iter();
                let since = since.map(|batch| batch.n_events_between(start.at, u64::MAX));
                n_said - usize::try_from(since.sum::<u64>()).expect("few")
            }
            (Follows::All, _) => n_said - n_retained,
            (Follows::Newest, _) => n_said - n_retained.min(NEWEST),
            (Follows::Live | Follows::Rest, _) => n_said,
        };
        let expected = if start.follows == Follows::Latest {
            self.newest_of_each_key(n_before)
        } else {
            Vec::new()
        };
        let snapshot = start
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.batch());
        let first: Vec<u8> = match (snapshot, joining.framing) {
            (None, _) => Vec::new(),
            (Some(batch), Framing::Chunked) => batch.chunked_from(0).to_vec(),
            (Some(batch), Framing::Plain) => {
                let payloads = batch.payloads_from(0);
                payloads.flat_map(|(bytes, _)| bytes.to_vec()).collect()
            }
        };
        let [is_before_pull, is_before_reach] = joining.commits;
        if is_before_pull {
            self.commit(&[1]);
        }
        let Shard { wire, feed, .. } = &mut self.shards[shard];
        wire.pull(feed);
        if is_before_reach {
            self.commit(&[2]);
        }
        let Shard {
            wire, subscribers, ..
        } = &mut self.shards[shard];
        wire.reach_back(&start.batches);
        subscribers.push(Subscriber {
            at: start.at,
            framing: joining.framing,
            is_flowing: false,
            taken: first,
            expected,
            n_before,
        });
    }

    /// Of the first `n` events.
    fn newest_of_each_key(&self, n: usize) -> Vec<String> {
        let is_newest =
            |number: &usize| !(number + 1..n).any(|next| key_of(next) == key_of(*number));
        let newest = (0..n).filter(is_newest);
        newest.map(|number| self.said[number].clone()).collect()
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Commit(sizes) => self.commit(sizes),
            Step::Join { shard, joining } => self.join(*shard, joining),
            Step::Pass { shard, taken } => self.shards[*shard].pass(*taken),
            Step::Pull { shard } => self.shards[*shard].pull(),
            Step::Write {
                shard,
                subscriber,
                taken,
            } => {
                let Shard {
                    wire, subscribers, ..
                } = &mut self.shards[*shard];
                let n = subscribers.len();
                if n > 0 {
                    subscribers[subscriber % n].write(wire, *taken);
                }
            }
        }
    }

    /// Lets everybody get everything, and looks what that was.
    fn finish(mut self) {
        for shard in &mut self.shards {
            shard.pull();
            while shard.wire.head() > shard.passed {
                shard.pass(usize::MAX);
            }
            for subscriber in &mut shard.subscribers {
                while subscriber.at < shard.wire.head() {
                    let before = subscriber.at;
                    subscriber.write(&shard.wire, 1000);
                    assert!(subscriber.at > before, "no way on from {before}");
                }
                let stream = match subscriber.framing {
                    Framing::Chunked => dechunk(&subscriber.taken),
                    Framing::Plain => std::mem::take(&mut subscriber.taken),
                };
                let got: Vec<String> = read(&stream).into_iter().map(|event| event.data).collect();
                let live = &self.said[subscriber.n_before..];
                assert_eq!(got, [&subscriber.expected, live].concat());
            }
        }
    }
}

impl Shard {
    fn pull(&mut self) {
        let taken = self.wire.pull(&self.feed);
        assert!(!taken.is_overrun);
    }

    fn pass(&mut self, taken: usize) {
        if self.wire.head() == self.passed {
            return;
        }
        let mut pass = Pass::over_events(&self.wire, self.passed, 300, self.subscribers.len());
        assert!(pass.to() > self.passed, "a pass goes on");
        for subscriber in self.subscribers.iter_mut().filter(|one| one.is_flowing) {
            if subscriber.at >= pass.to() {
                continue;
            }
            assert!(subscriber.at >= pass.from(), "the pass has what it lacks");
            if subscriber.at == pass.from() {
                let (bytes, _) = pass.bytes(subscriber.framing, &self.wire);
                let n = taken.min(bytes.len());
                subscriber.taken.extend_from_slice(&bytes[..n]);
                subscriber.at = self.wire.advance(subscriber.at, subscriber.framing, n);
                subscriber.is_flowing = subscriber.at == pass.to();
            } else {
                subscriber.write(&self.wire, taken);
            }
        }
        self.passed = pass.to();
        let behind = self.subscribers.iter().filter(|one| !one.is_flowing);
        let floor = behind.map(|one| one.at).min().unwrap_or(self.passed);
        self.wire.trim(floor.min(self.passed));
    }
}

impl Subscriber {
    /// One write to its socket, which takes at most so many bytes.
    fn write(&mut self, wire: &Wire, taken: usize) {
        let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
        // Few or many pieces, and the end of a write anywhere: the offer depends on what is taken.
        let n_places = 1 + taken % MAX_PIECES;
        let max_bytes = 1 + taken % 700;
        let n = wire.gather(self.at, self.framing, max_bytes, &mut pieces[..n_places]);
        let offered: Vec<u8> = pieces[..n]
            .iter()
            .flat_map(|piece| piece.iter())
            .copied()
            .collect();
        assert!(
            offered.len() <= max_bytes,
            "{} of {max_bytes}",
            offered.len()
        );
        let n_taken = taken.min(offered.len());
        self.taken.extend_from_slice(&offered[..n_taken]);
        if n_taken > 0 {
            self.at = wire.advance(self.at, self.framing, n_taken);
        }
        self.is_flowing = n_taken == offered.len() && self.at >= wire.head();
    }
}

fn any_joining() -> impl Strategy<Value = Joining> {
    let framing = prop_oneof![Just(Framing::Chunked), Just(Framing::Plain)];
    let seen = proptest::option::weighted(0.6, 0usize..12);
    let join = prop_oneof![
        Just(Join::All),
        Just(Join::Latest),
        Just(Join::Live),
        Just(Join::Newest(NEWEST)),
    ];
    (framing, seen, join, any::<[bool; 2]>()).prop_map(|(framing, seen, join, commits)| Joining {
        framing,
        seen,
        join,
        commits,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let shard = 0usize..2;
    let taken = prop_oneof![0usize..40, 40usize..2000];
    prop_oneof![
        4 => vec(0usize..200, 1..4).prop_map(Step::Commit),
        2 => (shard.clone(), any_joining())
            .prop_map(|(shard, joining)| Step::Join { shard, joining }),
        4 => (shard.clone(), taken.clone()).prop_map(|(shard, taken)| Step::Pass { shard, taken }),
        3 => shard.clone().prop_map(|shard| Step::Pull { shard }),
        6 => (shard, 0usize..8, taken)
            .prop_map(|(shard, subscriber, taken)| Step::Write { shard, subscriber, taken }),
    ]
}

proptest! {
    #[test]
    fn every_event_comes_once_and_in_order(
        events in prop_oneof![0usize..6, Just(1000)],
        bytes in prop_oneof![1usize..800, Just(1_000_000)],
        steps in vec(any_step(), 0..120),
    ) {
        let mut world = World::new(History { events, bytes, age: None });
        for step in &steps {
            world.play(step);
        }
        world.finish();
    }

    /// Who leaves gets the rest of its event and no more, wherever it is.
    #[test]
    fn the_rest_of_an_event_ends_at_its_end(sizes in vec(0usize..60, 1..6)) {
        let mut world = World::new(History { events: 1000, bytes: 1_000_000, age: None });
        for pair in sizes.chunks(2) {
            world.commit(pair);
        }
        let shard = &mut world.shards[0];
        shard.pull();
        for framing in [Framing::Chunked, Framing::Plain] {
            let mut at = 0;
            let mut taken = Vec::new();
            loop {
                let rest = shard.wire.rest_of_event(at, framing);
                let rest = rest.as_ref().map_or(&[][..], |(piece, _)| piece.bytes());
                let whole = [taken.as_slice(), rest].concat();
                let stream = match framing {
                    Framing::Chunked => dechunk(&whole),
                    Framing::Plain => whole,
                };
                let got: Vec<String> = read(&stream).into_iter().map(|event| event.data).collect();
                prop_assert_eq!(&got[..], &world.said[..got.len()], "{:?} at {}", framing, at);
                prop_assert!(stream.is_empty() || stream.ends_with(b"\n\n"));
                let mut piece = [IoSlice::new(&[])];
                if shard.wire.gather(at, framing, 1, &mut piece) == 0 {
                    break;
                }
                taken.extend_from_slice(&piece[0]);
                at = shard.wire.advance(at, framing, 1);
            }
        }
    }
}
