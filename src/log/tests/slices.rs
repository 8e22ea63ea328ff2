//! A long history is taken in slices: what is evicted between two of them, and what is not.

use tokio::time::Instant;

use super::super::testing::{append, read_chunked, roomy, roomy_log, wire_bytes};
use super::super::{Log, Replay, SLICE, Start, Wish, Writer};
use crate::config::{History, Ids, Join, OnGap};

const N: usize = 3 * SLICE + 7;

fn long() -> (Log, Writer) {
    let (log, mut writer) = roomy_log();
    for n in 0..N {
        append(&mut writer, &[(None, &n.to_string())], Instant::now());
    }
    (log, writer)
}

fn wish(last_event_id: Option<&str>, join: Join) -> Wish<'_> {
    Wish {
        last_event_id,
        join,
        on_gap: OnGap::All,
    }
}

/// The numbers of the events that somebody gets.
fn numbers(start: &Start) -> Vec<usize> {
    let events = read_chunked(&wire_bytes(start)).into_iter();
    events
        .map(|event| event.data.parse().expect("a number"))
        .collect()
}

/// Somebody who has the newest slice when all but the newest `left` events are evicted.
fn interrupted(log: &Log, wish: &Wish<'_>, left: usize) -> Option<Start> {
    let now = Instant::now();
    let start = log.begin((wish, now), |_| None, SLICE);
    assert_eq!(start.batches.len(), SLICE);
    let limits = History {
        events: left,
        ..roomy()
    };
    log.set_limits(limits, now);
    log.with_older(start)
}

#[test]
fn a_history_of_many_slices_is_whole() {
    let (log, _writer) = long();
    let now = Instant::now();
    for join in [Join::All, Join::Newest(SLICE), Join::Newest(2 * SLICE + 1)] {
        let n = match join {
            Join::Newest(n) => n,
            _ => N,
        };
        let start = log.read(wish(None, join), now);
        assert_eq!(numbers(&start), (N - n..N).collect::<Vec<_>>());
    }
    let first = log.start(wish(None, Join::All), now);
    let ids = read_chunked(&wire_bytes(&first));
    let start = log.start(wish(ids[4].id.as_deref(), Join::Live), now);
    assert_eq!(numbers(&start), (5..N).collect::<Vec<_>>());
}

#[test]
fn who_gets_all_there_is_gets_what_is_left_of_it() {
    for (left, first) in [(2 * SLICE, SLICE + 7), (10, 2 * SLICE + 7), (N, 0)] {
        let (log, _writer) = long();
        let start = interrupted(&log, &wish(None, Join::All), left).expect("a start");
        assert_eq!(numbers(&start), (first..N).collect::<Vec<_>>(), "{left}");
    }
}

#[test]
fn who_resumes_gets_all_of_it_or_is_told() {
    let (log, _writer) = long();
    let now = Instant::now();
    let ids = read_chunked(&wire_bytes(&log.start(wish(None, Join::All), now)));
    let wish = wish(ids[4].id.as_deref(), Join::Live);
    let start = interrupted(&log, &wish, N - 5).expect("nothing is missing");
    assert_eq!(numbers(&start), (5..N).collect::<Vec<_>>());
    assert!(interrupted(&log, &wish, SLICE + 1).is_none());
    let start = log.start(wish, now);
    assert_eq!(start.replay, Replay::Expired);
    assert_eq!(numbers(&start), (N - SLICE - 1..N).collect::<Vec<_>>());
}

/// The events come while somebody else reads.
#[test]
fn a_flood_leaves_no_hole() {
    let limits = History {
        events: 2 * SLICE + 1,
        ..roomy()
    };
    let (reader, mut writer) = Log::new(limits, Ids::Fill);
    let flood = std::thread::spawn(move || {
        for n in 0..20 * N {
            append(&mut writer, &[(None, &n.to_string())], Instant::now());
        }
    });
    let mut id = None;
    while !flood.is_finished() {
        let start = reader.read(wish(id.as_deref(), Join::All), Instant::now());
        let numbers = numbers(&start);
        let first = numbers.first().copied().unwrap_or_default();
        let expected: Vec<usize> = (first..first + numbers.len()).collect();
        assert_eq!(numbers, expected);
        id = start.head_id.filter(|_| id.is_none());
    }
    flood.join().expect("the flood");
}
