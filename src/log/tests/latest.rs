//! The newest event of each key, beside a model that keeps everything.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::testing::{Read, read_chunked, roomy, wire_bytes};
use super::super::{
    Follows, GAP_NOTICE, Log, News, Replay, Retained, Start, Wish, Writer, push_chunk,
};
use crate::config::{ConflateBy, History, Ids, Join, JsonPointer, Keying, LatestLimits, OnGap};
use crate::sse::{Event, encode_event};

const PLENTY: LatestLimits = LatestLimits {
    keys: 1000,
    bytes: 1_000_000,
};

fn keying(limits: LatestLimits) -> Keying {
    Keying {
        by: ConflateBy::Type,
        limits,
    }
}

fn keyed_log(history: History, keying: Keying) -> (Log, Writer) {
    let (log, mut writer) = Log::new(history, Ids::Fill);
    writer.set_keying(Some(keying), Instant::now());
    (log, writer)
}

fn latest(log: &Log, last_event_id: Option<&str>, now: Instant) -> Start {
    let wish = Wish {
        last_event_id,
        join: Join::Latest,
        on_gap: OnGap::Latest,
    };
    log.start(wish, now)
}

fn snapshot_of(start: &Start) -> Vec<Read> {
    let snapshot = start.snapshot.as_ref().expect("a snapshot");
    let batch = snapshot.batch();
    let events = batch.map_or_else(Vec::new, |batch| read_chunked(batch.chunked_from(0)));
    assert_eq!(events.len(), snapshot.n_events());
    events
}

fn news_of(news: &News) -> Vec<Read> {
    let batch = news.snapshot.batch();
    let events = batch.map_or_else(Vec::new, |batch| {
        read_chunked(batch.chunked_from(news.from))
    });
    assert_eq!(events.len(), news.n_events);
    events
}

/// What somebody gets, as `key=data`.
fn said(events: &[Read]) -> Vec<String> {
    let said = events.iter();
    said.map(|read| format!("{}={}", read.event_type, read.data))
        .collect()
}

fn push(writer: &mut Writer, events: &[(&str, &str)]) {
    for event in events {
        append_at(writer, *event, Instant::now());
    }
}

fn append_at(writer: &mut Writer, (event_type, data): (&str, &str), now: Instant) {
    writer.push(&Event {
        event_type,
        data,
        id: None,
    });
    writer.commit(now);
}

#[test]
fn the_state_outlives_the_history_in_the_order_of_the_log() {
    let history = History {
        events: 2,
        ..roomy()
    };
    let (log, mut writer) = keyed_log(history, keying(PLENTY));
    push(
        &mut writer,
        &[
            ("a", "1"),
            ("b", "1"),
            ("a", "2"),
            ("c", "1"),
            ("d", "1"),
            ("c", "2"),
        ],
    );
    let start = latest(&log, None, Instant::now());
    assert_eq!(said(&snapshot_of(&start)), ["b=1", "a=2", "d=1", "c=2"]);
    assert_eq!(
        (start.replay, start.follows),
        (Replay::Fresh, Follows::Latest)
    );
    assert!(start.batches.is_empty() && !start.is_partial());
    // A cut in the middle of the state, after an event that the history has.
    let after_d = format!("{}-5", writer.epoch_text());
    let resumed = latest(&log, Some(&after_d), Instant::now());
    assert_eq!(resumed.replay, Replay::Complete);
    assert_eq!(said(&read_chunked(&wire_bytes(&resumed))), ["c=2"]);
    // After one that it has no more: the whole state again, and it is told.
    let after_b = format!("{}-2", writer.epoch_text());
    let reset = latest(&log, Some(&after_b), Instant::now());
    assert_eq!(
        (reset.replay, reset.follows),
        (Replay::Expired, Follows::Latest)
    );
    assert_eq!(snapshot_of(&reset).len(), 4);
}

