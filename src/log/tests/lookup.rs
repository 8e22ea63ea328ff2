//! Where a subscriber begins, case by case.

use std::time::Duration;

use tokio::time::Instant;

use super::super::testing::{append, event, read_chunked, roomy, roomy_log, wire_bytes};
use super::super::{Log, Replay};
use crate::config::{History, Ids};

/// What a subscriber gets that has seen `last_event_id`: the decision, and the data that follow.
fn resumed(log: &Log, last_event_id: &str) -> (Replay, Vec<String>) {
    let start = log.start(Some(last_event_id), Instant::now());
    let events = read_chunked(&wire_bytes(&start));
    (
        start.replay,
        events.into_iter().map(|event| event.data).collect(),
    )
}

fn keeping(events: usize) -> History {
    History { events, ..roomy() }
}

#[test]
fn a_known_id_gives_what_followed() {
    let (log, mut writer) = roomy_log();
    append(
        &mut writer,
        &[(Some("1"), "a"), (None, "b"), (Some("3"), "c")],
        Instant::now(),
    );
    assert_eq!(
        resumed(&log, "1"),
        (Replay::Complete, vec!["b".into(), "c".into()])
    );
    assert_eq!(resumed(&log, "3"), (Replay::Complete, vec![]));
}

#[test]
fn the_event_before_the_tail_is_as_good_as_retained() {
    let (log, mut writer) = Log::new(keeping(1), Ids::Fill);
    let events = [(Some("1"), "a"), (Some("2"), "b"), (Some("3"), "c")];
    append(&mut writer, &events, Instant::now());
    assert_eq!(resumed(&log, "2"), (Replay::Complete, vec!["c".into()]));
    assert_eq!(resumed(&log, "1"), (Replay::Expired, vec!["c".into()]));
    assert_eq!(resumed(&log, "9"), (Replay::Unknown, vec!["c".into()]));
}

#[test]
fn a_log_that_keeps_nothing_still_knows_its_last_id() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        let (log, mut writer) = Log::new(keeping(0), ids);
        let events = [(Some("1"), "a"), (Some("2"), "b")];
        append(&mut writer, &events, Instant::now());
        let Some(tip) = log.start(None, Instant::now()).tip else {
            panic!("no tip with {ids:?}");
        };
        assert_eq!(resumed(&log, &tip), (Replay::Complete, vec![]), "{ids:?}");
        assert_eq!(log.size().held_bytes, 0, "{ids:?}");
    }
}

#[test]
fn an_id_with_two_contents_is_unknown() {
    let (log, mut writer) = roomy_log();
    append(
        &mut writer,
        &[(Some("x"), "a"), (Some("2"), "b"), (Some("x"), "c")],
        Instant::now(),
    );
    let (replay, events) = resumed(&log, "x");
    assert_eq!((replay, events.len()), (Replay::Unknown, 3));
    assert_eq!(log.size().n_ambiguous, 1);
}

/// Nobody knows which of the two a subscriber has seen: between them there is an event that it may
/// lack.
#[test]
fn an_ambiguous_id_stays_ambiguous_when_it_is_the_last_that_was_evicted() {
    for contents in [["a", "c"], ["a", "a"]] {
        let (log, mut writer) = Log::new(keeping(3), Ids::Fill);
        let [first, second] = contents;
        append(
            &mut writer,
            &[(Some("x"), first), (Some("2"), "b"), (Some("x"), second)],
            Instant::now(),
        );
        let more = [(Some("3"), "d"), (Some("4"), "e"), (Some("5"), "f")];
        append(&mut writer, &more, Instant::now());
        assert_eq!(resumed(&log, "x").0, Replay::Unknown, "{contents:?}");
        assert_eq!(resumed(&log, "3").0, Replay::Complete, "{contents:?}");
    }
}

/// With our own ids on the wire the bytes of two events always differ; what the origin said may not.
#[test]
fn the_same_content_again_is_not_other_content() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        let (log, mut writer) = Log::new(roomy(), ids);
        append(
            &mut writer,
            &[(Some("x"), "a"), (Some("x"), "a")],
            Instant::now(),
        );
        assert_eq!(log.size().n_ambiguous, 0, "{ids:?}");
        append(&mut writer, &[(Some("x"), "b")], Instant::now());
        assert_eq!(log.size().n_ambiguous, 1, "{ids:?}");
    }
}

/// A client knows the epoch of every id that it was given, and may make others of it.
#[test]
fn a_made_up_id_of_ours_is_unknown() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        let (log, mut writer) = Log::new(keeping(2), ids);
        let events = [(None, "a"), (None, "b"), (None, "c")];
        append(&mut writer, &events, Instant::now());
        for seq in [4, 5, 1 << 63, u64::MAX - 1, u64::MAX] {
            let id = format!("{}-{seq}", writer.epoch_text());
            assert_eq!(resumed(&log, &id).0, Replay::Unknown, "{ids:?} {id}");
        }
        let zeroth = format!("{}-0", writer.epoch_text());
        assert_ne!(resumed(&log, &zeroth).0, Replay::Complete, "{ids:?}");
    }
}

#[test]
fn age_counts_without_new_events() {
    let age = Some(Duration::from_secs(60));
    let (log, mut writer) = Log::new(History { age, ..roomy() }, Ids::Fill);
    let begin = Instant::now();
    append(&mut writer, &[(Some("1"), "a"), (Some("2"), "b")], begin);
    let young = log.start(Some("1"), begin + Duration::from_secs(60));
    assert_eq!(young.replay, Replay::Complete);
    assert_eq!(read_chunked(&wire_bytes(&young)).len(), 1);
    let old = log.start(Some("1"), begin + Duration::from_secs(61));
    assert_eq!(old.replay, Replay::Expired);
    assert!(old.batches.is_empty());
    assert_eq!((log.size().n_events, log.size().held_bytes), (0, 0));
}

