//! Whether a log is what the model says.

use std::collections::HashSet;

use tokio::time::Instant;

use super::truth::{Expected, Model, Past, Shows};
use crate::config::{Join, OnGap};
use crate::log::testing::{Read, read_chunked, wire_bytes};
use crate::log::{Follows, Log, Replay, Start, Wish};

pub(super) fn check(log: &Log, model: &mut Model, now: Instant, strangers: &[&str]) {
    let size = log.size();
    assert_eq!(size.held_bytes, model.held_bytes(), "held bytes");
    assert_eq!(size.n_events, model.retained().len(), "retained events");
    assert!(size.n_events <= model.limits.events, "the limit of events");
    let is_within = size.held_bytes <= model.limits.bytes || model.batches.len() == 1;
    assert!(is_within, "{} bytes are held", size.held_bytes);

    let indexed: HashSet<&str> = model
        .retained()
        .iter()
        .filter_map(|past| past.origin_id.as_deref())
        .collect();
    assert_eq!(log.n_indexed_ids(), indexed.len(), "ids in the index");

    let live = log.start(None, now);
    assert_eq!(live.at, model.head(), "where a new subscriber starts");
    assert!(live.batches.is_empty(), "a new subscriber replays nothing");
    assert_eq!((live.replay, live.follows), (Replay::Fresh, Follows::Live));
    assert_eq!(live.tip.as_deref(), model.tip());

    check_policies(log, model, now);
    check_heads(log, model, now);

    let given = model.past.iter().filter_map(|past| past.read.id.as_deref());
    let origins = model
        .past
        .iter()
        .filter_map(|past| past.origin_id.as_deref());
    let mut asked = HashSet::new();
    for id in given.chain(origins).chain(strangers.iter().copied()) {
        if id.is_empty() || !asked.insert(id) {
            continue;
        }
        let start = log.start(Some(id), now);
        match model.expected(id) {
            Expected::After(at) => {
                assert_eq!(
                    (start.at, &start.replay),
                    (at, &Replay::Complete),
                    "after {id:?}"
                );
            }
            Expected::Whole(replay) => {
                assert_eq!(
                    (start.at, &start.replay),
                    (model.tail(), &replay),
                    "after {id:?}"
                );
            }
        }
        assert_eq!(
            read_chunked(&wire_bytes(&start)),
            model.after(start.at),
            "after {id:?}"
        );
    }
}

/// Who was given the id of the head, at any time, goes on from there exactly.
pub(super) fn check_heads(log: &Log, model: &mut Model, now: Instant) {
    let head_id = log.read(None, now).head_id.expect("a head");
    let start = log.start(Some(head_id.as_str()), now);
    assert_eq!(
        (start.at, start.replay),
        (model.head(), Replay::Complete),
        "{head_id:?}"
    );
    model.heads.push((head_id, model.past.len()));
    for (id, n_seen) in &model.heads {
        let start = log.start(Some(id.as_str()), now);
        let is_place = id.contains('.');
        let same_id = |past: &&Past| past.origin_id.as_deref() == Some(id);
        if model.past.iter().filter(same_id).count() > 1 {
            // The origin has given it again, and who comes with it may have got it from either.
            continue;
        }
        match start.replay {
            Replay::Complete => {
                let got = read_chunked(&wire_bytes(&start));
                let following = model.past[*n_seen..].iter();
                let following: Vec<Read> = following.map(|past| past.read.clone()).collect();
                assert_eq!(got, following, "after {id:?}");
            }
            Replay::Expired if is_place => assert!(*n_seen < model.n_gone, "{id:?}"),
            _ => assert!(!is_place, "{id:?} is {:?}", start.replay),
        }
    }
}

/// What newcomers get, and those whose id nobody knows, whatever the channel says.
pub(super) fn check_policies(log: &Log, model: &Model, now: Instant) {
    for n in [1, 2, 5, 1000] {
        let newest = start(log, None, Join::Newest(n), now);
        let retained = model.retained();
        let is_notice = |past: &&Past| past.read.event_type == "ssecast.gap";
        let n_left_out = retained.iter().filter(|past| !is_notice(past)).count();
        let n_left_out = n_left_out.saturating_sub(n);
        let mut events = retained.iter().filter(|past| !is_notice(past));
        let last_left_out = n_left_out.checked_sub(1).and_then(|last| events.nth(last));
        let at = last_left_out.map_or(model.tail(), |past| past.end);
        // Notices right after what is left out tell of nothing that the newcomer knows.
        let (at, got) = (model.after(at), read_chunked(&wire_bytes(&newest)));
        assert!(at.ends_with(&got), "{n} newest: {got:?} of {at:?}");
        let n_events = |events: &[Read]| {
            let of_origin = events.iter().filter(|one| one.event_type != "ssecast.gap");
            of_origin.count()
        };
        assert_eq!(n_events(&got), n_events(&at), "{n} newest");
    }
    for (id, replay) in [(None, Replay::Fresh), (Some("zzz"), Replay::Unknown)] {
        let all = start(log, id, Join::All, now);
        assert_eq!(
            (all.at, all.replay, all.follows),
            (model.tail(), replay, Follows::All)
        );
        assert_eq!(read_chunked(&wire_bytes(&all)), model.after(model.tail()));
        let live = start(log, id, Join::Live, now);
        assert_eq!((live.at, live.replay), (model.head(), replay));
        assert_eq!(live.follows, Follows::Live);
        assert_eq!(live.tip.as_deref(), model.tip());
        // Nobody told the log that somebody wants to know.
        let latest = start(log, id, Join::Latest, now);
        assert_eq!((latest.at, latest.follows), (model.tail(), Follows::All));
    }
}

pub(super) fn start(log: &Log, last_event_id: Option<&str>, join: Join, now: Instant) -> Start {
    let on_gap = match join {
        Join::All | Join::Newest(_) => OnGap::All,
        Join::Latest => OnGap::Latest,
        Join::Live => OnGap::Live,
    };
    let wish = Wish {
        last_event_id,
        join,
        on_gap,
    };
    log.start(wish, now)
}

/// Our ids, in the order in which they were given.
pub(super) fn check_own_ids(model: &Model) {
    let ours = model.past.iter().filter(|past| past.shows == Shows::Ours);
    let ids: Vec<&str> = ours.filter_map(|past| past.read.id.as_deref()).collect();
    let numbers = ids.iter().map(|id| {
        let (_, number) = id.rsplit_once('-').expect("an id of ours");
        number.parse::<u64>().expect("a number")
    });
    assert!(numbers.is_sorted_by(|a, b| a < b), "{ids:?}");
}