#[test]
fn a_key_is_taken_back_by_an_event_that_says_nothing_else() {
    let (log, mut writer) = keyed_log(roomy(), keying(PLENTY));
    push(&mut writer, &[("a", "1"), ("b", "1"), ("a", "")]);
    assert_eq!(
        said(&snapshot_of(&latest(&log, None, Instant::now()))),
        ["b=1"]
    );
    // Who knows the key is told.
    let news = log.newest_after(0, Instant::now()).expect("there are keys");
    assert_eq!(
        (said(&news_of(&news)), news.is_complete),
        (vec!["b=1".into(), "a=".into()], true)
    );
    // When the history has it no more, nobody can be told.
    log.give_up(usize::MAX);
    let news = log.newest_after(0, Instant::now()).expect("there are keys");
    assert!(!news.is_complete);
    push(&mut writer, &[("a", "2")]);
    assert_eq!(
        said(&snapshot_of(&latest(&log, None, Instant::now()))),
        ["a=2"]
    );
}

#[test]
fn what_had_to_go_is_told_until_another_source_begins() {
    let limits = LatestLimits {
        keys: 2,
        bytes: 1000,
    };
    let (log, mut writer) = keyed_log(roomy(), keying(limits));
    push(&mut writer, &[("a", "1"), ("b", "1"), ("c", "1")]);
    let start = latest(&log, None, Instant::now());
    assert_eq!(
        (said(&snapshot_of(&start)), start.is_partial()),
        (vec!["b=1".into(), "c=1".into()], true)
    );
    assert_eq!((log.size().n_keys, log.size().n_keys_given_up), (2, 1));
    writer.begin_epoch(Instant::now());
    let start = latest(&log, None, Instant::now());
    assert_eq!((snapshot_of(&start).len(), start.is_partial()), (0, false));
    assert_eq!(start.follows, Follows::Latest);
}

#[test]
fn copies_are_bounded_in_bytes_and_given_up_with_the_memory() {
    let history = History {
        events: 0,
        ..roomy()
    };
    let limits = LatestLimits {
        keys: 1000,
        bytes: 1000,
    };
    let (log, mut writer) = keyed_log(history, keying(limits));
    for n in 0..200 {
        push(&mut writer, &[(&format!("k{n}"), &"x".repeat(60))]);
    }
    let n_keys = log.size().n_keys;
    assert!((8..16).contains(&n_keys), "{n_keys}");
    assert_eq!(
        snapshot_of(&latest(&log, None, Instant::now())).len(),
        n_keys
    );
    assert!(log.oldest().is_some(), "there is something to give up");
    assert!(log.give_up(1) > 0);
    assert_eq!(log.size().n_keys, n_keys - 1);
    log.give_up(usize::MAX);
    assert!(log.oldest().is_none());
    assert_eq!((log.size().n_keys, log.budget().used()), (0, 0));
}

#[test]
fn a_snapshot_is_shared_while_the_head_stands() {
    let (log, mut writer) = keyed_log(roomy(), keying(PLENTY));
    push(&mut writer, &[("a", "1"), ("b", "1")]);
    let now = Instant::now();
    let [one, two] = [0, 1].map(|_| latest(&log, None, now).snapshot.expect("a snapshot"));
    assert!(std::sync::Arc::ptr_eq(&one, &two));
    push(&mut writer, &[("a", "2")]);
    assert_eq!(said(&snapshot_of(&latest(&log, None, now))), ["b=1", "a=2"]);
    // A storm while the origin floods: one that is a moment old, and what came since.
    let mut n_encoded = 0;
    let mut last = one;
    for n in 0..1000 {
        append_at(&mut writer, ("a", &n.to_string()), now);
        let start = latest(&log, None, now);
        let mut state = snapshot_of(&start);
        state.extend(read_chunked(&wire_bytes(&start)));
        assert_eq!(
            state.first().map(|read| read.event_type.as_str()),
            Some("b")
        );
        assert_eq!(said(&state).last(), Some(&format!("a={n}")));
        let snapshot = start.snapshot.expect("a snapshot");
        n_encoded += usize::from(!std::sync::Arc::ptr_eq(&snapshot, &last));
        last = snapshot;
    }
    assert!(n_encoded <= 101, "{n_encoded}");
}