/// However many events without an id came since.
#[test]
fn the_tip_is_the_newest_id_that_can_be_resumed_from() {
    let (log, mut writer) = Log::new(roomy(), Ids::Upstream);
    append(&mut writer, &[(Some("1"), "a")], Instant::now());
    for _ in 0..100 {
        writer.push(&event(None, "b"));
    }
    writer.push_notice("ssecast.gap", "{}");
    writer.commit(Instant::now());
    let tip = log.start(None, Instant::now()).tip;
    assert_eq!(tip.as_deref(), Some("1"));
}

/// The event that a subscriber saw last belongs to the source that there was then; that another
/// follows changes nothing about it.
#[test]
fn ids_of_an_earlier_epoch_can_be_resumed_from_as_before() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        let (log, mut writer) = Log::new(keeping(4), ids);
        let now = Instant::now();
        append(
            &mut writer,
            &[(None, "a"), (Some("1"), "b"), (None, "c")],
            now,
        );
        let before = writer.epoch_text();
        writer.push(&event(None, "d"));
        writer.begin_epoch(now);
        append(&mut writer, &[(None, "e"), (None, "f")], now);
        let ours = |epoch: &str, n: u64| resumed(&log, &format!("{epoch}-{n}")).0;
        if ids != Ids::Gateway {
            let events = ["c", "d", "e", "f"].map(str::to_owned).to_vec();
            assert_eq!(resumed(&log, "1"), (Replay::Complete, events), "{ids:?}");
        }
        if ids != Ids::Upstream {
            assert_eq!(ours(&before, 1), Replay::Expired);
            assert_eq!(ours(&before, 3), Replay::Complete);
            let from_last = resumed(&log, &format!("{before}-4"));
            assert_eq!(from_last, (Replay::Complete, vec!["e".into(), "f".into()]));
            assert_eq!(ours(&writer.epoch_text(), 5), Replay::Complete);
        }
        for n in [5, 6, 7] {
            assert_eq!(ours(&before, n), Replay::Unknown, "{ids:?}: not given");
        }
        assert_eq!(ours(&writer.epoch_text(), 4), Replay::Unknown, "{ids:?}");
    }
}

#[test]
fn an_id_that_comes_again_from_another_source_is_unknown() {
    let (log, mut writer) = roomy_log();
    append(
        &mut writer,
        &[(Some("1"), "a"), (Some("2"), "b")],
        Instant::now(),
    );
    writer.begin_epoch(Instant::now());
    append(&mut writer, &[(Some("1"), "other")], Instant::now());
    assert_eq!(resumed(&log, "1").0, Replay::Unknown);
    assert_eq!(resumed(&log, "2"), (Replay::Complete, vec!["other".into()]));
    assert_eq!(log.size().n_ambiguous, 1);
}

#[test]
fn whose_ids_subscribers_see_may_change_and_both_can_be_resumed_from() {
    let (log, mut writer) = roomy_log();
    let epoch = writer.epoch_text();
    for (ids, id, data) in [
        (Ids::Fill, "1", "a"),
        (Ids::Gateway, "2", "b"),
        (Ids::Upstream, "3", "c"),
        (Ids::Gateway, "4", "d"),
    ] {
        writer.set_ids(ids);
        append(&mut writer, &[(Some(id), data)], Instant::now());
    }
    let data = |data: &[&str]| data.iter().map(|data| (*data).to_owned()).collect();
    for (id, following) in [
        ("1", data(&["b", "c", "d"])),
        (&format!("{epoch}-2"), data(&["c", "d"])),
        ("3", data(&["d"])),
        (&format!("{epoch}-4"), data(&[])),
    ] {
        assert_eq!(resumed(&log, id), (Replay::Complete, following), "{id}");
    }
    for never_given in ["2", "4", &format!("{epoch}-1"), &format!("{epoch}-3")] {
        assert_eq!(
            resumed(&log, never_given).0,
            Replay::Unknown,
            "{never_given}"
        );
    }
}

#[test]
fn new_limits_hold_at_once() {
    let (log, mut writer) = roomy_log();
    let now = Instant::now();
    let events: Vec<String> = (1..=10).map(|n| n.to_string()).collect();
    let events: Vec<_> = events
        .iter()
        .map(|n| (Some(n.as_str()), n.as_str()))
        .collect();
    append(&mut writer, &events, now);
    log.set_limits(keeping(3), now);
    assert_eq!((log.size().n_events, log.n_indexed_ids()), (3, 3));
    assert_eq!(resumed(&log, "7").0, Replay::Complete);
    assert_eq!(resumed(&log, "6").0, Replay::Expired);
    // What is gone does not come back, but more is kept from now on.
    log.set_limits(roomy(), now);
    append(&mut writer, &[(Some("11"), "11")], now);
    assert_eq!(log.size().n_events, 4);
}

/// Whoever has seen ids of ours can make an origin give one of them.
#[test]
fn an_id_of_ours_that_the_origin_gives_to_another_event_is_no_place() {
    for kept in [0, 1, 2, 10] {
        let (log, mut writer) = Log::new(keeping(kept), Ids::Fill);
        let first = format!("{}-1", writer.epoch_text());
        let events = [(None, "ours"), (Some("2"), "b"), (Some(&*first), "theirs")];
        append(&mut writer, &events, Instant::now());
        assert_ne!(resumed(&log, &first).0, Replay::Complete, "of {kept} kept");
        append(&mut writer, &[(Some("4"), "d")], Instant::now());
        assert_ne!(resumed(&log, &first).0, Replay::Complete, "of {kept} kept");
    }
}
