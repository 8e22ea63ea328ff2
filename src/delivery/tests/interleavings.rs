//! The switch from replay to live, and what wakes a shard, in every order that threads can have.
//!
//! The log, the feed, the inbox and the shard are the real ones, and their locks are the model's. A
//! wake-up that is lost is a deadlock, which fails the model.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf as _;
use hyper::body::Body as _;
use tokio::time::Instant;

use super::super::body::{CAPACITY, body};
use super::super::inbox::{Inbox, Mail, Mark, SubscriberKey};
use super::super::shard::Shard;
use super::super::{Arrival, Framing, Handover};
use crate::channel::Channel;
use crate::config::{Config, History, Ids};
use crate::log::testing::append;
use crate::log::{Ending, Log, Outlet as _, Writer};
use crate::memory::Budget;
use crate::net::permit::Standing;
use crate::sync::{block_on, model, spawn};

/// Switches that no thread had to make. Nearly all faults show with two.
const PREEMPTIONS: usize = 3;

fn channel(n_kept: usize) -> (Channel, Writer) {
    let text = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\
         [channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n\
         heartbeat = \"off\"\nhistory = {{ events = {n_kept}, bytes = \"1MiB\" }}\n"
    );
    // On a thread of its own: those of the model have a small stack.
    let read = move || {
        let config = Config::parse("test.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
        Arc::clone(&config.config.channels[0])
    };
    let settings = std::thread::spawn(read).join().expect("a configuration");
    Channel::with_writer(settings)
}

/// Appends the events with these numbers, each a batch of its own and larger than what a subscriber
/// takes at once.
fn say(writer: &mut Writer, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        let id = number.to_string();
        append(writer, &[(Some(&id), &data(number))], Instant::now());
    }
}

fn data(number: usize) -> String {
    format!("{number}{}", "x".repeat(CAPACITY))
}

/// The blocks of a stream: the number of each that is one of our events, byte for byte, and the text
/// of any other.
fn blocks(stream: &[u8]) -> Vec<String> {
    let stream = std::str::from_utf8(stream).expect("text");
    let (retry, stream) = stream.split_once('\n').expect("a prologue");
    assert!(retry.starts_with("retry: "), "{retry:?}");
    let of_event = |number| format!("data: {}\nid: {number}\n\n", data(number));
    let number = |block: &str| (1..=4).find(|number| of_event(*number) == block);
    let blocks = stream.split_inclusive("\n\n");
    blocks
        .map(|block| number(block).map_or_else(|| block.to_owned(), |number| number.to_string()))
        .collect()
}

/// Runs a shard that a subscriber comes to, until its stream has ended cleanly; returns the blocks
/// that it got.
fn serve(channel: &Channel, last_event_id: Option<&str>) -> Vec<String> {
    let inbox = Arc::new(Inbox::default());
    let (writer, mut body) = body(&Budget::unlimited());
    inbox.arrive(Arrival {
        channel: channel.clone(),
        socket: Handover::Http2(writer),
        framing: Framing::Plain,
        last_event_id: last_event_id.map(str::to_owned),
        head: Vec::new(),
        places: (channel.join().expect("a seat"), Standing::Stream(None)),
    });
    let mut shard = Shard::new(Arc::clone(&inbox));
    let mut mail = Mail::default();
    // Ahead of the clock, so that no turn is cut short: a model must not depend on it.
    let now = Instant::now() + Duration::from_secs(60);
    let mut stream = Vec::new();
    loop {
        // As `Shard::run` does.
        let can_wait = !shard.has_work();
        block_on(poll_fn(|cx| {
            let taken = inbox.poll_take(cx, &mut mail);
            if can_wait { taken } else { Poll::Ready(()) }
        }));
        shard.step(&mut mail, now);
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut cx) {
            let Some(frame) = frame else {
                return blocks(&stream);
            };
            let frame = frame.expect("no cut").into_data();
            let mut data = frame.expect("data");
            stream.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
    }
}

/// Runs a writer of the events 2, 3 and 4, after which the channel is over, beside a subscriber that
/// comes with `last_event_id`; `judge` looks at what it got. Returns all that it got, over all orders.
fn subscribe_meanwhile(
    n_kept: usize,
    last_event_id: Option<&'static str>,
    judge: fn(&[String]),
) -> BTreeSet<Vec<String>> {
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&outcomes);
    model(PREEMPTIONS, move || {
        let (channel, mut writer) = channel(n_kept);
        say(&mut writer, 1..=1);
        let writing = spawn(move || {
            say(&mut writer, 2..=4);
            writer.end(Ending::Over, Instant::now());
        });
        let seen = Arc::clone(&seen);
        let serving = spawn(move || {
            let got = serve(&channel, last_event_id);
            judge(&got);
            seen.lock().expect("no poison").insert(got);
        });
        writing.join().expect("a writer");
        serving.join().expect("a shard");
    });
    std::mem::take(&mut *outcomes.lock().expect("no poison"))
}