#[test]
fn keys_are_looked_for_in_the_history_when_somebody_begins_to_ask() {
    let history = History {
        events: 3,
        ..roomy()
    };
    let (log, mut writer) = Log::new(history, Ids::Gateway);
    let events = [
        ("x", r#"{"s":"A","p":1}"#),
        ("y", r#"{"s":"A","p":2}"#),
        ("y", r#"{"s":"B","p":1}"#),
    ];
    push(&mut writer, &events);
    assert_eq!(latest(&log, None, Instant::now()).follows, Follows::All);
    let by = |pointer: &str| Keying {
        by: ConflateBy::Pointer(JsonPointer::parse(pointer).expect("a pointer")),
        limits: PLENTY,
    };
    for (keying, n_keys) in [
        (by("/s"), 2),
        (by("/p"), 2),
        (keying(PLENTY), 2),
        (by("/no"), 2),
    ] {
        writer.set_keying(Some(keying), Instant::now());
        let start = latest(&log, None, Instant::now());
        assert_eq!(
            (snapshot_of(&start).len(), start.is_partial()),
            (n_keys, false)
        );
    }
    push(&mut writer, &[("z", "1"), ("z", "2")]);
    assert_eq!(snapshot_of(&latest(&log, None, Instant::now())).len(), 3);
    // What was kept beyond the history is not known by other keys.
    writer.set_keying(Some(by("/s")), Instant::now());
    let start = latest(&log, None, Instant::now());
    assert_eq!((snapshot_of(&start).len(), start.is_partial()), (2, true));
    writer.set_keying(None, Instant::now());
    assert_eq!(
        (
            log.size().n_keys,
            latest(&log, None, Instant::now()).follows
        ),
        (0, Follows::All)
    );
}

/// Who stalls in the middle of a state whose first events an earlier process kept.
#[test]
fn what_an_earlier_log_kept_is_news_to_who_has_only_a_part_of_it() {
    let history = History {
        events: 1,
        ..roomy()
    };
    let now = Instant::now();
    let (log, mut writer) = keyed_log(history.clone(), keying(PLENTY));
    push(
        &mut writer,
        &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")],
    );
    let left = log.export(usize::MAX, now, |retained| {
        postcard::to_stdvec(&retained).expect("it can be written")
    });
    let (log, mut writer) = keyed_log(history, keying(PLENTY));
    let retained = postcard::from_bytes(&left).expect("it can be read");
    let restored = writer.restore(&retained, Duration::ZERO, now);
    restored.expect("a log's own");
    let snapshot = latest(&log, None, now).snapshot.expect("a snapshot");
    let batch = snapshot.batch().expect("events");
    let mut places = vec![0];
    places.extend(batch.payloads_from(0).map(|(_, end)| end));
    push(&mut writer, &[("d", "2")]);
    let all = ["a=1", "b=1", "c=1", "d=2"];
    for (n_got, place) in places.into_iter().enumerate() {
        let news = log.newest_after(snapshot.end_of(place), now);
        let got = said(&news_of(&news.expect("there are keys")));
        assert_eq!(got, all[n_got.min(3)..], "after {n_got}");
    }
}

/// Who comes to a log that is over comes again as long as there is something for it.
#[test]
fn a_state_without_keys_is_nothing_to_come_for() {
    let (log, mut writer) = keyed_log(roomy(), keying(PLENTY));
    let now = Instant::now();
    let wish = |last_event_id| Wish {
        last_event_id,
        join: Join::Latest,
        on_gap: OnGap::Latest,
    };
    push(&mut writer, &[("a", "1")]);
    assert!(log.has_rest(wish(None), now));
    push(&mut writer, &[("a", "")]);
    let start = log.start(wish(None), now);
    assert!(snapshot_of(&start).is_empty());
    assert!(!log.has_rest(wish(None), now), "nothing is left");
    assert!(!log.has_rest(wish(Some("unknown")), now));
}

/// What happens to the log.
#[derive(Debug, Clone)]
enum Step {
    BeginEpoch,
    Event {
        key: usize,
        is_removal: bool,
        size: usize,
    },
    Gap,
    GiveUp(usize),
    /// The keys are looked for anew.
    Rekey,
    Restart,
    SetHistory(usize),
    SetLimits(LatestLimits),
}

/// All that was ever said.
struct Model {
    past: Vec<Past>,
    /// Of the present source, from here.
    source_from: usize,
    /// Where the log that there is now began.
    began_at: u64,
    /// What its own position was there.
    first_position: u64,
}

struct Past {
    end: u64,
    key: String,
    is_removal: bool,
    read: Read,
}

impl Model {
    fn push(&mut self, log_event: (&str, &str, Option<String>)) {
        let (event_type, data, id) = log_event;
        let mut block = Vec::new();
        encode_event(
            &mut block,
            &Event {
                event_type,
                data,
                id: id.as_deref(),
            },
        );
        let mut chunk = Vec::new();
        push_chunk(&mut chunk, &block);
        let start = self.past.last().map_or(0, |past| past.end);
        self.past.push(Past {
            end: start + chunk.len() as u64,
            key: event_type.to_owned(),
            is_removal: data.is_empty(),
            read: Read {
                event_type: event_type.to_owned(),
                data: data.to_owned(),
                id,
            },
        });
    }

    /// The newest of each key after `at`, in order.
    fn newest_after(&self, at: u64) -> Vec<&Past> {
        let after = self.past.iter().enumerate().skip(self.source_from);
        let after = after.filter(|(_, past)| past.end > at);
        let newest: BTreeMap<&str, usize> = after.map(|(n, past)| (past.key.as_str(), n)).collect();
        let mut newest: Vec<usize> = newest.into_values().collect();
        newest.sort_unstable();
        newest.iter().map(|n| &self.past[*n]).collect()
    }

    fn state(&self) -> Vec<Read> {
        let newest = self.newest_after(0).into_iter();
        let there = newest.filter(|past| !past.is_removal);
        let there = there.skip_while(|past| past.key == GAP_NOTICE);
        there.map(|past| past.read.clone()).collect()
    }

    fn head(&self) -> u64 {
        self.position(self.past.last().map_or(0, |past| past.end))
    }

    /// Where in the log that there is now.
    fn position(&self, place: u64) -> u64 {
        place - self.began_at + self.first_position
    }
}

fn check(log: &Log, model: &Model, has_given_up: bool, now: Instant) {
    let start = latest(log, None, now);
    let (got, expected) = (snapshot_of(&start), model.state());
    assert_eq!((start.at, start.follows), (model.head(), Follows::Latest));
    if start.is_partial() {
        let mut rest = expected.iter();
        let is_part = got.iter().all(|one| rest.any(|other| other == one));
        assert!(is_part, "{got:?} is no part of {expected:?}");
    } else {
        assert_eq!(got, expected, "the newest of each key");
        assert!(!has_given_up || got.len() == expected.len());
    }
    // From any event that there was.
    let places = model.past.iter().map(|past| past.end);
    for place in places.filter(|place| *place >= model.began_at) {
        let at = model.position(place);
        let news = log.newest_after(at, now).expect("there are keys");
        let got = news_of(&news);
        let expected = model.newest_after(place).into_iter();
        let expected: Vec<Read> = expected.map(|past| past.read.clone()).collect();
        if news.is_complete {
            assert_eq!(got, expected, "after {at}");
        } else {
            let mut rest = expected.iter();
            let is_part = got.iter().all(|one| rest.any(|other| other == one));
            assert!(is_part, "{got:?} is no part of {expected:?} after {at}");
        }
        assert_eq!(news.at, model.head());
        assert!(news.batches.is_empty());
        let last = news
            .snapshot
            .batch()
            .map(|batch| news.snapshot.end_of(batch.end()));
        assert!(last.is_none_or(|last| last <= news.at && (got.is_empty() || last > at)));
    }
}

fn play(events: usize, limits: LatestLimits, steps: &[Step]) {
    let begin = Instant::now();
    let mut history = History { events, ..roomy() };
    let mut limits = limits;
    let (mut log, mut writer) = keyed_log(history.clone(), keying(limits));
    let mut model = Model {
        past: Vec::new(),
        source_from: 0,
        began_at: 0,
        first_position: 0,
    };
    for (n, step) in steps.iter().enumerate() {
        // So that no snapshot is one of a storm.
        let now = begin + Duration::from_secs(n as u64);
        match step {
            Step::BeginEpoch => {
                writer.begin_epoch(now);
                model.source_from = model.past.len();
            }
            Step::Event {
                key,
                is_removal,
                size,
            } => {
                let event_type = format!("k{key}");
                let data = if *is_removal {
                    String::new()
                } else {
                    format!("{n}{}", "x".repeat(*size))
                };
                let id = format!("{n}");
                writer.push(&Event {
                    event_type: &event_type,
                    data: &data,
                    id: Some(&id),
                });
                // Several events in a batch, now and then.
                model.push((&event_type, &data, Some(id)));
                if n % 3 > 0 {
                    continue;
                }
            }
            Step::Gap => {
                writer.push_notice(GAP_NOTICE, "{}");
                model.push((GAP_NOTICE, "{}", None));
            }
            Step::GiveUp(n_bytes) => {
                writer.commit(now);
                log.give_up(*n_bytes);
            }
            Step::Rekey => {
                writer.set_keying(None, now);
                writer.set_keying(Some(keying(limits)), now);
            }
            Step::Restart => {
                writer.commit(now);
                let left = log.export(usize::MAX, now, |retained| {
                    retained.check().expect("a log's own");
                    postcard::to_stdvec(&retained).expect("it can be written")
                });
                let n_retained = log.size().n_events;
                (log, writer) = keyed_log(history.clone(), keying(limits));
                let retained: Retained<'_> = postcard::from_bytes(&left).expect("it can be read");
                let restored = writer.restore(&retained, Duration::ZERO, now);
                restored.expect("a log's own");
                model.first_position = retained.n_older();
                let before = model.past.len() - n_retained;
                model.began_at = before.checked_sub(1).map_or(0, |last| model.past[last].end);
            }
            Step::SetHistory(events) => {
                history.events = *events;
                log.set_limits(history.clone(), now);
            }
            Step::SetLimits(new) => {
                limits = *new;
                writer.set_keying(Some(keying(limits)), now);
            }
        }
        writer.commit(now);
        let size = log.size();
        assert!(size.n_keys <= limits.keys, "{} keys", size.n_keys);
        check(&log, &model, size.n_keys_given_up > 0, now);
    }
}

fn any_limits() -> impl Strategy<Value = LatestLimits> {
    let keys = prop_oneof![1usize..4, Just(1000)];
    let bytes = prop_oneof![1usize..200, Just(1_000_000)];
    (keys, bytes).prop_map(|(keys, bytes)| LatestLimits { keys, bytes })
}

fn any_step() -> impl Strategy<Value = Step> {
    let events = prop_oneof![0usize..6, Just(1000)];
    prop_oneof![
        20 => (0usize..5, proptest::bool::weighted(0.2), 0usize..40)
            .prop_map(|(key, is_removal, size)| Step::Event { key, is_removal, size }),
        1 => Just(Step::BeginEpoch),
        2 => Just(Step::Gap),
        1 => (0usize..600).prop_map(Step::GiveUp),
        1 => Just(Step::Rekey),
        1 => Just(Step::Restart),
        1 => events.prop_map(Step::SetHistory),
        1 => any_limits().prop_map(Step::SetLimits),
    ]
}

proptest! {
    #[test]
    fn a_newcomer_gets_the_newest_of_each_key_and_a_straggler_what_is_new(
        events in prop_oneof![0usize..6, Just(1000)],
        limits in any_limits(),
        steps in vec(any_step(), 0..40),
    ) {
        play(events, limits, &steps);
    }
}