/// Whether the blocks are the newest events, in order.
fn are_newest(got: &[String]) -> bool {
    ["2", "3", "4"].ends_with(&got.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn who_resumes_while_events_come_gets_each_once() {
    subscribe_meanwhile(10, Some("1"), |got| assert_eq!(got, ["2", "3", "4"]));
}

#[test]
fn who_comes_while_events_do_misses_none_from_there_on() {
    let outcomes = subscribe_meanwhile(10, None, |got| assert!(are_newest(got), "{got:?}"));
    assert_eq!(
        outcomes.len(),
        4,
        "it comes before, between, and after: {outcomes:?}"
    );
}

#[test]
fn who_resumes_while_history_goes_gets_each_once_or_is_told() {
    let outcomes = subscribe_meanwhile(1, Some("1"), |got| match got {
        [reset, rest @ ..] if reset.contains("expired") => {
            assert!(!rest.is_empty() && rest.len() < 3, "{got:?}");
            assert!(are_newest(rest), "{got:?}");
        }
        _ => assert_eq!(got, ["2", "3", "4"]),
    });
    assert_eq!(outcomes.len(), 3, "all, two or one are left: {outcomes:?}");
}

#[test]
fn a_feed_that_is_overrun_says_so_and_goes_on() {
    model(PREEMPTIONS, || {
        let limits = History {
            events: 10,
            bytes: 1000,
            age: None,
        };
        let (log, mut writer) = Log::new(limits, Ids::Fill);
        let inbox = Arc::new(Inbox::default());
        let mark = Mark {
            inbox: Arc::clone(&inbox),
            group: 0,
        };
        // Two batches at once are one too many.
        let (feed, mut head) = log.attach(Box::new(mark), 1);
        let writing = spawn(move || {
            say(&mut writer, 1..=3);
            writer.end(Ending::Over, Instant::now());
        });
        let reading = spawn(move || {
            let mut mail = Mail::default();
            loop {
                block_on(poll_fn(|cx| inbox.poll_take(cx, &mut mail)));
                let mut batches = std::collections::VecDeque::new();
                let taken = feed.take(&mut batches);
                let first = batches.front().map_or(taken.head, |batch| batch.start());
                assert_eq!(first != head, taken.is_overrun, "a loss is told");
                let ends = batches.iter().map(|batch| batch.end());
                let starts = batches.iter().skip(1).map(|batch| batch.start());
                assert!(
                    ends.chain([taken.head])
                        .take(batches.len())
                        .zip(starts.chain([taken.head]))
                        .all(|(end, start)| end == start)
                );
                head = taken.head;
                if taken.ended.is_some() {
                    break;
                }
            }
            assert_eq!(head, log.start(None, Instant::now()).at);
        });
        writing.join().expect("a writer");
        reading.join().expect("a shard");
    });
}

#[test]
fn no_note_to_a_shard_is_lost() {
    model(PREEMPTIONS, || {
        let inbox = Arc::new(Inbox::default());
        let marking = {
            let inbox = Arc::clone(&inbox);
            spawn(move || {
                for group in 0..2 {
                    let inbox = Arc::clone(&inbox);
                    Mark { inbox, group }.mark_dirty();
                }
            })
        };
        let ringing = {
            let key = SubscriberKey { group: 0, index: 7 };
            let bell = inbox.bell(key);
            spawn(move || bell.wake())
        };
        let reading = spawn(move || {
            let mut mail = Mail::default();
            let (mut dirty, mut n_ready) = (Vec::new(), 0);
            while dirty.len() < 2 || n_ready < 1 {
                block_on(poll_fn(|cx| inbox.poll_take(cx, &mut mail)));
                assert!(!mail.dirty.is_empty() || !mail.ready.is_empty());
                dirty.append(&mut mail.dirty);
                n_ready += mail.ready.len();
            }
            assert_eq!((dirty.as_slice(), n_ready), (&[0, 1][..], 1));
        });
        for thread in [marking, ringing, reading] {
            thread.join().expect("a thread");
        }
    });
}
